"""Commands about who is believed: certificate authorities of users, and the gateway's own host keys."""

from __future__ import annotations

from typing import Any

import click

from workspaces import accounts
from workspaces.cli.common import App, json_option, pass_app, print_table, read_key, when

_NEW_START = "Gateways learn it when they start."


@click.group("authority")
def authority_command() -> None:
    """Certificate authorities: whose user certificates log in."""


@authority_command.command("add")
@click.argument("file", type=click.File("rb"))
@click.option("--challenge", metavar="SLUG", help="Believe it for workspaces of this challenge only.")
@pass_app
def authority_add(app: App, file: Any, challenge: str | None) -> None:
    """Trust certificates signed with the key whose public half is in FILE (- for standard input).

    A certificate lets in who has an account of a name among its principals.
    """
    fingerprint, line = accounts.parse_public_key(read_key(file))
    app.store.add_authority(fingerprint, line, challenge, actor=app.actor)
    where = f"workspaces of {challenge}" if challenge else "all workspaces of their people"
    click.echo(f"Certificates signed by {fingerprint} let into {where}.")


@authority_command.command("list")
@json_option
@pass_app
def authority_list(app: App, as_json: bool) -> None:
    """List trusted authorities."""
    print_table(
        app.store.authorities(),
        (
            ("fingerprint", lambda a: a.fingerprint),
            ("challenge", lambda a: a.challenge or "all"),
            ("type", lambda a: a.line.split()[0]),
            ("comment", lambda a: " ".join(a.line.split()[2:])),
            ("added", lambda a: when(a.added_at)),
        ),
        as_json,
        "No authority is trusted. Add one with: workspaces authority add FILE",
    )


@authority_command.command("remove")
@click.argument("fingerprint")
@click.option("--challenge", metavar="SLUG", help="The one that is trusted for this challenge.")
@pass_app
def authority_remove(app: App, fingerprint: str, challenge: str | None) -> None:
    """Trust an authority no more, by its fingerprint."""
    app.store.remove_authority(fingerprint, challenge, actor=app.actor)
    click.echo("Its certificates let nobody in any more. Sessions that are open go on.")


@click.group("hostkey")
def hostkey_command() -> None:
    """The gateway's host keys: the one in use, its certificate, and the next one."""


@hostkey_command.command("list")
@json_option
@pass_app
def hostkey_list(app: App, as_json: bool) -> None:
    """List the host keys, and whether a certificate lies beside them."""
    from sshgate.hostkey import list_host_keys

    print_table(
        list_host_keys(app.settings.keys),
        (
            ("state", lambda k: k.state),
            ("fingerprint", lambda k: k.fingerprint),
            ("certificate", lambda k: k.certificate),
            ("file", lambda k: k.path),
        ),
        as_json,
        "",
    )


@hostkey_command.command("prepare")
@pass_app
def hostkey_prepare(app: App) -> None:
    """Make the next host key, so that clients with UpdateHostKeys learn it before it is used."""
    from sshgate.hostkey import prepare_host_key

    fingerprint = prepare_host_key(app.settings.keys)
    app.store.add_event(app.actor, "hostkey.prepared", data={"fingerprint": fingerprint})
    click.echo(f"The next host key is {fingerprint}. {_NEW_START}")
    click.echo("When people have logged in since then: workspaces hostkey activate")


@hostkey_command.command("activate")
@pass_app
def hostkey_activate(app: App) -> None:
    """Use the next host key from the gateway's next start on; the one before it is kept as .old."""
    from sshgate.hostkey import activate_host_key

    fingerprint = activate_host_key(app.settings.keys)
    app.store.add_event(app.actor, "hostkey.activated", data={"fingerprint": fingerprint})
    click.echo(f"The host key is {fingerprint}. {_NEW_START}")
