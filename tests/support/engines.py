"""Engines for tests: a private Docker of the tests' own, started once, and images made here.

    private_engine (session) ─► docker_engine (one instance for each test) ─► containers, removed by prefix
    guest_dir, tiny_image, base_image (session)

Several modules may import these fixtures; what is made for the session is kept in one place, so that it is made once.
A test that fails prints the state and the log of its containers.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from tests.support.netns import Namespace
from tests.support.rootfs import tiny_rootfs
from workspaces import guest
from workspaces.engine import bootstrap, processes
from workspaces.engine.base import LABEL_INSTANCE, ContainerSpec, Engine, ImageConfig
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.memory import MemoryEngine
from workspaces.engine.private import PrivateEngine
from workspaces.errors import EngineUnavailable
from workspaces.model import Limits, Mount, Network

TINY = "workspaces-test/tiny:1"
DEBIAN = "workspaces-test/debian:1"
CONFIG = ImageConfig(
    {"Env": ["PATH=/bin:/usr/bin", "LANG=C.UTF-8"], "Cmd": ["/bin/sh"], "User": "bobby", "WorkingDir": "/home/bobby"}
)
_numbers = itertools.count(os.getpid() << 16)
_session: dict[str, PrivateEngine | Path] = {}


def new_instance() -> str:
    """Twelve hexadecimal digits, as a store makes them, that no other test here has."""
    return f"{next(_numbers):012x}"


def cache_directory() -> Path:
    """Where a bootstrapped image is kept between runs of the tests."""
    default = Path(tempfile.gettempdir()) / "workspaces-test-cache"
    return Path(os.environ.get("WORKSPACES_TEST_CACHE") or default)


def spec(name: str, image: str = TINY, **changes: object) -> ContainerSpec:
    """A small container; `changes` are fields of ContainerSpec or of Limits, and `mounts` as pairs."""
    limits = Limits(
        cpus=float(str(changes.get("cpus", 1))),
        memory=int(str(changes.get("memory", 128 << 20))),
        pids=int(str(changes.get("pids", 64))),
    )
    network = changes.get("network", Network.NONE)
    mounts = changes.get("mounts", ())
    assert isinstance(network, Network)
    assert isinstance(mounts, tuple)
    labels = {"test": name}
    return ContainerSpec(name, image, "box", limits, network, tuple(Mount(*pair) for pair in mounts), labels)


@pytest.fixture(scope="session")
def guest_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What containers see at GUEST_MOUNT, with the real agent."""
    if "guest" not in _session:
        directory = tmp_path_factory.mktemp("guest") / "guest"
        guest.install(directory)
        _session["guest"] = directory
    found = _session["guest"]
    assert isinstance(found, Path)
    return found


@pytest.fixture(scope="session")
def private_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PrivateEngine:
    """A Docker daemon of this session's own, stopped at its end."""
    if "engine" not in _session:
        directory = tmp_path_factory.mktemp("engine") / "engine"
        engine = PrivateEngine(directory)

        def end() -> None:
            engine.stop()
            shutil.rmtree(directory)

        request.config.add_cleanup(end)
        engine.start()
        _session["engine"] = engine
    found = _session["engine"]
    assert isinstance(found, PrivateEngine)
    return found


@pytest.fixture(scope="session")
def tiny_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of a few megabytes, without any download."""
    if "tiny" not in _session:
        _session["tiny"] = tiny_rootfs(tmp_path_factory.mktemp("rootfs") / "tiny.tar")
    found = _session["tiny"]
    assert isinstance(found, Path)
    return found


@pytest.fixture(scope="session")
def tiny_image(private_engine: PrivateEngine, guest_dir: Path, tiny_tar: Path) -> str:
    """`tiny_tar` as an image of the private engine."""
    return _once(private_engine, guest_dir, TINY, lambda engine: engine.import_rootfs(tiny_tar, TINY, CONFIG))


@pytest.fixture(scope="session")
def base_image(private_engine: PrivateEngine, guest_dir: Path) -> str:
    """A Debian built as `workspaces image build` does."""
    return _once(
        private_engine,
        guest_dir,
        DEBIAN,
        lambda engine: bootstrap.build(engine, DEBIAN, (), None, lambda *_: None, cache=cache_directory()),
    )


def _once(private: PrivateEngine, guest_dir: Path, reference: str, make: Callable[[Engine], object]) -> str:
    engine = DockerEngine(private.host, guest_dir, new_instance())
    try:
        if engine.image(reference) is None:
            make(engine)
    finally:
        engine.close()
    return reference


@pytest.fixture
def docker_engine(
    request: pytest.FixtureRequest, private_engine: PrivateEngine, guest_dir: Path
) -> Iterator[DockerEngine]:
    """The private engine for one test, with an instance of its own; what the test made is removed."""
    yield from docker_engine_at(private_engine.host, guest_dir, request.session)


def docker_engine_at(host: str, guest_dir: Path, session: pytest.Session) -> Iterator[DockerEngine]:
    """The same for any daemon."""
    engine = DockerEngine(host, guest_dir, new_instance())
    failed_before = session.testsfailed
    ours = {LABEL_INSTANCE: engine.instance}
    yield engine
    containers = engine.containers(ours)
    if session.testsfailed > failed_before:
        for container in containers:
            print(container)
            print(engine.quick().logs(container.name, tail=20).decode(errors="replace"))
    for container in containers:
        engine.remove(container.name)
    for image in engine.images(ours):
        engine.remove_image(image.id)
    engine.retire()
    engine.close()


@contextmanager
def plain_dockerd(namespace: Namespace) -> Iterator[str]:
    """A Docker as a distribution starts it, with rules and a default bridge, in `namespace`; its URL."""
    directory = Path(tempfile.mkdtemp(prefix="docker-"))  # short, because its sockets lie there
    host = f"unix://{directory}/docker.sock"
    (directory / "none.json").write_text("{}", encoding="ascii")
    command = [
        "dockerd", f"--data-root={directory}/data", f"--exec-root={directory}/run", f"--pidfile={directory}/pid",
        f"--host={host}", f"--config-file={directory}/none.json",
        "--default-address-pool=base=10.77.0.0/16,size=24",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log:
        daemon = namespace.run(lambda: subprocess.Popen(command, stdout=log, stderr=log))
    try:
        probe = DockerEngine(host, directory, new_instance())
        until(lambda: _answers(probe))
        probe.close()
        yield host
    finally:
        daemon.terminate()
        daemon.wait(30)
        processes.unmount_below(directory)
        shutil.rmtree(directory)


def _answers(engine: Engine) -> bool:
    try:
        engine.info()
    except EngineUnavailable:
        return False
    return True


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def shell(engine: Engine, name: str, script: str, user: str = "0") -> tuple[int, str]:
    """Run a script inside a container, as `docker exec` does; returns status and output.

    Docker only: the in-memory engine's containers share this host's files.
    """
    assert isinstance(engine, DockerEngine)
    client = docker.APIClient(base_url=engine.host, version="auto", timeout=60)
    try:
        made = client.exec_create(name, ["/bin/sh", "-c", script], user=user)["Id"]
        output: bytes = client.exec_start(made)
        return int(client.exec_inspect(made)["ExitCode"]), output.decode(errors="replace")
    finally:
        client.close()


def write(engine: Engine, name: str, path: str, data: str) -> None:
    """Write a file in a container of either engine."""
    if isinstance(engine, MemoryEngine):
        target = engine.rootfs(name) / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(data, encoding="utf-8")
        return
    status, said = shell(engine, name, f"mkdir -p {path.rpartition('/')[0]}/ && printf %s '{data}' > {path}")
    assert status == 0, said


def delete(engine: Engine, name: str, path: str) -> None:
    """Delete a file in a container of either engine."""
    if isinstance(engine, MemoryEngine):
        (engine.rootfs(name) / path.lstrip("/")).unlink()
        return
    status, said = shell(engine, name, f"rm {path}")
    assert status == 0, said
