"""The gateway as it is run, `workspaces gateway`, over a real engine; killed and started again by tests."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sshgate.hostkey import NAME, ensure_host_key
from tests.support.gateway import CHALLENGE, GatewayStage, GatewayThread, Person
from workspaces import guest
from workspaces.engine.base import LABEL_INSTANCE, ContainerInfo
from workspaces.engine.dockerd import DockerEngine
from workspaces.lifecycle import Lifecycle
from workspaces.store import Store


@dataclass
class ProcessStage(GatewayStage):
    """A state directory whose gateway is a process of its own, always on the same port."""

    process: subprocess.Popen[bytes] = field(init=False)
    number: int = field(init=False)
    gateway: GatewayThread = field(init=False, repr=False)  # there is none

    def open(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.number = int(probe.getsockname()[1])
        assert isinstance(self.engine, DockerEngine)
        (self.home / "workspaces.toml").write_text(
            f'[gateway]\nlisten = "127.0.0.1:{self.port}"\n[engine]\nhost = "{self.engine.host}"\n', encoding="ascii"
        )
        for directory in ("keys", "locks", "log"):
            (self.home / directory).mkdir(mode=0o700)
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
        command = [sys.executable, "-m", "workspaces.cli", "--home", str(self.home), "gateway"]
        with (self.home / "log" / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--ready-fd", str(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write_end],
            )
        os.close(write_end)
        with open(ready, "rb") as pipe:
            assert pipe.readline().startswith(b"ready"), self.log()

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
        """The most bytes of memory that the gateway ever had."""
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) << 10

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
