"""The private engine: beside another daemon, killed, started by what ends, and stopped without a trace.

Everything runs in a network namespace of the test's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.engines import (
    CONFIG,
    TINY,
    guest_dir,
    new_instance,
    plain_dockerd,
    shell,
    spec,
    tiny_tar,
    until,
)
from tests.support.netns import Namespace
from workspaces.engine import firewall, guestsocket, private, processes
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine
from workspaces.errors import EngineUnavailable, HostError
from workspaces.model import Network

pytestmark = pytest.mark.docker
__all__ = ["guest_dir", "tiny_tar"]


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


@pytest.fixture
def engine(host: Namespace, tmp_path: Path) -> Iterator[PrivateEngine]:
    made = PrivateEngine(tmp_path / "state" / "engine")
    made.directory.parent.mkdir(mode=0o700)
    yield made
    host.run(made.stop)
    assert traces(made) == []
    assert not (firewall.RUN_DIR / f"net-{host.inode}").exists()


def traces(engine: PrivateEngine) -> list[str]:
    """Processes, control groups, mounts and directories of an engine; its data do not count."""
    words = (str(engine.directory), str(engine.run_dir))
    found = processes.find(lambda argv: any(word in part for part in argv for word in words))
    mounts = processes.mounts_below(engine.directory, engine.run_dir)
    groups = processes.cgroups({path.name for path in engine.directory.glob("data/*/containers/*")})
    return [*map(str, found), *map(str, groups), *mounts, *([str(engine.run_dir)] if engine.run_dir.exists() else [])]


def daemons(engine: PrivateEngine) -> list[int]:
    wanted = ("dockerd", "containerd")
    return processes.find(lambda argv: argv[0].endswith(wanted) and str(engine.directory) in argv[-1])


@pytest.fixture
def docker_engine(host: Namespace, engine: PrivateEngine, guest_dir: Path, tiny_tar: Path) -> Iterator[DockerEngine]:
    """Started, with an image and the running containers `ann` (network open) and `ben` (none)."""
    host.run(engine.start)
    made = DockerEngine(engine.host, guest_dir, new_instance())
    made.import_rootfs(tiny_tar, TINY, CONFIG)
    host.run(made.prepare)
    for name, network in (("ann", Network.OPEN), ("ben", Network.NONE)):
        made.ensure_container(spec(name, network=network))
        host.run(lambda name=name: made.start(name))  # type: ignore[misc]
    yield made
    made.close()


def kill(*pids: int) -> None:
    processes.end(list(pids), 0)


def test_stop_leaves_nothing_and_start_brings_containers_back(
    host: Namespace, engine: PrivateEngine, docker_engine: DockerEngine
) -> None:
    shell(docker_engine, "ann", "echo kept > /root/note")
    host.run(engine.stop)
    assert traces(engine) == []
    state = host.state()
    assert state["links"] == "lo"
    assert state["rules"] == ""
    assert state["forwarding"] == "0"
    with pytest.raises(EngineUnavailable):
        docker_engine.container("ann")
    host.run(engine.start)
    assert docker_engine.container("ann").state == "exited"  # type: ignore[union-attr]
    host.run(lambda: docker_engine.start("ann"))
    assert shell(docker_engine, "ann", "cat /root/note") == (0, "kept\n")
    assert docker_engine.bridge_name in host.state()["rules"]


def test_start_and_stop_may_be_repeated(host: Namespace, engine: PrivateEngine) -> None:
    assert not engine.exists()
    engine.stop()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: host.run(engine.start), range(4)))
    status = engine.status()
    assert status.answers
    assert len(processes.find(lambda argv: argv[0].endswith("dockerd") and str(engine.directory) in argv[-1])) == 1
    host.run(engine.start)
    assert engine.status() == status
    assert engine.exists()
    host.run(engine.stop)
    host.run(engine.stop)
    assert engine.status().pid is None


def test_killed_dockerd_is_started_again_beneath_running_containers(
    host: Namespace, engine: PrivateEngine, docker_engine: DockerEngine
) -> None:
    before = {name: docker_engine.quick().inspect_container(name)["State"]["Pid"] for name in ("ann", "ben")}
    for _ in range(2):
        pid = engine.status().pid
        assert pid is not None
        kill(pid)
        assert not engine.status().answers
        host.run(engine.start)
        for name, process in before.items():
            assert docker_engine.quick().inspect_container(name)["State"]["Pid"] == process
            assert guestsocket.accepts(docker_engine.guest_socket(name)), name
    # the daemon has lost count of the volume's mounts by now: what is left of it must not be in anybody's way
    docker_engine.stop("ben")
    (docker_engine.guest_socket("ben").parent / "left").mkdir()
    docker_engine.start("ben")
    assert not (docker_engine.guest_socket("ben").parent / "left").exists()
    docker_engine.remove("ben")
    docker_engine.ensure_container(spec("ben"))
    docker_engine.start("ben")
    docker_engine.remove("ben")
    host.run(engine.stop)
    host.run(engine.start)
    volumes = docker_engine.quick().volumes()["Volumes"]
    assert [volume["Name"] for volume in volumes] == ["ann.run"]


def test_all_daemons_killed(host: Namespace, engine: PrivateEngine, docker_engine: DockerEngine) -> None:
    ours = processes.find(
        lambda argv: argv[0].endswith(("dockerd", "containerd")) and str(engine.directory) in argv[-1]
    )
    assert len(ours) == 2
    kill(*ours)
    host.run(engine.start)
    assert guestsocket.accepts(docker_engine.guest_socket("ann"))
    shims = processes.find(lambda argv: "shim" in argv[0] and str(engine.run_dir) in argv[-1])
    pid = docker_engine.quick().inspect_container("ann")["State"]["Pid"]
    assert len(shims) == 2
    ours = processes.find(
        lambda argv: argv[0].endswith(("dockerd", "containerd")) and str(engine.directory) in argv[-1]
    )
    kill(*ours, *shims)
    host.run(engine.stop)
    until(lambda: not Path(f"/proc/{pid}").exists())  # a zombie until init takes notice


def test_it_outlives_who_started_it(host: Namespace, engine: PrivateEngine) -> None:
    code = "import sys, pathlib, workspaces.engine.private as p; p.PrivateEngine(pathlib.Path(sys.argv[1])).start()"
    command = (sys.executable, "-c", code, str(engine.directory))
    starter = host.run(lambda: subprocess.Popen(command, start_new_session=True))
    assert starter.wait(30) == 0
    pid = engine.status().pid
    assert pid is not None
    assert os.getsid(pid) != starter.pid
    assert engine.status().answers


def test_a_path_longer_than_a_sockets(host: Namespace, tmp_path: Path) -> None:
    engine = PrivateEngine(tmp_path / ("long" * 20) / ("path" * 20) / "engine")
    try:
        host.run(engine.start)
        assert engine.status().answers
        assert len(os.fsencode(engine.socket)) < 100
    finally:
        host.run(engine.stop)
    assert traces(engine) == []


def test_what_is_missing_is_told(engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "PROGRAMS", ("runc", "no-such-runc"))
    with pytest.raises(HostError, match="needs no-such-runc"):
        engine.start()
    assert not engine.exists()


def test_a_daemon_that_cannot_start_tells_why(
    host: Namespace, engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = PrivateEngine._network

    def broken(self: PrivateEngine) -> None:
        network(self)
        file = self.directory / "daemon.json"
        file.write_text(
            file.read_text(encoding="utf-8").replace('"live-restore"', '"no-such-setting"'), encoding="utf-8"
        )

    monkeypatch.setattr(PrivateEngine, "_network", broken)
    with pytest.raises(HostError, match="dockerd ended at once") as caught:
        host.run(engine.start)
    assert "no-such-setting" in caught.value.hint
    assert "dockerd.log" in caught.value.hint


def test_another_daemon_is_left_as_it_is(
    host: Namespace, engine: PrivateEngine, guest_dir: Path, tiny_tar: Path
) -> None:
    """A daemon with rules, a default bridge, a network and a container of its own, in the same namespace."""
    with plain_dockerd(host) as url:
        theirs = DockerEngine(url, guest_dir, new_instance())
        theirs.import_rootfs(tiny_tar, TINY, CONFIG)
        api = theirs.quick()
        api.create_network("theirs")
        made = api.create_container(TINY, ["sleep", "1000"], host_config=api.create_host_config(network_mode="theirs"))
        api.start(made["Id"])
        before = host.state()
        assert "docker0" in before["links"]
        assert "DOCKER-USER" in before["rules"]

        host.run(engine.start)
        ours = DockerEngine(engine.host, guest_dir, new_instance())
        ours.import_rootfs(tiny_tar, TINY, CONFIG)
        host.run(ours.prepare)
        ours.ensure_container(spec("ann", network=Network.OPEN))
        host.run(lambda: ours.start("ann"))
        during = host.state()
        assert ours.bridge_name in during["rules"]
        for kind in ("rules", "addresses", "routes"):
            kept = [line for line in during[kind].splitlines() if line in before[kind].splitlines()]
            assert kept == before[kind].splitlines(), kind
        ours.close()

        host.run(engine.stop)
        assert host.state() == before
        assert api.inspect_container(made["Id"])["State"]["Running"]
        api.remove_container(made["Id"], force=True)
        theirs.close()
