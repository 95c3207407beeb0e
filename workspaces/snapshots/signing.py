"""Signing what was archived before versions were signed: the statement that archiving makes now, made later.

Only of what this host committed itself, for it was there when that was asked for and decided. A version that was
entered from an archive (adopting.py) has its own host's statement there, or none; that is not replaced here.
"""

from __future__ import annotations

from workspaces.archive import Archive
from workspaces.errors import Conflict, Corrupt, StatementError
from workspaces.model import Snapshot, SnapshotState
from workspaces.provenance import SNAPSHOT_TYPE, Signer, open_envelope
from workspaces.snapshots.proving import prove
from workspaces.store import Store, check_kept


def sign(store: Store, archive: Archive, signer: Signer, snapshot: Snapshot, *, actor: str) -> Snapshot:
    """Make the statement about an archived version that has none; nothing happens when it has one.

    Raises Conflict when it is not archived, or another host's to sign; NotFound and Corrupt when the archive does not
    have it as the store says, NoIdentity, HostError.
    """
    check_kept(snapshot)
    digest = snapshot.manifest_digest
    if snapshot.state is not SnapshotState.ARCHIVED or digest is None:
        raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; this is for archived ones.")
    if snapshot.statement is not None:
        return snapshot
    if store.is_adopted(snapshot.id):
        raise Conflict(
            f"{snapshot.image_ref} was entered from an archive, so that who asked for it and who decided is not known "
            "here.",
            f"Its own host's statement, if there is one: workspaces archive provenance {snapshot.image_ref} --key FILE",
        )
    if archive.blobs_of(digest)[0].digest != snapshot.image_id:
        raise Corrupt(f"The archive has another image as {snapshot.image_ref} than was committed.")
    attached = archive.attached(digest)
    if SNAPSHOT_TYPE in attached:
        try:
            open_envelope(archive.document(attached[SNAPSHOT_TYPE]), signer.public)
        except StatementError as exc:
            raise Conflict(
                f"The archive has a statement about {snapshot.image_ref} that was not signed with this host's key; it "
                "is not replaced."
            ) from exc
    return store.set_statement(snapshot.id, prove(store, archive, signer, snapshot, digest), actor=actor)
