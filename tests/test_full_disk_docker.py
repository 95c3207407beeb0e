"""A commit on an engine whose disk is too small for it: it fails with its reason, and leaves nothing behind."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import guest_dir, shell, tiny_tar
from tests.support.worlds import OPEN, NoScanner, World
from workspaces.engine.base import ImageConfig
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine
from workspaces.model import JobState, SnapshotState
from workspaces.snapshots import committing, examining
from workspaces.store import Store

pytestmark = pytest.mark.docker

IMAGE = "full-test/base:1"
DISK = 96 << 20


@pytest.fixture
def world(tmp_path: Path, guest_dir: Path, tiny_tar: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """On an engine of its own whose data are on a file system of DISK bytes."""
    monkeypatch.setattr(examining, "Scanner", NoScanner)
    private = PrivateEngine(tmp_path / "state" / "engine")
    data = private.directory / "data"
    data.mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    image = tmp_path / "disk"
    with image.open("wb") as file:
        os.truncate(file.fileno(), DISK)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(data)], check=True)
    try:
        private.start()
        store = Store.open(tmp_path / "workspaces.db")
        engine = DockerEngine(private.host, guest_dir, store.instance)
        engine.import_rootfs(tiny_tar, IMAGE, ImageConfig({"Cmd": ["/bin/sh"]}))
        made = World(tmp_path, store, engine, "full", IMAGE)
        yield made
        engine.remove(made.container)
        engine.retire()
        engine.close()
        store.close()
    finally:
        private.stop()
        subprocess.run(["umount", str(data)], check=True)


def used(world: World) -> int:
    info = os.statvfs(world.engine.info().data_root)
    return (info.f_blocks - info.f_bfree) * info.f_frsize


@pytest.mark.parametrize("looked", [True, False], ids=["seen before", "met on the way"])
def test_a_full_disk_leaves_no_orphan(world: World, looked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not looked:  # as when somebody else takes the room meanwhile
        monkeypatch.setattr(committing, "check_room", lambda *_: None)
    world.lifecycle.ensure_running(world.id)
    assert shell(world.engine, world.container, "dd if=/dev/urandom of=/root/big bs=1000000 count=45")[0] == 0
    before = used(world)
    snapshot = world.approved()
    with world.working():
        world.wait(lambda: world.store.snapshot(snapshot.id).state is SnapshotState.FAILED, 60)
        world.wait(lambda: not world.store.jobs(states=OPEN), 60)
    reason = str(world.store.snapshot(snapshot.id).reason)
    assert "disk" in reason or "needs about" in reason, reason
    assert world.our_images() == {}
    info = world.engine.container(world.container)
    assert info is not None
    assert info.state == "running"
    monkeypatch.undo()
    assert used(world) < before + (4 << 20), "what was written of the layer is gone"
    assert shell(world.engine, world.container, "rm /root/big; echo small > /root/small")[0] == 0
    world.store.retry_snapshot(snapshot.id, actor="chief")
    done = (SnapshotState.COMMITTED, SnapshotState.ARCHIVED)
    with world.working():
        world.wait(lambda: world.store.snapshot(snapshot.id).state in done, 60)
    assert world.store.snapshot(snapshot.id).version == 1
