"""Manifests and the index: pure, bytes in and values out (OCI image specification 1.0).

An encrypted image lies as a manifest of the same form, whose types say that its blobs are age files:

    index.json ─► manifest, sealed ─┬─► configuration: a record of the image's own manifest and configuration
                                    └─► layers, in the order of the image's own
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workspaces.archive.blobs import Descriptor, is_digest
from workspaces.errors import Corrupt

INDEX = "index.json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
SEALED_RECORD_TYPE = "application/vnd.workspaces.record.v1+age"
SEALED_TYPE = "application/vnd.workspaces.blob.v1+age"  # a layer, or a document about an image
REF_NAME = "org.opencontainers.image.ref.name"
RECIPIENTS = "io.workspaces.archive.recipients"  # of a sealed layer: whom it is encrypted for
OWN_DIGEST = "io.workspaces.archive.manifest"  # of a sealed image, in the index: digest of its own manifest
SUBJECT = "io.workspaces.subject"  # of a document about an image (artifacts.py), in the index
DOCUMENT_NAME = "in-toto.io/predicate-type"  # of the same
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
MAX_LAYERS = 1000  # far above what an engine can run


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an image consists of; layers lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The manifest as JSON; equal manifests give equal bytes."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _entry(CONFIG_TYPE, self.config),
            "layers": [_entry(LAYER_TYPE, layer) for layer in self.layers],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return compact(value)


@dataclass(frozen=True, slots=True)
class SealedManifest:
    """How an encrypted image lies: its record, its layers, and for each of these the tag of its recipients."""

    record: Descriptor
    layers: tuple[Descriptor, ...]
    tags: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """The manifest as JSON."""
        layers = [
            {**_entry(SEALED_TYPE, layer), "annotations": {RECIPIENTS: tag}}
            for layer, tag in zip(self.layers, self.tags, strict=True)
        ]
        record = _entry(SEALED_RECORD_TYPE, self.record)
        return compact({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": record, "layers": layers})


@dataclass(frozen=True, slots=True)
class Record:
    """What only those who may read an encrypted image see; `unpacked` is each layer's size in bytes."""

    manifest: bytes
    config: bytes
    unpacked: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """As JSON; the two documents in base64, since their digests depend on every byte."""
        manifest, config = (base64.b64encode(data).decode() for data in (self.manifest, self.config))
        return compact({"manifest": manifest, "config": config, "unpacked": list(self.unpacked)})


@dataclass(slots=True)
class Index:
    """index.json: named images in the order in which they came, and entries that are no images of this program."""

    images: dict[str, Descriptor] = field(default_factory=dict)
    own_digests: dict[str, str] = field(default_factory=dict)  # name → digest of its own manifest, when that is sealed
    others: list[dict[str, Any]] = field(default_factory=list)
    version: str | None = None  # for Storage.replace

    def named(self, digest: str) -> tuple[str, Descriptor] | None:
        """The image whose own manifest has that digest."""
        for ref, descriptor in self.images.items():
            if self.own_digests.get(ref, descriptor.digest) == digest:
                return ref, descriptor
        return None

    def add(self, ref: str, stored: Descriptor, digest: str) -> None:
        """Name an image; `digest` is that of its own manifest."""
        self.remove(ref)
        self.images[ref] = stored
        if digest != stored.digest:
            self.own_digests[ref] = digest

    def remove(self, ref: str) -> None:
        self.images.pop(ref, None)
        self.own_digests.pop(ref, None)

    def drop(self, subject: str, name: str | None = None) -> None:
        """Take out documents about the image of that manifest digest: the one of that name, or all."""

        def about(entry: dict[str, Any]) -> bool:
            notes = entry.get("annotations", {})
            return notes.get(SUBJECT) == subject and (name is None or notes.get(DOCUMENT_NAME) == name)

        self.others = [entry for entry in self.others if not about(entry)]

    def manifests(self) -> set[Descriptor]:
        """All manifests that the index names, also those that this program does not know."""
        return {*self.images.values(), *(_named(entry) for entry in self.others)}

    def to_bytes(self) -> bytes:
        entries: list[dict[str, Any]] = []
        for ref, stored in self.images.items():
            annotations = {REF_NAME: ref}
            if ref in self.own_digests:
                annotations[OWN_DIGEST] = self.own_digests[ref]
            entries.append({**_entry(MANIFEST_TYPE, stored), "annotations": annotations})
        return compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*entries, *self.others]})


_WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def parse_stored(data: bytes) -> Manifest | SealedManifest:
    """Read what either's `to_bytes` wrote. Raises Corrupt for anything else."""
    try:
        value = json.loads(data)
        if value["mediaType"] != MANIFEST_TYPE or len(value["layers"]) > MAX_LAYERS:
            raise ValueError("not an image manifest")
        if value["config"]["mediaType"] == SEALED_RECORD_TYPE:
            layers = tuple(_descriptor(layer, SEALED_TYPE) for layer in value["layers"])
            tags = tuple(str(layer["annotations"][RECIPIENTS]) for layer in value["layers"])
            return SealedManifest(_descriptor(value["config"], SEALED_RECORD_TYPE), layers, tags)
        annotations = {str(k): str(v) for k, v in value.get("annotations", {}).items()}
        layers = tuple(_descriptor(layer, LAYER_TYPE) for layer in value["layers"])
        return Manifest(_descriptor(value["config"], CONFIG_TYPE), layers, annotations)
    except _WRONG as exc:
        raise Corrupt(f"A manifest in the archive cannot be read: {exc}.") from exc


def parse_manifest(data: bytes) -> Manifest:
    """Read an image's own manifest. Raises Corrupt for anything else."""
    found = parse_stored(data)
    if not isinstance(found, Manifest):
        raise Corrupt("A manifest in the archive is encrypted where a plain one must be.")
    return found


def parse_record(data: bytes) -> Record:
    """Read what Record's `to_bytes` wrote. Raises Corrupt for anything else."""
    try:
        value = json.loads(data)
        unpacked = tuple(int(size) for size in value["unpacked"])
        manifest, config = (base64.b64decode(value[name], validate=True) for name in ("manifest", "config"))
        return Record(manifest, config, unpacked)
    except _WRONG as exc:
        raise Corrupt(f"The record of an encrypted image cannot be read: {exc}.") from exc


def references(data: bytes) -> tuple[set[Descriptor], set[Descriptor]]:
    """What a manifest names, of this program's kinds or others': blobs, and further manifests. Raises Corrupt."""
    try:
        value = json.loads(data)
        blobs = [*value.get("layers", ()), *value.get("blobs", ())]
        blobs += [value[name] for name in ("config", "subject") if name in value]
        return {_named(entry) for entry in blobs}, {_named(entry) for entry in value.get("manifests", ())}
    except _WRONG as exc:
        raise Corrupt(f"A manifest in the archive cannot be read: {exc}.") from exc


def parse_index(data: bytes, version: str | None, where: str) -> Index:
    """Read index.json. Raises Corrupt, naming it as `where`."""
    index = Index(version=version)
    try:
        for entry in json.loads(data)["manifests"]:
            descriptor = _named(entry)
            annotations = entry.get("annotations", {})
            if not isinstance(annotations, dict):
                raise ValueError("annotations of another form")
            if entry["mediaType"] != MANIFEST_TYPE or REF_NAME not in annotations:
                index.others.append(entry)
                continue
            ref = str(annotations[REF_NAME])
            index.images[ref] = descriptor
            if OWN_DIGEST in annotations:
                if not is_digest(annotations[OWN_DIGEST]):
                    raise ValueError(f"no digest at {ref[:80]!r}")
                index.own_digests[ref] = annotations[OWN_DIGEST]
    except _WRONG as exc:
        raise Corrupt(f"{where} is damaged: {exc!r}.", "Restore it from a backup.") from exc
    return index


def config_diff_ids(config: bytes) -> tuple[str, ...]:
    """The diffIDs in the bytes of an image configuration. Raises Corrupt when it has none."""
    try:
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        return tuple(str(diff_id) for diff_id in diff_ids)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Corrupt("An image configuration lists no layers.") from exc


def _entry(kind: str, blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _descriptor(value: Any, kind: str) -> Descriptor:
    if value["mediaType"] != kind:
        raise ValueError("an entry of the wrong type")
    return _named(value)


def _named(value: Any) -> Descriptor:
    digest, size = value["digest"], value["size"]
    if not is_digest(digest) or type(size) is not int or size < 0:
        raise ValueError("an entry without digest or size")
    return Descriptor(digest, size)


def compact(value: object) -> bytes:
    """JSON without spaces, keys in order."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
