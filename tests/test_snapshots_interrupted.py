"""What happens to a workspace between the attempts of a job, or when somebody cancels it, on the in-memory engine."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyrage
import pytest

from tests.support.faulty_engine import FaultyEngine
from tests.support.savetar import FakeImage, layer
from tests.support.worlds import World, impatient, world
from tests.test_snapshots_freezing import freeze, version
from workspaces import snapshots
from workspaces.archive import Archive
from workspaces.archive.sealing import Seal
from workspaces.errors import EngineUnavailable
from workspaces.jobprogress import Cancelled
from workspaces.model import FreezeMode, JobKind, JobState, SnapshotState

pytestmark = pytest.mark.usefixtures("impatient")

__all__ = ["impatient", "world"]


def work_of(world: World) -> Path:
    return world.rootfs / "root" / "work"


def test_what_somebody_wrote_between_two_attempts_of_a_restore_is_kept(world: World) -> None:
    first = version(world, "1")
    work_of(world).write_text("2")
    job = world.add_job(JobKind.RESTORE, first)
    claimed = world.store.claim_job()
    assert claimed is not None

    def killed(message: str, fraction: float | None) -> None:
        if message.startswith("Replacing"):
            raise Cancelled("nobody")  # as a worker that is told to stop

    shelf = snapshots.Shelf(world.engine, world.archive, world.root / "layers")
    with pytest.raises(Cancelled):
        snapshots.restore(world.store, world.engine, world.lifecycle, world.archive, claimed, killed, shelf)
    world.lifecycle.ensure_running(world.id)  # somebody logs in before the worker is there again
    work_of(world).write_text("3")
    world.work()
    done = world.store.job(job.id)
    assert done.message == "als/alice is v1 again. What was there before is v3."
    assert work_of(world).read_text() == "1"
    world.add_job(JobKind.RESTORE, world.store.version(world.id, 3).id, {"discard": "yes"})
    world.work()
    assert work_of(world).read_text() == "3"


@pytest.mark.parametrize("step", ["assemble", "layer", "info"])
def test_what_somebody_wrote_while_the_engine_was_away_in_the_middle_of_it_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The engine has captured the container, and is away before the version is made of that."""
    first = version(world, "1")
    world.lifecycle.ensure_running(world.id)
    work_of(world).write_text("2")
    job = world.add_job(JobKind.RESTORE, first)
    engine, capture = FaultyEngine(world.engine), world.engine.commit

    def captured(*arguments: Any) -> Any:
        image = capture(*arguments)
        engine.fail(step, EngineUnavailable("The engine does not answer."))
        return image

    monkeypatch.setattr(world.engine, "commit", captured)
    with world.working(world.worker(engine=engine)):
        world.wait(lambda: world.store.job(job.id).waits_for == "engine")
    monkeypatch.setattr(world.engine, "commit", capture)
    world.lifecycle.ensure_running(world.id)
    work_of(world).write_text("3")
    monkeypatch.setattr("time.time", lambda now=time.time: now() + 3600)  # the pause before the next attempt is over
    world.work()
    done = world.store.job(job.id)
    assert done.message == "als/alice is v1 again. What was there before is v3."
    world.add_job(JobKind.RESTORE, world.store.version(world.id, 3).id, {"discard": "yes"})
    world.work()
    assert work_of(world).read_text() == "3"


def test_a_request_that_waits_while_all_is_made_read_only_can_still_be_approved(world: World) -> None:
    work_of(world).write_text("1")
    waits = world.request()
    assert freeze(world, FreezeMode.READ_ONLY)["alice"].version == 1
    world.store.approve_snapshot(waits.id, actor="chief")
    world.work()
    done = world.store.snapshot(waits.id)
    assert (done.state, done.version, done.reason) == (SnapshotState.ARCHIVED, 2, None)
    assert done.diff_ids == world.store.version(world.id, 1).diff_ids
    assert world.workspace.read_only


@pytest.mark.parametrize("kind", [JobKind.RESTORE, JobKind.FREEZE])
def test_what_looks_the_same_is_not_deleted_unsaved(world: World, kind: JobKind) -> None:
    version(world, "1")
    second = version(world, "2")
    before = work_of(world).stat()
    work_of(world).write_text("3")
    os.utime(work_of(world), ns=(before.st_atime_ns, before.st_mtime_ns))  # as in a file written all the time
    if kind is JobKind.FREEZE:
        assert freeze(world, FreezeMode.READ_ONLY)["alice"].version == 3
    else:
        world.add_job(JobKind.RESTORE, second)
        world.work()
    world.add_job(JobKind.RESTORE, world.store.version(world.id, 3).id, {"discard": "yes"})
    world.work()
    assert work_of(world).read_text() == "3"


@pytest.mark.parametrize("kind", [JobKind.RESTORE, JobKind.RESET])
def test_a_cancelled_replacement_leaves_the_workspace_as_it_was(world: World, kind: JobKind) -> None:
    first = version(world, "1")
    second = version(world, "2")
    world.add_job(kind, first if kind is JobKind.RESTORE else None, {"discard": "yes"})
    before = (world.workspace.image, world.workspace.parent_id)
    assert before[1] == second

    def progress(message: str, fraction: float | None) -> None:
        if message.startswith("Deleting"):
            raise Cancelled("chief")

    claimed = world.store.claim_job()
    assert claimed is not None
    parts = (world.store, world.engine, world.lifecycle, world.archive, claimed)
    restore, reset = partial(snapshots.restore, *parts), partial(world.lifecycle.reset, world.id)
    with pytest.raises(Cancelled):
        (restore if kind is JobKind.RESTORE else reset)(progress)
    assert world.engine.container(world.container) is not None
    assert (world.workspace.image, world.workspace.parent_id) == before


def test_a_retry_after_a_cancelled_wait_captures_the_container_anew(world: World) -> None:
    work_of(world).write_text("1")
    snapshot = world.approved()

    def gone(*_: Any) -> Any:
        raise EngineUnavailable("The engine does not answer.")

    with patch.object(world.store, "finish_commit", gone), world.working():
        world.wait(lambda: any(j.kind is JobKind.COMMIT and j.attempts > 1 for j in world.store.jobs()))
    [job] = [j for j in world.store.jobs() if j.kind is JobKind.COMMIT]
    if job.state is JobState.QUEUED:
        world.store.cancel_job(job.id, actor="chief")
    assert world.store.snapshot(snapshot.id).state is SnapshotState.FAILED
    work_of(world).write_text("2")
    world.store.retry_snapshot(snapshot.id, actor="chief")
    world.work()
    assert world.store.snapshot(snapshot.id).version == 1
    world.add_job(JobKind.RESTORE, snapshot.id, {"discard": "yes"})
    world.work()
    assert work_of(world).read_text() == "2"


def test_what_others_keep_in_an_archive_hinders_no_restore_from_it(world: World) -> None:
    """Sealed for somebody else, or damaged: only what belongs to the workspace is read."""
    version(world, "1")
    image = FakeImage([layer({"root/result": b"other"})])
    Archive(world.archive.root, Seal([str(pyrage.x25519.Identity.generate().to_public())], world.root)).put(
        image.save(), ref="als/alicent:v1", config_digest=image.id, diff_ids=image.diff_ids
    )
    found = snapshots.adopt(world.store, world.archive, "als/alice:v1", actor="chief")
    assert found is not None
    assert found.version == 1
