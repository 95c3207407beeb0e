"""What people are told of events, and what leaves this host because of them."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.support.stores import empty, path, store
from workspaces.errors import Conflict
from workspaces.model import DeliveryState, FreezeMode, JobKind, JobState, Role, Snapshot, SnapshotState
from workspaces.store import Store, deliveries, news


def texts(store: Store, user: str) -> list[str]:
    return [item.text for item in store.news(user)]


def request(store: Store, name: str = "alice", message: str = "m") -> Snapshot:
    return store.request_snapshot(store.workspace(f"als/{name}").id, message, actor=name, via="ssh")


def test_a_request_from_waiting_to_archived(store: Store) -> None:
    store.add_user("boss", Role.ADMIN, actor="test")
    snapshot = request(store, message="first\nsubmission")
    for admin in ("chief", "boss"):
        assert texts(store, admin) == ["alice asks for a snapshot of als/alice: first submission"]
    assert texts(store, "alice") == texts(store, "bob") == []
    store.approve_snapshot(snapshot.id, actor="chief")
    assert store.unread_news("boss") == 0  # decided by another
    store.begin_commit(snapshot.id)
    store.finish_commit(snapshot.id, "als/alice:v1", "sha256:aa", ["sha256:01"], 7)
    assert texts(store, "alice") == ["als/alice v1 is committed; it is being archived."]
    store.finish_archive(snapshot.id, "sha256:bb")
    assert texts(store, "alice") == ["als/alice v1 is committed and archived."]
    [told] = store.news("alice")
    assert (told.kind, told.snapshot_id, told.read_at) == ("snapshot.archived", snapshot.id, None)


def test_what_fails_is_told_to_both(store: Store) -> None:
    snapshot = request(store)
    store.approve_snapshot(snapshot.id, actor="chief")
    store.fail_snapshot(snapshot.id, "No space.\nFree some.")
    said = ["The snapshot of als/alice failed: No space. Free some."]
    assert texts(store, "alice") == texts(store, "chief") == said
    job = store.claim_job()
    while job is not None and job.kind is not JobKind.COMMIT:
        store.finish_job(job.id, "")
        job = store.claim_job()
    assert job is not None
    store.fail_job(job.id, "No space.", None)
    assert texts(store, "chief") == said  # not once more


def test_a_version_that_cannot_be_archived(store: Store) -> None:
    snapshot = request(store)
    store.approve_snapshot(snapshot.id, actor="chief")
    store.begin_commit(snapshot.id)
    store.finish_commit(snapshot.id, "als/alice:v1", "sha256:aa", ["sha256:01"], 7)
    while (job := store.claim_job()) is not None and job.kind is not JobKind.ARCHIVE:
        store.finish_job(job.id, "")
    assert job is not None
    store.fail_job(job.id, "disk full", retry_in=0)
    assert texts(store, "alice") == ["als/alice v1 is committed; it is being archived."]
    assert store.claim_job() is not None
    store.fail_job(job.id, "disk full", None)
    assert texts(store, "chief")[0] == f"Job {job.id}, archive of als/alice v1, failed: disk full"
    assert texts(store, "alice")[0] == "als/alice v1 is committed, but not archived yet; the administrators know."


def test_a_team_is_told_of_what_the_program_asked_for_and_a_member_of_the_own(store: Store) -> None:
    team = store.add_workspace("als", "team", ["alice", "bob"], actor="chief")
    by_host = store.request_snapshot(team.id, "m", actor="cli:root", via="cli")
    store.reject_snapshot(by_host.id, "no", actor="chief")
    assert store.unread_news("alice") == store.unread_news("bob") == 1
    own = store.request_snapshot(team.id, "m", actor="bob", via="ssh")
    store.reject_snapshot(own.id, "no", actor="chief")
    assert (store.unread_news("alice"), store.unread_news("bob")) == (1, 2)


def test_administrators_are_not_told_of_what_needs_no_decision(store: Store) -> None:
    snapshot = request(store)
    store.read_news("chief", 10**6)
    with store.transaction():
        store._db().execute("UPDATE snapshots SET requested_via = 'auto' WHERE id = ?", [snapshot.id])
        store._record("worker", "snapshot.requested", snapshot.workspace, snapshot.id)
    assert store.unread_news("chief") == 0


def frozen(store: Store, count: int) -> list[Snapshot]:
    """Versions that a freeze by chief took of so many workspaces, one of them alice's."""
    store.set_email("chief", "chief@example.org", actor="chief")
    store.set_email("alice", "alice@example.org", actor="chief")
    for number in range(count - 2):  # beside alice's and bob's
        store.add_workspace("als", f"p{number}", actor="chief")
    store.begin_freeze("als", FreezeMode.STOP, actor="chief")
    jobs = store.jobs([JobState.QUEUED], limit=None)
    assert len(jobs) == count
    return [store.take_snapshot(job.id, "The state of als when it closed") for job in jobs]


def test_a_freeze_is_told_to_the_members_and_not_to_who_began_it(store: Store) -> None:
    store.add_user("worker", actor="test")  # the name that the program itself has in records
    for snapshot in frozen(store, 30):
        store.begin_commit(snapshot.id)
        store.finish_commit(snapshot.id, snapshot.workspace, "sha256:aa", ["sha256:01"], 7)
        store.finish_archive(snapshot.id, "sha256:bb")
    assert texts(store, "alice") == ["als/alice v1 is committed and archived: The state of als when it closed"]
    assert texts(store, "chief") == texts(store, "worker") == []
    assert [(delivery.user, delivery.kind) for delivery in store.deliveries()] == [("alice", "snapshot.archived")]


def test_a_freeze_that_fails_everywhere_is_one_item_and_few_mails(store: Store) -> None:
    for snapshot in frozen(store, 30):
        store.fail_snapshot(snapshot.id, "The disk is full.")
    while (job := store.claim_job()) is not None:
        store.fail_job(job.id, "The disk is full.", None)
    [told] = texts(store, "chief")
    assert told.startswith("30 workspaces of als, als/")
    assert told.endswith("could not be frozen: The disk is full. See: workspaces challenge freeze als --status")
    assert texts(store, "alice") == []
    assert len(store.deliveries()) == news.MAILS_OF_FAILURES


def test_a_version_of_the_program_that_a_person_retries_tells_when_it_fails_again(store: Store) -> None:
    snapshot = frozen(store, 2)[0]
    store.fail_snapshot(snapshot.id, "The disk is full.")
    for job in store.jobs([JobState.QUEUED]):
        store.cancel_job(job.id, actor="chief")
    store.retry_snapshot(snapshot.id, actor="chief")
    commit = store.claim_job()
    assert commit is not None
    store.fail_snapshot(snapshot.id, "The disk is full.")
    store.fail_job(commit.id, "The disk is full.", None)
    assert texts(store, "chief") == [f"Job {commit.id}, commit of {snapshot.workspace}, failed: The disk is full."]


def test_nobody_is_told_what_he_did_himself_or_who_is_disabled(store: Store) -> None:
    store.add_user("boss", Role.ADMIN, actor="test")
    store.set_disabled("boss", True, actor="test")
    space = store.add_workspace("als", "chief", ["chief"], actor="test")
    store.request_snapshot(space.id, "m", actor="chief", via="web")
    assert texts(store, "chief") == texts(store, "boss") == []


def test_reading(store: Store) -> None:
    for _ in range(2):
        store.reject_snapshot(request(store).id, "no", actor="chief")
    newest, oldest = store.news("alice")
    store.read_news("alice", oldest.id)
    assert store.unread_news("alice") == 1
    assert store.unread_news("nobody") == 0
    store.read_news("bob", newest.id)  # not his
    assert store.unread_news("alice") == 1
    store.read_news("alice", newest.id)
    assert store.unread_news("alice") == 0
    assert all(item.read_at for item in store.news("alice"))


def test_they_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "KEPT", 3)
    monkeypatch.setattr(deliveries, "KEPT", 2)
    monkeypatch.setattr(deliveries, "MOST", 4)
    store.set_email("alice", "alice@example.org", actor="chief")
    for number in range(9):
        store.reject_snapshot(request(store).id, str(number), actor="chief")
    assert [text[-1] for text in texts(store, "alice")] == ["8", "7", "6"]
    waiting = store.deliveries([DeliveryState.WAITING])
    dead = store.deliveries([DeliveryState.DEAD])
    assert (len(waiting), len(dead)) == (4, 2)
    assert dead[0].error == "4 others wait already."


def test_a_participant_cannot_fill_an_administrators_mailbox(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.set_email("chief", "chief@example.org", actor="chief")
    for _ in range(3):
        snapshot = request(store)
        store.withdraw_snapshot(snapshot.id, actor="alice")
    request(store)
    request(store, "bob")
    assert [d.workspace for d in store.deliveries()] == ["als/bob", "als/alice"]
    assert store.unread_news("chief") == 2
    later = time.time() + news.MAIL_PAUSE + 1
    monkeypatch.setattr(time, "time", lambda: later)
    store.withdraw_snapshot(store.snapshots(states=[SnapshotState.REQUESTED])[-1].id, actor="alice")
    request(store)
    assert len(store.deliveries()) == 3


def test_what_was_rolled_back_is_not_told(store: Store) -> None:
    store.add_webhook("https://x.example/", "k", actor="chief")

    def both() -> None:
        with store.transaction():
            request(store)
            raise Conflict("No.")

    with pytest.raises(Conflict, match="No"):
        both()
    assert (store.news("chief"), store.deliveries()) == ([], [])


def test_webhooks_are_told_of_each_step(store: Store) -> None:
    store.add_webhook("https://x.example/", "k", actor="chief")
    snapshot = request(store)
    store.approve_snapshot(snapshot.id, actor="chief")
    store.begin_commit(snapshot.id)
    store.finish_commit(snapshot.id, "als/alice:v1", "sha256:aa", ["sha256:01"], 7)
    found = [json.loads(d.payload) for d in reversed(store.deliveries())]
    assert [event["type"] for event in found] == ["snapshot.requested", "snapshot.approved", "snapshot.committed"]
    assert found[2]["data"]["image"] == "als/alice:v1"
    assert found[2]["data"]["requested_by"] == "alice"
    assert all(event["timestamp"].endswith("Z") for event in found)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.claim_delivery(60),
        lambda s: s.unread_news("alice"),
        lambda s: s.company("alice", 1),
        lambda s: s.read_news("alice", 5),
        lambda s: s.reject_snapshot(request(s).id, "no", actor="chief"),
        lambda s: s.job_log(s.add_job(JobKind.STOP, 1, actor="chief").id),
        lambda s: s.job_lines([1, 2], 3),
    ],
)
def test_growing_tables_are_not_scanned(store: Store, call: Callable[[Store], object]) -> None:
    store.set_email("alice", "alice@example.org", actor="chief")
    store.reject_snapshot(request(store).id, "no", actor="chief")
    seen: list[str] = []
    db = store._db()
    with db.tracer(lambda sql, params: seen.append(sql)):
        call(store)
    for sql in seen:
        if sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
            named = defaultdict(str, dict.fromkeys(re.findall(r":([a-z_]+)", sql), "0"))
            for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", ["0"] * sql.count("?") or named):
                detail = row[3]
                assert not detail.startswith(("SCAN news", "SCAN d", "SCAN job_log")) or "INDEX" in detail, sql
