"""Encrypted archives: what an outsider sees, what the host sees, and what only an identity opens."""

from __future__ import annotations

import json
import random
import stat
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from tests.support.savetar import FakeImage, layer, sha256
from workspaces.archive import Archive, Descriptor, deflate
from workspaces.archive.sealing import NoIdentity, Seal
from workspaces.errors import ArchiveError, Corrupt, NotFound, SettingsError

pytestmark = pytest.mark.slow

SECRET = b"the participant's own words, 42 times over"
BASE = layer({"etc/os-release": b"ID=debian\n" * 400, "bin/sh": random.Random(1).randbytes(2_500_000)})
WORK = layer({"root/result.txt": SECRET * 42})
IMAGE = FakeImage([BASE, WORK], label="Label-Of-The-Configuration")
REF = "als/alice:v1"


class Place:
    """A state directory's keys and archive, and an identity that is kept elsewhere."""

    def __init__(self, root: Path, recipients: int = 1) -> None:
        self.root = root
        self.keys = root / "keys"
        self.keys.mkdir(parents=True)
        self.identities = [pyrage.x25519.Identity.generate() for _ in range(recipients)]
        self.identity = root / "identity.txt"
        self.identity.write_text(f"# created: today\n# public key: x\n{self.identities[0]}\n")
        self.identity.chmod(0o600)
        self.recipients = [str(identity.to_public()) for identity in self.identities]

    def archive(self, identity: bool = False, keys: Path | None = None, recipients: list[str] | None = None) -> Archive:
        names = self.recipients if recipients is None else recipients
        return Archive(self.root / "archive", Seal(names, keys or self.keys, self.identity if identity else None))


def put(archive: Archive, image: FakeImage = IMAGE, ref: str = REF) -> str:
    told = {"org.opencontainers.image.description": "Message-Of-The-Participant"}
    return archive.put(image.save(), ref=ref, config_digest=image.id, diff_ids=image.diff_ids, annotations=told)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_went_in_comes_out_with_the_identity_and_with_the_digests_of_a_plain_archive(place: Place) -> None:
    digest = put(place.archive())
    plain = Archive(place.root / "plain")
    assert put(plain) == digest
    reader = place.archive(identity=True)
    assert b"".join(reader.docker_tar(digest, REF)) == b"".join(plain.docker_tar(digest, REF))
    assert reader.manifest_bytes(digest) == plain.manifest_bytes(digest)
    assert reader.blobs_of(digest) == plain.blobs_of(digest)
    for blob in reader.blobs_of(digest):
        assert b"".join(reader.read_blob(blob)) == b"".join(plain.read_blob(blob))
    for number, diff_id in enumerate(IMAGE.diff_ids):
        chunks = reader.layer(diff_id)
        assert chunks is not None
        assert b"".join(chunks) == IMAGE.layers[number]
    verdict = reader.verify()
    assert (verdict.problems, verdict.sealed) == ((), 0)
    [found], [other] = reader.list(), plain.list()
    assert (found.digest, found.diff_ids, found.annotations, found.size) == (
        other.digest, other.diff_ids, other.annotations, other.size,
    )  # fmt: skip
    assert found.encrypted
    assert not other.encrypted


def test_who_has_the_bucket_reads_names_sizes_and_sharing_only(place: Place) -> None:
    """Neither contents, nor configuration and annotations, nor the digests of layers that he might know."""
    put(place.archive())
    root = place.root / "archive"
    everything = b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())
    for word in (SECRET, b"Label-Of", b"Message-Of", b"architecture", b"diff_ids", b"description"):
        assert word not in everything
    for digest in (IMAGE.id, *IMAGE.diff_ids, *(blob.digest for blob in place.archive().blobs_of(_digest(place)))):
        assert digest[7:].encode() not in everything
        assert not (root / "blobs" / "sha256" / digest[7:]).exists()
    [entry] = json.loads((root / "index.json").read_text())["manifests"]
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": REF,
        "io.workspaces.archive.manifest": _digest(place),
    }
    manifest = json.loads((root / "blobs" / "sha256" / entry["digest"][7:]).read_text())
    assert manifest["config"].keys() == {"mediaType", "digest", "size"}
    assert {name for found in manifest["layers"] for name in found["annotations"]} == {
        "io.workspaces.archive.recipients"
    }


def _digest(place: Place) -> str:
    return place.archive().list()[0].digest


def test_without_an_identity_the_host_sees_and_shares_but_does_not_read(place: Place) -> None:
    digest = put(place.archive())
    archive = place.archive()
    assert archive.has(digest)
    assert archive.find(REF).digest == digest
    with pytest.raises(NoIdentity) as caught:
        archive.docker_tar(digest)  # before whoever downloads it gets a first byte
    assert "archive-identity.txt" in caught.value.hint
    with pytest.raises(NoIdentity):
        archive.export(REF, place.root / "out.tar")
    assert not (place.root / "out.tar").exists()
    verdict = archive.verify()
    assert (verdict.problems, verdict.sealed) == ((), 2)
    assert stat.S_IMODE((place.keys / "archive-host.txt").stat().st_mode) == 0o600
    (place.keys / "archive-identity.txt").write_text(str(place.identities[0]))
    with pytest.raises(ArchiveError, match="can be read by others"):
        b"".join(archive.docker_tar(digest))
    (place.keys / "archive-identity.txt").chmod(0o600)
    assert b"".join(archive.docker_tar(digest))


def test_layers_are_shared_although_encrypted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place.archive())
    before = set((place.root / "archive/blobs/sha256").iterdir())
    packed: list[int] = []
    unwatched = deflate._deflate

    def counted(block: bytes, window: bytes) -> bytes:
        packed.append(len(block))
        return unwatched(block, window)

    monkeypatch.setattr(deflate, "_deflate", counted)
    other = layer({"other": b"1" * 70000})
    image = FakeImage([BASE, WORK, other])
    put(place.archive(), image, "als/bob:v1")
    assert sum(packed) == len(other)
    assert image.saves == 1
    assert len(set((place.root / "archive/blobs/sha256").iterdir()) - before) == 3  # layer, record, manifest
    again = FakeImage([BASE, WORK, other])
    put(place.archive(), again, "als/carol:v1")
    put(place.archive(), again, "als/bob:v1")
    assert again.saves == 0
    assert place.archive(identity=True).verify().problems == ()


def test_other_recipients_get_blobs_of_their_own(place: Place) -> None:
    """Else a new recipient could not read the layers that it shares with older versions."""
    put(place.archive())
    new = pyrage.x25519.Identity.generate()
    digest = put(place.archive(recipients=[*place.recipients, str(new.to_public())]), FakeImage([BASE]), "als/new:v1")
    place.identity.write_text(str(new))
    reader = place.archive(identity=True)
    assert b"".join(reader.docker_tar(digest))
    with pytest.raises(NoIdentity):
        b"".join(reader.docker_tar(reader.find(REF).digest))
    verdict = reader.verify()
    assert (verdict.problems, verdict.sealed) == ((), 2)


def test_plain_and_encrypted_images_live_side_by_side(place: Place) -> None:
    plain = put(place.archive(recipients=[]), FakeImage([BASE]), "als/plain:v1")
    assert not (place.keys / "archive-host.txt").exists()
    sealed = put(place.archive())
    again = put(place.archive(recipients=[]), FakeImage([BASE, WORK]), "als/later:v1")
    reader = place.archive(identity=True)
    for digest in (plain, sealed, again):
        assert b"".join(reader.docker_tar(digest))
    assert [image.encrypted for image in reader.list()] == [False, True, False]
    b"".join(Archive(place.root / "archive").docker_tar(again))  # needs no identity


def test_another_host_without_the_identity_cannot_look_and_with_it_can(place: Place, tmp_path: Path) -> None:
    digest = put(place.archive())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    [found] = place.archive(keys=elsewhere).list()
    assert (found.digest, found.opened) == (digest, False)
    assert place.archive(keys=elsewhere).verify().problems == ()
    image = FakeImage([BASE, WORK], label="another")
    put(place.archive(keys=elsewhere), image, "als/elsewhere:v1")
    assert place.archive(keys=elsewhere).garbage().blobs == ()
    reader = place.archive(identity=True, keys=elsewhere)
    assert {found.ref for found in reader.list()} == {REF, "als/elsewhere:v1"}
    assert b"".join(reader.docker_tar(digest))


def test_damage_is_found_without_the_identity(place: Place) -> None:
    put(place.archive())
    blobs = sorted((place.root / "archive/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blobs[-1].read_bytes())
    data[len(data) // 2] ^= 1
    blobs[-1].write_bytes(data)
    for identity in (False, True):
        [problem] = place.archive(identity=identity).verify().problems
        assert (problem.blob, problem.images) == (f"sha256:{blobs[-1].name}", (REF,))
    with pytest.raises(Corrupt):
        b"".join(place.archive(identity=True).docker_tar(_digest(place)))


def test_a_swapped_layer_is_found_with_the_identity(place: Place) -> None:
    """Who has the bucket, but no key, can encrypt for the recipients and rewrite manifests: it does not match then."""
    from workspaces.archive.blobs import Blobs, BlobWriter
    from workspaces.archive.storage import Directory

    digest = put(place.archive())
    root = place.root / "archive"
    blobs = Blobs(Directory(root))
    index = json.loads((root / "index.json").read_text())
    manifest = json.loads((root / "blobs/sha256" / index["manifests"][0]["digest"][7:]).read_text())
    with BlobWriter(Directory(root)) as writer:
        Seal(place.recipients).encrypt([b"not the layer"], writer, host=False)
        bad = writer.keep()
    manifest["layers"][1] |= {"digest": bad.digest, "size": bad.size}
    changed = blobs.add(json.dumps(manifest).encode())
    index["manifests"][0] |= {"digest": changed.digest, "size": changed.size}
    (root / "index.json").write_text(json.dumps(index))
    assert place.archive().verify().problems == ()
    [problem] = place.archive(identity=True).verify().problems
    assert problem.images == (REF,)
    with pytest.raises(Corrupt):
        b"".join(place.archive(identity=True).docker_tar(digest))


def test_a_broken_record_is_corrupt_and_no_traceback(place: Place) -> None:
    put(place.archive())
    root = place.root / "archive"
    [entry] = json.loads((root / "index.json").read_text())["manifests"]
    manifest = json.loads((root / "blobs/sha256" / entry["digest"][7:]).read_text())
    record = root / "blobs/sha256" / manifest["config"]["digest"][7:]
    record.write_bytes(record.read_bytes()[:-40])
    with pytest.raises(Corrupt):
        place.archive().list()
    assert len(place.archive().verify().problems) == 1


@pytest.mark.parametrize("name", ["", "age1xyz", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1QQ"])
def test_a_wrong_recipient_is_said_at_once(name: str) -> None:
    with pytest.raises(SettingsError, match="no age public key"):
        Seal([name])


@pytest.mark.parametrize("text", ["nonsense", "AGE-SECRET-KEY-1QQ"])
def test_a_wrong_identity_file_is_said(place: Place, text: str) -> None:
    digest = put(place.archive())
    place.identity.write_text(text)
    with pytest.raises(ArchiveError, match="no file of age identities"):
        b"".join(place.archive(identity=True).docker_tar(digest))
    place.identity.unlink()
    with pytest.raises(ArchiveError, match="There is no identity file"):
        b"".join(place.archive(identity=True).docker_tar(digest))


def test_streams_are_bounded_and_an_abandoned_one_ends(place: Place) -> None:
    seal = Seal(place.recipients, place.keys, place.identity)
    target = place.root / "big.age"

    def many() -> Iterator[bytes]:
        for number in range(64):
            yield bytes([number]) * (1 << 20)

    tracemalloc.start()
    try:
        with target.open("wb") as sink:
            seal.encrypt(many(), sink, host=False)
        with target.open("rb") as source:
            size = sum(len(piece) for piece in seal.decrypt(iter(lambda: source.read(1 << 20), b""), host=False))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 16 << 20
    with target.open("rb") as source:
        pieces = seal.decrypt(iter(lambda: source.read(1 << 20), b""), host=False)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    import threading

    assert not [thread for thread in threading.enumerate() if thread.name == "decrypt"]


def test_an_error_of_the_source_or_the_sink_keeps_its_kind(place: Place) -> None:
    seal = Seal(place.recipients, place.keys, place.identity)

    def breaks() -> Iterator[bytes]:
        yield b"x"
        raise Corrupt("the tar is cut off")

    with (place.root / "x").open("wb") as sink, pytest.raises(Corrupt, match="cut off"):
        seal.encrypt(breaks(), sink, host=False)

    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        seal.encrypt([b"x" * 100000], Full(), host=False)
    assert caught.value.errno == 28


def test_an_exported_tar_is_plain(place: Place) -> None:
    put(place.archive())
    place.archive(identity=True).export(REF, place.root / "out.tar", "oci")
    with tarfile.open(place.root / "out.tar") as tar:
        names = tar.getnames()
    assert "manifest.json" not in names
    assert "oci-layout" in names


def test_what_another_host_sealed_in_the_same_archive_is_in_nobodys_way(place: Place) -> None:
    """Two hosts, one archive, no identity on either: each has a key of its own."""
    keys = place.root / "keys of the other"
    keys.mkdir()
    theirs, ours = place.archive(keys=keys), place.archive()
    closed = put(theirs)
    own = FakeImage([BASE, layer({"root/other": b"1" * 1000})])
    digest = put(ours, own, "als/bob:v1")
    attached = ours.attach(digest, "https://example.org/statement", b"signed")
    config = ours.blobs_of(digest)[0]
    assert sha256(b"".join(ours.read_blob(config))) == own.id
    assert b"".join(ours.read_blob(ours.blobs_of(attached)[1])) == b"signed"
    assert not ours.has(closed)
    assert [(found.ref, found.digest, found.opened) for found in ours.list()] == [
        (REF, closed, False),
        ("als/bob:v1", digest, True),
    ]
    with pytest.raises(NoIdentity):
        ours.find(REF)
    with pytest.raises(NotFound):
        ours.read_blob(Descriptor(sha256(b"none"), 4))
    assert [found.opened for found in place.archive(identity=True).list()] == [True, True]


def test_a_plain_document_about_a_sealed_image(place: Place) -> None:
    """Recipients were taken out of the settings after the image was archived."""
    digest = put(place.archive())
    plain = place.archive(recipients=[])
    attached = plain.attach(digest, "https://example.org/statement", b"signed")
    assert plain.verify().problems == ()
    assert plain.garbage().blobs == ()
    assert plain.document(attached) == b"signed"
    document = plain.blobs_of(attached)[1]
    (place.root / "archive/blobs/sha256" / document.digest[7:]).unlink()
    [problem] = plain.verify().problems
    assert (problem.blob, problem.images) == (document.digest, (REF,))
