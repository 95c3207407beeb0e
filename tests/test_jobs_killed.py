"""The worker killed after every single step: the next one ends the work, once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Fuse, Killed, Wrapped
from tests.support.registries import FakeRegistry, MemoryRegistry
from tests.support.savetar import sha256
from tests.support.worlds import IMAGE, OPEN, World, memory_world
from workspaces import jobs, snapshots
from workspaces.model import FreezeMode, Job, JobKind, JobState, Sbom, SnapshotState
from workspaces.provenance import BOM_TYPES, SNAPSHOT_TYPE
from workspaces.registry import Client, Registry
from workspaces.snapshots import layering, sboms

KILLED = "ignore::pytest.PytestUnhandledThreadExceptionWarning"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings(KILLED)]

STORE = frozenset(
    {
        "claim_job", "set_changes", "begin_commit", "finish_commit", "finish_archive", "finish_job",
        "set_workspace_image", "fail_snapshot", "fail_job", "stop_job", "take_snapshot", "finish_frozen",
        "set_read_only", "set_captured", "set_paused", "add_notice", "begin_due_freezes", "finish_push", "finish_sbom",
        "set_configuration",
    }
)  # fmt: skip
ENGINE = frozenset(
    {
        "commit",
        "reconfigure",
        "assemble",
        "untag",
        "remove_image",
        "tag",
        "load",
        "ensure_container",
        "start",
        "stop",
        "remove",
    }
)
MOST = 120  # steps; far more than there are


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.005)


def run_until_killed(world: World, fuse: Fuse, engine: Any = None, done: Callable[[], bool] = lambda: True) -> None:
    """A worker whose process ends when the fuse blows; or that is `done` and has nothing left to do."""
    store, engine = fuse.wrap(world.store, STORE), fuse.wrap(engine or world.engine, ENGINE)
    archive = fuse.wrap(world.archive, frozenset({"put", "attach"}))
    worker = world.worker(store, engine, archive, fused(world, fuse))
    stop = threading.Event()

    def run() -> None:
        with suppress(Killed):
            worker.run(stop)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    world.wait(lambda: fuse.blown.is_set() or (done() and not world.store.jobs(states=OPEN)))
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    world.wait(lambda: not worker._alive())
    worker._lock.close()  # as the kernel does for a dead process


def fused(world: World, fuse: Fuse) -> Any:
    """The world's registry, with the fuse at every request that changes something there."""
    if world.registry is None:
        return None
    registry = world.registry

    class Fused(Registry):
        @contextmanager
        def connect(self, repository: str, others: tuple[str, ...] = ()) -> Iterator[Client]:
            with registry.connect(repository, others) as client:
                yield fuse.wrap(client, frozenset({"push_blob", "put_manifest"}))

    return Fused(registry.origin, world.root / "keys")


def check(world: World, snapshot_id: int, done: tuple[JobState, ...] = (JobState.DONE,)) -> None:
    """One version, archived, and nothing else."""
    found = world.store.snapshot(snapshot_id)
    assert (found.state, found.version) == (SnapshotState.ARCHIVED, 1), world.describe()
    assert world.our_images() == {found.image_id: ("als/alice:v1",)}
    [archived] = world.archive.list()
    assert (archived.digest, archived.config_digest) == (found.manifest_digest, found.image_id)
    assert archived.diff_ids == found.diff_ids
    assert not list((world.archive.root / ".tmp").iterdir())
    assert {job.state for job in world.store.jobs()} <= set(done), world.describe()
    assert world.workspace.parent_id == snapshot_id
    verdict = snapshots.check_version(world.store, world.archive, world.signer.public, found, lambda *_: None)
    assert verdict.problems == ()


def worlds(tmp_path: Path, least: int = 5) -> Iterator[tuple[World, Fuse]]:
    """A fresh world for each step at which to kill, until one is done before it is killed."""
    for at in range(MOST):
        with memory_world(tmp_path / str(at)) as world:
            fuse = Fuse(at)
            yield world, fuse
            if not fuse.blown.is_set():
                assert at >= least, fuse.calls
                return
    pytest.fail(f"more than {MOST} steps")


@pytest.mark.slow
def test_while_it_commits_and_archives(tmp_path: Path) -> None:
    for world, fuse in worlds(tmp_path):
        (world.rootfs / "root" / "one").write_text("1")
        snapshot = world.approved()
        run_until_killed(world, fuse)
        world.work()
        check(world, snapshot.id)
        assert (world.rootfs / "root" / "one").read_text() == "1"
    assert {"begin_commit", "commit", "reconfigure", "finish_commit", "untag", "put", "finish_archive"} <= set(
        fuse.calls
    )


@pytest.mark.slow
@pytest.mark.parametrize("merged", [False, True])
def test_while_it_commits_a_second_version(tmp_path: Path, merged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands on the first one's layers, or on the base image's, and is no other for having been interrupted."""
    if merged:
        monkeypatch.setattr(layering, "FLATTEN_LAYERS", 3)
    for world, fuse in worlds(tmp_path):
        (world.rootfs / "root" / "one").write_text("1")
        first = world.approved()
        world.work()
        (world.rootfs / "root" / "two").write_text("2")
        second = world.approved()
        run_until_killed(world, fuse)
        world.work()
        versions = [world.store.snapshot(snapshot.id) for snapshot in (first, second)]
        assert [v.state for v in versions] == [SnapshotState.ARCHIVED] * 2, world.describe()
        base = world.engine.image(IMAGE)
        assert base is not None
        assert versions[1].diff_ids[:-1] == (base.diff_ids if merged else versions[0].diff_ids)
        assert world.our_images() == {v.image_id: (f"als/alice:v{v.version}",) for v in versions}
        assert len(world.archive.list()) == 2
        assert {path.suffix for path in (world.root / "layers").iterdir()} == {".index"}
        assert {job.state for job in world.store.jobs()} == {JobState.DONE}, world.describe()
    assert {"commit", "assemble", "finish_commit", "untag", "put"} <= set(fuse.calls)


@pytest.mark.long
def test_while_it_signs_lists_packages_and_pushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both documents and the version end in archive and registry, once, and verified."""
    monkeypatch.setattr(sboms, "find_program", lambda: Path("/bin/syft"))
    monkeypatch.setattr(sboms, "_run", lambda *_: {"spdxVersion": "SPDX-2.3", "packages": []})
    for world, fuse in worlds(tmp_path):
        memory = MemoryRegistry()
        with FakeRegistry(memory).serving() as fake:
            world.registry = Registry(fake.url, world.root / "keys")
            world.store.set_challenge("als", sbom=Sbom.SPDX, actor="test")
            (world.rootfs / "root" / "one").write_text("1")
            snapshot = world.approved()
            run_until_killed(world, fuse)
            world.work()
            check(world, snapshot.id)
        done = world.store.snapshot(snapshot.id)
        digest = str(done.manifest_digest)
        assert done.registry_ref == f"{world.registry.host}/als/alice:v1"
        assert memory.manifests["als/alice", "v1"] == world.archive.manifest_bytes(digest)
        attached = world.archive.attached(digest)
        assert attached.keys() == {SNAPSHOT_TYPE, BOM_TYPES[Sbom.SPDX]}
        listed = json.loads(memory.manifests["als/alice", digest.replace(":", "-")])["manifests"]
        assert {entry["digest"] for entry in listed} == set(attached.values())
        for manifest in (digest, *attached.values()):
            for blob in world.archive.blobs_of(manifest):
                assert sha256(memory.blobs["als/alice", blob.digest]) == blob.digest
        assert len(world.store.events(kind="snapshot.pushed")) == 1
    assert {"put", "attach", "finish_archive", "finish_sbom", "push_blob", "put_manifest", "finish_push"} <= set(
        fuse.calls
    )


@pytest.mark.slow
def test_while_it_restores_from_the_archive(tmp_path: Path) -> None:
    for world, fuse in worlds(tmp_path):
        (world.rootfs / "root" / "one").write_text("1")
        snapshot = world.approved()
        world.work()
        (world.rootfs / "root" / "one").write_text("2")
        world.engine.remove_image(world.store.snapshot(snapshot.id).image_id or "")
        world.add_job(JobKind.RESTORE, snapshot.id, {"discard": "yes"})
        run_until_killed(world, fuse)
        world.work()
        check(world, snapshot.id)
        assert world.workspace.image == "als/alice:v1"
        assert (world.rootfs / "root" / "one").read_text() == "1"
        assert len(world.engine.containers({})) == 1
    assert {"load", "tag", "remove", "ensure_container", "start"} <= set(fuse.calls)


@pytest.mark.slow
def test_while_it_restores_and_keeps_what_was_there(tmp_path: Path) -> None:
    for world, fuse in worlds(tmp_path):
        (world.rootfs / "root" / "one").write_text("1")
        first = world.approved()
        world.work()
        (world.rootfs / "root" / "one").write_text("2")
        world.lifecycle.ensure_running(world.id)
        world.add_job(JobKind.RESTORE, first.id)
        run_until_killed(world, fuse)
        world.work()
        assert (world.rootfs / "root" / "one").read_text() == "1"
        kept, done = world.store.snapshots(world.id)
        assert (kept.version, kept.state, done.version) == (2, SnapshotState.ARCHIVED, 1), world.describe()
        assert world.workspace.parent_id == first.id
        assert set(world.our_images()) == {kept.image_id, done.image_id}
        assert {job.state for job in world.store.jobs()} == {JobState.DONE}, world.describe()
        world.add_job(JobKind.RESTORE, kept.id, {"discard": "yes"})
        world.work()
        assert (world.rootfs / "root" / "one").read_text() == "2"
    assert {"stop", "take_snapshot", "commit", "finish_commit", "remove", "ensure_container"} <= set(fuse.calls)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(FreezeMode))
def test_while_it_freezes_at_the_closing_time(tmp_path: Path, mode: FreezeMode) -> None:
    for world, fuse in worlds(tmp_path):
        (world.rootfs / "root" / "one").write_text("1")
        world.lifecycle.ensure_running(world.id)
        world.store.set_challenge("als", at_close=mode, closes_at=time.time(), actor="chief")

        def frozen(world: World = world) -> bool:
            return any(freeze.ended_at for freeze in world.store.freezes("als"))

        run_until_killed(world, fuse, done=frozen)
        with world.working():
            world.wait(frozen)
            world.wait(lambda world=world: not world.store.jobs(states=OPEN))  # type: ignore[misc]
        [freeze] = world.store.freezes("als")
        [row] = world.store.frozen(freeze.id)
        assert (row.state, row.version) == ("committed", 1), world.describe()
        done = world.store.snapshot(row.snapshot_id or 0)
        assert done.state is SnapshotState.ARCHIVED
        assert world.our_images() == {done.image_id: ("als/alice:v1",)}
        assert {job.state for job in world.store.jobs()} == {JobState.DONE}, world.describe()
        found = world.engine.container(world.container)
        assert world.workspace.read_only is (mode is FreezeMode.READ_ONLY)
        if mode is FreezeMode.READ_ONLY:
            assert found is None
            assert world.workspace.image == "als/alice:v1"
        else:
            assert found is not None
            assert found.running is (mode is FreezeMode.COMMIT)
            assert (world.rootfs / "root" / "one").read_text() == "1"
    assert {"begin_due_freezes", "take_snapshot", "finish_frozen"} <= set(fuse.calls)


@pytest.mark.slow
def test_while_it_thaws(tmp_path: Path) -> None:
    for world, fuse in worlds(tmp_path, 4):
        (world.rootfs / "root" / "one").write_text("1")
        world.store.begin_freeze("als", FreezeMode.READ_ONLY, actor="chief")
        world.work()
        world.lifecycle.ensure_running(world.id)
        world.store.thaw("als", actor="chief")
        run_until_killed(world, fuse)
        world.work()
        assert not world.workspace.read_only
        assert world.engine.container(world.container) is None
        assert (world.rootfs / "root" / "one").read_text() == "1"
    assert {"set_read_only", "remove"} <= set(fuse.calls)


@pytest.mark.slow
def test_while_it_resets(tmp_path: Path) -> None:
    """What the user does after the container was deleted is not deleted as well."""
    for world, fuse in worlds(tmp_path, 4):
        world.store.set_workspace_image(world.id, IMAGE, None)
        world.lifecycle.ensure_running(world.id)
        mine = world.rootfs / "root" / "mine"
        mine.write_text("old")
        world.add_job(JobKind.RESET)
        run_until_killed(world, fuse)
        again = world.engine.container(world.container) is None
        if again:
            world.lifecycle.ensure_running(world.id)
            mine.write_text("new")
        world.work()
        assert [job.state for job in world.store.jobs()] == [JobState.DONE], world.describe()
        assert world.workspace.image is None
        assert (world.engine.container(world.container) is not None) is again
        assert not again or mine.read_text() == "new"
    assert {"set_workspace_image", "remove", "finish_job"} <= set(fuse.calls)


@pytest.mark.slow
def test_while_it_fails(tmp_path: Path) -> None:
    """No container: the snapshot fails, with its reason, and can be retried."""
    for world, fuse in worlds(tmp_path):
        snapshot = world.approved()
        world.store.cancel_job(world.store.jobs()[-1].id, actor="chief")  # of its inspection
        run_until_killed(world, fuse)
        world.work()
        failed = world.store.snapshot(snapshot.id)
        assert failed.state is SnapshotState.FAILED
        assert "has no container" in str(failed.reason)
        assert len(world.store.jobs(states=[JobState.FAILED])) == 1, world.describe()
        (world.rootfs / "root" / "one").write_text("1")
        world.store.retry_snapshot(snapshot.id, actor="chief")
        world.work()
        assert world.store.snapshot(snapshot.id).version == 1
        assert world.our_images() == {world.store.snapshot(snapshot.id).image_id: ("als/alice:v1",)}


@pytest.mark.slow
def test_while_it_is_cancelled(tmp_path: Path) -> None:
    """Cancelled, with nothing left of it, and what a retry makes is one version."""
    for world, fuse in worlds(tmp_path, 3):
        (world.rootfs / "root" / "one").write_text("1")
        snapshot = world.approved()
        [job] = [job for job in world.store.jobs() if job.kind is JobKind.COMMIT]
        for other in world.store.jobs(states=OPEN):
            if other.id != job.id:
                world.store.cancel_job(other.id, actor="chief")

        def commit(name: str, call: Callable[[], Any], world: World = world, job: Job = job) -> Any:
            made = call()
            if name == "commit" and world.store.job(job.id).cancelled_by is None:
                world.store.cancel_job(job.id, actor="bob")
                threading.Event().wait(0.05)  # for the worker to hear of it
            return made

        run_until_killed(world, fuse, Wrapped(world.engine, commit))
        world.work()
        done = world.store.job(job.id)
        if done.state is JobState.CANCELLED:
            assert world.store.snapshot(snapshot.id).reason == "Cancelled by bob.", world.describe()
            assert world.our_images() == {}
            world.store.retry_job(job.id, actor="chief")
            world.work()
        check(world, snapshot.id, done=(JobState.DONE, JobState.CANCELLED))
    assert {"commit", "fail_snapshot", "stop_job"} <= set(fuse.calls)
