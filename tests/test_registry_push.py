"""Versions in a real registry (Debian's docker-registry), read back with its own protocol and with skopeo."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest
import requests

from tests.support.registries import PROGRAM, RealRegistry, real_registry, write_credentials
from tests.support.worlds import World, world
from workspaces.archive import Archive
from workspaces.archive.sealing import Seal
from workspaces.model import JobKind, JobState, Snapshot, SnapshotState
from workspaces.provenance import SNAPSHOT_TYPE
from workspaces.registry import Registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed"),
]

__all__ = ["world"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def pushing(world: World, real: RealRegistry, tmp_path: Path) -> World:
    """A world with a registry, below a prefix of this test's own."""
    prefix = tmp_path.name.replace("_", "-").lower().strip("-")
    world.registry = Registry(f"{real.url}/{prefix}", world.root / "keys")
    return world


def version(world: World, name: str = "one") -> Snapshot:
    (world.rootfs / "root" / name).write_text(name * 1000)
    snapshot = world.approved()
    world.work()
    return world.store.snapshot(snapshot.id)


def manifest(real: RealRegistry, snapshot: Snapshot, reference: str) -> requests.Response:
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    return requests.get(url_of(real, snapshot, f"manifests/{reference}"), headers={"Accept": kinds}, timeout=10)


def url_of(real: RealRegistry, snapshot: Snapshot, rest: str) -> str:
    repository, _, _ = str(snapshot.registry_ref).removeprefix(f"{real.host}/").rpartition(":")
    return f"{real.url}/v2/{repository}/{rest}"


def test_an_archived_version_is_pushed_under_the_archives_own_digest(pushing: World, real: RealRegistry) -> None:
    pushed = version(pushing)
    assert pushed.state is SnapshotState.ARCHIVED, pushing.describe()
    assert str(pushed.registry_ref).endswith("/als/alice:v1"), pushing.describe()
    assert pushed.pushed_at is not None
    answer = manifest(real, pushed, "v1")
    assert answer.headers["Docker-Content-Digest"] == pushed.manifest_digest
    assert answer.content == pushing.archive.manifest_bytes(str(pushed.manifest_digest))
    [event] = pushing.store.events(kind="snapshot.pushed")
    assert event.data == {"registry": pushed.registry_ref, "manifest": pushed.manifest_digest}


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_it_and_copies_the_same_bytes(pushing: World, tmp_path: Path) -> None:
    pushed = version(pushing)
    reference = f"docker://{pushed.registry_ref}"
    inspect = ["skopeo", "inspect", "--tls-verify=false", reference]
    said = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
    assert said["Digest"] == pushed.manifest_digest
    assert said["Labels"]["org.opencontainers.image.version"] == "v1"
    copy = ["skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", reference, f"oci:{tmp_path / 'copy'}:x"]
    subprocess.run(copy, check=True, capture_output=True)
    [entry] = json.loads((tmp_path / "copy" / "index.json").read_text())["manifests"]
    assert entry["digest"] == pushed.manifest_digest
    for blob in pushing.archive.blobs_of(str(pushed.manifest_digest)):
        copied = tmp_path / "copy" / "blobs" / "sha256" / blob.digest[7:]
        assert copied.read_bytes() == b"".join(pushing.archive.read_blob(blob))


def test_the_statement_goes_with_it_as_a_referrer(pushing: World, real: RealRegistry) -> None:
    pushed = version(pushing)
    index = manifest(real, pushed, str(pushed.manifest_digest).replace(":", "-")).json()
    [entry] = index["manifests"]
    assert entry["artifactType"] == "application/vnd.in-toto+json"
    assert entry["annotations"] == {"in-toto.io/predicate-type": SNAPSHOT_TYPE}
    artifact = manifest(real, pushed, entry["digest"]).json()
    assert artifact["subject"]["digest"] == pushed.manifest_digest
    document = requests.get(url_of(real, pushed, f"blobs/{artifact['layers'][0]['digest']}"), timeout=10).content
    assert document.decode() == pushed.statement


def test_a_second_version_sends_only_what_is_new_and_the_first_stays(pushing: World, real: RealRegistry) -> None:
    first = version(pushing)
    mark = len(real.log.read_text())
    second = version(pushing, "two")
    assert (first.version, second.version) == (1, 2)
    theirs, mine = (set(pushing.archive.blobs_of(str(pushed.manifest_digest))) for pushed in (first, second))
    log = real.log.read_text()[mark:]
    for blob in theirs | mine:
        assert (f"digest={blob.digest.replace(':', '%3A')}" in log) is (blob in mine - theirs)
    for pushed in (first, second):
        assert manifest(real, pushed, f"v{pushed.version}").headers["Docker-Content-Digest"] == pushed.manifest_digest


def test_layers_of_another_workspace_are_mounted_and_not_sent(pushing: World, real: RealRegistry) -> None:
    alice = version(pushing)
    store = pushing.store
    store.add_user("bob", actor="test")
    pushing.id = store.add_workspace("als", "bob", ["bob"], actor="test").id
    (pushing.rootfs / "root" / "mine").write_text("bob")
    mark = len(real.log.read_text())
    bob = version(pushing)
    assert str(bob.registry_ref).endswith("als/bob:v1"), pushing.describe()
    log = real.log.read_text()[mark:]
    base = pushing.archive.blobs_of(str(alice.manifest_digest))[1].digest
    assert base in {blob.digest for blob in pushing.archive.blobs_of(str(bob.manifest_digest))}
    assert f"mount={base.replace(':', '%3A')}" in log
    assert f"digest={base.replace(':', '%3A')}" not in log
    assert requests.head(url_of(real, bob, f"blobs/{base}"), timeout=10).status_code == 200


def test_a_tag_that_is_another_image_is_never_moved(pushing: World, real: RealRegistry) -> None:
    first = version(pushing)
    other = version(pushing, "two")
    put = requests.put(
        url_of(real, first, "manifests/v1"),
        data=pushing.archive.manifest_bytes(str(other.manifest_digest)),
        headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        timeout=10,
    )
    assert put.status_code == 201
    job = pushing.add_job(JobKind.PUSH, first.id)
    pushing.work()
    failed = pushing.store.job(job.id)
    assert failed.state is JobState.FAILED
    assert f"The registry has another image as {first.registry_ref}" in str(failed.error)
    assert "never moved" in str(failed.error)
    assert manifest(real, first, "v1").headers["Docker-Content-Digest"] == other.manifest_digest
    assert pushing.store.snapshot(first.id).state is SnapshotState.ARCHIVED


def test_pushing_again_sends_nothing(pushing: World, real: RealRegistry) -> None:
    pushed = version(pushing)
    mark = len(real.log.read_text())
    pushing.add_job(JobKind.PUSH, pushed.id)
    pushing.work()
    assert pushing.store.snapshot(pushed.id) == pushed
    log = real.log.read_text()[mark:]
    assert "blobs/uploads" not in log
    assert "manifests/v1" in log
    assert len(pushing.store.events(kind="snapshot.pushed")) == 1


def test_a_version_that_only_the_registry_has_is_restored(pushing: World) -> None:
    pushed = version(pushing)
    (pushing.rootfs / "root" / "one").write_text("changed")
    pushing.engine.remove_image(str(pushed.image_id))
    shutil.rmtree(pushing.archive.root)
    pushing.archive = Archive(pushing.archive.root)
    pushing.add_job(JobKind.RESTORE, pushed.id)
    pushing.work()
    assert pushing.store.jobs(states=[JobState.FAILED]) == [], pushing.describe()
    assert (pushing.rootfs / "root" / "one").read_text() == "one" * 1000
    image = pushing.engine.image(str(pushed.image_id))
    assert image is not None
    assert image.diff_ids == pushed.diff_ids


def test_a_version_that_the_archive_has_but_nothing_here_opens_comes_from_the_registry(pushing: World) -> None:
    """The identity was here while it was pushed."""
    identity = pyrage.x25519.Identity.generate()
    keys = pushing.root / "keys"
    keys.mkdir(exist_ok=True)
    seal = Seal([str(identity.to_public())], keys)
    pushing.archive = Archive(pushing.archive.root, seal)
    file = keys / "archive-identity.txt"
    file.touch(0o600)
    file.write_text(f"{identity}\n")
    pushed = version(pushing)
    assert pushed.registry_ref, pushing.describe()
    file.unlink()
    pushing.engine.remove_image(str(pushed.image_id))
    job = pushing.add_job(JobKind.RESTORE, pushed.id)
    pushing.work()
    assert pushing.store.job(job.id).error is None
    assert pushing.engine.image(str(pushed.image_id)) is not None


def test_what_the_registry_has_instead_is_not_restored(pushing: World, real: RealRegistry) -> None:
    """The registry's store is changed behind its back: its bytes are compared with the digests that the store has."""
    pushed = version(pushing)
    layer = pushing.archive.blobs_of(str(pushed.manifest_digest))[-1].digest[7:]
    data = real.root / "store/docker/registry/v2/blobs/sha256" / layer[:2] / layer / "data"
    spoilt = bytearray(data.read_bytes())
    spoilt[-1] ^= 255
    data.write_bytes(spoilt)
    pushing.engine.remove_image(str(pushed.image_id))
    shutil.rmtree(pushing.archive.root)
    pushing.archive = Archive(pushing.archive.root)
    (pushing.rootfs / "root" / "one").write_text("mine")
    job = pushing.add_job(JobKind.RESTORE, pushed.id)
    pushing.work()
    failed = pushing.store.job(job.id)
    assert failed.state is JobState.FAILED
    assert "other bytes than those of" in str(failed.error)
    assert (pushing.rootfs / "root" / "one").read_text() == "mine"


def test_with_a_password(world: World, tmp_path: Path) -> None:
    with real_registry(tmp_path / "registry", "s3cret") as real:
        world.registry = Registry(f"{real.url}/x", world.root / "keys")
        first = version(world)
        assert first.state is SnapshotState.ARCHIVED
        [failed] = world.store.jobs(states=[JobState.FAILED])
        assert failed.kind is JobKind.PUSH
        assert "asks for a password, and there is none" in str(failed.error)

        path = write_credentials(world.root / "keys", "pusher", "wrong")
        world.store.retry_job(failed.id, actor="chief")
        world.work()
        assert "401" in str(world.store.job(failed.id).error)
        assert "Check user and password" in str(world.store.job(failed.id).error)

        path.chmod(0o644)
        world.store.retry_job(failed.id, actor="chief")
        world.work()
        assert "chmod 600" in str(world.store.job(failed.id).error)

        path.chmod(0o600)
        write_credentials(world.root / "keys", "pusher", "s3cret")
        world.store.retry_job(failed.id, actor="chief")
        world.work()
        assert world.store.job(failed.id).state is JobState.DONE, world.describe()
        assert world.store.snapshot(first.id).registry_ref == f"{real.host}/x/als/alice:v1"
