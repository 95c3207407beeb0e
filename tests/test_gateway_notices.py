"""What people with a terminal are told of the moment in which their workspace stands still."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sshgate.records import Record
from tests.support.faults import Wrapped
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.terminal import Terminal
from workspaces import snapshots
from workspaces.lifecycle import Lifecycle
from workspaces.model import FreezeMode
from workspaces.snapshots import announcing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture
def alice(stage: GatewayStage) -> Person:
    person = stage.person(f"p{len(stage.store.users())}")
    assert person.run("true").returncode == 0
    until(lambda: not stage.store.sessions())
    return person


def commit(person: Person, engine: Any = None) -> None:
    """Commit the workspace of `person`, as the worker does in its own process."""
    stage, workspace = person.stage, person.workspace
    assert workspace
    asked = stage.store.request_snapshot(workspace.id, "m", actor=person.name, via="ssh")
    stage.store.approve_snapshot(asked.id, actor="chief")
    engine = engine or stage.engine
    lifecycle = Lifecycle(stage.store, engine, stage.home / "locks")
    snapshots.commit(stage.store, engine, lifecycle, asked.id, lambda *_: None)


@contextmanager
def shell(person: Person) -> Iterator[Terminal]:
    with Terminal(person.line("-tt")) as terminal:
        terminal.expect(rb"[#$] $")
        until(person.stage.store.sessions)
        yield terminal


def test_they_are_told_before_the_pause_and_after_it_with_its_length(alice: Person) -> None:
    told: list[bytes] = []

    def hook(name: str, call: Any) -> Any:
        if name == "commit":
            told.append(terminal.expect(rb"stands still for a moment\.\r\n"))
            time.sleep(0.3)  # the pause
        if name in ("reconfigure", "assemble"):  # what may take minutes, while the workspace goes on
            told.append(terminal.expect(rb"is being written\.\r\n"))
        return call()

    with shell(alice) as terminal:
        commit(alice, Wrapped(alice.stage.engine, hook))
        assert b"\r\nYour workspace is being saved as v1; it stands still for a moment.\r\n" in told[0]
        said = re.search(rb"\r\nIt stood still for ([0-9.]+) s and goes on; v1 is being written\.\r\n", told[1])
        terminal.expect(rb"\r\nYour workspace is saved as v1\.\r\n")
        assert said is not None
        version = alice.stage.store.version(alice.workspace.id, 1)  # type: ignore[union-attr]
        assert version.paused_seconds is not None
        assert 0.3 <= version.paused_seconds < 5
        assert float(said[1]) == round(version.paused_seconds, 1)
        terminal.send("echo still $((40 + 2))\n")
        terminal.expect(rb"still 42")


def test_nothing_goes_into_what_programs_read(alice: Person) -> None:
    """Neither to a command's output nor to its errors; another workspace's people hear nothing either."""
    other = alice.stage.person(f"{alice.name}-other")
    command = subprocess.Popen(
        [*alice.line(), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with shell(other) as terminal:
        until(lambda: len(alice.stage.store.sessions()) == 2)
        began = time.monotonic()
        commit(alice)
        assert time.monotonic() - began < announcing.TOLD_SECONDS, "the gateway said that it has told its sessions"
        out, err = command.communicate(b"bytes", timeout=20)
        assert (out, err) == (b"bytes", b"")
        terminal.send("echo $((40 + 2))\n")
        assert b"saved" not in terminal.expect(rb"42\r\n")


def test_a_commit_that_fails_says_that_the_workspace_goes_on(alice: Person) -> None:
    def hook(name: str, call: Any) -> Any:
        if name == "commit":
            raise OSError("anything")
        return call()

    with shell(alice) as terminal:
        with pytest.raises(OSError, match="anything"):
            commit(alice, Wrapped(alice.stage.engine, hook))
        terminal.expect(rb"\r\nYour workspace goes on\. Saving it as v1 did not work yet\.\r\n")


def test_nobody_is_waited_for_where_nobody_is_on(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "TOLD_SECONDS", 60.0)
    began = time.monotonic()
    commit(alice)
    assert time.monotonic() - began < 30


def test_a_gateway_that_is_gone_is_waited_for_a_bounded_time(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "TOLD_SECONDS", 0.3)
    assert alice.workspace
    store = alice.stage.store
    row = store.begin_session(alice.name, alice.workspace.id, "shell", "::1", "gone", time.time())
    began = time.monotonic()
    commit(alice)
    assert time.monotonic() - began >= 0.3
    store.end_session(row, time.time())


def test_what_was_said_before_a_gateway_began_is_not_said_again(alice: Person) -> None:
    stage = alice.stage
    assert alice.workspace
    row = stage.store.begin_session(alice.name, alice.workspace.id, "shell", "::1", "gone", time.time())
    stage.store.add_notice(alice.workspace.id, "stale news")
    stage.store.end_session(row, time.time())
    stage.gateway.close()
    stage.start()
    with shell(alice) as terminal:
        stage.store.add_notice(alice.workspace.id, "fresh news")
        assert b"stale" not in terminal.expect(rb"fresh news\r\n")


def test_a_frozen_workspace_is_entered_for_reading_past_the_closing_and_others_are_not(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = alice.stage
    assert alice.workspace
    other = stage.person(f"{alice.name}-other")
    stage.store.set_challenge("als", closes_at=time.time() + 3600, actor="chief")
    try:
        stage.store.begin_freeze("als", FreezeMode.READ_ONLY, actor="chief")
        for job in stage.store.jobs(limit=None):
            if job.kind == "freeze":
                stage.store.cancel_job(job.id, actor="chief")
        with stage.lifecycle.locked(alice.workspace.id):
            stage.lifecycle.seal(alice.workspace.id, None, None)
        refused = other.run("true")
        assert refused.returncode == 254
        assert b"not ready yet" in refused.stderr
        stage.store.set_challenge("als", closes_at=time.time() - 1, actor="chief")
        with shell(alice) as terminal:
            looked = threading.Event()
            killed = stage.gateway.gate.records.killed

            def watched() -> list[Record]:  # what a look asks last
                looked.set()
                return killed()

            monkeypatch.setattr(stage.gateway.gate.records, "killed", watched)
            stage.store.touch_login(alice.workspace.id)
            assert looked.wait(10)
            terminal.send("echo still $((40 + 2))\n")
            terminal.expect(rb"still 42")
            stage.store.set_read_only(alice.workspace.id, False)
            terminal.expect(rb"The challenge als has closed")
            assert terminal.wait() == 254
    finally:
        stage.store.thaw("als", actor="chief")
        stage.store.set_challenge("als", closes_at=None, actor="chief")
