"""The command that compares two versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from workspaces import snapshots
from workspaces.cli.common import App, json_option, pass_app, plain, print_json
from workspaces.cli.working import finish
from workspaces.errors import NotFound
from workspaces.model import Change, Snapshot, SnapshotState
from workspaces.names import amount, printable

KINDS = ("added", "changed", "removed")
DONE = (SnapshotState.COMMITTED, SnapshotState.ARCHIVED)


@click.command("diff")
@click.argument("workspace")
@click.argument("old", metavar="VERSION")
@click.argument("new", metavar="[VERSION]", required=False)
@click.option("--with", "other", metavar="WORKSPACE", help="The second version is one of this workspace.")
@json_option
@pass_app
def snapshot_diff(app: App, workspace: str, old: str, new: str | None, other: str | None, as_json: bool) -> None:
    """Compare two versions of a workspace, v1 and v3, or v1 and the latest; with --with, versions of two workspaces."""
    if other is not None:
        app.only_here("--with")
    before = _version(app, workspace, old)
    after = _version(app, other or workspace, new)
    changes: Sequence[Change]
    if app.there is not None:
        number, pair = before.workspace_id, (before.version or 0, after.version or 0)
        finish(app, app.there.compare(number, *pair))
        report = app.there.diff(number, *pair)
        changes, size = report.entries, report.bytes
        counts: dict[str, Any] = {kind: getattr(report, kind) for kind in KINDS}
    else:
        shelf = snapshots.Shelf(app.engine, app.archive, app.settings.layers)
        changes = snapshots.diff(shelf, before, after)
        counts = {kind: sum(c.kind == kind for c in changes) for kind in KINDS}
        size = sum(change.size for change in changes if change.kind != "removed")
    if as_json:
        names = {"from": before.image_ref, "to": after.image_ref}
        print_json({**names, **counts, "bytes": size, "changes": [plain(change) for change in changes]})
        return
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    click.echo(f"from {before.image_ref} to {after.image_ref}: {said}, {amount(size)}")
    for change in changes:
        what = f"  ({', '.join(change.what)})" if change.what else ""
        click.echo(f"  {change.kind:8}{amount(change.size):>11}  {printable(change.path, 500)}{what}")
    if (left := sum(counts.values()) - len(changes)) > 0:
        click.echo(f"  … and {left:,} more")


def _version(app: App, workspace: str, version: str | None) -> Snapshot:
    """The version of that number, or the latest. Raises NotFound, click.BadParameter."""
    found = app.store.workspace(workspace)
    if version is not None:
        number = version.removeprefix("v")
        if not number.isdecimal():
            raise click.BadParameter(f"{printable(version)!r} is not a version such as v1.")
        return app.store.version(found.id, int(number))
    versions = app.store.snapshots(found.id, DONE)
    if not versions:
        raise NotFound(f"{found.ref} has no version.", f"See its snapshots: workspaces snapshot list {found.ref}")
    return max(versions, key=lambda snapshot: snapshot.version or 0)
