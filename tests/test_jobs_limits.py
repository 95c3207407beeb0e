"""The worker: what is cancelled or takes too long, how much goes on at once, and what it shows of that."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.support.faults import Gate
from tests.support.worlds import OPEN, World, impatient, world
from workspaces import heartbeat, jobkinds, jobprogress, jobs
from workspaces.engine.base import Bytes
from workspaces.jobkinds import KINDS
from workspaces.jobs import Worker
from workspaces.lifecycle import Lifecycle
from workspaces.model import OF_VERSIONS, Job, JobKind, JobState, Snapshot, SnapshotState

pytestmark = pytest.mark.slow

__all__ = ["impatient", "world"]


def commit_held(world: World, call: str = "commit") -> tuple[Gate, Any, Snapshot, Job]:
    """A worker whose engine waits with that call in the commit of an approved snapshot."""
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    gate = Gate()
    return gate, world.worker(engine=gate.wrap(world.engine, call)), snapshot, world.store.jobs()[0]


def test_a_cancelled_commit_ends_clean_and_can_be_retried(world: World) -> None:
    gate, worker, snapshot, job = commit_held(world)
    with world.working(worker):
        with gate.held():
            told = world.store.cancel_job(job.id, actor="bob")
            assert told.state is JobState.RUNNING
            world.wait(lambda: worker._running[job.id].cancelled)
        world.wait(lambda: world.store.job(job.id).state is JobState.CANCELLED)
    failed = world.store.snapshot(snapshot.id)
    assert (failed.state, failed.reason) == (SnapshotState.FAILED, "Cancelled by bob.")
    assert world.our_images() == {}
    assert world.store.job(job.id).progress < 1
    (world.rootfs / "root" / "two").write_text("2")
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED
    assert len(world.our_images()) == 1


def test_a_commit_that_was_done_first_stays(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    [job] = [job for job in world.store.jobs() if job.kind is JobKind.COMMIT]
    gate = Gate()
    with world.working(world.worker(gate.wrap(world.store, "finish_commit"))):
        with gate.held():
            world.store.cancel_job(job.id, actor="bob")
        world.wait(lambda: not world.store.jobs(states=OPEN))
    assert world.store.job(job.id).state is JobState.DONE
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED


def test_a_cancelled_archive_leaves_nothing_and_the_version_stays(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    gate = Gate()
    with world.working(world.worker(engine=gate.wrap(world.engine, "save"))):
        with gate.held():
            [job] = world.store.jobs(states=[JobState.RUNNING])
            world.store.cancel_job(job.id, actor="bob")
            world.wait(lambda: world.store.job(job.id).cancelled_by)
            threading.Event().wait(2 * jobs.POLL_SECONDS + jobs.CLAIM_SECONDS)
        world.wait(lambda: world.store.job(job.id).state is JobState.CANCELLED)
    assert world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTED
    assert world.archive.list() == []
    assert not list((world.archive.root / ".tmp").iterdir())
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED


def test_what_is_cancelled_while_it_waits_for_its_next_try_or_a_new_worker_ends(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    [job] = [job for job in world.store.jobs() if job.kind is JobKind.COMMIT]
    while world.store.job(job.id).state is JobState.QUEUED:
        other = world.store.claim_job()
        assert other is not None
        if other.id != job.id:
            world.store.finish_job(other.id, "")
    world.store.begin_commit(snapshot.id)
    world.store.cancel_job(job.id, actor="bob")  # and the worker is killed before it can
    world.work()
    assert world.store.job(job.id).state is JobState.CANCELLED
    assert world.store.snapshot(snapshot.id).reason == "Cancelled by bob."


def give(monkeypatch: pytest.MonkeyPatch, kind: JobKind, longest: float) -> None:
    monkeypatch.setattr(jobkinds, "KINDS", {**KINDS, kind: replace(KINDS[kind], longest=longest)})
    monkeypatch.setattr(jobprogress, "KINDS", jobkinds.KINDS)


def test_a_job_that_takes_too_long_fails_at_its_next_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, JobKind.COMMIT, 0.2)
    gate, worker, snapshot, job = commit_held(world)
    with world.working(worker):
        with gate.held():
            world.wait(lambda: worker._running[job.id].overdue())
        world.wait(lambda: world.store.job(job.id).state is JobState.FAILED)
    assert "took longer than" in str(world.store.job(job.id).error)
    assert world.store.snapshot(snapshot.id).state is SnapshotState.FAILED
    assert world.our_images() == {}


@pytest.mark.parametrize("call", ["commit", "reconfigure"])
def test_a_thread_that_cannot_be_stopped_takes_nobodys_place(
    world: World, monkeypatch: pytest.MonkeyPatch, impatient: None, call: str
) -> None:
    """Its workspace stays its own until it ends; then what it made is thrown away, also when it is retried by then."""
    monkeypatch.setattr(jobs, "LOST_SECONDS", 0.1)
    gate, worker, snapshot, job = commit_held(world, call)
    other = world.store.add_workspace("als", "bob", [], actor="test")
    worker._places = 1
    with world.working(worker):
        with gate.held():
            give(monkeypatch, JobKind.COMMIT, 0.1)  # not before: a busy host may take longer to get here
            world.wait(lambda: world.store.job(job.id).state is JobState.FAILED)
            assert "does not answer" in str(world.store.snapshot(snapshot.id).reason)
            quick = world.store.add_job(JobKind.STOP, other.id, actor="chief")
            world.wait(lambda: world.store.job(quick.id).state is JobState.DONE)
            give(monkeypatch, JobKind.COMMIT, 60.0)
            world.store.retry_job(job.id, actor="chief")
            (world.rootfs / "root" / "late").write_text("2")
            threading.Event().wait(0.1)
            assert world.store.job(job.id).state is JobState.QUEUED
        world.wait(lambda: not world.store.jobs(states=OPEN))
    done = world.store.snapshot(snapshot.id)
    assert done.state is SnapshotState.ARCHIVED, world.describe()
    assert world.our_images() == {done.image_id: ("als/alice:v1",)}
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert report.added == 2  # what was there at the retry


def test_places_and_kinds_are_bounded_and_one_place_is_kept(world: World) -> None:
    spaces = [world.store.add_workspace("als", f"w{n}", [], actor="test").id for n in range(5)]
    gate = Gate()
    engine = gate.wrap(world.engine, "remove")
    lifecycle = Lifecycle(world.store, engine, world.root / "locks")
    worker = Worker(
        world.store, engine, lifecycle, world.archive, world.root / "locks",
        signer=world.signer, places=3, at_once={JobKind.REMOVE: 1},
    )  # fmt: skip
    for space in spaces[:2]:
        world.store.add_job(JobKind.REMOVE, space, actor="chief")
    for space in spaces[2:4]:
        world.store.add_job(JobKind.RESET, space, actor="chief")

    def running() -> list[JobKind]:
        return sorted(job.kind for job in world.store.jobs(states=[JobState.RUNNING]))

    with world.working(worker), gate.held():
        world.wait(lambda: len(running()) == 2)
        threading.Event().wait(3 * jobs.POLL_SECONDS)
        assert running() == [JobKind.REMOVE, JobKind.RESET]
        stop = world.store.add_job(JobKind.STOP, spaces[4], actor="chief")
        world.wait(lambda: world.store.job(stop.id).state is JobState.DONE)


def test_what_goes_on_behind_versions_leaves_a_place_to_commits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    worker = world.worker()
    for kind in OF_VERSIONS:
        space = world.store.add_workspace("als", kind.value, [], actor="test").id
        world.store.add_job(kind, space, actor="chief")
        monkeypatch.setitem(worker._handlers, kind, lambda *_: str(gate.wait(20)))

    def running() -> int:
        return len(world.store.jobs(states=[JobState.RUNNING]))

    with world.working(worker):
        world.wait(lambda: running() == 2)
        (world.rootfs / "root" / "work").write_text("1")
        snapshot = world.approved()
        world.wait(lambda: world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTED)
        gate.set()
        world.wait(lambda: not world.store.jobs(states=[JobState.QUEUED, JobState.RUNNING]))


def test_it_shows_life_and_what_is_wrong_when_it_does_not(world: World) -> None:
    locks = world.root / "locks"
    assert "No worker runs" in str(heartbeat.trouble(locks))
    with world.working():
        assert heartbeat.trouble(locks) is None
        os.utime(locks / heartbeat.LOCK, (0, time.time() - 40))
        assert "has shown no life for 40 s" in str(heartbeat.trouble(locks))
        world.wait(lambda: heartbeat.trouble(locks) is None)  # at its next beat
        world.wait(lambda: heartbeat.engine_answers(locks) is True)
        os.utime(locks / heartbeat.ENGINE, (0, time.time() - 40))
        assert heartbeat.engine_answers(locks) is False
    assert "No worker runs" in str(heartbeat.trouble(locks))
    assert heartbeat.engine_answers(locks) is None


def test_bytes_become_an_estimate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.add_job(JobKind.STOP)
    world.store.claim_job()
    run = jobprogress.Run(world.store, job)
    clock = time.monotonic()
    for second in range(5):
        monkeypatch.setattr(time, "monotonic", lambda now=clock + second: now)
        run.tell("Reading", Bytes(100 * second, 1000))
    found = world.store.job(job.id)
    assert (found.bytes_done, found.bytes_total, found.progress) == (400, 1000, 0.4)
    assert found.expected_at is not None
    assert abs(found.expected_at - time.time() - 6) < 1
    run.tell("Next step", None)
    assert (world.store.job(job.id).bytes_total, world.store.job(job.id).expected_at) == (None, None)


def test_every_kind_has_its_rules_and_its_handler(world: World) -> None:
    assert set(KINDS) == set(JobKind) == set(world.worker()._handlers)
