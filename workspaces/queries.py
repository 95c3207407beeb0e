"""What people type to find things in a list, as conditions and words; pure, the store makes SQL of it.

    state:running challenge:als,eeg idle>7d disk>2G user:alice model "cox model" -state:failed
    └ a field, one of several values ┘ └ compared ┘            └ words ┘        └ not so

Everything must hold. A field has values of one kind: words of a fixed set, names, yes or no, numbers, sizes (k, M, G,
T, in powers of 1024), ages (s, m, h, d, w: `idle>1d12h`), moments (an age or a day: `since:7d`, `until:2026-05-01`,
UTC). What stands in quotation marks is text, whatever is in it. Nothing is guessed: an unknown field or value is
refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum

from workspaces.errors import InvalidInput
from workspaces.model import JobKind, JobState, Role, SnapshotState, WorkspaceState
from workspaces.names import printable

LENGTH_MAX = 500
TERMS_MAX = 20
VALUES_MAX = 20

Value = str | int | float | bool


class Kind(Enum):
    CHOICE = "one of a fixed set"
    NAME = "a name"
    FLAG = "yes or no"
    NUMBER = "a number"
    SIZE = "bytes"
    AGE = "how long ago"
    MOMENT = "a time"


@dataclass(frozen=True, slots=True)
class Field:
    """What a list can be asked for; `example` is one condition, `help` says what it finds."""

    kind: Kind
    example: str
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` compared by `op` (=, <, <=, >, >=) with any of `values`; ages and moments are seconds since the epoch.

    Several values, only with =: it is one of them. `negated`: it must not hold.
    """

    field: str
    op: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """Text that must be found, or must not."""

    text: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    conditions: tuple[Condition, ...] = ()
    words: tuple[Word, ...] = ()


class Listed(StrEnum):
    """The lists that can be asked."""

    WORKSPACES = "workspaces"
    USERS = "users"
    SNAPSHOTS = "snapshots"
    JOBS = "jobs"
    EVENTS = "events"
    SESSIONS = "sessions"


def _choice(example: str, help_: str, choices: type[StrEnum] | tuple[str, ...]) -> Field:
    return Field(Kind.CHOICE, example, help_, tuple(str(choice) for choice in choices))


_CHALLENGE = Field(Kind.NAME, "challenge:als", "of that challenge")
_WORKSPACE = Field(Kind.NAME, "workspace:als/alice", "of that workspace")
_SINCE = Field(Kind.MOMENT, "since:7d", "since then: an age, or a day such as 2026-05-01 (UTC)")
_UNTIL = Field(Kind.MOMENT, "until:2026-05-01", "before then")
_ADDED = Field(Kind.AGE, "added<7d", "how long ago it was added")

FIELDS: Mapping[Listed, Mapping[str, Field]] = {
    Listed.WORKSPACES: {
        "state": _choice("state:running", "what its container is", WorkspaceState),
        "challenge": _CHALLENGE,
        "user": Field(Kind.NAME, "user:alice", "that this person is a member of"),
        "name": Field(Kind.NAME, "name:alice", "with exactly this name"),
        "idle": Field(Kind.AGE, "idle>7d", "how long nobody has been on"),
        "disk": Field(Kind.SIZE, "disk>2G", "what its container has written"),
        "added": _ADDED,
        "on": Field(Kind.FLAG, "on:yes", "whether somebody is on now"),
        "job": Field(Kind.FLAG, "job:yes", "whether something is being done to it"),
        "request": Field(Kind.FLAG, "request:yes", "whether a request of it is open"),
        "version": Field(Kind.FLAG, "version:no", "whether it has a version"),
        "frozen": Field(Kind.FLAG, "frozen:yes", "whether its files cannot change"),
    },
    Listed.USERS: {
        "role": _choice("role:admin", "what the account may do", Role),
        "challenge": Field(Kind.NAME, "challenge:als", "with a workspace in it"),
        "workspace": Field(Kind.NAME, "workspace:als/alice", "who is a member of it"),
        "disabled": Field(Kind.FLAG, "disabled:yes", "whether logins are refused"),
        "password": Field(Kind.FLAG, "password:no", "whether the account has one"),
        "codes": Field(Kind.FLAG, "codes:no", "whether one-time codes are asked for"),
        "key": Field(Kind.FLAG, "key:no", "whether the account has an SSH key"),
        "email": Field(Kind.FLAG, "email:no", "whether an address is known"),
        "seen": Field(Kind.AGE, "seen>30d", "how long ago the last login was, or the account was added"),
        "added": _ADDED,
    },
    Listed.SNAPSHOTS: {
        "state": _choice("state:requested", "how far it is", SnapshotState),
        "challenge": _CHALLENGE,
        "workspace": _WORKSPACE,
        "user": Field(Kind.NAME, "user:alice", "asked for by that person"),
        "decided": Field(Kind.NAME, "decided:chief", "decided by that person"),
        "via": _choice("via:ssh", "how it was asked for", ("ssh", "web", "cli", "auto")),
        "version": Field(Kind.NUMBER, "version:3", "the number of the version"),
        "size": Field(Kind.SIZE, "size>2G", "what the version adds to its base"),
        "pinned": Field(Kind.FLAG, "pinned:yes", "whether it is kept by every rule"),
        "pruned": Field(Kind.FLAG, "pruned:no", "whether only its record is left"),
        "since": _SINCE,
        "until": _UNTIL,
    },
    Listed.JOBS: {
        "state": _choice("state:failed", "how far it is", JobState),
        "kind": _choice("kind:commit", "what it does", JobKind),
        "challenge": _CHALLENGE,
        "workspace": _WORKSPACE,
        "user": Field(Kind.NAME, "user:chief", "asked for by that person"),
        "snapshot": Field(Kind.NUMBER, "snapshot:17", "about that snapshot"),
        "host": Field(Kind.FLAG, "host:yes", "whether it is about the host, and no workspace"),
        "ended": Field(Kind.AGE, "ended<1d", "how long ago it ended"),
        "since": _SINCE,
        "until": _UNTIL,
    },
    Listed.EVENTS: {
        "actor": Field(Kind.NAME, "actor:alice", "who did it"),
        "kind": Field(Kind.NAME, "kind:login.accepted", "what was done; kind:login has all of them"),
        "challenge": _CHALLENGE,
        "workspace": _WORKSPACE,
        "snapshot": Field(Kind.NUMBER, "snapshot:17", "about that snapshot"),
        "since": _SINCE,
        "until": _UNTIL,
    },
    Listed.SESSIONS: {
        "user": Field(Kind.NAME, "user:alice", "of that person"),
        "challenge": _CHALLENGE,
        "workspace": _WORKSPACE,
        "kind": Field(Kind.NAME, "kind:shell", "shell, exec, sftp"),
        "address": Field(Kind.NAME, "address:192.0.2.7", "from exactly this address"),
        "on": Field(Kind.FLAG, "on:yes", "whether it still goes on"),
        "recorded": Field(Kind.FLAG, "recorded:yes", "whether there is a recording"),
        "watched": Field(Kind.FLAG, "watched:yes", "whether somebody looked at it"),
        "since": _SINCE,
        "until": _UNTIL,
    },
}

_TERM = re.compile(r"""(?P<minus>-?)(?:(?P<field>[A-Za-z_]+)(?P<op>:[<>]=?|[<>]=?|:))?(?P<value>(?:"[^"]*"|[^\s"])*)""")
_SPLIT = re.compile(r'((?:"[^"]*"|[^,"])*),')
_PART = re.compile(r"(\d+(?:\.\d+)?)([a-z])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")
_NUMBER_MAX = 1 << 62
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_NEVER = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of pairs, ends of lines
_QUOTES = str.maketrans("“”„", '"""')  # what a keyboard of a telephone types
_BARE = re.compile(r"""[^\s":<>,-][^\s":<>,]*""")


def parse(text: str, listed: Listed, now: float) -> Query:
    """What `text` asks for in a list; `now` (seconds since the epoch) is what ages count from.

    Raises InvalidInput that names the word that is not understood, and what is known.
    """
    fields = FIELDS[listed]
    text = "".join(" " if unicodedata.category(c) in _NEVER else c for c in text.translate(_QUOTES)).strip()
    if len(text) > LENGTH_MAX:
        raise InvalidInput(f"What to look for has {len(text)} characters; {LENGTH_MAX} are allowed.")
    if text.count('"') % 2:
        raise InvalidInput("A quotation mark is not closed.", "Put text in quotation marks on both sides.")
    conditions: dict[Condition, None] = {}
    words: dict[Word, None] = {}
    for term in _TERM.finditer(text):
        if term["field"] is None:
            if found := term["value"].replace('"', "").strip():
                words[Word(found, bool(term["minus"]))] = None
        else:
            conditions[_condition(term, fields, now)] = None
        if len(conditions) + len(words) > TERMS_MAX:
            raise InvalidInput(f"That is too much to look for: {TERMS_MAX} conditions and words are allowed.")
    return Query(tuple(conditions), tuple(words))


def quoted(text: str) -> str:
    """`text` as one word or value of a query, whatever is in it; a quotation mark in it becomes an apostrophe."""
    text = text.translate(_QUOTES).replace('"', "'")
    return text if _BARE.fullmatch(text) else f'"{text}"'


def _condition(term: re.Match[str], fields: Mapping[str, Field], now: float) -> Condition:
    name, said = term["field"].lower(), term[0]
    field = fields.get(name)
    if field is None:
        raise InvalidInput(
            f"{_shown(said)}: there is nothing named {_shown(term['field'])} to look for here.",
            f"Known: {', '.join(fields)}. Text with a colon goes in quotation marks.",
        )
    op = term["op"].lstrip(":") or "="
    ordered = field.kind in (Kind.NUMBER, Kind.SIZE, Kind.AGE)
    if (op != "=" and not ordered) or (op == "=" and field.kind in (Kind.SIZE, Kind.AGE)):
        raise InvalidInput(
            f"{_shown(said)}: {name} is {'compared with < or >' if ordered else 'asked for with a colon'}.",
            f"For example: {field.example}",
        )
    raw = [part.replace('"', "").strip() for part in _parts(term["value"])] if op == "=" else [term["value"]]
    if len(raw) > VALUES_MAX:
        raise InvalidInput(f"{_shown(said)} has more than {VALUES_MAX} values.")
    values = dict.fromkeys(_READERS[field.kind](value, field, said, now) for value in raw)
    if field.kind is Kind.MOMENT and len(values) > 1:
        raise InvalidInput(f"{_shown(said)} names several times.", f"For example: {field.example}")
    if field.kind is Kind.AGE:
        op = _FLIPPED[op]  # longer ago is an earlier moment
    return Condition(name, op, tuple(values), bool(term["minus"]))


def _parts(value: str) -> list[str]:
    """`a,"b,c",d` at the commas that are not in quotation marks."""
    return [match[1] for match in _SPLIT.finditer(value + ",")]


def _read_choice(value: str, field: Field, said: str, _now: float) -> Value:
    if value.lower() not in field.choices:
        raise InvalidInput(f"{_shown(said)}: {_shown(value)} is not known.", f"Known: {', '.join(field.choices)}.")
    return value.lower()


def _read_name(value: str, field: Field, said: str, _now: float) -> Value:
    if not value:
        raise InvalidInput(f"{_shown(said)}: a name is missing.", f"For example: {field.example}")
    return value


def _read_flag(value: str, _field: Field, said: str, _now: float) -> Value:
    if value.lower() not in _YES + _NO:
        raise InvalidInput(f"{_shown(said)}: {_shown(value)} is not known.", "Known: yes, no.")
    return value.lower() in _YES


def _read_number(value: str, field: Field, said: str, _now: float) -> Value:
    if not (value.isascii() and value.isdigit()) or int(value) > _NUMBER_MAX:
        raise InvalidInput(f"{_shown(said)}: {_shown(value)} is not a number.", f"For example: {field.example}")
    return int(value)


def _read_size(value: str, field: Field, said: str, _now: float) -> Value:
    match = _SIZE.fullmatch(value)
    size = float(match[1]) * _FACTORS[match[2].lower()] if match else float("inf")
    if size > _NUMBER_MAX:
        raise InvalidInput(
            f"{_shown(said)}: {_shown(value)} is not a size.",
            f"For example: {field.example}; units: k, M, G, T.",
        )
    return int(size)


def _read_age(value: str, field: Field, said: str, now: float) -> Value:
    age = _age(value)
    if age is None:
        raise InvalidInput(
            f"{_shown(said)}: {_shown(value)} is not a length of time.",
            f"For example: {field.example}; units: s, m, h, d, w.",
        )
    return now - age


def _read_moment(value: str, _field: Field, said: str, now: float) -> Value:
    age = _age(value)
    if age is not None:
        return now - age
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{_shown(said)}: {_shown(value)} is neither an age nor a day.",
            "For example: 7d, 2026-05-01 or 2026-05-01T12:30.",
        ) from None


def _age(value: str) -> float | None:
    """Seconds of `1d12h`, None for something else."""
    value = value.lower()
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    if any(unit not in _SECONDS for _, unit in parts) or len(value) > 40:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


_READERS: Mapping[Kind, Callable[[str, Field, str, float], Value]] = {
    Kind.CHOICE: _read_choice,
    Kind.NAME: _read_name,
    Kind.FLAG: _read_flag,
    Kind.NUMBER: _read_number,
    Kind.SIZE: _read_size,
    Kind.AGE: _read_age,
    Kind.MOMENT: _read_moment,
}


def _shown(text: str) -> str:
    return repr(printable(text, 60))
