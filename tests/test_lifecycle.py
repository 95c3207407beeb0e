"""Containers brought to the wanted state: once, whoever asks; and what people read when that fails."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Gate, Wrapped, failing
from tests.support.lives import engine, life
from tests.support.stores import alice, commit, empty, path, store
from workspaces import lifecycle
from workspaces.engine import guestsocket
from workspaces.engine.base import LABEL_INSTANCE, LABEL_WORKSPACE, ContainerInfo, ContainerSpec
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import (
    Conflict,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    NoSpace,
    NotFound,
    Refused,
    WorkspacesError,
)
from workspaces.lifecycle import LABEL_IMAGE, LABEL_MADE, Lifecycle
from workspaces.locks import Locks
from workspaces.model import JobKind, Limits, WorkspaceState
from workspaces.refusals import check_open
from workspaces.store import Store

W = WorkspaceState
INTERNAL = "mkdir /var/lib/docker/overlay2/3f: permission denied"


def state(store: Store, workspace_id: int) -> tuple[WorkspaceState, str]:
    workspace = store.workspace(workspace_id)
    return workspace.state, workspace.state_detail


def container(life: Lifecycle, workspace_id: int) -> ContainerInfo | None:
    return life.engine.container(life.container_name(life.store.workspace(workspace_id)))


def running(life: Lifecycle, workspace_id: int) -> bool:
    found = container(life, workspace_id)
    return found is not None and found.running


def who(engine: MemoryEngine, life: Lifecycle, workspace_id: int) -> str:
    return (engine.rootfs(life.container_name(life.store.workspace(workspace_id))) / "who").read_text()


class Said(list[str]):
    def __call__(self, message: str, fraction: float | None) -> None:
        self.append(message)


# running


def test_the_first_login_makes_the_container_and_the_next_one_only_looks(life: Lifecycle, alice: int) -> None:
    said = Said()
    path = life.ensure_running(alice, said)
    assert guestsocket.accepts(path)
    assert path == life.socket(life.store.workspace(alice))
    assert said == ["Creating your workspace als/alice …"]
    assert state(life.store, alice) == (W.RUNNING, "")
    made = container(life, alice)
    assert made is not None
    assert made.name == f"ws-{life.store.instance[:6]}.als.alice"
    assert made.labels[LABEL_INSTANCE] == life.store.instance
    assert made.labels[LABEL_WORKSPACE] == "als/alice"
    assert (made.labels[LABEL_IMAGE], float(made.labels[LABEL_MADE]) <= time.time()) == ("base:1", True)
    version = life.store.data_version()
    said.clear()
    assert life.ensure_running(alice, said) == path
    assert said == []
    assert life.store.data_version() == version
    assert container(life, alice) == made


def test_the_container_is_what_the_challenge_says(
    store: Store, engine: MemoryEngine, alice: int, tmp_path: Path
) -> None:
    specs: list[ContainerSpec] = []

    class Watching(Wrapped):
        def ensure_container(self, spec: ContainerSpec) -> Any:
            specs.append(spec)
            return self._part.ensure_container(spec)

    store.set_challenge("als", actor="chief", limits=Limits(0.5, 64 << 20, 33))
    watching: Any = Watching(engine, lambda name, call: call())
    Lifecycle(store, watching, tmp_path / "locks").ensure_running(alice)
    assert (specs[0].hostname, specs[0].image, specs[0].limits) == ("alice", "base:1", Limits(0.5, 64 << 20, 33))


def test_twenty_first_logins_make_one_container(store: Store, engine: MemoryEngine, alice: int, tmp_path: Path) -> None:
    calls: list[str] = []

    def hook(name: str, call: Any) -> Any:
        calls.append(name)
        return call()

    lives = [Lifecycle(store, Wrapped(engine, hook), tmp_path / "locks") for _ in range(2)]  # as of two processes
    paths: list[Path] = []
    barrier = threading.Barrier(20)

    def login(number: int) -> None:
        barrier.wait(10)
        paths.append(lives[number % 2].ensure_running(alice))

    threads = [threading.Thread(target=login, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(paths) == 20
    assert len(set(paths)) == 1
    assert calls.count("ensure_container") == calls.count("start") == 1


def test_another_workspace_is_not_held_up(store: Store, engine: MemoryEngine, alice: int, tmp_path: Path) -> None:
    gate = Gate()
    slow = Lifecycle(store, gate.wrap(engine, "ensure_container"), tmp_path / "locks")
    thread = threading.Thread(target=slow.ensure_running, args=(alice,))
    thread.start()
    with gate.held():
        bob = store.workspace("als/bob").id
        other = Lifecycle(store, engine, tmp_path / "locks")
        other.ensure_running(bob)
        assert state(store, alice)[0] is W.STARTING
        other.reconcile()
        assert state(store, alice)[0] is W.STARTING  # the one who starts it knows better
    thread.join(20)
    assert state(store, alice)[0] is W.RUNNING


def test_a_stopped_and_a_removed_container_come_back(life: Lifecycle, alice: int) -> None:
    life.ensure_running(alice)
    first = container(life, alice)
    assert first is not None
    life.stop(alice, said := Said())
    assert said == ["Stopping als/alice …"]
    assert not running(life, alice)
    assert state(life.store, alice) == (W.STOPPED, "stopped by an administrator")
    assert life.diagnose(alice) == "stopped by an administrator"
    life.stop(alice)
    life.ensure_running(alice, said)
    assert said[1:] == ["Starting your workspace als/alice …"]
    again = container(life, alice)
    assert again is not None
    assert again.id == first.id
    life.engine.remove(first.name)  # behind our back
    assert guestsocket.accepts(life.ensure_running(alice))
    assert state(life.store, alice) == (W.RUNNING, "")


def test_a_killed_container_comes_back_and_why_is_told(life: Lifecycle, engine: MemoryEngine, alice: int) -> None:
    life.ensure_running(alice)
    process = engine._containers[life.container_name(life.store.workspace(alice))].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert life.diagnose(alice) == "was killed"
    life.reconcile()
    assert state(life.store, alice) == (W.STOPPED, "was killed")
    life.ensure_running(alice)
    assert life.diagnose(alice) == "was started again"


def test_restart(life: Lifecycle, alice: int) -> None:
    life.restart(alice)  # made, when there is none
    before = container(life, alice)
    life.restart(alice, said := Said())
    assert said == ["Stopping als/alice …", "Starting your workspace als/alice …"]
    assert before is not None
    assert running(life, alice)
    assert container(life, alice) == before


def test_stopping_what_is_not_there(life: Lifecycle, alice: int) -> None:
    life.store.set_workspace_state(alice, W.RUNNING)
    life.stop(alice)
    assert state(life.store, alice) == (W.ABSENT, "")


def test_a_frozen_container_is_left_to_the_commit_that_freezes_it(
    store: Store, engine: MemoryEngine, alice: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Frozen(Wrapped):
        def container(self, name: str) -> ContainerInfo | None:
            found: ContainerInfo = self._part.container(name)
            return replace(found, state="paused")

    def hook(name: str, call: Any) -> Any:
        calls.append(name)
        return call()

    Lifecycle(store, engine, tmp_path / "locks").ensure_running(alice)
    frozen: Any = Frozen(engine, hook)
    life = Lifecycle(store, frozen, tmp_path / "locks")
    other = Locks(tmp_path / "locks")
    assert other.take(alice, 1)
    life.ensure_running(alice)
    assert "start" not in calls
    other.release(alice)
    monkeypatch.setattr(lifecycle, "PAUSED_SECONDS", 0.0)
    life.ensure_running(alice)  # nobody ends it: it is thawed
    assert calls.count("start") == 1


def test_a_commit_that_outlived_its_worker_is_waited_for(
    store: Store, engine: MemoryEngine, alice: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine goes on with it: what thaws the container in the middle spoils the version."""
    monkeypatch.setattr(lifecycle, "PAUSED_LOOK", 0.001)
    calls: list[str] = []

    class Frozen(Wrapped):
        def container(self, name: str) -> ContainerInfo | None:
            calls.append("container")
            found: ContainerInfo = self._part.container(name)
            return replace(found, state="paused") if calls.count("container") < 10 else found

    def hook(name: str, call: Any) -> Any:
        calls.append(name)
        return call()

    Lifecycle(store, engine, tmp_path / "locks").ensure_running(alice)
    for act in ("ensure_running", "stop"):
        calls.clear()
        frozen: Any = Frozen(engine, hook)
        getattr(Lifecycle(store, frozen, tmp_path / "locks"), act)(alice)
        done = calls.index("stop" if act == "stop" else "start")
        assert calls[:done].count("container") >= 10


# failures


@pytest.mark.parametrize(
    ("error", "said", "detail"),
    [
        (EngineError(INTERNAL), "als/alice could not be started.", INTERNAL),
        (EngineUnavailable("dial unix /x: no"), "does not answer", "dial unix"),
        (EngineTimeout(INTERNAL), "als/alice did not start in time.", INTERNAL),
        (NoSpace(INTERNAL), "disk is full", INTERNAL),
        (NotFound("no container 3f"), "could not be started", "no container 3f"),
        (Conflict("ports"), "could not be started", "ports"),
        (RuntimeError("bug /x"), "could not be started", "RuntimeError: bug /x"),
    ],
)
def test_a_failed_start_says_what_a_participant_may_know_and_keeps_the_rest(
    store: Store, engine: MemoryEngine, alice: int, tmp_path: Path, error: Exception, said: str, detail: str
) -> None:
    life = Lifecycle(store, failing(engine, "start", [error]), tmp_path / "locks")
    with pytest.raises(WorkspacesError, match=said) as caught:
        life.ensure_running(alice)
    assert detail not in str(caught.value)
    assert "/x" not in str(caught.value)
    assert type(caught.value) is (type(error) if isinstance(error, EngineError) else EngineError)
    assert state(store, alice)[0] is W.FAILED
    assert detail in state(store, alice)[1]
    life.reconcile()
    assert state(store, alice)[0] is W.FAILED  # with its reason, until it runs
    life.ensure_running(alice)
    assert state(store, alice) == (W.RUNNING, "")


def test_a_missing_image_is_named(life: Lifecycle, store: Store, alice: int, tmp_path: Path) -> None:
    store.set_challenge("als", actor="chief", image="debian-ds:12")
    with pytest.raises(EngineError) as caught:
        life.ensure_running(alice)
    assert caught.value.message == "The image debian-ds:12 of challenge als is not on this host."
    assert "workspaces image build debian-ds:12" in caught.value.hint
    assert type(caught.value) is EngineError
    assert state(store, alice) == (W.FAILED, caught.value.message)
    other = failing(life.engine, "ensure_container", [NotFound("no network /x")])
    store.set_challenge("als", actor="chief", image="base:1")
    with pytest.raises(EngineError, match="could not be started"):
        Lifecycle(store, other, tmp_path / "locks").ensure_running(alice)
    assert state(store, alice) == (W.FAILED, "no network /x")
    store.set_workspace_image(alice, "als/alice:v9", None)
    with pytest.raises(EngineError, match="als/alice:v9, which als/alice was restored from") as caught:
        life.ensure_running(alice)
    assert "workspaces reset als/alice" in caught.value.hint


def test_while_the_engine_is_away_running_workspaces_are_used_on(
    store: Store, engine: MemoryEngine, alice: int, tmp_path: Path
) -> None:
    path = Lifecycle(store, engine, tmp_path / "locks").ensure_running(alice)
    away = failing(engine, "container", [EngineUnavailable("away")] * 2)
    life = Lifecycle(store, away, tmp_path / "locks")
    assert life.ensure_running(alice) == path
    assert life.diagnose(alice) == "the engine does not answer"


def test_only_a_socket_of_the_container_itself_counts(life: Lifecycle, alice: int, tmp_path: Path) -> None:
    path = life.ensure_running(alice)
    path.rename(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    assert life.running(life.store.workspace(alice)) is None
    assert life.diagnose(alice) == "its agent stopped answering"


# reset, remove, restore


def test_reset_and_remove(life: Lifecycle, store: Store, alice: int) -> None:
    life.ensure_running(alice)
    store.set_workspace_image(alice, "als/alice:v1", commit(store, alice))
    life.reset(alice)
    assert container(life, alice) is None
    assert state(store, alice) == (W.ABSENT, "reset by an administrator")
    assert (store.workspace(alice).image, store.workspace(alice).parent_id) == (None, None)
    assert life.diagnose(alice) == "reset by an administrator"
    life.reset(alice)
    life.ensure_running(alice)
    life.remove(alice, actor="chief")
    assert life.engine.containers({}) == []
    with pytest.raises(NotFound):
        store.workspace(alice)
    with pytest.raises(NotFound):
        life.remove(alice, actor="chief")
    assert life.diagnose(alice) == "removed by an administrator"


def test_a_later_workspace_of_the_same_name_is_not_given_the_files_of_the_earlier(
    life: Lifecycle, store: Store, alice: int
) -> None:
    life.ensure_running(alice)
    store.remove_workspace(alice, actor="chief")  # its container was forgotten
    again = store.add_workspace("als", "alice", ["bob"], actor="chief").id
    for _ in range(2):
        with pytest.raises(EngineError, match="An earlier workspace als/alice has left its container"):
            life.ensure_running(again)
    life.reset(again)
    life.ensure_running(again)


def test_what_is_approved_is_not_deleted_before_it_is_committed(life: Lifecycle, store: Store, alice: int) -> None:
    life.ensure_running(alice)
    snapshot = store.request_snapshot(alice, "m", actor="alice", via="ssh").id
    store.approve_snapshot(snapshot, actor="chief")
    before = store.workspace(alice)
    for delete in (
        life.reset,
        lambda id_: life.remove(id_, actor="chief"),
        lambda id_: life.replace(id_, "als/alice:v1", snapshot),
    ):
        with pytest.raises(Conflict, match="its files are only in the container"):
            delete(alice)
        assert running(life, alice)
        assert store.workspace(alice) == before


def test_what_a_job_works_on_is_not_removed(life: Lifecycle, store: Store, alice: int) -> None:
    life.ensure_running(alice)
    store.add_job(JobKind.RESTART, alice, actor="chief")
    store.claim_job()
    with pytest.raises(Conflict, match="A job works on als/alice: restart"):
        life.remove(alice, actor="chief")
    assert running(life, alice)


def test_a_reset_that_is_repeated_says_done_whatever_was_promised_since(
    life: Lifecycle, engine: MemoryEngine, store: Store, alice: int
) -> None:
    store.set_workspace_image(alice, "als/alice:v1", commit(store, alice))
    asked = time.time()
    life.ensure_running(alice)  # from the version, after the request: that is not what was asked for
    life.reset(alice, since=asked)
    assert container(life, alice) is None
    life.ensure_running(alice)
    store.approve_snapshot(store.request_snapshot(alice, "m", actor="alice", via="ssh").id, actor="chief")
    life.reset(alice, since=asked)
    assert running(life, alice)
    assert who(engine, life, alice) == "base"


def test_replace(life: Lifecycle, engine: MemoryEngine, store: Store, alice: int) -> None:
    version = commit(store, alice)
    life.ensure_running(alice)
    assert who(engine, life, alice) == "base"
    life.replace(alice, "als/alice:v1", version, said := Said())
    assert said == ["Deleting the container of als/alice …", "Starting als/alice from als/alice:v1 …"]
    assert who(engine, life, alice) == "version"
    assert running(life, alice)
    found = store.workspace(alice)
    assert (found.image, found.parent_id, found.state, found.state_detail) == ("als/alice:v1", version, W.RUNNING, "")
    engine.remove(life.container_name(found))
    life.ensure_running(alice)
    assert who(engine, life, alice) == "version"


def test_a_restore_without_its_image_deletes_nothing(life: Lifecycle, store: Store, alice: int) -> None:
    life.ensure_running(alice)
    with pytest.raises(EngineError, match="als/alice:v7 is not on this host; als/alice was left as it is"):
        life.replace(alice, "als/alice:v7", commit(store, alice))
    assert running(life, alice)
    assert store.workspace(alice).image is None


def test_a_repeated_restore_keeps_what_was_done_since_the_first(
    life: Lifecycle, engine: MemoryEngine, store: Store, alice: int
) -> None:
    version = commit(store, alice)
    life.ensure_running(alice)
    asked = time.time()
    life.replace(alice, "als/alice:v1", version, since=asked)
    mine = engine.rootfs(life.container_name(store.workspace(alice))) / "mine"
    mine.write_text("work")
    life.replace(alice, "als/alice:v1", version, since=asked)  # its worker was killed before it could say "done"
    assert mine.exists()
    life.stop(alice)
    life.replace(alice, "als/alice:v1", version, since=asked)
    assert mine.exists()
    assert running(life, alice)
    life.replace(alice, "als/alice:v1", version, since=time.time())  # another restore
    assert not mine.exists()


# seeing


def test_the_store_follows_what_the_engine_shows(life: Lifecycle, store: Store, alice: int) -> None:
    life.ensure_running(alice)
    name = life.container_name(store.workspace(alice))
    store.set_workspace_state(alice, W.ABSENT)
    life.reconcile()
    assert state(store, alice) == (W.RUNNING, "")
    version = store.data_version()
    life.reconcile()
    assert store.data_version() == version
    life.engine.stop(name)
    life.reconcile()
    assert state(store, alice)[0] is W.STOPPED
    store.set_workspace_state(alice, W.STARTING)  # by a gateway that was killed
    life.reconcile()
    assert state(store, alice)[0] is W.STOPPED
    life.engine.remove(name)
    life.reconcile()
    assert state(store, alice) == (W.ABSENT, "")


@pytest.mark.parametrize(
    ("code", "oom", "said"),
    [
        (137, True, "ran out of memory (2.0 GiB)"),
        (137, False, "was killed"),
        (0, True, "was stopped"),
        (143, False, "was stopped"),
        (3, False, "ended with status 3"),
    ],
)
def test_why_it_ended(store: Store, alice: int, tmp_path: Path, code: int, oom: bool, said: str) -> None:
    class Ended:
        def container(self, name: str) -> ContainerInfo:
            return ContainerInfo("1", name, "exited", code, oom, "i", {})

    life = Lifecycle(store, Ended(), tmp_path / "locks")  # type: ignore[arg-type]
    store.set_workspace_state(alice, W.RUNNING)
    assert life.diagnose(alice) == said


def test_opening_and_closing(store: Store) -> None:
    challenge = store.set_challenge("als", actor="x", opens_at=1_800_000_000.0, closes_at=1_800_003_600.0)
    with pytest.raises(Refused, match="opens on 2027-01-15 at 08:00 UTC"):
        check_open(challenge, 1_799_999_999.9)
    check_open(challenge, 1_800_000_000.0)
    check_open(challenge, 1_800_003_599.9)
    with pytest.raises(Refused, match="closed on 2027-01-15 at 09:00 UTC"):
        check_open(challenge, 1_800_003_600.0)
    check_open(replace(challenge, opens_at=None, closes_at=None), 0)
