"""Commands about SSH sessions: who is on, who was, and ending one."""

from __future__ import annotations

import time

import click

from workspaces.cli.common import App, json_option, pass_app, print_table, when
from workspaces.model import Session
from workspaces.names import span


@click.group("session")
def session_command() -> None:
    """SSH sessions: who is on."""


@session_command.command("list")
@click.option("--workspace", help="Only those in this workspace.")
@click.option("--user", help="Only those of this account.")
@click.option("--all", "ended", is_flag=True, help="Those that have ended as well.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, help="At most so many (default 1000).")
@json_option
@pass_app
def session_list(app: App, workspace: str | None, user: str | None, ended: bool, limit: int, as_json: bool) -> None:
    """List open sessions, the latest first."""
    number = app.store.workspace(workspace).id if workspace else None
    print_table(
        app.store.sessions(number, user, ended=ended, limit=limit),
        (
            ("id", lambda s: s.id),
            ("user", lambda s: s.user),
            ("workspace", lambda s: s.workspace),
            ("kind", lambda s: s.kind),
            ("from", lambda s: s.address),
            ("since", lambda s: when(s.started_at)),
            ("for", _lasted),
            *((("ended", lambda s: when(s.ended_at)),) if ended else ()),
        ),
        as_json,
        "No session." if ended else "Nobody is on.",
    )


def _lasted(session: Session) -> str:
    return span((time.time() if session.ended_at is None else session.ended_at) - session.started_at)


@session_command.command("kill")
@click.argument("sessions", nargs=-1, required=True, type=int, metavar="ID...")
@pass_app
def session_kill(app: App, sessions: tuple[int, ...]) -> None:
    """End open sessions; their processes are hung up. Accounts and workspaces stay as they are."""
    for number in sessions:
        found = app.store.kill_session(number, actor=app.actor)
        click.echo(f"Session {number} of {found.user} in {found.workspace} ends within two seconds.")
