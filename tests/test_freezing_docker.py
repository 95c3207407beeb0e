"""Freezing, thawing and commands of versions on a real engine: what read-only means there, and that a version runs."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import docker
import pytest

from tests.support.engines import guest_dir, private_engine, shell, tiny_tar
from tests.support.worlds import OPEN, World
from tests.test_snapshots_docker import host, world
from workspaces.commands import named_command
from workspaces.model import FreezeMode, FrozenState, JobState, SnapshotState

pytestmark = pytest.mark.docker


def freeze(world: World, mode: FreezeMode, state: FrozenState = FrozenState.COMMITTED) -> None:
    begun = world.store.begin_freeze(world.slug, mode, actor="chief")
    with world.working():
        world.wait(lambda: not world.store.jobs(states=OPEN), 60)
    assert [row.state for row in world.store.frozen(begun.id)] == [state], world.describe()


def test_a_read_only_workspace_can_be_read_and_not_changed_until_it_is_thawed(world: World) -> None:
    world.lifecycle.ensure_running(world.id)
    shell(world.engine, world.container, "echo mine > /root/work; chown 1000:1000 /home/bobby")
    waits = world.request()
    freeze(world, FreezeMode.READ_ONLY)
    world.store.approve_snapshot(waits.id, actor="chief")  # while there is no container
    world.work()
    approved = world.store.snapshot(waits.id)
    assert approved.state is SnapshotState.ARCHIVED, world.describe()
    assert approved.diff_ids == world.store.version(world.id, 1).diff_ids
    world.lifecycle.ensure_running(world.id)
    assert shell(world.engine, world.container, "cat /root/work") == (0, "mine\n")
    for where in ("/root/work", "/root/new", "/etc/passwd", "/new", "/home/bobby/new"):
        status, said = shell(world.engine, world.container, f"echo x >> {where}")
        assert status != 0, where
        assert "ead-only" in said, said
    assert shell(world.engine, world.container, "chmod 777 /root/work")[0] != 0
    assert shell(world.engine, world.container, "mount -o remount,rw /")[0] != 0
    for where in ("/tmp", "/var/tmp", "/run", "/dev/shm"):
        assert shell(world.engine, world.container, f"echo x > {where}/new") == (0, ""), where
    status, said = shell(world.engine, world.container, "dd if=/dev/zero of=/tmp/big bs=1000000 count=99")
    assert status != 0
    assert "No space left" in said, said
    report = world.engine.changes(world.container)
    assert report.bytes == 0, report
    world.lifecycle.stop(world.id)
    world.lifecycle.ensure_running(world.id)
    assert shell(world.engine, world.container, "echo x > /root/new")[0] != 0

    assert world.store.thaw(world.slug, actor="chief") == 1
    world.work()
    world.lifecycle.ensure_running(world.id)
    assert shell(world.engine, world.container, "cat /root/work; echo x > /root/new") == (0, "mine\n")


def test_what_is_as_in_the_last_version_is_unchanged_and_what_only_looks_so_is_not(world: World) -> None:
    world.lifecycle.ensure_running(world.id)
    shell(world.engine, world.container, "echo mine > /root/work; touch -d @1000000000 /root/work")
    world.approved()
    world.work()
    world.lifecycle.restart(world.id)
    freeze(world, FreezeMode.STOP, FrozenState.UNCHANGED)
    world.store.thaw(world.slug, actor="chief")
    world.lifecycle.ensure_running(world.id)
    shell(world.engine, world.container, "echo more > /root/work; touch -d @1000000000 /root/work")
    freeze(world, FreezeMode.STOP)
    said = world.engine.run(str(world.store.version(world.id, 2).image_ref), ("/bin/cat", "/root/work"))
    assert said.stdout == b"more\n"


def test_the_version_is_the_state_in_which_it_was_stopped(world: World) -> None:
    world.lifecycle.ensure_running(world.id)
    shell(world.engine, world.container, "echo mine > /root/work")
    freeze(world, FreezeMode.STOP)
    found = world.engine.container(world.container)
    assert found is not None
    assert found.state == "exited"
    version = world.store.version(world.id, 1)
    assert version.paused_seconds is None
    said = world.engine.run(str(version.image_ref), ("/bin/cat", "/root/work"))
    assert said.stdout == b"mine\n"


def test_the_length_of_the_pause_is_kept_and_a_version_runs_its_own_command(world: World, host: str) -> None:
    world.lifecycle.ensure_running(world.id)
    shell(world.engine, world.container, "echo 'echo it runs as $(id -un)' > /predict; chmod 755 /predict")
    command = named_command('["/bin/sh"]', '["/predict"]')
    asked = world.store.request_snapshot(world.id, "m", actor="alice", via="ssh", command=command)
    world.store.approve_snapshot(asked.id, actor="chief")
    with world.working():
        world.wait(lambda: world.store.snapshot(asked.id).state is SnapshotState.ARCHIVED, 60)
    done = world.store.snapshot(asked.id)
    assert done.paused_seconds is not None
    assert 0 < done.paused_seconds < 30
    client = docker.APIClient(base_url=host)
    made = client.create_container(str(done.image_ref), network_disabled=True)["Id"]
    try:
        client.start(made)
        assert client.wait(made)["StatusCode"] == 0
        assert client.logs(made) == b"it runs as bobby\n"
    finally:
        client.remove_container(made)
        client.close()
