"""Jobs about the host and looks into containers, done by a real worker on the in-memory engine and a real archive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.faults import failing
from tests.support.worlds import IMAGE, OPEN, World, world
from workspaces.challengeforms import own_limits
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import ArchiveUnavailable, InvalidInput
from workspaces.model import ImageFinding, Job, JobKind, JobState, Limits, OwnLimits, SnapshotState
from workspaces.store import found_changes

pytestmark = pytest.mark.slow

__all__ = ["world"]


def do(world: World, kind: JobKind, workspace_id: int | None = None, **arguments: str) -> Job:
    """Have a worker do it; the job as it ended."""
    job = world.store.add_job(kind, workspace_id, actor="chief", arguments=arguments)
    with world.working():
        world.wait(lambda: world.store.job(job.id).state not in OPEN)
        world.wait(lambda: not world.store.jobs(states=OPEN))
    done = world.store.job(job.id)
    assert done.state is JobState.DONE, world.describe()
    return done


def document(world: World, job: Job) -> dict[str, Any]:
    found = world.store.report_of(job.id)
    assert found is not None
    return dict(json.loads(found.document))


def archived(world: World, text: str, name: str = "one") -> int:
    """A version with one more file, in the archive; its snapshot's id."""
    (world.rootfs / "root" / name).write_text(text)
    snapshot = world.approved(f"with {name}")
    with world.working():
        world.wait(lambda: world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED)
        world.wait(lambda: not world.store.jobs(states=OPEN))
    return snapshot.id


def test_the_archive_is_counted_read_cleared_and_pruned(world: World) -> None:
    first, second = archived(world, "1"), archived(world, "2" * 5000, "two")
    usage = document(world, do(world, JobKind.USAGE))
    assert (usage["images"], usage["where"]) == (2, world.archive.where)
    assert usage["alone"] > usage["once"] > 0  # the base's layer is there once
    assert usage["stored"] > usage["once"]  # with the signed statements
    [share] = usage["shares"]
    assert (share["challenge"], share["images"], share["own"]) == ("als", 2, share["once"])
    assert usage["ratio"] == pytest.approx(usage["alone"] / usage["once"])

    verified = document(world, do(world, JobKind.VERIFY))
    assert (verified["bad"], verified["problems"]) == (0, [])
    assert verified["blobs"] >= 5
    digest = world.store.snapshot(second).manifest_digest
    assert digest is not None
    world.archive.remove(digest)
    seen = document(world, do(world, JobKind.GC))
    assert seen["deleted"] is False
    assert seen["blobs"] >= 2
    assert world.archive.garbage().size == seen["bytes"] > 0  # nothing was deleted
    deleted = document(world, do(world, JobKind.GC, delete="yes"))
    assert (deleted["deleted"], deleted["blobs"], deleted["bytes"]) == (True, seen["blobs"], seen["bytes"])
    assert not world.archive.garbage().blobs
    assert len(world.store.events(kind="archive.deleted")) == seen["blobs"]
    assert world.store.snapshot(first).pruned_at is None

    world.store.set_challenge(world.slug, keep_last=1, keep_submitted=False, actor="chief")
    pruned = document(world, do(world, JobKind.PRUNE, challenge=world.slug, versions="99"))
    assert pruned == {"versions": 0, "listed": []}, "nobody has agreed to this one"
    pruned = document(world, do(world, JobKind.PRUNE, challenge=world.slug, versions=f"{first},99"))
    assert pruned == {"versions": 1, "listed": ["als/alice:v1"]}
    assert world.store.snapshot(first).pruned_at is not None


def test_damage_in_the_archive_is_a_finding_and_no_failure(world: World) -> None:
    archived(world, "1")
    digest = world.store.snapshots()[0].manifest_digest
    assert digest is not None
    layer = world.archive.blobs_of(digest)[-1]
    (world.archive.root / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")).write_bytes(b"x" * layer.size)
    job = do(world, JobKind.VERIFY)
    found = document(world, job)
    assert found["bad"] == 1
    assert found["problems"][0]["images"] == ["als/alice:v1"]
    assert layer.digest in found["problems"][0]["blob"]
    assert "missing or damaged" in job.message


def test_an_archive_that_does_not_answer_is_waited_for(world: World) -> None:
    job = world.store.add_job(JobKind.VERIFY, actor="chief")
    away = failing(world.archive, "verify", [ArchiveUnavailable("The archive does not answer.")])
    with world.working(world.worker(archive=away)):
        world.wait(lambda: world.store.job(job.id).waits_for == "archive")
    assert world.store.job(job.id).state is JobState.QUEUED


def test_a_look_without_a_request(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    (world.rootfs / "root" / ".netrc").write_text("machine example.org login a password secret123\n")
    job = do(world, JobKind.LOOK, world.id)
    latest = world.store.latest_report(JobKind.LOOK, str(world.id))
    assert latest is not None
    report = found_changes(latest)
    assert {entry.path for entry in report.entries} == {"/root/one", "/root/.netrc"}
    assert any(".netrc" in warning for warning in report.warnings)
    assert job.message == f"2 paths changed, 48 B, {len(report.warnings)} warnings."
    assert world.store.snapshots() == []  # nobody asked for one


def test_two_versions_are_compared(world: World) -> None:
    first, second = archived(world, "1"), archived(world, "2", "two")
    do(world, JobKind.DIFF, world.id, old=str(first), new=str(second))
    latest = world.store.latest_report(JobKind.DIFF, f"{first}:{second}")
    assert latest is not None
    report = found_changes(latest)
    assert report.since == "als/alice:v1"
    assert [(entry.kind, entry.path) for entry in report.entries] == [("added", "/root/two")]


def test_limits_reach_a_container_that_runs_and_the_next_one(world: World) -> None:
    engine = world.engine
    assert isinstance(engine, MemoryEngine)
    do(world, JobKind.START, world.id)
    world.store.set_workspace_limits(world.id, OwnLimits(memory=512 << 20, cpus=2.0), actor="chief")
    job = do(world, JobKind.LIMITS, world.id)
    assert job.message == "als/alice has 2 cores, 512.0 MiB memory and 128 processes now."
    wanted = Limits(2.0, 512 << 20, 128)
    assert engine.limits_of(world.container) == wanted
    assert world.store.workspace(world.id).state == "running"
    do(world, JobKind.RESET, world.id)
    assert "gets its limits when it is made" in do(world, JobKind.LIMITS, world.id).message
    do(world, JobKind.START, world.id)
    assert engine.limits_of(world.container) == wanted
    world.store.set_workspace_limits(world.id, OwnLimits(), actor="chief")
    do(world, JobKind.LIMITS, world.id)
    assert engine.limits_of(world.container) == world.store.challenge(world.slug).limits


def test_base_images_are_noted_and_looked_into(world: World) -> None:
    archived(world, "1")  # a version is no base image
    with world.working():
        world.wait(lambda: world.store.base_images())  # by itself
    [image] = world.store.base_images()
    assert image.refs == (IMAGE,)
    assert image.checked_at is None
    job = do(world, JobKind.IMAGES, image=image.id)
    [checked] = world.store.base_images()
    assert checked.checked_at is not None
    assert all(type(finding) is ImageFinding for finding in checked.findings)
    missing = [finding.name for finding in checked.findings if not finding.present]
    assert all(name in job.message for name in missing)


def test_what_is_typed_about_limits() -> None:
    assert own_limits({"cpus": "0.5", "memory": "1.5g", "pids": "64"}) == OwnLimits(0.5, 3 << 29, 64)
    assert own_limits({"cpus": None}) == OwnLimits()
    for wrong in ({"cpus": "nan"}, {"cpus": "0"}, {"cpus": "x"}, {"memory": "1x"}, {"pids": "1"}, {"pids": "٣٣"}):
        with pytest.raises(InvalidInput):
            own_limits(wrong)
