"""What may run beside what: only what changes a container, or is a step of the same snapshot, excludes each other."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from tests.support.faults import Gate, failing
from tests.support.stores import commit, empty, path, store
from tests.support.worlds import World, world
from workspaces import jobs
from workspaces.errors import EngineError
from workspaces.jobkinds import DELETING, LOOKING, ORDERED, STEPS
from workspaces.model import OF_HOST, OF_VERSIONS, JobKind, JobState, SnapshotState
from workspaces.store import Store

OPEN = (JobState.QUEUED, JobState.RUNNING)


def beside(store: Store, workspace_id: int, first: tuple[JobKind, int | None], second: tuple[JobKind, int]) -> bool:
    """Whether `second` (kind, snapshot) is begun while `first` runs, of one workspace."""
    for kind, snapshot_id in (first, second):
        store.add_job(kind, workspace_id, actor="chief", snapshot_id=snapshot_id)
        begun = store.claim_job()
    found = begun is not None
    store.requeue_running()
    finish(store)
    return found


def finish(store: Store) -> list[int]:
    """Do all jobs, one after the other; their ids."""
    done = []
    while (job := store.claim_job()) is not None:
        store.finish_job(job.id, "")
        done.append(job.id)
    return done


def test_every_pair_of_kinds(store: Store) -> None:
    alice = store.workspace("als/alice").id
    one, two = commit(store, alice), commit(store, alice, "sha256:bb")
    finish(store)
    for first, second in product([kind for kind in JobKind if kind not in OF_HOST], repeat=2):
        container = {first, second} <= set(ORDERED)
        looked_into = bool({first, second} & set(LOOKING)) and bool({first, second} & set(DELETING))
        step = {first, second} <= set(STEPS)
        assert beside(store, alice, (first, one), (second, two)) is not (container or looked_into), (first, second)
        if first is not second:
            same = container or looked_into or step
            assert beside(store, alice, (first, one), (second, one)) is not same, (first, second)


def test_the_steps_of_one_snapshot_exclude_each_other_across_workspaces_and_others_do_not(store: Store) -> None:
    """A restore of a version into another workspace needs not wait until it is pushed."""
    alice, bob = store.workspace("als/alice").id, store.workspace("als/bob").id
    version = commit(store, alice)
    finish(store)
    store.add_job(JobKind.PUSH, alice, actor="chief", snapshot_id=version)
    store.claim_job()
    restore = store.add_job(JobKind.RESTORE, bob, actor="chief", snapshot_id=version)
    claimed = store.claim_job()
    assert claimed is not None
    assert claimed.id == restore.id


def test_what_a_thread_still_holds_is_not_begun(store: Store) -> None:
    """Also when the job is over for the store."""
    alice, bob = store.workspace("als/alice").id, store.workspace("als/bob").id
    held = store.add_job(JobKind.STOP, alice, actor="chief")
    store.claim_job()
    store.fail_job(held.id, "It took too long.", None)
    store.retry_job(held.id, actor="chief")
    store.add_job(JobKind.START, alice, actor="chief")
    free = [store.add_job(JobKind.START, bob, actor="chief"), store.add_job(JobKind.PUSH, alice, actor="chief")]
    claimed = [store.claim_job(running=[held.id]) for _ in range(3)]
    assert [job.id if job else None for job in claimed] == [*(job.id for job in free), None]
    again = store.claim_job()
    assert again is not None
    assert again.id == held.id


def test_a_retried_job_goes_behind_what_was_asked_for_since(store: Store) -> None:
    """Else it would be refused: what is approved is only in the container that it replaces."""
    alice = store.workspace("als/alice").id
    version = commit(store, alice)
    finish(store)
    restore = store.add_job(JobKind.RESTORE, alice, actor="chief", snapshot_id=version)
    store.claim_job()
    store.fail_job(restore.id, "The disk is full.", None)
    snapshot = store.request_snapshot(alice, "m", actor="alice", via="ssh").id
    approved = store.approve_snapshot(snapshot, actor="chief")
    store.retry_job(restore.id, actor="chief")
    assert [number for number in finish(store) if number in (restore.id, approved.id)] == [approved.id, restore.id]


@pytest.mark.parametrize("kind", OF_VERSIONS)
def test_what_goes_on_for_hours_behind_a_version_keeps_its_workspace_from_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: JobKind
) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = world.approved()
    world.work()
    gate = threading.Event()
    worker = world.worker()
    held = world.add_job(kind, first.id)
    handler = worker._handlers[kind]
    monkeypatch.setitem(
        worker._handlers, kind, lambda job, tell: str(gate.wait(20)) if job.id == held.id else handler(job, tell)
    )

    def done(job_id: int) -> Callable[[], bool]:
        return lambda: world.store.job(job_id).state is JobState.DONE

    with world.working(worker):
        world.wait(lambda: world.store.job(held.id).state is JobState.RUNNING)
        for step in (JobKind.START, JobKind.STOP):
            world.wait(done(world.add_job(step).id))
        (world.rootfs / "root" / "two").write_text("2")
        second = world.approved("second")
        world.wait(lambda: world.store.snapshot(second.id).state is not SnapshotState.APPROVED)
        world.wait(lambda: world.store.snapshot(second.id).version == 2)
        world.wait(done(world.add_job(JobKind.RESTORE, first.id).id))
        assert world.store.job(held.id).state is JobState.RUNNING
        gate.set()
        world.wait(lambda: not world.store.jobs(states=OPEN))
    assert {job.state for job in world.store.jobs()} == {JobState.DONE}, world.describe()
    assert world.store.snapshot(second.id).state is SnapshotState.ARCHIVED


def test_a_restore_that_is_retried_after_an_approval_is_done_after_it(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = world.approved()
    world.work()
    job = world.add_job(JobKind.RESTORE, first.id)
    failed: Any = failing(world.engine, "stop", [EngineError("no")])
    with world.working(world.worker(engine=failed)):
        world.wait(lambda: world.store.job(job.id).state is JobState.FAILED)
    (world.rootfs / "root" / "two").write_text("2")
    second = world.approved("second")
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert world.store.job(job.id).state is JobState.DONE, world.describe()
    assert world.store.snapshot(second.id).version == 2
    assert not (world.rootfs / "root" / "two").exists()


def test_a_commit_and_its_inspection_are_not_done_at_once(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    gate = Gate()
    snapshot = world.approved()
    with world.working(world.worker(engine=gate.wrap(world.engine, "changes"))):
        with gate.held():
            threading.Event().wait(3 * jobs.POLL_SECONDS)
            assert [job.kind for job in world.store.jobs([JobState.RUNNING])] == [JobKind.INSPECT]
        world.wait(lambda: not world.store.jobs(states=OPEN))
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED
