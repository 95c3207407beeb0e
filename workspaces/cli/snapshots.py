"""Commands about snapshots: request, decide, commit, restore."""

from __future__ import annotations

import threading

import click

from workspaces.cli.common import (
    App,
    json_option,
    pass_app,
    plain,
    print_json,
    print_table,
    show_progress,
    when,
)
from workspaces.cli.evidence import COMMANDS, evidence, print_evidence
from workspaces.errors import Conflict, WorkspacesError
from workspaces.jobs import Worker
from workspaces.model import Job, JobKind, JobState, SnapshotState
from workspaces.names import amount, printable


@click.group("snapshot")
def snapshot_command() -> None:
    """Snapshots: request, decide, commit, restore."""


for _command in COMMANDS:
    snapshot_command.add_command(_command)


@snapshot_command.command("request")
@click.argument("workspace")
@click.option("-m", "--message", required=True, help="What this snapshot is.")
@pass_app
def snapshot_request(app: App, workspace: str, message: str) -> None:
    """Request a snapshot of a workspace."""
    snapshot = app.store.request_snapshot(app.store.workspace(workspace).id, message, actor=app.actor, via="cli")
    click.echo(f"Request #{snapshot.id} waits for a decision: workspaces snapshot approve {snapshot.id}")


@snapshot_command.command("list")
@click.argument("workspace", required=False)
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in SnapshotState]))
@json_option
@pass_app
def snapshot_list(app: App, workspace: str | None, states: tuple[str, ...], as_json: bool) -> None:
    """List snapshots, the newest first."""
    print_table(
        app.store.snapshots(
            workspace_id=app.store.workspace(workspace).id if workspace else None,
            states=[SnapshotState(s) for s in states] or None,
        ),
        (
            ("id", lambda s: s.id),
            ("workspace", lambda s: s.workspace),
            ("version", lambda s: f"v{s.version}" if s.version else "-"),
            ("state", lambda s: s.state),
            ("requested", lambda s: when(s.requested_at)),
            ("by", lambda s: s.requested_by),
            ("message", lambda s: s.message),
            ("reason", lambda s: s.reason or ""),
        ),
        as_json,
        "No snapshot.",
    )


@snapshot_command.command("show")
@click.argument("id", type=int)
@json_option
@pass_app
def snapshot_show(app: App, id: int, as_json: bool) -> None:
    """Show a snapshot and what it changes."""
    snapshot = app.store.snapshot(id)
    report = app.store.changes(id)
    if as_json:
        print_json({**plain(snapshot), **evidence(app, snapshot), "changes": plain(report)})
        return
    version = f" v{snapshot.version}" if snapshot.version else ""
    click.echo(f"#{snapshot.id} {snapshot.workspace}{version}: {snapshot.state}")
    click.echo(f"requested by {snapshot.requested_by} over {snapshot.requested_via}, {when(snapshot.requested_at)}")
    click.echo(f"message: {printable(snapshot.message, 1000)}")
    if snapshot.decided_by:
        click.echo(f"decided by {snapshot.decided_by}, {when(snapshot.decided_at)}")
    if snapshot.reason:
        click.echo(f"reason: {printable(snapshot.reason, 1000)}")
    if snapshot.image_ref:
        click.echo(f"image {snapshot.image_ref} {snapshot.image_id}, adds {amount(snapshot.size)}")
    if snapshot.manifest_digest:
        click.echo(f"archived {when(snapshot.archived_at)} as {snapshot.manifest_digest}")
    print_evidence(app, snapshot)
    if report:
        click.echo(
            f"since {report.since}, as of {when(report.at)}: {report.added} added, {report.changed} changed, "
            f"{report.removed} removed, {amount(report.bytes)}"
        )
        for warning in report.warnings:
            click.echo(f"  warning: {printable(warning, 500)}")
        for change in report.entries:
            click.echo(f"  {change.kind:8}{amount(change.size):>11}  {printable(change.path, 500)}")


@snapshot_command.command("approve")
@click.argument("id", type=int)
@click.option("--wait", is_flag=True, help="Until it is committed and archived.")
@pass_app
def snapshot_approve(app: App, id: int, wait: bool) -> None:
    """Approve a request; the worker commits and archives it."""
    job = app.store.approve_snapshot(id, actor=app.actor)
    if not wait:
        click.echo(f"Approved; job {job.id} commits it.")
        return
    _finish(app, job)
    _print_version(app, id)


@snapshot_command.command("reject")
@click.argument("id", type=int)
@click.option("-m", "--reason", required=True, help="What the person will read.")
@pass_app
def snapshot_reject(app: App, id: int, reason: str) -> None:
    """Reject a request with a reason."""
    app.store.reject_snapshot(id, reason, actor=app.actor)
    click.echo(f"Request #{id} is rejected; {app.store.snapshot(id).requested_by} will read the reason.")


@snapshot_command.command("withdraw")
@click.argument("id", type=int)
@pass_app
def snapshot_withdraw(app: App, id: int) -> None:
    """Take back a request that nobody has decided."""
    app.store.withdraw_snapshot(id, actor=app.actor)
    click.echo(f"Request #{id} is withdrawn.")


@snapshot_command.command("retry")
@click.argument("id", type=int)
@pass_app
def snapshot_retry(app: App, id: int) -> None:
    """Try a failed snapshot again."""
    job = app.store.retry_snapshot(id, actor=app.actor)
    click.echo(f"Job {job.id} tries it again.")


@snapshot_command.command("commit")
@click.argument("workspace")
@click.option("-m", "--message", required=True, help="What this version is.")
@pass_app
def snapshot_commit(app: App, workspace: str, message: str) -> None:
    """Request, approve, commit and archive a workspace in one go."""
    snapshot = app.store.request_snapshot(app.store.workspace(workspace).id, message, actor=app.actor, via="cli")
    _finish(app, app.store.approve_snapshot(snapshot.id, actor=app.actor))
    _print_version(app, snapshot.id)


@snapshot_command.command("restore")
@click.argument("workspace")
@click.argument("version")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def snapshot_restore(app: App, workspace: str, version: str, yes: bool) -> None:
    """Put a workspace back to VERSION (v1 or 1). What is not in a version is lost."""
    found = app.store.workspace(workspace)
    number = version.removeprefix("v")
    if not number.isdecimal():
        raise click.BadParameter(f"{printable(version)!r} is not a version such as v1.")
    snapshot = app.store.version(found.id, int(number))
    if not yes:
        click.confirm(f"All files in {found.ref} that are not in a version will be lost. Go on?", abort=True)
    _finish(app, app.store.add_job(JobKind.RESTORE, found.id, actor=app.actor, snapshot_id=snapshot.id))
    click.echo(f"{found.ref} is v{snapshot.version} again.")


def _finish(app: App, job: Job) -> None:
    """Follow a job and, when it was a commit, the archiving after it; do the work here when no worker runs."""
    worker = Worker(
        app.store,
        app.engine,
        app.lifecycle,
        app.archive,
        app.settings.locks,
        signer=app.signer,
        registry=app.registry,
    )
    stop, ended = threading.Event(), threading.Event()
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
        _follow(app, job, ended)
        if job.kind is JobKind.COMMIT:
            for later in app.store.jobs(workspace_id=job.workspace_id, limit=20):
                if later.kind is JobKind.ARCHIVE and later.snapshot_id == job.snapshot_id:
                    _follow(app, later, ended)
                    _follow_on(app, later, ended)
                    break
    finally:
        stop.set()
        thread.join()
    if problems:
        raise problems[0]


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


def _follow(app: App, job: Job, ended: threading.Event, *, retries: bool = True) -> None:
    """Show a job's progress until it is over, or until `ended` says that nobody works on it any more.

    Without `retries` it is not waited for once it is to be tried again later.
    """
    said = ""
    while job.state in (JobState.QUEUED, JobState.RUNNING):
        if not retries and job.state is JobState.QUEUED and job.attempts:
            raise WorkspacesError(f"{job.error} The worker tries it again.", f"See: workspaces job show {job.id}")
        if job.message and job.message != said:
            show_progress(job.message, job.progress)
            said = job.message
        if ended.wait(0.1):
            return
        job = app.store.job(job.id)
    if job.state is not JobState.DONE:
        raise WorkspacesError(job.error or f"Job {job.id} was {job.state}.", f"See: workspaces job show {job.id}")


def _print_version(app: App, id: int) -> None:
    snapshot = app.store.snapshot(id)
    click.echo(f"{snapshot.image_ref} is {snapshot.state}, {amount(snapshot.size)} more than its base.")
