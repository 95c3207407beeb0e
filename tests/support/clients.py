"""A participant's own computer for the tests with other people's programs: keys and settings as a person has them.

    stage (gateway process, Docker) ──► alice (account, container) ──► laptop (ssh_config with `Host gate`, keys)
                                                                 └──► nothing_left, after each test

Modules import the fixtures; each module gets a gateway and a container of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from tests.support.engines import base_image, guest_dir, private_engine
from tests.support.gateway import Person
from tests.support.gatewayprocess import ProcessStage, docker_stage
from tests.support.leftovers import Leftovers
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine

__all__ = ["alice", "base_image", "guest_dir", "laptop", "nothing_left", "private_engine", "quiet", "stage"]

SETTINGS = """\
Host gate
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {key}
    UserKnownHostsFile {known_hosts}
"""


@dataclass(frozen=True)
class Laptop:
    """`home` is the person's home directory here, `root` their workspace's file system as this host sees it."""

    person: Person
    home: Path
    root: Path

    @property
    def config(self) -> Path:
        """What would be ~/.ssh/config, which OpenSSH finds by the account and not by HOME."""
        return self.home / ".ssh/config"

    @property
    def port(self) -> str:
        return str(self.person.stage.port)

    @property
    def address(self) -> str:
        return f"{self.person.name}@127.0.0.1"

    @property
    def host_key(self) -> str:
        """The gateway's key as `SHA256:…`."""
        found = self.run("ssh-keygen", "-l", "-f", str(self.person.stage.known_hosts))
        return found.stdout.split()[1].decode()

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return kept | {"HOME": str(self.home), "LC_ALL": "C.UTF-8", "GIT_SSH_COMMAND": f"ssh -F {self.config}"}

    def ssh(self, *arguments: str) -> list[str]:
        return ["ssh", "-F", str(self.config), *arguments]

    def run(
        self,
        *command: str | bytes,
        stdin: bytes = b"",
        status: int = 0,
        cwd: Path | None = None,
        more: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program of this computer, with `more` in its environment; it must end with `status`."""
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            cwd=cwd or self.home,
            env={**self.environment, **(more or {})},
            timeout=seconds,
        )
        said = (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
        assert done.returncode == status, f"{command} ended with {done.returncode}: {said}"
        return done

    def popen(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program of this computer with pipes."""
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment
        )

    def there(self, path: str) -> Path:
        """A file in the workspace, below its root user's home."""
        return self.root / "root" / path

    def put(self, path: str, content: bytes) -> Path:
        """Make a file in the workspace, its root user's own."""
        file = self.there(path)
        file.write_bytes(content)
        owner = file.parent.stat()
        os.chown(file, owner.st_uid, owner.st_gid)
        return file

    def clear(self) -> None:
        """Empty both homes but for their settings."""
        for directory in (self.home, self.root / "root"):
            for entry in directory.iterdir():
                if not entry.name.startswith("."):
                    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


@pytest.fixture(scope="module")
def stage(
    private_engine: PrivateEngine, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessStage]:
    with docker_stage(tmp_path_factory.mktemp("gateway"), private_engine.host, base_image) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: ProcessStage) -> Person:
    person = stage.person("alice", password=True)
    done = person.run("true")
    assert (done.returncode, done.stderr) == (0, b""), done.stderr + stage.log().encode()
    return person


@pytest.fixture(scope="module")
def quiet(stage: ProcessStage, alice: Person) -> Leftovers:
    """How gateway and container are when nobody is logged in, but the gateway attends the workspace."""
    assert alice.run("snapshot list").returncode == 0
    return Leftovers(stage.process.pid, stage.port, process_one(stage, alice))


@pytest.fixture
def nothing_left(quiet: Leftovers) -> Iterator[None]:
    yield
    quiet.settle()


@pytest.fixture
def laptop(stage: ProcessStage, alice: Person, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A computer with empty homes here and there."""
    home = tmp_path_factory.mktemp("laptop")
    made = Laptop(alice, home, Path(f"/proc/{process_one(stage, alice)}/root"))
    made.config.parent.mkdir(mode=0o700)
    made.config.write_text(
        SETTINGS.format(port=stage.port, user=alice.name, key=alice.key, known_hosts=stage.known_hosts)
    )
    made.clear()
    yield made
    made.clear()


def process_one(stage: ProcessStage, person: Person) -> int:
    """The container's process 1, by the host's number."""
    assert isinstance(stage.engine, DockerEngine)
    client = docker.APIClient(base_url=stage.engine.host, version="auto")
    try:
        return int(client.inspect_container(stage.containers(person)[0].name)["State"]["Pid"])
    finally:
        client.close()


def random_file(path: Path, size: int) -> Path:
    """A file of `size` bytes that nothing compresses."""
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 1 << 20)))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(path: Path) -> dict[str, tuple[int, int, str]]:
    """What is below a directory: mode, time in seconds, and content or target."""
    found = {}
    for entry in sorted(path.rglob("*")):
        state = entry.lstat()
        content = os.readlink(entry) if entry.is_symlink() else digest(entry) if entry.is_file() else ""
        when = 0 if entry.is_dir() or entry.is_symlink() else int(state.st_mtime)
        found[os.fsencode(entry.relative_to(path)).decode(errors="backslashreplace")] = state.st_mode, when, content
    return found


def plant(path: Path) -> dict[str, tuple[int, int, str]]:
    """Make a directory with everything that a copy may get wrong; returns its `tree`."""
    path.mkdir()
    (path / "deep/er").mkdir(parents=True)
    (path / "deep/er/file").write_bytes(bytes(range(256)) * 100)
    (path / "empty").touch()
    (path / "a name with 'quotes', ünïcödé and $(blanks)").write_text("odd\n")
    (path / "-leading-dash").write_text("dash\n")
    (path / "program").write_text("#!/bin/sh\necho ran\n")
    (path / "program").chmod(0o755)
    (path / "secret").write_text("s\n")
    (path / "secret").chmod(0o600)
    random_file(path / "random", 3_000_000)
    for entry in path.rglob("*"):
        os.utime(entry, (1_700_000_000, 1_700_000_001))
    return tree(path)
