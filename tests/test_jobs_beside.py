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
from workspaces.jobkinds import DELETING, LOOKING, ORDERED, STEPS, passes
from workspaces.jobtext import again
from workspaces.model import OF_HOST, OF_VERSIONS, Job, JobKind, JobState, SnapshotState, WorkspaceState
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


def waiting(store: Store, kind: JobKind, what: str, arguments: dict[str, str] | None = None) -> Job:
    """A job of alice's that waits for what does not answer."""
    alice = store.workspace("als/alice").id
    job = store.add_job(kind, alice, actor="chief", arguments=arguments)
    claimed = store.claim_job()
    assert claimed is not None
    assert claimed.id == job.id
    store.fail_job(job.id, "It does not answer.", 3600.0, what)
    return store.job(job.id)


def test_what_waits_behind_another_says_so(store: Store) -> None:
    alice, bob = store.workspace("als/alice").id, store.workspace("als/bob").id
    front = waiting(store, JobKind.RESTORE, "archive", {"from": "als/bob:v1"})
    stop = store.add_job(JobKind.STOP, alice, actor="chief")
    start = store.add_job(JobKind.START, alice, actor="chief")
    other = store.add_job(JobKind.STOP, bob, actor="chief")
    look = store.add_job(JobKind.LOOK, alice, actor="chief")
    found = {job.id: job.behind for job in store.jobs()}
    assert found == {front.id: None, stop.id: front.id, start.id: stop.id, other.id: None, look.id: None}
    assert "behind" in again(store.job(stop.id))
    assert f"job {front.id}" in again(store.job(stop.id))
    assert [job.behind for job in store.find_jobs("kind:stop workspace:alice").items] == [front.id]
    store.cancel_job(other.id, actor="chief")
    store.cancel_job(look.id, actor="chief")
    assert store.counted().oldest_job == 0, "none could be begun"
    store.cancel_job(front.id, actor="chief")
    assert store.counted().oldest_job > 0
    assert store.job(stop.id).behind is None
    running = store.claim_job()
    assert running is not None
    assert running.id == stop.id
    assert (store.job(stop.id).behind, store.job(start.id).behind) == (None, stop.id)
    store.finish_job(stop.id, "")
    assert store.job(stop.id).behind is None


@pytest.mark.parametrize(
    ("front", "what", "arguments", "passing"),
    [
        (JobKind.RESTORE, "archive", {"from": "als/bob:v1"}, {JobKind.START, JobKind.RESTART, JobKind.LIMITS}),
        (JobKind.RESTORE, "registry", {"from": "als/bob:v1"}, {JobKind.START, JobKind.RESTART, JobKind.LIMITS}),
        (JobKind.RESTORE, "archive", {"from": "als/bob:v1", "discard": "yes"}, {JobKind.LIMITS}),
        (JobKind.RESTORE, "engine", {"from": "als/bob:v1"}, set()),
        (JobKind.FREEZE, "archive", None, {JobKind.LIMITS}),
        (JobKind.RESTORE, None, {"from": "als/bob:v1"}, set()),
    ],
)
def test_what_a_later_restore_makes_no_difference_to_goes_on_during_an_outage(
    store: Store, front: JobKind, what: str | None, arguments: dict[str, str] | None, passing: set[JobKind]
) -> None:
    """A stop does not: the restore would start what was meant to be stopped."""
    alice = store.workspace("als/alice").id
    job = waiting(store, front, what or "", arguments)
    if what is None:
        store.fail_job(claim(store, job), "The disk is busy.", 3600.0)
    passed = set()
    for kind in (JobKind.STOP, JobKind.RESTART, JobKind.START, JobKind.LIMITS, JobKind.RESET, JobKind.COMMIT):
        assert passes(kind, store.job(job.id)) is (kind in passing)
        later = store.add_job(kind, alice, actor="chief")
        assert later.behind == (None if kind in passing else job.id), kind
        claimed = store.claim_job()
        if claimed is not None:
            assert claimed.id == later.id
            store.finish_job(claimed.id, "")
            passed.add(kind)
        else:
            store.cancel_job(later.id, actor="chief")
    assert passed == passing


def claim(store: Store, job: Job) -> int:
    with store.transaction():
        store._db().execute("UPDATE jobs SET not_before = 0, waits_for = NULL")
    claimed = store.claim_job()
    assert claimed is not None
    assert claimed.id == job.id
    return claimed.id


def test_a_start_that_passed_a_waiting_restore_leaves_it_what_is_written(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = world.approved()
    world.work()
    (world.rootfs / "root" / "two").write_text("2")
    restore = world.add_job(JobKind.RESTORE, first.id)
    claimed = world.store.claim_job()
    assert claimed is not None
    world.store.fail_job(restore.id, "It does not answer.", 0.3, "archive")
    start = world.add_job(JobKind.START)
    world.work()
    begun = [world.store.job(job.id).started_at or 0.0 for job in (start, restore)]
    assert begun == sorted(begun), "it did not wait"
    kept = world.store.taken_snapshot(restore.id)
    assert kept is not None
    assert (kept.version, kept.state) == (2, SnapshotState.ARCHIVED)
    assert not (world.rootfs / "root" / "two").exists()
    assert world.store.workspace(world.id).state is WorkspaceState.RUNNING
