"""One image of the archive, plain or sealed, and its blobs as whoever may read them sees them.

    Descriptor in index.json ─► manifest ─┬─ plain:  manifest and configuration are blobs of their own
                                          └─ sealed: both are in a record, encrypted for this host too (sealing.py)

An image's own manifest, configuration and layers are the same bytes either way; `stored` says where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

from workspaces.archive.blobs import Blobs, BlobWriter, Descriptor, checked
from workspaces.archive.deflate import pack
from workspaces.archive.manifest import (
    Manifest,
    Record,
    SealedManifest,
    config_diff_ids,
    parse_manifest,
    parse_record,
    parse_stored,
)
from workspaces.archive.sealing import Seal
from workspaces.archive.storage import Storage
from workspaces.errors import ArchiveError, Corrupt


@dataclass(frozen=True, slots=True)
class Layer:
    """A packed layer: its own gzip, how that lies in the archive, for whom (empty: not encrypted)."""

    own: Descriptor
    stored: Descriptor
    tag: str
    unpacked: int | None = None  # bytes; None: the end of the gzip tells


@dataclass(frozen=True, slots=True)
class Image:
    """`digest` is that of its own manifest, `lies` of what index.json names; `record` is what a sealed one has."""

    digest: str
    lies: Descriptor
    manifest: Manifest
    diff_ids: tuple[str, ...]
    layers: tuple[Layer, ...]
    record: Descriptor | None = None

    def stored(self) -> tuple[Descriptor, ...]:
        """All blobs of it in the archive."""
        small = (self.lies, self.record or self.manifest.config)
        return (*small, *(layer.stored for layer in self.layers))


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image: `size` is the compressed bytes of its layers, shared ones included.

    Of one that is not `opened`, since nothing here decrypts it, only `ref` and `digest` are known.
    """

    ref: str
    digest: str
    config_digest: str
    diff_ids: tuple[str, ...]
    size: int
    annotations: Mapping[str, str]
    encrypted: bool = False
    opened: bool = True


def archived(ref: str, image: Image) -> ArchivedImage:
    """An image as those outside see it."""
    manifest, size = image.manifest, sum(layer.size for layer in image.manifest.layers)
    sealed = image.record is not None
    return ArchivedImage(ref, image.digest, manifest.config.digest, image.diff_ids, size, manifest.annotations, sealed)


@dataclass(slots=True)
class Images:
    """Reads and writes images in a storage; what was read is kept, since it never changes."""

    storage: Storage
    seal: Seal
    blobs: Blobs = field(init=False)
    _read: dict[str, Image] = field(default_factory=dict)  # by digest of what index.json names

    def __post_init__(self) -> None:
        self.blobs = Blobs(self.storage)

    def image(self, lies: Descriptor) -> Image:
        """Raises Corrupt, NoIdentity."""
        if lies.digest not in self._read:
            self._read[lies.digest] = self._open(lies)
        return self._read[lies.digest]

    def forget(self, lies: Descriptor) -> None:
        """Read it again next time."""
        self._read.pop(lies.digest, None)

    def manifest_bytes(self, image: Image) -> bytes:
        """The image's own manifest. Raises Corrupt, NoIdentity."""
        if image.record is None:
            return self.blobs.read_json(image.lies)
        return self.record(image.record).manifest

    def config_bytes(self, image: Image) -> bytes:
        """The image's configuration. Raises Corrupt, NoIdentity."""
        if image.record is None:
            return self.blobs.read_json(image.manifest.config)
        return self.record(image.record).config

    def read(self, image: Image, blob: Descriptor) -> Iterator[bytes]:
        """Manifest, configuration or a layer of an image, checked. Raises Corrupt at the end at the latest."""
        if image.record is None:
            return self.blobs.read(blob)
        if blob == image.manifest.config:
            return checked(iter([self.config_bytes(image)]), blob)
        for layer in image.layers:
            if layer.own == blob:
                return self.layer(layer)
        return checked(iter([self.manifest_bytes(image)]), blob)

    def layer(self, layer: Layer) -> Iterator[bytes]:
        """A layer's gzip, checked."""
        chunks = self.blobs.read(layer.stored)
        return checked(self.seal.decrypt(chunks, host=False), layer.own) if layer.tag else chunks

    def unpacked_size(self, layer: Layer) -> int:
        """Bytes of a layer when unpacked, modulo 2³² (the trailer of its gzip)."""
        if layer.unpacked is not None:
            return layer.unpacked & 0xFFFFFFFF
        return int(struct.unpack("<I", self.blobs.tail(layer.stored, 4))[0])

    def add(self, manifest: Manifest, config: bytes, layers: tuple[Layer, ...]) -> tuple[str, Descriptor]:
        """Store configuration and manifest of an image whose layers are there; its digest, and what the index names."""
        if not self.seal.tag:
            self.blobs.add(config)
            lies = self.blobs.add(manifest.to_bytes())
            return lies.digest, lies
        data = manifest.to_bytes()
        record = Record(data, config, tuple(self.unpacked_size(layer) for layer in layers))
        stored = self.sealed(record.to_bytes())
        sealed = SealedManifest(stored, tuple(layer.stored for layer in layers), tuple(layer.tag for layer in layers))
        return f"sha256:{sha256(data).hexdigest()}", self.blobs.add(sealed.to_bytes())

    def sealed(self, data: bytes) -> Descriptor:
        """Store a small blob, encrypted for the recipients and this host."""
        with BlobWriter(self.storage) as writer:
            self.seal.encrypt([data], writer, host=True)
            return writer.keep()

    def record(self, blob: Descriptor) -> Record:
        """The record of something sealed. Raises Corrupt, NoIdentity."""
        return parse_record(b"".join(self.seal.decrypt(iter([self.blobs.read_json(blob)]), host=True)))

    def _open(self, lies: Descriptor) -> Image:
        data = self.blobs.read_json(lies)
        parsed = parse_stored(data)
        if isinstance(parsed, Manifest):
            diff_ids = config_diff_ids(self.blobs.read_json(parsed.config))
            layers = tuple(Layer(layer, layer, "") for layer in parsed.layers)
            image = Image(lies.digest, lies, parsed, diff_ids, layers)
        else:
            record = self.record(parsed.record)
            manifest = parse_manifest(record.manifest)
            for _ in checked(iter([record.config]), manifest.config):
                pass
            if not len(manifest.layers) == len(parsed.layers) == len(record.unpacked):
                raise Corrupt(f"{lies.digest} has {len(parsed.layers)} layers, its record {len(manifest.layers)}.")
            rows = zip(manifest.layers, parsed.layers, parsed.tags, record.unpacked, strict=True)
            digest = f"sha256:{sha256(record.manifest).hexdigest()}"
            layers = tuple(Layer(*row) for row in rows)
            image = Image(digest, lies, manifest, config_diff_ids(record.config), layers, parsed.record)
        if len(image.diff_ids) != len(image.layers):
            raise Corrupt(f"{lies.digest} has {len(image.layers)} layers, its configuration {len(image.diff_ids)}.")
        return image


@dataclass(frozen=True, slots=True)
class OneImage:
    """The blobs of one image, for who writes it elsewhere."""

    images: Images
    image: Image

    def read(self, blob: Descriptor) -> Iterator[bytes]:
        """As Images.read."""
        return self.images.read(self.image, blob)


class PackedLayer(BlobWriter):
    """A layer on its way into the archive: packed, and encrypted if that is set. Without `keep` nothing of it stays."""

    def __init__(self, images: Images, pool: ThreadPoolExecutor) -> None:
        super().__init__(images.storage)
        self._seal = images.seal
        self._pool = pool
        self._own = sha256()
        self._own_size = 0
        self._unpacked = 0

    def fill(self, pieces: Iterator[bytes]) -> None:
        """Take the whole layer, unpacked."""
        packed = self._seen(pack(self._counted(pieces), self._pool))
        if self._seal.tag:
            self._seal.encrypt(packed, self, host=False)
        else:
            for chunk in packed:
                self.write(chunk)

    def kept(self) -> Layer:
        """Make it durable."""
        stored = self.keep()
        own = Descriptor(f"sha256:{self._own.hexdigest()}", self._own_size) if self._seal.tag else stored
        return Layer(own, stored, self._seal.tag, self._unpacked)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._unpacked += len(piece)
            yield piece

    def _seen(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._seal.tag:
                self._own.update(chunk)
            self._own_size += len(chunk)
            yield chunk


def known_layers(images: Images, wanted: Mapping[str, object], found: list[Descriptor]) -> dict[str, Layer]:
    """diffID → layer, of those wanted that some readable image among `found` has, for the same recipients."""
    known: dict[str, Layer] = {}
    for lies in found:
        try:
            image = images.image(lies)
        except ArchiveError:
            continue  # `verify` tells; its layers are packed again
        for diff_id, layer in zip(image.diff_ids, image.layers, strict=True):
            if diff_id in wanted and layer.tag == images.seal.tag:
                known[diff_id] = layer
    return {diff_id: layer for diff_id, layer in known.items() if images.blobs.has(layer.stored)}
