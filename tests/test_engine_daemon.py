"""What the Docker engine makes of a daemon that is slow, old, new or in the middle of something."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakedaemon import INFO, Answer, fake_daemon
from workspaces.engine import changes, connection, containers, open_engine
from workspaces.engine.base import ContainerSpec
from workspaces.engine.dockerd import DockerEngine
from workspaces.errors import EngineError, EngineTimeout, EngineUnfit
from workspaces.model import Limits, Mount, Network
from workspaces.settings import load

SPEC = ContainerSpec("ws-1", "base:1", "host", Limits(), Network.NONE, (Mount("/data", "/data"),), {})
CONTAINERD = {**INFO, "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}


def once_then(*answers: Answer) -> Callable[[], Answer]:
    """Each answer in turn, the last one again and again."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def container(state: str, **more: Any) -> dict[str, Any]:
    return {
        "Id": "c1", "Name": "/ws-1", "Image": "sha256:1", "Config": {"Labels": {}, "Image": "base:1"},
        "State": {"Status": state, "Running": state == "running"}, **more,
    }  # fmt: skip


def test_a_daemon_that_stops_in_the_middle_of_an_image_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BULK_SECONDS", 0.3)
    with fake_daemon(tmp_path, [("GET /images/base:1/get", lambda: (200, b"the beginning"))]) as (host, _):
        pieces = DockerEngine(host, tmp_path, "i").save("base:1")
        with pytest.raises(EngineTimeout, match="save the image base:1"):
            list(pieces)


def test_an_image_whose_name_is_the_beginning_of_another_s_id_is_asked_for_with_its_tag(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, []) as (host, requests):
        assert DockerEngine(host, tmp_path, "i").image("cafe") is None
        assert requests[-1] == "GET /images/cafe:latest/json"


def test_a_daemon_whose_image_ids_are_not_digests_of_configurations_is_refused(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, [("GET /info", lambda: (200, CONTAINERD))]) as (host, _):
        engine = DockerEngine(host, tmp_path, "i")
        for use in (engine.info, engine.mapped_root):
            with pytest.raises(EngineUnfit, match="containerd's store") as raised:
                use()
            assert "containerd-snapshotter" in raised.value.hint


def test_such_a_daemon_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_daemon(tmp_path, [("GET /info", lambda: (200, CONTAINERD))]) as (host, _):
        monkeypatch.setattr("workspaces.engine.DOCKER_SOCKET", host)
        engine = open_engine(load(tmp_path / "home"), "i", start=False)
        assert isinstance(engine, DockerEngine)
        assert engine.host != host


def test_a_container_that_takes_long_to_delete_is_waited_for(tmp_path: Path) -> None:
    removing = (409, {"message": "removal of container ws-1 is already in progress"})
    gone = (404, {"message": "no such container"})
    routes = [
        ("DELETE /containers/ws-1.*", once_then(removing, removing, gone)),
        ("GET /containers/ws-1/json", lambda: (200, container("removing"))),
        ("DELETE /volumes/.*", lambda: gone),
    ]
    with fake_daemon(tmp_path, routes) as (host, requests):
        DockerEngine(host, tmp_path, "i").remove("ws-1")
        assert sum(request.startswith("DELETE /containers") for request in requests) == 3


def test_a_container_that_is_being_removed_is_waited_for_and_made_anew(tmp_path: Path) -> None:
    routes = [
        (
            "GET /containers/ws-1/json",
            once_then((200, container("removing")), (404, {"message": "gone"}), (200, container("created"))),
        ),
        ("POST /containers/create.*", lambda: (201, {"Id": "c2"})),
    ]
    with fake_daemon(tmp_path, routes) as (host, requests):
        assert DockerEngine(host, tmp_path, "i").ensure_container(SPEC).state == "created"
        assert "POST /containers/create?name=ws-1" in requests


def test_one_that_never_goes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "CALL_SECONDS", 0.1)
    with (
        fake_daemon(tmp_path, [("GET /containers/ws-1/json", lambda: (200, container("removing")))]) as (host, _),
        pytest.raises(EngineTimeout),
    ):
        DockerEngine(host, tmp_path, "i").ensure_container(SPEC)


def test_a_container_of_a_network_that_was_pruned_joins_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspaces.engine.firewall.Firewall.ensure", lambda self: None)
    joined = {"Networks": {"ws-i": {"NetworkID": "old"}}}
    bridge = {"com.docker.network.bridge.name": "wsi"}
    network = {"Id": "new", "Options": bridge, "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}}
    routes = [
        ("GET /containers/ws-1/json", lambda: (200, container("exited", NetworkSettings=joined))),
        ("GET /networks/ws-i", lambda: (200, network)),
        ("POST /networks/ws-i/(dis)?connect", lambda: (200, {})),
        ("POST /containers/ws-1/start", lambda: (500, {"message": "as far as this test goes"})),
    ]
    with fake_daemon(tmp_path, routes) as (host, requests):
        with pytest.raises(EngineError, match="as far as this test goes"):
            DockerEngine(host, tmp_path, "i").start("ws-1")
        posts = [request for request in requests if request.startswith("POST")]
        assert posts == ["POST /networks/ws-i/disconnect", "POST /networks/ws-i/connect", "POST /containers/ws-1/start"]


@pytest.mark.parametrize(("api", "expected"), [("1.41", {"NonRecursive": True}), ("1.44", None)])
def test_what_is_mounted_below_a_read_only_mount_is_left_out_where_it_could_be_written(
    tmp_path: Path, api: str, expected: object
) -> None:
    with fake_daemon(tmp_path, [], api) as (host, _):
        assert DockerEngine(host, tmp_path, "i")._bind("/data", "/data").get("BindOptions") == expected


def test_a_list_of_changes_is_read_without_a_dictionary_for_each() -> None:
    assert changes.read([b'[{"Path":"/b","Ki', b'nd":2},{"Path":"/a","Kind":0}]']) == [
        ("/a", "changed"),
        ("/b", "removed"),
    ]
    assert changes.read([b"null\n"]) == []


@pytest.mark.parametrize("body", [b"", b"[", b'[{"Path":"/a"}]', b"[[]]", b"3", b'{"Path":"/a","Kind":1}'])
def test_a_list_of_changes_that_makes_no_sense_is_the_engine_s_fault(body: bytes) -> None:
    with pytest.raises(EngineError, match="makes no sense"):
        changes.read([body])


@pytest.mark.slow
def test_millions_of_changes_take_a_bounded_amount_of_memory() -> None:
    piece = b",".join(b'{"Path":"/tmp/%07d/some-name","Kind":1}' % number for number in range(25_000))
    tracemalloc.start()
    try:
        assert changes.read(b"[" + piece + b"," for _ in range(1000)) is None
        assert tracemalloc.get_traced_memory()[1] < 3 * changes.LIST_MAX
    finally:
        tracemalloc.stop()

    report = changes.report(None, None, "base:1", 7)
    assert (report.bytes, report.entries, len(report.warnings)) == (7, (), 1)
