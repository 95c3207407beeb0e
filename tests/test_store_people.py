"""Accounts, keys, challenges and workspaces in the store."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.stores import commit, empty, path, store
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import JobKind, JobState, Limits, Mount, Network, Role, SnapshotState, WorkspaceState
from workspaces.store import Store

ED = "ssh-ed25519 AAAA comment"


def said(store: Store) -> tuple[str, str, str | None, dict[str, str]]:
    event = store.events(limit=1)[0]
    return event.actor, event.kind, event.workspace, event.data


# accounts


def test_accounts(empty: Store) -> None:
    user = empty.add_user("alice", Role.ADMIN, "hash", actor="cli:root")
    assert (user.name, user.role, user.has_password, user.disabled) == ("alice", Role.ADMIN, True, False)
    assert abs(user.created_at - time.time()) < 60
    assert said(empty) == ("cli:root", "user.added", None, {"user": "alice", "role": "admin"})
    assert empty.user("alice") == empty.find_user("alice") == user
    assert empty.password_hash("alice") == "hash"
    with pytest.raises(Conflict, match="exists already"):
        empty.add_user("alice", actor="x")
    with pytest.raises(InvalidInput):
        empty.add_user("../alice", actor="x")


@pytest.mark.parametrize("name", ["", "nobody", "../../etc", "a\0", "\udcff", "ä" * 1000, "x" * 1024, "alice'--"])
def test_any_name_may_be_asked_for(store: Store, name: str) -> None:
    assert store.find_user(name) is None
    assert store.password_hash(name) is None
    assert store.key_owner(name) is None
    assert store.keys(name) == []
    assert store.workspaces_of(name) == []
    for ask in (store.user, store.challenge, store.workspace):
        with pytest.raises(NotFound) as caught:
            ask(name)
        assert caught.value.message.isprintable()


def test_passwords_are_set_and_taken_away_and_never_recorded(store: Store) -> None:
    store.set_password_hash("alice", "secret-hash", actor="chief")
    assert store.user("alice").has_password
    assert said(store)[1] == "user.password_set"
    store.set_password_hash("alice", None, actor="chief")
    assert not store.user("alice").has_password
    assert "secret" not in str(store.events())


def test_disabling_and_enabling(store: Store) -> None:
    store.set_disabled("alice", True, actor="chief")
    assert store.user("alice").disabled
    assert said(store) == ("chief", "user.disabled", None, {"user": "alice"})
    count = len(store.events())
    store.set_disabled("alice", True, actor="chief")
    assert len(store.events()) == count  # nothing happened
    store.set_disabled("alice", False, actor="chief")
    assert not store.user("alice").disabled


@pytest.mark.parametrize(
    "lose",
    [
        lambda store: store.remove_user("chief", actor="x"),
        lambda store: store.set_disabled("chief", True, actor="x"),
        lambda store: store.set_role("chief", Role.PARTICIPANT, actor="x"),
    ],
)
def test_the_last_admin_stays(store: Store, lose: Callable[[Store], None]) -> None:
    store.add_user("second", Role.ADMIN, actor="x")
    store.set_disabled("second", True, actor="x")
    with pytest.raises(Conflict, match="only administrator"):
        lose(store)
    assert store.user("chief").role is Role.ADMIN
    store.set_disabled("second", False, actor="x")
    lose(store)


def test_a_removed_account_leaves_work_and_history(store: Store) -> None:
    store.add_key("alice", "SHA256:a", ED, actor="alice")
    id_ = commit(store, store.workspace("alice").id)
    number = store.user("alice").id
    store.remove_user("alice", actor="chief")
    assert store.find_user("alice") is None
    assert store.key_owner("SHA256:a") is None
    assert store.workspace("alice").members == ()
    assert store.snapshot(id_).requested_by == "alice"
    assert any(event.data.get("user") == "alice" for event in store.events())
    assert store.add_user("alice", actor="chief").id > number  # another person, another number
    assert store.workspaces_of("alice") == []


# keys


def test_keys(store: Store) -> None:
    key = store.add_key("alice", "SHA256:a", ED, actor="alice")
    assert (key.user, key.line, key.last_used_at) == ("alice", ED, None)
    assert store.keys("alice") == [key]
    owner = store.key_owner("SHA256:a")
    assert owner is not None
    assert owner.name == "alice"
    store.touch_key("SHA256:a", "192.0.2.1")
    assert store.keys("alice")[0].last_used_from == "192.0.2.1"
    store.touch_key("SHA256:gone", "192.0.2.1")
    with pytest.raises(NotFound):
        store.remove_key("bob", "SHA256:a", actor="bob")
    store.remove_key("alice", "SHA256:a", actor="alice")
    assert store.key_owner("SHA256:a") is None
    assert said(store) == ("alice", "key.removed", None, {"user": "alice", "fingerprint": "SHA256:a"})


def test_a_key_is_one_persons_and_does_not_tell_whose(store: Store) -> None:
    store.add_key("alice", "SHA256:a", ED, actor="alice")
    with pytest.raises(Conflict, match="has this key already"):
        store.add_key("alice", "SHA256:a", ED, actor="alice")
    with pytest.raises(Conflict) as caught:
        store.add_key("bob", "SHA256:a", ED, actor="bob")
    assert "alice" not in str(caught.value)
    for bad in ("MD5:a", "SHA256:\udcff", "SHA256:" + "x" * 200):
        with pytest.raises(InvalidInput):
            store.add_key("bob", bad, ED, actor="bob")


# challenges


def test_challenges(store: Store) -> None:
    mounts = (Mount("/data/als", "/data"), Mount("/data/ref", "/ref"))
    added = store.add_challenge(
        "ms", "host:5000/ms:1", Limits(0.5, 1 << 30, 64), Network.NONE, mounts, "user", 10.0, 20.0, actor="chief"
    )
    assert store.challenge("ms") == added
    assert (added.limits, added.network, added.mounts) == (Limits(0.5, 1 << 30, 64), Network.NONE, mounts)
    assert [challenge.slug for challenge in store.challenges()] == ["als", "ms"]
    with pytest.raises(Conflict):
        store.add_challenge("ms", "a", Limits(), Network.OPEN, actor="chief")
    changed = store.set_challenge("ms", actor="chief", limits=Limits(), opens_at=None, mounts=())
    assert (changed.limits, changed.opens_at, changed.closes_at, changed.mounts) == (Limits(), None, 20.0, ())
    assert said(store)[3] == {
        "challenge": "ms",
        "limits": "1 cpus, 2147483648 bytes, 512 processes",
        "opens_at": "never",
        "mounts": "",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"image": "Not An Image"},
        {"limits": Limits(cpus=0)},
        {"limits": Limits(cpus=float("nan"))},
        {"limits": Limits(memory=1)},
        {"limits": Limits(memory=1 << 70)},
        {"limits": Limits(pids=0)},
        {"mounts": (Mount("data", "/data"),)},
        {"mounts": (Mount("/a/../b", "/data"),)},
        {"mounts": (Mount("/data", "/"),)},
        {"mounts": (Mount("/a", "/data"), Mount("/b", "/data/"))},
        {"mounts": (Mount("/a:b", "/data"),)},
        {"mounts": (Mount("/a\n", "/data"),)},
        {"login_user": "-x"},
        {"login_user": "root\n"},
        {"opens_at": float("inf")},
        {"opens_at": 10.0, "closes_at": 5.0},
        {"id": 7},
    ],
)
def test_challenges_that_break_a_rule(store: Store, change: dict[str, Any]) -> None:
    before = store.challenge("als"), len(store.events())
    with pytest.raises(InvalidInput):
        store.set_challenge("als", actor="chief", **change)
    assert (store.challenge("als"), len(store.events())) == before
    if "id" not in change:
        with pytest.raises(InvalidInput):
            store.add_challenge("new", actor="chief", **{"image": "a", **change})


# workspaces


def test_workspaces_are_found_by_number_reference_and_name(store: Store) -> None:
    alice = store.workspace("als/alice")
    assert alice == store.workspace(alice.id) == store.workspace("alice")
    assert (alice.ref, alice.members, alice.state, alice.image) == (
        "als/alice",
        ("alice",),
        WorkspaceState.ABSENT,
        None,
    )
    store.add_challenge("ms", "a", Limits(), Network.OPEN, actor="chief")
    team = store.add_workspace("ms", "alice", ["bob", "alice", "bob"], actor="chief")
    assert team.members == ("alice", "bob")
    with pytest.raises(Conflict, match="Several") as caught:
        store.workspace("alice")
    assert "als/alice, ms/alice" in caught.value.hint
    assert [w.ref for w in store.workspaces()] == ["als/alice", "als/bob", "ms/alice"]
    assert [w.ref for w in store.workspaces(challenge="ms")] == ["ms/alice"]
    assert store.workspaces(state=WorkspaceState.RUNNING) == []
    assert [w.ref for w in store.workspaces_of("bob")] == ["als/bob", "ms/alice"]
    with pytest.raises(Conflict, match="exists already"):
        store.add_workspace("als", "alice", actor="chief")
    for bad in (99, "als/", "als/alice/x", "als/nobody"):
        with pytest.raises(NotFound):
            store.workspace(bad)
    with pytest.raises(NotFound):
        store.add_workspace("als", "new", ["alice", "nobody"], actor="chief")
    assert len(store.workspaces()) == 3  # not without its members


def test_members_come_and_go(store: Store) -> None:
    id_ = store.workspace("alice").id
    store.add_member(id_, "bob", actor="chief")
    assert store.workspace(id_).members == ("alice", "bob")
    assert said(store) == ("chief", "member.added", "als/alice", {"user": "bob"})
    count = len(store.events())
    store.add_member(id_, "bob", actor="chief")
    assert len(store.events()) == count
    store.remove_member(id_, "alice", actor="chief")
    assert store.workspace(id_).members == ("bob",)
    with pytest.raises(NotFound):
        store.add_member(id_, "nobody", actor="chief")


def test_states_are_noted_once(store: Store) -> None:
    id_ = store.workspace("alice").id
    store.set_workspace_state(id_, WorkspaceState.FAILED, "no image")
    first = store.workspace(id_)
    assert (first.state, first.state_detail) == (WorkspaceState.FAILED, "no image")
    version = store.data_version()
    store.set_workspace_state(id_, WorkspaceState.FAILED, "no image")
    assert store.data_version() == version
    store.set_workspace_state(id_, WorkspaceState.RUNNING, seen_at=first.state_at - 1)
    assert store.workspace(id_) == first  # an older sighting
    store.set_workspace_state(id_, WorkspaceState.RUNNING, seen_at=first.state_at + 1)
    assert store.workspace(id_).state is WorkspaceState.RUNNING
    with pytest.raises(NotFound):
        store.set_workspace_state(99, WorkspaceState.RUNNING)


def test_image_and_login(store: Store) -> None:
    id_ = store.workspace("alice").id
    snapshot = commit(store, id_)
    store.set_workspace_image(id_, "als/alice:v1", snapshot)
    store.touch_login(id_)
    found = store.workspace(id_)
    assert (found.image, found.parent_id) == ("als/alice:v1", snapshot)
    assert found.last_login_at is not None
    with pytest.raises(Conflict):
        store.set_workspace_image(id_, "x", 99)  # no such snapshot


def test_a_removed_workspace_keeps_its_versions_and_its_numbers(store: Store) -> None:
    id_ = store.workspace("alice").id
    version = commit(store, id_)
    waiting = store.request_snapshot(id_, "second", actor="alice", via="ssh")
    store.remove_workspace(id_, actor="chief")
    assert said(store) == ("chief", "workspace.removed", "als/alice", {"members": "alice"})
    assert [w.ref for w in store.workspaces()] == ["als/bob"]
    assert store.workspaces_of("alice") == []
    with pytest.raises(NotFound):
        store.workspace(id_)
    assert store.snapshot(version).workspace == "als/alice"
    assert store.version(id_, 1).id == version
    withdrawn = store.snapshot(waiting.id)
    assert (withdrawn.state, withdrawn.reason) == (SnapshotState.WITHDRAWN, "The workspace was removed.")
    # archiving goes on, the inspections do not
    assert [(j.kind, j.state) for j in store.jobs() if j.state is JobState.QUEUED] == [
        (JobKind.ARCHIVE, JobState.QUEUED)
    ]
    claimed = store.claim_job()
    assert claimed is not None
    assert claimed.kind is JobKind.ARCHIVE
    again = store.add_workspace("als", "alice", ["alice"], actor="chief")
    assert again.id > id_
    assert store.snapshots(workspace_id=again.id) == []
    assert store.snapshot(commit(store, again.id)).version == 2
    with pytest.raises(NotFound):
        store.version(again.id, 1)


def test_a_workspace_with_something_promised_is_not_removed(store: Store) -> None:
    id_ = store.workspace("alice").id
    snapshot = store.request_snapshot(id_, "m", actor="alice", via="web")
    store.approve_snapshot(snapshot.id, actor="chief")
    with pytest.raises(Conflict, match="approved and not yet committed"):
        store.remove_workspace(id_, actor="chief")
    store.begin_commit(snapshot.id)
    with pytest.raises(Conflict, match="not yet committed"):
        store.check_nothing_to_lose(id_)
    store.fail_snapshot(snapshot.id, "no space")
    for job in store.jobs():
        store.cancel_job(job.id, actor="chief") if job.kind is not JobKind.COMMIT else None
    running = store.add_job(JobKind.RESTART, id_, actor="chief")
    while (claimed := store.claim_job()) and claimed.id != running.id:
        store.finish_job(claimed.id, "done")
    with pytest.raises(Conflict, match="A job works on als/alice: restart"):
        store.remove_workspace(id_, actor="chief")
    store.finish_job(running.id, "done")
    store.remove_workspace(id_, actor="chief")
