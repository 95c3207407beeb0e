"""The archive as an OCI layout: what is put in comes out, is shared, and is verified."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import stat
import tarfile
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.savetar import FakeImage, gzipped, layer, sha256
from workspaces.archive import Archive
from workspaces.errors import ArchiveError, Conflict, Corrupt, NotFound

pytestmark = pytest.mark.slow

BASE = layer({"etc/os-release": b"ID=debian\n" * 400, "bin/sh": random.Random(1).randbytes(3_000_000)})
WORK = layer({"root/result.txt": b"42\n"})
REF = "als/alice:v1"


def put(archive: Archive, image: FakeImage, ref: str = REF, tar: bytes | None = None) -> str:
    return archive.put(
        image.save(tar), ref=ref, config_digest=image.id, diff_ids=image.diff_ids, annotations={"a": image.label}
    )


def unpacked(archive: Archive, digest: str) -> tuple[bytes, list[bytes]]:
    """Configuration and unpacked layers, as an engine finds them in `docker_tar`."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive.docker_tar(digest)))) as tar:

        def content(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        [entry] = json.loads(content("manifest.json"))
        return content(entry["Config"]), [gzip.decompress(content(name)) for name in entry["Layers"]]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


@pytest.mark.parametrize("form", ["old", "new", "gzip"])
def test_what_is_archived_comes_out_unchanged(archive: Archive, form: str) -> None:
    image = FakeImage([BASE, WORK, b"", WORK])
    tar = {"old": image.old(), "new": image.new(), "gzip": image.new(gzipped)}[form]
    digest = put(archive, image, tar=tar)
    assert unpacked(archive, digest) == (image.config, image.layers)
    assert archive.has(digest)
    [found] = archive.list()
    assert (found.ref, found.digest, found.config_digest, found.diff_ids) == (REF, digest, image.id, image.diff_ids)
    assert found.annotations == {"a": "x"}
    assert archive.verify().problems == ()


def unread() -> Iterable[bytes]:
    raise AssertionError("the engine's image is read")


def test_an_image_of_known_layers_and_a_known_configuration_is_not_read(archive: Archive) -> None:
    put(archive, FakeImage([BASE, WORK]))
    again = FakeImage([BASE, WORK], label="v2")
    archive.put(unread, ref="als/alice:v2", config_digest=again.id, diff_ids=again.diff_ids, config=again.config)
    assert unpacked(archive, archive.find("als/alice:v2").digest) == (again.config, again.layers)
    assert archive.verify().problems == ()


def test_a_configuration_that_is_not_the_images_is_not_taken(archive: Archive) -> None:
    put(archive, FakeImage([BASE, WORK]))
    again = FakeImage([BASE, WORK], label="v2")
    for wrong in (again.config + b" ", FakeImage([BASE, WORK]).config, b""):
        with pytest.raises(AssertionError, match="is read"):
            archive.put(unread, ref="als/alice:v2", config_digest=again.id, diff_ids=again.diff_ids, config=wrong)
    others = again.diff_ids[:1]
    with pytest.raises(AssertionError, match="is read"):  # it lists other layers than were asked for
        archive.put(unread, ref="als/alice:v2", config_digest=again.id, diff_ids=others, config=again.config)


def test_layout_is_what_the_specification_says(archive: Archive) -> None:
    digest = put(archive, FakeImage([BASE]))
    assert json.loads((archive.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((archive.root / "index.json").read_text())
    [entry] = index["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": REF}
    manifest = (archive.root / "blobs" / "sha256" / digest[7:]).read_bytes()
    assert (entry["digest"], entry["size"]) == (sha256(manifest), len(manifest))
    for blob in (archive.root / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        assert stat.S_IMODE(blob.stat().st_mode) == 0o600
    assert stat.S_IMODE(archive.root.stat().st_mode) == 0o700


def test_the_same_layer_gives_the_same_blob_in_every_archive(tmp_path: Path) -> None:
    first, second = Archive(tmp_path / "a"), Archive(tmp_path / "b")
    assert put(first, FakeImage([BASE, WORK])) == put(second, FakeImage([BASE, WORK]))


def test_layers_that_are_there_are_shared_and_not_packed_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(archive, FakeImage([BASE]), "als/base:v1")
    packed: list[int] = []
    from workspaces.archive import deflate

    unwatched = deflate._deflate

    def counted(block: bytes, window: bytes) -> bytes:
        packed.append(len(block))
        return unwatched(block, window)

    monkeypatch.setattr(deflate, "_deflate", counted)
    image = FakeImage([BASE, WORK])
    digest = put(archive, image)
    assert sum(packed) == len(WORK)
    assert image.saves == 1
    assert unpacked(archive, digest)[1] == [BASE, WORK]


def test_another_layer_of_the_size_of_a_known_one_is_read_again(archive: Archive) -> None:
    other = bytes(reversed(WORK))
    put(archive, FakeImage([WORK]), "als/base:v1")
    image = FakeImage([WORK, other])
    digest = put(archive, image)
    assert image.saves == 2
    assert unpacked(archive, digest)[1] == [WORK, other]


def test_a_repeat_does_nothing_and_another_image_is_refused(archive: Archive) -> None:
    image = FakeImage([BASE])
    digest = put(archive, image)
    assert put(archive, image) == digest
    assert image.saves == 1
    with pytest.raises(Conflict, match="another image under the name als/alice:v1"):
        put(archive, FakeImage([BASE], label="y"))
    assert archive.find(REF).digest == digest


def test_damage_is_found_and_mended_by_a_repeat(archive: Archive) -> None:
    image = FakeImage([BASE, WORK])
    digest = put(archive, image)
    manifest = json.loads((archive.root / "blobs" / "sha256" / digest[7:]).read_bytes())
    damaged, missing = (archive.root / "blobs" / "sha256" / entry["digest"][7:] for entry in manifest["layers"])
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    missing.unlink()
    fresh = Archive(archive.root)
    sentences = [str(problem) for problem in fresh.verify().problems]
    assert len(sentences) == 2
    assert sentences[0].startswith(f"{REF}: ")
    assert "missing from the archive" in sentences[1]
    assert not fresh.has(digest)
    with pytest.raises(Corrupt):
        b"".join(fresh.docker_tar(digest))
    damaged.unlink()
    assert put(fresh, image) == digest
    assert fresh.verify().problems == ()


@pytest.mark.parametrize("name", ["manifest", "config", "index"])
def test_damaged_json_is_found(archive: Archive, name: str) -> None:
    image = FakeImage([WORK])
    digest = put(archive, image)
    blobs = archive.root / "blobs" / "sha256"
    path = {"manifest": blobs / digest[7:], "config": blobs / image.id[7:], "index": archive.root / "index.json"}[name]
    path.write_bytes(b'{"manifests": [{}]}')
    assert len(Archive(archive.root).verify().problems) == 1


def test_an_empty_archive_is_no_error(archive: Archive) -> None:
    assert archive.list() == []
    assert archive.verify().problems == ()
    archive.clean()
    assert not archive.root.exists()
    with pytest.raises(NotFound, match="no image als/bob:v1"):
        archive.find("als/bob:v1")
    with pytest.raises(NotFound):
        archive.docker_tar(sha256(b""))


def test_many_at_once_all_arrive(archive: Archive) -> None:
    images = {f"als/w{n}:v1": FakeImage([BASE, layer({f"f{n}": b"x" * n})], label=str(n)) for n in range(6)}
    threads = [threading.Thread(target=put, args=(archive, image, ref)) for ref, image in images.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i.ref: i.config_digest for i in archive.list()} == {ref: image.id for ref, image in images.items()}
    assert archive.verify().problems == ()
    assert len(list((archive.root / "blobs" / "sha256").iterdir())) == 1 + 3 * len(images)


def test_export_is_whole_or_absent(archive: Archive, tmp_path: Path) -> None:
    image = FakeImage([BASE, WORK])
    digest = put(archive, image)
    target = tmp_path / "out.tar"
    archive.export(REF, target)
    with tarfile.open(target) as tar:
        names = tar.getnames()
        file = tar.extractfile("manifest.json")
        assert file is not None
        assert json.loads(file.read())[0]["RepoTags"] == [REF]
    assert {"oci-layout", "index.json", f"blobs/sha256/{digest[7:]}"} <= set(names)
    (archive.root / "blobs" / "sha256" / image.id[7:]).write_bytes(b"bad")
    target.unlink()
    with pytest.raises(Corrupt):
        Archive(archive.root).export(digest, target)
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_full_disk_is_told_and_leaves_no_file(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    from workspaces.archive.blobs import BlobWriter

    write = BlobWriter.write

    def full(writer: BlobWriter, data: bytes) -> None:
        if len(data) > 1000:
            raise OSError(28, "No space left on device")
        write(writer, data)

    monkeypatch.setattr(BlobWriter, "write", full)
    with pytest.raises(ArchiveError, match=r"The disk of the archive in .* is full"):
        put(archive, FakeImage([BASE]))
    assert not list((archive.root / ".tmp").iterdir())
    assert archive.list() == []
