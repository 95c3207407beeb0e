"""The worker: promptness, order, retries, failure, and the way it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.faults import Gate, Wrapped, failing
from tests.support.worlds import World, world
from workspaces import heartbeat, jobkinds, jobprogress, jobs
from workspaces.engine.base import Bytes
from workspaces.errors import (
    ArchiveUnavailable,
    Conflict,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    HostError,
    NotFound,
    StoreBusy,
    StoreError,
)
from workspaces.jobkinds import KINDS
from workspaces.jobs import Worker
from workspaces.lifecycle import Lifecycle
from workspaces.model import OF_VERSIONS, Job, JobKind, JobState, Snapshot, SnapshotState, WorkspaceState

pytestmark = pytest.mark.slow

__all__ = ["world"]

OPEN = (JobState.QUEUED, JobState.RUNNING)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses."""
    monkeypatch.setattr(jobs, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(jobs, "CLAIM_SECONDS", 0.02)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.01)


def work(world: World, **parts: Any) -> None:
    with world.working(world.worker(**parts)):
        world.wait(lambda: not world.store.jobs(states=OPEN))


def test_a_request_is_looked_at_and_an_approval_committed_and_archived(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    with world.working():
        snapshot = world.request()
        world.wait(lambda: world.store.changes(snapshot.id))
        world.store.approve_snapshot(snapshot.id, actor="chief")
        world.wait(lambda: world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED)
        world.wait(lambda: not world.store.jobs(states=OPEN))
    archived, committed, inspected = world.store.jobs()
    assert inspected.message == "1 paths changed, 1 B, 0 warnings."
    assert committed.message == "Committed als/alice:v1, 10.0 KiB more than its base."
    assert archived.message.startswith("Archived als/alice:v1 as sha256:")
    assert {job.progress for job in (archived, committed, inspected)} == {1.0}


def test_a_new_job_is_begun_at_once(world: World) -> None:
    with world.working():
        waits = []
        for _ in range(3):
            job = world.add_job(JobKind.STOP)
            world.wait(lambda job=job: world.store.job(job.id).state is JobState.DONE)  # type: ignore[misc]
            done = world.store.job(job.id)
            assert done.started_at is not None
            waits.append(done.started_at - done.created_at)
        assert min(waits) < 0.2


def test_every_kind_about_the_container(world: World) -> None:
    def state_after(kind: JobKind) -> WorkspaceState:
        job = world.add_job(kind)
        world.wait(lambda: world.store.job(job.id).state not in OPEN)
        assert world.store.job(job.id).state is JobState.DONE, world.describe()
        return world.workspace.state

    with world.working():
        assert state_after(JobKind.START) is WorkspaceState.RUNNING
        assert state_after(JobKind.STOP) is WorkspaceState.STOPPED
        assert state_after(JobKind.RESTART) is WorkspaceState.RUNNING
        assert state_after(JobKind.RESET) is WorkspaceState.ABSENT
        job = world.add_job(JobKind.REMOVE)
        world.wait(lambda: world.store.job(job.id).state is JobState.DONE)
    with pytest.raises(NotFound):
        world.store.workspace(world.id)


def test_removing_what_is_removed_is_done(world: World) -> None:
    job = world.add_job(JobKind.REMOVE)
    world.store.claim_job()
    world.store.remove_workspace(world.id, actor="chief")  # and killed before the job's end
    work(world)
    assert world.store.job(job.id).state is JobState.DONE


def test_a_second_worker_is_refused(world: World) -> None:
    with world.working(), pytest.raises(Conflict, match="Another worker runs"):
        world.worker().run(threading.Event())
    world.work()


def test_an_engine_that_is_away_is_tried_again(world: World, impatient: None) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    errors = [EngineUnavailable("The engine does not answer."), EngineTimeout("It took too long.")]
    work(world, engine=failing(world.engine, "commit", list(errors)))
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED
    commit = next(job for job in world.store.jobs() if job.kind is JobKind.COMMIT)
    assert commit.attempts == 3


def test_an_engine_that_stays_away_fails_the_snapshot_which_can_be_retried(
    world: World, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "OUTAGE_SECONDS", 0.05)
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    gone = EngineUnavailable("The engine does not answer.", "Start it.")
    work(world, engine=failing(world.engine, "commit", [gone] * 1000))
    failed = world.store.snapshot(snapshot.id)
    said = "The engine does not answer.\nStart it.\nIt has waited for the engine for 0 s."
    assert (failed.state, failed.reason) == (SnapshotState.FAILED, said)
    world.store.retry_snapshot(snapshot.id, actor="chief")
    world.work()
    done = world.store.snapshot(snapshot.id)
    assert (done.state, done.version) == (SnapshotState.ARCHIVED, 1)
    assert world.our_images() == {done.image_id: ("als/alice:v1",)}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EngineError("The engine said no."), "The engine said no."),
        (ZeroDivisionError("secret"), "An unexpected error (ZeroDivisionError); the worker's log has the particulars."),
    ],
)
def test_a_failure_for_good_is_told_and_leaves_nothing(world: World, error: Exception, said: str) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    work(world, engine=failing(world.engine, "reconfigure", [error]))
    assert (world.store.snapshot(snapshot.id).state, world.store.snapshot(snapshot.id).reason) == (
        SnapshotState.FAILED,
        said,
    )
    commit = next(job for job in world.store.jobs() if job.kind is JobKind.COMMIT)
    assert (commit.state, commit.error, commit.attempts) == (JobState.FAILED, said, 1)
    assert world.our_images() == {}


def test_archiving_that_fails_leaves_the_version_committed(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    work(world, archive=failing(world.archive, "put", [EngineError("The disk is full.")]))
    assert world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTED
    [job] = world.store.jobs(states=[JobState.FAILED])
    assert (job.kind, job.error) == (JobKind.ARCHIVE, "The disk is full.")
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED


def test_archiving_is_tried_again_while_the_archive_does_not_answer(world: World, impatient: None) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    gone = ArchiveUnavailable("s3://bucket does not answer.")
    work(world, archive=failing(world.archive, "put", [gone, gone]))
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED
    archived = next(job for job in world.store.jobs() if job.kind is JobKind.ARCHIVE)
    assert (archived.state, archived.attempts) == (JobState.DONE, 2)


def test_a_busy_database_loses_nothing(world: World, impatient: None) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    store: Any = world.store
    for method in ("requeue_running", "claim_job", "job_progress", "begin_commit", "finish_commit", "finish_job"):
        store = failing(store, method, [StoreBusy("locked"), StoreBusy("locked")])
    work(world, store=store)
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED


def test_a_database_that_cannot_be_written_for_a_while_loses_nothing(world: World, impatient: None) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    world.add_job(JobKind.RESTORE, snapshot.id)
    store: Any = world.store
    full = StoreError("The disk is full.")
    for method in ("job_progress", "finish_commit", "finish_job", "fail_job"):
        store = failing(store, method, [full, full, full])
    work(world, store=store)
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED
    assert {job.state for job in world.store.jobs()} == {JobState.DONE}, world.describe()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_whose_end_cannot_be_written_is_left_to_the_next_worker(world: World, impatient: None) -> None:
    job = world.add_job(JobKind.STOP)
    tried = threading.Event()

    def hook(name: str, call: Callable[[], Any]) -> Any:
        if name == "finish_job":
            tried.set()
            raise StoreError("The disk is full.")
        return call()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "GRACE_SECONDS", 0.01)
        with world.working(world.worker(store=Wrapped(world.store, hook))):
            assert tried.wait(10)
    assert world.store.job(job.id).state is JobState.RUNNING
    world.work()
    assert world.store.job(job.id).state is JobState.DONE


def test_a_repeated_stop_or_restart_does_not_end_what_was_begun_since(world: World) -> None:
    world.lifecycle.ensure_running(world.id)
    for kind in (JobKind.STOP, JobKind.RESTART):
        job = world.add_job(kind)
        world.store.claim_job()
        world.lifecycle.stop(world.id)  # and killed before the job's end
        world.lifecycle.ensure_running(world.id)
        stopped: list[str] = []

        def hook(name: str, call: Callable[[], Any], stopped: list[str] = stopped) -> Any:
            if name == "stop":
                stopped.append(name)
            return call()

        work(world, engine=Wrapped(world.engine, hook))
        assert world.store.job(job.id).state is JobState.DONE
        assert stopped == []
        assert world.workspace.state is WorkspaceState.RUNNING
    work_again = world.add_job(JobKind.RESTART)
    world.store.claim_job()  # killed before it did anything
    work(world, engine=Wrapped(world.engine, hook))
    assert (world.store.job(work_again.id).state, stopped) == (JobState.DONE, ["stop"])


def test_a_person_who_retries_a_restore_gets_one(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    world.work()
    job = world.add_job(JobKind.RESTORE, snapshot.id)
    work(world, engine=failing(world.engine, "start", [EngineError("no")]))
    assert world.store.job(job.id).state is JobState.FAILED
    world.lifecycle.ensure_running(world.id)  # from the version: the failed attempt came that far
    (world.rootfs / "root" / "one").write_text("2")
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert world.store.job(job.id).state is JobState.DONE
    assert (world.rootfs / "root" / "one").read_text() == "1"


def test_a_job_that_kills_its_worker_each_time_is_given_up(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    world.store.claim_job()
    world.store.finish_job(world.store.jobs()[-1].id, "inspected")
    for _ in range(jobs.MAX_ATTEMPTS):
        assert world.store.claim_job() is not None
        world.store.requeue_running()
    world.work()
    failed = world.store.snapshot(snapshot.id)
    assert failed.state is SnapshotState.FAILED
    assert "was interrupted 10 times" in str(failed.reason)


def test_one_slow_job_does_not_hold_up_another_workspace(world: World) -> None:
    other = world.store.add_workspace("als", "bob", [], actor="test")
    gate = Gate()
    with world.working(world.worker(engine=gate.wrap(world.engine, "start"))):
        held = world.add_job(JobKind.START)
        with gate.held():
            quick = world.store.add_job(JobKind.STOP, other.id, actor="chief")
            world.wait(lambda: world.store.job(quick.id).state is JobState.DONE)
            assert world.store.job(held.id).state is JobState.RUNNING
        world.wait(lambda: world.store.job(held.id).state is JobState.DONE)


def test_told_to_stop_it_ends_what_runs_and_begins_nothing(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    gate = Gate()
    stop = threading.Event()
    worker = world.worker(engine=gate.wrap(world.engine, "commit"))
    thread = threading.Thread(target=worker.run, args=(stop,), daemon=True)
    snapshot = world.approved()
    thread.start()
    with gate.held():
        stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTED
    assert [job.kind for job in world.store.jobs(states=OPEN)] == [JobKind.ARCHIVE]


def test_what_does_not_end_in_time_is_left_to_the_next_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.01)
    (world.rootfs / "root" / "one").write_text("1")
    gate = Gate()
    stop = threading.Event()
    worker = world.worker(engine=gate.wrap(world.engine, "changes"))
    thread = threading.Thread(target=worker.run, args=(stop,), daemon=True)
    world.store.claim_job()
    snapshot = world.approved()
    thread.start()
    with gate.held():
        stop.set()
        world.wait(worker._abandon.is_set)
        with pytest.raises(Conflict, match="Another worker runs"):
            world.worker().run(threading.Event())
    thread.join(10)
    assert not thread.is_alive()
    world.work()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED


def test_containers_that_ended_by_themselves_are_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RECONCILE_SECONDS", 0.01)
    world.lifecycle.ensure_running(world.id)
    with world.working():
        world.engine.stop(world.container, 5)
        world.wait(lambda: world.workspace.state is WorkspaceState.STOPPED)


def test_filters_are_looked_at_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "RECONCILE_SECONDS", 0.01)
    looks: list[None] = []

    def hook(name: str, call: Callable[[], Any]) -> Any:
        if name == "prepare":
            looks.append(None)
            if len(looks) < 4:
                raise HostError("There is no iptables.")
        return call()

    world.lifecycle.ensure_running(world.id)
    with world.working(world.worker(engine=Wrapped(world.engine, hook))):
        world.engine.stop(world.container, 5)
        world.wait(lambda: world.workspace.state is WorkspaceState.STOPPED)  # the rest goes on
        world.wait(lambda: len(looks) > 5)
    assert [record.getMessage() for record in caplog.records if "iptables" in record.getMessage()] == [
        "network filters cannot be looked at: There is no iptables."
    ]


def test_an_engine_that_died_is_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "RECONCILE_SECONDS", 0.01)
    dead = threading.Event()
    tries: list[None] = []

    def hook(name: str, call: Callable[[], Any]) -> Any:
        if dead.is_set():
            raise EngineUnavailable("It does not answer.")
        return call()

    def revive() -> None:
        tries.append(None)
        if len(tries) < 3:
            raise HostError("dockerd did not start.")
        dead.clear()

    engine: Any = Wrapped(world.engine, hook)
    lifecycle = Lifecycle(world.store, engine, world.root / "locks")
    worker = jobs.Worker(
        world.store, engine, lifecycle, world.archive, world.root / "locks", revive, signer=world.signer
    )
    world.lifecycle.ensure_running(world.id)
    with world.working(worker):
        dead.set()
        world.wait(lambda: tries and not dead.is_set())
        world.engine.stop(world.container, 5)
        world.wait(lambda: world.workspace.state is WorkspaceState.STOPPED)
    assert len(tries) == 3
    assert caplog.text.count("dockerd did not start.") == 1


MAIN = """
import sys
from pathlib import Path
from tests.support.worlds import memory_world
from workspaces import jobs
with memory_world(Path(sys.argv[1])) as world:
    jobs.main(world.worker(), lambda: print("ready", flush=True))
"""


def test_sigterm_ends_the_process_at_once_when_nothing_runs(tmp_path: Any) -> None:
    command = [sys.executable, "-c", MAIN, str(tmp_path / "world")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - begun < 2
    process.stdout.close()


# what is cancelled, or takes too long


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
    give(monkeypatch, JobKind.COMMIT, 0.1)
    monkeypatch.setattr(jobs, "LOST_SECONDS", 0.1)
    gate, worker, snapshot, job = commit_held(world, call)
    other = world.store.add_workspace("als", "bob", [], actor="test")
    worker._places = 1
    with world.working(worker):
        with gate.held():
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
    worker = Worker(
        world.store, gate.wrap(world.engine, "remove"), world.lifecycle, world.archive, world.root / "locks",
        signer=world.signer, places=3, at_once={JobKind.REMOVE: 1},
    )  # fmt: skip
    worker._lifecycle = Lifecycle(world.store, worker._engine, world.root / "locks")
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
    assert "No worker runs" in str(heartbeat.trouble(locks))


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
