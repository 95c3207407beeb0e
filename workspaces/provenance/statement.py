"""What the signed statement about a version says. Pure.

An in-toto Statement v1. Its subjects are the image by the digest of its manifest, which is its name in archive and
registry, and by that of its configuration, which is its id in the engine. The predicate is of this program's own type,
not SLSA's provenance: that tells how a builder made something from parameters, and a person's container was
not made so. All of it comes from the store and the image's configuration, so that it can be made again and compared;
times are the store's, RFC 3339 in UTC with microseconds.

    {"_type": "https://in-toto.io/Statement/v1", "subject": [manifest, configuration],
     "predicateType": "urn:container-workspaces:snapshot:v1",
     "predicate": {"host", "challenge", "workspace", "version", "image",
                   "request": {"id", "by", "via", "at", "message"}, "decision": {"by", "at"},
                   "base": {"name", "digest"}, "parent": {"workspace", "version", "digest"} or null,
                   "layers": [diffID, …, lowest first], "size", "committedAt"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workspaces.errors import StatementError
from workspaces.model import Sbom, Snapshot
from workspaces.names import printable

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SNAPSHOT_TYPE = "urn:container-workspaces:snapshot:v1"
# as the in-toto attestation framework names them
BOM_TYPES = {Sbom.SPDX: "https://spdx.dev/Document", Sbom.CYCLONEDX: "https://cyclonedx.org/bom"}
_TOLD = 120  # characters of a differing value that are shown
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Base:
    """The image that a workspace began with: its name for people, and its id."""

    name: str
    digest: str


def snapshot_statement(
    snapshot: Snapshot, parent: Snapshot | None, *, host: str, base: Base, manifest_digest: str
) -> bytes:
    """The statement about a committed version as JSON; equal input gives equal bytes.

    `host` is the state directory's id, `parent` the version that the container was made from or last committed as.
    """
    predicate = {
        "host": host,
        "challenge": snapshot.workspace.partition("/")[0],
        "workspace": snapshot.workspace,
        "version": snapshot.version,
        "image": snapshot.image_ref,
        "request": {
            "id": snapshot.id,
            "by": snapshot.requested_by,
            "via": snapshot.requested_via,
            "at": _time(snapshot.requested_at),
            "message": snapshot.message,
        },
        "decision": {"by": snapshot.decided_by, "at": _time(snapshot.decided_at)},
        "base": {"name": base.name, "digest": base.digest},
        "parent": parent and {"workspace": parent.workspace, "version": parent.version, "digest": parent.image_id},
        "layers": list(snapshot.diff_ids),
        "size": snapshot.size,
        "committedAt": _time(snapshot.committed_at),
    }
    return _statement(snapshot, manifest_digest, SNAPSHOT_TYPE, predicate)


def bom_statement(snapshot: Snapshot, manifest_digest: str, form: Sbom, document: Mapping[str, Any]) -> bytes:
    """The statement that `document` (SPDX or CycloneDX, as `form` says) lists what is in the version."""
    return _statement(snapshot, manifest_digest, BOM_TYPES[form], document)


def parse_statement(data: bytes) -> dict[str, Any]:
    """The statement as a dictionary. Raises StatementError when it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise StatementError("The statement is not JSON.") from exc
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        raise StatementError("What was signed is no in-toto statement.")
    return value


def differences(signed: bytes, expected: bytes) -> tuple[str, ...]:
    """Where the signed statement says something else than the one made from what is here; a sentence for each."""
    return tuple(_compare("", parse_statement(signed), parse_statement(expected)))


def _compare(path: str, signed: Any, expected: Any) -> Iterator[str]:
    if isinstance(signed, dict) and isinstance(expected, dict):
        for name in sorted({*signed, *expected}):
            mine, theirs = signed.get(name, _ABSENT), expected.get(name, _ABSENT)
            yield from _compare(f"{path}.{name}" if path else name, mine, theirs)
    elif isinstance(signed, list) and isinstance(expected, list) and len(signed) == len(expected):
        for index, (mine, theirs) in enumerate(zip(signed, expected, strict=True)):
            yield from _compare(f"{path}[{index}]", mine, theirs)
    elif type(signed) is not type(expected) or signed != expected:
        yield f"{printable(path)}: {_told(signed)} was signed, {_told(expected)} is here."


def _told(value: Any) -> str:
    return "nothing" if value is _ABSENT else printable(json.dumps(value, ensure_ascii=False), _TOLD)


def _statement(snapshot: Snapshot, manifest_digest: str, kind: str, predicate: Mapping[str, Any]) -> bytes:
    name = str(snapshot.image_ref)
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": manifest_digest.removeprefix("sha256:")}},
            {"name": f"{name} (configuration)", "digest": {"sha256": str(snapshot.image_id).removeprefix("sha256:")}},
        ],
        "predicateType": kind,
        "predicate": predicate,
    }
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
