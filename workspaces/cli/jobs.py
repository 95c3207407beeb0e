"""Commands about background work, and the record of who did what."""

from __future__ import annotations

import click

from workspaces.cli.common import App, json_option, pass_app, print_json, print_table, when
from workspaces.model import JobState
from workspaces.names import printable


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
            ("state", lambda j: j.state),
            ("done", lambda j: f"{j.progress:.0%}"),
            ("by", lambda j: j.requested_by),
            ("created", lambda j: when(j.created_at)),
            ("message", lambda j: j.error or j.message),
        ),
        as_json,
        "No job.",
    )


@job_command.command("show")
@click.argument("id", type=int)
@json_option
@pass_app
def job_show(app: App, id: int, as_json: bool) -> None:
    """Show a job."""
    job = app.store.job(id)
    if as_json:
        print_json(job)
        return
    click.echo(f"{job.id} {job.kind} of {job.workspace}: {job.state}, {job.progress:.0%}, attempt {job.attempts}")
    click.echo(f"created {when(job.created_at)} by {job.requested_by}")
    click.echo(f"started {when(job.started_at)}, ended {when(job.finished_at)}")
    click.echo(printable(job.error or job.message, 2000))


@job_command.command("retry")
@click.argument("id", type=int)
@pass_app
def job_retry(app: App, id: int) -> None:
    """Queue a failed job again."""
    app.store.retry_job(id, actor=app.actor)
    click.echo(f"Job {id} is queued again.")


@job_command.command("cancel")
@click.argument("id", type=int)
@pass_app
def job_cancel(app: App, id: int) -> None:
    """Cancel a job that has not begun."""
    app.store.cancel_job(id, actor=app.actor)
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
