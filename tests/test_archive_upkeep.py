"""Verify, garbage, export forms, and what other parts of the program read; on a directory."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.savetar import FakeImage, layer, sha256
from workspaces.archive import Archive, documents, manifest
from workspaces.archive.artifacts import parse_artifact
from workspaces.archive.blobs import Blobs, Descriptor
from workspaces.archive.sealing import Seal
from workspaces.archive.storage import Changed, Directory
from workspaces.errors import Corrupt, NotFound

pytestmark = pytest.mark.slow

BASE = layer({"etc/os-release": b"ID=debian\n" * 400, "bin/sh": random.Random(1).randbytes(300_000)})
WORK = layer({"root/result.txt": b"42\n"})
ONE, TWO = FakeImage([BASE, WORK]), FakeImage([BASE, layer({"root/other": b"1"})], label="two")
REF = "als/alice:v1"


def put(archive: Archive, image: FakeImage = ONE, ref: str = REF) -> str:
    return archive.put(image.save(), ref=ref, config_digest=image.id, diff_ids=image.diff_ids)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def blob_path(archive: Archive, digest: str) -> Path:
    return archive.root / "blobs" / "sha256" / digest[7:]


def test_a_removed_image_leaves_only_what_others_use(archive: Archive) -> None:
    one, two = put(archive), put(archive, TWO, "als/bob:v1")
    assert archive.garbage().blobs == ()
    assert archive.remove(one)
    assert not archive.remove(one)
    found = archive.garbage()
    manifest_of_one, config, work = one, ONE.id, None
    assert {manifest_of_one, config} < {blob.digest for blob in found.blobs}
    assert len(found.blobs) == 3
    assert found.size == sum(blob_path(archive, blob.digest).stat().st_size for blob in found.blobs)
    assert work is None
    before = len(list((archive.root / "blobs/sha256").iterdir()))
    told: list[tuple[str, int]] = []
    assert archive.collect(lambda name, size: told.append((name, size))) == found
    assert told == [(blob.digest, blob.size) for blob in found.blobs]
    assert len(list((archive.root / "blobs/sha256").iterdir())) == before - 3
    assert archive.has(two)
    assert archive.verify().problems == ()
    assert archive.collect().blobs == ()
    assert put(archive) == one
    assert archive.verify().problems == ()


def test_gc_waits_for_a_running_put_and_leaves_what_it_wrote(archive: Archive) -> None:
    put(archive, TWO, "als/bob:v1")
    reached, go = threading.Event(), threading.Event()
    image = FakeImage([BASE, WORK])

    def saved() -> Any:
        yield from image.save()()
        reached.set()
        assert go.wait(20)

    thread = threading.Thread(
        target=lambda: archive.put(saved, ref=REF, config_digest=image.id, diff_ids=image.diff_ids)
    )
    thread.start()
    assert reached.wait(20)
    collected: list[object] = []
    other = threading.Thread(target=lambda: collected.append(Archive(archive.root).collect()))
    other.start()
    go.set()
    thread.join(20)
    other.join(20)
    assert len(collected) == 1
    assert Archive(archive.root).verify().problems == ()
    assert {found.ref for found in archive.list()} == {REF, "als/bob:v1"}


@pytest.mark.parametrize("damage", ["no index", "bad index", "bad manifest", "no manifest"])
def test_nothing_is_deleted_while_it_is_not_sure_what_is_used(archive: Archive, damage: str) -> None:
    digest = put(archive)
    put(archive, TWO, "als/bob:v1")
    if damage == "no index":
        (archive.root / "index.json").unlink()
    elif damage == "bad index":
        (archive.root / "index.json").write_text('{"manifests": 1}')
    elif damage == "bad manifest":
        blob_path(archive, digest).write_bytes(b"{}")
    else:
        blob_path(archive, digest).unlink()
    before = sorted((archive.root / "blobs/sha256").iterdir())
    with pytest.raises(Corrupt) as caught:
        Archive(archive.root).collect()
    assert caught.value.hint
    assert sorted((archive.root / "blobs/sha256").iterdir()) == before


def test_entries_of_other_programs_are_kept_with_all_that_they_name(archive: Archive) -> None:
    """An artifact that refers to an image, and an index of several, as OCI 1.1 has them."""
    digest = put(archive)
    blobs = Blobs(Directory(archive.root))
    payload, empty = blobs.add(b"a signed statement"), blobs.add(b"{}")

    def entry(blob: Descriptor, kind: str) -> dict[str, object]:
        return {"mediaType": kind, "digest": blob.digest, "size": blob.size}

    artifact = blobs.add(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": manifest.MANIFEST_TYPE,
                "artifactType": "application/x",
                "config": entry(empty, "application/vnd.oci.empty.v1+json"),
                "layers": [entry(payload, "application/x")],
                "subject": entry(Descriptor(digest, blob_path(archive, digest).stat().st_size), manifest.MANIFEST_TYPE),
            }
        ).encode()
    )
    several = blobs.add(json.dumps({"manifests": [entry(artifact, manifest.MANIFEST_TYPE)]}).encode())
    path = archive.root / "index.json"
    index = json.loads(path.read_text())
    index["manifests"].append(entry(several, manifest.INDEX_TYPE))
    path.write_text(json.dumps(index))
    assert archive.garbage().blobs == ()
    put(archive, TWO, "als/bob:v1")
    assert entry(several, manifest.INDEX_TYPE) in json.loads(path.read_text())["manifests"]
    assert archive.collect().blobs == ()
    assert {found.ref for found in archive.list()} == {REF, "als/bob:v1"}
    blob_path(archive, payload.digest).write_bytes(b"another statement!")
    [problem] = archive.verify().problems
    assert (problem.blob, problem.images) == (payload.digest, ())


def test_each_bad_blob_is_named_once_with_all_images(archive: Archive) -> None:
    put(archive)
    digest = put(archive, TWO, "als/bob:v1")
    _, base, _ = archive.blobs_of(digest)
    path = blob_path(archive, base.digest)
    path.write_bytes(path.read_bytes()[:-1])
    seen: list[tuple[int, int]] = []
    [problem] = archive.verify(lambda done, total: seen.append((done, total))).problems
    assert (problem.blob, problem.images) == (base.digest, (REF, "als/bob:v1"))
    assert str(problem).startswith(f"{REF}, als/bob:v1: {base.digest} is damaged")
    assert seen[-1][0] == seen[-1][1] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_layer_under_a_wrong_name_is_found(archive: Archive) -> None:
    """Its blob is whole, but is not the layer that the configuration lists."""
    put(archive)
    blobs = Blobs(Directory(archive.root))
    index = json.loads((archive.root / "index.json").read_text())
    found = json.loads(blob_path(archive, index["manifests"][0]["digest"]).read_text())
    found["layers"].reverse()
    changed = blobs.add(json.dumps(found).encode())
    index["manifests"][0] |= {"digest": changed.digest, "size": changed.size}
    (archive.root / "index.json").write_text(json.dumps(index))
    problems = Archive(archive.root).verify().problems
    assert len(problems) == 2
    assert all("holds another layer" in problem.sentence for problem in problems)


def test_what_a_registry_and_the_layer_index_read(archive: Archive) -> None:
    digest = put(archive)
    data = archive.manifest_bytes(digest)
    assert sha256(data) == digest
    named = json.loads(data)
    config, *layers = archive.blobs_of(digest)
    assert config.digest == named["config"]["digest"] == ONE.id
    assert [(blob.digest, blob.size) for blob in layers] == [(e["digest"], e["size"]) for e in named["layers"]]
    assert b"".join(archive.read_blob(config)) == ONE.config
    for blob in layers:
        assert sha256(b"".join(archive.read_blob(blob))) == blob.digest
    for data, diff_id in zip(ONE.layers, ONE.diff_ids, strict=True):
        chunks = archive.layer(diff_id)
        assert chunks is not None
        assert b"".join(chunks) == data
    assert archive.layer(sha256(b"none")) is None
    with pytest.raises(NotFound):
        archive.read_blob(Descriptor(sha256(b"none"), 4))
    with pytest.raises(NotFound):
        archive.manifest_bytes(sha256(b"none"))


@pytest.mark.parametrize(("form", "names"), [
    ("oci", {"oci-layout", "index.json"}), ("docker", {"manifest.json"}),
    ("both", {"oci-layout", "index.json", "manifest.json"}),
])  # fmt: skip
def test_export_for_whom(archive: Archive, tmp_path: Path, form: Any, names: set[str]) -> None:
    put(archive)
    archive.export(REF, tmp_path / "out.tar", form)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert {name for name in tar.getnames() if not name.startswith("blobs/")} == names


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")
def test_umoci_unpacks_a_version(archive: Archive, tmp_path: Path) -> None:
    image = FakeImage([layer({"etc/hello": b"hello\n"}), WORK])
    put(archive, image, "als/alice:v1")
    # umoci takes a tag as OCI's reference, which has no slash: it reads an export, in which it is a name of its choice
    copy = ["skopeo", "copy", f"oci:{archive.root}:als/alice:v1", f"oci:{tmp_path / 'copy'}:v1"]
    subprocess.run(copy, check=True, capture_output=True)
    unpack = ["umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'copy'}:v1", str(tmp_path / "bundle")]
    subprocess.run(unpack, check=True, capture_output=True)
    assert (tmp_path / "bundle/rootfs/root/result.txt").read_text() == "42\n"
    assert (tmp_path / "bundle/rootfs/etc/hello").read_text() == "hello\n"


def test_a_document_that_another_one_replaced_is_not_overwritten(tmp_path: Path) -> None:
    storage = Directory(tmp_path)
    storage.prepare()
    storage.replace("index.json", b"1", None)
    with pytest.raises(Changed):
        storage.replace("index.json", b"2", None)
    found = storage.document("index.json")
    assert found is not None
    storage.replace("index.json", b"2", found[1])
    with pytest.raises(Changed):
        storage.replace("index.json", b"3", found[1])
    assert (tmp_path / "index.json").read_bytes() == b"2"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("sha256:" + "0" * 64),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["manifests", "annotations", "digest", "size", "mediaType", "config", "layers", "manifest",
                         "unpacked", "artifactType", manifest.REF_NAME, manifest.OWN_DIGEST, manifest.SUBJECT,
                         manifest.DOCUMENT_NAME]) | st.text(max_size=4),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize("sealed", [False, True])
def test_documents_about_an_image(tmp_path: Path, sealed: bool) -> None:
    """A signed statement or a list of packages: kept beside the image, sealed with it, gone with it."""
    keys = tmp_path / "keys"
    keys.mkdir()
    recipients = [str(pyrage.x25519.Identity.generate().to_public())] if sealed else []
    archive = Archive(tmp_path / "archive", Seal(recipients, keys))
    digest = put(archive)
    first = archive.attach(digest, "https://example.org/statement", b"who asked and decided: Person-Of-The-Statement")
    bill = archive.attach(digest, "https://example.org/packages", b"[]" * 3000)
    assert archive.attached(digest) == {
        "https://example.org/statement": first,
        "https://example.org/packages": bill,
    }
    assert archive.document(bill) == b"[]" * 3000
    named = json.loads(archive.manifest_bytes(first))
    assert sha256(archive.manifest_bytes(first)) == first
    assert (named["subject"]["digest"], named["subject"]["size"]) == (digest, len(archive.manifest_bytes(digest)))
    empty, document = archive.blobs_of(first)
    assert b"".join(archive.read_blob(empty)) == b"{}"
    assert b"".join(archive.read_blob(document)) == archive.document(first)
    put(archive, TWO, "als/bob:v1")
    fresh = Archive(archive.root, Seal(recipients, keys))
    assert fresh.document(first).endswith(b"Person-Of-The-Statement")
    assert fresh.garbage().blobs == ()
    assert fresh.verify().problems == ()
    assert len(fresh.list()) == 2
    files = [path.read_bytes() for path in archive.root.rglob("*") if path.is_file()]
    assert any(b"Person-Of-The-Statement" in data for data in files) is not sealed
    second = fresh.attach(digest, "https://example.org/statement", b"another")
    assert fresh.attached(digest)["https://example.org/statement"] == second
    assert len(fresh.collect().blobs) == (3 if sealed else 2)
    with pytest.raises(NotFound):
        fresh.document(first)
    lies = next(e for e in json.loads((archive.root / "index.json").read_text())["manifests"] if "artifactType" in e)
    path = blob_path(archive, lies["digest"])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"!")
    [problem] = fresh.verify().problems
    assert problem.images == (REF,)
    path.write_bytes(data)
    with pytest.raises(NotFound):
        fresh.attach(sha256(b"none"), "x", b"y")
    assert fresh.remove(digest)
    assert fresh.attached(digest) == {}
    fresh.collect()
    assert len(list((archive.root / "blobs/sha256").iterdir())) == 4


@settings(max_examples=200, deadline=None)
@given(value=json_values, garbage=st.binary(max_size=40))
def test_no_json_breaks_the_readers(value: object, garbage: bytes) -> None:
    readers: list[Callable[[bytes], object]] = [
        manifest.parse_manifest,
        manifest.parse_record,
        manifest.references,
        manifest.config_diff_ids,
        lambda data: manifest.parse_index(data, "1", "x").to_bytes(),
        lambda data: documents.attached(manifest.parse_index(data, "1", "x")),
        lambda data: manifest.parse_index(data, "1", "x").drop("x"),
        parse_artifact,
    ]
    for data in (json.dumps(value).encode(), json.dumps({"manifests": [value], "layers": [value]}).encode(), garbage):
        for read in readers:
            try:
                read(data)
            except Corrupt as exc:
                assert exc.message  # noqa: PT017 -- nothing else may come


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bytes_of_the_archive_are_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    archive = Archive(tmp_path_factory.mktemp("a"))
    image = FakeImage([WORK])
    digest = put(archive, image)
    paths = sorted(path for path in archive.root.rglob("*") if path.is_file() and path.stat().st_size > 30)
    path = data.draw(st.sampled_from(paths))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    fresh = Archive(archive.root)
    verdict = fresh.verify()
    if path.name == "index.json":  # a changed name is still a name
        assert verdict.problems or len(fresh.list()) <= 1
    elif path.name != "oci-layout":
        assert verdict.problems
        with pytest.raises((Corrupt, NotFound)):
            b"".join(fresh.docker_tar(digest))


def test_killed_at_any_write_of_remove_and_collect(tmp_path: Path) -> None:
    for step in range(40):
        root = tmp_path / str(step)
        one = put(Archive(root))
        two = put(Archive(root), TWO, "als/bob:v1")
        child = os.fork()
        if child == 0:
            _until_killed(root, one, step)
        _, status = os.waitpid(child, 0)
        archive = Archive(root)
        assert archive.verify().problems == ()
        assert archive.has(two)
        archive.remove(one)
        archive.collect()
        assert archive.verify().problems == ()
        assert len(list((root / "blobs/sha256").iterdir())) == 4
        assert not list((root / ".tmp").iterdir())
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert step >= 6
            return
    pytest.fail("more steps than expected")


def _until_killed(root: Path, digest: str, steps: int) -> None:
    left = steps

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments, **named)

        return call

    try:
        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)  # type: ignore[method-assign]
        Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
        archive = Archive(root)
        archive.remove(digest)
        archive.collect()
        os._exit(0)
    finally:
        os._exit(1)
