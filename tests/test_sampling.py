"""Looking at how much disk workspaces use: whose turn it is, what it may cost, and what is written."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.faulty_engine import FaultyEngine
from tests.support.worlds import World, memory_world
from workspaces import sampling
from workspaces.errors import EngineUnavailable
from workspaces.lifecycle import Lifecycle
from workspaces.model import WorkspaceState
from workspaces.sampling import AGAIN_SECONDS, EVERY_SECONDS, SHARE, Sampler


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A world with a sampler whose time the test makes; each walk takes `walk` seconds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Clock()
        self.engine = FaultyEngine(world.engine)
        self.walk = 0.0
        self.engine._faults["disk_use"] = self._pass
        lifecycle = Lifecycle(world.store, world.engine, world.root / "locks")
        self.sampler = Sampler(world.store, self.engine, lifecycle, self.clock)

    def _pass(self) -> None:
        self.clock.now += self.walk

    def step(self) -> str | None:
        found = self.sampler.step()
        return found.name if found else None

    def run_container(self, name: str, data: bytes = b"") -> int:
        space = self.world.store.workspace(f"als/{name}")
        self.world.lifecycle.ensure_running(space.id)
        if data:
            self.write(name, data)
        return space.id

    def write(self, name: str, data: bytes) -> None:
        engine = self.engine.inner
        container = self.world.lifecycle.container_name(self.world.store.workspace(f"als/{name}"))
        (engine.rootfs(container) / "root" / "data").write_bytes(data)  # type: ignore[attr-defined]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with memory_world(tmp_path) as world:
        world.store.add_user("bob", actor="test")
        world.store.add_workspace("als", "bob", ["bob"], actor="test")
        yield Stage(world)


def test_running_ones_are_looked_at_in_turn_and_stopped_ones_are_not(stage: Stage) -> None:
    assert stage.step() is None
    alice = stage.run_container("alice", b"x" * 1000)
    stage.run_container("bob")
    assert [stage.step() for _ in range(3)] == ["alice", "bob", None]
    assert stage.world.store.workspace(alice).disk_bytes == 1000
    assert stage.world.store.workspace("als/bob").disk_bytes == 0
    stage.clock.now += EVERY_SECONDS - 1
    assert stage.step() is None
    stage.world.lifecycle.stop(alice)
    stage.clock.now += 1
    assert [stage.step() for _ in range(2)] == ["bob", None]


def test_the_end_of_the_last_session_brings_a_look_forward_but_not_each_one(stage: Stage) -> None:
    space = stage.run_container("alice")
    assert stage.step() == "alice"
    store = stage.world.store

    def session() -> None:
        one, other = (store.begin_session("alice", space, "exec", "::1", "p", 1.0) for _ in range(2))
        assert stage.step() is None
        store.end_session(one, 2.0)
        assert stage.step() is None
        store.end_session(other, 3.0)

    session()
    assert stage.step() is None
    stage.clock.now += AGAIN_SECONDS
    assert stage.step() == "alice"
    stage.clock.now += AGAIN_SECONDS + 1
    assert stage.step() is None
    session()
    assert stage.step() == "alice"


def test_who_has_many_files_is_looked_at_seldom_and_holds_up_others_once(stage: Stage) -> None:
    space = stage.run_container("alice")
    stage.walk = 100.0
    assert stage.step() == "alice"
    stage.walk = 0.0
    stage.run_container("bob")
    assert stage.step() == "bob"
    number = stage.world.store.begin_session("alice", space, "exec", "::1", "p", 1.0)
    assert stage.step() is None
    stage.world.store.end_session(number, 2.0)
    stage.clock.now += EVERY_SECONDS
    assert [stage.step() for _ in range(2)] == ["bob", None]
    stage.clock.now += SHARE * 100.0 - EVERY_SECONDS
    assert {stage.step(), stage.step()} == {"alice", "bob"}


def test_a_number_that_stays_is_not_written_again_for_an_hour(stage: Stage) -> None:
    space = stage.run_container("alice", b"x")
    assert stage.step() == "alice"
    seen = stage.world.store.workspace(space).disk_at
    stage.clock.now += EVERY_SECONDS
    assert stage.step() == "alice"
    assert stage.world.store.workspace(space).disk_at == seen
    stage.clock.now += EVERY_SECONDS
    with patch("workspaces.sampling.time.time", return_value=time.time() + sampling.FRESH_SECONDS + 1):
        assert stage.step() == "alice"
    assert stage.world.store.workspace(space).disk_at != seen
    stage.write("alice", b"xyz")
    stage.clock.now += EVERY_SECONDS
    assert stage.step() == "alice"
    assert stage.world.store.workspace(space).disk_bytes == 3


def test_one_that_is_gone_is_no_error_and_a_new_container_has_no_number(stage: Stage) -> None:
    space = stage.run_container("alice", b"x")
    assert stage.step() == "alice"
    stage.world.lifecycle.reset(space)
    assert stage.world.store.workspace(space).disk_bytes is None
    stage.world.store.set_workspace_state(space, WorkspaceState.RUNNING)
    stage.clock.now += EVERY_SECONDS
    assert stage.step() == "alice"
    assert stage.world.store.workspace(space).disk_bytes is None


def test_an_engine_that_is_away_is_told_once_and_asked_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(sampling, "EVERY_SECONDS", 0.0)
    stage.run_container("alice", b"x")
    stage.engine.fail("disk_use", EngineUnavailable("The engine does not answer."), times=5)
    stop = threading.Event()
    thread = threading.Thread(target=stage.sampler.run, args=(stop,))
    caplog.set_level(logging.WARNING)
    thread.start()
    try:
        stage.world.wait(lambda: stage.world.workspace.disk_bytes == 1)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert caplog.text.count("The engine does not answer.") == 1


def test_the_worker_does_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.01)
    stage.run_container("alice", b"xy")
    with stage.world.working():
        stage.world.wait(lambda: stage.world.workspace.disk_bytes == 2)
