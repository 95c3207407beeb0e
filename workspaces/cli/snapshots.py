"""Commands about snapshots: request, decide, commit, restore."""

from __future__ import annotations

from typing import Any

import click

from workspaces import snapshots
from workspaces.cli.changes import print_changes
from workspaces.cli.common import (
    App,
    json_option,
    pass_app,
    plain,
    print_json,
    print_table,
    when,
)
from workspaces.cli.diff import snapshot_diff
from workspaces.cli.evidence import COMMANDS, evidence, print_evidence
from workspaces.cli.working import finish
from workspaces.commands import named_command, shown_command
from workspaces.errors import UsageError
from workspaces.model import JobKind, Snapshot, SnapshotState
from workspaces.names import amount, printable


@click.group("snapshot")
def snapshot_command() -> None:
    """Snapshots: request, decide, commit, compare, restore."""


snapshot_command.add_command(snapshot_diff)


def _command_options(command: Any) -> Any:
    for option in (
        click.option("--cmd", help='What the version runs: a line for the shell, or ["program", "argument"].'),
        click.option("--entrypoint", help="Its entry point, written alike; the base image's command goes with it."),
    ):
        command = option(command)
    return command


for _command in COMMANDS:
    snapshot_command.add_command(_command)


@snapshot_command.command("request")
@click.argument("workspace")
@click.option("-m", "--message", required=True, help="What this snapshot is.")
@_command_options
@pass_app
def snapshot_request(app: App, workspace: str, message: str, cmd: str | None, entrypoint: str | None) -> None:
    """Request a snapshot of a workspace."""
    snapshot = _request(app, workspace, message, cmd, entrypoint)
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
            ("state", lambda s: "pruned" if s.pruned_at else f"{s.state}, pinned" if s.pinned else s.state),
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
@click.option("--all", "everything", is_flag=True, help="Every path and package, not the largest only.")
@json_option
@pass_app
def snapshot_show(app: App, id: int, everything: bool, as_json: bool) -> None:
    """Show a snapshot, what it changes, and what to look at before deciding."""
    snapshot = app.store.snapshot(id)
    report = app.store.changes(id)
    if as_json:
        print_json({**plain(snapshot), **evidence(app, snapshot), "changes": plain(report)})
        return
    version = f" v{snapshot.version}" if snapshot.version else ""
    click.echo(f"#{snapshot.id} {snapshot.workspace}{version}: {snapshot.state}")
    how = "taken by the program for" if snapshot.requested_via == "auto" else "requested by"
    over = "" if snapshot.requested_via == "auto" else f" over {snapshot.requested_via}"
    click.echo(f"{how} {snapshot.requested_by}{over}, {when(snapshot.requested_at)}")
    click.echo(f"message: {printable(snapshot.message, 1000)}")
    if snapshot.command:
        click.echo(f"runs: {shown_command(snapshot.command)}")
    if snapshot.decided_by:
        click.echo(f"decided by {snapshot.decided_by}, {when(snapshot.decided_at)}")
    if snapshot.reason:
        click.echo(f"reason: {printable(snapshot.reason, 1000)}")
    if snapshot.image_ref:
        click.echo(f"image {snapshot.image_ref} {snapshot.image_id}, adds {amount(snapshot.size)}")
    if snapshot.paused_seconds is not None:
        click.echo(f"the workspace stood still for {snapshot.paused_seconds:.1f} s")
    if snapshot.manifest_digest:
        click.echo(f"archived {when(snapshot.archived_at)} as {snapshot.manifest_digest}")
    if snapshot.pinned:
        click.echo("pinned: kept whatever the rules of retention say")
    if snapshot.pruned_at:
        click.echo(f"pruned {when(snapshot.pruned_at)}: only this record is left")
    print_evidence(app, snapshot)
    if report:
        print_changes(report, everything)


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
    finish(app, job)
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
@_command_options
@pass_app
def snapshot_commit(app: App, workspace: str, message: str, cmd: str | None, entrypoint: str | None) -> None:
    """Request, approve, commit and archive a workspace in one go."""
    snapshot = _request(app, workspace, message, cmd, entrypoint)
    finish(app, app.store.approve_snapshot(snapshot.id, actor=app.actor))
    _print_version(app, snapshot.id)


@snapshot_command.command("pin")
@click.argument("id", type=int)
@pass_app
def snapshot_pin(app: App, id: int) -> None:
    """Keep a version, whatever its challenge's rules of retention say."""
    snapshot = app.store.pin_snapshot(id, True, actor=app.actor)
    click.echo(f"{snapshot.workspace} v{snapshot.version} is pinned.")


@snapshot_command.command("unpin")
@click.argument("id", type=int)
@pass_app
def snapshot_unpin(app: App, id: int) -> None:
    """Leave a version to its challenge's rules of retention again."""
    snapshot = app.store.pin_snapshot(id, False, actor=app.actor)
    click.echo(f"{snapshot.workspace} v{snapshot.version} is not pinned.")


@snapshot_command.command("restore")
@click.argument("workspace")
@click.argument("version", required=False)
@click.option("--into", metavar="OTHER", help="Put the version into this workspace instead; WORKSPACE stays as it is.")
@click.option("--from", "source", metavar="IMAGE", help="A version by its name in the archive, e.g. als/alice:v3.")
@click.option("--discard", is_flag=True, help="Take no version of what is there now: it is lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def snapshot_restore(app: App, workspace: str, version: str | None, into: str | None, source: str | None,
                     discard: bool, yes: bool) -> None:  # fmt: skip
    """Put a workspace to VERSION (v1 or 1). What is there now is kept as a version first, if it changed."""
    if (version is None) is (source is None):
        raise UsageError("Name a version, or an image with --from.", "See: workspaces snapshot restore --help")
    found = app.store.workspace(workspace)
    target = app.store.workspace(into) if into else found
    snapshot = app.store.version(found.id, _number(version)) if version else _archived(app, str(source))
    ref = (snapshot.image_ref if snapshot else source) or "that version"
    if not yes:
        kept = (
            "All files in it that are in no version will be lost"
            if discard
            else "What is in it now is kept as a version first, if it changed"
        )
        click.confirm(f"{target.ref} becomes {ref}. {kept}; its programs and sessions end. Go on?", abort=True)
    arguments = {"discard": "yes"} if discard else {}
    if snapshot is None:
        arguments["from"] = str(source)
    number = snapshot.id if snapshot else None
    job = app.store.add_job(JobKind.RESTORE, target.id, actor=app.actor, snapshot_id=number, arguments=arguments)
    click.echo(finish(app, job).message)


def _number(version: str) -> int:
    number = version.removeprefix("v")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise click.BadParameter(f"{printable(version)!r} is not a version such as v1.")
    return int(number)


def _archived(app: App, image: str) -> Snapshot | None:
    """The version of that name, entered from the archive if need be; None when its workspace is not known here."""
    return app.store.version_named(image) or snapshots.adopt(app.store, app.archive, image, actor=app.actor)


def _request(app: App, workspace: str, message: str, cmd: str | None, entrypoint: str | None) -> Snapshot:
    found = app.store.workspace(workspace)
    command = named_command(entrypoint, cmd)
    return app.store.request_snapshot(found.id, message, actor=app.actor, via="cli", command=command)


def _print_version(app: App, id: int) -> None:
    snapshot = app.store.snapshot(id)
    click.echo(f"{snapshot.image_ref} is {snapshot.state}, {amount(snapshot.size)} more than its base.")
