"""The archive step: a committed version's image goes from the engine into the archive, and a signed statement with it.

image, and its configuration as the commit wrote it ─► archive ─► statement about it, signed ─► beside it in the
archive ─► store: ARCHIVED, with digest and statement, and what comes next queued: the list of its packages if the
challenge wants one, the registry if one is set

Both read it from the archive, so neither is queued where that is encrypted and no identity is here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from workspaces.archive import Archive
from workspaces.archive.sealing import NoIdentity
from workspaces.engine.base import Bytes, Engine, ImageInfo, Progress
from workspaces.errors import Conflict, NotFound
from workspaces.model import JobKind, Sbom, Snapshot, SnapshotState
from workspaces.names import amount
from workspaces.provenance import Signer
from workspaces.snapshots.common import OURS, check_room
from workspaces.snapshots.imageconfig import OCI
from workspaces.snapshots.proving import prove
from workspaces.store import Store

_LEFT_OUT = {JobKind.SBOM: "its packages are not listed", JobKind.PUSH: "it is not pushed"}


def archive(
    store: Store,
    engine: Engine,
    archive: Archive,
    snapshot_id: int,
    progress: Progress,
    *,
    signer: Signer,
    pushes: bool = False,
) -> str:
    """Archive a committed snapshot, and with `pushes` queue that it is pushed; nothing happens when it is archived.

    Raises Conflict when it is not committed or its name is taken, NotFound when the engine lost the image, NoSpace,
    ArchiveError, EngineError, HostError when there is no key to sign with.
    """
    snapshot = store.snapshot(snapshot_id)
    if snapshot.state is SnapshotState.ARCHIVED:
        return f"{snapshot.image_ref} is archived."
    if snapshot.state is not SnapshotState.COMMITTED or not snapshot.image_ref or not snapshot.image_id:
        raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; only a committed one can be archived.")
    progress("Waiting for the archive", 0.0)
    image = engine.image(snapshot.image_id)
    if image is not None:
        check_room(engine.info().data_root, image.size, f"Reading {snapshot.image_ref} from the engine")
        check_room(_existing(archive), snapshot.size or 0, f"Archiving {snapshot.image_ref}")
    total = image.size if image else 0
    message = f"Archiving {snapshot.image_ref}, {amount(total)}"
    config = store.configuration(snapshot.id)
    digest = archive.put(
        lambda: _save(engine, snapshot, image),
        ref=snapshot.image_ref,
        config_digest=snapshot.image_id,
        diff_ids=snapshot.diff_ids,
        config=config,
        annotations=_annotations(image, config),
        progress=lambda read: progress(message, Bytes(read, total) if total else None),
    )
    statement = prove(store, archive, signer, snapshot, digest)
    challenge = store.challenge(snapshot.workspace.partition("/")[0])
    then = [JobKind.SBOM] if challenge.sbom is not Sbom.NONE else []
    then += [JobKind.PUSH] if pushes else []
    closed = bool(then) and _is_closed(archive, digest)
    store.finish_archive(snapshot.id, digest, statement, [] if closed else then)
    done = f"Archived {snapshot.image_ref} as {digest[:19]}."
    if not closed:
        return done
    return f"{done} It is encrypted and no identity is here, so {' and '.join(_LEFT_OUT[kind] for kind in then)}."


def _is_closed(archive: Archive, digest: str) -> bool:
    """Whether nothing here can read it back."""
    try:
        archive.check_readable(digest)
    except NoIdentity:
        return True
    return False


def _save(engine: Engine, snapshot: Snapshot, image: ImageInfo | None) -> Iterator[bytes]:
    if image is None:
        raise NotFound(
            f"{snapshot.image_ref} is not in the engine any more, and was not archived.",
            "Commit the workspace again as a new version.",
        )
    return engine.save(image.id)


def _annotations(image: ImageInfo | None, config: bytes | None) -> dict[str, str]:
    """From the configuration that the commit wrote, where the engine has lost the image."""
    labels = image.config.labels if image else json.loads(config or b"{}").get("config", {}).get("Labels", {})
    return {name: value for name, value in labels.items() if name.startswith((OCI, OURS))}


def _existing(archive: Archive) -> str:
    """The nearest directory of the archive that exists: it is made at the first `put`."""
    place = archive.root
    while not place.exists() and place != place.parent:
        place = place.parent
    return str(place)
