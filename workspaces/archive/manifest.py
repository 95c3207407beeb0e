"""OCI image manifests: pure, bytes in and values out (OCI image specification 1.0)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workspaces.archive.blobs import Descriptor, is_digest
from workspaces.errors import Corrupt

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"
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


def parse_manifest(data: bytes) -> Manifest:
    """Read what `to_bytes` wrote. Raises Corrupt for anything else."""
    try:
        value = json.loads(data)
        if value["mediaType"] != MANIFEST_TYPE or len(value["layers"]) > MAX_LAYERS:
            raise ValueError("not an image manifest")
        annotations = {str(k): str(v) for k, v in value.get("annotations", {}).items()}
        layers = tuple(_descriptor(layer, LAYER_TYPE) for layer in value["layers"])
        return Manifest(_descriptor(value["config"], CONFIG_TYPE), layers, annotations)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise Corrupt(f"A manifest in the archive cannot be read: {exc}.") from exc


def _entry(kind: str, blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _descriptor(value: Any, kind: str) -> Descriptor:
    digest, size = value["digest"], value["size"]
    if value["mediaType"] != kind or not is_digest(digest) or not isinstance(size, int) or size < 0:
        raise ValueError("an entry of the wrong type")
    return Descriptor(digest, size)


def compact(value: object) -> bytes:
    """JSON without spaces, keys in order."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
