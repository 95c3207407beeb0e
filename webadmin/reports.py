"""Reports of changes as lists show them: read and folded once, and kept until another one takes their place.

A report may hold thousands of paths; a queue of twenty would read and sort them anew for every look at it.

    ids ─► when each was listed (one read) ─► kept as of then? ─► its totals and a small tree
                                              └─► else read, folded, kept: the latest KEPT of them
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from workspaces.model import ChangeReport
from workspaces.snapshots.tree import Row, fold
from workspaces.store import Store

KEPT = 256
ROWS, EACH = 25, 8  # of a tree, and of one directory in it


@dataclass(frozen=True, slots=True)
class Brief:
    """A report with its first path only, and the tree of all."""

    report: ChangeReport
    tree: Row


class Reports:
    """Those of one store; for all threads of the server."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[float, Brief]] = OrderedDict()
        self._lock = threading.Lock()

    def briefs(self, store: Store, snapshot_ids: Iterable[int]) -> dict[int, Brief]:
        """By snapshot, for those that were listed."""
        found: dict[int, Brief] = {}
        for id_, listed_at in store.changes_listed(snapshot_ids).items():
            with self._lock:
                kept = self._kept.get(id_)
                if kept is not None:
                    self._kept.move_to_end(id_)
            if kept is None or kept[0] != listed_at:
                report = store.changes(id_)
                if report is None:
                    continue
                tree = fold(report, rows=ROWS, each=EACH, first=ROWS)
                kept = (report.at, Brief(replace(report, entries=report.entries[:1], unlisted=(), copies=()), tree))
                with self._lock:
                    self._kept[id_] = kept
                    while len(self._kept) > KEPT:
                        self._kept.popitem(last=False)
            found[id_] = kept[1]
        return found
