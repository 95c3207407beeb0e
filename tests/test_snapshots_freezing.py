"""Freezing, restoring over something, and commands of versions, on the in-memory engine with a real worker."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_engine import FaultyEngine
from tests.support.worlds import IMAGE, RUNS, World, impatient, memory_world, world
from workspaces import snapshots
from workspaces.commands import named_command
from workspaces.engine import changes
from workspaces.engine.base import ContainerSpec
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import Conflict, EngineError, NoSpace, NotFound, Refused
from workspaces.lifecycle import LABEL_READ_ONLY
from workspaces.model import FreezeMode, Frozen, FrozenState, JobKind, JobState, Limits, Network, SnapshotState
from workspaces.refusals import check_open

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("impatient")]

__all__ = ["impatient", "world"]

F = FrozenState


def others(world: World, *names: str) -> dict[str, int]:
    return {name: world.store.add_workspace("als", name, actor="test").id for name in names}


def files(world: World, name: str) -> Path:
    """The root of a workspace's container, which is made, and not started, as needed."""
    workspace = world.store.workspace(f"als/{name}")
    container = world.lifecycle.container_name(workspace)
    engine: Any = world.engine
    if engine.container(container) is None:
        image = workspace.image or IMAGE
        engine.ensure_container(ContainerSpec(container, image, name, Limits(), Network.NONE))
    return Path(engine.rootfs(container))


def freeze(world: World, mode: FreezeMode, engine: Any = None) -> dict[str, Frozen]:
    begun = world.store.begin_freeze("als", mode, actor="chief")
    with world.working(world.worker(engine=engine)):
        world.wait(lambda: not world.store.jobs(states=[JobState.QUEUED, JobState.RUNNING]))
    assert world.store.freeze(begun.id).ended_at is not None
    return {row.workspace.partition("/")[2]: row for row in world.store.frozen(begun.id)}


def latest(world: World, name: str = "alice") -> str:
    """What the latest version of a workspace has in /root/work."""
    number = world.store.workspace(f"als/{name}").id
    version = world.store.snapshots(number, [SnapshotState.ARCHIVED], limit=1)[0]
    world.store.add_job(JobKind.RESTORE, world.id, actor="chief", snapshot_id=version.id, arguments={"discard": "yes"})
    world.work()
    return (world.rootfs / "root" / "work").read_text()


def test_each_that_changed_is_committed_and_the_others_are_listed(world: World) -> None:
    ids = others(world, "bob", "carol", "dave")
    (files(world, "alice") / "root" / "work").write_text("of alice")
    (files(world, "bob") / "root" / "work").write_text("of bob")
    files(world, "dave")
    world.store.touch_login(ids["dave"])
    done = freeze(world, FreezeMode.COMMIT)
    assert {name: (row.state, row.version) for name, row in done.items()} == {
        "alice": (F.COMMITTED, 1),
        "bob": (F.COMMITTED, 1),
        "carol": (F.NEVER_STARTED, None),
        "dave": (F.UNCHANGED, None),
    }
    assert done["bob"].detail == "committed as v1."
    assert done["carol"].detail == "nobody has ever worked in it."
    assert done["dave"].detail == "nothing has changed since its image."
    [version] = world.store.snapshots(ids["bob"])
    assert (version.state, version.requested_via, version.requested_by) == (SnapshotState.ARCHIVED, "auto", "chief")
    assert version.message == "The state of als when it was frozen"
    assert version.paused_seconds is None, "it did not run"
    assert latest(world) == "of alice"


def test_a_container_with_more_changes_than_are_counted_has_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files(world, "alice") / "root" / "work").write_text("of alice")
    monkeypatch.setattr(MemoryEngine, "changes", lambda *_: changes.report(None, None, "base:1", 7))
    assert freeze(world, FreezeMode.COMMIT)["alice"].state is F.COMMITTED
    assert latest(world) == "of alice"


def test_what_was_restored_and_not_touched_is_unchanged(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    snapshot = world.approved()
    world.add_job(JobKind.RESTORE, snapshot.id, {"discard": "yes"})
    world.work()
    done = freeze(world, FreezeMode.READ_ONLY)["alice"]
    assert (done.state, done.snapshot_id, done.version) == (F.UNCHANGED, snapshot.id, 1)
    assert done.detail == "nothing has changed since v1; it can be read, and not changed."


def test_stopped_ones_keep_their_files_and_refuse_logins_until_they_are_thawed(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    world.lifecycle.ensure_running(world.id)
    done = freeze(world, FreezeMode.STOP)["alice"]
    assert done.state is F.COMMITTED
    found = world.engine.container(world.container)
    assert found is not None
    assert not found.running
    assert world.lifecycle.diagnose(world.id) == "frozen with its challenge by the organisers"
    with pytest.raises(Refused, match="have frozen the challenge als"):
        check_open(world.store.challenge("als"), time.time())
    assert world.store.thaw("als", actor="chief") == 0
    check_open(world.store.challenge("als"), time.time())
    world.lifecycle.ensure_running(world.id)
    assert (world.rootfs / "root" / "work").read_text() == "1"


def test_read_only_ones_are_made_from_their_version_and_open_past_the_closing(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    world.lifecycle.ensure_running(world.id)
    world.store.set_challenge("als", closes_at=time.time() - 1, actor="chief")
    done = freeze(world, FreezeMode.READ_ONLY)["alice"]
    assert done.state is F.COMMITTED
    assert world.engine.container(world.container) is None, "a login makes it"
    assert world.workspace.read_only
    challenge = world.store.challenge("als")
    check_open(challenge, time.time(), read_only=True)
    with pytest.raises(Refused, match="closed on"):
        check_open(challenge, time.time(), read_only=False)
    world.lifecycle.ensure_running(world.id)
    found = world.engine.container(world.container)
    assert found is not None
    assert LABEL_READ_ONLY in found.labels
    assert found.image_id == world.store.snapshot(done.snapshot_id or 0).image_id
    again = freeze(world, FreezeMode.READ_ONLY)["alice"]
    assert (again.state, again.version) == (F.UNCHANGED, 1)
    assert world.store.thaw("als", actor="chief") == 1
    world.work()
    world.lifecycle.ensure_running(world.id)
    made = world.engine.container(world.container)
    assert made is not None
    assert LABEL_READ_ONLY not in made.labels
    assert (world.rootfs / "root" / "work").read_text() == "1"


def test_one_is_frozen_by_itself_and_thawed(world: World) -> None:
    others(world, "bob")
    (files(world, "alice") / "root" / "work").write_text("of alice")
    job = world.store.add_job(JobKind.FREEZE, world.id, actor="chief")
    world.work()
    assert world.store.job(job.id).message == "als/alice: committed as v1; it can be read, and not changed."
    assert [ws.read_only for ws in world.store.workspaces("als")] == [True, False]
    assert world.store.challenge("als").frozen is None
    [version] = world.store.snapshots(world.id)
    assert version.message == "The state of als/alice when it was frozen"
    world.store.add_job(JobKind.THAW, world.id, actor="chief")
    world.work()
    assert not world.store.workspace(world.id).read_only


def test_one_that_is_not_ready_yet_is_not_entered(world: World) -> None:
    world.store.begin_freeze("als", FreezeMode.READ_ONLY, actor="chief")
    with pytest.raises(Refused, match="not ready yet"):
        check_open(world.store.challenge("als"), time.time())


def test_one_that_fails_is_stopped_and_whole_and_does_not_stop_the_others(world: World) -> None:
    others(world, "bob")
    (files(world, "alice") / "root" / "work").write_text("of alice")
    (files(world, "bob") / "root" / "work").write_text("of bob")
    world.lifecycle.ensure_running(world.id)
    faulty = FaultyEngine(world.engine)
    bad = world.container
    inner = world.engine.commit

    def commit(name: str, *arguments: Any) -> Any:
        if name == bad:
            raise NoSpace("The disk is full.")
        return inner(name, *arguments)

    faulty.commit = commit  # type: ignore[attr-defined]
    done = freeze(world, FreezeMode.READ_ONLY, faulty)
    assert (done["alice"].state, done["bob"].state) == (F.FAILED, F.COMMITTED)
    assert "The disk is full." in done["alice"].detail
    assert (world.rootfs / "root" / "work").read_text() == "of alice"
    found = world.engine.container(world.container)
    assert found is not None
    assert not found.running
    assert not world.workspace.read_only
    assert [s.state for s in world.store.snapshots(world.id)] == [SnapshotState.FAILED]
    world.store.retry_job(done["alice"].job_id, actor="chief")
    world.work()
    assert world.store.frozen(done["alice"].freeze_id)[0].state is F.COMMITTED
    assert world.workspace.read_only


def test_a_request_that_waits_is_left_for_its_decision(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    waits = world.request()
    done = freeze(world, FreezeMode.COMMIT)["alice"]
    assert done.version == 1
    assert world.store.snapshot(waits.id).state is SnapshotState.REQUESTED
    world.store.approve_snapshot(waits.id, actor="chief")
    world.work()
    assert world.store.snapshot(waits.id).version == 2


def test_an_approved_one_is_finished_first(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    approved = world.approved()
    freeze(world, FreezeMode.STOP)
    assert world.store.snapshot(approved.id).version == 1
    assert world.store.snapshot(approved.id).state is SnapshotState.ARCHIVED


def test_the_worker_begins_what_the_closing_time_asks_for_also_after_it_was_away(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    world.store.set_challenge("als", at_close=FreezeMode.STOP, closes_at=time.time() - 3600, actor="chief")
    with world.working():
        world.wait(lambda: world.store.freezes("als") and world.store.freezes("als")[0].ended_at)
    with world.working():
        world.wait(lambda: not world.store.jobs(states=[JobState.QUEUED, JobState.RUNNING]))
    [begun] = world.store.freezes("als")
    assert begun.requested_by == "worker"
    assert world.store.frozen(begun.id)[0].version == 1
    assert world.store.snapshots()[0].message == "The state of als when it closed"


def test_a_hundred_are_frozen_and_none_is_lost(world: World) -> None:
    names = [f"p{n}" for n in range(100)]
    others(world, *names)
    for name in names:
        (files(world, name) / "root" / "work").write_text(name)
    begun = world.store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
    with world.working():
        world.wait(lambda: world.store.freeze(begun.id).ended_at, 90)
    rows = world.store.frozen(begun.id)
    assert [row.state for row in rows if row.state is not F.COMMITTED] == [F.NEVER_STARTED]
    assert len({row.snapshot_id for row in rows}) == 101


# restoring over something


def version(world: World, text: str) -> int:
    (world.rootfs / "root" / "work").write_text(text)
    snapshot = world.approved(text)
    world.work()
    return snapshot.id


def test_what_was_there_is_a_version_before_a_restore(world: World) -> None:
    first = version(world, "1")
    (world.rootfs / "root" / "work").write_text("2")
    job = world.add_job(JobKind.RESTORE, first)
    world.work()
    assert world.store.job(job.id).message == "als/alice is v1 again. What was there before is v2."
    assert (world.rootfs / "root" / "work").read_text() == "1"
    kept = world.store.version(world.id, 2)
    assert (kept.requested_via, kept.message, kept.requested_by) == (
        "auto",
        "Before it was restored to als/alice:v1",
        "chief",
    )
    assert world.workspace.parent_id == first
    assert latest(world) == "2"


def test_nothing_is_kept_when_nothing_changed_or_it_is_to_be_discarded(world: World) -> None:
    first = version(world, "1")
    world.add_job(JobKind.RESTORE, first, {"discard": "yes"})
    world.work()
    world.add_job(JobKind.RESTORE, first)
    world.work()
    assert len(world.store.snapshots(world.id)) == 1


def test_no_restore_without_its_automatic_version(world: World) -> None:
    first = version(world, "1")
    (world.rootfs / "root" / "work").write_text("2")
    world.lifecycle.ensure_running(world.id)
    faulty = FaultyEngine(world.engine)
    faulty.fail("commit", NoSpace("The disk is full."))
    job = world.add_job(JobKind.RESTORE, first)
    with world.working(world.worker(engine=faulty)):
        world.wait(lambda: world.store.job(job.id).state is JobState.FAILED)
    assert (world.rootfs / "root" / "work").read_text() == "2"
    found = world.engine.container(world.container)
    assert found is not None
    assert found.running, "as it was before"
    assert world.store.snapshots(world.id)[0].state is SnapshotState.FAILED
    world.store.retry_job(job.id, actor="chief")
    world.work()
    assert (world.rootfs / "root" / "work").read_text() == "1"
    assert world.store.snapshots(world.id, [SnapshotState.ARCHIVED])[0].version == 3


def test_a_promised_snapshot_is_not_overtaken(world: World) -> None:
    first = version(world, "1")
    (world.rootfs / "root" / "work").write_text("2")
    job = world.add_job(JobKind.RESTORE, first)
    claimed = world.store.claim_job()
    assert claimed is not None
    world.approved()
    with pytest.raises(Conflict, match="approved and not yet committed"):
        snapshots.restore(
            world.store, world.engine, world.lifecycle, world.archive, world.store.job(job.id), lambda *_: None
        )
    assert (world.rootfs / "root" / "work").read_text() == "2"


def test_a_version_goes_into_another_workspace(world: World) -> None:
    first = version(world, "1")
    bob = others(world, "bob")["bob"]
    (files(world, "bob") / "root" / "own").write_text("of bob")
    job = world.store.add_job(JobKind.RESTORE, bob, actor="chief", snapshot_id=first)
    world.work()
    assert world.store.job(job.id).message == "als/bob is als/alice:v1 now. What was there before is v1."
    assert (files(world, "bob") / "root" / "work").read_text() == "1"
    assert not (files(world, "bob") / "root" / "own").exists()
    assert world.store.workspace(bob).parent_id == first
    (files(world, "bob") / "root" / "own").write_text("more")
    asked = world.store.request_snapshot(bob, "m", actor="chief", via="cli")
    world.store.approve_snapshot(asked.id, actor="chief")
    world.work()
    done = world.store.snapshot(asked.id)
    assert done.version == 2
    assert done.diff_ids[:-1] == world.store.snapshot(first).diff_ids
    report = world.store.changes(asked.id)
    assert report is not None
    assert (report.since, report.added) == ("als/alice:v1", 1)


def test_another_host_restores_what_only_the_archive_has(world: World, tmp_path: Path) -> None:
    version(world, "1")
    (world.rootfs / "root" / "work").write_text("2")
    second = world.approved("second")
    world.work()
    with memory_world(tmp_path / "other") as other:
        other.archive = world.archive
        engine: Any = other.engine
        engine.untag(IMAGE)
        found = snapshots.adopt(other.store, other.archive, "als/alice:v2", actor="chief")
        assert found is not None
        assert (found.version, found.message, found.requested_by) == (2, "second", "alice")
        assert found.diff_ids == world.store.snapshot(second.id).diff_ids
        assert len(other.store.snapshots(other.id)) == 2
        other.add_job(JobKind.RESTORE, found.id)
        other.work()
        assert (other.rootfs / "root" / "work").read_text() == "2"
        (other.rootfs / "root" / "work").write_text("3")
        third = other.approved("third")
        other.work()
        assert other.store.snapshot(third.id).version == 3
        assert [image.ref for image in other.archive.list()] == ["als/alice:v1", "als/alice:v2", "als/alice:v3"]


def test_a_version_of_a_workspace_that_is_not_here_is_restored_by_its_name(world: World, tmp_path: Path) -> None:
    version(world, "1")
    with memory_world(tmp_path / "other") as other:
        other.archive = world.archive
        other.store.remove_workspace(other.id, actor="chief")
        other.id = other.store.add_workspace("als", "zoe", actor="chief").id
        assert snapshots.adopt(other.store, other.archive, "als/alice:v1", actor="chief") is None
        with pytest.raises(NotFound, match="has no image als/alice:v9"):
            snapshots.adopt(other.store, other.archive, "als/alice:v9", actor="chief")
        job = other.add_job(JobKind.RESTORE, None, {"from": "als/alice:v1"})
        other.work()
        assert other.store.job(job.id).message == "als/zoe is als/alice:v1 now."
        assert (other.rootfs / "root" / "work").read_text() == "1"


# commands of versions


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "expected"),
    [
        (
            None,
            "python /root/predict.py",
            {"Entrypoint": ["/bin/sh"], "Cmd": ["/bin/sh", "-c", "python /root/predict.py"]},
        ),
        (None, '["-c", "true"]', {"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "true"]}),
        ('["/run"]', None, {"Entrypoint": ["/run"]}),
        ('["/run"]', '["-x"]', {"Entrypoint": ["/run"], "Cmd": ["-x"]}),
    ],
)
def test_a_version_says_how_it_is_run(
    world: World, entrypoint: str | None, cmd: str | None, expected: dict[str, list[str]]
) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    command = named_command(entrypoint, cmd)
    asked = world.store.request_snapshot(world.id, "m", actor="alice", via="ssh", command=command)
    world.store.approve_snapshot(asked.id, actor="chief")
    world.work()
    image = world.engine.image("als/alice:v1")
    assert image is not None
    values = {name: value for name, value in image.config.values.items() if name != "Labels"}
    base = {name: value for name, value in RUNS.items() if name not in ("Entrypoint", "Cmd")}
    assert values == {**base, **expected}
    assert json.dumps(dict(image.config.values))


@pytest.mark.parametrize("step", ["commit", "reconfigure"])
def test_a_full_disk_leaves_no_orphan(world: World, step: str) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    snapshot = world.approved()
    faulty = FaultyEngine(world.engine)
    faulty.fail(step, NoSpace("The disk is full."))
    with world.working(world.worker(engine=faulty)):
        world.wait(lambda: world.store.snapshot(snapshot.id).state is SnapshotState.FAILED)
        world.wait(lambda: not world.store.jobs(states=[JobState.QUEUED, JobState.RUNNING]))
    assert world.our_images() == {}
    assert world.store.snapshot(snapshot.id).reason == "The disk is full."
    world.store.retry_snapshot(snapshot.id, actor="chief")
    world.work()
    assert world.store.snapshot(snapshot.id).version == 1
    assert list(world.our_images().values()) == [("als/alice:v1",)]


def test_nobody_is_let_into_a_container_that_is_about_to_be_deleted(world: World) -> None:
    (world.rootfs / "root" / "work").write_text("1")
    faulty = FaultyEngine(world.engine)
    faulty.fail("remove", EngineError("It cannot be removed."))
    assert freeze(world, FreezeMode.READ_ONLY, faulty)["alice"].state is F.FAILED
    with pytest.raises(Refused, match="not ready yet"):
        check_open(world.store.challenge("als"), time.time(), read_only=world.workspace.read_only)
