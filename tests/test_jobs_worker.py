"""The worker: promptness, order, retries, failure, and the way it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.faults import Gate, Wrapped, failing
from tests.support.worlds import OPEN, World, impatient, world
from workspaces import housekeeping, jobs
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
from workspaces.lifecycle import Lifecycle
from workspaces.model import JobKind, JobState, SnapshotState, WorkspaceState

pytestmark = pytest.mark.slow

__all__ = ["impatient", "world"]


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
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)
    world.lifecycle.ensure_running(world.id)
    with world.working():
        world.engine.stop(world.container, 5)
        world.wait(lambda: world.workspace.state is WorkspaceState.STOPPED)


def test_filters_are_looked_at_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)
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
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.01)
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
from workspaces import housekeeping, jobs
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
    assert process.wait(30) == 0
    assert time.monotonic() - begun < 8
    process.stdout.close()
