"""The queue of the worker, and the record of who did what."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import threading
import time

import pytest

from tests.support.stores import alice, commit, empty, path, store
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.jobkinds import AGEING_SECONDS
from workspaces.jobtext import percent
from workspaces.model import Job, JobKind, JobState, SnapshotState
from workspaces.store import Store
from workspaces.store.jobs import LOG_MAX


@pytest.fixture
def bob(store: Store) -> int:
    return store.workspace("als/bob").id


def add(store: Store, kind: JobKind, workspace_id: int, snapshot_id: int | None = None) -> Job:
    return store.add_job(kind, workspace_id, actor="chief", snapshot_id=snapshot_id)


def claim(store: Store) -> Job:
    job = store.claim_job()
    assert job is not None
    return job


def test_a_job_from_queue_to_end(store: Store, alice: int) -> None:
    job = add(store, JobKind.START, alice)
    assert (job.state, job.attempts, job.progress, job.workspace) == (JobState.QUEUED, 0, 0, "als/alice")
    assert store.events(limit=1)[0].kind == "job.start"
    running = claim(store)
    assert (running.id, running.state, running.attempts) == (job.id, JobState.RUNNING, 1)
    assert running.started_at is not None
    store.job_progress(job.id, 0.5, "half")
    assert (store.job(job.id).progress, store.job(job.id).message) == (0.5, "half")
    store.job_progress(job.id, None, "x" * 10_000)
    assert store.job(job.id).progress == 0.5
    assert len(store.job(job.id).message) == 2000
    for odd, kept in ((7.0, 1.0), (-1.0, 0.0), (float("nan"), 0.0)):
        store.job_progress(job.id, odd, "")
        assert store.job(job.id).progress == kept
    store.finish_job(job.id, "als/alice runs")
    done = store.job(job.id)
    assert (done.state, done.progress, done.message) == (JobState.DONE, 1.0, "als/alice runs")
    store.job_progress(job.id, 0.1, "late")
    assert store.job(job.id) == done
    with pytest.raises(Conflict, match="not running"):
        store.finish_job(job.id, "")
    with pytest.raises(Conflict, match="not running"):
        store.fail_job(job.id, "", None)
    assert store.claim_job() is None


def test_equal_jobs_that_wait_are_one(store: Store, alice: int, bob: int) -> None:
    snapshot = commit(store, alice)
    first = add(store, JobKind.START, alice)
    assert add(store, JobKind.START, alice) == first
    others = [
        add(store, JobKind.STOP, alice),
        add(store, JobKind.START, bob),
        add(store, JobKind.RESTORE, alice, snapshot),
        add(store, JobKind.RESTORE, alice, commit(store, alice, "sha256:bb")),
    ]
    assert len({job.id for job in [first, *others]}) == 5
    with pytest.raises(NotFound):
        add(store, JobKind.RESTORE, alice, 99)
    with pytest.raises(NotFound):
        add(store, JobKind.START, 99)


def test_one_running_job_a_workspace_oldest_first(store: Store, alice: int, bob: int) -> None:
    jobs = [add(store, JobKind.STOP, alice), add(store, JobKind.START, alice), add(store, JobKind.STOP, bob)]
    assert claim(store).id == jobs[0].id
    assert claim(store).id == jobs[2].id
    assert store.claim_job() is None
    store.finish_job(jobs[0].id, "")
    assert claim(store).id == jobs[1].id


def test_what_changes_a_container_keeps_its_order_while_one_waits_for_its_next_try(store: Store, alice: int) -> None:
    snapshot = store.request_snapshot(alice, "m", actor="alice", via="ssh").id
    inspect = claim(store)
    first = store.approve_snapshot(snapshot, actor="chief")
    later = add(store, JobKind.RESET, alice)
    store.fail_job(inspect.id, "engine away", retry_in=3600)
    assert claim(store).id == first.id  # an inspection holds nothing up
    store.fail_job(first.id, "engine away", retry_in=3600)
    waiting = store.job(first.id)
    assert (waiting.state, waiting.error, waiting.finished_at) == (JobState.QUEUED, "engine away", None)
    assert store.claim_job() is None  # not the reset: it would delete what is to be committed
    store.cancel_job(first.id, actor="chief")
    assert claim(store).id == later.id


def test_a_try_again_comes_when_it_is_due(store: Store, alice: int, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add(store, JobKind.START, alice)
    claim(store)
    store.fail_job(job.id, "engine away", retry_in=30)
    assert store.claim_job() is None
    later = time.time() + 31
    monkeypatch.setattr(time, "time", lambda: later)
    again = claim(store)
    assert (again.id, again.attempts) == (job.id, 2)


def test_failing_retrying_cancelling(store: Store, alice: int) -> None:
    job = add(store, JobKind.START, alice)
    claim(store)
    with pytest.raises(Conflict, match="only a failed or cancelled"):
        store.retry_job(job.id, actor="chief")
    store.fail_job(job.id, "no image", None)
    failed = store.job(job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, "no image")
    assert failed.finished_at is not None
    assert store.events(limit=1)[0].data == {"job": str(job.id), "kind": "start", "error": "no image"}
    again = store.retry_job(job.id, actor="chief")
    assert (again.state, again.error, again.attempts, again.finished_at) == (JobState.QUEUED, None, 0, None)
    cancelled = store.cancel_job(job.id, actor="chief")
    assert (cancelled.state, cancelled.error) == (JobState.CANCELLED, "Cancelled by chief.")
    assert store.retry_job(job.id, actor="chief").state is JobState.QUEUED
    for call in (store.job, lambda id_: store.retry_job(id_, actor="x"), lambda id_: store.cancel_job(id_, actor="x")):
        with pytest.raises(NotFound):
            call(99)


def test_a_persons_retry_is_a_new_request_and_a_killed_workers_is_not(store: Store, alice: int) -> None:
    job = add(store, JobKind.RESET, alice)
    claim(store)
    store.requeue_running()
    claim(store)
    store.fail_job(job.id, "engine away", retry_in=0)
    assert store.job(job.id).created_at == job.created_at
    claim(store)
    store.fail_job(job.id, "no image", None)
    failed_at = time.time()
    again = store.retry_job(job.id, actor="chief")
    assert (again.created_at >= failed_at, again.started_at) == (True, None)


def test_cancelling_a_commit_fails_its_snapshot_and_retrying_revives_both(store: Store, alice: int) -> None:
    snapshot = store.request_snapshot(alice, "m", actor="alice", via="ssh").id
    job = store.approve_snapshot(snapshot, actor="chief")
    store.cancel_job(job.id, actor="chief")
    found = store.snapshot(snapshot)
    assert (found.state, found.reason) == (SnapshotState.FAILED, "Cancelled by chief.")
    store.retry_job(job.id, actor="chief")
    assert store.snapshot(snapshot).state is SnapshotState.APPROVED
    store.cancel_job(job.id, actor="chief")
    store.retry_snapshot(snapshot, actor="chief")
    with pytest.raises(Conflict, match="only a failed one"):
        store.retry_job(job.id, actor="chief")  # a newer job has it
    assert store.job(job.id).state is JobState.CANCELLED


def test_a_killed_workers_jobs_are_taken_up_again(store: Store, alice: int, bob: int) -> None:
    jobs = [add(store, JobKind.START, alice), add(store, JobKind.START, bob)]
    claim(store)
    claim(store)
    assert store.requeue_running() == 2
    assert store.requeue_running() == 0
    again = claim(store)
    assert (again.id, again.attempts) == (jobs[0].id, 2)


def test_many_claims_at_once_share_the_jobs(store: Store) -> None:
    for number in range(6):
        workspace = store.add_workspace("als", f"w{number}", actor="chief")
        add(store, JobKind.START, workspace.id)
    claimed: list[int] = []

    def work() -> None:
        while job := store.claim_job():
            claimed.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(claimed) == sorted(job.id for job in store.jobs())


def test_lists(store: Store, alice: int, bob: int) -> None:
    jobs = [add(store, JobKind.START, alice), add(store, JobKind.START, bob), add(store, JobKind.STOP, alice)]
    claim(store)
    assert [job.id for job in store.jobs()] == [job.id for job in reversed(jobs)]
    assert [job.id for job in store.jobs(workspace_id=alice, limit=1)] == [jobs[2].id]
    assert [job.id for job in store.jobs(states=[JobState.RUNNING])] == [jobs[0].id]
    assert store.jobs(states=[]) == []
    assert len(store.jobs(limit=None)) == 3


def test_the_record(store: Store) -> None:
    store.add_event("alice", "login.accepted", workspace="als/alice", data={"from": "192.0.2.1", "key": None, "n": 3})
    event = store.events(limit=1)[0]
    assert (event.actor, event.kind, event.workspace) == ("alice", "login.accepted", "als/alice")
    assert event.data == {"from": "192.0.2.1", "n": "3"}
    assert store.events(actor="alice") == [event]
    assert store.events(kind="login.accepted") == [event]
    assert [e.kind for e in store.events(workspace="als/alice")] == ["login.accepted", "workspace.added"]
    assert store.events(workspace="als/alice", actor="chief") == []


def test_the_higher_priority_is_first_and_waiting_adds_to_it(
    store: Store, alice: int, bob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = add(store, JobKind.ARCHIVE, alice)
    start = add(store, JobKind.START, bob)
    assert (archive.priority, start.priority) == (20, 80)
    assert claim(store).id == start.id
    store.fail_job(start.id, "x", None)
    begun = time.time()
    monkeypatch.setattr(time, "time", lambda: begun + 61 * AGEING_SECONDS)
    store.retry_job(start.id, actor="chief")
    assert [claim(store).kind, claim(store).kind] == [JobKind.ARCHIVE, JobKind.START]


def test_many_jobs_of_one_workspace_let_those_of_others_through(
    store: Store, alice: int, bob: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served in turns, although all of alice's are older."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    for number in range(3):
        now += 1
        store.add_job(JobKind.STOP, alice, actor="chief", arguments={"n": str(number)})
    for number in range(2):
        now += 1
        store.add_job(JobKind.STOP, bob, actor="chief", arguments={"n": str(number)})
    served = []
    for _ in range(5):
        now += 10
        job = claim(store)
        served.append(job.workspace_id)
        store.finish_job(job.id, "")
    assert served == [alice, bob, alice, bob, alice]


def test_a_priority_is_set_while_it_waits(store: Store, alice: int, bob: int) -> None:
    first, second = add(store, JobKind.STOP, alice), add(store, JobKind.STOP, bob)
    assert store.set_job_priority(second.id, 100, actor="chief").priority == 100
    assert store.events(limit=1)[0].data["priority"] == "100"
    assert claim(store).id == second.id
    with pytest.raises(Conflict, match="only one that waits"):
        store.set_job_priority(second.id, 1, actor="chief")
    for wrong in (-1, 101):
        with pytest.raises(InvalidInput, match="0 to 100"):
            store.set_job_priority(first.id, wrong, actor="chief")


def test_kinds_that_are_full_wait(store: Store, alice: int, bob: int) -> None:
    add(store, JobKind.STOP, alice)
    start = add(store, JobKind.START, bob)
    job = store.claim_job(full=[JobKind.STOP])
    assert job is not None
    assert job.id == start.id
    assert store.claim_job(full=[JobKind.STOP]) is None


def test_a_running_job_is_told_to_end(store: Store, alice: int) -> None:
    job = add(store, JobKind.STOP, alice)
    claim(store)
    assert store.cancellations() == {}
    told = store.cancel_job(job.id, actor="chief")
    assert (told.state, told.cancelled_by) == (JobState.RUNNING, "chief")
    store.cancel_job(job.id, actor="other")
    assert store.cancellations() == {job.id: "chief"}
    store.stop_job(job.id, "Cancelled by chief.")
    assert (store.job(job.id).state, store.job(job.id).error) == (JobState.CANCELLED, "Cancelled by chief.")
    assert (store.events(limit=1)[0].actor, store.events(limit=1)[0].kind) == ("chief", "job.cancelled")
    assert store.cancellations() == {}
    assert store.retry_job(job.id, actor="chief").cancelled_by is None
    with pytest.raises(Conflict, match="not running"):
        store.stop_job(job.id, "")


def test_the_log_of_a_job(store: Store, alice: int) -> None:
    job = add(store, JobKind.START, alice)
    claim(store)
    for message in ("one", "one", "two", "x" * 5000):
        store.job_progress(job.id, None, message)
    store.fail_job(job.id, "engine away", retry_in=2.2)
    lines = store.job_log(job.id)
    assert [line.line[:500] for line in lines] == [
        "Begun.", "one", "two", "x" * 500, "engine away It is tried again in 2 s.",
    ]  # fmt: skip
    assert [line.line for line in store.job_log(job.id, after=lines[-2].id)] == [lines[-1].line]
    store.cancel_job(job.id, actor="chief")
    store.retry_job(job.id, actor="chief")
    claim(store)
    for number in range(300):
        store.job_progress(job.id, None, str(number))
    kept = store.job_log(job.id)
    assert (len(kept), kept[-1].line) == (LOG_MAX, "299")
    with pytest.raises(NotFound):
        store.job_log(99)


def test_the_logs_of_several_jobs_are_one_in_the_order_of_what_came(store: Store, alice: int, bob: int) -> None:
    first, second = (add(store, JobKind.START, number) for number in (alice, bob))
    other = store.add_job(JobKind.USAGE, actor="chief")
    for _ in range(3):
        claim(store)
    for job, text in ((first, "one"), (second, "two"), (other, "no"), (second, "three"), (first, "four")):
        store.job_progress(job.id, None, text)
    found = store.job_lines([second.id, first.id, 99])
    assert [line.id for _, line in found] == sorted(line.id for _, line in found)
    assert [(number, line.line) for number, line in found[-4:]] == [
        (first.id, "one"), (second.id, "two"), (second.id, "three"), (first.id, "four"),
    ]  # fmt: skip
    assert store.job_lines([first.id, second.id], after=found[-3][1].id) == found[-2:]
    assert store.job_lines([]) == []


def test_what_failed_is_never_complete(store: Store, alice: int) -> None:
    job = add(store, JobKind.START, alice)
    claim(store)
    store.job_progress(job.id, 1.0, "nearly", (10, 10), time.time() + 5)
    found = store.job(job.id)
    assert (found.bytes_done, found.bytes_total) == (10, 10)
    assert percent(found) == 99
    store.fail_job(job.id, "no", None)
    assert store.job(job.id).progress == 0.99
    assert percent(store.job(job.id)) == 99
    assert store.job(job.id).expected_at is None
