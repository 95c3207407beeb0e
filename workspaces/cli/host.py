"""Commands about the private engine and the base images on this host."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workspaces.cli.common import App, json_option, pass_app, print_json, print_table, show_progress, when
from workspaces.engine import bootstrap, imagefile, images, open_engine
from workspaces.engine.base import LABEL_SNAPSHOT
from workspaces.errors import EngineUnavailable, NotFound, WorkspacesError
from workspaces.model import BaseImage
from workspaces.names import amount, check_image

if TYPE_CHECKING:
    from workspaces.engine.private import PrivateEngine


@click.group("engine")
def engine_command() -> None:
    """The private container engine of this state directory."""


@engine_command.command("start")
@pass_app
def engine_start(app: App) -> None:
    """Start it, unless it runs."""
    engine = _private(app)
    engine.start()
    click.echo(f"The engine answers at {engine.host}")


@engine_command.command("stop")
@pass_app
def engine_stop(app: App) -> None:
    """Stop its containers and it, and remove its bridges and filters. Containers, images and files stay."""
    _private(app).stop()
    click.echo("The engine is stopped. Containers and images stay; nobody can log in to them.")
    click.echo(
        "`workspaces engine start` starts it, and so does `workspaces serve`; the next login starts its container."
    )


@engine_command.command("status")
@json_option
@pass_app
def engine_status(app: App, as_json: bool) -> None:
    """Say which engine is used, and what is wrong with it. Nothing is started."""
    from workspaces.engine.dockerd import DockerEngine

    with closing(open_engine(app.settings, app.store.instance, start=False)) as engine:
        try:
            info = engine.info()
        except EngineUnavailable as exc:
            own = _private(app)
            if isinstance(engine, DockerEngine) and engine.host == own.host and own.status().pid is None:
                raise EngineUnavailable("The private engine does not run.", "Run: workspaces engine start") from exc
            raise
    if as_json:
        print_json(info)
        return
    click.echo(f"{info.name} {info.version}, {info.runtime_version}, {info.storage_driver}, data in {info.data_root}")
    click.echo(f"root in containers is {'an unprivileged user' if info.userns else 'root'} of this host")
    for warning in info.warnings:
        click.echo(f"warning: {warning}")


def _private(app: App) -> PrivateEngine:
    from workspaces.engine.private import (
        PrivateEngine,
    )  # with it comes docker, which commands about images may not need

    return PrivateEngine(app.settings.engine_dir)


@click.group("image")
def image_command() -> None:
    """Base images."""


@image_command.command("build")
@click.argument("name")
@click.option("--packages", default="", help="More packages, separated by commas or spaces.")
@click.option("--suite", help="Suite of the distribution, e.g. bookworm (default: this host's).")
@pass_app
def image_build(app: App, name: str, packages: str, suite: str | None) -> None:
    """Build a base image from the distribution's mirror, e.g. `image build debian-ds:12 --packages python3`."""
    image = bootstrap.build(
        app.engine, check_image(name), tuple(packages.replace(",", " ").split()), suite, show_progress
    )
    click.echo(f"{name} is built, {amount(image.size)}.")


@image_command.command("add")
@click.argument("source")
@click.option("--name", help="Name it gets, when SOURCE is a file.")
@pass_app
def image_add(app: App, source: str, name: str | None) -> None:
    """Add a base image: a reference to pull, or a tar file from `docker save`.

    The names in a file never take the place of those of other images; --name may.
    """
    path = Path(source)
    if not path.exists() and not source.endswith((".tar", ".tar.gz")):
        image = app.engine.pull(check_image(source), show_progress)
        click.echo(f"{source} is on this host, {amount(image.size)}.")
        return
    for image in imagefile.add(app.engine, path, name):
        click.echo(f"{name or ', '.join(image.refs) or image.id} is on this host, {amount(image.size)}.")


@image_command.command("list")
@json_option
@pass_app
def image_list(app: App, as_json: bool) -> None:
    """List the images of this engine that are not versions of a workspace."""
    if app.there is not None:
        found: list[Any] = [image for image in app.there.base_images() if image.refs]
    else:
        found = [image for image in app.engine.images(without=LABEL_SNAPSHOT) if image.refs]
    print_table(
        found,
        (
            ("image", lambda i: ", ".join(i.refs)),
            ("size", lambda i: amount(i.size)),
            ("layers", lambda i: i.layers if isinstance(i, BaseImage) else len(i.diff_ids)),
            ("created", lambda i: when(i.created_at)),
        ),
        as_json,
        "No image. Build one with: workspaces image build debian-ds:12",
    )


@image_command.command("check")
@click.argument("name")
@json_option
@pass_app
def image_check(app: App, name: str, as_json: bool) -> None:
    """Say what an image lacks for comfort. Ends with 1 when people could not log in to it."""
    from workspaces.chores import note_images  # much of the program

    image = app.engine.image(check_image(name))
    if image is None:
        raise NotFound(f"The image {name} is not on this host.", "See: workspaces image list")
    findings = images.check(app.engine, name)
    note_images(app.store, app.engine)
    app.store.set_image_findings(image.id, findings)
    if as_json:
        print_json(list(findings))
    else:
        for finding in findings:
            click.echo(str(finding))
    if any(f.required and not f.present for f in findings):
        raise WorkspacesError(f"People could not log in to {name}.")
