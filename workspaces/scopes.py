"""What an API token lets its holder do, beside what its owner may: scopes. Pure rules.

    rights of the owner, now ─┐
                              ├─► both must allow it
    scopes of the token ──────┘

A token never does more than its owner could on the pages, and loses with him what he loses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from workspaces.errors import InvalidInput, Refused
from workspaces.names import printable
from workspaces.rights import Right, Rights

DAYS_MAX = 366
NAME_MAX = 60


class Scope(StrEnum):
    READ = "read"
    SNAPSHOTS = "snapshots"
    WORKSPACES = "workspaces"
    ACCOUNT = "account"
    TELL = "tell"
    USERS = "users"
    CHALLENGES = "challenges"
    ARCHIVE = "archive"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a scope is for; `right` is one that its owner must have somewhere, or the scope would be of no use."""

    text: str
    right: Right | None = None


SCOPES: Mapping[Scope, Meaning] = {
    Scope.READ: Meaning("see what you may see, and change nothing"),
    Scope.SNAPSHOTS: Meaning("request and withdraw snapshots; decide on them where you may"),
    Scope.WORKSPACES: Meaning("start, stop, reset and restore workspaces; their jobs, members and sessions"),
    Scope.ACCOUNT: Meaning("your ssh keys, sign-ins and tokens: who has it can let himself in as you"),
    Scope.TELL: Meaning("send messages, make and end announcements", Right.TELL),
    Scope.USERS: Meaning("add, disable and invite participants", Right.USERS),
    Scope.CHALLENGES: Meaning("add, change, freeze and thaw challenges", Right.CHALLENGE),
    Scope.ARCHIVE: Meaning("count, check, prune and clear the archive; look at base images", Right.ARCHIVE),
    Scope.METRICS: Meaning("read the figures of this host at /metrics", Right.HOST),
    Scope.ADMIN: Meaning("all of these", Right.HOST),
}


def covers(scopes: Collection[Scope], wanted: Scope) -> bool:
    """Whether a token with `scopes` may do what needs `wanted`."""
    return wanted in scopes or Scope.ADMIN in scopes


def offered(rights: Rights) -> list[Scope]:
    """Those that are of use to somebody with `rights`."""
    return [scope for scope, meaning in SCOPES.items() if meaning.right is None or rights.may(meaning.right)]


def chosen(words: Iterable[str], rights: Rights) -> tuple[Scope, ...]:
    """The scopes that `words` name, in one order, each once. InvalidInput; Refused for what `rights` do not carry."""
    names = {scope.value: scope for scope in Scope}
    found = set()
    for word in words:
        if word not in names:
            raise InvalidInput(f"{printable(word, 40)!r} is no scope.", f"Known: {', '.join(names)}.")
        found.add(names[word])
    if not found:
        raise InvalidInput("A token needs a scope.", f"Name some of {', '.join(names)}.")
    for scope in found:
        if scope not in offered(rights):
            raise Refused(f"The scope {scope} is for more than this account may do.", "Leave it out.")
    return tuple(scope for scope in Scope if scope in found)
