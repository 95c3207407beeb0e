"""Parts of the engines that need no container: errors, tars, changes, rules."""

from __future__ import annotations

import gzip
import ipaddress
import itertools
import json
import os
import socket
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests
import urllib3
from docker.errors import APIError

from tests.support.faulty_engine import FaultyEngine
from workspaces.engine import (
    changes,
    firewall,
    guestsocket,
    hostnet,
    imagetar,
    layers,
    processes,
)
from workspaces.engine.base import ImageConfig
from workspaces.engine.connection import docker_errors, stream_events
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import (
    Conflict,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    HostError,
    NoSpace,
    NotFound,
    WorkspacesError,
)

# errors


def api_error(status: int, text: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("x", response=response, explanation=text)


def timed_out() -> requests.ConnectionError:
    """A read that times out while a body is streamed."""
    pool = urllib3.HTTPConnectionPool("localhost")
    return requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(pool, "/", "Read timed out."))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (api_error(404, "No such container"), NotFound),
        (api_error(409, "name in use"), Conflict),
        (api_error(500, "something"), EngineError),
        (api_error(500, "write /x: no space left on device"), NoSpace),
        (api_error(500, "disk quota exceeded"), NoSpace),
        (requests.ReadTimeout(), EngineTimeout),
        (requests.ConnectTimeout(), EngineTimeout),
        (timed_out(), EngineTimeout),
        (requests.ConnectionError(), EngineUnavailable),
        (requests.exceptions.ChunkedEncodingError(), EngineUnavailable),
        (urllib3.exceptions.ProtocolError(), EngineUnavailable),
        (ConnectionResetError(), EngineUnavailable),
        (TimeoutError(), EngineTimeout),
        (docker.errors.DockerException("cannot connect"), EngineUnavailable),
        (ValueError("not JSON"), EngineError),
    ],
    ids=repr,
)
def test_every_foreign_error_becomes_ours(raised: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="try this") as caught, docker_errors("try this"):
        raise raised
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


def test_no_error_of_the_docker_library_is_missed() -> None:
    for kind in vars(docker.errors).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            error = kind.__new__(kind)
            Exception.__init__(error, "x")
            error.__dict__.update(response=None, explanation=None)
            with pytest.raises(WorkspacesError), docker_errors("try this"):
                raise error


def test_our_own_errors_pass() -> None:
    with pytest.raises(NoSpace), docker_errors("try this"):
        raise NoSpace("full")


def test_an_error_within_a_stream_is_raised() -> None:
    events: list[Any] = [{"status": "x"}, "junk", {"errorDetail": {"message": "no space left on device"}}]
    with pytest.raises(NoSpace):
        list(stream_events(events, "load it"))


# tars


def test_equal_configurations_have_equal_bytes() -> None:
    assert imagetar.config_bytes({"b": 1, "a": {"d": "ä", "c": 2}}) == '{"a":{"c":2,"d":"ä"},"b":1}'.encode()


@pytest.mark.parametrize(
    ("reference", "tagged"),
    [("a", "a:latest"), ("a:1", "a:1"), ("host:5000/a", "host:5000/a:latest"), ("host:5000/a/b:x", "host:5000/a/b:x")],
)
def test_references_get_a_tag(reference: str, tagged: str) -> None:
    assert imagetar.tagged(reference) == tagged


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("2026-01-02T03:04:05.123456789Z", 1767323045.123456789),
        ("2026-01-02T04:04:05+01:00", 1767323045.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
    ],
)
def test_times_of_docker(text: str, seconds: float) -> None:
    assert imagetar.timestamp(text) == pytest.approx(seconds)


def test_a_file_that_grows_while_it_is_read() -> None:
    layer = imagetar.Layer("sha256:0", 3, lambda: iter([b"four"]))
    with pytest.raises(EngineError, match="changed while it was read"):
        list(imagetar.write_tar(b"{}", [], ["sha256:0"], [layer]))


DAMAGED = gzip.compress(b"x" * 100)[:10] + b"\xff" * 100


@pytest.mark.parametrize(
    "head", [b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08broken", DAMAGED, b"\xfd7zXZ\x00broken", b"BZhbroken"]
)
def test_a_rootfs_that_cannot_be_decompressed(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "x").write_bytes(head)
    with pytest.raises(EngineError):
        imagetar.measure(tmp_path / "x")


def test_a_layer_stays_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x", encoding="ascii")
    for name in ("../outside", "a/../../outside", ".wh...", "a/.wh..."):
        with tarfile.open(tmp_path / "layer.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        (tmp_path / "top").mkdir(exist_ok=True)
        with pytest.raises(EngineError):
            layers.unpack(tmp_path / "layer.tar", tmp_path / "top")
    assert (tmp_path / "outside").read_text(encoding="ascii") == "x"


# changes


def test_sizes_are_read_without_leaving_the_container(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "d").mkdir(parents=True)
    (upper / "d" / "f").write_bytes(bytes(10))
    (tmp_path / "secret").write_bytes(bytes(99))
    (upper / "link").symlink_to(tmp_path / "secret")
    (upper / "out").symlink_to(tmp_path)
    os.mkfifo(upper / "fifo")
    found = [
        ("/d", "changed"),
        ("/d/f", "changed"),
        ("/link", "added"),
        ("/out/secret", "added"),
        ("/../secret", "added"),
        ("/fifo", "added"),
        ("/gone", "removed"),
        ("/no/such", "added"),
        ("/nul\0", "added"),
    ]
    report = changes.report(found, upper, "base:1", -1)
    sizes = {change.path: (change.kind, change.size) for change in report.entries}
    assert sizes == {
        "/d/f": ("changed", 10),
        "/link": ("added", 0),
        "/out/secret": ("added", 0),
        "/../secret": ("added", 0),
        "/fifo": ("added", 0),
        "/gone": ("removed", 0),
        "/no/such": ("added", 0),
        "/nul\0": ("added", 0),
    }
    assert (report.added, report.changed, report.removed, report.bytes) == (6, 1, 1, 10)
    modes = {change.path: change.mode for change in report.entries}
    assert stat.S_ISLNK(modes["/link"])
    assert stat.S_ISFIFO(modes["/fifo"])


def test_a_file_of_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(10))
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    report = changes.report([("/one", "added"), ("/two", "added")], tmp_path, "base:1", -1)
    assert [change.size for change in report.entries] == [10, 10]
    assert report.bytes == 10


def test_a_report_is_bounded_and_its_totals_are_not() -> None:
    found = [(f"/{n}", "added") for n in range(changes.ENTRIES_MAX + 7)]
    report = changes.report(found, None, "base:1", 5)
    assert len(report.entries) == changes.ENTRIES_MAX
    assert (report.added, report.bytes) == (changes.ENTRIES_MAX + 7, 5)


# the agent's socket


def test_only_a_socket_that_accepts_will_do(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    assert not guestsocket.accepts(path)
    path.write_text("x", encoding="ascii")
    assert not guestsocket.accepts(path)
    path.unlink()
    os.mkfifo(path)
    assert not guestsocket.accepts(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        assert not guestsocket.accepts(path)
        listener.listen()
        assert guestsocket.accepts(path)
        (tmp_path / "link").symlink_to(path)
        assert not guestsocket.accepts(tmp_path / "link")
    assert not guestsocket.accepts(path)


def test_waiting_ends_when_nobody_is_left(tmp_path: Path) -> None:
    assert not guestsocket.wait(tmp_path / "none", 60, lambda: False)
    assert not guestsocket.wait(tmp_path / "none", 0.05, lambda: True)


def test_clearing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x", encoding="ascii")
    run = tmp_path / "run"
    (run / "deep" / "er").mkdir(parents=True)
    (run / "link").symlink_to(tmp_path / "kept")
    guestsocket.clear(run)
    assert list(run.iterdir()) == []
    (tmp_path / "alias").symlink_to(tmp_path / "kept")
    guestsocket.clear(tmp_path / "alias")
    guestsocket.clear(tmp_path / "none")
    assert (tmp_path / "kept" / "file").exists()


# networks


def test_rules_name_every_private_range_and_the_name_servers() -> None:
    rules = firewall.Firewall("ws0", "10.1.0.0/20", routing=True).rules(["10.0.0.53"])
    out = rules["mangle"]["ws0-out"]
    allowed = "-d 10.0.0.53/32 -p udp -m udp --dport 53 -j RETURN"
    assert out.index(allowed) < out.index("-d 10.0.0.0/8 -j DROP")
    private_ranges = [ipaddress.IPv4Network(block) for block in firewall.PRIVATE]
    for text in ("10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.127.0.1", "127.0.0.1", "0.1.2.3",
                 "224.0.0.1", "255.255.255.255", "198.19.0.1"):  # fmt: skip
        assert any(ipaddress.IPv4Address(text) in block for block in private_ranges), text
    assert set(rules) == {"mangle", "filter", "nat"}
    assert set(firewall.Firewall("ws0", "10.1.0.0/20").rules([])) == {"mangle"}


def test_name_servers_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_text(
        "nameserver 127.0.0.53\nnameserver 10.2.3.4 # comment\n nameserver 10.1.1.1\n#nameserver 9.9.9.9\n"
        "nameserver fd00::1\nnameserver 999.1.1.1\nnameserver 10.1.1.1 -j ACCEPT\noptions x\n",
        encoding="ascii",
    )
    monkeypatch.setattr(firewall, "RESOLV_CONF", (tmp_path / "one", tmp_path / "none"))
    assert firewall.name_servers() == ["10.1.1.1", "10.2.3.4"]


def test_a_range_that_nothing_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [ipaddress.IPv4Network("10.0.0.0/9"), ipaddress.IPv4Network("10.128.0.0/20")]
    monkeypatch.setattr(hostnet, "used", lambda: taken)
    for seed in (0, 1, 2**40 + 12345):
        found = hostnet.free_range(seed)
        assert found.prefixlen == 20
        assert not any(found.overlaps(other) for other in taken)
    assert hostnet.free_range(7) == hostnet.free_range(7)
    taken.append(ipaddress.IPv4Network("10.0.0.0/8"))
    assert hostnet.free_range(5).subnet_of(ipaddress.IPv4Network("172.16.0.0/12"))
    taken.append(ipaddress.IPv4Network("0.0.0.0/0"))
    with pytest.raises(HostError, match="in use"):
        hostnet.free_range(5)


def test_a_process_that_does_not_end_is_killed() -> None:
    with subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"], stdout=-1) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        processes.end([stubborn.pid, 2**22 - 1], 0.1)
        assert stubborn.wait(5) == -9


def test_control_groups_of_containers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tops = [tmp_path / "memory", tmp_path / "unified"]
    ours, theirs = "a" * 64, "b" * 64
    for path in (f"docker/{ours}/init/x", f"docker/{theirs}", f"system.slice/docker-{ours}.scope"):
        for top in tops:
            (top / path).mkdir(parents=True)
    monkeypatch.setattr(processes, "cgroup_mounts", lambda: [str(top) for top in tops])
    processes.remove_cgroups({ours})
    for top in tops:
        assert [path.name for path in (top / "docker").iterdir()] == [theirs]
        assert list((top / "system.slice").iterdir()) == []
    (tops[0] / "docker" / theirs / "file").touch()  # no control group can be removed with something in it either
    monkeypatch.setattr(processes, "CGROUP_SECONDS", 0)
    with pytest.raises(EngineError, match=f"{theirs} cannot be removed"):
        processes.remove_cgroups({ours, theirs})


def test_where_control_groups_are() -> None:
    found = processes.cgroup_mounts()
    assert found
    assert all((Path(top) / "cgroup.procs").exists() for top in found)


# the engine of the fault tests


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[MemoryEngine]:
    engine = MemoryEngine(tmp_path / "memory", tmp_path / "guest")
    yield engine
    engine.close()


def test_a_faulty_engine_is_slow_fails_and_vanishes(memory: MemoryEngine, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    memory.import_rootfs(tmp_path / "x.tar", "x:1", ImageConfig({}))
    engine = FaultyEngine(memory)
    assert engine.image("x:1") is not None
    engine.never("image", 0.01)
    with pytest.raises(EngineTimeout):
        engine.image("x:1")
    engine.fail("image", NoSpace("full"), times=1)
    with pytest.raises(NoSpace):
        engine.image("x:1")
    assert engine.image("x:1") is not None
    engine.vanish_after(2)
    assert [bool(engine.images()) for _ in range(2)] == [True, True]
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            engine.images()
    engine.mend()
    engine.slow("images", 30)
    engine.released.set()
    assert engine.images()
    assert list(itertools.islice(engine.calls, 3)) == ["image", "image", "image"]
    assert json.dumps(engine.calls).count("images") == 5
