"""What the worker does for a job of each kind; the answer is the sentence that the job ends with.

    worker ──► Handlers.by_kind()[job.kind](job, progress) ──► lifecycle, snapshots, chores ──► "als/alice runs."

Each can be repeated after a kill at any moment, without harm to what people did since the first attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from workspaces import chores, snapshots
from workspaces.archive import Archive
from workspaces.engine.base import Engine, Progress
from workspaces.errors import Conflict, NotFound
from workspaces.lifecycle import ADMINISTRATOR, Lifecycle
from workspaces.model import Job, JobKind, SnapshotState
from workspaces.names import amount
from workspaces.provenance import Signer
from workspaces.registry import Registry
from workspaces.snapshots import Shelf
from workspaces.store import Store

Handler = Callable[[Job, Progress], str]


class Handlers:
    """`signer` signs what is archived, which then goes to `registry`, if there is one."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        lifecycle: Lifecycle,
        archive: Archive,
        shelf: Shelf,
        signer: Signer,
        registry: Registry | None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._lifecycle = lifecycle
        self._archive = archive
        self._shelf = shelf
        self._signer = signer
        self._registry = registry

    def by_kind(self) -> dict[JobKind, Handler]:
        return {
            JobKind.INSPECT: self._inspect,
            JobKind.COMMIT: self._commit,
            JobKind.ARCHIVE: self._archive_version,
            JobKind.PUSH: self._push,
            JobKind.SBOM: self._list_packages,
            JobKind.RESTORE: self._restore,
            JobKind.START: self._start,
            JobKind.STOP: self._stop,
            JobKind.RESTART: self._restart,
            JobKind.RESET: self._reset,
            JobKind.REMOVE: self._remove,
            JobKind.FREEZE: self._freeze,
            JobKind.THAW: self._thaw,
            JobKind.LIMITS: self._limit,
            JobKind.LOOK: self._look,
            JobKind.DIFF: self._differ,
            JobKind.VERIFY: lambda job, progress: chores.verify(self._store, self._archive, job, progress),
            JobKind.GC: lambda job, progress: chores.collect(self._store, self._archive, job, progress),
            JobKind.USAGE: lambda job, progress: chores.usage(self._store, self._archive, job, progress),
            JobKind.PRUNE: lambda job, progress: chores.prune(self._store, self._engine, self._archive, job, progress),
            JobKind.IMAGES: lambda job, progress: chores.look_at_images(self._store, self._engine, job, progress),
        }

    def _inspect(self, job: Job, progress: Progress) -> str:
        return snapshots.inspect(self._store, self._engine, self._lifecycle, _snapshot(job), progress, self._shelf)

    def _commit(self, job: Job, progress: Progress) -> str:
        snapshot = self._store.snapshot(_snapshot(job))
        if snapshot.state is SnapshotState.FAILED:  # killed between writing that and the job's end
            raise Conflict(snapshot.reason or "It failed.")
        return snapshots.commit(self._store, self._engine, self._lifecycle, snapshot.id, progress, self._shelf)

    def _archive_version(self, job: Job, progress: Progress) -> str:
        return snapshots.archive(
            self._store,
            self._engine,
            self._archive,
            _snapshot(job),
            progress,
            signer=self._signer,
            pushes=self._registry is not None,
        )

    def _push(self, job: Job, progress: Progress) -> str:
        if self._registry is None:
            raise Conflict("No registry is set.", "Set [registry] url in workspaces.toml, and start the worker again.")
        return snapshots.push(self._store, self._archive, self._registry, _snapshot(job), progress)

    def _list_packages(self, job: Job, progress: Progress) -> str:
        pushes = self._registry is not None
        return snapshots.list_packages(
            self._store, self._archive, self._signer, _snapshot(job), progress, pushes=pushes
        )

    def _restore(self, job: Job, progress: Progress) -> str:
        return snapshots.restore(
            self._store, self._engine, self._lifecycle, self._archive, job, progress, self._shelf, self._registry
        )

    def _freeze(self, job: Job, progress: Progress) -> str:
        return snapshots.freeze(
            self._store, self._engine, self._lifecycle, self._archive, job, progress, self._shelf, self._registry
        )

    def _thaw(self, job: Job, progress: Progress) -> str:
        return snapshots.thaw(self._lifecycle, job, progress)

    def _limit(self, job: Job, progress: Progress) -> str:
        progress(f"Giving {job.workspace} its limits", None)
        has = self._lifecycle.apply_limits(job.workspace_id, snapshots.LOCK_SECONDS)
        if has is None:
            return f"{job.workspace} has no container; it gets its limits when it is made."
        return f"{job.workspace} has {has.cpus:g} cores, {amount(has.memory)} memory and {has.pids} processes now."

    def _look(self, job: Job, progress: Progress) -> str:
        return snapshots.look(self._store, self._engine, self._lifecycle, job, progress, self._shelf)

    def _differ(self, job: Job, progress: Progress) -> str:
        return snapshots.differ(self._store, self._shelf, job, progress)

    def _start(self, job: Job, progress: Progress) -> str:
        self._lifecycle.ensure_running(job.workspace_id, progress)
        return f"{job.workspace} runs."

    def _stop(self, job: Job, progress: Progress) -> str:
        self._lifecycle.stop(job.workspace_id, progress, since=_repeated(job), why=f"stopped by {self._by(job)}")
        return f"{job.workspace} is stopped."

    def _restart(self, job: Job, progress: Progress) -> str:
        self._lifecycle.restart(job.workspace_id, progress, since=_repeated(job), by=self._by(job))
        return f"{job.workspace} runs again."

    def _reset(self, job: Job, progress: Progress) -> str:
        self._lifecycle.reset(job.workspace_id, progress, since=job.created_at, by=self._by(job))
        return f"{job.workspace} starts afresh at the next login."

    def _remove(self, job: Job, progress: Progress) -> str:
        with suppress(NotFound):  # killed between removing it and the job's end
            self._lifecycle.remove(job.workspace_id, progress, actor=job.requested_by)
        return f"{job.workspace} is removed."

    def _by(self, job: Job) -> str:
        """Who asked for it, as those who use the workspace read it: one of themselves by name."""
        members = self._store.workspace(job.workspace_id).members
        return job.requested_by if job.requested_by in members else ADMINISTRATOR


def _repeated(job: Job) -> float | None:
    """When the job was asked for, if an earlier attempt may have done it already."""
    return job.created_at if job.attempts > 1 else None


def _snapshot(job: Job) -> int:
    if job.snapshot_id is None:
        raise Conflict(f"Job {job.id} ({job.kind}) names no snapshot.")
    return job.snapshot_id
