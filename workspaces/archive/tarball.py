"""Writing one archived image as a tar, in a stream.

The tar is an OCI image layout (oci-layout, index.json, blobs) and what `docker load` reads (manifest.json) at once;
blobs are the image's own bytes, each checked against its digest while it passes. `oci` and `docker` leave out what only
the other reads.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

from workspaces.archive.blobs import Descriptor
from workspaces.archive.manifest import INDEX_TYPE, LAYOUT_FILE, MANIFEST_TYPE, REF_NAME, Manifest, compact
from workspaces.errors import Corrupt
from workspaces.streams import checked

Form = Literal["both", "oci", "docker"]

# containerd takes an image's whole name from here; the OCI annotation is only a tag to it
CONTAINERD_NAME = "io.containerd.image.name"


class Blobs(Protocol):
    """Where blobs come from: an archive, or a registry."""

    def read(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob in chunks, checked. Raises Corrupt, after the last chunk at the latest, unless it is whole."""


def write(
    blobs: Blobs,
    descriptor: Descriptor,
    manifest: Manifest,
    tag: str | None,
    form: Form = "both",
) -> Iterator[bytes]:
    """The tar's bytes. Raises Corrupt at a damaged blob; what names the blobs, without which nothing loads, comes last.

    `descriptor` is the manifest's.
    """
    needed = (*manifest.layers, manifest.config, *(() if form == "docker" else (descriptor,)))
    for blob in dict.fromkeys(needed):
        yield _header(_blob_path(blob), blob.size)
        yield from blobs.read(blob)
        yield bytes(-blob.size % tarfile.BLOCKSIZE)
    entry: dict[str, object] = {"mediaType": MANIFEST_TYPE, "digest": descriptor.digest, "size": descriptor.size}
    if tag is not None:
        entry["annotations"] = {REF_NAME: tag, CONTAINERD_NAME: f"docker.io/{tag}"}
    legacy = {
        "Config": _blob_path(manifest.config),
        "RepoTags": None if tag is None else [tag],
        "Layers": [_blob_path(layer) for layer in manifest.layers],
    }
    if form != "docker":
        yield from _file("oci-layout", LAYOUT_FILE)
        yield from _file("index.json", compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}))
    if form != "oci":
        yield from _file("manifest.json", compact([legacy]))
    yield bytes(2 * tarfile.BLOCKSIZE)


def digest_of(chunks: Iterable[bytes]) -> str:
    """The SHA-256 digest of a stream."""
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    return f"sha256:{sha.hexdigest()}"


def as_digest(chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
    """`chunks` as they are. Raises Corrupt after the last one unless they have that digest."""
    return checked(chunks, digest, None, Corrupt(f"{digest} is damaged: its bytes have another digest."))


def _blob_path(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"


def _file(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)
