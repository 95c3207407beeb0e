"""Commands about challenges, users and their keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from workspaces import accounts
from workspaces.cli.common import (
    App,
    json_option,
    parse_duration,
    parse_time,
    pass_app,
    print_json,
    print_table,
    read_key,
    read_password,
    when,
)
from workspaces.errors import EngineError, InvalidInput, UsageError
from workspaces.model import Forwarding, Limits, Mount, Network, Role, Sbom
from workspaces.names import amount, check_image, printable, span

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int:
    """`512m`, `2g` or `1.5GiB` as bytes, in powers of 1024. Raises InvalidInput."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise InvalidInput(f"{text!r} is not a size.", "Write it as 512m or 2g.")
    return int(float(found[1]) * _UNITS[found[2]])


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


@click.group("challenge")
def challenge_command() -> None:
    """Challenges: image, limits, network, data and dates."""


def _limits(base: Limits, cpus: float | None, memory: str | None, pids: int | None) -> Limits:
    return Limits(
        cpus=base.cpus if cpus is None else cpus,
        memory=base.memory if memory is None else parse_size(memory),
        pids=base.pids if pids is None else pids,
    )


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
        click.option("--session", help="End any session after so long, e.g. 12h (default never)."),
        click.option("--sbom", type=click.Choice([s.value for s in Sbom]), help="List each version's packages."),
    ):
        command = option(command)
    return command


@challenge_command.command("add")
@click.argument("slug")
@click.option("--image", required=True, help="Base image; `workspaces image list` shows those on this host.")
@_challenge_options
@pass_app
def challenge_add(app: App, slug: str, image: str, cpus: float | None, memory: str | None, pids: int | None,
                  network: str | None, mounts: tuple[str, ...], login_user: str | None, forwarding: str | None,
                  opens: str | None, closes: str | None, idle: str | None,
                  session: str | None, sbom: str | None) -> None:  # fmt: skip
    """Add a challenge."""
    app.store.add_challenge(
        slug,
        check_image(image),
        _limits(Limits(), cpus, memory, pids),
        Network(network or Network.OPEN),
        tuple(parse_mount(m) for m in mounts),
        login_user or "root",
        parse_time(opens),
        parse_time(closes),
        tuple(Forwarding) if forwarding is None else parse_forwarding(forwarding),
        parse_duration(idle),
        parse_duration(session),
        Sbom(sbom or Sbom.NONE),
        actor=app.actor,
    )
    click.echo(f"Challenge {slug} is there. Add people with: workspaces user add NAME --challenge {slug}")
    try:
        known = app.engine.image(image) is not None
    except EngineError as error:
        click.echo(f"Whether the image {image} is on this host is not known: {error.message}", err=True)
        return
    if not known:
        click.echo(f"The image {image} is not on this host yet: workspaces image build {image}", err=True)


@challenge_command.command("set")
@click.argument("slug")
@click.option("--image")
@_challenge_options
@pass_app
def challenge_set(app: App, slug: str, image: str | None, cpus: float | None, memory: str | None, pids: int | None,
                  network: str | None, mounts: tuple[str, ...], login_user: str | None, forwarding: str | None,
                  opens: str | None, closes: str | None, idle: str | None,
                  session: str | None, sbom: str | None) -> None:  # fmt: skip
    """Change a challenge. Containers that exist keep what they were made with until they are reset."""
    changes: dict[str, Any] = {}
    if image:
        changes["image"] = check_image(image)
    if cpus is not None or memory is not None or pids is not None:
        changes["limits"] = _limits(app.store.challenge(slug).limits, cpus, memory, pids)
    if network:
        changes["network"] = Network(network)
    if mounts:
        changes["mounts"] = tuple(parse_mount(m) for m in mounts)
    if login_user:
        changes["login_user"] = login_user
    if forwarding is not None:
        changes["forwarding"] = parse_forwarding(forwarding)
    if opens is not None:
        changes["opens_at"] = parse_time(opens)
    if closes is not None:
        changes["closes_at"] = parse_time(closes)
    if idle is not None:
        changes["idle_seconds"] = parse_duration(idle)
    if session is not None:
        changes["session_seconds"] = parse_duration(session)
    if sbom is not None:
        changes["sbom"] = Sbom(sbom)
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
    if challenge.sbom is not Sbom.NONE:
        click.echo(f"lists each version's packages as {challenge.sbom}")
    for mount in challenge.mounts:
        click.echo(f"read-only data: {mount.source} at {mount.target}")


@click.group("user")
def user_command() -> None:
    """Accounts."""


@user_command.command("add")
@click.argument("name")
@click.option("--admin", is_flag=True, help="An administrator.")
@click.option("--challenge", help="Make a workspace of the same name in this challenge.")
@click.option("--key", "key_file", type=click.File("rb"), help="Public key file (- for standard input).")
@click.option("--password-file", help="File with one line, the password (- for standard input).")
@pass_app
def user_add(app: App, name: str, admin: bool, challenge: str | None, key_file: Any, password_file: str | None) -> None:
    """Add an account, with a key, a password, or both; with neither where certificates are trusted."""
    password = read_password(password_file, name) if password_file or not key_file else None
    if password is None and key_file is None and not app.store.authorities():
        raise UsageError(f"{name} needs a key or a password to log in with.", "Use --key FILE or --password-file FILE.")
    accounts.create_user(
        app.store,
        name,
        role=Role.ADMIN if admin else Role.PARTICIPANT,
        challenge=challenge,
        password=password,
        key=read_key(key_file) if key_file else None,
        actor=app.actor,
    )
    click.echo(f"{name} can log in." if challenge else f"{name} is there.")


@user_command.command("list")
@json_option
@pass_app
def user_list(app: App, as_json: bool) -> None:
    """List accounts."""
    print_table(
        app.store.users(),
        (
            ("name", lambda u: u.name),
            ("role", lambda u: u.role),
            ("password", lambda u: ("with code" if u.has_totp else "yes") if u.has_password else "no"),
            ("keys", lambda u: len(app.store.keys(u.name))),
            ("disabled", lambda u: "yes" if u.disabled else "no"),
            ("workspaces", lambda u: ", ".join(w.ref for w in app.store.workspaces_of(u.name))),
            ("since", lambda u: when(u.created_at)),
        ),
        as_json,
        "No account yet.",
    )


@user_command.command("passwd")
@click.argument("name")
@click.option("--password-file", help="File with one line, the password (- for standard input).")
@pass_app
def user_passwd(app: App, name: str, password_file: str | None) -> None:
    """Set a password."""
    app.store.user(name)
    password = read_password(password_file, name)
    if password is None:
        raise UsageError("No password was given.", "Use --password-file FILE, or run it on a terminal.")
    app.store.set_password_hash(name, accounts.hash_password(password), actor=app.actor)
    click.echo(f"{name} has a new password.")


@user_command.command("totp")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Ask for the password alone again.")
@pass_app
def user_totp(app: App, name: str, remove: bool) -> None:
    """Ask for a one-time code beside the password. Prints the secret, once; a second call makes a new one."""
    if remove:
        app.store.set_totp_secret(name, None, actor=app.actor)
        click.echo(f"{name} logs in with the password alone.")
        return
    secret, uri = accounts.begin_totp(app.store, name, actor=app.actor)
    click.echo(f"secret: {secret}\n{uri}")
    click.echo(f"{name} puts one of these into an authenticator app. A password alone lets in no more.", err=True)


@user_command.command("disable")
@click.argument("name")
@pass_app
def user_disable(app: App, name: str) -> None:
    """Refuse logins of an account; its workspace stays."""
    app.store.set_disabled(name, True, actor=app.actor)
    click.echo(f"{name} can no longer log in.")


@user_command.command("enable")
@click.argument("name")
@pass_app
def user_enable(app: App, name: str) -> None:
    """Allow logins again."""
    app.store.set_disabled(name, False, actor=app.actor)
    click.echo(f"{name} can log in again.")


@user_command.command("remove")
@click.argument("name")
@pass_app
def user_remove(app: App, name: str) -> None:
    """Remove an account and its keys. Workspaces and their history stay."""
    app.store.remove_user(name, actor=app.actor)
    click.echo(f"{name} is removed.")


@click.group("key")
def key_command() -> None:
    """Public keys."""


@key_command.command("add")
@click.argument("user")
@click.argument("file", type=click.File("rb"))
@pass_app
def key_add(app: App, user: str, file: Any) -> None:
    """Add a public key from FILE (- for standard input) to an account, with options in front as in authorized_keys."""
    fingerprint, line, options = accounts.parse_key_line(read_key(file))
    app.store.add_key(user, fingerprint, line, options, actor=app.actor)
    click.echo(f"{user} can log in with {fingerprint}.")


@key_command.command("list")
@click.argument("user")
@json_option
@pass_app
def key_list(app: App, user: str, as_json: bool) -> None:
    """List the keys of an account."""
    app.store.user(user)
    print_table(
        app.store.keys(user),
        (
            ("fingerprint", lambda k: k.fingerprint),
            ("type", lambda k: k.line.split()[0]),
            ("comment", lambda k: " ".join(k.line.split()[2:])),
            ("options", lambda k: k.options or "-"),
            ("added", lambda k: when(k.added_at)),
            ("last used", lambda k: when(k.last_used_at)),
            ("from", lambda k: k.last_used_from or "-"),
        ),
        as_json,
        f"{user} has no key.",
    )


@key_command.command("remove")
@click.argument("user")
@click.argument("fingerprint")
@pass_app
def key_remove(app: App, user: str, fingerprint: str) -> None:
    """Remove a key by its fingerprint."""
    app.store.remove_key(user, fingerprint, actor=app.actor)
    click.echo(f"{user} can no longer log in with {fingerprint}.")
