"""A recording whose gateway is killed at any moment plays, as far as it came, and is finished by the worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.gateway import until
from tests.support.gatewayprocess import memory_process_stage, running_person
from tests.support.terminal import Terminal
from workspaces import casts
from workspaces.model import Recorded
from workspaces.recordings import Keeper
from workspaces.settings import load
from workspaces.store import recordings as rows

pytestmark = pytest.mark.slow


def test_a_killed_gateway_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SEEN_SECONDS", 0.0)
    with memory_process_stage(tmp_path) as stage:
        alice = running_person(stage, "alice")
        stage.store.set_challenge("als", record=Recorded.TERMINALS, actor="chief")
        with Terminal(alice.line("-tt"), "i=0; while :; do echo line $i; i=$((i + 1)); done") as terminal:
            terminal.expect(rb"line 20000\r\n", 20)
            worker = stage.logged_in("alice")[-1]
            (session,) = stage.store.sessions()
            os.kill(worker, signal.SIGKILL)
            assert terminal.wait() == 255
        path = tmp_path / "recordings" / stage.store.recorded_file(session.id)
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        assert len(data) - len(whole) < 256 << 10
        found = [casts.parse(text) for text in whole.splitlines()]
        assert found[0] is None, "the first line is no event"
        assert None not in found[1:]
        shown = "".join(event.data for event in casts.events(path) if event.kind == "o")
        assert "line 100\r\nline 101\r\n" in shown
        assert stage.store.recording(session.id).ended_at is None
        until(lambda: not stage.store.sessions(), what="the next gateway process ends what nobody carries")
        time.sleep(0.01)
        Keeper(stage.store, load(tmp_path)).step()
        ended = stage.store.recording(session.id)
        assert (ended.size, ended.ended_at is not None) == (len(whole), True)
        assert ended.seconds > 0
