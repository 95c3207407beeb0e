"""Lists that people and programs read in parts: searched, sorted, by page or by id, with what each line shows.

    q, sort, page ─► ids of that page and how many there are in all ─► their lines, in a few reads whatever the size

`within` names the challenges that the reader may see; None is all of them.
"""

# ruff: noqa: S608 -- tables, columns and conditions are finding.py's own; what people typed goes in as parameters

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from workspaces.model import Event, Job, Page, Session, Slice, SnapshotLine, UserLine, WorkspaceLine
from workspaces.queries import Condition, Listed, Query, parse
from workspaces.store.connection import Row
from workspaces.store.events import Events
from workspaces.store.finding import LOGIN, SOURCES, Source, Statement, among, condition, matching, order, pattern
from workspaces.store.jobs import _JOBS
from workspaces.store.rows import to_event, to_job, to_snapshot, to_user, to_workspace
from workspaces.store.sessions import _SESSIONS
from workspaces.store.snapshots import _SNAPSHOTS, Snapshots
from workspaces.store.users import _USERS
from workspaces.store.workspaces import _WORKSPACES

SIZE_MAX = 200  # lines of a page
OUT_OF_ORDER = 1000  # rows that a clock which was set back may have written in another order than that of their times

Item = TypeVar("Item")
Within = Collection[str] | None
_IDS = "IN (SELECT value FROM json_each(?))"
_EVENTS = "SELECT id, at, actor, kind, workspace, snapshot_id, data FROM events"


class Lists(Snapshots, Events):
    def find_workspaces(
        self, q: str = "", *, sort: str = "", page: int = 1, size: int = 50, within: Within = None
    ) -> Page[WorkspaceLine]:
        """Sorted by name, state, login, disk or added. InvalidInput for what `q` or `sort` says."""
        return self._page(Listed.WORKSPACES, self._workspace_lines, q, sort, page, size, within)

    def find_users(
        self, q: str = "", *, sort: str = "", page: int = 1, size: int = 50, within: Within = None
    ) -> Page[UserLine]:
        """Sorted by name, role, login or added. InvalidInput for what `q` or `sort` says."""
        return self._page(Listed.USERS, self._user_lines, q, sort, page, size, within)

    def find_snapshots(
        self, q: str = "", *, sort: str = "", page: int = 1, size: int = 50, within: Within = None
    ) -> Page[SnapshotLine]:
        """Sorted by requested (the latest first), size or decided. InvalidInput for what `q` or `sort` says."""
        return self._page(Listed.SNAPSHOTS, self._snapshot_lines, q, sort, page, size, within)

    def find_jobs(
        self, q: str = "", *, sort: str = "", page: int = 1, size: int = 50, within: Within = None
    ) -> Page[Job]:
        """Sorted by created (the latest first). InvalidInput for what `q` or `sort` says."""
        return self._page(Listed.JOBS, self._job_lines, q, sort, page, size, within)

    def find_events(
        self, q: str = "", *, sort: str = "", page: int = 1, size: int = 50, within: Within = None
    ) -> Page[Event]:
        """Sorted by at (the latest first). InvalidInput for what `q` or `sort` says."""
        return self._page(Listed.EVENTS, self._event_lines, q, sort, page, size, within)

    def find_sessions(
        self, q: str = "", *, sort: str = "", page: int = 1, size: int = 50, within: Within = None
    ) -> Page[Session]:
        """Those that go on and those that ended, sorted by started (the latest first). InvalidInput as above."""
        return self._page(Listed.SESSIONS, self._session_lines, q, sort, page, size, within)

    # by id, for programs: nothing is counted, and what comes meanwhile shifts nothing

    def walk_workspaces(
        self, q: str = "", *, after: int = 0, size: int = 50, newest: bool = False, within: Within = None
    ) -> Slice[WorkspaceLine]:
        """Those with a greater id than `after`; with `newest` downwards, from the greatest for 0."""
        return self._slice(Listed.WORKSPACES, self._workspace_lines, q, after, size, newest, within)

    def walk_users(
        self, q: str = "", *, after: int = 0, size: int = 50, newest: bool = False, within: Within = None
    ) -> Slice[UserLine]:
        """As `walk_workspaces`."""
        return self._slice(Listed.USERS, self._user_lines, q, after, size, newest, within)

    def walk_snapshots(
        self, q: str = "", *, after: int = 0, size: int = 50, newest: bool = False, within: Within = None
    ) -> Slice[SnapshotLine]:
        """As `walk_workspaces`."""
        return self._slice(Listed.SNAPSHOTS, self._snapshot_lines, q, after, size, newest, within)

    def walk_jobs(
        self, q: str = "", *, after: int = 0, size: int = 50, newest: bool = False, within: Within = None
    ) -> Slice[Job]:
        """As `walk_workspaces`."""
        return self._slice(Listed.JOBS, self._job_lines, q, after, size, newest, within)

    def walk_events(
        self, q: str = "", *, after: int = 0, size: int = 50, newest: bool = False, within: Within = None
    ) -> Slice[Event]:
        """As `walk_workspaces`."""
        return self._slice(Listed.EVENTS, self._event_lines, q, after, size, newest, within)

    def walk_sessions(
        self, q: str = "", *, after: int = 0, size: int = 50, newest: bool = False, within: Within = None
    ) -> Slice[Session]:
        """As `walk_workspaces`."""
        return self._slice(Listed.SESSIONS, self._session_lines, q, after, size, newest, within)

    def select_ids(self, q: str = "", listed: Listed = Listed.WORKSPACES, *, within: Within = None) -> list[int]:
        """The ids of all that match, in ascending order: for "select all matching"."""
        source, query = SOURCES[listed], parse(q, listed, time.time())
        found = self._where(listed, query, within, walks=False)
        sql = f"SELECT {source.row}.id FROM {source.table} WHERE {found.sql}"
        return sorted(row["id"] for row in self._rows(sql, found.params))

    def count_matching(self, q: str = "", listed: Listed = Listed.WORKSPACES, *, within: Within = None) -> int:
        """How many match."""
        return self._count(listed, parse(q, listed, time.time()), within)

    # how it is done

    def _page(
        self,
        listed: Listed,
        lines: Callable[[list[int]], Iterable[Item]],
        q: str,
        sort: str,
        page: int,
        size: int,
        within: Within,
    ) -> Page[Item]:
        source, query = SOURCES[listed], parse(q, listed, time.time())
        sort, column, down = order(source, listed, sort)
        size = min(max(size, 1), SIZE_MAX)
        total = self._count(listed, query, within)
        page = min(max(page, 1), max(1, -(-total // size)))
        start = (page - 1) * size
        count = min(size, total - start)
        if count <= 0:
            return Page((), total, page, size, sort)
        backwards = start > total // 2  # the last pages are read from the end
        if backwards:
            start = total - start - count
        ids = self._ids(listed, query, within, column, down is not backwards, count, start)
        return Page(tuple(lines(ids[::-1] if backwards else ids)), total, page, size, sort)

    def _ids(
        self, listed: Listed, query: Query, within: Within, column: str, down: bool, limit: int, offset: int
    ) -> list[int]:
        source = SOURCES[listed]
        wanted, unwanted = matching(source, query) if source.search else ("", [])
        natural = column == source.natural
        leads = natural and not wanted
        found = self._where(listed, query, within, walks=True, leads=leads, words=not (natural and wanted))
        table, row, way = source.table, source.row, "DESC" if down else "ASC"
        if natural and wanted:
            table = f"{source.search} CROSS JOIN {source.table} ON {row}.id = {source.search}.rowid"
            self._leave_out(source, unwanted, found)
            found.add(f"{source.search} MATCH ?", [wanted])
            by = f"{source.search}.rowid {way}"
        else:
            few = any((c.field, c.values, c.negated) == (source.few, (True,), False) for c in query.conditions)
            column = ("+" if few else "") + column.replace("{dir}", way).replace("{login}", LOGIN)
            by = f"{column} {way}" if column == f"{row}.id" else f"{column} {way}, {row}.id {way}"
        sql = f"SELECT {row}.id FROM {table} WHERE {found.sql} ORDER BY {by} LIMIT ? OFFSET ?"
        return [r["id"] for r in self._rows(sql, [*found.params, limit, offset])]

    def _slice(
        self,
        listed: Listed,
        lines: Callable[[list[int]], Iterable[Item]],
        q: str,
        after: int,
        size: int,
        newest: bool,
        within: Within,
    ) -> Slice[Item]:
        source, query = SOURCES[listed], parse(q, listed, time.time())
        size = min(max(size, 1), SIZE_MAX)
        # Sessions are in the order of their beginnings in every index but that of their ids.
        leads = source.natural == f"{source.row}.id"
        found = self._where(listed, query, within, walks=True, leads=leads)
        if not newest or after:
            found.add(f"{source.row}.id {'<' if newest else '>'} ?", [after])
        sql = (
            f"SELECT {source.row}.id FROM {source.table} WHERE {found.sql} "
            f"ORDER BY {source.row}.id {'DESC' if newest else 'ASC'} LIMIT ?"
        )
        ids = [row["id"] for row in self._rows(sql, [*found.params, size + 1])]
        return Slice(tuple(lines(ids[:size])), ids[size - 1] if len(ids) > size else None)

    def _count(self, listed: Listed, query: Query, within: Within) -> int:
        source = SOURCES[listed]
        wanted, unwanted = matching(source, query) if source.search else ("", [])
        if wanted and not unwanted and not query.conditions and within is None:
            sql = f"SELECT count(*) AS n FROM {source.search} WHERE {source.search} MATCH ?"
            return int(self._one(sql, [wanted])["n"])
        found = self._where(listed, query, within, walks=False)
        return int(self._one(f"SELECT count(*) AS n FROM {source.table} WHERE {found.sql}", found.params)["n"])

    def _where(
        self, listed: Listed, query: Query, within: Within, *, walks: bool, leads: bool = False, words: bool = True
    ) -> Statement:
        """The conditions as SQL; without `words`, those of the query are left out."""
        source, found = SOURCES[listed], Statement()
        if source.where != "1":
            found.add(source.where)
        for asked in query.conditions:
            found.add(*self._condition(listed, source, asked, walks, leads), asked.negated)
        if within is not None:
            slugs = sorted(set(within)) or [""]  # of none: no challenge has that name
            if listed is Listed.EVENTS:
                found.add(*_in_challenges(slugs, walks))
            else:
                plus = "+" if walks else ""
                found.add(source.within.replace("{+}", plus).replace("{in}", among(len(slugs))), slugs)
        if words and source.search:
            wanted, unwanted = matching(source, query)
            if wanted:
                found.add(_found_in(source), [wanted])
            self._leave_out(source, unwanted, found)
        elif words:
            for word in query.words:
                found.add(source.words, [pattern(word.text)] * source.words.count("?"), word.negated)
        return found

    def _leave_out(self, source: Source, unwanted: list[str], found: Statement) -> None:
        for phrase in unwanted:
            found.add(_found_in(source), [phrase], negated=True)

    def _condition(
        self, listed: Listed, source: Source, asked: Condition, walks: bool, leads: bool
    ) -> tuple[str, list[object]]:
        """What a template cannot say alone is looked up or put together here; the rest it says."""
        names = [str(value) for value in asked.values]
        if asked.field in ("since", "until"):
            return self._bound(source, asked, walks, leads)
        if listed is Listed.EVENTS and asked.field == "challenge":
            return _in_challenges(names, walks)
        if listed is Listed.EVENTS and asked.field == "kind" and any("." not in name for name in names):
            column = "+e.kind" if walks else "e.kind"
            both = [(f"({column} >= ? AND e.kind < ?)", [f"{n}.", f"{n}/"]) if "." not in n else (f"{column} = ?", [n])
                    for n in names]  # fmt: skip
            return " OR ".join(sql for sql, _ in both), [value for _, values in both for value in values]
        if asked.field == "workspace":
            found = self._named(names)
            values: list[object] = [row["ref"] if listed is Listed.EVENTS else row["id"] for row in found]
            if listed is Listed.EVENTS:  # also of one of which only the record is left
                values = list(dict.fromkeys([*values, *(name for name in names if "/" in name)]))
            if not values:
                return "0", []
            asked = Condition("workspace", "=", tuple(values), asked.negated)  # type: ignore[arg-type]
        return condition(source, asked, walks, leads)

    def _named(self, names: Iterable[str]) -> list[Row]:
        """Workspaces by `challenge/name`, name or number, also removed ones: `id` and `ref` of each."""
        sql = (
            "SELECT w.id, c.slug || '/' || w.name AS ref FROM workspaces w JOIN challenges c ON c.id = w.challenge_id "
            "WHERE"
        )
        rows: list[Row] = []
        for name in names:
            if name.isascii() and name.isdigit():  # no name begins so
                rows += self._rows(f"{sql} w.id = ?", [min(int(name[:19]), 2**63 - 1)])
                continue
            slug, slash, own = name.rpartition("/")
            both = self._rows(f"{sql} w.name = ? AND c.slug = ?", [own, slug]) if slash else []
            rows += both if slash else self._rows(f"{sql} w.name = ?", [name])
        return rows

    def _bound(self, source: Source, asked: Condition, walks: bool, leads: bool) -> tuple[str, list[object]]:
        """Since or until a moment; a list that is walked by its ids begins or ends at the first or last of then."""
        since, moment = asked.field == "since", asked.values[0]
        sql, params = f"+{source.row}.{source.at} {'>=' if since else '<'} ?", list[object]([moment])
        table = source.table.partition(" ")[0]
        if not walks or source.natural != f"{source.row}.id":
            return sql.removeprefix("+") if leads or not walks else sql, params
        some = (
            f"SELECT id FROM {table} WHERE {source.at} >= ? ORDER BY {source.at} LIMIT {OUT_OF_ORDER}"
            if since
            else f"SELECT id FROM {table} WHERE {source.at} < ? ORDER BY {source.at} DESC LIMIT {OUT_OF_ORDER}"
        )
        row = self._one(f"SELECT {'min' if since else 'max'}(id) AS id FROM ({some})", [moment])
        if row["id"] is None:
            return "0", []
        return f"{source.row}.id {'>=' if since else '<='} ? AND {sql}", [row["id"], *params]

    # what the lines show

    def _workspace_lines(self, ids: list[int]) -> list[WorkspaceLine]:
        asked = json.dumps(ids)
        found = {row["id"]: to_workspace(row) for row in self._rows(f"{_WORKSPACES} AND w.id {_IDS}", [asked])}
        jobs: dict[int, Job] = {}
        sql = f"{_JOBS} WHERE j.workspace_id {_IDS} AND j.state IN ('queued', 'running')"
        for job in sorted(map(to_job, self._rows(sql, [asked])), key=lambda job: (job.state == "running", -job.id)):
            jobs[job.workspace_id] = job
        return [  # what is not found was removed since the ids were read
            WorkspaceLine(found[id_], jobs.get(id_)) for id_ in ids if id_ in found
        ]

    def _user_lines(self, ids: list[int]) -> list[UserLine]:
        asked = json.dumps(ids)
        found = {row["id"]: to_user(row) for row in self._rows(f"{_USERS} WHERE id {_IDS}", [asked])}
        spaces: dict[int, list[tuple[int, str]]] = {}
        for row in self._rows(
            "SELECT m.user_id, w.id, c.slug || '/' || w.name AS ref FROM members m "
            "JOIN workspaces w ON w.id = m.workspace_id JOIN challenges c ON c.id = w.challenge_id "
            f"WHERE m.user_id {_IDS}",
            [asked],
        ):
            spaces.setdefault(row["user_id"], []).append((row["id"], row["ref"]))
        sql = f"SELECT u.id, {LOGIN} AS at, (SELECT count(*) FROM keys k WHERE k.user_id = u.id) AS keys FROM users u"
        more = {row["id"]: row for row in self._rows(f"{sql} WHERE u.id {_IDS}", [asked])}
        return [
            UserLine(
                found[id_],
                tuple(sorted(spaces.get(id_, []), key=lambda space: space[1])),
                more[id_]["at"],
                more[id_]["keys"],
            )
            for id_ in ids
            if id_ in found and id_ in more
        ]

    def _snapshot_lines(self, ids: list[int]) -> list[SnapshotLine]:
        asked = json.dumps(ids)
        found = {row["id"]: to_snapshot(row) for row in self._rows(f"{_SNAPSHOTS} WHERE s.id {_IDS}", [asked])}
        last = (
            "SELECT (SELECT max(k.id) FROM jobs k WHERE k.snapshot_id = x.value AND k.kind != 'restore') "
            "FROM json_each(?) x"
        )
        jobs = {job.snapshot_id: job for job in map(to_job, self._rows(f"{_JOBS} WHERE j.id IN ({last})", [asked]))}
        return [SnapshotLine(found[id_], jobs.get(id_)) for id_ in ids if id_ in found]

    def _job_lines(self, ids: list[int]) -> list[Job]:
        found = {row["id"]: to_job(row) for row in self._rows(f"{_JOBS} WHERE j.id {_IDS}", [json.dumps(ids)])}
        return [found[id_] for id_ in ids if id_ in found]

    def _event_lines(self, ids: list[int]) -> list[Event]:
        found = {row["id"]: to_event(row) for row in self._rows(f"{_EVENTS} WHERE id {_IDS}", [json.dumps(ids)])}
        return [found[id_] for id_ in ids if id_ in found]

    def _session_lines(self, ids: list[int]) -> list[Session]:
        found = {row["id"]: Session(**row) for row in self._rows(f"{_SESSIONS} WHERE s.id {_IDS}", [json.dumps(ids)])}
        return [found[id_] for id_ in ids if id_ in found]


def _found_in(source: Source) -> str:
    return f"{source.row}.id IN (SELECT rowid FROM {source.search} WHERE {source.search} MATCH ?)"


def _in_challenges(slugs: list[str], walks: bool) -> tuple[str, list[object]]:
    """Events of workspaces of these challenges, of which only the `challenge/name` is kept."""
    column = "+e.workspace" if walks else "e.workspace"
    one = f"({column} >= ? AND e.workspace < ?)"
    return " OR ".join([one] * len(slugs)), [bound for slug in slugs for bound in (f"{slug}/", f"{slug}0")]
