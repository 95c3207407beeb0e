"""Lists of people as CSV: every problem with its line, nothing done by halves, sent twice does nothing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.stores import empty, path, store
from tests.test_cli import Run, engine, ready, run
from workspaces import roster
from workspaces.errors import Conflict, InvalidInput
from workspaces.model import Role
from workspaces.roster import Problem
from workspaces.store import Store

__all__ = ["empty", "engine", "path", "ready", "run", "store"]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} {}@laptop"
ONE, TWO = (KEY.format(letter * 43, name) for letter, name in (("A", "one"), ("B", "two")))


def tried(store: Store, text: str, challenge: str = "als") -> roster.Plan:
    return roster.plan(store, *roster.parse(text.encode(), challenge))


def test_a_list_is_carried_out_once(store: Store) -> None:
    text = (
        "\ufeffName;challenge;workspace;email;key\r\n"
        f"dora;;;dora@example.org;{ONE}\r\n"
        "\r\n"
        f'emil;als;team;;"restrict {TWO}"\r\n'
        "fay;als;team\r\n"
        "alice;;;;\r\n"
    )
    rows, problems = roster.parse(text.encode(), "als")
    assert problems == []
    done = roster.enrol(store, rows, actor="chief")
    assert [(step.row.line, step.row.name, step.does) for step in done.steps] == [
        (2, "dora", ("account", "email", "key", "workspace")),
        (4, "emil", ("account", "key", "workspace")),
        (5, "fay", ("account", "member")),
        (6, "alice", ()),
    ]
    assert set(store.workspace("als/team").members) == {"emil", "fay"}
    assert store.workspace("als/dora").members == ("dora",)
    assert (store.user("dora").email, store.user("dora").role) == ("dora@example.org", Role.PARTICIPANT)
    assert [key.options for key in store.keys("emil")] == ["restrict"]
    events = len(store.events(1000))
    assert all(step.does == () for step in roster.enrol(store, rows, actor="chief").steps)
    assert len(store.events(1000)) == events


@pytest.mark.parametrize(
    ("row", "line", "column", "said"),
    [
        ("Dora", 2, "name", "cannot be a user"),
        ("", 3, "name", "''"),
        ("a,b c", 2, "challenge", "cannot be a challenge"),
        ("a,nowhere", 2, "", "no challenge nowhere"),
        ("a,als,x/y", 2, "workspace", "cannot be a workspace"),
        ("a,als,,a@b@c", 2, "email", "not an e-mail address"),
        ("a,als,,,ssh-ed25519 AAAA", 2, "key", "key"),
        ("a,als,,,-----BEGIN OPENSSH PRIVATE KEY-----", 2, "key", "private key"),
        ("a,als,,,,more", 2, "", "6 cells"),
        ("a,als\nb\na,als", 4, "name", "on line 2 already"),
        (f"a,als,,,{ONE}\nb,als,,,{ONE}", 3, "key", "a's on line 2"),
        ("a,als,,a@b.example\na,als,c,c@b.example", 3, "email", "another address on line 2"),
        ('"a"\n"\n\n",als\nc,c c', 6, "challenge", "cannot be a challenge"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(store: Store, row: str, line: int, column: str, said: str) -> None:
    first = "" if row else "a\n,als"
    found = tried(store, f"name,challenge,workspace,email,key\n{row}{first}\n")
    assert [(problem.line, problem.column) for problem in found.problems if said in problem.message] == [(line, column)]


def test_a_workspace_needs_its_challenge(store: Store) -> None:
    assert [p.column for p in tried(store, "name,workspace\na,w\n", challenge="").problems] == ["challenge"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "first line must name"),
        (b"dora\nemil\n", "first line must name"),
        (b"name,name\n", "first line must name"),
        (b"name,password\ndora,secret\n", "first line must name"),
        (b"name\nd\xff\n", "Line 2 of the list is not UTF-8"),
        (b'name\n"dora\n', "Line 2 of the list is not CSV"),
        (b'name\n"a"b\n', "not CSV"),
        (b"name\n" + b"a\n" * 5001, "more than 5000 rows"),
        (b"name\n" + b"a" * (1 << 20), "bytes"),
        (b"name\n" + b"a" * 200_000, "not CSV"),
    ],
)
def test_what_is_no_list_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        roster.parse(data)


def test_a_key_of_somebody_here_is_refused_and_nothing_is_done(store: Store) -> None:
    roster.enrol(store, roster.parse(f"name,key\ndora,{ONE}".encode())[0], actor="chief")
    rows, _ = roster.parse(f"name,challenge,key\nemil,als,\nfay,als,{ONE}".encode())
    with pytest.raises(Conflict, match="Line 3: The key belongs to another account"):
        roster.enrol(store, rows, actor="chief")
    assert store.find_user("emil") is None


def test_many_problems_are_bounded(store: Store) -> None:
    assert len(tried(store, "name\n" + "X\n" * 3000).problems) == roster.MAX_PROBLEMS
    with pytest.raises(InvalidInput, match="more than 5000 rows"):  # wrong ones take as long to read as right ones
        tried(store, "name\n" + "X\n" * 6000)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.binary(max_size=80) | st.text("name,;\t\"\n\r'=aB1-é", max_size=80).map(lambda t: f"name,key\n{t}".encode())
)
def test_any_bytes_are_a_list_with_problems_or_refused(data: bytes) -> None:
    try:
        rows, problems = roster.parse(data)
    except InvalidInput:
        return
    assert all(isinstance(problem, Problem) and problem.line >= 2 for problem in problems)
    assert len({(row.name, row.ref) for row in rows}) == len(rows) or problems


def test_an_export_is_a_list_again_and_no_formula(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.set_email("alice", "=cmd@example.org", actor="chief")
    monkeypatch.setattr(roster, "PART", 1)
    text = "".join(roster.export(store))
    rows = list(csv.DictReader(io.StringIO(text)))
    [alice] = [row for row in rows if row["name"] == "alice"]
    assert (alice["challenge"], alice["workspace"], alice["email"]) == ("als", "alice", "'=cmd@example.org")
    assert [row["role"] for row in rows if row["name"] == "chief"] == ["admin"]
    assert [row["name"] for row in rows] == [user.name for user in sorted(store.users(), key=lambda user: user.id)]
    found = roster.plan(store, *roster.parse(text.encode()))
    assert (found.problems, {step.does for step in found.steps}, len(found.steps)) == ((), {()}, len(rows))


def test_a_list_changes_no_role_and_disables_nobody(store: Store) -> None:
    store.set_disabled("bob", True, actor="chief")
    found = tried(
        store,
        "name,role,disabled\nchief,admin,no\nalice,admin,\nbob,participant,no\n"
        "dora,reviewer,no\nemil,participant,yes\nfay,participant,no\n",
    )
    assert [(problem.line, problem.message) for problem in found.problems] == [
        (3, "A list changes no roles: alice has the role participant."),
        (4, "A list disables and enables nobody: bob is disabled."),
        (5, "A list changes no roles: dora gets the role participant."),
        (6, "A list disables and enables nobody: emil is not disabled."),
    ]
    assert [step.row.name for step in found.steps] == ["chief", "fay"]


def test_the_command_shows_does_and_refuses(ready: Run, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("name,key\ndora,\nEmil,\n")
    refused = ready("user", "import", str(file))
    assert (refused.status, refused.out) == (1, "")
    assert "line 3, name: 'Emil' cannot be a user" in refused.err
    assert "Nothing was done." in refused.err
    file.write_text("name\ndora\nemil\n")
    assert "2 accounts and 0 workspaces would be made." in ready("user", "import", str(file), "--dry-run").out
    assert "2 accounts and 0 workspaces made." in ready("user", "import", str(file)).out
    assert "dora: is there\n" in ready("user", "import", str(file)).out
