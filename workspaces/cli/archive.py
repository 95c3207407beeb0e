"""Commands about the archive of committed versions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click

from workspaces import snapshots
from workspaces.archive.tarball import Form
from workspaces.cli.common import App, json_option, pass_app, print_json, print_table
from workspaces.cli.evidence import archive_provenance, archive_with, identity_option
from workspaces.errors import WorkspacesError
from workspaces.model import Snapshot
from workspaces.names import amount, printable


@click.group("archive")
def archive_command() -> None:
    """The archive of committed versions (an OCI image layout)."""


archive_command.add_command(archive_provenance)


@archive_command.command("list")
@json_option
@pass_app
def archive_list(app: App, as_json: bool) -> None:
    """List archived images."""
    print_table(
        app.archive.list(),
        (
            ("image", lambda i: i.ref),
            ("manifest", lambda i: i.digest),
            ("layers", lambda i: len(i.diff_ids) if i.opened else "-"),
            ("compressed", lambda i: amount(i.size) if i.opened else "-"),
            ("encrypted", lambda i: ("yes" if i.opened else "for others") if i.encrypted else "no"),
        ),
        as_json,
        "The archive is empty.",
    )


@archive_command.command("verify")
@identity_option
@json_option
@pass_app
def archive_verify(app: App, identity: Path | None, as_json: bool) -> None:
    """Read every blob again and compare it with its digest; name each one that is bad, and the images it hurts."""
    with _Counter() as counter:
        verdict = archive_with(app, identity).verify(counter)
    if as_json:
        print_json(verdict)
    for problem in verdict.problems if not as_json else ():
        click.echo(str(problem), err=True)
    if verdict.problems:
        bad = len(verdict.problems)
        raise WorkspacesError(
            f"{bad} blob{'s are' if bad > 1 else ' is'} missing or damaged.", "Restore what is named from a backup."
        )
    if not as_json:
        click.echo(f"{verdict.blobs} blobs are there and whole.")
        if verdict.sealed:
            click.echo(
                f"{verdict.sealed} encrypted layers were not looked into; --identity FILE compares their contents too."
            )


@archive_command.command("export")
@click.argument("image")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(get_args(Form)), default="both", help="For whom (default both).")
@identity_option
@pass_app
def archive_export(app: App, image: str, file: Path, form: Form, identity: Path | None) -> None:
    """Write an archived IMAGE (e.g. als/alice:v1) to FILE, a tar that `docker load` and OCI tools read; decrypted."""
    archive_with(app, identity).export(image, file, form)
    how = f"skopeo copy oci-archive:{file.name} …" if form == "oci" else f"docker load -i {file.name}"
    click.echo(f"{file} has {image}, {amount(file.stat().st_size)}. Elsewhere: {how}")


@archive_command.command("gc")
@click.option("--delete", is_flag=True, help="Delete it; else it is only shown.")
@json_option
@pass_app
def archive_gc(app: App, delete: bool, as_json: bool) -> None:
    """Show what no archived version refers to, and delete it when told so."""

    def told(name: str, size: int) -> None:
        app.store.add_event(app.actor, "archive.deleted", data={"what": name, "bytes": size})

    found = app.archive.collect(told) if delete else app.archive.garbage()
    if as_json:
        print_json(found)
        return
    for blob in found.blobs:
        click.echo(f"{blob.digest}  {amount(blob.size)}")
    done = "deleted" if delete else "can be deleted: workspaces archive gc --delete"
    many = len(found.blobs) + len(found.unfinished)
    if many:
        unfinished = f" and {len(found.unfinished)} unfinished uploads" if found.unfinished else ""
        click.echo(f"{len(found.blobs)} blobs, {amount(found.size)}{unfinished}: {done}")
    else:
        click.echo("Every blob belongs to an archived version.")
    if found.young:
        click.echo(f"{found.young} more are less than a day old; another host may be about to use them.")


@archive_command.command("prune")
@click.argument("challenge", required=False)
@click.option("--apply", is_flag=True, help="Do it; else it is only shown.")
@json_option
@pass_app
def archive_prune(app: App, challenge: str | None, apply: bool, as_json: bool) -> None:
    """Remove versions that their challenge's rules do not keep, from archive and engine; their records stay.

    The rules: workspaces challenge set SLUG --keep-last N. A pinned version is always kept, and so is one that a
    workspace stands on.
    """
    due = snapshots.due(app.store, challenge)
    if not as_json:
        for snapshot in due:
            click.echo(f"{snapshot.image_ref}  #{snapshot.id}  {amount(snapshot.size or 0)}  {_one_line(snapshot)}")
    done: list[Snapshot] = []
    if apply:
        done = snapshots.prune(app.store, app.engine, app.archive, challenge, actor=app.actor)
    if as_json:
        print_json(list(done if apply else due))
        return
    if not due and not done:
        click.echo("The rules keep every version.")
    elif apply:
        click.echo(f"{_versions(len(done))} pruned. What only they used is freed by: workspaces archive gc --delete")
    else:
        click.echo(f"{_versions(len(due))} would be pruned: workspaces archive prune {challenge or ''} --apply")


def _versions(count: int) -> str:
    return f"{count} version{'s' if count != 1 else ''}"


def _one_line(snapshot: Snapshot) -> str:
    return printable(snapshot.message.replace("\n", " "), 60)


class _Counter:
    """How much of the archive was read, on a terminal's last line."""

    def __init__(self) -> None:
        self._said = -1
        self._shown: Callable[[str], None] | None = None
        if sys.stderr.isatty():
            self._shown = lambda text: click.echo(f"\r{text}", err=True, nl=False)

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if self._shown and percent != self._said:
            self._said = percent
            self._shown(f"  {amount(done)} of {amount(total)} read ({percent} %) ")

    def __enter__(self) -> _Counter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._said >= 0:
            click.echo("", err=True)
