"""Measuring in turns: every task once in every round, so that drift and a slow moment hit all alike."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Self, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

COMMAND_SECONDS = 120.0
PROMPT = b"# "


class Failed(Exception):
    """A figure could not be measured; the message has what was seen."""


def in_turns(tasks: Mapping[K, Callable[[], T]], rounds: int, *, warm: bool = True) -> dict[K, list[T]]:
    """Each task's results, one for each round; with `warm`, a round before them is not counted.

    Every round begins with another task, so that none always comes after the same neighbour.
    """
    results: dict[K, list[T]] = {key: [] for key in tasks}
    order = list(tasks)
    if warm:
        for key in order:
            tasks[key]()
    for _ in range(rounds):
        for key in order:
            results[key].append(tasks[key]())
        order = order[1:] + order[:1]
    return results


def timed(command: Sequence[str], *, stdin: int | IO[bytes] = subprocess.DEVNULL, typed: bytes | None = None) -> float:
    """Wall time of one command in seconds. Raises Failed with its last words when it fails or hangs."""
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            stdin=stdin if typed is None else None,
            input=typed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {COMMAND_SECONDS:.0f} s: {_brief(command)}") from None
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise Failed(f"status {done.returncode}: {_brief(command)}: {said}")
    return seconds


def _brief(command: Sequence[str]) -> str:
    return f"{command[0]} … {command[-1]}"


class Client:
    """A session that stays open: a client program whose input and output are here, on a terminal or on pipes."""

    def __init__(self, command: Sequence[str], *, terminal: bool = False) -> None:
        self._command = command
        self._rest = bytearray()
        if terminal:
            self._fd, theirs = os.openpty()
            self._out = self._fd
            self._process = subprocess.Popen(
                command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, start_new_session=True
            )
            os.close(theirs)
        else:
            read_in, self._fd = os.pipe2(os.O_CLOEXEC)
            self._out, write_out = os.pipe2(os.O_CLOEXEC)
            self._process = subprocess.Popen(
                command, stdin=read_in, stdout=write_out, stderr=subprocess.DEVNULL, start_new_session=True
            )
            os.close(read_in)
            os.close(write_out)

    def write(self, data: bytes) -> None:
        """All of a short message."""
        os.write(self._fd, data)

    def until(self, mark: bytes, seconds: float = 60.0) -> bytes:
        """Read up to and with `mark`. Raises Failed when the session ends or is silent before that."""
        deadline = time.monotonic() + seconds
        looked = 0
        while (at := self._rest.find(mark, max(0, looked - len(mark)))) < 0:
            looked = len(self._rest)
            self._read(mark, deadline)
        found = bytes(self._rest[: at + len(mark)])
        del self._rest[: at + len(mark)]
        return found

    def prompt(self, seconds: float = 60.0) -> None:
        """Read until what was read ends as root's prompt does. Raises Failed as `until` does."""
        deadline = time.monotonic() + seconds
        while not self._rest.endswith(PROMPT):
            self._read(PROMPT, deadline)
        self._rest.clear()

    def _read(self, wanted: bytes, deadline: float) -> None:
        if not select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Failed(f"no {wanted!r} in time from {_brief(self._command)}: {bytes(self._rest[-300:])!r}")
        data = b""
        with suppress(OSError):  # EIO: the terminal's other side is closed
            data = os.read(self._out, 65536)
        if not data:
            raise Failed(f"{_brief(self._command)} ended: {bytes(self._rest[-300:])!r}")
        self._rest += data

    def close(self) -> None:
        """End the client, whatever it does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for fd in {self._fd, self._out}:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def at_once(commands: Sequence[Sequence[str]]) -> tuple[list[float], int]:
    """Start all commands at once; the seconds until each ended well, in the order of ending, and how many failed."""
    begun = time.perf_counter()
    running = {}
    poll = select.poll()
    for command in commands:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        descriptor = os.pidfd_open(process.pid)
        running[descriptor] = process
        poll.register(descriptor, select.POLLIN)
    seconds, failed = [], 0
    try:
        while running:
            ended = poll.poll(COMMAND_SECONDS * 1000)
            if not ended:
                raise Failed(f"{len(running)} of {len(commands)} do not end: {_brief(commands[0])}")
            for descriptor, _ in ended:
                process = running.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                if process.wait() == 0:
                    seconds.append(time.perf_counter() - begun)
                else:
                    failed += 1
    finally:
        for descriptor, process in running.items():
            process.kill()
            process.wait()
            os.close(descriptor)
    return seconds, failed
