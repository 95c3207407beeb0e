"""The guest agent for tests: the real one, built with sanitizers, as a plain process without a container.

`build` compiles once for all runs, until a source changes. `Agent` starts it and, when it ends, tells what the
sanitizers saw. `run` starts a program through it and gathers all of its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from workspaces.guest.client import ExitStatus, GuestClient, Process, SpawnRequest
from workspaces.guest.protocol import Message, decode, encode

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "workspaces" / "guest" / "agent"
SANITIZED = (
    *("-std=gnu17", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
)
IDLE = 7  # descriptors: stdio, epoll, signalfd, the pidfd of its parent, the listening socket
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "LC_ALL": "C.UTF-8",
}


def build(config: pytest.Config, name: str, compiler: str, flags: Sequence[str], sources: Sequence[Path]) -> Path:
    """The program made of `sources`, from the cache when nothing changed."""
    digest = hashlib.sha256(repr((compiler, flags)).encode())
    for path in sorted({*sources, *SOURCES.glob("*.h")}):
        digest.update(path.read_bytes())
    directory = config.cache.mkdir("guest")
    program = directory / f"{name}-{digest.hexdigest()[:16]}"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            for old in directory.glob(f"{name}-*"):
                old.unlink()
            new = program.with_suffix(".new")
            command = [compiler, *flags, "-o", str(new), *map(str, sources), "-lresolv"]
            subprocess.run(command, check=True)
            new.rename(program)
    return program


class Started(Protocol):
    """Something with an agent; `started` are the processes that `start` was asked for."""

    started: list[Running]

    def client(self) -> GuestClient: ...


class Agent(Started):
    """A running agent of this test's own. `client()` gives a new client of it.

    One that is to end with connections open is not looked at for `leaks`: it leaves them to the kernel. `prefix` is a
    command that prepares something and then becomes the agent.
    """

    def __init__(self, program: Path, directory: Path, leaks: bool = True, prefix: Sequence[str | Path] = ()) -> None:
        guest = directory / "guest"
        (guest / "bin").mkdir(parents=True)
        shutil.copy(program, guest / "agent")
        (guest / "bin" / "snapshot").symlink_to("../agent")
        shutil.copy(SOURCES.parent / "env.sh", guest)
        self.guest = guest
        self.socket = directory / "run" / "agent.sock"
        self.log = directory / "log"
        self.started: list[Running] = []  # closed by in_loop
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*prefix, guest / "agent", "init", self.socket],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | ENVIRONMENT | ({} if leaks else {"ASAN_OPTIONS": "detect_leaks=0"}),
            )
        wait_for(self.answers, "the agent does not listen")
        self.settle()

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def client(self) -> GuestClient:
        return GuestClient(self.socket)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settle(self) -> None:
        """Wait until nothing of what a test asked for is left."""
        wait_for(lambda: self.descriptors() <= IDLE, "the agent leaks descriptors")

    def stop(self) -> str:
        """End it, and return what it and the sanitizers wrote; it must have ended by itself, with status 0."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        said = self.log.read_text()
        assert status == 0, f"the agent ended with {status}:\n{said}"
        return said


def sanitized_agent(config: pytest.Config) -> Path:
    return build(config, "agent", "gcc", SANITIZED, sorted(SOURCES.glob("*.c")))


def module_agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One agent for a module's tests, whose sanitizers must have found nothing when it ends."""
    agent = Agent(sanitized_agent(request.config), tmp_path_factory.mktemp("agent"))
    try:
        yield agent
    finally:
        said = agent.stop()
    assert said == ""


def wait_for(condition: Callable[[], bool], complaint: str, seconds: float = 10) -> None:
    """Return as soon as `condition` holds; fail with `complaint` otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.005)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """An async test as pytest takes it, bounded in time. What it asked of `agent` must be gone after it."""

    @functools.wraps(test)
    def run_test(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                try:
                    await test(*args, **kwargs)
                finally:
                    while agent is not None and agent.started:
                        agent.started.pop().close()

        agent = kwargs.get("agent")
        assert agent is None or isinstance(agent, Agent)
        asyncio.run(bounded())
        if agent is not None:
            agent.settle()

    return run_test


class Running:
    """A process with this side's ends of its pipes: `stdin` to write, the others to read."""

    def __init__(self, process: Process, stdin: int, outputs: list[int]) -> None:
        self.process = process
        self.stdin: int | None = stdin
        self.outputs = outputs

    async def write(self, data: bytes) -> None:
        """Write all of it, however slowly it is taken."""
        assert self.stdin is not None
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.stdin, view) :]
            except BlockingIOError:
                await _ready(self.stdin, write=True)

    def end_input(self) -> None:
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    async def read(self, index: int = 0) -> bytes:
        """What comes next, empty at the end."""
        while True:
            try:
                return os.read(self.outputs[index], 1 << 16)
            except BlockingIOError:
                await _ready(self.outputs[index])

    async def read_until(self, what: bytes) -> bytes:
        seen = b""
        while what not in seen:
            more = await self.read()
            assert more, f"ended before {what!r}: {seen!r}"
            seen += more
        return seen

    async def read_all(self, index: int = 0) -> bytes:
        parts = []
        while part := await self.read(index):
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close everything, hanging up the process if it still runs."""
        self.end_input()
        for fd in self.outputs:
            os.close(fd)
        self.outputs = []
        self.process.close()


async def _ready(fd: int, write: bool = False) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    (loop.add_writer if write else loop.add_reader)(fd, event.set)
    try:
        await event.wait()
    finally:
        (loop.remove_writer if write else loop.remove_reader)(fd)


async def start(agent: Started, request: SpawnRequest) -> Running:
    """Start a process with pipes of our own; without a terminal, outputs are stdout and stderr."""
    theirs, ours = os.pipe()
    passed, outputs = [theirs], []
    for _ in range(1 if request.pty else 2):
        read, write = os.pipe()
        passed.append(write)
        outputs.append(read)
    for fd in (ours, *outputs):
        os.set_blocking(fd, False)
    try:
        process = await agent.client().spawn(request, passed)
    except BaseException:
        for fd in (ours, *outputs):
            os.close(fd)
        raise
    finally:
        for fd in passed:
            os.close(fd)
    running = Running(process, ours, outputs)
    agent.started.append(running)
    return running


async def run(agent: Started, request: SpawnRequest, data: bytes = b"") -> tuple[ExitStatus, bytes, bytes]:
    """Run a process to its end with `data` as its whole input: status, stdout, stderr (empty with a terminal)."""
    running = await start(agent, request)

    async def feed() -> None:
        with contextlib.suppress(BrokenPipeError):  # it did not want all of it
            await running.write(data)
        running.end_input()

    try:
        results = await asyncio.gather(*(running.read_all(i) for i in range(len(running.outputs))), feed())
        status = await running.process.wait()
    finally:
        running.close()
    return status, results[0] or b"", b"" if request.pty else results[1] or b""


async def shell(agent: Agent, command: str, data: bytes = b"") -> tuple[ExitStatus, bytes, bytes]:
    return await run(agent, SpawnRequest(command=command.encode()), data)


class Raw:
    """A connection to the agent without the client: for what no client of ours would send."""

    def __init__(self, agent: Agent) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(agent.socket))  # waits while the agent's backlog is full
        self.socket.settimeout(10)

    def send(self, packet: bytes | Message, fds: Sequence[int] = ()) -> None:
        data = packet if isinstance(packet, bytes) else encode(packet)
        socket.send_fds(self.socket, [data], list(fds))

    def receive(self) -> Message | None:
        """The next message, None at the end."""
        try:
            packet = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return None
        return decode(packet) if packet else None

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
