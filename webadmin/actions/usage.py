"""What a workspace used over a day, a week or a month, as plots and tables want it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from workspaces.errors import InvalidInput
from workspaces.model import Limits, Usage, Workspace
from workspaces.store import Store
from workspaces.store.usage import DAY, HOUR, MINUTE, NOW_SECONDS

Number = float | int | None


@dataclass(frozen=True, slots=True)
class Range:
    """`seconds` back from now; points of plots and rows of tables are so many seconds each."""

    seconds: int
    point: int
    row: int


RANGES = {
    "day": Range(DAY, 5 * MINUTE, HOUR),
    "week": Range(7 * DAY, HOUR, DAY),
    "month": Range(31 * DAY, 6 * HOUR, DAY),
}
COLUMNS: dict[str, Callable[[Usage], Number]] = {
    "cpus": lambda u: round(u.cpus, 3),
    "cpus_most": lambda u: round(u.cpus_most, 3),
    "memory": lambda u: u.memory,
    "memory_most": lambda u: u.memory_most,
    "processes": lambda u: u.pids_most,
    "disk": lambda u: u.disk,
    "received": lambda u: u.received,
    "sent": lambda u: u.sent,
}


def named(name: str) -> Range:
    """Raises InvalidInput."""
    try:
        return RANGES[name]
    except KeyError:
        raise InvalidInput(f"Use is told over a {', a '.join(RANGES)}.") from None


def series(store: Store, workspace: Workspace, range_: str, now: float | None = None) -> dict[str, object]:
    """Columns of equal length, `at` in seconds since the epoch; None where it did not run. InvalidInput for the range.

    Cores, bytes and numbers of processes; `received` and `sent` are bytes within each step.
    """
    asked, now = named(range_), now or time.time()
    first = int(now - asked.seconds) // asked.point * asked.point
    times = list(range(first, int(now) + 1, asked.point))
    known = {int(found.at): found for found in store.usage(workspace.id, first, asked.point)}
    columns = {name: [read(known[at]) if at in known else None for at in times] for name, read in COLUMNS.items()}
    limits: Limits = workspace.own_limits.over(store.challenge(workspace.challenge).limits)
    return {
        "workspace": workspace.ref,
        "range": range_,
        "step": asked.point,
        "at": times,
        **columns,
        "limits": {"cpus": limits.cpus, "memory": limits.memory, "processes": limits.pids},
    }


def rows(store: Store, workspace: Workspace, range_: str) -> list[Usage]:
    """The same in few rows, the latest first; times in which it did not run are not there."""
    asked = named(range_)
    return store.usage(workspace.id, time.time() - asked.seconds, asked.row)[::-1]


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole range in a few numbers."""

    cpus: float
    cpus_most: float
    memory: int
    memory_most: int
    processes: int
    disk: int | None
    received: int
    sent: int


def summary(found: list[Usage]) -> Summary | None:
    """Of rows, the latest first; None when there are none."""
    looks = sum(u.samples for u in found)
    if not looks:
        return None
    return Summary(
        sum(u.cpus * u.samples for u in found) / looks,
        max(u.cpus_most for u in found),
        round(sum(u.memory * u.samples for u in found) / looks),
        max(u.memory_most for u in found),
        max(u.pids_most for u in found),
        next((u.disk for u in found if u.disk is not None), None),
        sum(u.received for u in found),
        sum(u.sent for u in found),
    )


def latest(store: Store, workspace: Workspace) -> Usage | None:
    """The latest minute in which it was looked at, None when that is longer ago than some minutes."""
    found = store.usage(workspace.id, time.time() - NOW_SECONDS, MINUTE)
    return found[-1] if found else None
