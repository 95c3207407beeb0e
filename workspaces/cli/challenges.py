"""Commands about challenges: what their workspaces are made from, and the rules that hold in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workspaces.cli.common import App, json_option, parse_duration, parse_time, pass_app, print_json, print_table, when
from workspaces.cli.freezes import freeze_command, thaw_command
from workspaces.errors import EngineError, InvalidInput, UsageError
from workspaces.model import Forwarding, FreezeMode, Limits, Mount, Network, Recorded, Sbom
from workspaces.names import amount, check_image, parse_size, printable, span


def parse_mount(text: str) -> Mount:
    """`/data/als:/data` (host directory, path inside), always read-only. Raises InvalidInput."""
    source, colon, target = text.partition(":")
    if not colon or not source.startswith("/") or not target.startswith("/") or ":" in target:
        raise InvalidInput(f"{text!r} is not a mount.", "Write it as /directory/on/host:/path/inside.")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or parts[0] in ("dev", "proc", "sys"):
        raise InvalidInput(f"Nothing can be mounted at {target}.")
    if not Path(source).is_dir():
        raise InvalidInput(f"{source} is not a directory on this host.")
    return Mount(source, target)


def parse_forwarding(text: str) -> tuple[Forwarding, ...]:
    """`local,agent` or `none` as the kinds that are allowed. Raises InvalidInput."""
    words = [word.strip() for word in text.lower().split(",") if word.strip()]
    kinds = {kind.value: kind for kind in Forwarding}
    if words == ["none"]:
        return ()
    wrong = next((word for word in words if word not in kinds), None)
    if wrong is not None or not words:
        shown = printable(text if wrong is None else wrong, 64)
        raise InvalidInput(f"{shown!r} is no kind of forwarding.", f"Write some of {','.join(kinds)}, or none.")
    return tuple(kinds[word] for word in dict.fromkeys(words))


def parse_keep(text: str | None) -> int | None:
    """`10` as a number of versions; None for `all` and for None. Raises InvalidInput."""
    if text is None or text.strip().lower() == "all":
        return None
    if not text.isdecimal() or len(text) > 7:
        raise InvalidInput(f"{printable(text, 20)!r} is not a number of versions.", "Write it as 10, or all.")
    return int(text)


@click.group("challenge")
def challenge_command() -> None:
    """Challenges: image, limits, network, data and dates."""


challenge_command.add_command(freeze_command)
challenge_command.add_command(thaw_command)

# option → the store's name for it, and how its text is read
_MEANINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "image": ("image", check_image),
    "network": ("network", Network),
    "mounts": ("mounts", lambda texts: tuple(parse_mount(text) for text in texts)),
    "login_user": ("login_user", str),
    "forwarding": ("forwarding", parse_forwarding),
    "opens": ("opens_at", parse_time),
    "closes": ("closes_at", parse_time),
    "idle": ("idle_seconds", parse_duration),
    "session": ("session_seconds", parse_duration),
    "auto_approve": ("auto_approve", int),
    "at_close": ("at_close", lambda text: None if text == "nothing" else FreezeMode(text)),
    "downloads": ("downloads", lambda text: text == "yes"),
    "sbom": ("sbom", Sbom),
    "record": ("record", Recorded),
    "keep_last": ("keep_last", parse_keep),
    "keep_submitted": ("keep_submitted", lambda text: text == "yes"),
}


def _chosen(base: Limits, options: dict[str, Any]) -> dict[str, Any]:
    """What the options say, by the store's names; what was not given is absent. Raises InvalidInput."""
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    found = {name: read(given[option]) for option, (name, read) in _MEANINGS.items() if option in given}
    if given.keys() & {"cpus", "memory", "pids"}:
        memory = parse_size(given["memory"]) if "memory" in given else base.memory
        found["limits"] = Limits(given.get("cpus", base.cpus), memory, given.get("pids", base.pids))
    return found


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
    challenge = app.store.add_challenge(slug, **_chosen(Limits(), options), actor=app.actor)
    click.echo(f"Challenge {slug} is there. Add people with: workspaces user add NAME --challenge {slug}")
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
    changes = _chosen(app.store.challenge(slug).limits, options)
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
