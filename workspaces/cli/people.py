"""Commands about users and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from workspaces import accounts, roster
from workspaces.cli.common import (
    App,
    json_option,
    pass_app,
    plain,
    print_json,
    print_table,
    read_key,
    read_password,
    when,
)
from workspaces.cli.signing import COMMANDS
from workspaces.errors import InvalidInput, UsageError
from workspaces.model import Role
from workspaces.names import printable

if TYPE_CHECKING:
    from workspaces.remote import RemoteStore


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
    role = Role.ADMIN if admin else Role.PARTICIPANT
    if app.server is not None:
        _add_there(app, name, role, challenge, read_key(key_file) if key_file else None, password_file)
        return
    password = read_password(password_file, name) if password_file or not key_file else None
    if password is None and key_file is None and not app.store.authorities():
        raise UsageError(f"{name} needs a key or a password to log in with.", "Use --key FILE or --password-file FILE.")
    accounts.create_user(
        app.store,
        name,
        role=role,
        challenge=challenge,
        password=password,
        key=read_key(key_file) if key_file else None,
        actor=app.actor,
    )
    click.echo(f"{name} can log in." if challenge else f"{name} is there.")


def _add_there(
    app: App, name: str, role: Role, challenge: str | None, key: str | None, password_file: str | None
) -> None:
    """On a server elsewhere, to which no password is sent."""
    if password_file is not None:
        raise UsageError("A password is not sent to a server.", "Give a key, or have the person invited on its pages.")
    cast("RemoteStore", app.store).create_user(name, role, challenge, key)
    click.echo(f"{name} can log in." if key and challenge else f"{name} is there.")


@user_command.command("list")
@json_option
@pass_app
def user_list(app: App, as_json: bool) -> None:
    """List accounts."""
    if app.there is not None:
        users, of = app.there.user_lines()
    else:
        users = app.store.users()
        of = {u.name: (len(app.store.keys(u.name)), [w.ref for w in app.store.workspaces_of(u.name)]) for u in users}
    print_table(
        users,
        (
            ("name", lambda u: u.name),
            ("role", lambda u: u.role),
            ("password", lambda u: ("with code" if u.has_totp else "yes") if u.has_password else "no"),
            ("keys", lambda u: of[u.name][0]),
            ("disabled", lambda u: "yes" if u.disabled else "no"),
            ("workspaces", lambda u: ", ".join(of[u.name][1])),
            ("since", lambda u: when(u.created_at)),
        ),
        as_json,
        "No account yet.",
    )


@user_command.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--challenge", default="", help="That of rows that name none.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@pass_app
def user_import(app: App, file: Any, challenge: str, dry_run: bool) -> None:
    """Add the people of a CSV file: a header with name and any of challenge, workspace, email, key.

    All of it is done or nothing. Rows with the same workspace make a team. What is there already stays, so that a
    longer list may be imported later. People without a key need a password (user passwd) or an invitation.
    """
    data = file.read(roster.MAX_BYTES + 1)
    rows: list[roster.Row] = []
    if app.there is not None:
        found = _planned(app.there.enrol(_text(data), challenge, check=True))
    else:
        rows, problems = roster.parse(data, challenge)
        found = roster.plan(app.store, rows, problems)
    for problem in found.problems:
        click.echo(f"line {problem.line}{problem.column and ', '}{problem.column}: {problem.message}", err=True)
    if found.problems:
        raise InvalidInput("Nothing was done.", "Mend these lines and import it again.")
    if not dry_run and app.there is not None:
        found = _planned(app.there.enrol(_text(data), challenge, check=False))
    elif not dry_run:
        found = roster.enrol(app.store, rows, actor=app.actor)
    for step in found.steps:
        click.echo(f"{step.row.name} {step.row.ref}".strip() + f": {', '.join(step.does) or 'is there'}")
    done = "would be made" if dry_run else "made"
    click.echo(f"{found.count('account')} accounts and {found.count('workspace')} workspaces {done}.")


def _text(data: bytes) -> str:
    if len(data) > roster.MAX_BYTES:
        raise InvalidInput("The file is too large for a list of people.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidInput("The file is not UTF-8.", "Save it as CSV in UTF-8.") from exc


def _planned(told: Any) -> roster.Plan:
    """What a server says of a list of people."""
    steps = []
    for one in told["steps"]:
        challenge, _, workspace = one["workspace"].partition("/")
        row = roster.Row(one["line"], printable(one["name"]), printable(challenge), printable(workspace))
        steps.append(roster.Step(row, tuple(map(printable, one["does"]))))
    problems = [
        roster.Problem(one["line"], printable(one["column"]), printable(one["message"], 300))
        for one in told["problems"]
    ]
    return roster.Plan(tuple(steps), tuple(problems))


@user_command.command("show")
@click.argument("name")
@json_option
@pass_app
def user_show(app: App, name: str, as_json: bool) -> None:
    """Show an account: what it may do, and how it signs in."""
    user, rights = app.store.user(name), app.store.rights_of(name)
    keys, spaces = app.store.keys(name), [w.ref for w in app.store.workspaces_of(name)]
    if as_json:
        print_json({**plain(user), "challenges": dict(rights.challenges), "keys": len(keys), "workspaces": spaces})
        return
    there = [f"{role} in {slug}" for slug, role in sorted(rights.challenges.items())]
    click.echo(f"{user.name}: {', '.join([user.role, *there])}{'; disabled' if user.disabled else ''}")
    click.echo(f"since {when(user.created_at)}; news are mailed to {user.email or 'nobody'}")
    code = " with a one-time code" if user.has_totp else ""
    click.echo(f"signs in with {f'a password{code}' if user.has_password else 'no password'} and {len(keys)} key(s)")
    click.echo(f"workspaces: {', '.join(spaces) or '-'}")


@user_command.command("role")
@click.argument("name")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.option("--challenge", metavar="SLUG", help="In this challenge only; participant takes the role there away.")
@pass_app
def user_role(app: App, name: str, role: str, challenge: str | None) -> None:
    """Say what an account may do: decide on requests (reviewer), or all (admin)."""
    if challenge is None:
        app.store.set_role(name, Role(role), actor=app.actor)
        click.echo(f"{name} is {role} on this host.")
    else:
        app.store.set_challenge_role(name, challenge, Role(role), actor=app.actor)
        click.echo(f"{name} is {role} in {challenge}.")


@user_command.command("passwd")
@click.argument("name")
@click.option("--password-file", help="File with one line, the password (- for standard input).")
@pass_app
def user_passwd(app: App, name: str, password_file: str | None) -> None:
    """Set a password."""
    app.only_here("A password does not pass through a server's API, so setting one")
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


@user_command.command("set-email")
@click.argument("name")
@click.argument("address", required=False)
@click.option("--remove", is_flag=True, help="Mail nothing any more.")
@pass_app
def user_set_email(app: App, name: str, address: str | None, remove: bool) -> None:
    """Mail news to ADDRESS, if this host sends mail ([mail] in workspaces.toml)."""
    if (address is None) is not remove:
        raise UsageError("Give either an address or --remove.")
    app.store.set_email(name, address, actor=app.actor)
    click.echo(f"News for {name} are mailed to {address}." if address else f"Nothing is mailed to {name} any more.")


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


for _command in COMMANDS:
    user_command.add_command(_command)


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
