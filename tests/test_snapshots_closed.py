"""An encrypted archive whose identity is elsewhere: what needs to read it is not begun, and that is said once."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest
from click.testing import CliRunner

from tests.support.registries import FakeRegistry, MemoryRegistry
from tests.support.worlds import World, world
from workspaces.archive import Archive
from workspaces.archive.sealing import IDENTITY_FILE, NoIdentity, Seal
from workspaces.cli.common import cli
from workspaces.model import Job, JobKind, JobState, Sbom, Snapshot, SnapshotState
from workspaces.registry import Registry
from workspaces.snapshots import sboms

pytestmark = pytest.mark.slow

__all__ = ["world"]


@pytest.fixture
def sealed(world: World, monkeypatch: pytest.MonkeyPatch) -> pyrage.x25519.Identity:
    """The world's archive is encrypted for the identity that this is; a list of packages is wanted."""
    identity = pyrage.x25519.Identity.generate()
    (world.root / "keys").mkdir(exist_ok=True)
    world.archive = Archive(world.root / "archive", Seal([str(identity.to_public())], world.root / "keys"))
    world.store.set_challenge("als", sbom=Sbom.SPDX, actor="test")
    monkeypatch.setattr(sboms, "find_program", lambda: Path("/bin/syft"))
    monkeypatch.setattr(sboms, "_run", lambda *_: {"spdxVersion": "SPDX-2.3", "packages": []})
    return identity


def archived(world: World) -> tuple[Snapshot, Job]:
    """A version of a world with a registry, and its archiving."""
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    with FakeRegistry(MemoryRegistry()).serving() as fake:
        world.registry = Registry(fake.url, world.root / "keys")
        world.work()
    [job] = [job for job in world.store.jobs() if job.kind is JobKind.ARCHIVE]
    return world.store.snapshot(snapshot.id), job


def test_without_the_identity_nothing_is_queued_that_needs_it(world: World, sealed: pyrage.x25519.Identity) -> None:
    version, job = archived(world)
    assert version.state is SnapshotState.ARCHIVED
    assert job.message.endswith(
        "It is encrypted and no identity is here, so its packages are not listed and it is not pushed."
    )
    assert {job.kind for job in world.store.jobs()} == {JobKind.INSPECT, JobKind.COMMIT, JobKind.ARCHIVE}
    assert {job.state for job in world.store.jobs()} == {JobState.DONE}
    (world.root / "workspaces.toml").write_text('[registry]\nurl = "https://registry.example"\n')
    ran = CliRunner().invoke(cli, ["--home", str(world.root), "snapshot", "push", str(version.id)])
    assert isinstance(ran.exception, NoIdentity)
    assert world.store.jobs(states=[JobState.QUEUED]) == []


def test_with_the_identity_everything_is_done(world: World, sealed: pyrage.x25519.Identity) -> None:
    place = world.root / "keys" / IDENTITY_FILE
    place.write_text(f"{sealed}\n")
    place.chmod(0o600)
    version, job = archived(world)
    assert job.message == f"Archived als/alice:v1 as {str(version.manifest_digest)[:19]}."
    assert version.registry_ref is not None
    assert version.sbom_digest is not None
