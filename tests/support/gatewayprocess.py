"""The gateway as it is run, `workspaces gateway` with its workers, killed and started again by tests.

Over a real engine, or over the in-memory one: its containers live in the test's process, so the gateway's processes get
a stand-in that knows where their sockets are, by a `sitecustomize` that Python imports before all else. What a test
writes there besides is what "another version of the program" means.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from sshgate.hostkey import NAME, ensure_host_key
from tests.support.gateway import CHALLENGE, GatewayStage, GatewayThread, Person, memory_engine, until
from workspaces import guest
from workspaces.engine.base import LABEL_INSTANCE, ContainerInfo
from workspaces.engine.dockerd import DockerEngine
from workspaces.lifecycle import Lifecycle
from workspaces.store import Store

TOOK_OVER = r"workers, listening on|does not start, so this goes on"
STAND_IN = """
import sys
from pathlib import Path
import workspaces.engine
from workspaces.errors import EngineUnavailable

class Away:
    def prepare(self):
        pass

    def close(self):
        pass

    def guest_socket(self, name):
        return Path("{engine}") / "containers" / name / "run" / "agent.sock"

    def __getattr__(self, name):
        def method(*args, **kwargs):
            raise EngineUnavailable("The engine is in the test's process.")
        return method

workspaces.engine.open_engine = lambda *args, **kwargs: Away()

if "sshgate.worker" in sys.orig_argv:
    import sshgate.environment
    original = sshgate.environment.environment
    # bash reads ~/.bashrc when it sees SSH_CLIENT
    sshgate.environment.environment = lambda *args: original(*args) | {{b"HOME": b"{empty}"}}
"""

FEW = """
from sshgate import limits
limits.MAX_UNAUTHENTICATED = 60
limits.MAX_UNAUTHENTICATED_ADDRESS = 6
limits.MAX_ACCOUNT_CONNECTIONS = 4
limits.MAX_ACCOUNT_SESSIONS = 3
"""


@dataclass
class ProcessStage(GatewayStage):
    """A state directory whose gateway is a process of its own, always on the same port."""

    process: subprocess.Popen[bytes] = field(init=False)
    number: int = field(init=False)
    workers: int = 2
    code: str = ""  # of the program's "version"
    gateway: GatewayThread = field(init=False, repr=False)  # there is none

    def open(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.number = int(probe.getsockname()[1])
        host = self.engine.host if isinstance(self.engine, DockerEngine) else "unix:///nowhere"
        (self.home / "workspaces.toml").write_text(
            f'[gateway]\nlisten = "127.0.0.1:{self.port}"\nprocesses = {self.workers}\n[engine]\nhost = "{host}"\n',
            encoding="ascii",
        )
        for directory in ("keys", "locks", "log", "code", "empty"):
            (self.home / directory).mkdir(mode=0o700)
        self.write_code(self.code)
        ensure_host_key(self.home / "keys")
        public = (self.home / "keys" / f"{NAME}.pub").read_text(encoding="ascii")
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}", encoding="ascii")
        self.store = Store.open(self.home / "workspaces.db")
        self.lifecycle = Lifecycle(self.store, self.engine, self.home / "locks")
        self.store.add_challenge(CHALLENGE, self.image, actor="chief")
        self.start()

    def start(self) -> None:
        """Start the gateway, and return once it answers."""
        ready, write_end = os.pipe()
        with (self.home / "log" / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command(), "gateway", "--ready-fd", str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
                env=self.environment(),
            )
        os.close(write_end)
        with open(ready, "rb") as pipe:
            assert pipe.readline().startswith(b"ready"), self.log()

    def command(self) -> list[str]:
        return [sys.executable, "-m", "workspaces.cli", "--home", str(self.home)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.home / "code")}

    def write_code(self, code: str) -> None:
        """What each process runs first from now on. With a real engine, nothing."""
        if not isinstance(self.engine, DockerEngine):
            text = STAND_IN.format(engine=self.home / "engine", empty=self.home / "empty")
            (self.home / "code" / "sitecustomize.py").write_text(f"{text}\n{code}\n", encoding="utf-8")

    def children(self) -> dict[int, int]:
        """Process id and that of its coordinator, of all workers that this gateway ever logged, and that are there."""
        found = {}
        for pid in {int(text) for text in re.findall(r"gateway-worker\[(\d+)\]", self.log())}:
            with suppress(FileNotFoundError, ProcessLookupError):
                state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    found[pid] = int(parent)
        return found

    def logged_in(self, name: str) -> list[int]:
        """The workers where logins of `name` landed, in order."""
        return [int(pid) for pid in re.findall(rf"gateway-worker\[(\d+)\].*: {name} logged in", self.log())]

    def renew(self) -> None:
        """Ask for a takeover; return when the log tells how it went."""
        said = len(re.findall(TOOK_OVER, self.log()))
        self.process.send_signal(signal.SIGHUP)
        until(lambda: len(re.findall(TOOK_OVER, self.log())) > said, 60, "the takeover")

    def kill(self) -> None:
        """As the kernel does when memory is short: without a word."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self.store.close()

    @property
    def port(self) -> int:
        return self.number

    def log(self) -> str:
        return (self.home / "log" / "gateway.log").read_text(errors="replace")

    def most_memory(self) -> int:
        """The most bytes of memory that each of the gateway's processes ever had, together."""
        total = 0
        for pid in (self.process.pid, *self.children()):
            found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert found
            total += int(found[1]) << 10
        return total

    def containers(self, person: Person) -> list[ContainerInfo]:
        """All that are this person's, in whatever state."""
        assert person.workspace
        name = self.lifecycle.container_name(person.workspace)
        return [info for info in self.engine.containers({LABEL_INSTANCE: self.store.instance}) if info.name == name]


@contextmanager
def docker_stage(home: Path, host: str, image: str) -> Iterator[ProcessStage]:
    """A gateway process over the Docker at `host`; containers and network are removed afterwards."""
    guest.install(home / "guest")
    store = Store.open(home / "workspaces.db")
    engine = DockerEngine(host, home / "guest", store.instance)
    store.close()
    stage = ProcessStage(home, engine, image)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()
        for info in engine.containers({LABEL_INSTANCE: engine.instance}):
            engine.remove(info.name)
        engine.retire()
        engine.close()


@contextmanager
def memory_process_stage(home: Path, code: str = "", workers: int = 2) -> Iterator[ProcessStage]:
    """A gateway process with `workers` over an in-memory engine. Workspaces must run before somebody logs in."""
    guest.install(home / "guest")
    stage = ProcessStage(home, memory_engine(home), workers=workers, code=code)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()
        stage.engine.close()


def running_person(stage: ProcessStage, name: str, *, password: bool = False) -> Person:
    """Somebody whose workspace runs."""
    made = stage.person(name, password=password)
    assert made.workspace
    stage.lifecycle.ensure_running(made.workspace.id)
    return made


def ended(pids: list[int]) -> list[int]:
    """Handles that are readable when the process has ended."""
    return [os.pidfd_open(pid) for pid in pids]


def wait_for(handles: list[int]) -> None:
    for handle in handles:
        assert select.select([handle], [], [], 15)[0], "a process did not end"
        os.close(handle)


def descriptors(pid: int) -> int:
    """How many sockets, pipes and processes another process has open."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sum(link.startswith(("socket:", "pipe:", "anon_inode:[pidfd]")) for link in links)


async def when_free(connection: asyncssh.SSHClientConnection, command: str = "true") -> Any:
    """A process, as soon as the account may have one more session: the end of another is known in milliseconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await connection.create_process(command)
            except asyncssh.ChannelOpenError:
                await asyncio.sleep(0.01)
