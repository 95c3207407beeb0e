"""Snapshots in the store: every way through their states, alone and at once."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.stores import alice, commit, empty, fill, path, store
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Change, ChangeReport, JobKind, JobState, SnapshotState
from workspaces.store import Store

S = SnapshotState


def request(store: Store, alice: int) -> int:
    return store.request_snapshot(alice, "first submission", actor="alice", via="ssh").id


def kinds(store: Store) -> list[tuple[JobKind, int | None]]:
    return [(job.kind, job.snapshot_id) for job in reversed(store.jobs())]


def test_the_whole_way(store: Store, alice: int) -> None:
    asked = store.request_snapshot(alice, "  first submission ", actor="alice", via="ssh")
    assert (asked.state, asked.message, asked.workspace) == (S.REQUESTED, "first submission", "als/alice")
    assert (asked.requested_by, asked.requested_via, asked.version) == ("alice", "ssh", None)
    assert store.snapshots(states=[SnapshotState.REQUESTED]) == [asked]
    job = store.approve_snapshot(asked.id, actor="chief")
    assert (job.kind, job.state, job.snapshot_id, job.requested_by) == (
        JobKind.COMMIT,
        JobState.QUEUED,
        asked.id,
        "chief",
    )
    begun = store.begin_commit(asked.id)
    assert (begun.state, begun.version, begun.decided_by, begun.parent_id) == (S.COMMITTING, 1, "chief", None)
    assert store.begin_commit(asked.id) == begun
    with pytest.raises(NotFound):
        store.version(alice, 1)  # not yet
    made = store.finish_commit(asked.id, "als/alice:v1", "sha256:aa", ["sha256:01", "sha256:02"], 1234)
    assert (made.state, made.image_ref, made.image_id) == (S.COMMITTED, "als/alice:v1", "sha256:aa")
    assert (made.diff_ids, made.size) == (("sha256:01", "sha256:02"), 1234)
    assert store.finish_commit(asked.id, "als/alice:v1", "sha256:aa", ["sha256:01", "sha256:02"], 1234) == made
    assert store.workspace(alice).parent_id == asked.id
    assert store.version(alice, 1) == made
    kept = store.finish_archive(asked.id, "sha256:mm")
    assert (kept.state, kept.manifest_digest) == (S.ARCHIVED, "sha256:mm")
    assert store.finish_archive(asked.id, "sha256:mm") == kept
    assert kinds(store) == [(JobKind.INSPECT, asked.id), (JobKind.COMMIT, asked.id), (JobKind.ARCHIVE, asked.id)]
    assert [event.kind for event in store.events(limit=4)] == [
        "snapshot.archived",
        "snapshot.committed",
        "snapshot.approved",
        "snapshot.requested",
    ]
    second = store.snapshot(commit(store, alice))
    assert (second.version, second.parent_id) == (2, asked.id)


def test_what_comes_after_archiving_is_queued_with_it(store: Store, alice: int) -> None:
    number = commit(store, alice)
    with pytest.raises(Conflict, match="is committed already"):
        store.finish_push(number, "r/x:v1")
    with pytest.raises(Conflict, match="is committed already"):
        store.finish_sbom(number, "sha256:s")
    for _ in range(2):  # a repeat changes nothing
        kept = store.finish_archive(number, "sha256:m", "signed", [JobKind.SBOM, JobKind.PUSH])
        assert (kept.state, kept.statement) == (S.ARCHIVED, "signed")
        assert kinds(store)[-2:] == [(JobKind.SBOM, number), (JobKind.PUSH, number)]
    for _ in range(2):
        listed = store.finish_sbom(number, "sha256:s", [JobKind.PUSH])
        assert listed.sbom_digest == "sha256:s"
    assert [kind for kind, _ in kinds(store)].count(JobKind.PUSH) == 2
    assert store.pushed(10) == []
    pushed = [store.finish_push(number, "r/x:v1") for _ in range(2)]
    assert pushed[0] == pushed[1]
    assert (pushed[0].registry_ref, pushed[0].pushed_at is None) == ("r/x:v1", False)
    assert store.pushed(10) == [pushed[0]]
    assert [event.kind for event in store.events(limit=2)] == ["snapshot.pushed", "snapshot.sbom"]


def test_pushes_go_on_for_a_workspace_that_was_removed(store: Store, alice: int) -> None:
    number = commit(store, alice)
    store.finish_archive(number, "sha256:m", "signed", [JobKind.PUSH])
    push = next(job for job in store.jobs() if job.kind is JobKind.PUSH)
    store.remove_workspace(alice, actor="chief")
    assert store.job(push.id).state is JobState.QUEUED
    store.cancel_job(push.id, actor="chief")
    assert store.retry_job(push.id, actor="chief").state is JobState.QUEUED
    assert store.add_job(JobKind.SBOM, alice, actor="chief", snapshot_id=number).state is JobState.QUEUED
    with pytest.raises(NotFound):
        store.add_job(JobKind.RESTORE, alice, actor="chief", snapshot_id=number)


def test_rejecting_and_withdrawing(store: Store, alice: int) -> None:
    first = request(store, alice)
    with pytest.raises(InvalidInput):
        store.reject_snapshot(first, " ", actor="chief")
    store.reject_snapshot(first, "too early", actor="chief")
    found = store.snapshot(first)
    assert (found.state, found.reason, found.decided_by) == (S.REJECTED, "too early", "chief")
    second = request(store, alice)
    store.withdraw_snapshot(second, actor="alice")
    assert store.snapshot(second).state is S.WITHDRAWN
    for decide in (store.approve_snapshot, store.withdraw_snapshot, store.retry_snapshot):
        with pytest.raises(Conflict, match=r"is withdrawn"):
            decide(second, actor="chief")
    assert [s.id for s in store.snapshots(alice)] == [second, first]
    assert [s.id for s in store.snapshots(states=[S.REJECTED])] == [first]
    assert [s.id for s in store.snapshots(limit=1)] == [second]
    assert store.snapshots(states=[]) == []


@pytest.mark.parametrize("how", ["", "x" * 1001, "\x1b[2J", "\udcff"])
def test_bad_messages_leave_nothing(store: Store, alice: int, how: str) -> None:
    with pytest.raises(InvalidInput):
        store.request_snapshot(alice, how, actor="alice", via="ssh")
    with pytest.raises(InvalidInput):
        store.request_snapshot(alice, "m", actor="alice", via=how)
    with pytest.raises(NotFound):
        store.request_snapshot(99, "m", actor="alice", via="ssh")
    assert store.snapshots() == []
    assert store.jobs() == []


def test_one_open_request_a_workspace(store: Store, alice: int) -> None:
    first = request(store, alice)
    with pytest.raises(Conflict, match=f"Snapshot {first} of als/alice is requested") as caught:
        request(store, alice)
    assert "Withdraw it" in caught.value.hint
    store.request_snapshot(store.workspace("bob").id, "m", actor="bob", via="web")
    store.approve_snapshot(first, actor="chief")
    with pytest.raises(Conflict, match="is approved"):
        request(store, alice)
    store.begin_commit(first)
    with pytest.raises(Conflict, match="is committing"):
        request(store, alice)
    store.finish_commit(first, "als/alice:v1", "sha256:aa", [], 0)
    request(store, alice)


def test_a_failure_keeps_its_reason_and_its_version(store: Store, alice: int) -> None:
    first = request(store, alice)
    store.approve_snapshot(first, actor="chief")
    store.begin_commit(first)
    store.fail_snapshot(first, "The disk is full.")
    store.fail_snapshot(first, "again")
    found = store.snapshot(first)
    assert (found.state, found.reason, found.version) == (S.FAILED, "The disk is full.", 1)
    second = commit(store, alice)
    assert store.snapshot(second).version == 2  # 1 may be on an image already
    job = store.retry_snapshot(first, actor="chief")
    assert (job.kind, job.snapshot_id) == (JobKind.COMMIT, first)
    assert store.snapshot(first).reason is None
    assert store.begin_commit(first).version == 1
    with pytest.raises(Conflict, match="only a failed one"):
        store.retry_snapshot(first, actor="chief")


def test_a_failed_one_waits_for_the_open_one(store: Store, alice: int) -> None:
    first = request(store, alice)
    store.approve_snapshot(first, actor="chief")
    store.fail_snapshot(first, "reason")
    request(store, alice)
    with pytest.raises(Conflict, match="one can be open"):
        store.retry_snapshot(first, actor="chief")


def test_steps_out_of_turn(store: Store, alice: int) -> None:
    first = request(store, alice)
    steps: list[Callable[[], object]] = [
        lambda: store.begin_commit(first),
        lambda: store.finish_commit(first, "a:v1", "sha256:aa", [], 0),
        lambda: store.fail_snapshot(first, "x"),
        lambda: store.finish_archive(first, "sha256:m"),
    ]
    for step in steps:
        with pytest.raises(Conflict, match="is requested"):
            step()
    store.approve_snapshot(first, actor="chief")
    store.begin_commit(first)
    store.finish_commit(first, "a:v1", "sha256:aa", [], 0)
    with pytest.raises(Conflict):
        store.finish_commit(first, "a:v1", "sha256:bb", [], 0)  # a committed version is immutable
    with pytest.raises(Conflict, match="is committed already by chief"):
        store.begin_commit(first)
    store.finish_archive(first, "sha256:m")
    with pytest.raises(Conflict):
        store.finish_archive(first, "sha256:n")
    assert store.snapshot(first).image_id == "sha256:aa"


def at_once(count: int, call: Callable[[int], object]) -> list[object]:
    """What `count` threads got from `call(number)`, begun together: a result, or the exception."""
    barrier = threading.Barrier(count)
    results: list[object] = [None] * count

    def run(number: int) -> None:
        barrier.wait(10)
        try:
            results[number] = call(number)
        except Exception as exc:
            results[number] = exc

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_of_many_decisions_at_once_one_succeeds(store: Store, alice: int) -> None:
    first = request(store, alice)

    def decide(number: int) -> object:
        if number % 2:
            return store.approve_snapshot(first, actor=f"admin-{number}")
        store.reject_snapshot(first, "no", actor=f"admin-{number}")
        return None

    results = at_once(8, decide)
    assert sum(isinstance(result, Conflict) for result in results) == 7
    decided = store.snapshot(first)
    assert decided.decided_by == f"admin-{next(n for n, r in enumerate(results) if not isinstance(r, Conflict))}"
    commits = [job for job in store.jobs() if job.kind is JobKind.COMMIT]
    assert len(commits) == (decided.state is S.APPROVED)


def test_of_many_requests_at_once_one_succeeds(store: Store, alice: int) -> None:
    results = at_once(8, lambda number: request(store, alice))
    assert sum(isinstance(result, Conflict) for result in results) == 7
    assert len(store.snapshots()) == len(store.jobs()) == 1


def test_change_reports(store: Store, alice: int) -> None:
    first = request(store, alice)
    assert store.changes(first) is None
    entries = (Change("added", "/root/\udcff<b>", 12, 0o100644), Change("removed", "/etc/x"))
    report = ChangeReport(1.5, "base:1", 1, 0, 1, 12, entries, ("A key.",), ("/run/x",))
    store.set_changes(first, ChangeReport(1.0, "base:1", 0, 0, 0, 0))
    store.set_changes(first, report)
    assert store.changes(first) == report
    with pytest.raises(NotFound):
        store.set_changes(99, report)


def test_a_configuration_is_kept_until_it_is_archived(store: Store, alice: int) -> None:
    first = commit(store, alice)
    assert store.configuration(first) is None
    store.set_configuration(first, b"{}")
    store.set_configuration(first, b'{"a":1}')
    assert store.configuration(first) == b'{"a":1}'
    store.finish_archive(first, "sha256:m")
    assert store.configuration(first) is None
    with pytest.raises(NotFound):
        store.set_configuration(99, b"{}")


class Life(RuleBasedStateMachine):
    """Any calls in any order, over two workspaces: no version twice, none lost, at most one open, never half a step."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = fill(Store.open(Path(self.directory.name) / "w.db"))
        self.committed: dict[tuple[str, int], str] = {}

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @rule(name=st.sampled_from(["alice", "bob"]))
    def request(self, name: str) -> None:
        with suppress(Conflict):
            self.store.request_snapshot(self.store.workspace(name).id, "m", actor=name, via="cli")

    @rule(name=st.sampled_from(["alice", "bob"]))
    def make_anew(self, name: str) -> None:
        with suppress(Conflict):
            self.store.remove_workspace(self.store.workspace(name).id, actor="chief")
            self.store.add_workspace("als", name, [name], actor="chief")

    @rule(number=st.integers(1, 6), step=st.sampled_from(["withdraw", "reject", "approve", "retry", "begin", "fail"]))
    def decide(self, number: int, step: str) -> None:
        with suppress(Conflict, NotFound):
            if step == "reject":
                self.store.reject_snapshot(number, "no", actor="chief")
            elif step == "begin":
                self.store.begin_commit(number)
            elif step == "fail":
                self.store.fail_snapshot(number, "x")
            else:
                getattr(self.store, f"{step}_snapshot")(number, actor="chief")

    @rule(number=st.integers(1, 6), archive=st.booleans())
    def finish(self, number: int, archive: bool) -> None:
        with suppress(Conflict, NotFound):
            made = self.store.finish_commit(number, "x:v1", f"sha256:{number}", [], 0)
            assert made.version is not None
            self.committed[made.workspace, made.version] = f"sha256:{number}"
            if archive:
                self.store.finish_archive(number, "sha256:m")

    @invariant()
    def versions_are_given_once_and_stay(self) -> None:
        found = self.store.snapshots()
        versions = [(s.workspace, s.version) for s in found if s.version is not None]
        assert len(versions) == len(set(versions))
        kept = {(s.workspace, s.version): s.image_id for s in found if s.state in (S.COMMITTED, S.ARCHIVED)}
        assert kept == self.committed

    @invariant()
    def an_approved_one_has_its_job(self) -> None:
        jobs = [job.snapshot_id for job in self.store.jobs([JobState.QUEUED]) if job.kind is JobKind.COMMIT]
        found = self.store.snapshots()
        for snapshot in found:
            if snapshot.state in (S.APPROVED, S.COMMITTING):
                assert snapshot.id in jobs
        opened = [s.workspace_id for s in found if s.state in (S.REQUESTED, S.APPROVED, S.COMMITTING)]
        assert len(opened) == len(set(opened))


TestLife = pytest.mark.slow(Life.TestCase)
TestLife.settings = settings(max_examples=12, stateful_step_count=20, deadline=None, database=None)
