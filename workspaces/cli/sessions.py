"""Commands about SSH sessions: who is on, who was, ending one, and seeing what its terminal showed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

import click

from workspaces import casts, recordings
from workspaces.cli.common import App, json_option, pass_app, print_table, save, when
from workspaces.cli.playing import follow, play
from workspaces.model import Recording, Session
from workspaces.names import amount, span


@click.group("session")
def session_command() -> None:
    """SSH sessions: who is on."""


@session_command.command("list")
@click.option("--workspace", help="Only those in this workspace.")
@click.option("--user", help="Only those of this account.")
@click.option("--all", "ended", is_flag=True, help="Those that have ended as well.")
@click.option("--recorded", is_flag=True, help="Those with a recording, ended ones as well.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, help="At most so many (default 1000).")
@json_option
@pass_app
def session_list(
    app: App, workspace: str | None, user: str | None, ended: bool, recorded: bool, limit: int, as_json: bool
) -> None:
    """List open sessions, the latest first."""
    number = app.store.workspace(workspace).id if workspace else None
    ended = ended or recorded
    found = app.store.sessions(number, user, ended=ended, recorded=recorded, limit=limit)
    files = app.store.recordings_of(session.id for session in found) if recorded else {}
    print_table(
        found,
        (
            ("id", lambda s: s.id),
            ("user", lambda s: s.user),
            ("workspace", lambda s: s.workspace),
            ("kind", lambda s: s.kind),
            ("from", lambda s: s.address),
            ("since", lambda s: when(s.started_at)),
            ("for", _lasted),
            *((("ended", lambda s: when(s.ended_at)),) if ended else ()),
            *((("size", lambda s: _size(files.get(s.id))),) if recorded else ()),
            *((("length", lambda s: _length(files.get(s.id))),) if recorded else ()),
        ),
        as_json,
        "No session." if ended else "Nobody is on.",
    )


def _size(recording: Recording | None) -> str:
    return amount(recording.size) if recording and recording.ended_at else "-"


def _length(recording: Recording | None) -> str:
    return span(recording.seconds) if recording else "-"


def _lasted(session: Session) -> str:
    return span((time.time() if session.ended_at is None else session.ended_at) - session.started_at)


@session_command.command("replay")
@click.argument("session", type=int)
@click.option("--speed", type=click.FloatRange(0.1, 1000), default=1.0, help="So many times as fast (default 1).")
@click.option("--idle", type=click.FloatRange(0.0, 3600), default=2.0, help="Seconds of silence at most (default 2).")
@pass_app
def session_replay(app: App, session: int, speed: float, idle: float) -> None:
    """Show again what a session's terminal showed; Ctrl-C ends it. The record says who looked."""
    with ExitStack() as stack:
        if app.there is not None:
            file = stack.enter_context(NamedTemporaryFile(suffix=".cast"))
            app.there.download_cast(session, cast("BinaryIO", file))
            file.flush()
            path = Path(file.name)
        else:
            path = recordings.find(app.store, app.settings.recordings, session)
            app.store.note_look(session, "replay", actor=app.actor)
        play(casts.events(path), casts.first_size(path), speed=speed, idle=idle)


@session_command.command("watch")
@click.argument("session", type=int)
@pass_app
def session_watch(app: App, session: int) -> None:
    """Show what a session's terminal shows, until it ends; Ctrl-C ends watching only. The record says who looked."""
    recordings.find(app.store, app.settings.recordings, session)

    def more(start: int) -> recordings.Played:
        app.store.note_look(session, "watch", actor=app.actor)
        return recordings.part(app.store, app.settings.recordings, session, start)

    follow(more)


@session_command.command("export")
@click.argument("session", type=int)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A new file; without it, standard output.")
@pass_app
def session_export(app: App, session: int, output: Path | None) -> None:
    """Write a session's recording in asciicast v2, as asciinema plays it. The record says who took it."""
    if app.there is not None:
        there = app.there
        save(output, lambda target: there.download_cast(session, target))
        return
    path = recordings.find(app.store, app.settings.recordings, session)
    size, _ = casts.measure(path)
    app.store.note_look(session, "export", actor=app.actor)

    def copy(target: BinaryIO) -> int:
        with casts.open_cast(path) as source:
            left = size
            while left and (piece := source.read(min(left, 1 << 20))):
                left -= target.write(piece)
        return size - left

    save(output, copy)


@session_command.command("kill")
@click.argument("sessions", nargs=-1, required=True, type=int, metavar="ID...")
@pass_app
def session_kill(app: App, sessions: tuple[int, ...]) -> None:
    """End open sessions; their processes are hung up. Accounts and workspaces stay as they are."""
    for number in sessions:
        found = app.store.kill_session(number, actor=app.actor)
        click.echo(f"Session {number} of {found.user} in {found.workspace} ends within two seconds.")
