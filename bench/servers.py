"""What the servers take of this machine: CPU seconds and memory of their processes, read from /proc.

Counted are the gateway's processes, each sshd's, and the engine's (dockerd, containerd, shims), each with all its
descendants, so also the docker clients that sshd starts, the guest agents, and what runs in the containers. Memory is
PSS, which divides a shared page among those who share it. A login shell in a container is the person's own program,
the same for every peer, and is left out of memory. What the kernel holds for sockets, pipes and page tables is in
neither.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: `seconds` is its CPU time, user and system, with that of the children it has waited for."""

    pid: int
    parent: int
    name: str
    seconds: float


def processes() -> dict[int, Process]:
    """All processes of this machine, by id."""
    return {process.pid: process for process in _read()}


def _read() -> Iterator[Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                # the name is in parentheses and may hold any byte
                head, _, tail = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(") ")
                fields = tail.split()
                ticks = sum(int(field) for field in fields[11:15])
                yield Process(int(entry.name), int(fields[1]), head.partition("(")[2], ticks / TICK)


def _names(pid: int, mark: str) -> bool:
    """Whether a process's command line has `mark` in it."""
    with suppress(OSError):
        return mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _in_container(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    return False


def _is_shell(process: Process) -> bool:
    return process.name == "bash" and _in_container(process.pid)


class Servers:
    """The server processes: those in `roots()`, those whose command line has `mark`, and all their descendants."""

    def __init__(self, roots: Callable[[], set[int]], mark: str) -> None:
        self._roots = roots
        self._mark = mark

    def members(self) -> list[Process]:
        """The processes that are there now."""
        every = processes()
        children: dict[int, list[int]] = {}
        for process in every.values():
            children.setdefault(process.parent, []).append(process.pid)
        roots = self._roots()
        waiting = [pid for pid in every if pid in roots or _names(pid, self._mark)]
        found: set[int] = set()
        while waiting:
            pid = waiting.pop()
            if pid not in found and pid != os.getpid():
                found.add(pid)
                waiting += children.get(pid, [])
        return [every[pid] for pid in sorted(found) if pid in every]

    def settled(self, count: int) -> None:
        """Wait until no more than `count` processes are left. Raises TimeoutError."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while len(self.members()) > count:
            if time.monotonic() > deadline:
                left = ", ".join(sorted({process.name for process in self.members()}))
                raise TimeoutError(f"processes of ended sessions are left after {SETTLE_SECONDS:.0f} s, among: {left}")
            time.sleep(0.02)

    def seconds(self) -> float:
        """CPU time of all of them, in seconds, also of the children that have ended and were waited for."""
        return sum(process.seconds for process in self.members())

    def memory(self) -> int:
        """PSS of all of them but for login shells in containers, in bytes."""
        return sum(_pss(process.pid) for process in self.members() if not _is_shell(process))

    def end_shells(self) -> None:
        """Kill the login shells in containers: `docker exec` leaves its own behind when its client goes."""
        for process in self.members():
            if _is_shell(process):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
