"""How the gateway's coordinator becomes its own next version, and what it hands on to itself.

    trial: does what is installed now start? ──► Kept ──► a file in memory, sockets ──► exec ──► inherited

The process keeps its id, so that whoever supervises it notices nothing. Signals that come on the way wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

VARIABLE = "WORKSPACES_GATEWAY_KEPT"
TRIAL_SECONDS = 60.0
TOLD = 8  # lines of what a failed trial said
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class KeptWorker:
    """A worker of an earlier version, and the coordinator's end of its socket pair."""

    pid: int
    process: str
    socket: socket.socket
    retiring: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything that outlives the old version.

    `listen` is the address that `sockets` are for, `last_users` who began the last session in each workspace.
    """

    listen: tuple[str, int]
    sockets: Sequence[socket.socket]
    next_number: int
    workers: Sequence[KeptWorker]
    last_users: Mapping[int, str]


async def trial() -> str | None:
    """None when this program, as it is installed now, could start with its arguments; else what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *sys.orig_argv[1:], "--check"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        return f"no answer within {TRIAL_SECONDS:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    lines = said.decode(errors="replace").splitlines()[-TOLD:]
    return "\n".join(lines) or f"exit status {process.returncode}"


def hold_signals() -> None:
    """Let what comes from now on wait; it outlives `replace`. Each thread of the process must do so."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def replace(kept: Kept) -> NoReturn:
    """Become the program as it is installed now. Signals are held by then."""
    for sock in (*kept.sockets, *(worker.socket for worker in kept.workers)):
        sock.set_inheritable(True)
    data = {
        "listen": kept.listen,
        "sockets": [sock.fileno() for sock in kept.sockets],
        "next": kept.next_number,
        "workers": [[worker.pid, worker.process, worker.socket.fileno(), worker.retiring] for worker in kept.workers],
        "users": list(kept.last_users.items()),
    }
    file = os.memfd_create("kept", 0)  # inherited; what is said in the environment has a largest size
    os.pwrite(file, json.dumps(data).encode("ascii"), 0)
    os.environ[VARIABLE] = str(file)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted


def inherited() -> Kept | None:
    """What the version before handed on; None at a first start. Nothing is inherited any further."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    with os.fdopen(int(text), "rb") as file:
        data = json.load(file)
    host, port = data["listen"]
    return Kept(
        (host, port),
        [_own(fd) for fd in data["sockets"]],
        data["next"],
        tuple(KeptWorker(pid, process, _own(fd), retiring) for pid, process, fd, retiring in data["workers"]),
        dict(data["users"]),
    )


def _own(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    return sock
