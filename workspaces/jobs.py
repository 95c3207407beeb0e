"""The worker: takes jobs from the store and does them, one worker for a state directory.

    store.claim_job ─► a thread for each job, `places` at most ─► jobhandlers.py ─► finish_job or fail_job
    beside them: mail and webhooks leave (deliveries.py)
    every 5 s: challenges, engine, network filters and containers are looked after (housekeeping.py)
    now and then: how much disk a workspace uses (sampling.py); each minute: what all of them use (metering.py)

A kill at any moment loses nothing: the lock on the state directory goes with the process, the next worker queues again
what was running, and every handler can be repeated without harm to what people did since the first attempt. What a
busy engine or a database that cannot be written refuses is tried again, later and later, a few times. An engine,
archive or registry that does not answer is no failure of the job: it waits for a day. What fails for good is told in
the job and, for a commit, in its snapshot.

A job that is cancelled, or takes longer than its kind may (jobkinds.py), ends at its next word (jobprogress.py). A
thread that has no next word is written off: its job has failed and its place is free, but what it excludes still waits.
"""

from __future__ import annotations

import fcntl
import logging
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from workspaces import snapshots
from workspaces.archive import Archive
from workspaces.engine.base import Engine
from workspaces.errors import (
    ArchiveUnavailable,
    Conflict,
    EngineTimeout,
    EngineUnavailable,
    RegistryUnavailable,
    StoreError,
    WorkspacesError,
)
from workspaces.heartbeat import BEAT_SECONDS, LOCK, beat
from workspaces.housekeeping import Housekeeping
from workspaces.jobhandlers import Handlers
from workspaces.jobkinds import BEHIND, KINDS, OUTAGE_SECONDS
from workspaces.jobprogress import Abandoned, Cancelled, Overdue, Run
from workspaces.lifecycle import Lifecycle
from workspaces.metering import Metering
from workspaces.model import Job, JobKind
from workspaces.names import span
from workspaces.provenance import Signer
from workspaces.registry import Registry
from workspaces.sampling import Sampler
from workspaces.store import Store

log = logging.getLogger(__name__)

PLACES = 4  # jobs at once; archiving and commits wait for disks, so that a restart need not wait for them
POLL_SECONDS = 0.1  # how soon a new job is seen; one look costs about 20 µs
CLAIM_SECONDS = 1.0  # how soon a job whose pause is over is seen
WRITE_PAUSE = 10.0  # at most, between tries to write how a job ended
MAX_ATTEMPTS = 10  # of which the last is about nine minutes after the first
LONGEST_PAUSE = 300.0
GRACE_SECONDS = 20.0  # for running jobs to end when the worker is told to
ABANDON_SECONDS = 5.0  # for them to notice that they should not wait
LOST_SECONDS = 60.0  # past the longest time of its kind, a thread is written off
MESSAGE_MAX = 1000

AGAIN = (EngineTimeout, StoreError)
OUTAGES = {EngineUnavailable: "engine", ArchiveUnavailable: "archive", RegistryUnavailable: "registry"}


class Worker:
    """Runs jobs until told to stop: `places` at once, of a kind no more than `at_once` says (0: all places).

    `revive` starts an engine that died, if that is this program's to do; `deliver` and `keep_recordings` each run in a
    thread until they are told to stop; `signer` signs what is archived, which then goes to `registry`, if there is one.
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
        places: int = PLACES,
        at_once: Mapping[JobKind, int] | None = None,
        deliver: Callable[[threading.Event], None] | None = None,
        keep_recordings: Callable[[threading.Event], None] | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._lifecycle = lifecycle
        self._locks = locks
        self._places = places
        self._at_once = {kind: rule.at_once for kind, rule in KINDS.items()} | dict(at_once or {})
        self._deliver = deliver
        self._keep_recordings = keep_recordings
        self._lock: IO[bytes]
        self._wake = threading.Event()
        self._abandon = threading.Event()
        self._guard = threading.Lock()  # of the next
        self._running: dict[int, Run] = {}  # by job id
        shelf = snapshots.Shelf(engine, archive, locks.with_name("layers"))  # beside it in the state directory
        self._housekeeping = Housekeeping(store, engine, lifecycle, archive, shelf, locks, revive)
        self._handlers = Handlers(store, engine, lifecycle, archive, shelf, signer, registry).by_kind()

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Do jobs until `stop` is set; call `ready` once they are taken. Raises Conflict when another worker runs.

        Jobs that run by then may end within GRACE_SECONDS; what lasts longer is left to the next worker.
        """
        with self._only_worker():
            count = self._persist(self._store.requeue_running, stop)
            if count:
                log.info("%d interrupted jobs are taken up again", count)
            beside = {
                "housekeeping": self._housekeeping.run,
                "sampler": Sampler(self._store, self._engine, self._lifecycle).run,
                "metering": Metering(self._store, self._engine, self._lifecycle).run,
                **({"deliveries": self._deliver} if self._deliver else {}),
                **({"recordings": self._keep_recordings} if self._keep_recordings else {}),
            }
            threads = [
                threading.Thread(target=run, args=(stop,), name=name, daemon=True) for name, run in beside.items()
            ]
            for thread in threads:
                thread.start()
            beat(self._locks)
            ready()
            self._dispatch(stop)
            self._drain()
            deadline = time.monotonic() + ABANDON_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    # taking jobs

    def _dispatch(self, stop: threading.Event) -> None:
        seen, looked, beaten = -1, 0.0, time.monotonic()
        while not stop.is_set():
            try:
                version = self._store.data_version()
                if version != seen or self._wake.is_set() or time.monotonic() - looked >= CLAIM_SECONDS:
                    self._wake.clear()
                    seen, looked = version, time.monotonic()
                    self._heed()
                    while not stop.is_set() and (job := self._next()) is not None:
                        self._launch(job)
            except WorkspacesError as exc:
                log.warning("no job could be taken: %s", exc.message)
                stop.wait(CLAIM_SECONDS)
            if time.monotonic() - beaten >= BEAT_SECONDS:
                beaten = time.monotonic()
                beat(self._locks)
            self._wake.wait(POLL_SECONDS)

    def _next(self) -> Job | None:
        """A job that may begin now. One place is kept for those that somebody waits for at a terminal, and another one,
        where there are three, from what goes on for hours behind versions that are made.
        """
        runs = self._alive()
        counted = Counter(run.job.kind for run in runs.values() if not run.lost)
        if counted.total() >= self._places:
            return None
        most = self._places - 1 or 1
        slow = sum(number for kind, number in counted.items() if not KINDS[kind].prompt)
        behind = sum(counted[kind] for kind in BEHIND)
        full = [
            kind
            for kind, limit in self._at_once.items()
            if (limit and counted[kind] >= limit)
            or (slow >= most and not KINDS[kind].prompt)
            or (behind >= max(1, most - 1) and kind in BEHIND)
        ]
        return self._store.claim_job(runs, full)

    def _heed(self) -> None:
        """Have jobs end that are cancelled, and write off those that should have ended by themselves."""
        runs = {job_id: run for job_id, run in self._alive().items() if not run.lost}
        for job_id, who in self._store.cancellations().items():
            if job_id in runs:
                runs[job_id].end(Cancelled(who))
        for run in runs.values():
            if (why := run.overdue(LOST_SECONDS)) is not None:
                self._write_off(run, why)

    def _alive(self) -> dict[int, Run]:
        with self._guard:
            return dict(self._running)

    def _launch(self, job: Job) -> None:
        run = Run(self._store, job)
        run.thread = threading.Thread(target=self._work, args=(run,), name=f"job-{job.id}", daemon=True)
        with self._guard:
            self._running[job.id] = run
        run.thread.start()

    def _drain(self) -> None:
        """Wait for running jobs, then tell them to leave the rest to the next worker."""
        for seconds in (GRACE_SECONDS, ABANDON_SECONDS):
            deadline = time.monotonic() + seconds
            for run in self._alive().values():
                if not run.lost:
                    run.thread.join(max(0.0, deadline - time.monotonic()))
            if not self._alive():
                return
            self._abandon.set()
            for run in self._alive().values():
                run.end(Abandoned())
        log.warning("%d jobs did not stop; the next worker takes them up again", len(self._alive()))

    # one job

    def _work(self, run: Run) -> None:
        job = run.job
        log.info("job %d: %s of %s, attempt %d", job.id, job.kind, job.workspace, job.attempts)
        try:
            if job.attempts > MAX_ATTEMPTS:
                raise Conflict(f"It was interrupted {MAX_ATTEMPTS} times.", "The worker's log may tell why.")
            if job.cancelled_by is not None:  # while a worker did it that was killed
                run.end(Cancelled(job.cancelled_by))
            run.check()
            said = self._handlers[job.kind](job, run.tell)
        except Abandoned:
            log.info("job %d is left to the next worker", job.id)
        except Cancelled as exc:
            self._cancel(run, exc)
        except Overdue as exc:
            self._fail(run, str(exc))
        except WorkspacesError as exc:
            self._refused(run, exc)
        except Exception as exc:
            log.exception("job %d failed unexpectedly", job.id)
            self._fail(run, f"An unexpected error ({type(exc).__name__}); the worker's log has the particulars.")
        else:
            log.info("job %d is done: %s", job.id, said)
            self._conclude(run, lambda: self._store.finish_job(job.id, said))
        finally:
            if run.lost:
                self._discard(job)
            with self._guard:
                del self._running[job.id]
            self._wake.set()

    def _refused(self, run: Run, why: WorkspacesError) -> None:
        """Tried again later, unless somebody has cancelled it or nothing would be different then."""
        job, now = run.job, time.time()
        waits_for = next((name for kind, name in OUTAGES.items() if isinstance(why, kind)), None)
        waited = self._waited(job, waits_for, now)
        if waits_for is None and not isinstance(why, AGAIN):
            self._fail(run, str(why))
        elif run.cancelled is not None:
            self._cancel(run, run.cancelled)
        elif waits_for is not None and waited >= OUTAGE_SECONDS:
            self._fail(run, f"{why}\nIt has waited for the {waits_for} for {span(waited)}.")
        elif waits_for is None and job.attempts >= MAX_ATTEMPTS:
            self._fail(run, str(why))
        else:  # twice as long each time, either way
            pause = max(1.0, waited) if waits_for else 2.0 ** (job.attempts - 1)
            pause = min(LONGEST_PAUSE, pause) * random.uniform(0.8, 1.2)  # noqa: S311 -- apart from others
            log.warning("job %d is tried again in %.0f s: %s", job.id, pause, why.message)
            self._conclude(run, lambda: self._store.fail_job(job.id, why.message, pause, waits_for))

    def _waited(self, job: Job, waits_for: str | None, now: float) -> float:
        """Seconds that it has waited for that; anew from an attempt that got on, or met something else."""
        with suppress(StoreError):
            job = self._store.job(job.id)
        if job.waits_since is None or job.waits_for not in (None, waits_for):
            return 0.0
        return max(0.0, now - job.waits_since)

    def _fail(self, run: Run, reason: str) -> None:
        """For good: the snapshot of a commit first, so that a kill in between repeats this."""
        if run.lost:
            return
        job, reason = run.job, reason[:MESSAGE_MAX]
        log.error("job %d failed: %s", job.id, reason)
        self._persist(lambda: self._fail_snapshot(job, reason), self._abandon)
        self._discard(job)
        self._conclude(run, lambda: self._store.fail_job(job.id, reason, None))

    def _fail_snapshot(self, job: Job, reason: str) -> None:
        snapshot_id = self._committed_by(job)
        if snapshot_id is not None:
            with suppress(Conflict):  # it is committed, and only the job has failed
                self._store.fail_snapshot(snapshot_id, reason)

    def _write_off(self, run: Run, why: Overdue) -> None:
        """Its thread ends whenever it ends; what it left is discarded then, before its workspace is given back."""
        log.error("job %d cannot be stopped; its thread is written off", run.job.id)
        reason = f"{why} What it waits for does not answer."
        run.end(why)
        run.lost = True
        try:
            with suppress(Conflict), self._store.transaction():  # Conflict: it has just ended
                self._fail_snapshot(run.job, reason)
                self._store.fail_job(run.job.id, reason, None)
        except StoreError:
            run.lost = False
            raise

    def _cancel(self, run: Run, why: Cancelled) -> None:
        """As somebody wanted; the snapshot of a commit fails with it. What is committed by then stays so."""
        job, said = run.job, f"Cancelled by {why}."
        log.info("job %d: %s", job.id, said)

        def write() -> None:
            with self._store.transaction():
                snapshot_id = self._committed_by(job)
                if snapshot_id is not None:
                    try:
                        self._store.fail_snapshot(snapshot_id, said)
                    except Conflict:
                        if job.kind is JobKind.COMMIT:
                            self._store.finish_job(job.id, "It was committed before it could be cancelled.")
                            return
                self._store.stop_job(job.id, said)

        if not run.lost:
            self._discard(job)
            self._conclude(run, write)

    def _discard(self, job: Job) -> None:
        """What a commit that came to nothing left in the engine: a retry captures the container anew."""
        snapshot_id = self._committed_by(job)
        if snapshot_id is not None:
            try:
                snapshots.discard(self._store, self._engine, snapshot_id)
            except WorkspacesError as exc:
                log.warning("temporary images of snapshot %d stay until the next start: %s", snapshot_id, exc.message)

    def _conclude(self, run: Run, write: Callable[[], None]) -> None:
        """Write how a job ended, unless it is written off."""
        with suppress(Conflict):
            if not run.lost:
                self._persist(write, self._abandon)

    def _committed_by(self, job: Job) -> int | None:
        """The snapshot that the job commits: its own, or one that it took for itself."""
        if job.kind is JobKind.COMMIT:
            return job.snapshot_id
        try:
            taken = self._store.taken_snapshot(job.id)
        except StoreError:
            return None  # the job cannot be failed either, for as long as that lasts
        return taken.id if taken else None

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

    @contextmanager
    def _only_worker(self) -> Iterator[None]:
        """Hold the state directory's worker lock; until the process ends when jobs did not stop."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (self._locks / LOCK).open("ab")
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


def main(worker: Worker, ready: Callable[[], None] = lambda: None) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises Conflict when another one runs."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker.run(stop, ready)
