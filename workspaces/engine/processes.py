"""Processes, mounts and logs on this host, found by what they are and not by numbers written down earlier."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from workspaces.errors import EngineError

CGROUP_SECONDS = 2.0


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return ""


def find(matches: Callable[[list[str]], bool]) -> list[int]:
    """Processes, not zombies, whose command line `matches`. None in a container: they can say anything."""
    return [pid for pid in _called(matches) if _shared(pid, "pid")]


def _shared(pid: int, kind: str) -> bool:
    """Whether a process is in this thread's namespace of that kind."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").samefile(f"/proc/thread-self/ns/{kind}")
    except OSError:
        return False


def _called(matches: Callable[[list[str]], bool]) -> list[int]:
    found = []
    for pid in _pids():
        argv = _read(pid, "cmdline").split("\0")[:-1]
        if argv and matches(argv):
            found.append(pid)
    return found


def in_cgroups(ids: set[str]) -> list[int]:
    """Processes whose control group is named for one of the container `ids` (64 hexadecimal digits)."""
    return [pid for pid in _pids() if _names(_read(pid, "cgroup"), ids)] if ids else []


def _names(text: str, ids: set[str]) -> bool:
    return not ids.isdisjoint(re.findall(r"[0-9a-f]{64}", text))


def cgroups(ids: set[str]) -> list[Path]:
    """The directories of control groups that are named for one of the container `ids`, those inside others first."""
    if not ids:
        return []
    walks = (os.walk(top, topdown=False) for top in cgroup_mounts())
    return [Path(directory) for walk in walks for directory, _, _ in walk if _names(directory, ids)]


def remove_cgroups(ids: set[str]) -> None:
    """Remove the control groups of containers that ended. Raises EngineError when one is still in use."""
    deadline = time.monotonic() + CGROUP_SECONDS
    for path in cgroups(ids):
        while True:
            try:
                path.rmdir()
            except FileNotFoundError:
                break
            except OSError as exc:  # a process that was killed a moment ago may still be in it
                if time.monotonic() >= deadline:
                    raise EngineError(f"The control group {path} cannot be removed: {exc.strerror}.") from exc
                time.sleep(0.02)
            else:
                break


def daemons_here() -> list[int]:
    """Every dockerd in this network namespace."""
    return [pid for pid in _called(lambda argv: Path(argv[0]).name == "dockerd") if _shared(pid, "net")]


def end(pids: list[int], seconds: float) -> None:
    """SIGTERM, and SIGKILL to what is left after `seconds` (at once when 0). Returns when they are gone."""
    handles = []
    for pid in pids:
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    try:
        if seconds > 0:
            _send(handles, signal.SIGTERM)
            _await(handles, seconds)
        _send(handles, signal.SIGKILL)
        if not _await(handles, 10):
            raise EngineError(f"Processes {pids} do not end, not even by SIGKILL.", "Is a disk or NFS server hanging?")
    finally:
        for handle in handles:
            os.close(handle)


def _send(handles: list[int], number: signal.Signals) -> None:
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _await(handles: list[int], seconds: float) -> bool:
    """Whether all ended within `seconds`."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    left = set(handles)
    while left:
        for handle, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            left.discard(handle)
            poll.unregister(handle)
        if left and time.monotonic() >= deadline:
            return False
    return True


def _mounts() -> Iterator[tuple[str, str]]:
    """Mount point and kind of each mount, in the order in which they were made."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place, _, kind = line.partition(" - ")
        yield re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place.split()[4]), kind.split()[0]


def mounts_below(*directories: Path) -> list[str]:
    """Mount points at or below `directories`, the last mounted first."""
    tops = [str(directory) for directory in directories]
    found = [target for target, _ in _mounts() if any(target == top or target.startswith(f"{top}/") for top in tops)]
    return found[::-1]


def cgroup_mounts() -> list[str]:
    """Where the hierarchies of control groups are."""
    return [target for target, kind in _mounts() if kind in ("cgroup", "cgroup2")]


def bind(source: Path, target: Path) -> None:
    """Make `source` seen at `target` as well. Raises EngineError."""
    done = subprocess.run(
        ("mount", "--bind", "--", str(source), str(target)), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EngineError(f"{source} cannot be mounted at {target}: {done.stderr.strip()}")


def unmount(target: str) -> None:
    """Unmount what was mounted last on `target`; what is busy is detached. Whether it worked, the caller sees."""
    for options in ((), ("--lazy",)):
        command = ("umount", "--no-canonicalize", *options, "--", target)
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return


def unmount_below(*directories: Path) -> None:
    """Unmount all there is. Raises EngineError when something stays."""
    unmount_all(lambda: mounts_below(*directories))


def unmount_all(targets: Callable[[], list[str]]) -> None:
    """Unmount what `targets` finds. Raises EngineError when it still finds something then."""
    for target in targets():
        unmount(target)
    left = targets()
    if left:
        raise EngineError(f"{left[0]} cannot be unmounted.", f"umount {left[0]}")


def last_lines(path: Path, count: int = 8) -> str:
    """The end of a log file, for an error's hint; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
