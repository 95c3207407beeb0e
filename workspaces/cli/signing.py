"""Commands about how people sign in to the pages: invitations, second factors, accounts at a provider."""

from __future__ import annotations

import click

from workspaces import accounts
from workspaces.challengeforms import parse_duration
from workspaces.cli.common import App, pass_app
from workspaces.errors import UsageError
from workspaces.names import printable

LASTS = "7d"  # an invitation, unless something else is said


@click.command("invite")
@click.argument("name")
@click.option("--for", "lasts", metavar="LENGTH", default=LASTS, show_default=True, help="How long it is good.")
@click.option("--withdraw", is_flag=True, help="Take back the one that was made.")
@pass_app
def user_invite(app: App, name: str, lasts: str, withdraw: bool) -> None:
    """Print an address with which NAME sets a password, once. An earlier one is void."""
    if withdraw:
        app.store.withdraw_invitation(name, actor=app.actor)
        click.echo(f"No invitation of {name} is good any more.")
        return
    seconds = parse_duration(lasts)
    if seconds is None or seconds <= 0:
        raise UsageError("An invitation is good for some time, such as 2d.")
    if app.there is not None:
        if lasts != LASTS:
            raise UsageError("How long an invitation is good, the server says.", "Leave --for out.")
        click.echo(printable(app.there.invite(name), 1000))
        click.echo(f"Send it to {name} alone: whoever opens it first sets the password.", err=True)
        return
    token = accounts.invite(app.store, name, actor=app.actor, hours=seconds / 3600)
    host, port = app.settings.web_listen
    click.echo(f"{app.settings.web_url or f'http://{host}:{port}'}/invite/{token}")
    click.echo(f"Send it to {name} alone: whoever opens it first sets the password.", err=True)


@click.command("reset-factors")
@click.argument("name")
@pass_app
def user_reset_factors(app: App, name: str) -> None:
    """Remove one-time codes, recovery codes and passkeys of an account: the password alone signs in again."""
    app.store.remove_factors(name, actor=app.actor)
    click.echo(f"{name} signs in with the password alone, and is signed out everywhere.")


@click.command("sign-out")
@click.argument("name")
@pass_app
def user_sign_out(app: App, name: str) -> None:
    """Sign an account out of the pages in every browser. SSH sessions go on."""
    count = app.store.end_sign_ins(name, actor=app.actor)
    click.echo(f"{name} is signed out in {count} browser(s).")


@click.command("link")
@click.argument("name")
@click.argument("subject")
@click.option("--remove", is_flag=True, help="Let it sign in no more.")
@pass_app
def user_link(app: App, name: str, subject: str, remove: bool) -> None:
    """Let who is SUBJECT (the claim `sub`) at the OpenID provider of this host sign in as NAME."""
    if app.settings.oidc is None:
        raise UsageError("This host has no OpenID provider.", "Set [oidc] issuer and client_id in workspaces.toml.")
    issuer = app.settings.oidc.issuer
    if remove:
        known = [one.id for one in app.store.identities(name) if (one.issuer, one.subject) == (issuer, subject)]
        app.store.unlink_identity(name, known[0] if known else 0, actor=app.actor)
        click.echo(f"{subject} no longer signs in as {name}.")
    else:
        app.store.link_identity(name, issuer, subject, subject, actor=app.actor)
        click.echo(f"{subject} at {issuer} signs in as {name}.")


COMMANDS = (user_invite, user_reset_factors, user_sign_out, user_link)
