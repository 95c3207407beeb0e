"""Queries as SQL: which column each field of a list is, and in which order a list can be read without sorting it.

A list is read in two steps: the ids of one page, from narrow indexes, then what the lines of those ids show.

    natural order (newest first)  ─► one condition on an indexed column leads; the others filter as it is walked
    another order                 ─► the index of that order is walked; all conditions filter
    words                         ─► the full-text table leads

`+` before a column keeps SQLite from an index whose rows it would have to sort. Workspaces and users are as many as
people: they are filtered and sorted as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from workspaces.errors import InvalidInput
from workspaces.names import printable
from workspaces.queries import Condition, Listed, Query

TRIGRAM = 3  # characters that the words of a trigram table have at least

_IN_CHALLENGE = "IN (SELECT x.id FROM workspaces x JOIN challenges y ON y.id = x.challenge_id WHERE y.slug {in})"
_IN_CHALLENGE_USERS = (
    "u.id IN (SELECT m.user_id FROM challenges y JOIN workspaces x ON x.challenge_id = y.id "
    "JOIN members m ON m.workspace_id = x.id WHERE y.slug {in})"
)


@dataclass(frozen=True, slots=True)
class Source:
    """One list. `conditions` are templates by field: `{in}` and `{op}` stand for the comparison, `{+}` for the plus.

    `sorts` are columns by key, the first the natural order. `within` is the condition of those that are of some
    challenges, `at` the column of since and until, `leads` are the fields whose index has the natural order. Of
    those that are `few` (a yes) there is an index of their own: they are sorted. What is
    `worded` is found by the words that it is, since it has no index.
    """

    table: str
    row: str
    conditions: Mapping[str, str]
    sorts: Mapping[str, str]
    default: str
    within: str
    where: str = "1"
    words: str = ""  # a condition with `?` for the pattern, where there is no full-text table
    search: str = ""
    trigram: bool = False
    at: str = ""
    leads: frozenset[str] = frozenset()
    few: str = ""
    worded: frozenset[str] = frozenset()

    @property
    def natural(self) -> str:
        return next(iter(self.sorts.values()))


SOURCES: Mapping[Listed, Source] = {
    Listed.WORKSPACES: Source(
        "workspaces w JOIN challenges c ON c.id = w.challenge_id",
        "w",
        {
            "state": "w.state {in}",
            "challenge": "c.slug {in}",
            "name": "w.name {in}",
            "user": "w.id IN (SELECT m.workspace_id FROM members m JOIN users u ON u.id = m.user_id WHERE u.name {in})",
            "idle": "CASE WHEN w.id IN (SELECT s.workspace_id FROM sessions s WHERE s.ended_at IS NULL) THEN 1e300 "
            "ELSE max(coalesce(w.last_login_at, w.created_at), coalesce((SELECT max(s.ended_at) FROM sessions s "
            "WHERE s.workspace_id = w.id AND s.ended_at IS NOT NULL), 0)) END {op} ?",
            "disk": "w.disk_bytes {op} ?",
            "added": "w.created_at {op} ?",
            "on": "w.id IN (SELECT s.workspace_id FROM sessions s WHERE s.ended_at IS NULL)",
            "job": "w.id IN (SELECT j.workspace_id FROM jobs j WHERE j.state IN ('queued', 'running'))",
            "request": "w.id IN (SELECT s.workspace_id FROM snapshots s "
            "WHERE s.state IN ('requested', 'approved', 'committing') AND s.requested_via != 'auto')",
            "version": "EXISTS (SELECT 1 FROM snapshots s WHERE s.workspace_id = w.id AND s.version > 0 "
            "AND s.state IN ('committed', 'archived'))",
            "frozen": "w.read_only",
        },
        {
            "name": "c.slug {dir}, w.name",
            "state": "w.state",
            "login": "w.last_login_at",
            "disk": "w.disk_bytes",
            "added": "w.created_at",
        },
        "name",
        "c.slug {in}",
        "w.removed_at IS NULL",
        "(c.slug || '/' || w.name LIKE ? ESCAPE '\\' OR w.id IN (SELECT m.workspace_id FROM members m "
        "JOIN users u ON u.id = m.user_id WHERE u.name LIKE ? ESCAPE '\\'))",
    ),
    Listed.USERS: Source(
        "users u",
        "u",
        {
            "role": "u.role {in}",
            "challenge": _IN_CHALLENGE_USERS,
            "workspace": "u.id IN (SELECT m.user_id FROM members m WHERE m.workspace_id {in})",
            "disabled": "u.disabled",
            "password": "u.password_hash IS NOT NULL",
            "codes": "u.totp_secret IS NOT NULL",
            "key": "u.id IN (SELECT k.user_id FROM keys k)",
            "email": "u.email IS NOT NULL",
            "seen": "coalesce({login}, u.created_at) {op} ?",
            "added": "u.created_at {op} ?",
        },
        {"name": "u.name", "role": "u.role", "login": "{login}", "added": "u.created_at"},
        "name",
        _IN_CHALLENGE_USERS,
        words="(u.name LIKE ? ESCAPE '\\' OR u.email LIKE ? ESCAPE '\\')",
    ),
    Listed.SNAPSHOTS: Source(
        "snapshots s",
        "s",
        {
            "state": "{+}s.state {in}",
            "challenge": f"{{+}}s.workspace_id {_IN_CHALLENGE}",
            "workspace": "{+}s.workspace_id {in}",
            "user": "{+}s.requested_by {in}",
            "decided": "{+}s.decided_by {in}",
            "via": "{+}s.requested_via {in}",
            "version": "{+}s.version {op} ?",
            "size": "{+}s.size {op} ?",
            "pinned": "s.pinned",
            "pruned": "s.pruned_at IS NOT NULL",
        },
        {"requested": "s.id", "size": "s.size", "decided": "s.decided_at"},
        "-requested",
        f"{{+}}s.workspace_id {_IN_CHALLENGE}",
        search="snapshots_search",
        trigram=True,
        at="requested_at",
        leads=frozenset({"state", "workspace", "user"}),
    ),
    Listed.JOBS: Source(
        "jobs j",
        "j",
        {
            "state": "{+}j.state {in}",
            "kind": "{+}j.kind {in}",
            "challenge": f"{{+}}j.workspace_id {_IN_CHALLENGE}",
            "workspace": "{+}j.workspace_id {in}",
            "user": "{+}j.requested_by {in}",
            "snapshot": "{+}j.snapshot_id {op} ?",
            "host": "j.workspace_id IS NULL",
            "ended": "j.finished_at {op} ?",
        },
        {"created": "j.id"},
        "-created",
        f"{{+}}j.workspace_id {_IN_CHALLENGE}",
        search="jobs_search",
        at="created_at",
        leads=frozenset({"state", "kind", "workspace", "user", "snapshot"}),
    ),
    Listed.EVENTS: Source(
        "events e",
        "e",
        {
            "actor": "{+}e.actor {in}",
            "kind": "{+}e.kind {in}",
            "workspace": "{+}e.workspace {in}",
            "snapshot": "{+}e.snapshot_id {op} ?",
        },
        {"at": "e.id"},
        "-at",
        "",
        search="events_search",
        at="at",
        leads=frozenset({"actor", "kind", "workspace", "snapshot"}),
    ),
    Listed.SESSIONS: Source(
        "sessions s",
        "s",
        {
            "user": "{+}s.user {in}",
            "challenge": f"{{+}}s.workspace_id {_IN_CHALLENGE}",
            "workspace": "{+}s.workspace_id {in}",
            "kind": "{+}s.kind {in}",
            "address": "{+}s.address {in}",
            "on": "s.ended_at IS NULL",
            "recorded": "EXISTS (SELECT 1 FROM recordings r WHERE r.session_id = s.id AND r.removed_at IS NULL)",
            "watched": "EXISTS (SELECT 1 FROM looks l WHERE l.session_id = s.id)",
        },
        {"started": "s.started_at"},
        "-started",
        f"{{+}}s.workspace_id {_IN_CHALLENGE}",
        search="sessions_search",
        at="started_at",
        leads=frozenset({"user", "workspace"}),
        few="on",
        worded=frozenset({"kind", "address"}),
    ),
}
LOGIN = "(SELECT max(e.at) FROM events e WHERE e.actor = u.name AND e.kind = 'login.accepted' AND e.at >= u.created_at)"


@dataclass(slots=True)
class Statement:
    """Conditions and what they are asked with."""

    parts: list[str] = field(default_factory=list)
    params: list[object] = field(default_factory=list)

    def add(self, sql: str, params: Collection[object] = (), negated: bool = False) -> None:
        self.parts.append(f"NOT coalesce(({sql}), 0)" if negated else f"({sql})")
        self.params += params

    @property
    def sql(self) -> str:
        return " AND ".join(self.parts) or "1"


def order(source: Source, listed: Listed, sort: str) -> tuple[str, str, bool]:
    """The key as it is known (`-login`), its column, and whether it goes down. InvalidInput for an unknown one."""
    sort = sort or source.default
    key, down = sort.removeprefix("-"), sort.startswith("-")
    if key not in source.sorts:
        raise InvalidInput(
            f"{listed.value.capitalize()} cannot be sorted by {printable(key, 40)!r}.",
            f"Known: {', '.join(source.sorts)}, with - before it for downwards.",
        )
    return sort, source.sorts[key], down


def condition(source: Source, asked: Condition, walks: bool, leads: bool) -> tuple[str, list[object]]:
    """The SQL of one condition that a template says all of.

    `walks`: the list is walked in an order, so an index serves only what `leads`; else SQLite may take any.
    """
    values: list[object] = list(asked.values)
    template = source.conditions[asked.field]
    if isinstance(values[0], bool):  # yes or no: the template says yes
        return (template if values[0] else f"NOT coalesce(({template}), 0)"), []
    single = asked.op == "=" and len(values) == 1 and not asked.negated
    plus = "+" if walks and not (leads and single and asked.field in source.leads) else ""
    if "{op}" in template and len(values) > 1:
        template = " OR ".join([template] * len(values))
    said = template.replace("{+}", plus).replace("{op}", asked.op).replace("{in}", among(len(values)))
    return said.replace("{login}", LOGIN), values


def among(count: int) -> str:
    """`= ?` or `IN (?, ?)`."""
    return "= ?" if count == 1 else f"IN ({', '.join('?' * count)})"


def matching(source: Source, query: Query) -> tuple[str, list[str]]:
    """What the full-text table is asked for ("" for nothing), and what must not be in what it finds.

    InvalidInput for a word that is too short for it.
    """
    wanted, unwanted = list[str](), list[str]()
    for asked in query.conditions:
        if asked.field in source.worded and not asked.negated:
            wanted.append(f"({' OR '.join(_phrase(str(value)) for value in asked.values)})")
    for word in query.words:
        if source.trigram and len(word.text) < TRIGRAM:
            raise InvalidInput(
                f"{printable(word.text, 60)!r} is too short to look for.",
                f"Type at least {TRIGRAM} characters, or say what it is: {next(iter(source.conditions))}:…",
            )
        phrase = _phrase(word.text) + ("" if source.trigram else "*")
        (unwanted if word.negated else wanted).append(phrase)
    return " AND ".join(wanted), unwanted


def _phrase(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def pattern(text: str) -> str:
    """For LIKE … ESCAPE '\\': `text` anywhere."""
    for special in "\\%_":
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
