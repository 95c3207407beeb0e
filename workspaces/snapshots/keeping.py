"""Versions that the program takes itself, for a job of its own: before a restore, and when a challenge is frozen.

changed since the last version? ─no─► nothing    ─yes─► snapshot, approved by who asked for the job ─► commit

The caller holds the workspace's lock and has stopped its container, so that nothing is written between this version
and what the caller does next. A repeated attempt of the job first ends what an earlier one took, and takes another when
somebody has worked there since.
"""

from __future__ import annotations

from workspaces.engine.base import Engine, Progress
from workspaces.errors import Conflict
from workspaces.lifecycle import Lifecycle
from workspaces.model import Job, Snapshot, SnapshotState
from workspaces.snapshots.committing import commit
from workspaces.snapshots.inspecting import changed
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store


def keep(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    job: Job,
    message: str,
    progress: Progress,
    shelf: Shelf | None = None,
    *,
    latest: bool = True,
) -> Snapshot | None:
    """A version of what the container has now; None when it has nothing that is in no version or image.

    Without `latest` it is what the job's first attempt found, though the container may have more by now.
    Raises Conflict when it failed for good, NotFound, NoSpace, EngineError, StoreError.
    """
    taken = store.taken_snapshot(job.id)
    if taken is not None:
        if taken.state is SnapshotState.FAILED:  # killed between writing that and the job's end
            raise Conflict(taken.reason or "It could not be committed.")
        commit(store, engine, lifecycle, taken.id, progress, shelf)
        # What it captured may be old: people could work on while nothing was done, or the engine was away.
        if not (latest and changed(store, engine, lifecycle, job.workspace_id, shelf, taken.id)):
            return store.snapshot(taken.id)
    else:
        progress("Looking at what changed", None)
        if not changed(store, engine, lifecycle, job.workspace_id, shelf):
            return None
    taken = store.take_snapshot(job.id, message)
    commit(store, engine, lifecycle, taken.id, progress, shelf)
    return store.snapshot(taken.id)
