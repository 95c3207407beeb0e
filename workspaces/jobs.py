"""The worker: takes jobs from the store and does them, one worker for a state directory.

    store.claim_job ─► a thread for each job, WORKERS at most ─► handler of its kind ─► finish_job or fail_job
    every 5 s: an engine that died is started again, network filters are put back, what the engine shows ─► store
    now and then: how much disk a workspace uses (sampling.py)

A kill at any moment loses nothing: the lock on the state directory goes with the process, the next worker queues again
what was running, and every handler can be repeated without harm to what people did since the first attempt. What an
engine that is away, or a database that cannot be written, refuses is tried again, later and later; what fails for good
is told in the job and, for a commit, in its snapshot.
"""

from __future__ import annotations

import fcntl
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from workspaces import snapshots
from workspaces.archive import Archive
from workspaces.engine.base import Engine, Progress
from workspaces.errors import (
    Conflict,
    EngineTimeout,
    EngineUnavailable,
    NotFound,
    RegistryUnavailable,
    StoreError,
    WorkspacesError,
)
from workspaces.lifecycle import Lifecycle
from workspaces.model import Job, JobKind, SnapshotState
from workspaces.provenance import Signer
from workspaces.registry import Registry
from workspaces.sampling import Sampler
from workspaces.store import Store

log = logging.getLogger(__name__)

WORKERS = 4  # jobs at once; archiving and commits wait for disks, so that a restart need not wait for them
POLL_SECONDS = 0.1  # how soon a new job is seen; one look costs about 20 µs
CLAIM_SECONDS = 1.0  # how soon a job whose pause is over is seen
RECONCILE_SECONDS = 5.0
PROGRESS_SECONDS = 0.2  # between writes of a job's progress
WRITE_PAUSE = 10.0  # at most, between tries to write how a job ended
MAX_ATTEMPTS = 10  # about five minutes without an engine
LONGEST_PAUSE = 60.0
GRACE_SECONDS = 20.0  # for running jobs to end when the worker is told to
ABANDON_SECONDS = 5.0  # for them to notice that they should not wait
MESSAGE_MAX = 1000

AGAIN = (EngineUnavailable, EngineTimeout, StoreError, RegistryUnavailable)


class _Abandoned(BaseException):
    """The worker stops: this job goes on when the next one starts. No error, so that nothing handles it."""


class Worker:
    """Runs jobs until told to stop.

    `revive` starts an engine that died, if that is this program's to do; `signer` signs what is archived, which then
    goes to `registry`, if there is one.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        lifecycle: Lifecycle,
        archive: Archive,
        locks: Path,
        revive: Callable[[], None] = lambda: None,
        *,
        signer: Signer,
        registry: Registry | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._lifecycle = lifecycle
        self._archive = archive
        self._locks = locks
        self._revive = revive
        self._signer = signer
        self._registry = registry
        self._lock: IO[bytes]
        self._wake = threading.Event()
        self._abandon = threading.Event()
        self._swept = False
        self._guard = threading.Lock()  # of the next
        self._running: dict[int, threading.Thread] = {}  # by workspace id: the store never gives two of one
        self._handlers: dict[JobKind, Callable[[Job, Progress], str]] = {
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
        }

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Do jobs until `stop` is set; call `ready` once they are taken. Raises Conflict when another worker runs.

        Jobs that run by then may end within GRACE_SECONDS; what lasts longer is left to the next worker.
        """
        with self._only_worker():
            count = self._persist(self._store.requeue_running, stop)
            if count:
                log.info("%d interrupted jobs are taken up again", count)
            keeper = threading.Thread(target=self._keep_house, args=(stop,), name="housekeeping", daemon=True)
            keeper.start()
            sampler = threading.Thread(
                target=Sampler(self._store, self._engine, self._lifecycle).run,
                args=(stop,),
                name="sampler",
                daemon=True,
            )
            sampler.start()
            ready()
            self._dispatch(stop)
            self._drain()
            keeper.join(ABANDON_SECONDS)
            sampler.join(ABANDON_SECONDS)

    # taking jobs

    def _dispatch(self, stop: threading.Event) -> None:
        seen, looked = -1, 0.0
        while not stop.is_set():
            try:
                version = self._store.data_version()
                if version != seen or self._wake.is_set() or time.monotonic() - looked >= CLAIM_SECONDS:
                    self._wake.clear()
                    seen, looked = version, time.monotonic()
                    while len(self._alive()) < WORKERS and not stop.is_set():
                        job = self._store.claim_job(self._alive())
                        if job is None:
                            break
                        self._launch(job)
            except WorkspacesError as exc:
                log.warning("no job could be taken: %s", exc.message)
                stop.wait(CLAIM_SECONDS)
            self._wake.wait(POLL_SECONDS)

    def _alive(self) -> dict[int, threading.Thread]:
        with self._guard:
            return dict(self._running)

    def _launch(self, job: Job) -> None:
        thread = threading.Thread(target=self._work, args=(job,), name=f"job-{job.id}", daemon=True)
        with self._guard:
            self._running[job.workspace_id] = thread
        thread.start()

    def _drain(self) -> None:
        """Wait for running jobs, then tell them to leave the rest to the next worker."""
        for seconds in (GRACE_SECONDS, ABANDON_SECONDS):
            deadline = time.monotonic() + seconds
            for thread in self._alive().values():
                thread.join(max(0.0, deadline - time.monotonic()))
            if not self._alive():
                return
            self._abandon.set()
        log.warning("%d jobs did not stop; the next worker takes them up again", len(self._alive()))

    # one job

    def _work(self, job: Job) -> None:
        log.info("job %d: %s of %s, attempt %d", job.id, job.kind, job.workspace, job.attempts)
        try:
            if job.attempts > MAX_ATTEMPTS:
                raise Conflict(f"It was interrupted {MAX_ATTEMPTS} times.", "The worker's log may tell why.")
            said = self._handlers[job.kind](job, self._progress(job))
        except _Abandoned:
            log.info("job %d is left to the next worker", job.id)
        except AGAIN as exc:
            if job.attempts < MAX_ATTEMPTS:
                pause = min(LONGEST_PAUSE, 2.0 ** (job.attempts - 1))
                said = exc.message
                log.warning("job %d is tried again in %.0f s: %s", job.id, pause, said)
                self._persist(lambda: self._store.fail_job(job.id, said, pause), self._abandon)
            else:
                self._fail(job, str(exc))
        except WorkspacesError as exc:
            self._fail(job, str(exc))
        except Exception as exc:
            log.exception("job %d failed unexpectedly", job.id)
            self._fail(job, f"An unexpected error ({type(exc).__name__}); the worker's log has the particulars.")
        else:
            log.info("job %d is done: %s", job.id, said)
            self._persist(lambda: self._store.finish_job(job.id, said), self._abandon)
        finally:
            with self._guard:
                del self._running[job.workspace_id]
            self._wake.set()

    def _fail(self, job: Job, reason: str) -> None:
        """For good: the snapshot of a commit first, so that a kill in between repeats this."""
        log.error("job %d failed: %s", job.id, reason)
        reason = reason[:MESSAGE_MAX]
        if job.kind is JobKind.COMMIT and job.snapshot_id is not None:
            snapshot_id = job.snapshot_id
            with suppress(Conflict):  # it is committed, and only the job has failed
                self._persist(lambda: self._store.fail_snapshot(snapshot_id, reason), self._abandon)
            try:
                snapshots.discard(self._store, self._engine, snapshot_id)
            except WorkspacesError as exc:
                log.warning("temporary images of snapshot %d stay until the next start: %s", snapshot_id, exc.message)
        self._persist(lambda: self._store.fail_job(job.id, reason, None), self._abandon)

    def _persist(self, write: Callable[[], int | None], give_up: threading.Event) -> int:
        """Write to the store, for as long as it takes while it is locked or its disk is full."""
        pause = CLAIM_SECONDS
        while True:
            try:
                return write() or 0
            except StoreError as exc:
                log.warning("the database cannot be written: %s", exc.message)
                if give_up.wait(pause):
                    return 0
                pause = min(WRITE_PAUSE, pause * 2)

    def _progress(self, job: Job) -> Progress:
        """Writes to the store, at most a few times a second; ends the job when the worker is stopping."""
        last, said = 0.0, ""

        def tell(message: str, fraction: float | None) -> None:
            nonlocal last, said
            if self._abandon.is_set():
                raise _Abandoned
            now = time.monotonic()
            if message == said and now - last < PROGRESS_SECONDS:
                return
            last, said = now, message
            with suppress(StoreError):
                self._store.job_progress(job.id, fraction, message)

        return tell

    # kinds

    def _inspect(self, job: Job, progress: Progress) -> str:
        return snapshots.inspect(self._store, self._engine, self._lifecycle, _snapshot(job), progress)

    def _commit(self, job: Job, progress: Progress) -> str:
        snapshot = self._store.snapshot(_snapshot(job))
        if snapshot.state is SnapshotState.FAILED:  # killed between writing that and the job's end
            raise Conflict(snapshot.reason or "It failed.")
        return snapshots.commit(self._store, self._engine, self._lifecycle, snapshot.id, progress)

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
        snapshot = self._store.snapshot(_snapshot(job))
        if snapshot.workspace_id != job.workspace_id:
            raise Conflict(f"Snapshot {snapshot.id} is one of {snapshot.workspace}, not of {job.workspace}.")
        return snapshots.restore(
            self._store,
            self._engine,
            self._lifecycle,
            self._archive,
            snapshot.id,
            progress,
            since=job.created_at,
            registry=self._registry,
        )

    def _start(self, job: Job, progress: Progress) -> str:
        self._lifecycle.ensure_running(job.workspace_id, progress)
        return f"{job.workspace} runs."

    def _stop(self, job: Job, progress: Progress) -> str:
        self._lifecycle.stop(job.workspace_id, progress, since=_repeated(job))
        return f"{job.workspace} is stopped."

    def _restart(self, job: Job, progress: Progress) -> str:
        self._lifecycle.restart(job.workspace_id, progress, since=_repeated(job))
        return f"{job.workspace} runs again."

    def _reset(self, job: Job, progress: Progress) -> str:
        self._lifecycle.reset(job.workspace_id, progress, since=job.created_at)
        return f"{job.workspace} starts afresh at the next login."

    def _remove(self, job: Job, progress: Progress) -> str:
        with suppress(NotFound):  # killed between removing it and the job's end
            self._lifecycle.remove(job.workspace_id, progress, actor=job.requested_by)
        return f"{job.workspace} is removed."

    # beside the jobs

    def _keep_house(self, stop: threading.Event) -> None:
        """Clear what killed workers left, once; keep engine, filters, and the store's sightings of containers right."""
        chores: dict[str, Callable[[], None]] = {
            "the engine cannot be started again": self._look_after_engine,
            "what killed workers left cannot be cleared": self._sweep,
            "network filters cannot be looked at": self._engine.prepare,
            "containers cannot be looked at": self._lifecycle.reconcile,
        }
        failing: dict[str, str] = {}
        while not stop.is_set():
            for what, chore in chores.items():
                try:
                    chore()
                    failing.pop(what, None)
                except WorkspacesError as exc:
                    if failing.get(what) != exc.message:  # told once, not every five seconds
                        failing[what] = exc.message
                        log.warning("%s: %s", what, exc.message)
                except Exception:
                    log.exception("%s, unexpectedly", what)
            stop.wait(RECONCILE_SECONDS)

    def _look_after_engine(self) -> None:
        try:
            self._engine.info()
        except EngineUnavailable:
            self._revive()

    def _sweep(self) -> None:
        if not self._swept:
            self._archive.clean()
            snapshots.sweep(self._store, self._engine, self._lifecycle)
            self._swept = True

    @contextmanager
    def _only_worker(self) -> Iterator[None]:
        """Hold the state directory's worker lock; until the process ends when jobs did not stop."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (self._locks / "worker.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Conflict(
                "Another worker runs on this state directory.", "It does the jobs; a second one is not needed."
            ) from None
        try:
            yield
        finally:
            if not self._alive():
                self._lock.close()


def _repeated(job: Job) -> float | None:
    """When the job was asked for, if an earlier attempt may have done it already."""
    return job.created_at if job.attempts > 1 else None


def _snapshot(job: Job) -> int:
    if job.snapshot_id is None:
        raise Conflict(f"Job {job.id} ({job.kind}) names no snapshot.")
    return job.snapshot_id


def main(worker: Worker, ready: Callable[[], None] = lambda: None) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises Conflict when another one runs."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker.run(stop, ready)
