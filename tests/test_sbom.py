"""The list of a version's packages: made by syft, signed, kept beside the image, and no matter of the version's own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registries import PROGRAM, real_registry
from tests.support.worlds import World, world
from workspaces import snapshots
from workspaces.archive import Archive
from workspaces.errors import Conflict, HostError
from workspaces.model import Job, JobKind, JobState, Sbom, Snapshot, SnapshotState
from workspaces.provenance import BOM_TYPES, SNAPSHOT_TYPE, open_envelope, parse_statement
from workspaces.registry import Registry
from workspaces.snapshots import sboms

pytestmark = pytest.mark.slow

__all__ = ["world"]

STATUS = """Package: hello
Status: install ok installed
Architecture: amd64
Version: 2.10-3
Maintainer: Somebody <somebody@example.org>
Description: says hello

"""


@pytest.fixture(autouse=True)
def own_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary directories of this test alone, which are gone when it ends; nobody may pass through."""
    with tempfile.TemporaryDirectory(prefix="sbom-test-") as place:
        Path(place).chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)
        assert list(Path(place).iterdir()) == []


def version(world: World, form: Sbom = Sbom.SPDX) -> Snapshot:
    world.store.set_challenge("als", sbom=form, actor="test")
    (world.rootfs / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (world.rootfs / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
    (world.rootfs / "var/lib/dpkg/status").write_text(STATUS)
    snapshot = world.approved()
    world.work()
    return world.store.snapshot(snapshot.id)


def sbom_job(world: World) -> Job:
    [job] = [job for job in world.store.jobs() if job.kind is JobKind.SBOM]
    return job


def program(path: Path, script: str) -> Path:
    """A program in the place of syft."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where to write a program that runs instead of syft; nobody may reach it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        path = Path(place) / "syft"
        monkeypatch.setattr(sboms, "find_program", lambda: path)
        yield path


@pytest.mark.parametrize("form", [Sbom.SPDX, Sbom.CYCLONEDX])
def test_it_names_the_packages_and_is_signed_for_this_image(world: World, form: Sbom) -> None:
    made = version(world, form)
    assert made.sbom_digest is not None, world.describe()
    assert world.archive.attached(str(made.manifest_digest)).keys() == {SNAPSHOT_TYPE, BOM_TYPES[form]}
    signed = open_envelope(world.archive.document(made.sbom_digest), world.signer.public)
    said = parse_statement(signed)
    assert said["predicateType"] == BOM_TYPES[form]
    assert said["subject"][0]["digest"]["sha256"] == str(made.manifest_digest)[7:]
    document = json.loads(snapshots.packages_of(world.archive, world.signer, made))
    found = {
        (part["name"], part.get("versionInfo") or part.get("version"))
        for part in document.get("packages") or document["components"]
    }
    assert ("hello", "2.10-3") in found
    assert document.get("spdxVersion", "").startswith("SPDX-2") or document["bomFormat"] == "CycloneDX"
    verdict = snapshots.check_version(world.store, world.archive, world.signer.public, made, lambda *_: None)
    assert verdict.problems == ()
    assert world.archive.verify().problems == ()
    assert [event.kind for event in world.store.events(kind="snapshot.sbom")] == ["snapshot.sbom"]


def test_none_is_made_unless_the_challenge_wants_one(world: World) -> None:
    made = version(world, Sbom.NONE)
    assert (made.state, made.sbom_digest) == (SnapshotState.ARCHIVED, None)
    assert JobKind.SBOM not in {job.kind for job in world.store.jobs()}
    with pytest.raises(Conflict, match="No list of packages was made of als/alice:v1"):
        snapshots.packages_of(world.archive, world.signer, made)


def test_made_again_it_replaces_the_one_before(world: World) -> None:
    first = version(world)
    world.add_job(JobKind.SBOM, first.id)
    world.work()
    again = world.store.snapshot(first.id)
    assert again.sbom_digest != first.sbom_digest  # syft gives each list a name of its own
    attached = world.archive.attached(str(first.manifest_digest))
    assert attached[BOM_TYPES[Sbom.SPDX]] == again.sbom_digest


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_it_is_pushed_too(world: World, tmp_path: Path) -> None:
    with real_registry(tmp_path / "registry") as real:
        world.registry = Registry(real.url, world.root / "keys")
        made = version(world)
        repository = world.registry.repository("als/alice")
        with world.registry.connect(repository) as client:
            found = client.manifest(str(made.manifest_digest).replace(":", "-"))
            assert found is not None, world.describe()
            listed = {entry["digest"] for entry in json.loads(found[1])["manifests"]}
            assert listed == set(world.archive.attached(str(made.manifest_digest)).values())
            assert client.manifest(str(made.sbom_digest)) is not None


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            "echo 'panic: no\x1b[31m disk' >&2; exit 3",
            r"syft could not list what is in als/alice:v1: panic: no\x1b[31m",
        ),
        ("kill -9 $$", "it ended with -9"),
        ("echo nonsense", "is no JSON document"),
        ("echo '[]'", "is no JSON document"),
        ("head -c 20000000 /dev/zero", "lists more about als/alice:v1 than is kept"),
        ("exec sleep 1000", "did not end within"),
    ],
)
def test_a_failure_is_told_and_the_version_stays(
    world: World, instead: Path, monkeypatch: pytest.MonkeyPatch, script: str, sentence: str
) -> None:
    program(instead, script)
    if "sleep" in script:
        monkeypatch.setattr(sboms, "SECONDS", 1.0)
    made = version(world)
    assert (made.state, made.sbom_digest) == (SnapshotState.ARCHIVED, None)
    job = sbom_job(world)
    assert job.state is JobState.FAILED
    assert sentence in str(job.error)
    verdict = snapshots.check_version(world.store, world.archive, world.signer.public, made, lambda *_: None)
    assert verdict.problems == ()


def test_without_syft_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sboms, "PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HostError) as told:
        sboms.find_program()
    assert "pip install container-workspaces[sbom]" in str(told.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
def test_it_runs_as_nobody_and_without_network(world: World, instead: Path) -> None:
    script = """
        caps=$(sed -n 's/^CapEff:\\s*//p' /proc/self/status)
        more=$(sed -n 's/^NoNewPrivs:\\s*//p' /proc/self/status)
        links=$(tail -n +3 /proc/net/dev | sed 's/:.*//' | tr -d ' \\n')
        secret=$(cat "{key}" 2>/dev/null | head -c 5)
        echo "{{\\"uid\\": \\"$(id -u) $(id -G)\\", \\"caps\\": \\"$caps\\", \\"more\\": \\"$more\\", \\
            \\"links\\": \\"$links\\", \\"secret\\": \\"$secret\\", \\"nice\\": \\"$(nice)\\", \\
            \\"environment\\": \\"$(env | cut -d= -f1 | sort | tr '\\n' ' ')\\"}}"
    """
    program(instead, script.format(key=world.root / "keys" / "provenance"))
    made = version(world)
    said = json.loads(snapshots.packages_of(world.archive, world.signer, made))
    assert said["uid"] == "65534 65534"
    assert (int(said["caps"], 16), said["more"], said["links"], said["secret"]) == (0, "1", "lo", "")
    assert said["nice"] == "19"
    assert set(said["environment"].split()) <= {
        *("GOMAXPROCS", "GOMEMLIMIT", "HOME", "LC_ALL", "PATH", "PWD", "TMPDIR"),
        *("SYFT_CHECK_FOR_APP_UPDATE", "SYFT_RELATIONSHIPS_PACKAGE_FILE_OWNERSHIP"),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_syft_reads_the_image_whatever_the_umask_and_other_accounts_do_not(world: World, instead: Path) -> None:
    script = """
        for path in image/index.json image/blobs/sha256/*; do cat $path >/dev/null || exit 1; done
        echo '{"packages": []}'
    """
    program(instead, script)
    before = os.umask(0o077)
    try:
        made = version(world)
    finally:
        os.umask(before)
    assert made.sbom_digest is not None, world.describe()
    with sboms._scratch() as place:
        sboms._lay_out(world.archive, str(made.manifest_digest), place / "image")
        for who, reads in ((sboms.NOBODY, True), (12345, False)):
            run = ["setpriv", f"--reuid={who}", f"--regid={who}", "--clear-groups"]
            ran = subprocess.run([*run, "cat", place / "image" / "index.json"], capture_output=True, check=False)
            assert (ran.returncode == 0) is reads


def test_what_a_killed_worker_left_is_deleted_and_what_is_in_use_is_not(own_scratch: Path) -> None:
    dead, young, held = (own_scratch / f"{sboms.SCRATCH}{name}" for name in ("dead", "young", "held"))
    for path in (dead, young, held):
        (path / "image").mkdir(parents=True)
    for path in (dead, held):
        os.utime(path, (1, 1))
    handle = os.open(held, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with sboms._scratch():
        assert (dead.exists(), young.exists(), held.exists()) == (False, True, True)
    os.close(handle)
    shutil.rmtree(young)
    shutil.rmtree(held)


def test_a_damaged_image_is_not_looked_into(world: World) -> None:
    made = version(world, Sbom.NONE)
    world.store.set_challenge("als", sbom=Sbom.SPDX, actor="test")
    layer = world.archive.blobs_of(str(made.manifest_digest))[-1]
    path = world.archive.root / "blobs" / "sha256" / layer.digest[7:]
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    world.archive = Archive(world.archive.root)
    job = world.add_job(JobKind.SBOM, made.id)
    world.work()
    assert "is damaged" in str(world.store.job(job.id).error)
