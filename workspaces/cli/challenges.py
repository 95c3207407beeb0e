"""Commands about challenges: what their workspaces are made from, and the rules that hold in them."""

from __future__ import annotations

from typing import Any

import click

from workspaces.challengeforms import chosen
from workspaces.cli.common import App, json_option, pass_app, print_json, print_table, when
from workspaces.cli.freezes import freeze_command, thaw_command
from workspaces.errors import EngineError, UsageError
from workspaces.model import FreezeMode, Limits, Network, Recorded, Sbom
from workspaces.names import amount, span


@click.group("challenge")
def challenge_command() -> None:
    """Challenges: image, limits, network, data and dates."""


challenge_command.add_command(freeze_command)
challenge_command.add_command(thaw_command)


def _challenge_options(command: Any) -> Any:
    for option in (
        click.option("--cpus", type=click.FloatRange(0.01, 1024), help="Cores for each workspace (default 1)."),
        click.option("--memory", help="Memory for each workspace, e.g. 2g (default)."),
        click.option("--pids", type=click.IntRange(32, 1 << 22), help="Processes for each workspace (default 512)."),
        click.option("--network", type=click.Choice([n.value for n in Network]), help="open (default) or none."),
        click.option("--mount", "mounts", multiple=True, help="SOURCE:TARGET, read-only data; may be repeated."),
        click.option(
            "--login-user", help="Account inside that a login gets (default root, which is unprivileged outside)."
        ),
        click.option(
            "--forwarding", help="What ssh may forward: some of local,remote,agent,x11 (default all), or none."
        ),
        click.option("--opens", help="First moment of logins, e.g. 2026-05-01T09:00 (UTC without a zone)."),
        click.option("--closes", help="Last moment of logins; open sessions end then."),
        click.option("--idle", help="End sessions in which nothing moves for so long, e.g. 2h (default never)."),
        click.option(
            "--auto-approve",
            type=click.IntRange(0, 1000),
            help="Approve so many requests of a person each day (UTC) without an administrator (default 0).",
        ),
        click.option(
            "--at-close",
            type=click.Choice(["nothing", *(mode.value for mode in FreezeMode)]),
            help="At the closing time: nothing (default), or freeze the challenge, as `challenge freeze --mode` says.",
        ),
        click.option(
            "--downloads", type=click.Choice(["yes", "no"]), help="Let members download versions (default no)."
        ),
        click.option("--session", help="End any session after so long, e.g. 12h (default never)."),
        click.option("--sbom", type=click.Choice([s.value for s in Sbom]), help="List each version's packages."),
        click.option(
            "--record",
            type=click.Choice([kind.value for kind in Recorded]),
            help="Record what terminals show (terminals), which people are told, or nothing (default).",
        ),
        click.option("--keep-last", help="Versions of each workspace that `archive prune` leaves, or all (default)."),
        click.option(
            "--keep-submitted", type=click.Choice(("yes", "no")), help="Keep all that people asked for (default yes)."
        ),
    ):
        command = option(command)
    return command


@challenge_command.command("add")
@click.argument("slug")
@click.option("--image", required=True, help="Base image; `workspaces image list` shows those on this host.")
@_challenge_options
@pass_app
def challenge_add(app: App, /, slug: str, **options: Any) -> None:
    """Add a challenge."""
    values = chosen(Limits(), options, here=app.server is None)
    challenge = app.store.add_challenge(slug, **values, actor=app.actor)
    click.echo(f"Challenge {slug} is there. Add people with: workspaces user add NAME --challenge {slug}")
    if app.server is not None:  # which images it has, its own pages say
        return
    try:
        known = app.engine.image(challenge.image) is not None
    except EngineError as error:
        click.echo(f"Whether the image {challenge.image} is on this host is not known: {error.message}", err=True)
        return
    if not known:
        click.echo(
            f"The image {challenge.image} is not on this host yet: workspaces image build {challenge.image}", err=True
        )


@challenge_command.command("set")
@click.argument("slug")
@click.option("--image")
@_challenge_options
@pass_app
def challenge_set(app: App, /, slug: str, **options: Any) -> None:
    """Change a challenge. Containers that exist keep what they were made with until they are reset."""
    changes = chosen(app.store.challenge(slug).limits, options, here=app.server is None)
    if not changes:
        raise UsageError("Nothing to change was named.", "See: workspaces challenge set --help")
    app.store.set_challenge(slug, actor=app.actor, **changes)
    click.echo(f"Challenge {slug} is changed. Containers that exist keep what they were made with until a reset.")


@challenge_command.command("list")
@json_option
@pass_app
def challenge_list(app: App, as_json: bool) -> None:
    """List challenges."""
    print_table(
        app.store.challenges(),
        (
            ("challenge", lambda c: c.slug),
            ("image", lambda c: c.image),
            ("cpus", lambda c: f"{c.limits.cpus:g}"),
            ("memory", lambda c: amount(c.limits.memory)),
            ("pids", lambda c: c.limits.pids),
            ("network", lambda c: c.network),
            ("opens", lambda c: when(c.opens_at)),
            ("closes", lambda c: when(c.closes_at)),
        ),
        as_json,
        "No challenge yet. Add one with: workspaces challenge add SLUG --image NAME",
    )


@challenge_command.command("show")
@click.argument("slug")
@json_option
@pass_app
def challenge_show(app: App, slug: str, as_json: bool) -> None:
    """Show a challenge."""
    challenge = app.store.challenge(slug)
    if as_json:
        print_json(challenge)
        return
    limits = challenge.limits
    click.echo(f"{challenge.slug}: image {challenge.image}, network {challenge.network}, login {challenge.login_user}")
    click.echo(f"limits: {limits.cpus:g} cpus, {amount(limits.memory)} memory, {limits.pids} processes")
    click.echo(f"forwarding {', '.join(challenge.forwarding) or 'none'}")
    click.echo(f"opens {when(challenge.opens_at)}, closes {when(challenge.closes_at)}")
    idle, longest = (
        "no limit" if limit is None else span(limit) for limit in (challenge.idle_seconds, challenge.session_seconds)
    )
    click.echo(f"sessions: {idle} of idle time, {longest} in all")
    if challenge.keep_last is None:
        click.echo("archive: every version is kept")
    else:
        asked = ", and all that people asked for" if challenge.keep_submitted else ""
        click.echo(f"archive: the last {challenge.keep_last} of each workspace and pinned versions are kept{asked}")
    approved = f"{challenge.auto_approve} a day" if challenge.auto_approve else "none"
    click.echo(f"requests approved without an administrator: {approved} of each person")
    click.echo(
        f"at its closing time: {challenge.at_close or 'nothing'}; downloads: {'yes' if challenge.downloads else 'no'}"
    )
    if challenge.record is not Recorded.NONE:
        click.echo(f"recorded: {challenge.record}")
    if challenge.sbom is not Sbom.NONE:
        click.echo(f"lists each version's packages as {challenge.sbom}")
    if challenge.frozen:
        click.echo(f"frozen ({challenge.frozen}): workspaces challenge freeze {slug} --status")
    for mount in challenge.mounts:
        click.echo(f"read-only data: {mount.source} at {mount.target}")
