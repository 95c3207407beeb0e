"""A gateway on a free port with a real store, the in-memory engine and real agents, and the clients of its tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import asyncssh

from sshgate import attend, server, session
from sshgate.accept import Acceptor, listen_on
from sshgate.attend import Attending
from sshgate.environment import environment
from sshgate.hostkey import NAME, load_host_keys
from sshgate.keeper import Keeper
from sshgate.limits import Admission, Guessing
from sshgate.recorder import Bounds, Recorder
from sshgate.server import Gate
from tests.support.quick import CheapHasher
from workspaces import accounts, guest
from workspaces.engine.base import Engine, ImageConfig
from workspaces.engine.memory import MemoryEngine
from workspaces.lifecycle import Lifecycle
from workspaces.model import Workspace
from workspaces.store import Store

T = TypeVar("T")
PASSWORD = "correct horse"
PASSWORD_HASH = CheapHasher().hash(PASSWORD)
CHALLENGE = "als"
IMAGE = "debian-test:12"


class LocalKeeper:
    """`keeper.Shared` without processes: a worker, the keeper and the attending of workspaces on one event loop."""

    def __init__(self, store: Store, lifecycle: Lifecycle) -> None:
        self.gate: Gate
        self.keeper = Keeper(lambda number: self.gate.drop(number))
        self.attending = Attending(store, lifecycle)
        self.right, self.wrong_code = self.keeper.right, self.keeper.wrong_code
        self.fewer, self.left = self.keeper.fewer, self.keeper.left
        self.fewer_streams = self.keeper.fewer_streams

    async def authenticated(self, number: int, account: str) -> str | None:
        return self.keeper.authenticated(number, account)

    async def sessions(self, number: int, count: int) -> str | None:
        return self.keeper.sessions(number, count)

    async def streams(self, number: int, count: int) -> str | None:
        return self.keeper.streams(number, count)

    async def guess(self, account: str, address: str) -> float:
        return self.keeper.guess(account, address)

    async def too_many_codes(self, account: str) -> bool:
        return self.keeper.too_many_codes(account)

    async def where(self, workspace_id: int) -> Path | None:
        return self.attending.where(workspace_id)

    async def attend(self, workspace_id: int, socket: Path, user: str) -> None:
        await self.attending.attend(workspace_id, socket, user)


class GatewayThread:
    """A Gate and what it shares, on an event loop in a thread, so that clients may block."""

    def __init__(self, store: Store, lifecycle: Lifecycle, keys: Path) -> None:
        self._home = keys.parent / "home"
        self._home.mkdir(exist_ok=True)
        self._started: Future[int] = Future()
        self._stop: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self.gate: Gate
        self.shared: LocalKeeper
        self._thread = threading.Thread(target=self._main, args=(store, lifecycle, keys), name="gateway")
        self._thread.start()
        self.port = self._started.result(30)

    def _main(self, store: Store, lifecycle: Lifecycle, keys: Path) -> None:
        async def run() -> None:
            asyncssh.set_log_level("WARNING")
            self.loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            try:
                self.shared = LocalKeeper(store, lifecycle)
                recorder = Recorder(keys.parent / "recordings", Bounds(reserve=0))
                self.gate = self.shared.gate = Gate(store, lifecycle, self.shared, recorder)
                await self.gate.open(load_host_keys(keys))
                acceptor = Acceptor(listen_on("127.0.0.1", 0), self.shared.keeper, self.gate.take)
            except BaseException as error:
                self._started.set_exception(error)
                raise
            acceptor.resume()
            self._started.set_result(acceptor.sockets[0].getsockname()[1])
            await self._stop.wait()
            acceptor.close()
            await self.gate.close()
            await self.shared.attending.close()

        with (
            patch.object(session, "environment", self._environment),
            patch.object(server, "WATCH_SECONDS", 0.1),
            patch.object(attend, "WATCH_SECONDS", 0.1),
            patch.object(server, "CLOSE_SECONDS", 0.2),
        ):
            asyncio.run(run())

    def _environment(self, *args: Any) -> dict[bytes, bytes]:
        """An empty home for processes that run on this host: bash reads ~/.bashrc when it sees SSH_CLIENT."""
        return environment(*args) | {b"HOME": bytes(self._home)}

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the gateway's loop."""

        async def run() -> T:
            return function()

        return self.wait(run())

    def wait(self, coroutine: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        """Run `coroutine` on the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def forget_limits(self) -> None:
        """Nobody connected, nobody guessed."""
        self.shared.keeper.admission = Admission()
        self.shared.keeper.guessing = Guessing()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the gateway's loop did not end"


@dataclass
class Person:
    """Somebody with an account: how they log in."""

    name: str
    stage: GatewayStage
    key: Path
    workspace: Workspace | None = None

    def line(self, *options: str, workspace: str | None = None) -> list[str]:
        """An `ssh` command up to the destination."""
        login = f"{self.name}+{workspace}" if workspace else self.name
        return [
            *("ssh", "-F", "/dev/null", "-i", str(self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={self.stage.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "LogLevel=ERROR", "-p", str(self.stage.port), *options, f"{login}@127.0.0.1"),
        ]

    def run(
        self, *command: str, stdin: bytes = b"", options: tuple[str, ...] = (), workspace: str | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command with OpenSSH's client."""
        return subprocess.run(
            [*self.line(*options, workspace=workspace), *command], input=stdin, capture_output=True, timeout=30
        )

    def connect(self, **options: Any) -> Any:
        """asyncssh's client, as an async context manager; `options` override."""
        given: dict[str, Any] = {
            "username": self.name,
            "client_keys": [str(self.key)],
            "known_hosts": str(self.stage.known_hosts),
            "config": None,
            "agent_path": None,
        }
        return asyncssh.connect("127.0.0.1", self.stage.port, **{**given, **options})


@dataclass
class GatewayStage:
    """A state directory with its store, engine and running gateway."""

    home: Path
    engine: Engine
    store: Store = field(init=False)
    lifecycle: Lifecycle = field(init=False)
    gateway: GatewayThread = field(init=False)
    image: str = IMAGE

    def open(self) -> None:
        self.store = Store.open(self.home / "workspaces.db")
        self.lifecycle = Lifecycle(self.store, self.engine, self.home / "locks")
        self.store.add_challenge(CHALLENGE, self.image, actor="chief")
        self.start()

    def start(self) -> None:
        """Start a gateway, on another port than the one before."""
        self.gateway = GatewayThread(self.store, self.lifecycle, self.home / "keys")
        public = (self.home / "keys" / f"{NAME}.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")

    def close(self) -> None:
        self.gateway.close()
        self.store.close()

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    def person(self, name: str, *, challenge: str | None = CHALLENGE, password: bool = False) -> Person:
        """Make an account with a key and a workspace."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        path = self.home / f"id_{name}"
        key.write_private_key(path)
        path.chmod(0o600)
        accounts.create_user(self.store, name, actor="chief", challenge=challenge, key=key.export_public_key().decode())
        if password:
            self.store.set_password_hash(name, PASSWORD_HASH, actor="chief")
        workspace = self.store.workspace(f"{challenge}/{name}") if challenge else None
        return Person(name, self, path, workspace)


@contextmanager
def memory_stage(home: Path, engine: Engine | None = None) -> Iterator[GatewayStage]:
    """A gateway over an in-memory engine in directory `home`."""
    (home / "locks").mkdir()
    guest.install(home / "guest")
    stage = GatewayStage(home, engine or memory_engine(home))
    stage.open()
    try:
        yield stage
    finally:
        stage.close()
        stage.engine.close()


def memory_engine(home: Path) -> MemoryEngine:
    """An in-memory engine with the test image, an empty one: its processes see this host's files."""
    engine = MemoryEngine(home / "engine", home / "guest")
    with tarfile.open(home / "rootfs.tar", "w"):
        pass
    engine.import_rootfs(home / "rootfs.tar", IMAGE, ImageConfig())
    return engine


def whoami(person: Person, **options: object) -> str:
    """The workspace and the name that a login gets; asyncssh's errors when it is refused."""

    async def run() -> str:
        async with person.connect(**options) as connection:
            return str((await connection.run("echo $WORKSPACE $WORKSPACE_USER")).stdout).strip()

    return asyncio.run(run())


def by_password(person: Person, password: str = PASSWORD, **options: object) -> str:
    """The same with a password alone."""
    return whoami(person, **{"client_keys": None, "password": password, **options})


def until(condition: Callable[[], object], seconds: float = 30, what: str = "") -> None:
    """Wait until `condition` holds; for things that happen in another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what or condition}"
        time.sleep(0.01)


def descriptors() -> int:
    """How many pipes and sockets this process has open. A store opens files for each thread that uses it."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(("pipe:", "socket:"))
    return count
