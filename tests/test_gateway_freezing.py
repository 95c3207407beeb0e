"""Many workspaces frozen at once: none is lost, and people log in meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import GatewayStage, memory_stage, until
from workspaces.archive import Archive
from workspaces.engine.base import ContainerSpec
from workspaces.engine.memory import MemoryEngine
from workspaces.jobs import Worker
from workspaces.model import FreezeMode, FrozenState, JobState, Limits, Network, SnapshotState
from workspaces.provenance import Signer

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path) as made:
        yield made


def fill(stage: GatewayStage, count: int) -> None:
    """Workspaces with a file of their own each; their containers are not started."""
    assert isinstance(stage.engine, MemoryEngine)
    for number in range(count):
        workspace = stage.store.add_workspace("als", f"p{number}", actor="chief")
        name = stage.lifecycle.container_name(workspace)
        stage.engine.ensure_container(ContainerSpec(name, stage.image, workspace.name, Limits(), Network.NONE))
        (stage.engine.rootfs(name) / "mine").write_text(workspace.name)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.long)])
def test_many_at_once_while_people_log_in(stage: GatewayStage, count: int) -> None:
    alice = stage.person("alice")
    assert alice.run("true").returncode == 0
    fill(stage, count)
    archive = Archive(stage.home / "archive")
    signer = Signer(stage.home / "keys")
    worker = Worker(stage.store, stage.engine, stage.lifecycle, archive, stage.home / "locks", signer=signer)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    waits = []
    try:
        begun = stage.store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
        while stage.store.freeze(begun.id).ended_at is None:
            began = time.monotonic()
            assert alice.run("true").returncode == 0
            waits.append(time.monotonic() - began)
        until(lambda: not stage.store.jobs([JobState.QUEUED, JobState.RUNNING]), 200)
    finally:
        stop.set()
        thread.join(30)
    rows = stage.store.frozen(begun.id)
    assert len(rows) == count + 1
    assert [row.state for row in rows].count(FrozenState.COMMITTED) == count
    versions = stage.store.snapshots(states=[SnapshotState.ARCHIVED])
    assert {version.workspace for version in versions} == {f"als/p{n}" for n in range(count)}
    assert len(archive.list()) == count
    assert archive.verify().problems == ()
    assert len(waits) > 3
    print(f"{len(waits)} logins meanwhile, longest {max(waits):.2f} s")
