"""One workspace is frozen, with its challenge or by itself, as a job that can be repeated after a kill at any moment.

    commit:     container ─► version, if anything changed
    stop:       container stopped ─► version ─► it stays stopped, since the gateway refuses logins
    read-only:  container stopped ─► version ─► container deleted, and made from that version, read-only, at a login
    by itself:  read-only
    thaw:       read-only container deleted; the next login makes one that can be written

Stopped first, since what somebody writes after the commit would be in no version and yet be seen. What fails leaves
the container stopped and whole: the job can be retried.
"""

from __future__ import annotations

from workspaces.archive import Archive
from workspaces.engine.base import Engine, Progress
from workspaces.errors import Conflict
from workspaces.lifecycle import Lifecycle
from workspaces.model import Freeze, FreezeMode, FrozenState, Job, Snapshot
from workspaces.registry import Registry
from workspaces.snapshots.common import LOCK_SECONDS
from workspaces.snapshots.keeping import keep
from workspaces.snapshots.restoring import brought
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store


def freeze(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    archive: Archive,
    job: Job,
    progress: Progress,
    shelf: Shelf | None = None,
    registry: Registry | None = None,
) -> str:
    """Commit and settle one workspace; without `freeze` in its arguments it is made read-only by itself.

    Raises Conflict, NotFound, NoSpace, Corrupt, EngineError, StoreError.
    """
    found = store.freeze(int(job.arguments["freeze"])) if "freeze" in job.arguments else None
    mode = found.mode if found else FreezeMode.READ_ONLY
    if found and found.thawed_at is not None:
        raise Conflict(f"The challenge {found.challenge} was thawed first.", "Freeze it again, if it is to be frozen.")
    progress("Waiting for the workspace", None)
    with lifecycle.locked(job.workspace_id, LOCK_SECONDS):
        if mode is not FreezeMode.COMMIT:
            with_it = "with its challenge " if found else ""
            lifecycle.stop(job.workspace_id, progress, why=f"frozen {with_it}by the organisers")
        untouched = _untouched(store, engine, lifecycle, job.workspace_id)
        message = _message(found, job)
        stands = mode is not FreezeMode.COMMIT  # else people go on, after what is to be kept
        version = keep(store, engine, lifecycle, job, message, progress, shelf, latest=stands)
        state = FrozenState.COMMITTED
        if version is None:
            parent = store.workspace(job.workspace_id).parent_id
            version = store.snapshot(parent) if parent is not None else None
            state = FrozenState.NEVER_STARTED if untouched and version is None else FrozenState.UNCHANGED
        if mode is FreezeMode.READ_ONLY:
            _seal(engine, lifecycle, archive, registry, job.workspace_id, version, progress)
        said = _said(state, version, mode)
        if found:
            store.finish_frozen(found.id, job.workspace_id, state, version.id if version else None, said)
    return f"{job.workspace}: {said}"


def thaw(lifecycle: Lifecycle, job: Job, progress: Progress) -> str:
    """Let one workspace be written again. Raises Conflict, NotFound, EngineError, StoreError."""
    lifecycle.unseal(job.workspace_id, progress)
    return f"{job.workspace} can be written again from the next login on."


def _untouched(store: Store, engine: Engine, lifecycle: Lifecycle, workspace_id: int) -> bool:
    workspace = store.workspace(workspace_id)
    no_container = engine.container(lifecycle.container_name(workspace)) is None
    return no_container and workspace.last_login_at is None


def _seal(
    engine: Engine,
    lifecycle: Lifecycle,
    archive: Archive,
    registry: Registry | None,
    workspace_id: int,
    version: Snapshot | None,
    progress: Progress,
) -> None:
    """Without any version there is nothing in the container that its image has not."""
    reference = brought(engine, archive, registry, version, progress) if version is not None else None
    lifecycle.seal(workspace_id, reference, version.id if version else None, progress)


def _message(found: Freeze | None, job: Job) -> str:
    if found is None:
        return f"The state of {job.workspace} when it was frozen"
    when = "when it was frozen" if found.closes_at is None else "when it closed"
    return f"The state of {found.challenge} {when}"


def _said(state: FrozenState, version: Snapshot | None, mode: FreezeMode) -> str:
    said = {
        FrozenState.NEVER_STARTED: "nobody has ever worked in it",
        FrozenState.UNCHANGED: f"nothing has changed since {f'v{version.version}' if version else 'its image'}",
    }.get(state) or f"committed as v{version.version if version else ''}"
    then = {FreezeMode.STOP: "; it is stopped", FreezeMode.READ_ONLY: "; it can be read, and not changed"}.get(mode, "")
    return f"{said}{then}."
