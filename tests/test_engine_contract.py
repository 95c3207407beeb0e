"""What every engine does, run on the in-memory engine and on a real Docker."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import engines
from tests.support.engines import (
    CONFIG,
    TINY,
    delete,
    guest_dir,
    private_engine,
    spec,
    tiny_image,
    tiny_tar,
    until,
    write,
)
from tests.support.savetar import pack
from workspaces.engine import guestsocket, imagetar
from workspaces.engine.base import GUEST_MOUNT, Earlier, Engine, ImageInfo
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import Conflict, EngineError, NotFound
from workspaces.guest.client import GuestClient, SpawnRequest
from workspaces.layers import read, stack
from workspaces.model import Limits

__all__ = ["guest_dir", "private_engine", "tiny_image", "tiny_tar"]

NAME = "ws-test.als.alice"


@pytest.fixture(params=["memory", pytest.param("docker", marks=pytest.mark.docker)])
def engine(request: pytest.FixtureRequest, tmp_path: Path, guest_dir: Path, tiny_tar: Path) -> Iterator[Engine]:
    if request.param == "memory":
        memory = MemoryEngine(tmp_path / "memory", guest_dir)
        memory.import_rootfs(tiny_tar, TINY, CONFIG)
        yield memory
        memory.close()
        return
    host = request.getfixturevalue("private_engine").host
    request.getfixturevalue("tiny_image")
    yield from engines.docker_engine_at(host, guest_dir, request.session)


def started(engine: Engine, name: str = NAME, **changes: Any) -> str:
    engine.ensure_container(spec(name, **changes))
    engine.start(name)
    return name


@contextmanager
def busy(engine: Engine, name: str) -> Iterator[None]:
    """A program in the container that computes for nothing."""
    request = SpawnRequest((b"/bin/sh", b"-c", b"while :; do :; done"))
    with asyncio.Runner() as runner, Path(os.devnull).open("r+b") as nothing:
        client = GuestClient(engine.guest_socket(name))
        process = runner.run(client.spawn(request, [nothing.fileno()] * 3))
        try:
            yield
        finally:
            process.signal("KILL")
            runner.run(process.wait())


def document(image: ImageInfo, **values: Any) -> dict[str, Any]:
    """A whole OCI configuration for the layers of `image`."""
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {"Env": ["A=1"], "Cmd": ["/bin/sh"], "Labels": {"one": "1"}, **values},
        "rootfs": {"type": "layers", "diff_ids": list(image.diff_ids)},
        "history": [{"created_by": "test"} for _ in image.diff_ids],
    }


def version(engine: Engine, text: str = "one", reference: str = "als/alice:v1") -> ImageInfo:
    write(engine, started(engine), "/root/note", text)
    return engine.commit(NAME, reference, {"test": "version"})


def test_info_tells_where_the_data_are(engine: Engine) -> None:
    info = engine.info()
    assert Path(info.data_root).is_dir()
    assert info.version


def test_container_is_made_once_and_not_started(engine: Engine) -> None:
    first = engine.ensure_container(spec(NAME))
    again = engine.ensure_container(spec(NAME, memory=64 << 20))
    assert first.id == again.id
    assert first.state == "created"
    assert first.labels["test"] == NAME
    assert not engine.container(NAME).running  # type: ignore[union-attr]


def test_container_of_an_unknown_image(engine: Engine) -> None:
    with pytest.raises(NotFound, match="no-such-image"):
        engine.ensure_container(spec(NAME, image="no-such-image:1"))
    assert engine.container(NAME) is None


def test_start_returns_when_the_agent_accepts(engine: Engine) -> None:
    engine.ensure_container(spec(NAME))
    assert not guestsocket.accepts(engine.guest_socket(NAME))
    info = engine.start(NAME)
    assert info.running
    assert guestsocket.accepts(engine.guest_socket(NAME))
    assert engine.start(NAME).id == info.id


def test_limits_are_changed_while_it_runs_and_stay(engine: Engine) -> None:
    started(engine)
    for wanted in (Limits(2.0, 512 << 20, 200), Limits(0.5, 64 << 20, 40)):  # more, and less
        assert engine.limit(NAME, wanted) == wanted
    engine.stop(NAME)
    assert engine.limit(NAME, Limits(1.5, 96 << 20, 50)) == Limits(1.5, 96 << 20, 50)
    assert engine.start(NAME).running
    assert engine.limit("ws-test.nobody", Limits()) is None


def test_start_of_an_unknown_container(engine: Engine) -> None:
    with pytest.raises(NotFound):
        engine.start("ws-test.nobody")


def test_stop_and_remove_may_be_repeated(engine: Engine) -> None:
    started(engine)
    engine.stop(NAME)
    engine.stop(NAME)
    info = engine.container(NAME)
    assert info is not None
    assert info.state == "exited"
    assert not guestsocket.accepts(engine.guest_socket(NAME))
    engine.remove(NAME)
    engine.remove(NAME)
    engine.stop(NAME)
    assert engine.container(NAME) is None
    assert not engine.guest_socket(NAME).exists()


def test_remove_kills_what_runs(engine: Engine) -> None:
    engine.remove(started(engine))
    assert engine.container(NAME) is None


def test_files_stay_over_stop_and_start(engine: Engine) -> None:
    write(engine, started(engine), "/root/note", "kept")
    engine.stop(NAME)
    engine.start(NAME)
    assert [change.path for change in engine.changes(NAME).entries] == ["/root/note"]


def test_disk_use_is_what_was_written_over_the_image(engine: Engine) -> None:
    name = started(engine)
    before = engine.disk_use(name)
    write(engine, name, "/root/note", "x" * 70_000)
    assert 70_000 <= engine.disk_use(name) - before < 140_000
    engine.stop(name)
    assert engine.disk_use(name) >= 70_000
    engine.remove(name)
    with pytest.raises(NotFound):
        engine.disk_use(name)


def test_usage_is_counted_while_it_runs(engine: Engine) -> None:
    assert engine.usage(engine.ensure_container(spec(NAME)).name) is None
    started(engine)
    idle = engine.usage(NAME)
    assert idle is not None
    assert idle.pids == 1
    assert 0 < idle.memory < 64 << 20
    with busy(engine, NAME):
        until(lambda: (engine.usage(NAME) or idle).cpu_seconds > idle.cpu_seconds + 0.1)
        now = engine.usage(NAME)
        assert now is not None
        assert now.pids > 1
    engine.stop(NAME)
    assert engine.usage(NAME) is None
    engine.start(NAME)
    again = engine.usage(NAME)
    assert again is not None
    assert again.cpu_seconds < now.cpu_seconds
    with pytest.raises(NotFound):
        engine.usage("ws-test.nobody")


def test_many_at_once_make_one_container(engine: Engine) -> None:
    def login(_: int) -> str:
        engine.ensure_container(spec(NAME))
        return engine.start(NAME).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(login, range(8)))) == 1


def test_containers_are_found_by_label(engine: Engine) -> None:
    started(engine)
    engine.ensure_container(spec("ws-test.als.bob"))
    names = {info.name: info.state for info in engine.containers({"test": NAME})}
    assert names == {NAME: "running"}
    assert engine.containers({"test": "nothing"}) == []


def test_nothing_is_changed_by_a_start(engine: Engine) -> None:
    report = engine.changes(started(engine))
    assert (report.added, report.changed, report.removed, report.entries) == (0, 0, 0, ())
    assert report.since == TINY


def test_changes_tell_kind_size_and_mode(engine: Engine) -> None:
    started(engine)
    write(engine, NAME, "/root/new/file", "four")
    write(engine, NAME, "/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    delete(engine, NAME, "/etc/motd")
    report = engine.changes(NAME)
    kinds = {change.path: (change.kind, change.size) for change in report.entries}
    assert kinds == {
        "/root/new": ("added", 0),
        "/root/new/file": ("added", 4),
        "/etc/passwd": ("changed", 26),
        "/etc/motd": ("removed", 0),
    }
    assert (report.added, report.changed, report.removed) == (2, 1, 1)
    assert report.bytes == 30


def test_changes_of_an_unknown_container(engine: Engine) -> None:
    for ask in (engine.changes, engine.written):
        with pytest.raises(NotFound):
            ask("ws-test.nobody")


def test_what_is_written_and_what_was_there_can_be_read(engine: Engine) -> None:
    started(engine)
    write(engine, NAME, "/etc/motd", "mine")
    delete(engine, NAME, "/etc/passwd")
    files = engine.written(NAME)
    assert files is not None
    with closing(files):
        found = {
            path: [file.read() if (file := ask(path)) else None for ask in (files.open, files.open_base)]
            for path in ("/etc/motd", "/etc/passwd", "/etc", "/no/such", "/../../etc/hostname")
        }
    assert found.pop("/etc/motd") == [b"mine", b"welcome\n"]
    gone = found.pop("/etc/passwd")
    assert gone[0] is None
    assert gone[1] is not None
    assert gone[1].startswith(b"root:")
    assert list(found.values()) == [[None, None]] * 3


def test_commit_adds_one_layer_and_labels(engine: Engine) -> None:
    base = engine.image(TINY)
    assert base is not None
    made = version(engine)
    assert made.diff_ids[:-1] == base.diff_ids
    assert made.refs == ("als/alice:v1",)
    assert made.config.labels["test"] == "version"
    assert engine.container(NAME).running  # type: ignore[union-attr]
    assert [image.id for image in engine.images({"test": "version"})] == [made.id]


def test_commit_of_nothing_adds_no_layer(engine: Engine) -> None:
    base = engine.image(TINY)
    assert base is not None
    assert engine.commit(started(engine), "als/alice:v1", {}).diff_ids == base.diff_ids


def test_commit_of_an_unknown_container(engine: Engine) -> None:
    with pytest.raises(NotFound):
        engine.commit("ws-test.nobody", "als/alice:v1", {})


def test_container_of_a_version_has_its_files(engine: Engine) -> None:
    version(engine, "of version one")
    started(engine, "ws-test.als.bob", image="als/alice:v1")
    write(engine, "ws-test.als.bob", "/root/note", "other")
    assert [(c.kind, c.path) for c in engine.changes("ws-test.als.bob").entries] == [("changed", "/root/note")]


def test_image_is_found_by_reference_and_id(engine: Engine) -> None:
    image = engine.image(TINY)
    assert image is not None
    assert image.refs == (TINY,)
    assert engine.image(image.id) == image
    assert image.config.values["User"] == "bobby"
    assert image.config.values["Env"] == CONFIG.values["Env"]
    assert "Entrypoint" not in image.config.values
    assert engine.image("no-such-image:1") is None


def test_compressed_rootfs_gives_the_same_layer(engine: Engine, tiny_tar: Path, tmp_path: Path) -> None:
    base = engine.image(TINY)
    assert base is not None
    packed = tmp_path / "rootfs.tar.gz"
    packed.write_bytes(gzip.compress(tiny_tar.read_bytes(), 1))
    made = engine.import_rootfs(packed, "other:1", CONFIG)
    assert made.diff_ids == base.diff_ids
    engine.remove_image(made.id)


def test_save_and_load_give_the_same_image(engine: Engine) -> None:
    made = version(engine)
    data = b"".join(engine.save("als/alice:v1"))
    engine.remove(NAME)
    engine.remove_image(made.id)
    assert engine.image("als/alice:v1") is None
    (loaded,) = engine.load(iter([data[:1000], data[1000:]]))
    assert (loaded.id, loaded.diff_ids, loaded.refs) == (made.id, made.diff_ids, made.refs)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert len(manifest) == 1
    assert len(manifest[0]["Layers"]) == len(made.diff_ids)


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, bytes(10240)])
def test_load_of_nonsense(engine: Engine, data: bytes) -> None:
    with pytest.raises(EngineError):
        engine.load(iter([data]))


def test_save_of_an_unknown_image(engine: Engine) -> None:
    with pytest.raises(NotFound):
        b"".join(engine.save("no-such-image:1"))


def test_reconfigure_replaces_the_whole_configuration(engine: Engine) -> None:
    made = version(engine)
    assert "Entrypoint" in made.config.values
    whole = document(made, WorkingDir="/srv", User="bobby")
    image = engine.reconfigure(made.id, whole, "als/alice:v1")
    assert image.diff_ids == made.diff_ids
    assert dict(image.config.values) == whole["config"]
    assert image.refs == ("als/alice:v1",)
    assert engine.image(made.id).refs == ()  # type: ignore[union-attr]
    assert engine.reconfigure(made.id, whole, "als/alice:v1").id == image.id
    assert image.created_at == 1767323045.0
    engine.remove(NAME)
    engine.remove_image(made.id)
    assert started(engine, image="als/alice:v1")


def test_reconfigure_refuses_other_layers(engine: Engine) -> None:
    made = version(engine)
    whole = document(made)
    whole["rootfs"]["diff_ids"].reverse()
    with pytest.raises(EngineError, match="layers"):
        engine.reconfigure(made.id, whole, "als/alice:v2")
    assert engine.image("als/alice:v2") is None


def layer_members(engine: Engine, reference: str, number: int) -> dict[str, tuple[bytes, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.layer(reference, number)))) as tar:
        return {m.name: (m.type, tar.extractfile(m).read() if m.isreg() else b"") for m in tar}  # type: ignore[union-attr]


def test_a_layer_is_read_by_its_number(engine: Engine) -> None:
    delete(engine, started(engine), "/etc/motd")
    version(engine)
    top = layer_members(engine, "als/alice:v1", 1)
    assert top["root/note"] == (tarfile.REGTYPE, b"one")
    assert "etc/.wh.motd" in top
    assert "etc/passwd" not in top
    below = layer_members(engine, "als/alice:v1", 0)
    assert below["etc/motd"] == (tarfile.REGTYPE, b"welcome\n")
    assert "root/note" not in below


def test_a_layer_that_there_is_not(engine: Engine) -> None:
    with pytest.raises(NotFound):
        b"".join(engine.layer("no-such-image:1", 0))


def test_an_image_is_assembled_of_known_and_new_layers(engine: Engine) -> None:
    first = version(engine)
    data = pack([(tarfile.TarInfo("root/more"), b"more")])
    new = imagetar.Layer(imagetar.digest(data), len(data), lambda: iter([data]))
    whole = document(first)
    whole["rootfs"]["diff_ids"].append(new.diff_id)
    image = engine.assemble(whole, [new], "als/alice:v2")
    assert image.diff_ids == (*first.diff_ids, new.diff_id)
    assert image.refs == ("als/alice:v2",)
    assert engine.assemble(whole, [new], "als/alice:v2").id == image.id
    assert layer_members(engine, "als/alice:v2", 2)["root/more"] == (tarfile.REGTYPE, b"more")
    started(engine, "ws-test.als.bob", image="als/alice:v2")
    write(engine, "ws-test.als.bob", "/root/more", "other")
    assert [(c.kind, c.path) for c in engine.changes("ws-test.als.bob").entries] == [("changed", "/root/more")]
    engine.remove("ws-test.als.bob")
    engine.remove_image(image.id)


def test_an_image_of_a_layer_that_is_nowhere(engine: Engine) -> None:
    first = version(engine)
    whole = document(first)
    whole["rootfs"]["diff_ids"].append("sha256:" + "0" * 64)
    with pytest.raises(EngineError):
        engine.assemble(whole, [], "als/alice:v3")
    assert engine.image("als/alice:v3") is None


def test_an_image_of_a_layer_with_another_digest(engine: Engine) -> None:
    first = version(engine)
    data = pack([(tarfile.TarInfo("root/more"), b"more")])
    whole = document(first)
    whole["rootfs"]["diff_ids"].append("sha256:" + "0" * 64)
    with pytest.raises(EngineError):
        engine.assemble(whole, [imagetar.Layer("sha256:" + "0" * 64, len(data), lambda: iter([data]))], "als/alice:v3")
    assert engine.image("als/alice:v3") is None


def test_changes_since_an_earlier_version(engine: Engine) -> None:
    started(engine)
    for name in ("same", "longer", "gone"):
        write(engine, NAME, f"/root/{name}", name)
    delete(engine, NAME, "/etc/motd")
    tars = [b"".join(engine.layer(engine.commit(NAME, "als/alice:v1", {}).id, number)) for number in (0, 1)]
    below = stack([read([tars[0]])])
    earlier = stack([read([tars[1]])], below)
    known = {
        f"/{path}": Earlier(node.st_mode, node.uid, node.gid, node.size, node.seconds, path in below.nodes)
        for path, node in earlier.nodes.items()
        if below.nodes.get(path) is not node
    } | {f"/{path}": Earlier(0, in_source=True) for path in below.nodes.keys() - earlier.nodes.keys()}
    assert engine.changes(NAME, known).entries == ()
    write(engine, NAME, "/root/longer", "longer than before")
    write(engine, NAME, "/root/new", "new")
    write(engine, NAME, "/etc/motd", "again")
    delete(engine, NAME, "/root/gone")
    report = engine.changes(NAME, known)
    assert [(c.kind, c.path, c.size) for c in report.entries] == [
        ("added", "/etc/motd", 5),
        ("removed", "/root/gone", 0),
        ("changed", "/root/longer", 18),
        ("added", "/root/new", 3),
    ]
    assert (report.added, report.changed, report.removed, report.bytes) == (2, 1, 1, 26)


def test_tag_moves_a_name(engine: Engine) -> None:
    first = version(engine, "one")
    second = version(engine, "two", "als/alice:v2")
    engine.tag(first.id, "als/alice:best")
    engine.tag(second.id, "als/alice:best")
    assert engine.image("als/alice:best").id == second.id  # type: ignore[union-attr]
    assert engine.image(first.id).refs == ("als/alice:v1",)  # type: ignore[union-attr]
    with pytest.raises(NotFound):
        engine.tag("sha256:" + "0" * 64, "als/alice:best")


def test_untag_removes_the_image_with_its_last_name(engine: Engine) -> None:
    made = version(engine)
    engine.tag(made.id, "als/alice:best")
    engine.untag("als/alice:v1")
    assert engine.image(made.id).refs == ("als/alice:best",)  # type: ignore[union-attr]
    engine.untag("als/alice:best")
    engine.untag("als/alice:best")
    assert engine.image(made.id) is None


def test_untag_leaves_an_image_that_a_container_uses(engine: Engine) -> None:
    made = version(engine)
    engine.ensure_container(spec("ws-test.als.bob", image="als/alice:v1"))
    engine.untag("als/alice:v1")
    assert engine.image("als/alice:v1") is None
    assert engine.image(made.id).refs == ()  # type: ignore[union-attr]
    write(engine, started(engine, "ws-test.als.bob"), "/root/more", "x")
    assert engine.commit("ws-test.als.bob", "als/bob:v1", {"test": "version"}).diff_ids[:2] == made.diff_ids


def test_remove_image(engine: Engine) -> None:
    made = version(engine)
    engine.tag(made.id, "als/alice:best")
    engine.ensure_container(spec("ws-test.als.bob", image="als/alice:v1"))
    with pytest.raises(Conflict, match=r"ws-test\.als\.bob"):
        engine.remove_image(made.id)
    assert engine.image(made.id).refs == ("als/alice:best", "als/alice:v1")  # type: ignore[union-attr]
    engine.remove("ws-test.als.bob")
    engine.remove_image(made.id)
    engine.remove_image(made.id)
    assert engine.image(made.id) is None


def test_run_gives_status_and_output(engine: Engine) -> None:
    result = engine.run(TINY, (f"{GUEST_MOUNT}/agent", "which", "sh", "no-such-program"))
    assert result.exit_code == 0
    name, _, path = result.stdout.decode().splitlines()[0].partition("\t")
    assert name == "sh"
    assert path.startswith("/")
    assert result.stderr == b""
    assert engine.run(TINY, ("/bin/sh", "-c", "echo oops >&2; exit 3")).exit_code == 3
    with pytest.raises(EngineError):
        engine.run(TINY, ("/no/such/program",))
    assert engine.containers({}) == [] or isinstance(engine, MemoryEngine)


def test_pull_of_what_no_registry_has(engine: Engine) -> None:
    with pytest.raises((EngineError, NotFound)):
        engine.pull("127.0.0.1:9/nothing:1", lambda *_: None)
