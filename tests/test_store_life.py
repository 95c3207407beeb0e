"""Snapshots, jobs and freezes under any calls in any order: the state machine and the numbering of versions."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.stores import fill
from workspaces.errors import Conflict, NotFound
from workspaces.model import FreezeMode, FrozenState, Job, JobKind, JobState, SnapshotState
from workspaces.store import Store

S = SnapshotState
NAMES = st.sampled_from(["alice", "bob"])
LATER = {  # what a state may become, however many steps lie between two looks
    S.REQUESTED: set(S),
    S.APPROVED: {S.COMMITTING, S.COMMITTED, S.ARCHIVED, S.FAILED},
    S.COMMITTING: {S.COMMITTED, S.ARCHIVED, S.FAILED, S.APPROVED},
    S.COMMITTED: {S.ARCHIVED},
    S.ARCHIVED: set(),
    S.REJECTED: set(),
    S.WITHDRAWN: set(),
    S.FAILED: {S.APPROVED, S.COMMITTING, S.COMMITTED, S.ARCHIVED},
}


class Life(RuleBasedStateMachine):
    """People, an administrator, and a worker that dies at any step, over two workspaces of one challenge."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = fill(Store.open(Path(self.directory.name) / "w.db"))
        self.store.set_challenge("als", auto_approve=1, actor="chief")
        self.states: dict[int, SnapshotState] = {}
        self.images: dict[tuple[str, int], str] = {}
        self.running: list[Job] = []

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    # people

    @rule(name=NAMES, by=st.sampled_from(["member", "admin"]))
    def request(self, name: str, by: str) -> None:
        with suppress(Conflict):
            actor = name if by == "member" else "cli:root"
            self.store.request_snapshot(self.store.workspace(name).id, "m", actor=actor, via="cli")

    @rule(pick=st.integers(0, 9), step=st.sampled_from(["withdraw", "reject", "approve", "approve", "retry"]))
    def decide(self, pick: int, step: str) -> None:
        found = self.store.snapshots(limit=4)
        number = found[pick % len(found)].id if found else 1
        with suppress(Conflict, NotFound):
            if step == "reject":
                self.store.reject_snapshot(number, "no", actor="chief")
            else:
                getattr(self.store, f"{step}_snapshot")(number, actor="chief")

    @rule(name=NAMES)
    def restore(self, name: str) -> None:
        self.store.add_job(JobKind.RESTORE, self.store.workspace(name).id, actor="chief")

    @rule(mode=st.sampled_from(FreezeMode))
    def freeze(self, mode: FreezeMode) -> None:
        with suppress(Conflict):
            self.store.begin_freeze("als", mode, actor="chief")

    @rule()
    def close(self) -> None:
        self.store.set_challenge("als", at_close=FreezeMode.STOP, closes_at=1000.0, actor="chief")
        self.store.begin_due_freezes(1000.0)
        self.store.begin_due_freezes(1000.0)

    @rule()
    def thaw(self) -> None:
        with suppress(Conflict):
            self.store.thaw("als", actor="chief")

    @rule(pick=st.integers(0, 9), step=st.sampled_from(["retry", "cancel"]))
    def change_job(self, pick: int, step: str) -> None:
        states = [JobState.QUEUED] if step == "cancel" else [JobState.FAILED, JobState.CANCELLED]
        found = self.store.jobs(states)
        if found:
            with suppress(Conflict):
                getattr(self.store, f"{step}_job")(found[pick % len(found)].id, actor="chief")

    # the worker

    @rule()
    def claim(self) -> None:
        job = self.store.claim_job()
        if job is not None:
            self.running.append(job)

    @rule()
    def die(self) -> None:
        self.store.requeue_running()
        self.running.clear()

    @rule()
    def begin_to_keep(self) -> None:
        """The first that takes a snapshot for itself comes so far, and what was before it is done."""
        for _ in range(10):
            if not self.running:
                self.claim()
            if not self.running or self.running[0].kind in (JobKind.RESTORE, JobKind.FREEZE):
                return self.work("take")
            self.work("finish")
        return None

    @rule(step=st.sampled_from(["take", "begin", "finish", "finish", "fail", "again"]))
    def work(self, step: str) -> None:
        """One step of the job that was claimed first, as its handler does them."""
        if not self.running:
            return None
        job = self.running[0]
        takes = job.kind in (JobKind.RESTORE, JobKind.FREEZE)
        taken = self.store.taken_snapshot(job.id)
        number = job.snapshot_id if job.kind is JobKind.COMMIT else taken.id if taken else None
        if step == "take" and takes:
            self.store.take_snapshot(job.id, "kept")
        elif step == "begin" and number is not None:
            self._begin(number)
        elif step == "finish":
            if number is not None:
                if not self._begin(number):
                    return self._fail(job, number)
                made = self.store.finish_commit(number, f"x:{number}", f"sha256:{number}", [], 0)
                assert made.version is not None
                self.images[made.workspace, made.version] = f"sha256:{number}"
            if job.kind is JobKind.ARCHIVE and job.snapshot_id is not None:
                self.store.finish_archive(job.snapshot_id, "sha256:m")
            if job.kind is JobKind.FREEZE:
                state = FrozenState.COMMITTED if number else FrozenState.UNCHANGED
                self.store.finish_frozen(int(job.arguments["freeze"]), job.workspace_id, state, number, "said")
            self.store.finish_job(job.id, "done")
            self.running.pop(0)
        elif step == "fail":
            self._fail(job, number)
        elif step == "again":
            self.store.fail_job(job.id, "away", 0)
            self.running.pop(0)
        return None

    def _begin(self, number: int) -> bool:
        """Whether it is, or may be, committed: not when it failed already."""
        if self.store.snapshot(number).state in (S.APPROVED, S.COMMITTING):
            self.store.begin_commit(number)
        return self.store.snapshot(number).state in (S.COMMITTING, S.COMMITTED, S.ARCHIVED)

    def _fail(self, job: Job, number: int | None) -> None:
        if number is not None:
            with suppress(Conflict):  # it is committed, and only the job has failed
                self.store.fail_snapshot(number, "no room")
        self.store.fail_job(job.id, "no room", None)
        self.running.pop(0)

    # what always holds

    @invariant()
    def states_only_go_where_they_may(self) -> None:
        for snapshot in self.store.snapshots():
            before = self.states.get(snapshot.id, snapshot.state)
            assert snapshot.state is before or snapshot.state in LATER[before], (before, snapshot.state)
            self.states[snapshot.id] = snapshot.state

    @invariant()
    def versions_are_given_once_and_stay(self) -> None:
        found = self.store.snapshots()
        versions = [(s.workspace, s.version) for s in found if s.version is not None]
        assert len(versions) == len(set(versions))
        for workspace in ("als/alice", "als/bob"):  # none is left out either
            numbers = sorted(version for ref, version in versions if ref == workspace)
            assert numbers == list(range(1, len(numbers) + 1))
        done = {(s.workspace, s.version): s.image_id for s in found if s.state in (S.COMMITTED, S.ARCHIVED)}
        assert done == self.images

    @invariant()
    def one_of_peoples_and_one_of_the_programs_is_open(self) -> None:
        opened = Counter(
            (s.workspace_id, s.requested_via == "auto")
            for s in self.store.snapshots(states=[S.REQUESTED, S.APPROVED, S.COMMITTING])
        )
        assert set(opened.values()) <= {1}

    @invariant()
    def one_at_a_time_is_committed_in_a_workspace(self) -> None:
        committing = Counter(s.workspace_id for s in self.store.snapshots(states=[S.COMMITTING]))
        assert set(committing.values()) <= {1}

    @invariant()
    def what_is_approved_has_a_job_that_goes_on(self) -> None:
        jobs = self.store.jobs([JobState.QUEUED, JobState.RUNNING], limit=None)
        going = {job.snapshot_id for job in jobs if job.kind is JobKind.COMMIT}
        going |= {taken.id for job in jobs if (taken := self.store.taken_snapshot(job.id)) is not None}
        for snapshot in self.store.snapshots(states=[S.APPROVED, S.COMMITTING]):
            assert snapshot.id in going

    @invariant()
    def a_freeze_waits_only_for_what_a_job_does(self) -> None:
        jobs = {job.id for job in self.store.jobs([JobState.QUEUED, JobState.RUNNING], limit=None)}
        for freeze in self.store.freezes("als"):
            waiting = [row for row in self.store.frozen(freeze.id) if row.state is FrozenState.WAITING]
            assert all(row.job_id in jobs for row in waiting)
            assert (freeze.ended_at is None) is bool(waiting)
        closings = [freeze for freeze in self.store.freezes("als") if freeze.closes_at is not None]
        assert len(closings) <= 1


TestLife = pytest.mark.slow(Life.TestCase)
TestLife.settings = settings(max_examples=25, stateful_step_count=40, deadline=None, database=None)
