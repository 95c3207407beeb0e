"""The push step: an archived version goes to the registry, byte for byte, so under the archive's own digests.

    tag there? ─same digest─► next      ─another digest─► Conflict: a version's tag is never moved
      └─ no ─► blobs that the registry lacks (mounted from a repository that has them, or uploaded) ─► manifest as vN
    statement and list of packages ─► artifacts with the version as subject ─► named in the tag sha256-<hex> where the
    registry keeps no list of referrers itself ─► store: pushed

And back: a version that neither engine nor archive has, as the tar that engines load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workspaces.archive import Archive, Descriptor
from workspaces.archive.artifacts import NAME, STATEMENT_TYPE
from workspaces.archive.blobs import MAX_JSON
from workspaces.archive.manifest import INDEX_TYPE, MANIFEST_TYPE, Manifest, compact, config_diff_ids, parse_manifest
from workspaces.archive.sealing import NoIdentity
from workspaces.archive.tarball import write
from workspaces.engine.base import Progress
from workspaces.errors import Conflict, Corrupt, NotFound, RegistryError
from workspaces.model import Snapshot, SnapshotState
from workspaces.names import amount
from workspaces.registry import Client, Registry
from workspaces.store import Store, check_kept

MOUNTS = 8  # other repositories that blobs are looked for in
LOOKED_AT = 200  # pushed versions that are asked what they consist of


def push(store: Store, archive: Archive, registry: Registry, snapshot_id: int, progress: Progress) -> str:
    """Push an archived version and what is signed about it; what the registry has is not sent again.

    Raises Conflict when it is not archived or its tag is another image, NotFound and Corrupt when the archive lost it,
    SettingsError, RegistryError; RegistryUnavailable when trying again may help. The version stays ARCHIVED.
    """
    snapshot = store.snapshot(snapshot_id)
    check_kept(snapshot)
    digest, version = snapshot.manifest_digest, snapshot.version
    if snapshot.state is not SnapshotState.ARCHIVED or digest is None or version is None:
        raise Conflict(f"Snapshot {snapshot.id} is {snapshot.state}; only an archived one can be pushed.")
    reference = registry.reference(snapshot.workspace, version)
    repository = registry.repository(snapshot.workspace)
    tag = f"v{version}"
    others = _elsewhere(store, archive, registry, snapshot)
    progress(f"Looking for {reference}", 0.0)
    with registry.connect(repository, tuple(dict.fromkeys(others.values()))) as client:
        found = client.manifest(tag)
        if found is not None and found[0] != digest:
            raise Conflict(
                f"The registry has another image as {reference}: {found[0][:19]}, not {digest[:19]}.",
                "A version's tag is never moved. Delete it there if it is no version, then push again.",
            )
        if found is None:
            _upload(client, archive, digest, others, progress)
            client.put_manifest(tag, archive.manifest_bytes(digest), MANIFEST_TYPE)
            if client.manifest(tag) != (digest, archive.manifest_bytes(digest)):
                raise RegistryError(f"The registry took {reference}, but does not give it back as it was.")
        _push_documents(client, archive, digest, progress)
    store.finish_push(snapshot.id, reference)
    return f"{reference} is in the registry."


def pull(registry: Registry, snapshot: Snapshot) -> Iterator[bytes]:
    """A pushed version as a tar for engines; all of its bytes are compared with the digests that the store has.

    Raises NotFound when the registry does not have it, Corrupt, RegistryError; while it is read, too.
    """
    repository = registry.repository_of(snapshot.registry_ref or "")
    if repository is None or snapshot.manifest_digest is None:
        raise NotFound(f"{snapshot.image_ref} was pushed to another registry, as {snapshot.registry_ref}.")
    with registry.connect(repository) as client:
        found = client.manifest(snapshot.manifest_digest)
        if found is None:
            raise NotFound(f"The registry does not have {snapshot.registry_ref} any more.")
        digest, data = found
        manifest = parse_manifest(data)
        if not isinstance(manifest, Manifest):
            raise Corrupt(f"{snapshot.registry_ref} is no image.")
        if manifest.config.digest != snapshot.image_id or manifest.config.size > MAX_JSON:
            raise Corrupt(f"{snapshot.registry_ref} has another configuration than was committed.")
        config = b"".join(client.blob(manifest.config.digest, manifest.config.size))
        if config_diff_ids(config) != snapshot.diff_ids:
            raise Corrupt(f"{snapshot.registry_ref} has other layers than were committed.")
        yield from write(_Blobs(client, data, digest), Descriptor(digest, len(data)), manifest, None)


class _Blobs:
    """A repository as what a tar is written from; its manifest was read already."""

    def __init__(self, client: Client, manifest: bytes, digest: str) -> None:
        self._client = client
        self._manifest = manifest
        self._digest = digest

    def read(self, blob: Descriptor) -> Iterator[bytes]:
        if blob.digest == self._digest:
            return iter([self._manifest])
        return self._client.blob(blob.digest, blob.size)


def _upload(client: Client, archive: Archive, digest: str, others: dict[str, str], progress: Progress) -> None:
    """Every blob of one manifest that the registry lacks."""
    blobs = dict.fromkeys(archive.blobs_of(digest))
    total, done = sum(blob.size for blob in blobs), 0
    for blob in blobs:
        if not client.has_blob(blob.digest):

            def read(blob: Descriptor = blob, before: int = done) -> Iterator[bytes]:
                sent = before
                for chunk in archive.read_blob(blob):
                    progress(f"Pushing {amount(total)}", sent / total)
                    yield chunk
                    sent += len(chunk)

            client.push_blob(blob.digest, blob.size, read, others.get(blob.digest))
        done += blob.size


def _push_documents(client: Client, archive: Archive, digest: str, progress: Progress) -> None:
    """The signed documents about a version, as artifacts that name it as their subject."""
    listed: list[dict[str, Any]] = []
    for name, artifact in archive.attached(digest).items():
        data = archive.manifest_bytes(artifact)
        if client.manifest(artifact) is None:
            _upload(client, archive, artifact, {}, progress)
        if not client.put_manifest(artifact, data, MANIFEST_TYPE):
            entry = {"mediaType": MANIFEST_TYPE, "digest": artifact, "size": len(data)}
            listed.append({**entry, "artifactType": STATEMENT_TYPE, "annotations": {NAME: name}})
    if listed:
        _list_referrers(client, digest.replace(":", "-"), listed)


def _list_referrers(client: Client, tag: str, listed: list[dict[str, Any]]) -> None:
    """Name artifacts in the index that stands for a list of referrers (distribution API 1.1, "referrers tag schema").

    What others have put there stays; of ours, an earlier document of the same name goes.
    """
    found = client.manifest(tag)
    names = {entry["annotations"][NAME] for entry in listed}
    try:
        before = json.loads(found[1])["manifests"] if found else []
        kept = [
            entry
            for entry in before
            if entry.get("artifactType") != STATEMENT_TYPE or entry.get("annotations", {}).get(NAME) not in names
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise RegistryError(f"The registry's tag {tag} is not the list of artifacts that it should be.") from exc
    data = compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*kept, *listed]})
    if found is None or found[1] != data:
        client.put_manifest(tag, data, INDEX_TYPE)


def _elsewhere(store: Store, archive: Archive, registry: Registry, snapshot: Snapshot) -> dict[str, str]:
    """Blob → another repository of this registry that has it, for the blobs of this version; newest pushes first."""
    wanted = {blob.digest for blob in archive.blobs_of(snapshot.manifest_digest or "")}
    places: dict[str, str] = {}
    for other in store.pushed(LOOKED_AT):
        repository = registry.repository_of(other.registry_ref or "")
        if repository is None or other.workspace == snapshot.workspace or other.manifest_digest is None:
            continue
        try:
            theirs = {blob.digest for blob in archive.blobs_of(other.manifest_digest)}
        except (NotFound, Corrupt, NoIdentity):
            continue
        if repository in places.values() or len(set(places.values())) < MOUNTS:
            for digest in wanted & theirs:
                places.setdefault(digest, repository)
        if wanted <= places.keys():
            break
    return places
