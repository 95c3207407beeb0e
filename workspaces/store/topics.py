"""What open pages are about, and whether that has changed: a token for each topic, which is another one after a change.

    me            one person's page: own workspaces and news          workspace:ID   one workspace
    queue         requests, decisions, what is being committed        workspaces     all of them
    jobs, job:ID  the worker's queue, one job with its log            sessions       who is on, who looked
    overview      anything that the record tells, jobs, sessions      account        whether somebody may still be here

A token is made of ids and times of change, by statements that read indexes and the rows of what is moving: it is asked
for again and again, for every topic somebody looks at. It may change without need, and must not stay the same after
a change of what the pages show. Whoever adds something to a page adds it here.
"""

# ruff: noqa: S608 -- every part of a statement is one of the constants below

from __future__ import annotations

import hashlib

from workspaces.errors import InvalidInput
from workspaces.store.connection import Connections
from workspaces.store.jobs import BEHIND

_MOVING = (
    "(SELECT group_concat(j.id || j.state || j.progress || j.message || coalesce(j.bytes_done, '') "
    "|| coalesce(j.cancelled_by, '') || j.attempts, ' ') FROM jobs j WHERE {which}j.state IN ('queued', 'running'))"
)
_ALL_MOVING = _MOVING.format(which="")
_RECORD = "(SELECT max(id) FROM events)"
_ON = "(SELECT count(*) || ' ' || total(id) FROM sessions WHERE ended_at IS NULL)"
_SEEN = (
    "(SELECT max(id) FROM looks), (SELECT count(*) || ' ' || total(session_id) FROM recordings WHERE ended_at IS NULL)"
)
_JOBS = "(SELECT max(id) FROM jobs)"
_LOOKED = "(SELECT max(at) FROM usage WHERE step = 60)"  # once a minute; of use only what runs has something new
_SPACE = (
    "SELECT w.id, w.state, w.state_at, w.state_detail, w.image, w.parent_id, w.disk_at, w.read_only, w.last_login_at, "
    "w.removed_at, c.opens_at, c.closes_at, c.cpus, c.memory, c.pids, c.downloads, c.auto_approve, "
    "(SELECT max(e.id) FROM events e WHERE e.workspace = c.slug || '/' || w.name), "
    "(SELECT group_concat(m.user_id) FROM members m WHERE m.workspace_id = w.id), "
    "(SELECT group_concat(s.id || s.state || coalesce(s.captured_at, '') || s.pinned || coalesce(s.pushed_at, '') "
    "|| coalesce(s.pruned_at, '') || coalesce(s.sbom_digest, ''), ' ') FROM snapshots s WHERE s.workspace_id = w.id), "
    "(SELECT max(j.id) FROM jobs j WHERE j.workspace_id = w.id), "
    f"{_MOVING.format(which='j.workspace_id = w.id AND ')}, "
    "(SELECT group_concat(o.id) FROM sessions o WHERE o.workspace_id = w.id AND o.ended_at IS NULL), "
    "(SELECT f.id || coalesce(f.thawed_at, '') FROM freezes f WHERE f.challenge_id = c.id ORDER BY f.id DESC LIMIT 1) "
)
_PLACE = "JOIN challenges c ON c.id = w.challenge_id"

# name of a topic → its statements; :who is the person's name, :id the number after the colon
TOPICS: dict[str, tuple[str, ...]] = {
    "account": (
        "SELECT id, created_at, role, disabled, password_hash, totp_secret FROM users WHERE name = :who",
        "SELECT (SELECT group_concat(workspace_id) FROM members WHERE user_id = u.id), "
        "(SELECT group_concat(challenge_id || role) FROM challenge_roles WHERE user_id = u.id), "
        "(SELECT group_concat(id) FROM sign_ins WHERE user_id = u.id) FROM users u WHERE u.name = :who",
    ),
    "me": (
        f"{_SPACE}, c.at_close, c.mounts, CASE w.state WHEN 'running' THEN {_LOOKED} END "
        "FROM users u JOIN members x ON x.user_id = u.id JOIN workspaces w ON w.id = x.workspace_id "
        f"{_PLACE} WHERE u.name = :who ORDER BY w.id",
        "SELECT (SELECT max(id) FROM news WHERE user_id = u.id), "
        "(SELECT max(id) FROM news WHERE user_id = u.id AND read_at IS NULL), "
        "(SELECT group_concat(id || coalesce(last_used_at, '')) FROM keys WHERE user_id = u.id) "
        "FROM users u WHERE u.name = :who",
    ),
    "workspace": (f"{_SPACE} FROM workspaces w {_PLACE} WHERE w.id = :id",),
    "queue": (
        f"SELECT {_RECORD}, {_ALL_MOVING}, {_JOBS}, (SELECT group_concat(id || state || coalesce(captured_at, '')) "
        "FROM snapshots WHERE state IN ('requested', 'approved', 'committing', 'committed'))",
    ),
    "workspaces": (
        f"SELECT {_RECORD}, {_ALL_MOVING}, {_JOBS}, {_ON}, (SELECT max(state_at) FROM workspaces), "
        "(SELECT max(disk_at) FROM workspaces), (SELECT max(last_login_at) FROM workspaces)",
    ),
    "jobs": (f"SELECT {_JOBS}, {_ALL_MOVING}",),
    "job": (
        "SELECT j.state, j.progress, j.message, j.error, j.attempts, j.cancelled_by, j.bytes_done, j.finished_at, "
        f"j.not_before, {BEHIND}, (SELECT max(l.id) FROM job_log l WHERE l.job_id = j.id) FROM jobs j WHERE j.id = :id",
    ),
    "sessions": (f"SELECT (SELECT max(id) FROM sessions), {_ON}, {_SEEN}",),
    "overview": (
        f"SELECT {_RECORD}, {_ALL_MOVING}, {_JOBS}, {_ON}, (SELECT max(state_at) FROM workspaces), "
        "(SELECT max(at) FROM host_usage WHERE step = 60), "
        "(SELECT group_concat(state || n) FROM (SELECT state, count(*) AS n FROM snapshots "
        "WHERE state IN ('requested', 'approved', 'committing', 'failed') GROUP BY state))",
    ),
}
NUMBERED = frozenset({"workspace", "job"})
PERSONAL = frozenset({"me", "account"})


class Topics(Connections):
    def topic_token(self, topic: str, who: str = "") -> str:
        """How `topic` stands, as `who` sees it where that matters. Raises InvalidInput for what is no topic."""
        kind, number = split_topic(topic)
        values = {"who": who, "id": number}
        found = [[tuple(row.values()) for row in self._rows(sql, values)] for sql in TOPICS[kind]]
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def split_topic(topic: str) -> tuple[str, int | None]:
    """`job:7` → `job`, 7. Raises InvalidInput."""
    kind, colon, number = topic.partition(":")
    right = kind in TOPICS and (kind in NUMBERED) == bool(colon)
    if not right or (colon and not (number.isascii() and number.isdecimal() and len(number) <= 15)):
        raise InvalidInput("There is no such topic.")
    return kind, int(number) if colon else None
