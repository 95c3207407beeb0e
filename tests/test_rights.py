"""Roles, rights and where they hold: the rules, their rows in the store, and the commands."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlite_utils import Database

from tests.support.stores import empty, fill, path, store
from workspaces.cli.common import cli
from workspaces.errors import Conflict, NotFound
from workspaces.model import Role
from workspaces.rights import OF_CHALLENGE, Right, Rights
from workspaces.store import Store, migrations


def test_an_administrator_may_all_and_a_participant_nothing() -> None:
    admin, participant = Rights(Role.ADMIN), Rights()
    for right in Right:
        assert admin.may(right)
        assert admin.may(right, "als")
        assert admin.scope(right) is None
        assert not participant.may(right)
        assert not participant.may(right, "als")
        assert participant.scope(right) == frozenset()
    assert admin.is_staff
    assert not participant.is_staff


def test_a_role_in_a_challenge_holds_there_and_never_for_the_host() -> None:
    rights = Rights(challenges={"als": Role.ADMIN, "bci": Role.REVIEWER})
    for right in Right:
        of_challenge = right in OF_CHALLENGE
        assert rights.may(right, "als") is of_challenge
        assert rights.may(right) is of_challenge
        assert not rights.may(right, "other")
    assert rights.scope(Right.DECIDE) == frozenset({"als", "bci"})
    assert rights.scope(Right.WORKSPACES) == frozenset({"als"})
    assert rights.scope(Right.USERS) == frozenset()
    assert rights.is_staff


def test_a_reviewer_sees_and_decides_and_more_only_where_more_is_given() -> None:
    rights = Rights(Role.REVIEWER, {"als": Role.ADMIN})
    assert [right for right in Right if rights.may(right, "bci")] == [Right.SEE, Right.DECIDE]
    assert rights.may(Right.CHALLENGE, "als")
    assert rights.scope(Right.DECIDE) is None
    assert rights.scope(Right.CHALLENGE) == frozenset({"als"})


@pytest.mark.parametrize(
    ("rights", "role"),
    [
        (Rights(), Role.PARTICIPANT),
        (Rights(challenges={"als": Role.REVIEWER}), Role.REVIEWER),
        (Rights(Role.REVIEWER, {"als": Role.ADMIN}), Role.ADMIN),
    ],
)
def test_rules_go_by_the_greatest_role_anywhere(rights: Rights, role: Role) -> None:
    assert rights.powerful is role


def test_a_misspelt_right_is_an_error_and_not_a_no() -> None:
    with pytest.raises(ValueError, match="decid"):
        Rights(Role.ADMIN).may("decid")  # type: ignore[arg-type]


# in the store


def test_roles_are_kept_with_their_events(store: Store) -> None:
    assert store.rights_of("alice") == Rights()
    store.set_challenge_role("alice", "als", Role.REVIEWER, actor="chief")
    store.set_challenge_role("alice", "als", Role.REVIEWER, actor="chief")  # nothing happens
    assert store.rights_of("alice") == Rights(Role.PARTICIPANT, {"als": Role.REVIEWER})
    assert store.challenge_roles("als") == {"alice": Role.REVIEWER}
    store.set_challenge_role("alice", "als", Role.ADMIN, actor="chief")
    store.set_challenge_role("alice", "als", Role.PARTICIPANT, actor="chief")
    assert store.challenge_roles("als") == {}
    store.set_role("alice", Role.REVIEWER, actor="chief")
    assert store.rights_of("alice") == Rights(Role.REVIEWER)
    said = [event.data for event in store.events(kind="user.role_set")]
    assert said == [
        {"user": "alice", "role": "reviewer"},
        {"user": "alice", "role": "participant", "challenge": "als"},
        {"user": "alice", "role": "admin", "challenge": "als"},
        {"user": "alice", "role": "reviewer", "challenge": "als"},
    ]
    for name, challenge in (("nobody", "als"), ("alice", "nothing")):
        with pytest.raises(NotFound):
            store.set_challenge_role(name, challenge, Role.ADMIN, actor="chief")


def test_an_administrator_of_a_challenge_is_not_one_of_the_host(store: Store) -> None:
    store.set_challenge_role("alice", "als", Role.ADMIN, actor="chief")
    for role in (Role.REVIEWER, Role.PARTICIPANT):
        with pytest.raises(Conflict, match="only administrator"):
            store.set_role("chief", role, actor="chief")


def test_roles_go_with_the_account(store: Store) -> None:
    store.set_challenge_role("alice", "als", Role.ADMIN, actor="chief")
    store.remove_user("alice", actor="chief")
    store.add_user("alice", actor="chief")
    assert store.rights_of("alice") == Rights()


def test_things_belong_to_challenges(store: Store) -> None:
    workspace = store.workspace("als/alice").id
    snapshot = store.request_snapshot(workspace, "m", actor="alice", via="ssh").id
    job = store.jobs()[0].id
    session = store.begin_session("alice", workspace, "shell", "192.0.2.1", "p", 1.0)
    for kind, number in (("workspace", workspace), ("snapshot", snapshot), ("job", job), ("session", session)):
        assert store.challenge_of(kind, number) == "als"
        assert store.challenge_of(kind, 99999) is None
    assert store.challenge_of("freeze", 1) is None


def test_lists_can_be_of_some_challenges(store: Store) -> None:
    store.add_challenge("bci", "base:1", actor="chief")
    other = store.add_workspace("bci", "alice", ["alice"], actor="chief").id
    for workspace in (store.workspace("als/bob").id, other):
        store.request_snapshot(workspace, "m", actor="alice", via="ssh")
    for lists in (store.snapshots, store.jobs):
        assert {thing.workspace for thing in lists()} == {"als/bob", "bci/alice"}
        assert {thing.workspace for thing in lists(challenges={"bci"})} == {"bci/alice"}
        assert lists(challenges=()) == []
    assert [w.ref for w in store.workspaces(challenges=["bci"])] == ["bci/alice"]
    assert store.workspaces(challenge="als", challenges=["bci"]) == []


def test_requests_are_news_for_those_who_decide_on_them(store: Store) -> None:
    store.add_challenge("bci", "base:1", actor="chief")
    for name in ("rita", "otto", "host"):
        store.add_user(name, Role.REVIEWER if name == "host" else Role.PARTICIPANT, actor="chief")
    store.set_challenge_role("rita", "als", Role.REVIEWER, actor="chief")
    store.set_challenge_role("otto", "bci", Role.ADMIN, actor="chief")
    store.request_snapshot(store.workspace("als/alice").id, "m", actor="alice", via="ssh")
    told = {name: store.unread_news(name) for name in ("chief", "rita", "otto", "host", "alice", "bob")}
    assert told == {"chief": 1, "rita": 1, "otto": 0, "host": 1, "alice": 0, "bob": 0}


def test_an_older_database_gets_the_role_and_keeps_its_people(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def m0009_column(db: Database) -> None:
        """A column that came between."""
        db.execute("ALTER TABLE users ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
        db.execute("CREATE INDEX users_colour ON users (colour)")

    first = [step.__name__ for step in migrations.STEPS].index("m0010_rights")
    steps, later = migrations.STEPS[:first], migrations.STEPS[first:]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", (*steps, m0009_column))
        with closing(Store.open(path)) as old:
            for name in ("alice", "bob"):
                old.add_user(name, actor="test")
            old.add_key("alice", "SHA256:a", "ssh-ed25519 AAAA", actor="test")
            last = old.add_user("gone", actor="test").id
            old.remove_user("gone", actor="test")
            before = old.users(), old.keys("alice")
            with pytest.raises(Conflict):
                old._insert("users", {"name": "x", "role": "reviewer", "created_at": 1})
    monkeypatch.setattr(migrations, "STEPS", (*steps, m0009_column, *later))
    with closing(Store.open(path)) as new:
        assert (new.users(), new.keys("alice")) == before
        new.add_user("chief", Role.ADMIN, actor="test")
        new.set_role("alice", Role.REVIEWER, actor="chief")
        assert new.add_user("next", actor="test").id > last
        assert new._rows("SELECT name FROM sqlite_master WHERE name = 'users_colour'") != []
        new.remove_user("alice", actor="test")
        assert new.find_key("SHA256:a") is None  # what refers to accounts still does


# the commands


def test_the_commands_set_and_show_roles(store: Store, path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["--home", str(path.parent), "user", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert run("role", "alice", "reviewer") == "alice is reviewer on this host.\n"
    assert run("role", "alice", "admin", "--challenge", "als") == "alice is admin in als.\n"
    assert run("show", "alice").startswith("alice: reviewer, admin in als\n")
    shown = json.loads(run("show", "alice", "--json"))
    assert (shown["role"], shown["challenges"], shown["workspaces"]) == ("reviewer", {"als": "admin"}, ["als/alice"])
    run("role", "alice", "participant", "--challenge", "als")
    assert store.rights_of("alice") == Rights(Role.REVIEWER)
