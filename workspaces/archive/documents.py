"""Documents about images in an archive: written and read, plain or sealed (artifacts.py has their form).

    document ─► blob ─► artifact manifest, the image as its subject ─► one entry more in the index
    sealed:  document ─► age ─► blob; artifact manifest ─► record ─► age ─► blob; a manifest of both, as of an image

This host can open what it sealed: it shows signed statements and lists of packages without an identity.
"""

from __future__ import annotations

from hashlib import sha256

from workspaces.archive.artifacts import EMPTY, Artifact, Attached, parse_artifact, parse_entries
from workspaces.archive.blobs import Descriptor, checked
from workspaces.archive.images import Images
from workspaces.archive.manifest import Index, Record, SealedManifest, parse_stored
from workspaces.errors import Corrupt

MAX_SIZE = 64 << 20  # bytes of a document; a list of packages has a few million


def find(index: Index, digest: str) -> Attached | None:
    """The document whose own manifest has that digest."""
    return next((found for found in attached(index) if found.digest == digest), None)


def attached(index: Index) -> list[Attached]:
    """All documents. Raises Corrupt when the index is damaged."""
    try:
        return parse_entries(index.others)
    except (KeyError, TypeError, AttributeError) as exc:
        raise Corrupt(f"index.json is damaged: {exc!r}.", "Restore it from a backup.") from exc


def add(images: Images, subject: Descriptor, name: str, document: bytes) -> Attached:
    """Store a document about the image whose own manifest is `subject`; the caller adds it to the index."""
    if not images.seal.tag:
        artifact = Artifact(name, subject, images.blobs.add(EMPTY), images.blobs.add(document))
        return Attached(name, subject.digest, images.blobs.add(artifact.to_bytes()))
    data = Artifact(name, subject, _own(EMPTY), _own(document)).to_bytes()
    record = images.sealed(Record(data, EMPTY, (len(document),)).to_bytes())
    sealed = SealedManifest(record, (images.sealed(document),), (images.seal.tag,))
    return Attached(name, subject.digest, images.blobs.add(sealed.to_bytes()), _own(data).digest)


def manifest_bytes(images: Images, found: Attached) -> bytes:
    """The document's own manifest. Raises Corrupt, NoIdentity."""
    data = images.blobs.read_json(found.manifest)
    if not found.own:
        return data
    data = images.record(_sealed(data).record).manifest
    if _own(data).digest != found.own:
        raise Corrupt(f"{found.manifest.digest} holds another manifest than {found.own}.")
    return data


def blobs_of(images: Images, found: Attached) -> tuple[Descriptor, Descriptor]:
    """The empty configuration and the document. Raises Corrupt, NoIdentity."""
    artifact = parse_artifact(manifest_bytes(images, found))
    return artifact.empty, artifact.document


def read(images: Images, found: Attached) -> bytes:
    """The document. Raises Corrupt, NoIdentity."""
    _, document = blobs_of(images, found)
    if document.size > MAX_SIZE:
        raise Corrupt(f"{document.digest} has {document.size} bytes, too many for a document.")
    if not found.own:
        return b"".join(images.blobs.read(document))
    [lies] = _sealed(images.blobs.read_json(found.manifest)).layers
    return b"".join(checked(images.seal.decrypt(images.blobs.read(lies), host=True), document))


def _own(data: bytes) -> Descriptor:
    return Descriptor(f"sha256:{sha256(data).hexdigest()}", len(data))


def _sealed(data: bytes) -> SealedManifest:
    found = parse_stored(data)
    if not isinstance(found, SealedManifest) or len(found.layers) != 1:
        raise Corrupt("The manifest of an encrypted document has another form.")
    return found
