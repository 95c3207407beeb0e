"""The restore step: a workspace's container is replaced by one made from a version.

image in the engine? ─no─► archive's tar, else the registry's ─► engine ─► checked ─► lifecycle replaces the container
"""

from __future__ import annotations

from collections.abc import Iterator

from workspaces.archive import Archive
from workspaces.engine.base import Engine, ImageInfo, Progress
from workspaces.errors import Conflict, EngineError, NotFound
from workspaces.lifecycle import Lifecycle
from workspaces.model import Snapshot, SnapshotState
from workspaces.registry import Registry
from workspaces.snapshots.common import check_room
from workspaces.snapshots.pushing import pull
from workspaces.store import Store


def restore(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    archive: Archive,
    snapshot_id: int,
    progress: Progress,
    *,
    since: float,
    registry: Registry | None = None,
) -> str:
    """Put a workspace back to a committed version; what is in no version is lost.

    `since` is when that was asked for, in seconds since the epoch: a repeated attempt keeps the container that an
    earlier one made after it. Raises Conflict when the snapshot is not committed, NotFound when its image is nowhere,
    Corrupt, NoSpace, EngineError.
    """
    snapshot = store.snapshot(snapshot_id)
    if snapshot.state not in (SnapshotState.COMMITTED, SnapshotState.ARCHIVED) or not snapshot.image_id:
        raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; only a committed one can be restored.")
    image = engine.image(snapshot.image_id) or _load(engine, archive, registry, snapshot, snapshot.image_id, progress)
    if image.diff_ids != snapshot.diff_ids:
        raise EngineError(f"The engine's {snapshot.image_ref} has other layers than were committed.")
    reference = _named(engine, snapshot, image)
    progress(f"Replacing the container by {snapshot.image_ref}", 0.8)
    lifecycle.replace(snapshot.workspace_id, reference, snapshot.id, progress, since=since)
    return f"{snapshot.workspace} is v{snapshot.version} again."


def _load(
    engine: Engine,
    archive: Archive,
    registry: Registry | None,
    snapshot: Snapshot,
    image_id: str,
    progress: Progress,
) -> ImageInfo:
    """Bring the image back. The engine must know it by the very id that was committed."""
    source, tar = _tar(archive, registry, snapshot)
    progress(f"Loading {snapshot.image_ref} from the {source}", 0.1)
    check_room(engine.info().data_root, snapshot.size or 0, f"Loading {snapshot.image_ref}")
    engine.load(tar)
    image = engine.image(image_id)
    if image is None:
        raise EngineError(f"The engine loaded {snapshot.image_ref} from the {source}, but as another image.")
    return image


def _tar(archive: Archive, registry: Registry | None, snapshot: Snapshot) -> tuple[str, Iterator[bytes]]:
    """Where the image is, and its bytes. Raises NotFound when it is nowhere."""
    if snapshot.manifest_digest is None:
        raise NotFound(f"{snapshot.image_ref} is neither in the engine nor in the archive.")
    if registry is None or snapshot.registry_ref is None or archive.has(snapshot.manifest_digest):
        return "archive", archive.docker_tar(snapshot.manifest_digest)
    return "registry", pull(registry, snapshot)


def _named(engine: Engine, snapshot: Snapshot, image: ImageInfo) -> str:
    """The version's name, given to the image unless another has it; then its id serves."""
    reference = snapshot.image_ref or image.id
    holder = engine.image(reference)
    if holder is None:
        engine.tag(image.id, reference)
        return reference
    return reference if holder.id == image.id else image.id
