"""Engine, archive or registry that do not answer for long: jobs wait for them, say so, and go on."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.faults import Wrapped
from tests.support.registries import Answer, FakeRegistry, MemoryRegistry
from tests.support.worlds import World, world
from workspaces import jobs
from workspaces.archive.storage import disk_errors
from workspaces.cli.common import cli
from workspaces.errors import (
    ArchiveError,
    ArchiveUnavailable,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    RegistryUnavailable,
    StoreBusy,
    UsageError,
    WorkspacesError,
)
from workspaces.jobkinds import OUTAGE_SECONDS
from workspaces.jobprogress import Run
from workspaces.jobtext import again, condition
from workspaces.model import Job, JobKind, JobState, SnapshotState
from workspaces.registry import Registry

__all__ = ["world"]

OPEN = (JobState.QUEUED, JobState.RUNNING)
TRIES = 3 * jobs.MAX_ATTEMPTS
AWAY = [
    (EngineUnavailable("The engine does not answer.", "Start it."), "engine"),
    (ArchiveUnavailable("s3://bucket does not answer."), "archive"),
    (RegistryUnavailable("The registry is not within reach."), "registry"),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(jobs, "CLAIM_SECONDS", 0.01)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.005)


def version(world: World) -> int:
    """The snapshot of one version, archived."""
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    world.work()
    return snapshot.id


def refused(world: World, why: WorkspacesError, kind: JobKind = JobKind.PUSH) -> Job:
    """One attempt of a job that is queued, ended by `why`."""
    job = world.store.claim_job()
    assert job is not None
    assert job.kind is kind
    worker = world.worker()
    run = Run(world.store, job)
    worker._running[job.id] = run
    worker._handlers[kind] = lambda *_: _raise(why)
    worker._work(run)
    return world.store.job(job.id)


def _raise(why: WorkspacesError) -> str:
    raise why


@pytest.mark.slow
def test_an_outage_longer_than_ten_tries_fails_nothing(world: World, impatient: None) -> None:
    """From the request to the registry; each part is away for a while."""
    down: dict[str, int] = {}

    def away(method: str, why: WorkspacesError) -> Callable[[str, Callable[[], Any]], Any]:
        def hook(name: str, call: Callable[[], Any]) -> Any:
            if name == method and down.setdefault(method, 0) < TRIES:
                down[method] += 1
                raise why
            return call()

        return hook

    memory = MemoryRegistry()

    def answer(request: Any) -> Answer | None:
        if down.setdefault("registry", 0) < TRIES:
            down["registry"] += 1
            return Answer(503)
        return memory(request)

    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    with FakeRegistry(answer).serving() as fake:
        world.registry = Registry(f"{fake.url}/team", world.root / "keys")
        engine = Wrapped(world.engine, away("commit", AWAY[0][0]))
        archive = Wrapped(world.archive, away("put", AWAY[1][0]))
        with world.working(world.worker(engine=engine, archive=archive)):
            world.wait(lambda: not world.store.jobs(states=OPEN))
    done = world.store.snapshot(snapshot.id)
    assert (done.state, done.version) == (SnapshotState.ARCHIVED, 1), world.describe()
    assert done.registry_ref is not None
    assert {job.state for job in world.store.jobs()} == {JobState.DONE}, world.describe()
    assert down == {"commit": TRIES, "put": TRIES, "registry": TRIES}


@pytest.mark.parametrize(("why", "what"), AWAY)
def test_what_waits_says_for_what_and_since_when(world: World, why: WorkspacesError, what: str) -> None:
    snapshot_id = version(world)
    world.add_job(JobKind.PUSH, snapshot_id)
    before = time.time()
    first = refused(world, why)
    assert (first.state, first.waits_for, first.attempts) == (JobState.QUEUED, what, 1)
    assert condition(first) == "waiting"
    assert first.waits_since is not None
    assert before <= first.waits_since <= time.time()
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(first.waits_since))
    assert again(first).startswith(f"waits for the {what} since {since}, tried again at ")
    found = CliRunner().invoke(cli, ["--home", str(world.root), "job", "list"])
    assert " waiting " in found.output
    assert f"waits for the {what} since {since}, tried again at" in found.output
    told = CliRunner().invoke(cli, ["--home", str(world.root), "job", "show", str(first.id), "--json"])
    assert json.loads(told.stdout)["waits_for"] == what


def test_it_waits_twice_as_long_each_time_five_minutes_at_most_and_a_day_in_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_id = version(world)
    job = world.add_job(JobKind.PUSH, snapshot_id)
    why = AWAY[2][0]
    begun = now = time.time()
    tries = 0
    while (found := world.store.job(job.id)).state is JobState.QUEUED:
        monkeypatch.setattr(time, "time", lambda now=now: now)
        tried = refused(world, why)
        assert tried.attempts <= 2
        if tried.retry_at is not None:
            pause = min(300.0, max(1.0, now - begun))
            assert 0.79 * pause <= tried.retry_at - now <= 1.21 * pause
            now, tries = tried.retry_at + 0.01, tries + 1
    assert 240 <= tries <= 400
    assert OUTAGE_SECONDS <= now - begun <= OUTAGE_SECONDS + 720
    assert found.error == f"{why}\nIt has waited for the registry for 1 day."
    again_ = world.store.retry_job(job.id, actor="chief")
    assert (again_.waits_for, again_.waits_since) == (None, None)
    assert refused(world, why).state is JobState.QUEUED


@pytest.mark.parametrize("why", [EngineTimeout("It took too long."), StoreBusy("locked")])
def test_other_trouble_that_may_pass_is_tried_ten_times(
    world: World, why: WorkspacesError, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_id = version(world)
    job = world.add_job(JobKind.PUSH, snapshot_id)
    for tries in range(1, jobs.MAX_ATTEMPTS + 1):
        time.sleep(0.015)
        tried = refused(world, why)
        assert (tried.attempts, tried.waits_for) == (tries, None)
    assert world.store.job(job.id).state is JobState.FAILED


def test_an_attempt_that_met_an_outage_is_an_attempt_all_the_same(world: World, impatient: None) -> None:
    """Stopped, but the engine went away before it could say so: who came since is not thrown out."""
    world.lifecycle.ensure_running(world.id)
    job = world.add_job(JobKind.STOP)
    world.lifecycle.stop(world.id)
    refused(world, AWAY[0][0], JobKind.STOP)
    world.lifecycle.ensure_running(world.id)
    world.work()
    assert world.store.job(job.id).state is JobState.DONE
    assert world.lifecycle.running(world.workspace) is not None


def failed(world: World, kind: JobKind, snapshot_id: int | None = None) -> Job:
    world.add_job(kind, snapshot_id)
    return refused(world, EngineError("The disk is full."), kind)


def test_all_that_failed_is_retried_at_once_but_what_would_harm_or_is_old(world: World) -> None:
    one = version(world)
    push, sbom = failed(world, JobKind.PUSH, one), failed(world, JobKind.SBOM, one)
    reset, restore = failed(world, JobKind.RESET), failed(world, JobKind.RESTORE, one)
    newer = failed(world, JobKind.PUSH, one)
    two = world.approved("second")
    world.store.cancel_job(world.store.jobs()[1].id, actor="chief")  # its listing
    commit = refused(world, EngineError("no"), JobKind.COMMIT)
    (world.rootfs / "root" / "two").write_text("2")
    retried, left = world.store.retry_failed(actor="chief")
    assert [job.id for job in retried] == [sbom.id, newer.id, commit.id]
    assert [job.id for job, _ in left] == [reset.id, restore.id]
    assert world.store.job(push.id).state is JobState.FAILED
    assert world.store.snapshot(two.id).state is SnapshotState.APPROVED
    assert world.store.retry_failed(actor="chief")[0] == []


def test_a_commit_that_failed_before_a_later_request_is_not_retried(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = world.approved()
    while world.store.jobs([JobState.QUEUED]):
        job = world.store.claim_job()
        assert job is not None
        if job.kind is JobKind.COMMIT:
            world.store.fail_snapshot(first.id, "no")
        world.store.fail_job(job.id, "no", None)
    world.approved("second")
    world.work()
    assert world.store.retry_failed(actor="chief") == ([], [])
    assert world.store.snapshot(first.id).state is SnapshotState.FAILED


def test_the_command_says_what_it_left(world: World) -> None:
    one = version(world)
    push, reset = failed(world, JobKind.PUSH, one), failed(world, JobKind.RESET)
    run = CliRunner()
    found = run.invoke(cli, ["--home", str(world.root), "job", "retry", "--failed"])
    assert found.exit_code == 0, found.output
    assert "1 failed jobs are queued again." in found.stdout
    assert f"Not {reset.id}, reset of als/alice: it would stop or replace the container" in found.stderr
    assert world.store.job(push.id).state is JobState.QUEUED
    for wrong in ([], [str(reset.id), "--failed"]):
        assert isinstance(run.invoke(cli, ["--home", str(world.root), "job", "retry", *wrong]).exception, UsageError)


@pytest.mark.parametrize(
    ("number", "kind"), [("ESTALE", ArchiveUnavailable), ("ENOTCONN", ArchiveUnavailable), ("EIO", ArchiveError)]
)
def test_a_disk_in_the_network_that_is_away_is_an_outage(world: World, number: str, kind: type[ArchiveError]) -> None:
    with pytest.raises(ArchiveError) as caught, disk_errors(world.root):
        raise OSError(getattr(errno, number), "x")
    assert type(caught.value) is kind


def test_an_outage_counts_from_when_an_attempt_last_got_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push of hours that meets a second outage is not failed for the first one, which is over."""
    snapshot_id = version(world)
    job = world.add_job(JobKind.PUSH, snapshot_id)
    assert refused(world, AWAY[2][0]).waits_since is not None
    later = time.time() + OUTAGE_SECONDS + 60
    monkeypatch.setattr(time, "time", lambda: later)
    claimed = world.store.claim_job()
    assert claimed is not None
    world.store.job_progress(job.id, None, "Pushing", (0, 10))
    assert world.store.job(job.id).waits_since is not None, "nothing of it has been taken yet"
    world.store.job_progress(job.id, None, "Pushing", (1, 10))
    assert (world.store.job(job.id).waits_for, world.store.job(job.id).waits_since) == (None, None)
    worker = world.worker()
    run = Run(world.store, claimed)
    worker._running[job.id] = run
    worker._handlers[JobKind.PUSH] = lambda *_: _raise(AWAY[2][0])
    worker._work(run)
    again_ = world.store.job(job.id)
    assert (again_.state, again_.waits_for, again_.waits_since) == (JobState.QUEUED, "registry", later)


def test_what_another_part_keeps_waiting_has_begun_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.add_job(JobKind.PUSH, version(world))
    refused(world, AWAY[2][0])
    later = time.time() + OUTAGE_SECONDS + 60
    monkeypatch.setattr(time, "time", lambda: later)
    found = refused(world, AWAY[1][0])
    assert (found.state, found.waits_for, found.waits_since) == (JobState.QUEUED, "archive", later)
    monkeypatch.setattr(time, "time", lambda: later + 1000)
    assert refused(world, EngineTimeout("slow")).waits_since is None
    assert world.store.job(job.id).waits_for is None


def test_a_job_whose_worker_died_waits_for_nothing(world: World) -> None:
    """Whatever kept its last attempt from being done; how long it has waited in all still counts."""
    job = world.add_job(JobKind.PUSH, version(world))
    since = refused(world, AWAY[2][0]).waits_since
    with world.store.transaction():
        world.store._db().execute("UPDATE jobs SET not_before = 0")
    assert world.store.claim_job() is not None
    assert world.store.requeue_running() == 1
    found = world.store.job(job.id)
    assert (condition(found), found.waits_for, found.waits_since, again(found)) == ("queued", None, since, "")


def test_what_only_a_cancelled_one_came_after_is_retried(world: World) -> None:
    push = failed(world, JobKind.PUSH, version(world))
    second = world.add_job(JobKind.PUSH, push.snapshot_id)
    assert world.store.retry_failed(actor="chief") == ([], [])
    world.store.cancel_job(second.id, actor="chief")
    assert [job.id for job in world.store.retry_failed(actor="chief")[0]] == [push.id]
