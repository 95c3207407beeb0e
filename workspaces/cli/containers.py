"""Commands about workspaces and their containers. They act at once, under the workspace's lock."""

from __future__ import annotations

from dataclasses import replace

import click

from workspaces.challengeforms import own_limits
from workspaces.cli.common import App, json_option, pass_app, plain, print_json, print_table, show_progress, when
from workspaces.errors import UsageError
from workspaces.model import OwnLimits, Workspace, WorkspaceState
from workspaces.names import amount, printable


@click.command("list")
@click.option("--challenge", help="Only those of this challenge.")
@click.option("--state", type=click.Choice([s.value for s in WorkspaceState]), help="Only those in this state.")
@json_option
@pass_app
def list_command(app: App, challenge: str | None, state: str | None, as_json: bool) -> None:
    """List workspaces."""
    print_table(
        app.store.workspaces(challenge=challenge, state=WorkspaceState(state) if state else None),
        (
            ("workspace", lambda w: w.ref),
            ("members", lambda w: ", ".join(w.members)),
            ("state", lambda w: w.state),
            ("made from", lambda w: w.image or "the challenge's image"),
            ("disk", lambda w: amount(w.disk_bytes)),
            ("last login", lambda w: when(w.last_login_at)),
        ),
        as_json,
        "No workspace. `workspaces user add NAME --challenge SLUG` makes one.",
    )


@click.command("show")
@click.argument("workspace")
@json_option
@pass_app
def show_command(app: App, workspace: str, as_json: bool) -> None:
    """Show a workspace, its versions and requests."""
    found = app.store.workspace(workspace)
    snapshots = app.store.snapshots(workspace_id=found.id)
    if as_json:
        print_json({**plain(found), "snapshots": [plain(s) for s in snapshots]})
        return
    click.echo(f"{found.ref}: {found.state} since {when(found.state_at)} {printable(found.state_detail, 500)}".rstrip())
    click.echo(f"members: {', '.join(found.members)}; last login {when(found.last_login_at)}")
    if found.read_only:
        click.echo("frozen with its challenge: it can be read, and not changed")
    if found.disk_bytes is not None:
        click.echo(f"its container has written {amount(found.disk_bytes)}, seen {when(found.disk_at)}")
    if found.image:
        click.echo(f"made from {found.image}")
    if found.own_limits != OwnLimits():
        click.echo(f"limits of its own: {_limits(app, found)}")
    for session in app.store.sessions(found.id):
        click.echo(f"on: {session.user}, {session.kind} from {session.address} since {when(session.started_at)}")
    for snapshot in snapshots:
        version = f"v{snapshot.version}" if snapshot.version else f"#{snapshot.id}"
        click.echo(f"  {version}  {snapshot.state}  {when(snapshot.requested_at)}  {printable(snapshot.message, 80)}")


def _record(app: App, workspace: Workspace, what: str) -> None:
    app.store.add_event(app.actor, f"workspace.{what}", workspace=workspace.ref, data={"via": "cli"})


@click.command("start")
@click.argument("workspaces", nargs=-1, required=True)
@pass_app
def start_command(app: App, workspaces: tuple[str, ...]) -> None:
    """Start containers, making those that do not exist."""
    for name in workspaces:
        found = app.store.workspace(name)
        app.lifecycle.ensure_running(found.id, show_progress)
        _record(app, found, "start")
        click.echo(f"{found.ref} runs.")


@click.command("stop")
@click.argument("workspaces", nargs=-1, required=True)
@pass_app
def stop_command(app: App, workspaces: tuple[str, ...]) -> None:
    """Stop containers. Files stay; the next login starts them again."""
    for name in workspaces:
        found = app.store.workspace(name)
        app.lifecycle.stop(found.id, show_progress)
        _record(app, found, "stop")
        click.echo(f"{found.ref} is stopped. Its files stay; the next login starts it again.")


@click.command("restart")
@click.argument("workspaces", nargs=-1, required=True)
@pass_app
def restart_command(app: App, workspaces: tuple[str, ...]) -> None:
    """Stop and start containers."""
    for name in workspaces:
        found = app.store.workspace(name)
        app.lifecycle.restart(found.id, show_progress)
        _record(app, found, "restart")
        click.echo(f"{found.ref} runs.")


def _confirm(what: str, yes: bool) -> None:
    if yes:
        return
    try:
        click.confirm(what, abort=True)
    except click.Abort as exc:
        raise UsageError("Nothing was done.", "Answer y, or use --yes.") from exc


@click.command("reset")
@click.argument("workspace")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def reset_command(app: App, workspace: str, yes: bool) -> None:
    """Delete a container and all that was done in it; the next login makes a new one. Versions stay."""
    found = app.store.workspace(workspace)
    _confirm(f"All files in {found.ref} that are not in a version will be lost. Go on?", yes)
    app.lifecycle.reset(found.id, show_progress)
    _record(app, found, "reset")
    click.echo(f"{found.ref} is reset; the next login makes it from the challenge's image.")


@click.command("remove")
@click.argument("workspace")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def remove_command(app: App, workspace: str, yes: bool) -> None:
    """Delete a container and its workspace. Accounts and archived versions stay."""
    found = app.store.workspace(workspace)
    _confirm(f"{found.ref} and all files in it will be lost. Go on?", yes)
    app.lifecycle.remove(found.id, show_progress, actor=app.actor)
    click.echo(f"{found.ref} is removed.")


@click.command("members")
@click.argument("workspace")
@click.option("--add", "added", multiple=True, metavar="USER", help="May log in to it from now on.")
@click.option("--remove", "removed", multiple=True, metavar="USER", help="May not any more.")
@json_option
@pass_app
def members_command(app: App, workspace: str, added: tuple[str, ...], removed: tuple[str, ...], as_json: bool) -> None:
    """Show or change who may log in to a workspace."""
    found = app.store.workspace(workspace)
    for user in added:
        app.store.add_member(found.id, user, actor=app.actor)
    for user in removed:
        app.store.remove_member(found.id, user, actor=app.actor)
    members = list(app.store.workspace(found.id).members)
    if as_json:
        print_json(members)
    else:
        click.echo("\n".join(members))


def _limits(app: App, workspace: Workspace) -> str:
    has = workspace.own_limits.over(app.store.challenge(workspace.challenge).limits)
    return f"{has.cpus:g} cpus, {amount(has.memory)} memory, {has.pids} processes"


@click.command("limits")
@click.argument("workspace")
@click.option("--cpus", type=click.FloatRange(0.01, 1024), help="Cores.")
@click.option("--memory", help="Memory, e.g. 2g. Less than is used makes the kernel end programs.")
@click.option("--pids", type=click.IntRange(32, 1 << 22), help="Processes.")
@click.option("--default", "default", is_flag=True, help="As the challenge says again, but for what is named beside.")
@json_option
@pass_app
def limits_command(
    app: App, workspace: str, cpus: float | None, memory: str | None, pids: int | None, default: bool, as_json: bool
) -> None:
    """Show or change what one workspace may use, at once and for as long as it is not changed again.

    A container that runs has it from now on; one that is made anew, after a reset or a restore, has it as well.
    """
    found = app.store.workspace(workspace)
    named = own_limits({"cpus": cpus, "memory": memory, "pids": pids})
    if default or named != OwnLimits():
        before = OwnLimits() if default else found.own_limits
        changed = {name: value for name, value in plain(named).items() if value is not None}
        found = app.store.set_workspace_limits(found.id, replace(before, **changed), actor=app.actor)
        app.lifecycle.apply_limits(found.id)
    if as_json:
        has = found.own_limits.over(app.store.challenge(found.challenge).limits)
        print_json({**plain(has), "own": plain(found.own_limits)})
        return
    own = [name for name, value in plain(found.own_limits).items() if value is not None]
    whose = f"{', '.join(own)} of its own" if own else "as its challenge says"
    click.echo(f"{found.ref}: {_limits(app, found)} ({whose})")
