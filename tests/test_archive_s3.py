"""The archive in a bucket of a real S3 server: the same as in a directory, and what happens when the server fails."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.support.s3 import Fault, Faulty, bucket, client, credentials, new_bucket, objects, s3_server, times, uploads
from tests.support.savetar import FakeImage, layer
from tests.support.worlds import memory_world
from workspaces import settings
from workspaces.archive import Archive, open_archive, s3
from workspaces.archive.s3 import S3
from workspaces.archive.sealing import Seal
from workspaces.archive.storage import Stored
from workspaces.errors import ArchiveError, ArchiveUnavailable, Conflict, Corrupt, NotFound, SettingsError
from workspaces.model import JobKind, SnapshotState
from workspaces.settings import Bucket

__all__ = ["bucket", "credentials", "s3_server"]

pytestmark = pytest.mark.slow

NOISE = random.Random(1).randbytes(6_000_000)  # does not shrink: more than one part
BASE = layer({"bin/sh": NOISE})
WORK = layer({"root/result.txt": b"42\n"})
IMAGE = FakeImage([BASE, WORK])
REF = "als/alice:v1"


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART", 5 << 20)  # the least that S3 takes
    monkeypatch.setattr(s3, "ATTEMPTS", 3)
    monkeypatch.setattr(s3, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


def archive_in(bucket: Bucket, place: Path, seal: Seal | None = None) -> Archive:
    return Archive(S3(bucket, place / "local", place / "keys"), seal)


def put(archive: Archive, image: FakeImage = IMAGE, ref: str = REF) -> str:
    return archive.put(image.save(), ref=ref, config_digest=image.id, diff_ids=image.diff_ids)


@pytest.fixture
def archive(bucket: Bucket, tmp_path: Path) -> Archive:
    return archive_in(bucket, tmp_path)


def test_it_is_the_same_layout_as_in_a_directory(archive: Archive, bucket: Bucket, tmp_path: Path) -> None:
    other = Archive(tmp_path / "directory")
    digest = put(archive)
    assert digest == put(other)
    there = {str(path.relative_to(other.root)): path.stat().st_size for path in other.root.rglob("*") if path.is_file()}
    del there[".lock"]
    assert objects(bucket) == there
    assert b"".join(archive.docker_tar(digest, REF)) == b"".join(other.docker_tar(digest, REF))
    assert archive.verify().problems == ()
    assert archive.list() == other.list()
    assert archive.has(digest)
    assert not uploads(bucket)
    assert [path.name for path in archive.root.rglob("*") if path.is_file()] == [".lock"]


def test_a_version_goes_there_by_the_settings_and_comes_back(bucket: Bucket, tmp_path: Path) -> None:
    """Settings, jobs and restore, with encryption, as a host has it."""
    identity = pyrage.x25519.Identity.generate()
    with memory_world(tmp_path) as world:
        (tmp_path / "workspaces.toml").write_text(
            f'[archive]\nurl = "s3://{bucket.name}/{bucket.prefix}/"\nendpoint = "{bucket.endpoint}"\n'
            f'region = "us-east-1"\naddressing = "path"\nrecipients = ["{identity.to_public()}"]\n'
        )
        keys = tmp_path / "keys"
        keys.mkdir()
        world.archive = open_archive(settings.load(tmp_path))
        (world.rootfs / "root" / "one").write_text("1")
        snapshot = world.approved()
        world.work()
        done = world.store.snapshot(snapshot.id)
        assert (done.state, done.version) == (SnapshotState.ARCHIVED, 1), world.describe()
        assert {name.split("/")[0] for name in objects(bucket)} == {"oci-layout", "index.json", "blobs"}
        (world.rootfs / "root" / "one").write_text("2")
        world.engine.remove_image(done.image_id or "")
        first = world.add_job(JobKind.RESTORE, snapshot.id)
        world.work()
        assert "no identity here opens it" in str(world.store.job(first.id).error)
        assert (world.rootfs / "root" / "one").read_text() == "2"
        (keys / "archive-identity.txt").write_text(str(identity))
        (keys / "archive-identity.txt").chmod(0o600)
        world.add_job(JobKind.RESTORE, snapshot.id)
        world.work()
        assert (world.rootfs / "root" / "one").read_text() == "1"


def test_layers_are_shared_and_a_repeat_reads_nothing(archive: Archive, bucket: Bucket) -> None:
    put(archive)
    before = objects(bucket)
    image = FakeImage([BASE, WORK, layer({"new": b"1"})])
    put(archive, image, "als/alice:v2")
    assert len(objects(bucket).keys() - before.keys()) == 3  # layer, configuration, manifest
    again = FakeImage([BASE, WORK])
    assert put(archive, again) == archive.find(REF).digest
    put(archive, again, "als/copy:v1")
    assert again.saves == 0
    with pytest.raises(Conflict, match="another image"):
        put(archive, FakeImage([WORK]))


def test_two_hosts_lose_no_entry(bucket: Bucket, tmp_path: Path) -> None:
    images = {f"als/w{n}:v1": FakeImage([BASE, layer({f"f{n}": b"x"})], label=str(n)) for n in range(6)}
    hosts = [archive_in(bucket, tmp_path / "a"), archive_in(bucket, tmp_path / "b")]
    threads = [
        threading.Thread(target=put, args=(hosts[n % 2], image, ref)) for n, (ref, image) in enumerate(images.items())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.ref for found in hosts[0].list()} == images.keys()
    assert hosts[1].verify().problems == ()


def test_what_another_host_collects_meanwhile_is_stored_again(bucket: Bucket, tmp_path: Path) -> None:
    """Between choosing to share a layer and naming it, another host prunes and collects it."""
    mine, other = archive_in(bucket, tmp_path / "a"), archive_in(bucket, tmp_path / "b")
    old = put(other, FakeImage([BASE], label="old"), "als/old:v1")
    image = FakeImage([BASE, WORK])
    save = image.save()

    def saved() -> Iterator[bytes]:
        if image.saves == 0:
            other._storage.grace = 0.0
            assert other.remove(old)
            assert other.collect().blobs
        return save()

    digest = mine.put(saved, ref=REF, config_digest=image.id, diff_ids=image.diff_ids)
    assert mine.has(digest)
    assert mine.verify().problems == ()


@pytest.mark.parametrize("before", ["blobs", "since"])
def test_what_another_host_names_while_it_is_collected_stays(bucket: Bucket, tmp_path: Path, before: str) -> None:
    """It archives with a layer that this host has found, or is about to find, to be garbage."""
    mine, other = archive_in(bucket, tmp_path / "a"), archive_in(bucket, tmp_path / "b")
    old = put(other, FakeImage([BASE], label="old"), "als/old:v1")
    other.remove(old)
    storage = other._storage
    storage.grace = -60.0  # all is old
    unwatched = getattr(storage, before)
    began = iter([True])

    def watched(*arguments: str) -> Any:
        if next(began, False):
            put(mine)
        return unwatched(*arguments)

    setattr(storage, before, watched)
    assert len(other.collect().blobs) == 2  # configuration and manifest of the old one
    assert mine.verify().problems == ()


def test_what_another_host_writes_again_while_it_is_collected_stays(bucket: Bucket, tmp_path: Path) -> None:
    """It was old when it was listed; its entry in the index is yet to come."""
    archive = archive_in(bucket, tmp_path)
    archive.remove(put(archive))
    storage = archive._storage
    unwatched = storage.blobs
    storage.blobs = lambda: (Stored(found.name, found.size, 0.0) for found in unwatched())  # type: ignore[method-assign]
    assert len(archive.garbage().blobs) == 4
    assert archive.collect().blobs == ()
    assert len(list(unwatched())) == 4


def test_what_another_host_deletes_under_a_new_entry_is_stored_again(bucket: Bucket, tmp_path: Path) -> None:
    """Its `collect` began before the entry was written, and deletes just after."""
    archive = archive_in(bucket, tmp_path)
    storage = archive._storage
    lost: list[str] = []
    unwatched = storage.replace

    def replaced(name: str, data: bytes, version: str | None) -> None:
        unwatched(name, data, version)
        if name == "index.json" and not lost:
            blob = next(storage.blobs())
            lost.append(blob.name)
            storage.delete(f"blobs/sha256/{blob.name}")

    storage.replace = replaced  # type: ignore[method-assign]
    digest = put(archive)
    assert lost
    assert archive.verify().problems == ()
    assert archive.has(digest)


def test_gc_leaves_what_is_young_and_deletes_what_is_old(
    archive: Archive, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(archive)
    keep = put(archive, FakeImage([WORK], label="keep"), "als/keep:v1")
    assert archive.remove(digest)
    began = client(bucket.endpoint).create_multipart_upload(Bucket=bucket.name, Key=f"{bucket.prefix}/blobs/sha256/x")
    assert archive.garbage().young == 3  # the layer, the configuration, the manifest
    assert archive.collect().blobs == ()
    monkeypatch.setattr(S3, "grace", -60.0)
    monkeypatch.setattr(s3, "GRACE_SECONDS", -60.0)
    told: list[str] = []
    found = archive.collect(lambda name, _: told.append(name))
    assert len(found.blobs) == 3
    assert told == [*(blob.digest for blob in found.blobs), *found.unfinished]
    assert began["UploadId"] in found.unfinished[0]
    assert not uploads(bucket)
    assert archive.verify().problems == ()
    assert [image.digest for image in archive.list()] == [keep]
    assert archive.garbage().blobs == ()


def test_a_blob_that_is_there_and_old_becomes_young_again(
    archive: Archive, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another host's gc, which saw it unused, would delete it under the new image."""
    put(archive)
    archive.remove(archive.find(REF).digest)
    monkeypatch.setattr(s3, "GRACE_SECONDS", -60.0)
    written: list[str] = []
    events = archive._storage._client.meta.events  # type: ignore[attr-defined]
    events.register("before-send.s3.PutObject", lambda request, **_: written.append(request.url))
    events.register("before-send.s3.CompleteMultipartUpload", lambda request, **_: written.append(request.url))
    put(archive)
    assert len([url for url in written if "blobs/sha256" in url]) == 2 * 4  # refused, then written all the same
    assert archive.verify().problems == ()


@pytest.mark.parametrize(
    "fault",
    [
        times(2, "503", "PUT"),
        times(2, "429", "PUT", "partNumber"),
        times(1, "lost", "PUT", "index.json"),
        times(1, "lost", "PUT", "blobs"),
        times(1, "lost", "POST", "uploads"),
        times(1, "503", "GET"),
    ],
    ids=["503", "429", "index written, answer lost", "blob written, answer lost", "upload begun, answer lost", "read"],
)
def test_what_fails_for_the_moment_is_repeated(s3_server: str, tmp_path: Path, fault: Fault) -> None:
    proxy = Faulty(s3_server)
    proxy.fault = fault
    with proxy.running() as address:
        bucket = replace(new_bucket(s3_server), endpoint=address)
        archive = archive_in(bucket, tmp_path)
        digest = put(archive)
        assert any(wrong for _, _, wrong in proxy.seen)
        assert archive.has(digest)
        assert archive.verify().problems == ()


@pytest.mark.parametrize("wrong", ["503", "hang", "lost"])
@pytest.mark.parametrize(("method", "part"), [("PUT", "index.json"), ("PUT", "blobs"), ("PUT", "partNumber"),
                                              ("POST", "uploadId"), ("GET", "index.json")])  # fmt: skip
def test_what_goes_on_failing_is_left_to_the_job_and_a_repeat_mends_it(
    s3_server: str, tmp_path: Path, wrong: str, method: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.3)
    proxy = Faulty(s3_server)
    proxy.fault = times(1000, wrong, method, part)
    with proxy.running() as address:
        bucket = replace(new_bucket(s3_server), endpoint=address)
        archive = archive_in(bucket, tmp_path)
        with pytest.raises(ArchiveUnavailable) as caught:
            put(archive)
        assert bucket.name in caught.value.message
        proxy.fault = lambda *_: None
        monkeypatch.setattr(s3, "READ_SECONDS", 60)
        archive = archive_in(bucket, tmp_path)
        digest = put(archive)
        assert archive.has(digest)
        assert archive.verify().problems == ()
        assert not uploads(replace(bucket, endpoint=s3_server))


def test_a_download_that_breaks_off_goes_on_where_it_was(s3_server: str, tmp_path: Path) -> None:
    proxy = Faulty(s3_server)
    with proxy.running() as address:
        archive = archive_in(replace(new_bucket(s3_server), endpoint=address), tmp_path)
        digest = put(archive)
        whole = b"".join(archive.docker_tar(digest))
        proxy.seen.clear()
        big = max(archive.blobs_of(digest), key=lambda blob: blob.size)
        proxy.fault = times(2, "cut", "GET", big.digest[7:])
        assert b"".join(archive.docker_tar(digest)) == whole
        assert [wrong for _, path, wrong in proxy.seen if big.digest[7:] in path] == ["cut", "cut", None]
        proxy.fault = times(1000, "cut", "GET", big.digest[7:])
        with pytest.raises(ArchiveUnavailable, match="breaks off"):
            b"".join(archive.docker_tar(digest))
        proxy.fault = times(1000, "flip", "GET", big.digest[7:])
        with pytest.raises(Corrupt, match=big.digest):
            b"".join(archive.docker_tar(digest))


def test_damage_is_named_with_the_images_that_it_hurts(archive: Archive, bucket: Bucket) -> None:
    digest = put(archive)
    put(archive, FakeImage([BASE], label="other"), "als/bob:v1")
    _, base, work = archive.blobs_of(digest)
    server = client(bucket.endpoint)
    key = f"{bucket.prefix}/blobs/sha256/{base.digest[7:]}"
    data = server.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    server.put_object(Bucket=bucket.name, Key=key, Body=data[:-9] + b"!" + data[-8:])
    server.delete_object(Bucket=bucket.name, Key=f"{bucket.prefix}/blobs/sha256/{work.digest[7:]}")
    problems = {problem.blob: problem for problem in archive.verify().problems}
    assert problems.keys() == {base.digest, work.digest}
    assert problems[base.digest].images == (REF, "als/bob:v1")
    assert problems[work.digest].images == (REF,)
    assert "missing" in problems[work.digest].sentence


def test_what_an_administrator_must_mend_is_said(
    bucket: Bucket, tmp_path: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArchiveError, match="There is no bucket nowhere") as caught:
        put(archive_in(replace(bucket, name="nowhere"), tmp_path))
    assert not isinstance(caught.value, ArchiveUnavailable)
    with pytest.raises(ArchiveUnavailable, match="does not answer"):
        put(archive_in(replace(bucket, endpoint="http://127.0.0.1:1"), tmp_path / "other"))
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "s3.toml").write_text('access_key = "tests"\nsecret_key = "wrong"\n')
    with pytest.raises(SettingsError, match="can be read by others"):
        archive_in(bucket, tmp_path)
    (keys / "s3.toml").chmod(0o600)
    with pytest.raises(ArchiveError, match=r"refuses this host \(SignatureDoesNotMatch\)"):
        put(archive_in(bucket, tmp_path))
    (keys / "s3.toml").write_text("access_key = 1\n")
    with pytest.raises(SettingsError, match="must have access_key and secret_key"):
        archive_in(bucket, tmp_path)
    (keys / "s3.toml").write_text('access_key = "tests"\nsecret_key = "secret-of-tests"\n')
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    put(archive_in(bucket, tmp_path))
    (keys / "s3.toml").unlink()
    with pytest.raises(ArchiveError, match="no credentials"):
        put(archive_in(bucket, tmp_path))


@pytest.mark.parametrize("text", [b"", b"\0\0", b"[", b"1", b'["only"]', b"\xff"])
def test_a_note_that_the_power_tore_is_in_nobodys_way(archive: Archive, tmp_path: Path, text: bytes) -> None:
    archive._storage.prepare()
    (archive.root / ".tmp" / "x.upload").write_bytes(text)
    archive.clean()
    assert list((archive.root / ".tmp").iterdir()) == []


def test_a_full_local_disk_is_told(archive: Archive, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from workspaces.archive.blobs import BlobWriter

    def full(writer: BlobWriter, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BlobWriter, "write", full)
    with pytest.raises(ArchiveError, match="is full"):
        put(archive)
    assert not list((archive.root / ".tmp").iterdir())
    with pytest.raises(NotFound):
        archive.find(REF)


@pytest.mark.parametrize(("sealed", "stride"), [(False, 4), pytest.param(False, 1, marks=pytest.mark.long), (True, 5)])
def test_killed_before_any_request_it_is_whole_or_absent(
    s3_server: str, tmp_path: Path, sealed: bool, stride: int
) -> None:
    """put, remove and collect, killed before each request that they make; the next attempt ends it."""
    seal = _seal(tmp_path) if sealed else Seal()
    for step in range(0, 60, stride):
        bucket, place = new_bucket(s3_server), tmp_path / str(step)
        old = FakeImage([layer({"old": NOISE[:1000]})])
        put(archive_in(bucket, place, seal), old, "als/old:v1")
        status = _in_child(lambda: _until_killed(bucket, place, seal, step))  # noqa: B023
        archive = archive_in(bucket, place, seal)
        assert archive.verify().problems == ()
        assert {image.ref for image in archive.list()} <= {REF, "als/old:v1"}
        _whole_story(archive)
        archive.collect()
        assert archive.verify().problems == ()
        assert [image.ref for image in archive.list()] == [REF]
        assert len(objects(bucket)) == 2 + 4
        assert not uploads(bucket)
        if status == 0:
            assert step > 20
            return
    pytest.fail("more requests than expected")


def _seal(place: Path) -> Seal:
    (place / "keys").mkdir()
    return Seal([str(pyrage.x25519.Identity.generate().to_public())], place / "keys")


def _whole_story(archive: Archive) -> None:
    archive._storage.grace = -60.0
    put(archive)
    for image in archive.list():
        if image.ref == "als/old:v1":
            archive.remove(image.digest)
    archive.collect()


def _until_killed(bucket: Bucket, place: Path, seal: Seal, steps: int) -> None:
    archive = archive_in(bucket, place, seal)
    left = steps

    def count(**_: Any) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    archive._storage._client.meta.events.register("before-send.s3", count)  # type: ignore[attr-defined]
    _whole_story(archive)


def _in_child(work: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return 0
    return -1
