"""Freezes, approval by a challenge's own rule, notices and adopted versions, in the store."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from tests.support.stores import alice, commit, empty, fill, path, store
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Command, FreezeMode, FrozenState, JobKind, JobState, SnapshotState
from workspaces.store import Store, notices


def close(store: Store, mode: FreezeMode | None = FreezeMode.STOP, at: float = 1000.0) -> None:
    store.set_challenge("als", at_close=mode, closes_at=at, actor="chief")


def test_a_freeze_has_a_job_for_each_workspace_and_ends_with_the_last(store: Store, alice: int) -> None:
    begun = store.begin_freeze("als", FreezeMode.STOP, actor="chief")
    assert (begun.challenge, begun.mode, begun.requested_by, begun.ended_at) == ("als", "stop", "chief", None)
    assert store.challenge("als").frozen is FreezeMode.STOP
    jobs = store.jobs()
    assert {(job.kind, job.arguments["freeze"]) for job in jobs} == {(JobKind.FREEZE, str(begun.id))}
    with pytest.raises(Conflict, match="being frozen already"):
        store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
    for one in store.frozen(begun.id):
        assert one.state is FrozenState.WAITING
        assert store.freeze(begun.id).ended_at is None
        claimed = store.claim_job()
        assert claimed is not None
        store.finish_frozen(begun.id, claimed.workspace_id, FrozenState.UNCHANGED, None, "said")
        store.finish_job(claimed.id, "said")
    assert store.freeze(begun.id).ended_at is not None
    assert [(one.workspace, one.state, one.detail) for one in store.frozen(begun.id)] == [
        ("als/alice", "unchanged", "said"),
        ("als/bob", "unchanged", "said"),
    ]
    again = store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
    assert [freeze.id for freeze in store.freezes("als")] == [again.id, begun.id]


def test_what_failed_is_cancelled_or_removed_does_not_wait_for_ever(store: Store, alice: int) -> None:
    store.add_workspace("als", "carol", actor="chief")
    begun = store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
    first = store.claim_job()
    assert first is not None
    store.fail_job(first.id, "no room", None)
    store.remove_workspace(store.workspace("als/bob").id, actor="chief")
    store.cancel_job(next(job.id for job in store.jobs([JobState.QUEUED])), actor="chief")
    assert {(one.state, one.detail) for one in store.frozen(begun.id)} == {
        ("failed", "no room"),
        ("failed", "The workspace was removed."),
        ("failed", "Cancelled by chief."),
    }
    assert store.freeze(begun.id).ended_at is not None
    store.retry_job(first.id, actor="chief")
    assert store.freeze(begun.id).ended_at is None


def test_an_empty_challenge_is_frozen_at_once(store: Store) -> None:
    store.add_challenge("void", "base:1", actor="chief")
    assert store.begin_freeze("void", FreezeMode.STOP, actor="chief").ended_at is not None


def test_a_closing_begins_one_freeze_however_many_look(store: Store, path: Path) -> None:
    close(store)
    assert store.begin_due_freezes(999.0) == []
    start = threading.Barrier(8)
    begun: list[int] = []

    def look() -> None:
        start.wait()
        begun.extend(freeze.id for freeze in store.begin_due_freezes(1000.0))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert store.freeze(begun[0]).closes_at == 1000.0
    assert store.freeze(begun[0]).mode is FreezeMode.STOP
    assert len(store.jobs()) == 2


def test_a_closing_that_was_thawed_or_moved_back_is_not_begun_again_and_a_later_one_is(store: Store) -> None:
    close(store)
    [begun] = store.begin_due_freezes(2000.0)
    store.thaw("als", actor="chief")
    assert store.begin_due_freezes(2000.0) == []
    close(store, at=3000.0)
    assert store.begin_due_freezes(2000.0) == []
    [second] = store.begin_due_freezes(3000.0)
    assert second.id != begun.id
    close(store, None, at=4000.0)
    assert store.begin_due_freezes(5000.0) == []


def test_a_closing_waits_for_a_freeze_that_goes_on(store: Store) -> None:
    close(store)
    earlier = store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
    assert store.begin_due_freezes(2000.0) == []
    for job in store.jobs():
        store.cancel_job(job.id, actor="chief")
    assert store.freeze(earlier.id).ended_at is not None
    assert len(store.begin_due_freezes(2000.0)) == 1


def test_thawing_cancels_what_waits_and_makes_writable_what_is_sealed(store: Store, alice: int) -> None:
    with pytest.raises(Conflict, match="not frozen"):
        store.thaw("als", actor="chief")
    begun = store.begin_freeze("als", FreezeMode.READ_ONLY, actor="chief")
    claimed = store.claim_job()
    assert claimed is not None
    taken = store.take_snapshot(store.jobs([JobState.QUEUED])[0].id, "kept")
    assert store.thaw("als", actor="chief") == 1
    assert store.challenge("als").frozen is None
    assert store.freeze(begun.id).thawed_at is not None
    [thaw] = store.jobs([JobState.QUEUED])
    assert (thaw.kind, thaw.workspace_id) == (JobKind.THAW, claimed.workspace_id)
    assert store.snapshot(taken.id).state is SnapshotState.FAILED, "nobody would ever commit it"
    store.set_read_only(alice, True)
    assert store.workspace(alice).read_only


def test_a_snapshot_that_the_program_takes_is_one_for_each_job_and_stands_beside_a_request(
    store: Store, alice: int
) -> None:
    asked = store.request_snapshot(alice, "mine", actor="alice", via="ssh")
    job = store.add_job(JobKind.RESTORE, alice, actor="cli:root")
    taken = store.take_snapshot(job.id, "before")
    assert (taken.state, taken.requested_via, taken.decided_by) == (SnapshotState.APPROVED, "auto", "cli:root")
    assert store.take_snapshot(job.id, "before") == taken
    other = store.add_job(JobKind.RESTORE, alice, actor="chief", arguments={"discard": "yes"})
    with pytest.raises(Conflict, match="one can be open at a time"):
        store.take_snapshot(other.id, "before")
    assert store.snapshot(asked.id).state is SnapshotState.REQUESTED
    with pytest.raises(Conflict, match="one can be open at a time"):
        store.request_snapshot(alice, "again", actor="alice", via="ssh")
    assert store.begin_commit(taken.id).version == 1
    store.approve_snapshot(asked.id, actor="chief")
    store.finish_commit(taken.id, "als/alice:v1", "sha256:aa", ["sha256:01"], 7)
    assert store.begin_commit(asked.id).version == 2


def test_a_snapshot_is_its_jobs_though_the_clock_was_set_back(
    store: Store, alice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.add_job(JobKind.RESTORE, alice, actor="chief")
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: job.created_at - 60)
        taken = store.take_snapshot(job.id, "m")
        assert store.take_snapshot(job.id, "m").id == taken.id
    store.cancel_job(job.id, actor="chief")
    assert store.snapshot(taken.id).state is SnapshotState.FAILED


def test_a_job_that_a_person_retries_takes_another_one(store: Store, alice: int) -> None:
    job = store.add_job(JobKind.RESTORE, alice, actor="chief")
    first = store.take_snapshot(job.id, "before")
    store.claim_job()
    store.fail_snapshot(first.id, "no room")
    store.fail_job(job.id, "no room", None)
    assert store.taken_snapshot(job.id) == store.snapshot(first.id)
    store.retry_job(job.id, actor="chief")
    assert store.taken_snapshot(job.id) is None
    assert store.take_snapshot(job.id, "before").id != first.id


def test_cancelling_a_job_fails_the_snapshot_that_it_took(store: Store, alice: int) -> None:
    job = store.add_job(JobKind.RESTORE, alice, actor="chief")
    taken = store.take_snapshot(job.id, "before")
    store.cancel_job(job.id, actor="chief")
    assert store.snapshot(taken.id).state is SnapshotState.FAILED


def test_requests_are_approved_by_the_challenge_up_to_its_quota(store: Store, alice: int) -> None:
    store.set_challenge("als", auto_approve=2, actor="chief")
    midnight = 20_000 * 86400.0
    states = []

    def ask(at: float, actor: str = "alice", workspace: int = alice) -> SnapshotState:
        with mock.patch("time.time", return_value=at):
            asked = store.request_snapshot(workspace, "m", actor=actor, via="ssh")
        states.append(asked)
        return asked.state

    def close_last(how: str) -> None:
        if how == "fail":
            store.fail_snapshot(states[-1].id, "no room")
        else:
            store.withdraw_snapshot(states[-1].id, actor="alice")

    assert ask(midnight) is SnapshotState.APPROVED
    assert states[-1].decided_by == "auto:als"
    assert [job.kind for job in store.jobs()] == [JobKind.COMMIT, JobKind.INSPECT]
    close_last("fail")  # counts: the program has done its part
    assert ask(midnight + 1) is SnapshotState.APPROVED
    close_last("fail")
    assert ask(midnight + 2) is SnapshotState.REQUESTED
    close_last("withdraw")  # never approved, so it does not count
    assert ask(midnight + 86399) is SnapshotState.REQUESTED
    close_last("withdraw")
    assert ask(midnight, "bob", store.workspace("als/bob").id) is SnapshotState.APPROVED
    assert ask(midnight + 86400) is SnapshotState.APPROVED, "a new day"


def test_a_quota_is_for_members_and_off_at_first(store: Store, alice: int) -> None:
    assert store.request_snapshot(alice, "m", actor="alice", via="web").state is SnapshotState.REQUESTED
    store.set_challenge("als", auto_approve=5, actor="chief")
    bob = store.workspace("als/bob").id
    assert store.request_snapshot(bob, "m", actor="cli:root", via="cli").state is SnapshotState.REQUESTED
    with pytest.raises(InvalidInput):
        store.set_challenge("als", auto_approve=-1, actor="chief")


def test_a_command_is_kept_with_its_request(store: Store, alice: int) -> None:
    command = Command(("/a b",), ("-x", "é"))
    asked = store.request_snapshot(alice, "m", actor="alice", via="ssh", command=command)
    assert store.snapshot(asked.id).command == command
    store.withdraw_snapshot(asked.id, actor="alice")
    assert store.request_snapshot(alice, "m", actor="alice", via="ssh").command is None


def test_a_notice_is_for_those_who_are_on_and_untold_until_each_process_said_it(store: Store, alice: int) -> None:
    assert store.add_notice(alice, "nobody hears it") is None
    store.begin_session("alice", alice, "shell", "::1", "one", time.time())
    store.begin_session("alice", alice, "exec", "::1", "two", time.time())
    before = store.last_notice()
    number = store.add_notice(alice, "soon")
    assert number is not None
    store.begin_session("alice", alice, "shell", "::1", "later", time.time() + 1)  # knows nothing of it
    assert [(n.id, n.workspace_id, n.text) for n in store.notices(before)] == [(number, alice, "soon")]
    assert store.notices(number) == []
    assert store.notice_untold(number)
    store.notice_told(number, "one")
    store.notice_told(number, "one")
    assert store.notice_untold(number)
    store.notice_told(number, "two")
    assert not store.notice_untold(number)
    store.notice_told(number + 1, "two")  # gone: nothing happens
    with mock.patch("time.time", return_value=time.time() + notices.KEPT_SECONDS + 5):
        latest = store.add_notice(alice, "now")
    assert latest is not None
    assert [n.id for n in store.notices(0)] == [latest]
    assert store.last_notice() == latest


def test_a_version_from_an_archive_is_entered_once_and_numbers_go_on_after_it(store: Store, alice: int) -> None:
    adopted = {"image_ref": "als/alice:v3", "image_id": "sha256:aa", "manifest_digest": "sha256:mm", "message": "m"}
    adopted |= {"requested_by": "alice"}
    entered = store.adopt_version(alice, 3, {**adopted, "requested_at": 5.0}, ["sha256:01"], actor="chief")
    assert (entered.state, entered.version, entered.requested_at) == (SnapshotState.ARCHIVED, 3, 5.0)
    assert store.adopt_version(alice, 3, {**adopted, "requested_at": 6.0}, ["sha256:01"], actor="chief") == entered
    with pytest.raises(Conflict, match="another version v3"):
        store.adopt_version(
            alice, 3, {**adopted, "image_id": "sha256:bb", "requested_at": 5.0}, ["sha256:01"], actor="chief"
        )
    assert store.version_named("als/alice:v3") == entered
    assert store.version_named("als/alice:v4") is None
    assert store.snapshot(commit(store, alice)).version == 4


def _approve(path: Path, snapshot_id: int, start: float, queue: multiprocessing.Queue[str]) -> None:
    store = Store.open(path)
    while time.time() < start:
        pass
    try:
        store.approve_snapshot(snapshot_id, actor="chief")
        queue.put("approved")
    except Conflict:
        queue.put("refused")
    store.close()


@pytest.mark.slow
def test_many_processes_approve_one_request_and_one_of_them_does(store: Store, path: Path, alice: int) -> None:
    asked = store.request_snapshot(alice, "m", actor="alice", via="ssh")
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    start = time.time() + 3
    processes = [context.Process(target=_approve, args=(path, asked.id, start, queue)) for _ in range(6)]
    for process in processes:
        process.start()
    said = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(20)
    assert said == ["approved", *["refused"] * 5]
    assert [job.kind for job in store.jobs()] == [JobKind.COMMIT, JobKind.INSPECT]


def test_frozen_rows_of_an_unknown_workspace_are_refused(store: Store) -> None:
    begun = store.begin_freeze("als", FreezeMode.STOP, actor="chief")
    with pytest.raises(NotFound):
        store.finish_frozen(begun.id, 999, FrozenState.COMMITTED, None, "")
