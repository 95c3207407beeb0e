"""The inspect step: what a snapshot would capture, kept with it for whoever decides; and the same without a request."""

from __future__ import annotations

import time

from workspaces.engine.base import Earlier, Engine, ImageInfo, Progress
from workspaces.lifecycle import Lifecycle
from workspaces.model import ChangeReport, Job, JobKind, Snapshot, SnapshotState
from workspaces.names import amount
from workspaces.snapshots.common import source_name
from workspaces.snapshots.examining import examine
from workspaces.snapshots.layering import earlier
from workspaces.snapshots.review import review
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store, found_changes

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
    return _said(report)


def measure(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    snapshot: Snapshot,
    progress: Progress,
    shelf: Shelf | None = None,
) -> ChangeReport:
    """What a commit now would capture: since the parent version, if `shelf` has what that needs, else since the image.

    Files that the snapshot's last report has seen are not read again, and none of one that the program takes by itself.
    Raises NotFound, EngineError.
    """
    previous, decided = store.changes(snapshot.id), snapshot.requested_via != "auto"
    return _measured(store, engine, lifecycle, snapshot.workspace_id, progress, shelf, previous, decided)


def look(
    store: Store, engine: Engine, lifecycle: Lifecycle, job: Job, progress: Progress, shelf: Shelf | None = None
) -> str:
    """List what a snapshot would capture now, kept as what the job found. Raises NotFound, EngineError."""
    about = str(job.workspace_id)
    progress("Looking at what changed", None)
    last = store.latest_report(JobKind.LOOK, about)
    previous = found_changes(last) if last else None
    report = _measured(store, engine, lifecycle, job.workspace_id, progress, shelf, previous, True)
    store.set_look(job.id, about, report)
    return _said(report)


def _said(report: ChangeReport) -> str:
    paths = "Countless" if report.countless else f"{report.paths}"
    return f"{paths} paths changed, {amount(report.bytes)}, {len(report.warnings)} warnings."


def _measured(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    workspace_id: int,
    progress: Progress,
    shelf: Shelf | None,
    previous: ChangeReport | None,
    decided: bool,
) -> ChangeReport:
    workspace = store.workspace(workspace_id)
    mounts = store.challenge(workspace.challenge).mounts
    name = lifecycle.container_name(workspace)
    container = engine.container(name)
    image, is_version = source_name(store, workspace, container)
    if container is None:
        return ChangeReport(time.time(), image, 0, 0, 0, 0, warnings=(f"{workspace.ref} has no container.",))
    source = engine.image(container.image_id)
    parent, known = _earlier(store, workspace.parent_id, source, shelf)
    report = examine(
        engine,
        name,
        engine.changes(name, known),
        mounts=mounts,
        since=image,
        previous=previous,
        cache=store.path.parent / "cache" / "secret-rules",
        progress=progress,
        decided=decided,
    )
    if parent is not None:
        since, layers = parent.image_ref or image, len(parent.diff_ids) + 1
        return review(report, since=since, layers=layers, mounts=mounts, since_is_version=True)
    layers = len(source.diff_ids) + 1 if source else 0
    return review(report, since=image, layers=layers, mounts=mounts, since_is_version=is_version)


def changed(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    workspace_id: int,
    shelf: Shelf | None = None,
    since: int | None = None,
) -> bool:
    """Whether the container has anything that its last version, or its image, has not. Raises NotFound, EngineError.

    `since` is the id of a snapshot that counts in place of the last version.
    """
    workspace = store.workspace(workspace_id)
    name = lifecycle.container_name(workspace)
    container = engine.container(name)
    if container is None:
        return False
    _, known = _earlier(store, since or workspace.parent_id, engine.image(container.image_id), shelf)
    report = engine.changes(name, known)
    return not report.is_nothing


def _earlier(
    store: Store, parent_id: int | None, source: ImageInfo | None, shelf: Shelf | None
) -> tuple[Snapshot | None, dict[str, Earlier] | None]:
    """The parent version and where it differs from the container's image; None where changes count against that."""
    if shelf is None or source is None or parent_id is None:
        return None, None
    parent = store.snapshot(parent_id)
    known = earlier(shelf, source, parent)
    return (parent, known) if known is not None else (None, None)
