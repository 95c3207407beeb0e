"""Commands that say something to people: announcements for all, and messages to who is on."""

from __future__ import annotations

import sys

import click

from workspaces import messages
from workspaces.challengeforms import parse_time
from workspaces.cli.common import App, json_option, pass_app, print_table, when
from workspaces.model import Severity
from workspaces.names import printable


@click.group("announcement")
def announcement_command() -> None:
    """Announcements: shown on every page and at each login, for a time."""


@announcement_command.command("add")
@click.option("-m", "--message", required=True, help="What is announced, at most 1000 characters.")
@click.option("--severity", type=click.Choice([s.value for s in Severity]), default="info", help="Default info.")
@click.option("--challenge", help="Only for those in this challenge.")
@click.option("--from", "begins", help="When it begins, e.g. 2026-05-01T18:00 (UTC without a zone); default now.")
@click.option("--until", help="When it ends; default when it is ended.")
@pass_app
def announcement_add(
    app: App, message: str, severity: str, challenge: str | None, begins: str | None, until: str | None
) -> None:
    """Announce something. Who has a terminal open reads it at once, or when it begins."""
    made = app.store.add_announcement(
        message,
        Severity(severity),
        challenge=challenge,
        from_at=parse_time(begins),
        until_at=parse_time(until),
        actor=app.actor,
    )
    click.echo(f"Announcement {made.id} is there. End it with: workspaces announcement end {made.id}")


@announcement_command.command("list")
@click.option("--all", "ended", is_flag=True, help="Those that have ended as well.")
@json_option
@pass_app
def announcement_list(app: App, ended: bool, as_json: bool) -> None:
    """List announcements that are shown or will be."""
    print_table(
        app.store.announcements(ended=ended),
        (
            ("id", lambda a: a.id),
            ("severity", lambda a: a.severity),
            ("for", lambda a: a.challenge or "all"),
            ("from", lambda a: when(a.from_at)),
            ("until", lambda a: when(a.until_at)),
            ("by", lambda a: a.created_by),
            ("text", lambda a: a.text),
        ),
        as_json,
        "Nothing is announced.",
    )


@announcement_command.command("end")
@click.argument("announcements", nargs=-1, required=True, type=int, metavar="ID...")
@pass_app
def announcement_end(app: App, announcements: tuple[int, ...]) -> None:
    """End announcements: no page and no login shows them any more."""
    for number in announcements:
        app.store.end_announcement(number, actor=app.actor)
        click.echo(f"Announcement {number} has ended.")


@click.command("message")
@click.argument("workspaces", nargs=-1, required=True)
@click.option("-m", "--message", required=True, help="What they read, in one line.")
@pass_app
def message_command(app: App, workspaces: tuple[str, ...], message: str) -> None:
    """Say something to whoever has a terminal open in WORKSPACES."""
    if app.there is not None:
        results = app.there.tell(workspaces, message)
    else:
        sent = messages.send(app.store, workspaces, message, actor=app.actor)
        results = [(one.workspace, one.said, not one.error) for one in sent]
    for workspace, said, good in results:
        click.echo(f"{printable(workspace)}: {printable(said, 500)}", err=not good)
    if not all(good for _, _, good in results):
        sys.exit(1)
