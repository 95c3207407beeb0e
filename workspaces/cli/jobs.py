"""Commands about background work, and the record of who did what."""

from __future__ import annotations

import sys
import time

import click

from workspaces.cli.common import App, json_option, pass_app, plain, print_json, print_table, when
from workspaces.errors import UsageError, WorkspacesError
from workspaces.heartbeat import trouble
from workspaces.jobkinds import PRIORITY_MAX
from workspaces.jobtext import again, condition, pace, percent
from workspaces.model import UNDER_WAY, Job, JobState
from workspaces.names import printable

LOOK_SECONDS = 0.2


@click.group("job")
def job_command() -> None:
    """Background work."""


@job_command.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in JobState]))
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10000))
@json_option
@pass_app
def job_list(app: App, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List jobs, the newest first."""
    print_table(
        app.store.jobs(states=[JobState(s) for s in states] or None, limit=limit),
        (
            ("id", lambda j: j.id),
            ("kind", lambda j: j.kind),
            ("workspace", lambda j: j.workspace),
            ("state", condition),
            ("priority", lambda j: j.priority),
            ("done", lambda j: f"{percent(j)}%"),
            ("by", lambda j: j.requested_by),
            ("created", lambda j: when(j.created_at)),
            ("message", _said),
        ),
        as_json,
        "No job.",
    )
    _warn(app)


@job_command.command("show")
@click.argument("id", type=int)
@click.option("--log", "with_log", is_flag=True, help="What it did, line by line.")
@click.option("--follow", is_flag=True, help="Go on until it has ended; ends with 1 if it did not succeed.")
@json_option
@pass_app
def job_show(app: App, id: int, with_log: bool, follow: bool, as_json: bool) -> None:
    """Show a job."""
    job = _follow(app, id) if follow else app.store.job(id)
    if as_json:
        lines = [plain(line) for line in app.store.job_log(id)] if with_log else None
        print_json(plain(job) | {"condition": condition(job)} | ({"log": lines} if lines is not None else {}))
    elif not follow:
        click.echo(f"{job.id} {job.kind} of {job.workspace}: {condition(job)}, {percent(job)}%, attempt {job.attempts}")
        click.echo(f"created {when(job.created_at)} by {job.requested_by}, priority {job.priority}")
        click.echo(f"started {when(job.started_at)}, ended {when(job.finished_at)}")
        if job.state is JobState.RUNNING:
            click.echo(
                f"last word {when(job.seen_at)}" + (f", {job.cancelled_by} cancels it" if job.cancelled_by else "")
            )
        click.echo(_said(job))
        if with_log:
            _print_log(app, id, 0)
        if job.state in UNDER_WAY:
            _warn(app)
    if follow and job.state is not JobState.DONE:
        raise WorkspacesError(f"Job {id} is {job.state}.", f"Try it again: workspaces job retry {id}")


def _said(job: Job) -> str:
    """What it does, how far it is and when it goes on, or why it ended."""
    failed = job.state in (JobState.FAILED, JobState.CANCELLED) or job.retry_at is not None
    parts = [printable((job.error if failed else None) or job.message, 2000), pace(job)]
    parts.insert(0 if job.waits_for else 2, again(job))
    return "; ".join(part for part in parts if part)


def _warn(app: App) -> None:
    """On standard error, when nothing will come of what waits."""
    if app.server is None and (problem := trouble(app.settings.locks)) is not None:
        click.echo(f"{problem}\nStart it: workspaces worker, which is a part of workspaces serve.", err=True)


def _print_log(app: App, id: int, after: int) -> int:
    for line in app.store.job_log(id, after):
        click.echo(f"{when(line.at)}  {printable(line.line, 500)}")
        after = line.id
    return after


def _follow(app: App, id: int) -> Job:
    """Print the log as it grows, and on a terminal one line that changes, until the job has ended."""
    seen, shown = 0, ""
    _warn(app)
    while True:
        job = app.store.job(id)
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
        seen, shown = _print_log(app, id, seen), ""
        if job.state not in UNDER_WAY:
            return job
        if sys.stderr.isatty():
            shown = f"{percent(job)}%  {pace(job) or again(job)}".rstrip()
            click.echo(shown, nl=False, err=True)
        time.sleep(LOOK_SECONDS)


@job_command.command("priority")
@click.argument("id", type=int)
@click.argument("priority", type=click.IntRange(0, PRIORITY_MAX))
@pass_app
def job_priority(app: App, id: int, priority: int) -> None:
    """Let a job that waits go before or after others: 0 to 100, higher first."""
    app.store.set_job_priority(id, priority, actor=app.actor)
    click.echo(f"Job {id} has priority {priority}.")


@job_command.command("retry")
@click.argument("id", type=int, required=False)
@click.option("--failed", is_flag=True, help="All that failed; not what would stop or replace a container.")
@pass_app
def job_retry(app: App, id: int | None, failed: bool) -> None:
    """Queue a failed job again, or all of them."""
    if failed is (id is not None):
        raise UsageError("Name one job, or --failed for all.")
    if id is not None:
        app.store.retry_job(id, actor=app.actor)
        click.echo(f"Job {id} is queued again.")
        return
    retried, left = app.store.retry_failed(actor=app.actor)
    click.echo(f"{len(retried)} failed jobs are queued again.")
    for job, why in left:
        click.echo(f"Not {job.id}, {job.kind} of {job.workspace}: {printable(why, 300)}", err=True)
    if left:
        click.echo("Retry those that are still wanted: workspaces job retry ID", err=True)


@job_command.command("cancel")
@click.argument("id", type=int)
@pass_app
def job_cancel(app: App, id: int) -> None:
    """Cancel a job. One that runs ends as soon as it can without leaving something half done."""
    job = app.store.cancel_job(id, actor=app.actor)
    if job.state is JobState.RUNNING:
        click.echo(f"Job {id} is told to end. See: workspaces job show {id} --follow")
    else:
        click.echo(f"Job {id} is cancelled.")


@click.group("audit")
def audit_command() -> None:
    """The record of who did what."""


@audit_command.command("list")
@click.option("--workspace", help="Only what concerns this workspace.")
@click.option("--actor", help="Only what this person did.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100000))
@json_option
@pass_app
def audit_list(app: App, workspace: str | None, actor: str | None, limit: int, as_json: bool) -> None:
    """List events, the newest first."""
    ref = app.store.workspace(workspace).ref if workspace else None
    print_table(
        app.store.events(limit=limit, workspace=ref, actor=actor),
        (
            ("time", lambda e: when(e.at)),
            ("who", lambda e: e.actor),
            ("what", lambda e: e.kind),
            ("workspace", lambda e: e.workspace or ""),
            ("particulars", lambda e: ", ".join(f"{k} {v}" for k, v in e.data.items())),
        ),
        as_json,
        "Nothing has happened yet.",
    )
