"""Which versions the rules keep, and that pruning removes the rest, whole, whenever it is killed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.faults import Fuse, Killed
from tests.support.worlds import World, memory_world, world
from workspaces import snapshots
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Challenge, FreezeMode, JobKind, JobState, Limits, Network, Snapshot, SnapshotState
from workspaces.registry import Registry
from workspaces.snapshots.retention import not_kept

__all__ = ["world"]

RULE = Challenge(1, "als", "base:1", Limits(), Network.NONE, (), "root", None, None, 0.0, keep_last=2)


def version(number: int, **changes: object) -> Snapshot:
    made = Snapshot(number, 1, "als/alice", "m", SnapshotState.ARCHIVED, "worker", "auto", 0.0, version=number)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "changes", "bases", "gone"),
    [
        ({}, {}, set(), [1, 2]),
        ({"keep_last": None}, {}, set(), []),
        ({"keep_last": 10}, {}, set(), []),
        ({}, {1: {"pinned": True}}, set(), [2]),
        ({}, {2: {"requested_via": "ssh"}}, set(), [1]),
        ({"keep_submitted": False}, {2: {"requested_via": "ssh"}}, set(), [1, 2]),
        ({}, {}, {1}, [2]),
        ({}, {1: {"state": SnapshotState.COMMITTED}}, set(), [2]),
        ({}, {4: {"pruned_at": 1.0}}, set(), [1]),
        ({}, {1: {"workspace": "als/bob"}}, set(), [2]),
        ({}, {1: {"workspace": "other/alice"}}, set(), [2]),
    ],
    ids=["last", "no rule", "few", "pinned", "submitted", "submitted too", "stood on", "not archived", "pruned before",
         "of another workspace", "of another challenge"],
)  # fmt: skip
def test_rules(rule: dict[str, int], changes: dict[int, dict[str, object]], bases: set[int], gone: list[int]) -> None:
    versions = [version(number, **changes.get(number, {})) for number in (4, 2, 1, 3)]
    found = not_kept(replace(RULE, **rule), versions, bases)  # type: ignore[arg-type]
    assert sorted(snapshot.id for snapshot in found) == gone


@given(
    keep=st.integers(1, 5),
    pins=st.lists(st.tuples(st.booleans(), st.sampled_from(["ssh", "auto"]), st.booleans()), max_size=9),
)
def test_what_is_kept_never_loses_the_last_and_pruning_again_does_nothing(
    keep: int, pins: list[tuple[bool, str, bool]]
) -> None:
    rule = replace(RULE, keep_last=keep)
    versions = [
        version(number, pinned=pinned, requested_via=via, pruned_at=1.0 if pruned else None)
        for number, (pinned, via, pruned) in enumerate(pins, 1)
    ]
    gone = not_kept(rule, versions, set())
    left = [snapshot for snapshot in versions if snapshot.pruned_at is None]
    assert not {snapshot.id for snapshot in gone} & {snapshot.id for snapshot in left[-keep:]}
    assert not any(snapshot.pinned or snapshot.requested_via == "ssh" for snapshot in gone)
    after = [replace(snapshot, pruned_at=2.0) if snapshot in gone else snapshot for snapshot in versions]
    assert not_kept(rule, after, set()) == []


def make(world: World, count: int) -> list[Snapshot]:
    """That many archived versions."""
    found = []
    for number in range(count):
        (world.rootfs / "root" / "file").write_text(str(number))
        found.append(world.approved(f"number {number}"))
        world.work()
    return [world.store.snapshot(snapshot.id) for snapshot in found]


def rules(world: World, **changes: object) -> None:
    world.store.set_challenge("als", actor="chief", **{"keep_last": 1, "keep_submitted": False, **changes})


def prune(world: World) -> list[int]:
    return [found.id for found in snapshots.prune(world.store, world.engine, world.archive, "als", actor="chief")]


def test_pruned_is_gone_and_its_record_says_so(world: World) -> None:
    one, two, three = make(world, 3)
    rules(world)
    assert [found.id for found in snapshots.due(world.store)] == [one.id, two.id]
    assert len(world.archive.list()) == 3
    assert prune(world) == [one.id, two.id]
    assert prune(world) == []
    [left] = world.archive.list()
    assert left.digest == three.manifest_digest
    assert set(world.our_images()) == {three.image_id}
    world.archive.collect()
    assert world.archive.verify().problems == ()
    kept = world.store.snapshot(one.id)
    assert (kept.state, kept.version, kept.message) == (SnapshotState.ARCHIVED, 1, "number 0")
    assert kept.pruned_at is not None
    assert abs(kept.pruned_at - time.time()) < 60
    with pytest.raises(NotFound, match=r"als/alice v1 was pruned on 20\d\d-.* record is kept"):
        world.store.version(world.id, 1)
    with pytest.raises(NotFound, match="was pruned"):
        world.store.pin_snapshot(one.id, True, actor="chief")
    events = [event for event in world.store.events() if event.kind == "snapshot.pruned"]
    assert [(event.actor, event.snapshot_id) for event in events] == [("chief", two.id), ("chief", one.id)]
    job = world.add_job(JobKind.RESTORE, one.id)
    world.work()
    assert "was pruned" in str(world.store.job(job.id).error)
    assert make(world, 1)[0].version == 4


def test_pinned_and_stood_on_versions_stay(world: World) -> None:
    one, two, three = make(world, 3)
    rules(world)
    world.store.pin_snapshot(one.id, True, actor="chief")
    world.add_job(JobKind.RESTORE, two.id)
    world.work()
    assert prune(world) == []
    world.store.pin_snapshot(one.id, False, actor="chief")
    assert prune(world) == [one.id]
    assert {found.digest for found in world.archive.list()} == {two.manifest_digest, three.manifest_digest}
    kinds = [event.kind for event in world.store.events()]
    assert {"snapshot.pinned", "snapshot.unpinned"} <= set(kinds)


def test_a_version_with_a_job_waiting_stays(world: World) -> None:
    one, _ = make(world, 2)
    rules(world)
    job = world.add_job(JobKind.RESTORE, one.id)
    assert job.state is JobState.QUEUED
    assert prune(world) == []
    with pytest.raises(Conflict, match="not done yet"):
        world.store.prune_snapshot(one.id, actor="chief")
    assert world.archive.has(one.manifest_digest or "")


def test_a_version_that_a_workspace_was_restored_to_meanwhile_stays(world: World) -> None:
    """It was due when it was looked at."""
    one, _ = make(world, 2)
    rules(world)
    assert [found.id for found in snapshots.due(world.store)] == [one.id]
    world.add_job(JobKind.RESTORE, one.id)
    world.work()
    with pytest.raises(Conflict, match="stands on"):
        world.store.prune_snapshot(one.id, actor="chief")
    assert world.store.snapshot(one.id).pruned_at is None


def test_an_image_that_a_later_workspace_of_that_name_has_entered_stays(world: World) -> None:
    one, _ = make(world, 2)
    adopted = {
        "image_ref": one.image_ref,
        "image_id": one.image_id,
        "manifest_digest": one.manifest_digest,
        "message": "again",
        "requested_by": "chief",
        "requested_at": 1.0,
    }
    other = world.store.add_workspace("als", "bob", ["alice"], actor="test")
    entered = world.store.adopt_version(other.id, 1, adopted, one.diff_ids, actor="chief")
    rules(world)
    assert prune(world) == [one.id]
    assert world.archive.has(str(entered.manifest_digest))


def test_a_pruned_version_is_not_pushed(world: World) -> None:
    one, _ = make(world, 2)
    rules(world)
    assert prune(world) == [one.id]
    world.registry = Registry("http://127.0.0.1:9/x", world.root / "keys")
    job = world.add_job(JobKind.PUSH, one.id)
    world.work()
    assert "was pruned" in str(world.store.job(job.id).error)


def test_the_image_of_a_container_stays_in_the_engine_until_it_is_free(world: World) -> None:
    one, _ = make(world, 2)
    world.add_job(JobKind.RESTORE, one.id)
    world.work()
    two = make(world, 1)[0]  # now the workspace stands on this one, its container on the first's image
    rules(world)
    assert one.id in prune(world)
    assert one.image_id in world.our_images()
    world.engine.remove(world.container)
    assert prune(world) == []
    assert set(world.our_images()) == {two.image_id}


def test_what_cannot_be_pinned_or_pruned(world: World) -> None:
    asked = world.request()
    with pytest.raises(Conflict, match="only a version can be pinned"):
        world.store.pin_snapshot(asked.id, True, actor="chief")
    world.store.cancel_job(world.store.jobs()[-1].id, actor="chief")
    with pytest.raises(Conflict, match="only an archived one"):
        world.store.prune_snapshot(asked.id, actor="chief")
    with pytest.raises(NotFound):
        snapshots.due(world.store, "none")
    for number in (0, -1, 10**9):
        with pytest.raises(InvalidInput):
            rules(world, keep_last=number)


@pytest.mark.slow
def test_killed_at_any_step_the_next_attempt_ends_it(tmp_path: Path) -> None:
    for at in range(30):
        with memory_world(tmp_path / str(at)) as world:
            _, _, three = make(world, 3)
            rules(world)
            fuse = Fuse(at)
            store = fuse.wrap(world.store, frozenset({"prune_snapshot"}))
            engine = fuse.wrap(world.engine, frozenset({"remove_image"}))
            archive = fuse.wrap(world.archive, frozenset({"remove"}))
            with suppress(Killed):
                snapshots.prune(store, engine, archive, actor="chief")
            for snapshot in world.store.snapshots():  # what is not pruned can be restored
                if snapshot.pruned_at is None:
                    assert world.archive.has(snapshot.manifest_digest or "")
            prune(world)
            assert [found.digest for found in world.archive.list()] == [three.manifest_digest]
            assert set(world.our_images()) == {three.image_id}
            pruned = [event for event in world.store.events() if event.kind == "snapshot.pruned"]
            assert len(pruned) == 2
        if not fuse.blown.is_set():
            assert fuse.calls == ["prune_snapshot"] * 2 + ["remove"] * 2 + ["remove_image"] * 2
            return
    pytest.fail("more steps than expected")


def test_what_a_challenge_was_frozen_with_is_kept(world: World) -> None:
    """It is what is judged, though no person asked for it. Of freezes that nobody set as closing, the last counts."""
    world.store.set_challenge("als", keep_last=1, actor="chief")
    for number in range(4):
        (world.rootfs / "root" / "work").write_text(f"{number}")
        closes_at = 1.0 if number == 1 else None
        world.store.begin_freeze("als", FreezeMode.COMMIT, actor="chief", closes_at=closes_at)
        world.work()
    (world.rootfs / "root" / "work").write_text("4")
    world.store.set_challenge("als", keep_submitted=False, actor="chief")
    world.approved()
    world.work()
    pruned = snapshots.prune(world.store, world.engine, world.archive, "als", actor="chief")
    assert [snapshot.version for snapshot in pruned] == [1, 3]
    with pytest.raises(Conflict, match="was frozen with it"):
        world.store.prune_snapshot(world.store.version(world.id, 4).id, actor="chief")
