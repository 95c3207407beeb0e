"""Commands about what proves a version: its signed statement, the list of its packages, its copy in the registry."""

from __future__ import annotations

import json
from pathlib import Path

import click

from workspaces import snapshots
from workspaces.archive import Archive, open_archive
from workspaces.cli.common import App, pass_app, show_progress, when
from workspaces.errors import ArchiveError, Conflict, HostError, NotFound, SettingsError, UsageError, WorkspacesError
from workspaces.model import JobKind, Snapshot, SnapshotState
from workspaces.names import printable
from workspaces.provenance import PublicKey
from workspaces.store import check_kept

identity_option = click.option(
    "--identity",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of age identities to decrypt with (else keys/archive-identity.txt).",
)


def print_evidence(app: App, snapshot: Snapshot) -> None:
    """The lines of `snapshot show` about statement, list of packages and registry; for what is archived."""
    if snapshot.state is not SnapshotState.ARCHIVED or app.server is not None:  # keys and archive are there
        return
    click.echo(f"statement: {_verdict(app, snapshot)}")
    if snapshot.sbom_digest:
        click.echo(f"packages are listed in {snapshot.sbom_digest}: workspaces snapshot sbom {snapshot.id}")
    if snapshot.registry_ref:
        click.echo(f"pushed {when(snapshot.pushed_at)} as {snapshot.registry_ref}")


def evidence(app: App, snapshot: Snapshot) -> dict[str, object]:
    """The same for `--json`: whether the statement was verified, and what is wrong with it."""
    if snapshot.state is not SnapshotState.ARCHIVED or app.server is not None:
        return {}
    verdict = _verdict(app, snapshot)
    return {"verified": not verdict.problems, "signed_by": verdict.signed_by, "problems": list(verdict.problems)}


@click.command("verify")
@click.argument("id", type=int)
@identity_option
@pass_app
def snapshot_verify(app: App, id: int, identity: Path | None) -> None:
    """Check the signed statement about a version against the database, and every byte of it in the archive."""
    snapshot = _archived(app, id)
    check_kept(snapshot)
    archive = archive_with(app, identity)
    verdict = snapshots.check_version(app.store, archive, app.signer.public, snapshot, show_progress)
    for problem in verdict.problems:
        click.echo(printable(problem, 500), err=True)
    if verdict.problems == (snapshots.UNSIGNED,):
        raise WorkspacesError(
            f"Nothing proves who asked for {snapshot.image_ref} and who decided. Its files in the archive are those "
            "that the database names.",
            f"If this host made it: workspaces snapshot sign {id}. A statement that another host signed is in the "
            f"archive: workspaces archive provenance {snapshot.image_ref} --key FILE",
        )
    if verdict.problems:
        raise WorkspacesError(
            f"{snapshot.image_ref} is not what was signed for: {len(verdict.problems)} differences.",
            "Compare with a backup of database and archive before you judge by it.",
        )
    click.echo(f"{snapshot.image_ref} is what was signed for, every byte: {verdict}.")


@click.command("statement")
@click.argument("id", type=int)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file.")
@pass_app
def snapshot_statement(app: App, id: int, output: Path | None) -> None:
    """Print the signed statement about a version, an in-toto statement in a DSSE envelope."""
    snapshot = _archived(app, id)
    if snapshot.statement is None:
        raise Conflict(f"There is no signed statement about {snapshot.image_ref}.")
    _deliver(snapshot.statement, output)


@click.command("sign")
@click.argument("ids", type=int, nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that have none.")
@identity_option
@pass_app
def snapshot_sign(app: App, ids: tuple[int, ...], every: bool, identity: Path | None) -> None:
    """Sign statements about versions that were archived without one; not of those that another host made."""
    if every is bool(ids):
        raise UsageError("Name versions by their ids, or --all for those without a statement.")
    archive = archive_with(app, identity)
    if ids:
        for id in ids:
            signed = snapshots.sign(app.store, archive, app.signer, app.store.snapshot(id), actor=app.actor)
            click.echo(f"There is a statement about {signed.image_ref}.")
        return
    count = 0
    for snapshot in reversed(app.store.snapshots(states=[SnapshotState.ARCHIVED])):
        if snapshot.statement is not None or snapshot.pruned_at is not None:
            continue
        try:
            snapshots.sign(app.store, archive, app.signer, snapshot, actor=app.actor)
            count += 1
        except (Conflict, NotFound, ArchiveError) as error:
            click.echo(f"Not {snapshot.id}: {error.message}", err=True)
    click.echo(f"{count} statements were signed.")


@click.command("key")
@pass_app
def snapshot_key(app: App) -> None:
    """Print the public key that versions of this host are signed with, for whoever checks them."""
    public = app.signer.public
    click.echo(public.pem.decode("ascii"), nl=False)
    click.echo(f"ed25519, {public.fingerprint}", err=True)


@click.command("sbom")
@click.argument("id", type=int)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file.")
@pass_app
def snapshot_sbom(app: App, id: int, output: Path | None) -> None:
    """Print the list of a version's packages (SPDX or CycloneDX), if its challenge wants one made."""
    _deliver(snapshots.packages_of(app.archive, app.signer, app.store.snapshot(id)), output)


@click.command("push")
@click.argument("id", type=int)
@pass_app
def snapshot_push(app: App, id: int) -> None:
    """Push an archived version to the registry; what it has is not sent again."""
    if app.registry is None:
        raise SettingsError(
            "No registry is set.", 'Write into workspaces.toml:\n[registry]\nurl = "https://registry.example/prefix"'
        )
    snapshot = _archived(app, id)
    check_kept(snapshot)
    app.archive.check_readable(str(snapshot.manifest_digest))
    job = app.store.add_job(JobKind.PUSH, snapshot.workspace_id, actor=app.actor, snapshot_id=snapshot.id)
    click.echo(f"Job {job.id} pushes it.")


@click.command("provenance")
@click.argument("image")
@click.option(
    "--key", type=click.Path(dir_okay=False, path_type=Path), help="Public key of the host that made it (default: own)."
)
@identity_option
@pass_app
def archive_provenance(app: App, image: str, key: Path | None, identity: Path | None) -> None:
    """Check the signed statement about an archived IMAGE, and print it. Needs no database."""
    public = app.signer.public if key is None else PublicKey.read(key)
    verdict, said = snapshots.check_archived(archive_with(app, identity), public, image)
    click.echo(json.dumps(said, indent=2))
    if verdict.problems:
        raise WorkspacesError(" ".join(verdict.problems), "Is the archive whole? workspaces archive verify")
    click.echo(str(verdict), err=True)


COMMANDS = (snapshot_verify, snapshot_statement, snapshot_sign, snapshot_key, snapshot_sbom, snapshot_push)


def archive_with(app: App, identity: Path | None) -> Archive:
    """The archive, read with the identities in that file if one is named."""
    return app.archive if identity is None else open_archive(app.settings, identity)


def _verdict(app: App, snapshot: Snapshot) -> snapshots.Verdict:
    """What can be said of its statement; also when this host's key cannot be read."""
    try:
        return snapshots.check_record(app.store, app.signer.public, snapshot)
    except HostError as error:
        return snapshots.Verdict("", (error.message,))


def _archived(app: App, id: int) -> Snapshot:
    app.only_here()  # statements, keys and the archive's bytes are there
    snapshot = app.store.snapshot(id)
    if snapshot.state is not SnapshotState.ARCHIVED:
        raise Conflict(f"Snapshot {id} is {snapshot.state}; this is for archived ones.")
    return snapshot


def _deliver(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as exc:
        raise WorkspacesError(f"{output} cannot be written: {exc.strerror}.") from exc
