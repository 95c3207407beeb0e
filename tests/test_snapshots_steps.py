"""Inspect, commit, archive, restore, one after the other and repeated, on the in-memory engine."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.support.faults import Wrapped, failing
from tests.support.savetar import layer
from tests.support.worlds import IMAGE, RUNS, World, world
from workspaces import snapshots
from workspaces.engine.base import ContainerInfo, ImageConfig
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import Conflict, EngineUnavailable, NoSpace, NotFound, WorkspacesError
from workspaces.lifecycle import Lifecycle
from workspaces.model import JobKind, SnapshotState
from workspaces.snapshots import committing

pytestmark = pytest.mark.slow

__all__ = ["world"]


def quiet(message: str, fraction: float | None) -> None:
    """Progress that nobody follows."""


def commit(world: World, snapshot_id: int, engine: Any = None) -> str:
    engine = engine or world.engine
    lifecycle = Lifecycle(world.store, engine, world.root / "locks")
    return snapshots.commit(world.store, engine, lifecycle, snapshot_id, quiet)


def archive(world: World, snapshot_id: int) -> str:
    return snapshots.archive(world.store, world.engine, world.archive, snapshot_id, quiet, signer=world.signer)


def restore(world: World, snapshot_id: int, since: float | None = None) -> str:
    job = world.add_job(JobKind.RESTORE, snapshot_id)
    job = replace(job, created_at=time.time() if since is None else since, arguments={"discard": "yes"})
    return snapshots.restore(world.store, world.engine, world.lifecycle, world.archive, job, quiet)


def version(world: World, message: str = "m") -> int:
    """A committed and archived version of what the container has now; its snapshot's id."""
    snapshot = world.approved(message)
    commit(world, snapshot.id)
    archive(world, snapshot.id)
    return snapshot.id


def test_inspect_keeps_what_changed(world: World) -> None:
    (world.rootfs / "root" / ".netrc").write_text("secret")
    (world.rootfs / "root" / "readme").unlink()
    snapshot = world.request()
    said = snapshots.inspect(world.store, world.engine, world.lifecycle, snapshot.id, quiet)
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert (report.added, report.removed, report.since, report.bytes) == (1, 1, IMAGE, 6)
    assert report.warnings == ("There may be stored passwords or tokens: /root/.netrc.",)
    assert report.not_captured
    assert said == "2 paths changed, 6 B, 1 warnings."


def test_inspect_without_a_container_says_so(world: World) -> None:
    snapshot = world.request()
    snapshots.inspect(world.store, world.engine, world.lifecycle, snapshot.id, quiet)
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert report.warnings == ("als/alice has no container.",)


def test_inspect_of_a_decided_request_does_nothing(world: World) -> None:
    snapshot = world.request()
    world.store.withdraw_snapshot(snapshot.id, actor="alice")
    said = snapshots.inspect(world.store, world.engine, world.lifecycle, snapshot.id, quiet)
    assert said == f"Snapshot {snapshot.id} is withdrawn; nothing to look at."
    assert world.store.changes(snapshot.id) is None


def test_a_version_is_the_container_under_the_base_configuration(world: World) -> None:
    (world.rootfs / "root" / "result").write_text("42")
    snapshot = world.approved("the answer")
    assert commit(world, snapshot.id) == "Committed als/alice:v1, 10.0 KiB more than its base."
    done = world.store.snapshot(snapshot.id)
    base, image = world.engine.image(IMAGE), world.engine.image("als/alice:v1")
    assert base is not None
    assert image is not None
    assert (done.state, done.version, done.image_id) == (SnapshotState.COMMITTED, 1, image.id)
    assert done.diff_ids == image.diff_ids
    assert image.diff_ids[:-1] == base.diff_ids
    assert {key: value for key, value in image.config.values.items() if key != "Labels"} == RUNS
    assert image.config.labels["io.workspaces.snapshot"] == f"{world.store.instance}:{snapshot.id}"
    assert image.config.labels["org.opencontainers.image.description"] == "the answer"
    assert world.our_images() == {image.id: ("als/alice:v1",)}
    archive(world, snapshot.id)
    [archived] = world.archive.list()
    assert (archived.ref, archived.config_digest, archived.diff_ids) == ("als/alice:v1", image.id, image.diff_ids)
    assert archived.annotations["org.opencontainers.image.version"] == "v1"
    assert world.store.snapshot(snapshot.id).manifest_digest == archived.digest


def test_each_step_repeated_does_nothing(world: World) -> None:
    (world.rootfs / "root" / "result").write_text("42")
    id_ = version(world)
    before, images = world.store.snapshot(id_), world.our_images()
    commit(world, id_)
    archive(world, id_)
    assert (world.store.snapshot(id_), world.our_images()) == (before, images)
    restore(world, id_)
    (world.rootfs / "root" / "later").write_text("kept")
    restore(world, id_, since=1.0)
    assert (world.rootfs / "root" / "later").exists()
    assert world.workspace.image == "als/alice:v1"


def test_restore_from_the_archive_alone(world: World) -> None:
    (world.rootfs / "root" / "result").write_text("42")
    id_ = version(world)
    done = world.store.snapshot(id_)
    world.engine.remove(world.container)
    world.engine.remove_image(done.image_id or "")
    assert restore(world, id_) == "als/alice is v1 again."
    assert (world.rootfs / "root" / "result").read_text() == "42"
    image = world.engine.image("als/alice:v1")
    assert image is not None
    assert image.id == done.image_id
    assert world.workspace.parent_id == id_


def test_versions_of_a_restored_workspace_stand_on_each_other(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = version(world)
    restore(world, first)
    (world.rootfs / "root" / "two").write_text("2")
    second = version(world)
    done = world.store.snapshot(second)
    assert done.diff_ids[:-1] == world.store.snapshot(first).diff_ids
    image, base = world.engine.image("als/alice:v2"), world.engine.image(IMAGE)
    assert image is not None
    assert base is not None
    assert image.config.labels["org.opencontainers.image.base.digest"] == base.id
    assert image.config.labels["io.workspaces.parent"] == "v1"
    assert done.size == image.size - base.size
    restore(world, first)
    assert not (world.rootfs / "root" / "two").exists()


def test_a_version_names_the_image_that_its_container_was_made_from(world: World) -> None:
    """Not the one that the challenge has by now."""
    world.lifecycle.ensure_running(world.id)
    (world.rootfs / "root" / "one").write_text("1")
    tar = world.root / "newer.tar"
    tar.write_bytes(layer({"x": b"1"}))
    world.engine.import_rootfs(tar, "newer:2", ImageConfig({"User": "other"}))
    world.store.set_challenge("als", image="newer:2", actor="chief")
    snapshot = world.approved()
    commit(world, snapshot.id)
    image, report = world.engine.image("als/alice:v1"), world.store.changes(snapshot.id)
    assert image is not None
    assert report is not None
    assert image.config.labels["org.opencontainers.image.base.name"] == IMAGE
    assert image.config.values["User"] == RUNS["User"]
    assert report.since == IMAGE


def test_no_change_makes_a_version_of_the_same_layers(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = version(world)
    restore(world, first)
    second = world.approved()
    assert commit(world, second.id).endswith("Nothing has changed since v1.")
    assert world.store.snapshot(second.id).diff_ids == world.store.snapshot(first).diff_ids
    report = world.store.changes(second.id)
    assert report is not None
    assert report.warnings == ("Nothing has changed since als/alice:v1.",)


def test_a_version_whose_layers_are_in_the_archive_is_not_read_from_the_engine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = version(world)
    restore(world, first)
    second = world.approved("the same again")
    commit(world, second.id)
    monkeypatch.setattr(world.engine, "save", None)
    archive(world, second.id)
    one, two = world.archive.list()
    assert (one.diff_ids, two.ref) == (two.diff_ids, "als/alice:v2")
    assert two.config_digest == world.store.snapshot(second.id).image_id != one.config_digest
    assert world.archive.verify().problems == ()
    assert world.store.configuration(second.id) is None


def test_a_version_that_the_engine_lost_and_the_archive_has_the_layers_of_keeps_its_annotations(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first = version(world)
    restore(world, first)
    second = world.approved("the same again")
    commit(world, second.id)
    world.engine.untag("als/alice:v2")
    world.engine.remove_image(str(world.store.snapshot(second.id).image_id))
    archive(world, second.id)
    one, two = world.archive.list()
    assert two.annotations.keys() == one.annotations.keys() | {"io.workspaces.parent"}
    assert two.annotations["org.opencontainers.image.description"] == "the same again"


def test_a_commit_that_fails_for_good_leaves_no_configuration(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    with pytest.raises(EngineUnavailable):
        commit(world, snapshot.id, failing(world.engine, "reconfigure", [EngineUnavailable("gone")]))
    assert world.store.configuration(snapshot.id) is not None, "the next attempt goes on with it"
    world.store.fail_snapshot(snapshot.id, "gone")
    assert world.store.configuration(snapshot.id) is None


def test_a_name_that_is_taken_is_refused_until_it_is_free(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    base = world.engine.image(IMAGE)
    assert base is not None
    world.engine.tag(base.id, "als/alice:v1")
    snapshot = world.approved()
    with pytest.raises(Conflict, match="another image named als/alice:v1"):
        commit(world, snapshot.id)
    assert world.our_images() == {}
    world.engine.untag("als/alice:v1")
    commit(world, snapshot.id)
    assert world.store.snapshot(snapshot.id).version == 1


def test_what_cannot_be_committed_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = world.approved()
    with pytest.raises(Conflict, match="has no container, so there is nothing to commit"):
        commit(world, snapshot.id)
    (world.rootfs / "root" / "one").write_text("1")
    monkeypatch.setattr(committing, "MAX_LAYERS", 1)
    with pytest.raises(Conflict, match="would have 2 layers"):
        commit(world, snapshot.id)
    monkeypatch.undo()
    statvfs = os.statvfs("/")
    empty = os.statvfs_result((*statvfs[:3], 0, 0, *statvfs[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: empty)
    with pytest.raises(NoSpace, match="Committing als/alice needs about 1 B"):
        commit(world, snapshot.id)
    monkeypatch.undo()
    assert world.our_images() == {}
    commit(world, snapshot.id)
    assert world.store.snapshot(snapshot.id).version == 1


def test_a_request_that_was_not_approved_is_not_committed(world: World) -> None:
    world.rootfs  # noqa: B018 - makes the container
    with pytest.raises(Conflict):
        commit(world, world.request().id)
    assert world.our_images() == {}


def test_a_commit_that_the_engine_still_does_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker died, the engine did not: the container is paused, then the image is there."""
    monkeypatch.setattr(committing, "PAUSED_LOOK", 0.01)
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    commits = []

    class Dying(Wrapped):
        def commit(self, *arguments: Any) -> None:
            commits.append(arguments)
            raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable):
        commit(world, snapshot.id, Dying(world.engine, lambda name, call: call()))
    looks = []

    def paused(name: str, call: Any) -> Any:
        result = call()
        if name == "container":
            looks.append(1)
            if len(looks) == 3:
                world.engine.commit(*commits[0])
            if len(looks) <= 3:
                return ContainerInfo(result.id, result.name, "paused", 0, False, result.image_id, {})
        assert name != "commit", "committed twice"
        return result

    commit(world, snapshot.id, Wrapped(world.engine, paused))
    assert len(looks) > 3
    assert list(world.our_images().values()) == [("als/alice:v1",)]


def test_a_container_that_stays_paused_is_woken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "PAUSED_SECONDS", 0.0)
    (world.rootfs / "root" / "one").write_text("1")
    woken = threading.Event()

    def paused(name: str, call: Any) -> Any:
        if name == "start":
            woken.set()
        result = call()
        if name == "container" and not woken.is_set():
            return ContainerInfo(result.id, result.name, "paused", 0, False, result.image_id, {})
        return result

    snapshot = world.approved()
    commit(world, snapshot.id, Wrapped(world.engine, paused))
    assert woken.is_set()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTED


def test_a_failed_attempt_leaves_nothing_and_a_retry_takes_the_container_anew(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    broken = failing(world.engine, "reconfigure", [EngineUnavailable("gone")])
    with pytest.raises(EngineUnavailable):
        commit(world, snapshot.id, broken)
    assert len(world.our_images()) == 1
    world.store.fail_snapshot(snapshot.id, "gone")
    snapshots.discard(world.store, world.engine, snapshot.id)
    assert world.our_images() == {}
    (world.rootfs / "root" / "one").write_text("2")
    world.store.retry_snapshot(snapshot.id, actor="chief")
    commit(world, snapshot.id)
    archive(world, snapshot.id)
    restore(world, snapshot.id)
    assert (world.rootfs / "root" / "one").read_text() == "2"


def test_sweep_deletes_what_an_engine_made_after_its_caller_died(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    kept = version(world)
    late = world.approved()
    broken = failing(world.engine, "reconfigure", [EngineUnavailable("gone")])
    with pytest.raises(EngineUnavailable):
        commit(world, late.id, broken)
    images = world.our_images()
    snapshots.sweep(world.store, world.engine, world.lifecycle)
    assert world.our_images() == images, "it is still wanted"
    world.store.fail_snapshot(late.id, "gone")
    snapshots.sweep(world.store, world.engine, world.lifecycle)
    assert world.our_images() == {world.store.snapshot(kept).image_id: ("als/alice:v1",)}


def test_images_that_only_look_like_ours_are_left_alone(world: World) -> None:
    """Derived from a version, or of another state directory: labels are inherited and can be copied."""
    (world.rootfs / "root" / "one").write_text("1")
    id_ = version(world)
    image = world.engine.image("als/alice:v1")
    assert image is not None
    tar = world.root / "other.tar"
    tar.write_bytes(layer({"x": b"1"}))
    world.engine.import_rootfs(tar, "other:1", ImageConfig({"Labels": image.config.labels}))
    foreign = {"io.workspaces.instance": "ffffffffffff", "io.workspaces.snapshot": "ffffffffffff:1"}
    world.engine.import_rootfs(tar, "other:2", ImageConfig({"Labels": {**foreign, "io.workspaces.temporary": "yes"}}))
    snapshots.sweep(world.store, world.engine, world.lifecycle)
    commit(world, id_)
    assert {"other:1", "other:2"} <= {ref for found in world.engine.images() for ref in found.refs}


def test_restore_refuses_what_it_cannot_bring_back(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    with pytest.raises(Conflict, match="only a committed one can be restored"):
        restore(world, snapshot.id)
    commit(world, snapshot.id)
    world.engine.remove_image(world.store.snapshot(snapshot.id).image_id or "")
    with pytest.raises(NotFound, match="neither in the engine nor in the archive"):
        restore(world, snapshot.id)
    with pytest.raises(NotFound, match="not in the engine any more"):
        archive(world, snapshot.id)
    assert (world.rootfs / "root" / "one").read_text() == "1"


def test_restore_does_not_take_a_name_from_another_image(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    id_ = version(world)
    base = world.engine.image(IMAGE)
    assert base is not None
    world.engine.tag(base.id, "als/alice:v1")
    restore(world, id_)
    assert (world.rootfs / "root" / "one").read_text() == "1"
    taken = world.engine.image("als/alice:v1")
    assert taken is not None
    assert taken.id == base.id


def test_a_changed_archive_is_not_restored(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    id_ = version(world)
    done = world.store.snapshot(id_)
    world.engine.remove_image(done.image_id or "")
    for blob in (world.archive.root / "blobs" / "sha256").iterdir():
        blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with pytest.raises(WorkspacesError):
        restore(world, id_)
    assert (world.rootfs / "root" / "one").read_text() == "1"
    assert world.our_images() == {}


def test_the_engine_of_these_tests_leaks_a_container_into_its_commits(world: World) -> None:
    """Else the tests above would prove nothing about the configuration."""
    assert isinstance(world.engine, MemoryEngine)
    (world.rootfs / "root" / "one").write_text("1")
    leaked = world.engine.commit(world.container, "leak:1", {"x": "y"})
    assert leaked.config.values["Entrypoint"] != RUNS["Entrypoint"]
