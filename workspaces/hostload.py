"""How busy this host is, as its kernel tells: cores, memory, load, and the file systems that fill up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from workspaces.model import HostSample

PROC = Path("/proc")
IDLE = (3, 4)  # of the times in /proc/stat: idle, and waiting for a disk


class HostLoad:
    """Looks at the host now and then; how busy its cores were is known from the second look on."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before: tuple[float, float] | None = None  # when, and seconds that the cores were busy until then

    def read(self, places: Iterable[Path]) -> HostSample | None:
        """The host now, None at the first look. `places` lie on the file systems to tell of. Raises OSError."""
        now, (busy, cores) = time.monotonic(), self._busy()
        before, self._before = self._before, (now, busy)
        if before is None or now <= before[0]:
            return None
        memory, total = self._memory()
        disk, disk_total = _fuller(places)
        cpus = min(float(cores), max(0.0, busy - before[1]) / (now - before[0]))
        return HostSample(cpus, cores, memory, total, disk, disk_total, os.getloadavg()[0])

    def _busy(self) -> tuple[float, int]:
        lines = (self._proc / "stat").read_text().splitlines()
        times = [int(value) for value in lines[0].split()[1:9]]  # those after it are counted in them already
        cores = sum(line.startswith("cpu") for line in lines) - 1
        return (sum(times) - sum(times[number] for number in IDLE)) / os.sysconf("SC_CLK_TCK"), max(1, cores)

    def _memory(self) -> tuple[int, int]:
        lines = (self._proc / "meminfo").read_text().splitlines()
        known = {name: int(value.split()[0]) << 10 for name, value in (line.split(":") for line in lines)}
        return known["MemTotal"] - known["MemAvailable"], known["MemTotal"]


def _fuller(places: Iterable[Path]) -> tuple[int, int]:
    """Bytes used and in all of the file system that has the smallest part left, as `df` counts them."""
    found = []
    for place in places:
        with suppress(OSError):
            state = os.statvfs(place)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            total = used + state.f_bavail * state.f_frsize
            found.append((used / total if total else 0.0, used, total))
    return max(found, default=(0.0, 0, 0))[1:]
