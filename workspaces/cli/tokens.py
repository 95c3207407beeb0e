"""Commands about tokens, with which programs use the API in a person's name."""

from __future__ import annotations

import time

import click

from workspaces import apitokens
from workspaces.cli.common import App, json_option, pass_app, print_table, when
from workspaces.scopes import DAYS_MAX, SCOPES, Scope


@click.group("token")
def token_command() -> None:
    """Tokens for programs that use the API."""


@token_command.command("add")
@click.argument("user")
@click.option("--name", required=True, help="What will use it.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([s.value for s in Scope]),
    default=("read",),
    show_default=True,
    help="; ".join(f"{scope}: {meaning.text}" for scope, meaning in SCOPES.items()) + ". May be repeated.",
)
@click.option("--days", type=click.IntRange(1, DAYS_MAX), default=apitokens.DAYS, show_default=True, help="How long.")
@pass_app
def token_add(app: App, user: str, name: str, scopes: tuple[str, ...], days: int) -> None:
    """Make a token that acts as USER, and print it: it is shown this once. It never does more than USER may."""
    token, secret = apitokens.make(app.store, user, name, scopes, days, actor=app.actor)
    click.echo(secret)
    click.echo(f"Token {token.id} of {user} works until {when(token.expires_at)}.", err=True)


@token_command.command("list")
@click.argument("user", required=False)
@json_option
@pass_app
def token_list(app: App, user: str | None, as_json: bool) -> None:
    """List the tokens of USER, or of all."""
    print_table(
        app.store.tokens(user),
        (
            ("id", lambda t: t.id),
            ("user", lambda t: t.user),
            ("name", lambda t: t.name),
            ("begins", lambda t: t.hint),
            ("scopes", lambda t: ", ".join(t.scopes)),
            ("until", lambda t: when(t.expires_at) + (" (over)" if t.expires_at <= time.time() else "")),
            ("last used", lambda t: when(t.last_used_at)),
            ("from", lambda t: t.last_used_from or "-"),
        ),
        as_json,
        "No token.",
    )


@token_command.command("remove")
@click.argument("id", type=int)
@pass_app
def token_remove(app: App, id: int) -> None:
    """Remove a token; it works no more."""
    found = app.store.remove_token(id, actor=app.actor)
    click.echo(f"Token {id} of {found.user} is removed.")
