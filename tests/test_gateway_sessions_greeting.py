"""What a person reads above the first prompt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from sshgate.greeting import LINES, NEWS, WIDTH, Greeting, greeting
from sshgate.places import Place, find
from tests.support.gateway import GatewayStage, memory_stage, until
from tests.support.stores import commit, fill
from tests.support.terminal import Terminal
from workspaces.store import Store

pytestmark = pytest.mark.slow

NOON = 1_800_000_000.0  # 2027-01-15 08:00 UTC


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "workspaces.db")
    yield fill(opened)
    opened.close()


@pytest.fixture
def place(store: Store) -> Place:
    return find(store, "alice", None, None)


def at_noon(store: Store, place: Place) -> list[str]:
    with patch("sshgate.greeting.time.time", return_value=NOON):
        return greeting(store, place).lines


def test_the_first_login_to_an_endless_challenge(store: Store, place: Place) -> None:
    assert at_noon(store, place) == ["als/alice"]


def test_all_there_is_to_say(store: Store, place: Place) -> None:
    space = place.workspace.id
    snapshot = commit(store, space)
    store.set_workspace_image(space, "als/alice:v1", snapshot)
    store.set_workspace_disk(space, 1_288_490_188)
    for user in ("bob", "carol", "bob"):
        store.begin_session(user, space, "sftp", "::1", "p", NOON - 60)
    store.begin_session("alice", space, "shell", "192.0.2.7", "p", NOON - 86400)
    store.begin_session("alice", space, "exec", "198.51.100.1", "p", NOON - 10)
    found = find(store, "alice", None, None)
    challenge = replace(found.challenge, closes_at=NOON + 37 * 86400 + 4 * 3600 + 60)
    assert at_noon(store, replace(found, challenge=challenge)) == [
        "als/alice · from v1 · 1.2 GiB on disk",
        "Open until 2027-02-21 12:01 UTC, 37 days 4 h from now",
        "Last login 2027-01-14 08:00 UTC from 192.0.2.7",
        "Also here: bob, carol",
        "News: als/alice v1 is committed; it is being archived.",
    ]


def reject(store: Store, reason: str) -> None:
    snapshot = store.request_snapshot(store.workspace("als/alice").id, "m", actor="alice", via="ssh")
    with store.transaction():
        store._move(snapshot, [snapshot.state], {"state": "rejected", "reason": reason})
        store._record("chief", "snapshot.rejected", snapshot.workspace, snapshot.id)


def test_news_are_told_once(store: Store, place: Place) -> None:
    snapshot = store.request_snapshot(place.workspace.id, "m", actor="alice", via="ssh")
    store.reject_snapshot(snapshot.id, "the ids are missing", actor="chief")
    found = greeting(store, place)
    assert found.lines == ["als/alice", "News: Your snapshot of als/alice was rejected by chief: the ids are missing"]
    assert found.news is not None
    store.read_news("alice", found.news)
    assert greeting(store, place) == Greeting(["als/alice"], None)


@pytest.mark.parametrize("left", [1.0, 59.0, 3599.0, 86399.0, 400 * 86400.0])
def test_it_is_small_whatever_the_names(store: Store, place: Place, left: float) -> None:
    long = "a" * 32
    workspace = replace(place.workspace, challenge=long, name=long, disk_bytes=1 << 60)
    challenge = replace(place.challenge, closes_at=NOON + left)
    for number in range(40):
        name = f"{'b' * 29}-{chr(97 + number % 26)}{number // 26}"
        store.begin_session(name, place.workspace.id, "shell", "::1", "p", NOON)
    address = "fd00:1111:2222:3333:4444:5555:6666:7777\x1b[31m" + "x" * 100
    store.begin_session("alice", place.workspace.id, "shell", address, "p", NOON)
    for _ in range(3):
        reject(store, "no\x1b[31m\n" + "c" * 900)
    lines = at_noon(store, replace(place, workspace=workspace, challenge=challenge, version=1234))
    assert len(lines) == LINES + NEWS
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith(f"{long}/{long} · from v1234")
    assert lines[3].endswith(" more")
    assert lines[4].startswith("News: Your snapshot of als/alice was rejected by chief: no\\x1b[31m cccc")
    assert lines[5] == "News: 2 more, on your page"


def test_it_costs_one_read(store: Store, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    rows = store._rows

    def counted(sql: str, params: list[object]) -> list[dict[str, object]]:
        reads.append(sql)
        return rows(sql, params)

    monkeypatch.setattr(store, "_rows", counted)
    greeting(store, place)
    assert len(reads) == 1


# --- live ---


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


def test_a_team_sees_who_else_is_on_and_nobody_is_told_of_comings_and_goings(stage: GatewayStage) -> None:
    alice, bob = stage.person("alice"), stage.person("bob")
    team = stage.store.add_workspace("als", "team", ["alice", "bob"], actor="chief")
    with Terminal(alice.line("-tt", workspace="team")) as one:
        seen = one.expect(rb"[#$] $")
        assert b"als/team\r\n" in seen
        assert b"Last login" not in seen
        assert b"Also here" not in seen
        until(lambda: len(stage.store.sessions(team.id)) == 1)
        with Terminal(bob.line("-tt", workspace="als/team")) as other:
            assert b"als/team\r\nAlso here: alice\r\n" in other.expect(rb"[#$] $")
            assert bob.run("hostname; echo $WORKSPACE", workspace="team").stdout.endswith(b"als/team\n")
            other.send("exit\n")
            assert other.wait() == 0
        until(lambda: len(stage.store.sessions(team.id)) == 1)
        one.send("echo nobody$((1))\n")
        assert one.expect(rb"nobody1\r\n").count(b"\r\n") == 2
        one.send("exit\n")
        assert one.wait() == 0
    until(lambda: not stage.store.sessions())
    with Terminal(alice.line("-tt", workspace="alice")) as again:
        seen = again.expect(rb"[#$] $")
        day = time.strftime("%Y-%m-%d", time.gmtime()).encode()
        assert b"als/alice\r\nLast login " + day in seen
        assert b" UTC from 127.0.0.1\r\n" in seen


def test_news_come_with_the_next_shell_on_a_terminal_and_only_once(stage: GatewayStage) -> None:
    erin = stage.person("erin")
    space = stage.store.workspace("als/erin").id
    snapshot = stage.store.request_snapshot(space, "m", actor="erin", via="ssh")
    stage.store.reject_snapshot(snapshot.id, "no", actor="chief")
    assert b"News" not in erin.run("true").stdout
    assert stage.store.unread_news("erin") == 1
    for told in (True, False):
        with Terminal(erin.line("-tt")) as terminal:
            assert (b"News: Your snapshot" in terminal.expect(rb"[#$] $")) is told
            until(lambda: not stage.store.unread_news("erin"))
            terminal.send("exit\n")
            assert terminal.wait() == 0


def test_a_stranger_to_the_team_is_refused(stage: GatewayStage) -> None:
    stage.store.add_workspace("als", "closed", [], actor="chief")
    mallory = stage.person("mallory")
    done = mallory.run("true", workspace="closed")
    assert (done.returncode, done.stdout) == (254, b"")
    assert b"You are in no workspace 'closed'" in done.stderr


def test_hushlogin_in_the_container_is_not_looked_at(stage: GatewayStage) -> None:
    carol = stage.person("carol")
    assert carol.run("touch ~/.hushlogin").returncode == 0
    with Terminal(carol.line("-tt")) as terminal:
        assert b"als/carol\r\n" in terminal.expect(rb"[#$] $")


def test_a_shell_without_a_terminal_is_not_greeted(stage: GatewayStage) -> None:
    dave = stage.person("dave")
    done = dave.run(stdin=b"echo only\n", options=("-T",))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"only\n", b"")
