"""What a running container uses, read where the kernel counts it: its control groups, and its network's counters.

    process 1 of the container ─► /proc/PID/cgroup ─► the mounted hierarchy (v2, or v1's controllers) ─► counters
                               └► /proc/PID/net/dev

Five small files, 0.1 ms; the engine's own `stats` takes a second for each container. The engine is asked only for the
process, once for each start. A process id may be another's by now: its control group must be named for the container.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from workspaces.engine.base import Use

MICRO, NANO = 1e-6, 1e-9
PROC = Path("/proc")
V1, V2 = ("cpuacct", "memory", "pids"), ""  # controllers; version 2 has one hierarchy for all


def read(container_id: str, pid: int, proc: Path = PROC) -> Use | None:
    """What the container whose process 1 is `pid` uses; None when that is not so, or cannot be seen from here."""
    try:
        groups = _groups((proc / str(pid) / "cgroup").read_text())
        if not any(container_id in group for group in groups.values()):
            return None
        old = "memory" in groups  # with version 1, that of version 2 is there too and counts nothing
        places = {name: _place(name, groups[name], proc) for name in (V1 if old else (V2,))}
        cpu, memory, pids = _v1(places) if old else _v2(places[V2])
        received, sent = _network((proc / str(pid) / "net" / "dev").read_text())
    except (OSError, LookupError, ValueError):  # it ended meanwhile, or its groups are mounted nowhere here
        return None
    return Use(cpu, memory, pids, received, sent)


def _groups(text: str) -> dict[str, str]:
    """The group in each controller's hierarchy."""
    groups: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        groups |= {name: group for name in controllers.split(",")}
    return groups


def _place(controller: str, group: str, proc: Path) -> Path:
    """The group's directory. Raises LookupError when the hierarchy, or this part of it, is not mounted."""
    root, mounted = _mounts(proc)[controller]
    try:
        return mounted / PurePosixPath(group).relative_to(root)
    except ValueError as exc:
        raise LookupError(group) from exc


@cache
def _mounts(proc: Path) -> Mapping[str, tuple[str, Path]]:
    """For each controller, which of its groups is seen where."""
    found: dict[str, tuple[str, Path]] = {}
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, place = before.split(" ")[3:5]
        if kind == "cgroup2":
            found.setdefault(V2, (root, Path(place)))
        elif kind == "cgroup":
            for name in options.split(","):
                found.setdefault(name, (root, Path(place)))
    return found


def _v2(place: Path) -> tuple[float, int, int]:
    cpu = _table(place / "cpu.stat")["usage_usec"] * MICRO
    cache_ = _table(place / "memory.stat")["inactive_file"]
    return cpu, max(0, _number(place / "memory.current") - cache_), _number(place / "pids.current")


def _v1(places: Mapping[str, Path]) -> tuple[float, int, int]:
    memory = places["memory"]
    cache_ = _table(memory / "memory.stat").get("total_inactive_file", 0)
    used = max(0, _number(memory / "memory.usage_in_bytes") - cache_)
    return _number(places["cpuacct"] / "cpuacct.usage") * NANO, used, _number(places["pids"] / "pids.current")


def _number(file: Path) -> int:
    return int(file.read_text())


def _table(file: Path) -> dict[str, int]:
    return {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}


def _network(text: str) -> tuple[int, int]:
    """Bytes received and sent, but for loopback."""
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            values = counters.split()
            received, sent = received + int(values[0]), sent + int(values[8])
    return received, sent


# for an engine whose containers are plain processes of this host


def of_processes(first: int, proc: Path = PROC) -> Use | None:
    """The same for a process and all that descend from it, without a control group; None when it is gone."""
    parents: dict[int, list[int]] = {}
    stats: dict[int, list[str]] = {}
    for pid, fields in _stats(proc):
        stats[pid] = fields
        parents.setdefault(int(fields[1]), []).append(pid)
    if first not in stats:
        return None
    family, todo = [], [first]
    while todo:
        family.append(todo.pop())
        todo += parents.get(family[-1], [])
    ticks = sum(int(ticks) for pid in family for ticks in stats[pid][11:15])  # of those that ended as well
    pages = sum(int(stats[pid][21]) for pid in family)
    return Use(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"), len(family), 0, 0)


def _stats(proc: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each process's `stat` after its name."""
    for place in proc.iterdir():
        if place.name.isdecimal():
            try:
                yield int(place.name), (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
