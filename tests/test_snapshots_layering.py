"""Versions that share their parent's layers, on the in-memory engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Wrapped
from tests.support.worlds import IMAGE, World, world
from workspaces import snapshots
from workspaces.engine.base import ContainerSpec, ImageConfig
from workspaces.errors import EngineUnavailable, NoSpace
from workspaces.layers import Layer
from workspaces.lifecycle import Lifecycle
from workspaces.model import JobKind, Network, Snapshot, SnapshotState
from workspaces.snapshots import Shelf, layering

pytestmark = pytest.mark.slow

__all__ = ["world"]


def quiet(message: str, fraction: float | None) -> None:
    """Progress that nobody follows."""


def shelf(world: World, engine: object = None) -> Shelf:
    return Shelf(engine or world.engine, world.archive, world.root / "layers")  # type: ignore[arg-type]


def commit(world: World, engine: object = None) -> tuple[Snapshot, str]:
    snapshot = world.approved()
    used = engine or world.engine
    lifecycle = Lifecycle(world.store, used, world.root / "locks")  # type: ignore[arg-type]
    said = snapshots.commit(world.store, used, lifecycle, snapshot.id, quiet, shelf(world, engine))  # type: ignore[arg-type]
    return world.store.snapshot(snapshot.id), said


def archive(world: World, version: Snapshot) -> None:
    snapshots.archive(world.store, world.engine, world.archive, version.id, quiet, signer=world.signer, pushes=False)


def files(world: World, version: Snapshot) -> dict[str, tuple[int, bytes | str]]:
    """What a container made from a version has: mode and content."""
    assert version.image_id is not None
    name = f"ws-check.{version.version}"
    limits = world.store.challenge(world.slug).limits
    world.engine.ensure_container(ContainerSpec(name, version.image_id, "x", limits, Network.NONE))
    top = world.engine.rootfs(name)  # type: ignore[attr-defined]
    found = tree(top)
    world.engine.remove(name)
    return found


def tree(top: Path) -> dict[str, tuple[int, bytes | str]]:
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(top.rglob("*")):
        content: bytes | str = b""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(top))] = path.lstat().st_mode, content
    return found


def test_a_version_holds_what_changed_since_its_parent(world: World) -> None:
    (world.rootfs / "root" / "big").write_bytes(os.urandom(300_000))
    (world.rootfs / "root" / "gone").write_text("1")
    first, _ = commit(world)
    (world.rootfs / "root" / "small").write_text("2")
    (world.rootfs / "root" / "gone").unlink()
    (world.rootfs / "root" / "readme").unlink()
    second, _ = commit(world)
    assert second.diff_ids[:-1] == first.diff_ids
    assert second.size is not None
    assert first.size is not None
    assert second.size - first.size <= 20_480
    assert files(world, second) == tree(world.rootfs)
    assert world.our_images() == {s.image_id: (f"als/alice:v{s.version}",) for s in (first, second)}
    (world.rootfs / "root" / "readme").write_text("as before")
    third, _ = commit(world)
    assert third.diff_ids[:-1] == second.diff_ids
    assert files(world, third) == tree(world.rootfs)


def test_nothing_changed_adds_no_layer(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    second, said = commit(world)
    assert said.endswith("Nothing has changed since v1.")
    assert second.diff_ids == first.diff_ids
    report = world.store.changes(second.id)
    assert report is not None
    assert (report.since, report.warnings[0]) == ("als/alice:v1", "Nothing has changed since als/alice:v1.")


def test_content_that_changed_behind_size_and_time_is_in_the_version(world: World) -> None:
    path = world.rootfs / "root" / "one"
    path.write_text("1")
    commit(world)
    status = path.stat()
    path.write_text("2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second, _ = commit(world)
    assert files(world, second)["root/one"][1] == b"2"
    report = world.store.changes(second.id)
    assert report is not None
    assert [(c.kind, c.path) for c in report.entries] == [("changed", "/root/one")], "it is not hidden from anybody"


def test_attributes_that_changed_behind_the_time_are_a_change(world: World) -> None:
    path = world.rootfs / "root" / "one"
    path.write_text("1")
    commit(world)
    assert not snapshots.inspecting.changed(world.store, world.engine, world.lifecycle, world.id, shelf(world))
    path.chmod(path.stat().st_mode)
    assert snapshots.inspecting.changed(world.store, world.engine, world.lifecycle, world.id, shelf(world))


def test_what_would_be_captured_is_told_since_the_parent(world: World) -> None:
    root = world.rootfs / "root"
    for name in ("same", "changed", "gone"):
        (root / name).write_text(name)
    (root / "readme").unlink()
    commit(world)
    (root / "new").write_text("12345")
    (root / "changed").write_text("longer than it was")
    (root / "gone").unlink()
    snapshot = world.request()
    snapshots.inspect(world.store, world.engine, world.lifecycle, snapshot.id, quiet, shelf(world))
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert [(c.kind, c.path) for c in report.entries] == [
        ("changed", "/root/changed"),
        ("removed", "/root/gone"),
        ("added", "/root/new"),
    ]
    assert (report.since, report.added, report.changed, report.removed) == ("als/alice:v1", 1, 1, 1)
    assert report.bytes == 23


def test_what_is_as_in_the_image_again_is_told(world: World) -> None:
    readme = world.rootfs / "root" / "readme"
    status, text = readme.stat(), readme.read_text()
    readme.unlink()
    commit(world)
    readme.write_text(text)
    readme.chmod(status.st_mode)
    os.utime(readme, ns=(status.st_atime_ns, status.st_mtime_ns))
    snapshot = world.request()
    snapshots.inspect(world.store, world.engine, world.lifecycle, snapshot.id, quiet, shelf(world))
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert [(c.kind, c.path) for c in report.entries] == [("added", "/root/readme")]
    world.store.approve_snapshot(snapshot.id, actor="chief")
    snapshots.commit(world.store, world.engine, world.lifecycle, snapshot.id, quiet, shelf(world))
    assert files(world, world.store.snapshot(snapshot.id)) == tree(world.rootfs)


def test_a_parent_that_only_the_archive_has(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    archive(world, first)
    world.engine.remove_image(first.image_id or "")
    (world.rootfs / "root" / "two").write_text("2")
    second, _ = commit(world)
    assert second.diff_ids[:-1] == first.diff_ids
    assert files(world, second) == tree(world.rootfs)
    assert set(world.our_images()) == {second.image_id}


@pytest.mark.parametrize("kept", [True, False])
def test_a_parent_that_is_nowhere_any_more(world: World, kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whether its index is kept or not: its layers cannot be stacked on."""
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    commit_index = shelf(world).index(first.diff_ids[-1], [first.image_id or ""])
    assert commit_index is not None
    if not kept:
        for path in (world.root / "layers").iterdir():
            path.unlink()
    world.engine.remove_image(first.image_id or "")
    (world.rootfs / "root" / "two").write_text("2")
    base = world.engine.image(IMAGE)
    assert base is not None
    with caplog.at_level(logging.WARNING):
        second, _ = commit(world)
    assert "gets all layers of its commit" in caplog.text
    assert second.diff_ids[:-1] == base.diff_ids
    assert files(world, second) == tree(world.rootfs)


def test_an_engine_that_is_away_is_waited_for(world: World) -> None:
    """Rather than making a version that shares nothing."""
    (world.rootfs / "root" / "one").write_text("1")
    commit(world)
    (world.rootfs / "root" / "two").write_text("2")

    def hook(name: str, call: object) -> object:
        if name == "layer":
            raise EngineUnavailable("gone")
        return call()  # type: ignore[operator]

    with pytest.raises(EngineUnavailable):
        commit(world, Wrapped(world.engine, hook))
    [snapshot] = world.store.snapshots(states=[SnapshotState.COMMITTING, SnapshotState.APPROVED])
    snapshots.commit(world.store, world.engine, world.lifecycle, snapshot.id, quiet, shelf(world))
    assert len(world.store.snapshot(snapshot.id).diff_ids) == 3


def test_an_image_that_has_the_name_of_the_lost_one_is_not_built_upon(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    assert first.image_id is not None
    temporary = world.engine.image(first.image_id)
    assert temporary is not None
    used = shelf(world)
    source = replace(temporary, diff_ids=("sha256:rebuilt",), config=ImageConfig())
    parent = replace(first, diff_ids=("sha256:rebuilt", "sha256:changes"))
    for diff_id in parent.diff_ids:
        used.keep(diff_id, Layer())
    with layering.arranged(used, temporary, source, parent, 1, quiet) as found:
        assert found.diff_ids == temporary.diff_ids


def test_many_versions_are_merged_before_the_ceiling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layering, "FLATTEN_LAYERS", 5)
    base = world.engine.image(IMAGE)
    assert base is not None
    counts = []
    for number in range(9):
        (world.rootfs / "root" / f"file{number}").write_text(str(number))
        (world.rootfs / "root" / "changed").write_text("x" * number)
        (world.rootfs / "root" / f"file{number - 2}").unlink(missing_ok=True)
        done, _ = commit(world)
        counts.append(len(done.diff_ids))
        assert done.diff_ids[:1] == base.diff_ids
        assert files(world, done) == tree(world.rootfs)
    assert counts == [2, 3, 4, 2, 3, 4, 2, 3, 4]


def test_a_restored_workspace_is_merged_as_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layering, "FLATTEN_LAYERS", 4)
    for number in range(6):
        (world.rootfs / "root" / f"file{number}").write_text(str(number))
        done, _ = commit(world)
        archive(world, done)
        if number % 2:
            job = world.store.add_job(
                JobKind.RESTORE, world.id, actor="chief", snapshot_id=done.id, arguments={"discard": "yes"}
            )
            snapshots.restore(world.store, world.engine, world.lifecycle, world.archive, job, quiet)
        assert files(world, done) == {
            path: facts for path, facts in tree(world.rootfs).items() if not path.startswith("run")
        }
        assert len(done.diff_ids) < 4


def test_a_damaged_index_is_made_again(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    (world.rootfs / "root" / "two").write_text("2")
    commit(world)
    for path in (world.root / "layers").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    (world.rootfs / "root" / "three").write_text("3")
    third, _ = commit(world)
    assert len(third.diff_ids) == 4
    assert third.diff_ids[:2] == first.diff_ids
    assert files(world, third) == tree(world.rootfs)


def test_indexes_of_no_version_are_deleted(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    here = shelf(world)
    for diff_id in first.diff_ids:
        here.index(diff_id, [first.image_id or ""])
    kept = {path.name for path in here.directory.iterdir()}
    (here.directory / f"{'0' * 64}.index").write_bytes(b"")
    (here.directory / ".unfinished").write_bytes(b"")
    here.clean(world.store)
    assert {path.name for path in here.directory.iterdir()} == kept
    assert len(kept) == 2


def test_a_full_disk_of_the_state_directory_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    commit(world)
    (world.rootfs / "root" / "two").write_text("2")
    real = os.statvfs

    def full(path: object) -> os.statvfs_result:
        found = real(path)  # type: ignore[arg-type]
        empty = os.statvfs_result((*found[:3], 0, 0, *found[5:]))
        return empty if str(path).endswith("layers") else found

    monkeypatch.setattr(os, "statvfs", full)
    with pytest.raises(NoSpace, match="Comparing with v1 needs about"):
        commit(world)
    assert {path.suffix for path in (world.root / "layers").iterdir()} == {".index"}


def test_a_layer_that_makes_no_sense_is_left_as_the_engine_made_it(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    (world.rootfs / "root" / "two").write_text("2")

    def hook(name: str, call: object) -> object:
        return iter([b"no tar" * 500]) if name == "layer" else call()  # type: ignore[operator]

    second, _ = commit(world, Wrapped(world.engine, hook))
    assert len(second.diff_ids) == 2
    assert second.diff_ids != first.diff_ids
    assert files(world, second) == tree(world.rootfs)


def test_what_is_written_to_a_restored_one_after_it_was_looked_at_is_in_the_version(world: World) -> None:
    (world.rootfs / "root" / "one").write_text("1")
    first, _ = commit(world)
    world.add_job(JobKind.RESTORE, first.id, {"discard": "yes"})
    world.work()

    def late(name: str, call: Callable[[], Any]) -> Any:
        if name == "commit":
            (world.rootfs / "root" / "late").write_text("2")
        return call()

    second, said = commit(world, Wrapped(world.engine, late))
    assert second.diff_ids[:-1] == first.diff_ids
    assert files(world, second)["root/late"][1] == b"2"
    assert "since v1" not in said
