"""Locks of workspaces: one holder at a time, none after its end, and what people read when there can be none."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.lives import engine, life
from tests.support.stores import alice, empty, path, store
from workspaces.errors import Conflict, HostError, NoSpace
from workspaces.lifecycle import Lifecycle
from workspaces.locks import Locks


def test_one_holder_at_a_time_and_a_bounded_wait(life: Lifecycle, alice: int, tmp_path: Path) -> None:
    other = Locks(tmp_path / "locks")  # as of another process
    with life.locked(alice), life.locked(alice):  # the same thread again
        assert not other.take(alice, 0.02)
        assert other.take(alice + 1, 0)
        other.release(alice + 1)
        outcome: list[Exception] = []

        def second_thread() -> None:
            try:
                with life.locked(alice, wait=0.02):
                    pass
            except Conflict as exc:
                outcome.append(exc)

        thread = threading.Thread(target=second_thread)
        thread.start()
        thread.join(5)
        assert "Another action on als/alice" in str(outcome[0])
    assert other.take(alice, 0)
    other.release(alice)


def _hold(directory: Path, ready: Any) -> None:
    Locks(directory).take(1, 5)
    ready.set()
    time.sleep(60)


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_hold, args=(tmp_path, ready))
    child.start()
    assert ready.wait(10)
    locks = Locks(tmp_path)
    assert not locks.take(1, 0)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(10)
    assert locks.take(1, 5)
    locks.release(1)


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    locks = Locks(tmp_path / "file")
    for _ in range(2):  # the thread's lock was let go
        with pytest.raises(HostError, match="cannot lock"):
            locks.take(1, 0)


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [(errno.ENOSPC, NoSpace, "disk is full"), (errno.EMFILE, HostError, "cannot lock the workspace")],
)
def test_a_lock_that_cannot_be_made_leaks_no_path_to_a_participant(
    life: Lifecycle,
    alice: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    kind: type[Exception],
    said: str,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("workspaces.locks.os.open", refuse)
    with pytest.raises(kind, match=said) as caught:
        life.ensure_running(alice)
    assert "/" not in str(caught.value)
    assert f"{tmp_path}/locks/workspace-{alice}.lock" in caplog.text
