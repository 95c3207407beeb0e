"""Waiting for jobs on the command line, which does them itself when no worker runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from workspaces.cli.common import App, show_progress
from workspaces.errors import Conflict, WorkspacesError
from workspaces.model import UNDER_WAY, Job, JobKind, JobState

if TYPE_CHECKING:
    from workspaces.jobs import Worker


def make_worker(app: App, **own: Any) -> Worker:
    """A worker on the parts of `app`; `own` is what else `Worker` takes."""
    from workspaces.jobs import Worker  # not with every command that may wait for a job: it is most of the program

    return Worker(
        app.store,
        app.engine,
        app.lifecycle,
        app.archive,
        app.settings.locks,
        signer=app.signer,
        registry=app.registry,
        **own,
    )


@contextmanager
def working(app: App) -> Iterator[threading.Event]:
    """A worker here unless the host's own runs. What it yields is set when nobody works any more."""
    stop, ended = threading.Event(), threading.Event()
    if app.server is not None:  # it has a worker of its own
        yield ended
        return
    worker = make_worker(app)
    problems: list[Exception] = []

    def work() -> None:
        try:
            worker.run(stop)
        except Conflict:
            return  # the host's own worker runs and does it
        except Exception as problem:
            problems.append(problem)
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()
    if problems:
        raise problems[0]


def finish(app: App, job: Job) -> Job:
    """Follow a job and, when it was a commit, the archiving after it; the job as it ended. Raises when it failed."""
    with working(app) as ended:
        job = _follow(app, job, ended)
        if job.kind is JobKind.COMMIT:
            for later in app.store.jobs(workspace_id=job.workspace_id, limit=20):
                if later.kind is JobKind.ARCHIVE and later.snapshot_id == job.snapshot_id:
                    _follow(app, later, ended)
                    _follow_on(app, later, ended)
                    break
    return job


def _follow_on(app: App, archived: Job, ended: threading.Event) -> None:
    """Follow what comes after archiving. When it fails, the version is there all the same, so that is only told."""
    followed: set[int] = set()
    while later := [
        job
        for job in app.store.jobs(workspace_id=archived.workspace_id, limit=20)
        if job.kind in (JobKind.PUSH, JobKind.SBOM)
        and job.snapshot_id == archived.snapshot_id
        and job.id not in followed
    ]:
        for job in reversed(later):
            followed.add(job.id)
            try:
                _follow(app, job, ended, retries=False)
            except WorkspacesError as error:
                click.echo(f"{job.kind} failed: {error}", err=True)


def _follow(app: App, job: Job, ended: threading.Event, *, retries: bool = True) -> Job:
    """Show a job's progress until it is over, or until `ended` says that nobody works on it any more.

    Without `retries` it is not waited for once it is to be tried again later.
    """
    said = ""
    while job.state in UNDER_WAY:
        if not retries and job.state is JobState.QUEUED and job.attempts:
            raise WorkspacesError(f"{job.error} The worker tries it again.", f"See: workspaces job show {job.id}")
        if job.message and job.message != said:
            show_progress(job.message, job.progress)
            said = job.message
        if ended.wait(0.1):
            return job
        job = app.store.job(job.id)
    if job.state is not JobState.DONE:
        raise WorkspacesError(job.error or f"Job {job.id} was {job.state}.", f"See: workspaces job show {job.id}")
    return job
