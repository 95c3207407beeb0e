"""Documents about an image, kept beside it: artifact manifests with a subject (OCI image specification 1.1). Pure.

    index.json entry (artifactType, subject, name) ─► artifact manifest ─► the document, one blob
                                                          └─ subject: the image's manifest

An image has at most one document of each name. Other tools find the manifest by its `subject`, as OCI's "referrers";
who looks for images passes it over, since its index entry has an `artifactType` and no reference name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workspaces.archive.blobs import Descriptor, is_digest
from workspaces.archive.manifest import MANIFEST_TYPE, compact
from workspaces.errors import Corrupt

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"  # what an artifact has in the place of a configuration
STATEMENT_TYPE = "application/vnd.in-toto+json"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
NAME = "in-toto.io/predicate-type"  # annotation; the name of a signed statement is its predicate's type
SUBJECT = "io.workspaces.subject"  # annotation of the index entry only: spares reading every manifest


@dataclass(frozen=True, slots=True)
class Artifact:
    """The manifest of a document about `subject`, an image's manifest."""

    name: str
    subject: Descriptor
    empty: Descriptor
    document: Descriptor

    def to_bytes(self) -> bytes:
        """The manifest as JSON; equal ones give equal bytes."""
        return compact(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": STATEMENT_TYPE,
                "config": _entry(EMPTY_TYPE, self.empty),
                "layers": [_entry(ENVELOPE_TYPE, self.document)],
                "subject": _entry(MANIFEST_TYPE, self.subject),
                "annotations": {NAME: self.name},
            }
        )


@dataclass(frozen=True, slots=True)
class Attached:
    """An artifact as index.json lists it: `manifest` is its manifest, `subject` the digest of the image's."""

    name: str
    subject: str
    manifest: Descriptor

    def entry(self) -> dict[str, Any]:
        """Its entry in index.json."""
        found = {**_entry(MANIFEST_TYPE, self.manifest), "artifactType": STATEMENT_TYPE}
        return {**found, "annotations": {NAME: self.name, SUBJECT: self.subject}}


def is_artifact(entry: dict[str, Any]) -> bool:
    """Whether an entry of index.json is one of these."""
    return "artifactType" in entry


def parse_entries(entries: Iterable[dict[str, Any]]) -> list[Attached]:
    """The artifacts among index.json's entries. Raises Corrupt, KeyError, TypeError for one that is none of ours."""
    found = []
    for entry in filter(is_artifact, entries):
        notes = entry["annotations"]
        attached = Attached(str(notes[NAME]), notes[SUBJECT], Descriptor(entry["digest"], entry["size"]))
        if not is_digest(attached.subject) or not _is_descriptor(attached.manifest):
            raise Corrupt(f"index.json is damaged at {attached.name!r}.", "Restore it from a backup.")
        found.append(attached)
    return found


def parse_artifact(data: bytes) -> Artifact:
    """Read what `to_bytes` wrote. Raises Corrupt for anything else."""
    try:
        value = json.loads(data)
        parts = (value["subject"], value["config"], *value["layers"])
        subject, empty, document = (Descriptor(part["digest"], part["size"]) for part in parts)
        artifact = Artifact(str(value["annotations"][NAME]), subject, empty, document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise Corrupt(f"An artifact in the archive cannot be read: {exc}.") from exc
    if not all(map(_is_descriptor, (subject, empty, document))) or artifact.to_bytes() != data:
        raise Corrupt("An artifact in the archive has another form than is written here.")
    return artifact


def _entry(kind: str, blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _is_descriptor(blob: Descriptor) -> bool:
    return is_digest(blob.digest) and type(blob.size) is int and blob.size >= 0
