"""The inspect step: what a snapshot would capture, kept with it for whoever decides."""

from __future__ import annotations

import time

from workspaces.engine.base import Engine, Progress
from workspaces.lifecycle import Lifecycle
from workspaces.model import ChangeReport, Snapshot, SnapshotState
from workspaces.names import amount
from workspaces.snapshots.common import source_name
from workspaces.snapshots.examining import examine
from workspaces.snapshots.layering import earlier
from workspaces.snapshots.review import review
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store

OPEN = (SnapshotState.REQUESTED, SnapshotState.APPROVED)


def inspect(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    snapshot_id: int,
    progress: Progress,
    shelf: Shelf | None = None,
) -> str:
    """List what changed in the workspace's container, with warnings. Raises NotFound, EngineError."""
    snapshot = store.snapshot(snapshot_id)
    if snapshot.state not in OPEN:
        return f"Snapshot {snapshot.id} is {snapshot.state}; nothing to look at."
    progress("Looking at what changed", None)
    report = measure(store, engine, lifecycle, snapshot, progress, shelf)
    store.set_changes(snapshot.id, report)
    paths = report.added + report.changed + report.removed
    return f"{paths} paths changed, {amount(report.bytes)}, {len(report.warnings)} warnings."


def measure(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    snapshot: Snapshot,
    progress: Progress,
    shelf: Shelf | None = None,
) -> ChangeReport:
    """What a commit now would capture: since the parent version, if `shelf` has what that needs, else since the image.

    Files that the snapshot's last report has seen are not read again. Raises NotFound, EngineError.
    """
    workspace = store.workspace(snapshot.workspace_id)
    challenge = store.challenge(workspace.challenge)
    name = lifecycle.container_name(workspace)
    container = engine.container(name)
    since, is_version = source_name(store, workspace, container)
    if container is None:
        return ChangeReport(time.time(), since, 0, 0, 0, 0, warnings=(f"{workspace.ref} has no container.",))
    source = engine.image(container.image_id)
    layers = len(source.diff_ids) + 1 if source else 0
    image = since
    parent = store.snapshot(workspace.parent_id) if workspace.parent_id is not None else None
    known = earlier(shelf, source, parent) if shelf and source else None
    if known is not None and parent is not None:
        since, is_version, layers = parent.image_ref or since, True, len(parent.diff_ids) + 1
    report = examine(
        engine,
        name,
        engine.changes(name, known),
        mounts=challenge.mounts,
        since=image,
        previous=store.changes(snapshot.id),
        cache=store.path.parent / "cache" / "secret-rules",
        progress=progress,
    )
    return review(report, since=since, layers=layers, mounts=challenge.mounts, since_is_version=is_version)
