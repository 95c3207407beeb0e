"""A report's changed paths as a tree of directories with counts and sizes: pure, for the command line and for pages.

    entries, unlisted ─► directories with what lies below them ─► fold: a bounded number of rows, large ones first

A directory that holds one thing only is one row with it. Names are the participant's: nothing here makes them
safe to show, and however deep they go, no tree is deeper than DEPTH.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from workspaces.model import Change, ChangeReport
from workspaces.names import amount, printable
from workspaces.snapshots.review import is_privileged

DEPTH = 24  # what lies deeper is named by the rest of its path
SIGNS = {"added": "+", "changed": "~", "removed": "-"}


@dataclass(slots=True)
class Row:
    """One path, or a directory in which paths changed.

    `name` is relative to the row above. `count` and `size` (bytes) are of all changed paths at and below it; `change`
    is what happened to itself, if anything; `marks` say what was found in it, `told` how many were at and below it.
    `more` and `more_size` count paths below it that no row shows, `first` whether its rows are among the first.
    """

    name: str
    path: str
    change: Change | None = None
    count: int = 0
    size: int = 0
    told: int = 0
    marks: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    more: int = 0
    more_size: int = 0
    first: bool = False

    @property
    def is_directory(self) -> bool:
        return bool(self.rows or self.more)


@dataclass(slots=True)
class _Node:
    row: Row
    below: dict[str, _Node] = field(default_factory=dict)
    unlisted: int = 0
    unlisted_size: int = 0


def fold(report: ChangeReport, *, rows: int, each: int, first: int = 0) -> Row:
    """The tree's top, with at most `rows` rows below it and `each` in one directory; the rest is counted.

    Directories with something to warn of are unfolded before others, larger ones before smaller ones; the rows of the
    `first` ones are marked as such.
    """
    top = _grown(report)
    left, order = rows, 0
    waiting = [(_priority(top), top)]
    while waiting:
        _, node = heapq.heappop(waiting)
        below = sorted((_only(child) for child in node.below.values()), key=_priority)
        room = min(each, left)
        # One row more, rather than a row that says that one is left out.
        shown = below if len(below) <= min(each + 1, left) else below[: max(room, 0)]
        node.row.rows = [child.row for child in shown]
        node.row.more = node.unlisted + sum(child.row.count for child in below[len(shown) :])
        node.row.more_size = node.unlisted_size + sum(child.row.size for child in below[len(shown) :])
        node.row.first = order < first
        order += 1
        left -= len(shown)
        for child in shown:
            if child.below or child.unlisted:
                heapq.heappush(waiting, (_priority(child), child))
    return top.row


def lines(top: Row) -> Iterator[str]:
    """The tree as text for a terminal: size, sign and path of each row."""
    waiting: list[tuple[int, Row | str]] = [(0, top)]
    while waiting:
        depth, row = waiting.pop()
        if isinstance(row, str):
            yield row
            continue
        sign = SIGNS.get(row.change.kind, "?") if row.change else " "
        size = "" if row.change and row.change.kind == "removed" and not row.rows else amount(row.size)
        count = f"  ({row.count:,} {'path' if row.count == 1 else 'paths'})" if row.is_directory else ""
        marks = f"  [{printable('; '.join(row.marks), 200)}]" if row.marks else ""
        yield f"{size:>11}  {'  ' * depth}{sign} {printable(row.name, 300)}{count}{marks}"
        if row.more and row.rows:
            waiting.append((0, f"{amount(row.more_size):>11}  {'  ' * (depth + 1)}  … and {row.more:,} more"))
        waiting += [(depth + 1, child) for child in reversed(row.rows)]


def marks(report: ChangeReport) -> dict[str, tuple[str, ...]]:
    """What is to be said of single paths."""
    found: dict[str, list[str]] = {}
    for finding in report.secrets:
        found.setdefault(finding.path, []).append(f"secret: {finding.what}")
    for finding in report.copies:
        found.setdefault(finding.path, []).append(f"copy of {finding.what}")
    for change in report.entries:
        if is_privileged(change):
            found.setdefault(change.path, []).append("setuid" if change.mode & 0o4000 else "setgid")
    return {path: tuple(what) for path, what in found.items()}


def _grown(report: ChangeReport) -> _Node:
    top = _Node(Row("/", "/"))
    told = marks(report)
    for change in report.entries:
        what = told.get(change.path, ())
        node = _reach(top, change.path, 1, change.size, len(what))
        node.row.change, node.row.marks = change, what
    for rest in report.unlisted:
        node = _reach(top, rest.path, rest.count, rest.size, 0)
        node.unlisted += rest.count
        node.unlisted_size += rest.size
    return top


def _reach(top: _Node, path: str, count: int, size: int, told: int) -> _Node:
    """The node of `path`, made if need be; what is at it is counted in all above it."""
    node, place = top, ""
    parts = path.strip("/").split("/", DEPTH) if path.strip("/") else []
    for part in (None, *parts):
        if part is not None:
            place = f"{place}/{part}"
            if part not in node.below:
                node.below[part] = _Node(Row(part, place))
            node = node.below[part]
        node.row.count += count
        node.row.size += size
        node.row.told += told
    return node


def _only(node: _Node) -> _Node:
    """`node`, or what is below it if that is all there is, named by the way to it and counted with it."""
    names, count = [node.row.name], node.row.count
    while len(node.below) == 1 and not node.unlisted and (node.row.change is None or _is_plain(node)):
        node = next(iter(node.below.values()))
        names.append(node.row.name)
    node.row.name, node.row.count = "/".join(names), count
    return node


def _is_plain(node: _Node) -> bool:
    """Whether it is a new directory of which nothing need be said but what is in it."""
    change = node.row.change
    return change is not None and change.kind == "added" and not node.row.marks


def _priority(node: _Node) -> tuple[bool, int, int, str]:
    return not node.row.told, -node.row.size, -node.row.count, node.row.path
