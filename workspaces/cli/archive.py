"""Commands about the archive of committed versions."""

from __future__ import annotations

from pathlib import Path

import click

from workspaces.cli.common import App, json_option, pass_app, print_table
from workspaces.cli.evidence import archive_provenance
from workspaces.errors import WorkspacesError
from workspaces.names import amount


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
            ("layers", lambda i: len(i.diff_ids)),
            ("compressed", lambda i: amount(i.size)),
        ),
        as_json,
        "The archive is empty.",
    )


@archive_command.command("verify")
@pass_app
def archive_verify(app: App) -> None:
    """Read every blob again and compare it with its digest."""
    problems = app.archive.verify()
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        raise WorkspacesError(f"{len(problems)} blobs are missing or damaged.", "Restore them from a backup.")
    click.echo("Every blob is there and whole.")


@archive_command.command("export")
@click.argument("image")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@pass_app
def archive_export(app: App, image: str, file: Path) -> None:
    """Write an archived IMAGE (e.g. als/alice:v1) to FILE, a tar that `docker load` and OCI tools read."""
    app.archive.export(image, file)
    click.echo(f"{file} has {image}, {amount(file.stat().st_size)}. Elsewhere: docker load -i {file.name}")
