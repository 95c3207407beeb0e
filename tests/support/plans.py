"""What SQLite does for each statement that a piece of code makes: its plan, and how much work it is.

with watched(store) as seen: …        seen.statements, seen.steps (thousands of the virtual machine's instructions)
faults(store, statement)              what in its plan grows with the store
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from workspaces.store import Store
from workspaces.store.connection import Row

# Tables of as many rows as an organiser makes by hand: reading all of them is no fault.
FEW = {
    "base_images",
    "challenges",
    "authorities",
    "webhooks",
    "freezes",
    "meta",
    "_sqlite_migrations",
    "sqlite_sequence",
    "sqlite_master",
}
# As many as people and what belongs to each: one may be read once, as the outermost of a statement.
PEOPLE = {"users", "workspaces"}
SORTED_MAX = 1000  # rows that may be sorted: as many as people and their workspaces are
_SCAN = re.compile(r"^SCAN (\S+)$")
_LIMIT = re.compile(r"\bLIMIT (\d+)( OFFSET \d+)?\s*$", re.IGNORECASE)
_READS = re.compile(r"^\s*(SELECT|WITH)\b", re.IGNORECASE)
_INSIDE = re.compile(r"^--|^PRAGMA 'main'|_search_(config|content|data|docsize|idx)'")
_STEP = 1000


@dataclass
class Seen:
    statements: list[str] = field(default_factory=list)
    ticks: int = 0

    @property
    def made(self) -> list[str]:
        """Without those that a trigger or a full-text table makes inside."""
        return [sql for sql in self.statements if not _INSIDE.search(sql)]

    @property
    def reads(self) -> list[str]:
        """Statements that read, each once."""
        return [sql for sql in dict.fromkeys(self.made) if _READS.match(sql)]

    @property
    def steps(self) -> int:
        return self.ticks * _STEP


@contextmanager
def watched(store: Store) -> Iterator[Seen]:
    """Statements of this thread's connection, with their values in them."""
    seen, conn = Seen(), store._db().conn

    def tick() -> int:
        seen.ticks += 1
        return 0

    conn.set_trace_callback(seen.statements.append)
    conn.set_progress_handler(tick, _STEP)
    try:
        yield seen
    finally:
        conn.set_trace_callback(None)
        conn.set_progress_handler(None, 0)


def plan(store: Store, statement: str) -> list[Row]:
    """The lines of the plan: `id`, `parent` (the line that they are a part of, or 0) and `detail`."""
    return store._rows(f"EXPLAIN QUERY PLAN {statement}")


def faults(store: Store, statement: str) -> list[str]:
    """Tables that are read as a whole without an index, and many rows that are sorted.

    A table may be walked in the order of its ids up to a LIMIT; how far it then goes, `steps` tells.
    """
    found, its = [], plan(store, statement)
    sorts = any("TEMP B-TREE FOR ORDER BY" in line["detail"] or "FOR RIGHT PART" in line["detail"] for line in its)
    limit = _LIMIT.search(statement)
    for line in its:
        scan = _SCAN.match(line["detail"])
        table = _table(store, statement, scan[1]) if scan else None
        if table is None or table in FEW or (table in PEOPLE and _once(its, line)) or (limit and not sorts):
            continue
        found.append(line["detail"])
    if sorts:
        whole = statement[: limit.start()] if limit else statement
        rows = store._one(f"SELECT count(*) AS n FROM ({whole})")["n"]
        if rows > SORTED_MAX:
            found.append(f"{rows} rows are sorted")
    return found


def _once(its: list[Row], line: Row) -> bool:
    """Whether a line of a plan is done once: the first of the statement, or of a subquery that depends on nothing."""
    siblings = [other for other in its if other["parent"] == line["parent"]]
    above = next((other["detail"] for other in its if other["id"] == line["parent"]), "")
    return siblings[0] is line and not above.startswith("CORRELATED")


def _table(store: Store, statement: str, alias: str) -> str | None:
    """The table that a plan names by its alias; None for a subquery, or values in JSON."""
    tables = {row["name"] for row in store._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if alias in tables:
        return alias
    named = re.search(rf"\b(\w+)\s+(?:AS\s+)?{re.escape(alias)}\b", statement)
    return named[1] if named and named[1] in tables else None
