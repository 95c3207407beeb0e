"""What sessions leave behind in a gateway and in a container: nothing, and tests assert it.

    before = Leftovers(gateway's process, its port, container's process 1)   what is there when nobody is logged in
    before.settle()                                                          fails unless there is no more than that

Read from the host's /proc, so that looking starts nothing in either: the gateway's descriptors, connections and
threads, and in the container processes, sockets, terminals and the agent's own descriptors.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTEN, TIME_WAIT = "0A", "06"
THREADS = 40  # more than the gateway's pools have together; one for each session would be more after these tests
STORE = "workspaces.db"  # opened anew by each thread that asks the store, and kept


class Leftovers:
    """What is there at first; `gateway` and `init` are process ids, `port` is the gateway's."""

    def __init__(self, gateway: int, port: int, init: int, seconds: float = 20) -> None:
        self._gateway = gateway
        self._port = port
        self._init = init
        self._before: Counter[str] = Counter()
        self._wait(seconds, of_sessions=True)
        self._before = self._now()

    def settle(self, seconds: float = 20) -> None:
        """Wait until all that came since is gone; fails with a list of what is left."""
        self._wait(seconds, of_sessions=False)
        threads = sum(len(os.listdir(PROC / str(pid) / "task")) for pid in family(self._gateway))
        assert threads <= THREADS * len(family(self._gateway)), f"the gateway has {threads} threads"

    def _wait(self, seconds: float, *, of_sessions: bool) -> None:
        end = time.monotonic() + seconds
        while left := self._sessions() if of_sessions else self._now() - self._before:
            if time.monotonic() > end:
                lines = "\n".join(f"  {count} × {what}" for what, count in sorted(left.items()))
                raise AssertionError(f"left behind after {seconds:.0f} s:\n{lines}")
            time.sleep(0.02)

    def _sessions(self) -> Counter[str]:
        """What exists only as long as somebody is logged in."""
        found = Counter(f"gateway: connection {line}" for line in connections(self._gateway, self._port))
        found.update(f"container: process {words}" for words in commands(family(self._init)[1:]))
        found.update(f"container: terminal {name}" for name in os.listdir(PROC / str(self._init) / "root/dev/pts"))
        del found["container: terminal ptmx"]
        return found

    def _now(self) -> Counter[str]:
        found = self._sessions()
        for pid in family(self._gateway):
            found.update(f"gateway: descriptor {kind}" for kind in descriptors(pid))
        found.update(f"container: agent's descriptor {kind}" for kind in descriptors(self._init))
        found.update(f"container: socket {name}" for name in sockets(self._init))
        return found


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in (PROC / str(parent) / "task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def descriptors(pid: int) -> Iterator[str]:
    """`pipe`, `socket`, `anon_inode:[…]` or a path for each descriptor of a process but the store's."""
    for fd in os.listdir(PROC / str(pid) / "fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(PROC / str(pid) / "fd" / fd)
            if STORE not in target:
                yield target if target.startswith(("/", "anon_inode:")) else target.partition(":")[0]


def connections(pid: int, port: int) -> Iterator[str]:
    """The TCP connections of a port in the network of a process, with their states."""
    for row in _rows(pid, "tcp", "tcp6"):
        local, remote, state = row[1:4]
        if int(local.rpartition(":")[2], 16) == port and state not in (LISTEN, TIME_WAIT):
            yield f"from port {int(remote.rpartition(':')[2], 16)} in state {state}"


def commands(pids: list[int]) -> Iterator[str]:
    """The command line of each process that is still there, or its name when it is dead and not reaped."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            yield words or (PROC / str(pid) / "comm").read_text().strip()


def sockets(pid: int) -> Iterator[str]:
    """The unix and TCP sockets in the network of a process; those that wait for late packets are the kernel's."""
    for row in _rows(pid, "unix"):
        yield f"unix {row[7] if len(row) > 7 else '(no name)'}"
    for row in _rows(pid, "tcp", "tcp6"):
        if row[3] != TIME_WAIT:
            yield f"tcp {row[1]} to {row[2]} in state {row[3]}"


def _rows(pid: int, *names: str) -> Iterator[list[str]]:
    for name in names:
        with suppress(FileNotFoundError):
            yield from (line.split() for line in (PROC / str(pid) / "net" / name).read_text().splitlines()[1:])
