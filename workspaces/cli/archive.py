"""Commands about the archive of committed versions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from workspaces import snapshots
from workspaces.archive.tarball import Form
from workspaces.cli.common import App, json_option, pass_app, print_json, print_table, save
from workspaces.cli.evidence import archive_provenance, archive_with, identity_option
from workspaces.cli.working import finish
from workspaces.errors import UsageError, WorkspacesError
from workspaces.model import Snapshot
from workspaces.names import amount, printable

if TYPE_CHECKING:
    from workspaces.remote import RemoteStore


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
    if app.there is not None:
        if identity is not None:
            app.only_here("--identity")
        _verified(app.there.found(finish(app, app.there.look_at_archive("verify")).id), as_json)
        return
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


def _verified(found: Any, as_json: bool) -> None:
    """Print what a server found when it read its archive again."""
    if as_json:
        click.echo(json.dumps(found, indent=2))
    for one in found["problems"] if not as_json else ():
        images = ", ".join(map(str, one["images"]))
        click.echo(printable(f"{images}: {one['sentence']}" if images else one["sentence"], 1000), err=True)
    if bad := int(found["bad"]):
        raise WorkspacesError(
            f"{bad} blob{'s are' if bad > 1 else ' is'} missing or damaged.", "Restore what is named from a backup."
        )
    if not as_json:
        click.echo(f"{int(found['blobs'])} blobs are there and whole.")
        if sealed := int(found["sealed"]):
            click.echo(f"{sealed} encrypted layers were not looked into.")


@archive_command.command("export")
@click.argument("image")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(get_args(Form)), default="both", help="For whom (default both).")
@identity_option
@pass_app
def archive_export(app: App, image: str, file: Path, form: Form, identity: Path | None) -> None:
    """Write an archived IMAGE (e.g. als/alice:v1) to FILE, a tar that `docker load` and OCI tools read; decrypted."""
    if app.there is not None:
        if identity is not None or form == "oci":
            app.only_here("--identity" if identity else "--format oci")
        there, version = app.there, _version_there(app.there, image)
        save(file, lambda target: there.download_version(version.id, target))
        click.echo(f"{file} has {image}. Elsewhere: docker load -i {file.name}")
        return
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

    if app.there is not None:
        job = finish(app, app.there.look_at_archive("gc"))
        if delete:
            job = finish(app, app.there.collect_archive())
        document = app.there.found(job.id)
        if as_json:
            click.echo(json.dumps(document, indent=2))
        else:
            listed = [(one["digest"], one["size"]) for one in document["listed"]]
            counts = (document["blobs"], document["bytes"], document["unfinished"], document["young"])
            _print_garbage(listed, *map(int, counts), deleted=delete)
        return
    found = app.archive.collect(told) if delete else app.archive.garbage()
    if as_json:
        print_json(found)
        return
    listed = [(blob.digest, blob.size) for blob in found.blobs]
    _print_garbage(listed, len(listed), found.size, len(found.unfinished), found.young, deleted=delete)


def _print_garbage(
    listed: Sequence[tuple[str, int]], blobs: int, size: int, unfinished: int, young: int, *, deleted: bool
) -> None:
    for digest, length in listed:
        click.echo(f"{printable(str(digest))}  {amount(length)}")
    if blobs > len(listed):
        click.echo(f"… and {blobs - len(listed):,} more")
    done = "deleted" if deleted else "can be deleted: workspaces archive gc --delete"
    if blobs + unfinished:
        uploads = f" and {unfinished} unfinished uploads" if unfinished else ""
        click.echo(f"{blobs} blobs, {amount(size)}{uploads}: {done}")
    else:
        click.echo("Every blob belongs to an archived version.")
    if young:
        click.echo(f"{young} more are less than a day old; another host may be about to use them.")


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
    due = _due_there(app.there, challenge) if app.there is not None else snapshots.due(app.store, challenge)
    if not as_json:
        for snapshot in due:
            click.echo(f"{snapshot.image_ref}  #{snapshot.id}  {amount(snapshot.size or 0)}  {_one_line(snapshot)}")
    done: list[Snapshot] = []
    if apply and app.there is not None:
        for slug in dict.fromkeys(snapshot.workspace.partition("/")[0] for snapshot in due):
            finish(app, app.there.prune(slug))
        done = [found for found in map(app.there.snapshot, (one.id for one in due)) if found.pruned_at is not None]
    elif apply:
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


def _due_there(there: RemoteStore, challenge: str | None) -> list[Snapshot]:
    asked = [there.challenge(challenge)] if challenge else there.challenges()
    found = [snapshot for rule in asked if rule.keep_last is not None for snapshot in there.due(rule.slug)]
    return sorted(found, key=lambda snapshot: snapshot.id)


def _version_there(there: RemoteStore, image: str) -> Snapshot:
    """The version of that name, such as als/alice:v1. Raises UsageError, NotFound."""
    ref, _, version = image.rpartition(":")
    number = version.removeprefix("v")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise UsageError(f"{printable(image)!r} is not the name of a version.", "Write it as als/alice:v1.")
    return there.version(there.workspace(ref).id, int(number))


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
