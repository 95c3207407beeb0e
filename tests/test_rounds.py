"""What goes on beside the jobs: why a step fails is told once, and the others go on."""

from __future__ import annotations

import logging
import threading

import pytest

from workspaces.errors import HostError
from workspaces.rounds import go_on


def rounds(*fails: Exception | None) -> int:
    """A step fails as told, round for round, until the last: how often the step after it was done."""
    left, stop = list(fails), threading.Event()
    others: list[None] = []

    def step() -> None:
        failure = left.pop(0)
        if not left:
            stop.set()
        if failure:
            raise failure

    go_on({"one cannot be done": step, "the other cannot be done": lambda: others.append(None)}, stop, 0.0)
    return len(others)


@pytest.mark.parametrize("kind", [HostError, OSError])
def test_why_a_step_fails_is_told_when_it_changes(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    others = rounds(kind("a"), kind("a"), kind("b"), None, kind("b"))
    assert others == 5
    assert [record.getMessage() for record in caplog.records] == [f"one cannot be done: {why}" for why in "abb"]


def test_what_nobody_expected_is_told_with_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    others = rounds(ZeroDivisionError(), None)
    assert others == 2
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "one cannot be done, unexpectedly")
    assert record.exc_info


def test_it_begins_when_told_and_ends_at_once() -> None:
    stop = threading.Event()
    stop.set()
    go_on({"it cannot be done": lambda: pytest.fail("it was done")}, stop, 0.0, 3600.0)
