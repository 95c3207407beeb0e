"""The restore step: a workspace's container is replaced by one made from a version, of its own or of another.

    what is there now ─► stopped ─► a version of its own, unless nothing changed or it is to be discarded
    image in the engine? ─no─► archive's tar, else the registry's ─► engine ─► checked
      ─► lifecycle replaces the container

A version that only the archive knows, such as one that came from another host, is restored by its name there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from workspaces.archive import Archive
from workspaces.archive.sealing import NoIdentity
from workspaces.engine.base import Engine, ImageInfo, Progress
from workspaces.errors import Conflict, EngineError, NotFound, WorkspacesError
from workspaces.lifecycle import Lifecycle
from workspaces.model import Job, Snapshot, SnapshotState
from workspaces.registry import Registry
from workspaces.snapshots.common import LOCK_SECONDS, check_room
from workspaces.snapshots.keeping import keep
from workspaces.snapshots.pushing import pull
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store, check_kept


@dataclass(frozen=True, slots=True)
class _Version:
    """What is restored: `ref` such as als/alice:v3, `snapshot` None when only the archive knows it."""

    ref: str
    image_id: str
    diff_ids: tuple[str, ...]
    manifest_digest: str | None
    size: int
    snapshot: Snapshot | None = None


def restore(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    archive: Archive,
    job: Job,
    progress: Progress,
    shelf: Shelf | None = None,
    registry: Registry | None = None,
) -> str:
    """Put the job's workspace to its snapshot, or to what its argument `from` names in the archive.

    What is there is kept as a version first, unless the argument `discard` is given. It counts from `job.created_at`:
    a repeated attempt keeps the container that an earlier one made after it. Raises Conflict when the snapshot is not
    committed, NotFound when it was pruned or its image is nowhere, Corrupt, NoSpace, EngineError; the workspace then
    has what it had.
    """
    version = _named(archive, job.arguments["from"]) if "from" in job.arguments else _known(store, job)
    reference = _brought(engine, archive, registry, version, progress)
    progress("Waiting for the workspace", None)
    with lifecycle.locked(job.workspace_id, LOCK_SECONDS):
        workspace = store.workspace(job.workspace_id)
        kept = None
        if lifecycle.made_since(workspace, job.created_at) != reference and "discard" not in job.arguments:
            kept = _keep(store, engine, lifecycle, job, version.ref, progress, shelf)
        else:
            kept = store.taken_snapshot(job.id)
        progress(f"Replacing the container by {version.ref}", 0.8)
        parent = version.snapshot.id if version.snapshot else None
        lifecycle.replace(job.workspace_id, reference, parent, progress, since=job.created_at)
    own, _, number = version.ref.rpartition(":")
    said = f"{job.workspace} is {number} again." if own == job.workspace else f"{job.workspace} is {version.ref} now."
    return f"{said} What was there before is v{kept.version}." if kept else said


def brought(engine: Engine, archive: Archive, registry: Registry | None, snapshot: Snapshot, progress: Progress) -> str:
    """The reference of a committed snapshot's image, which is in the engine now. Raises as `restore`."""
    return _brought(engine, archive, registry, _version(snapshot), progress)


def _known(store: Store, job: Job) -> _Version:
    if job.snapshot_id is None:
        raise Conflict(f"Job {job.id} ({job.kind}) names no snapshot.")
    return _version(store.snapshot(job.snapshot_id))


def _version(snapshot: Snapshot) -> _Version:
    if snapshot.state not in (SnapshotState.COMMITTED, SnapshotState.ARCHIVED) or not snapshot.image_id:
        raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; only a committed one can be restored.")
    check_kept(snapshot)
    ref = snapshot.image_ref or snapshot.image_id
    size = snapshot.size or 0
    return _Version(ref, snapshot.image_id, snapshot.diff_ids, snapshot.manifest_digest, size, snapshot)


def _named(archive: Archive, name: str) -> _Version:
    found = archive.find(name)
    return _Version(found.ref, found.config_digest, found.diff_ids, found.digest, found.size)


def _keep(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    job: Job,
    ref: str,
    progress: Progress,
    shelf: Shelf | None,
) -> Snapshot | None:
    """What is there, as a version; the container is left stopped. It goes on when that fails."""
    if store.taken_snapshot(job.id) is None:
        store.check_nothing_to_lose(job.workspace_id)
    ran = lifecycle.running(store.workspace(job.workspace_id)) is not None
    lifecycle.stop(job.workspace_id, progress, why=f"being restored to {ref}")
    try:
        return keep(store, engine, lifecycle, job, f"Before it was restored to {ref}", progress, shelf)
    except Exception:
        if ran:
            with suppress(WorkspacesError):  # what went wrong first is what counts; a login starts it too
                lifecycle.ensure_running(job.workspace_id, progress)
        raise


def _brought(engine: Engine, archive: Archive, registry: Registry | None, version: _Version, progress: Progress) -> str:
    image = engine.image(version.image_id) or _load(engine, archive, registry, version, progress)
    if image.diff_ids != version.diff_ids:
        raise EngineError(f"The engine's {version.ref} has other layers than were committed.")
    return _tagged(engine, version, image)


def _load(
    engine: Engine, archive: Archive, registry: Registry | None, version: _Version, progress: Progress
) -> ImageInfo:
    """Bring the image back. The engine must know it by the very id that was committed."""
    source, tar = _tar(archive, registry, version)
    progress(f"Loading {version.ref} from the {source}", 0.1)
    check_room(engine.info().data_root, version.size, f"Loading {version.ref}")
    engine.load(tar)
    image = engine.image(version.image_id)
    if image is None:
        raise EngineError(f"The engine loaded {version.ref} from the {source}, but as another image.")
    return image


def _tar(archive: Archive, registry: Registry | None, version: _Version) -> tuple[str, Iterator[bytes]]:
    """Where the image is, and its bytes. Raises NotFound when it is nowhere."""
    if version.manifest_digest is None:
        raise NotFound(f"{version.ref} is neither in the engine nor in the archive.")
    snapshot = version.snapshot
    if registry is None or snapshot is None or not snapshot.registry_ref:
        return "archive", archive.docker_tar(version.manifest_digest)
    with suppress(NoIdentity):
        if archive.has(version.manifest_digest):
            return "archive", archive.docker_tar(version.manifest_digest)
    return "registry", pull(registry, snapshot)


def _tagged(engine: Engine, version: _Version, image: ImageInfo) -> str:
    """The version's name, given to the image unless another has it; then its id serves."""
    holder = engine.image(version.ref)
    if holder is None:
        engine.tag(image.id, version.ref)
        return version.ref
    return version.ref if holder.id == image.id else image.id
