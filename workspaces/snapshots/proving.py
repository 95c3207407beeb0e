"""The signed statement about a version: made when it is archived, checked whenever it is looked at.

store + configuration in the archive ─► statement ─► signed ─► the store's row, and the archive beside the image
store's statement ─► signature right? says what the store says? ─► Verdict          (check_record)
archive           ─► the same statement? manifest, configuration, every layer as signed?     (check_version)
an archive alone, and somebody's public key ─► Verdict                              (check_archived)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from workspaces.archive import Archive
from workspaces.archive.blobs import MAX_JSON
from workspaces.archive.deflate import inflate
from workspaces.archive.tarball import digest_of
from workspaces.engine.base import Progress
from workspaces.errors import Corrupt, NotFound, StatementError
from workspaces.model import Snapshot
from workspaces.names import printable
from workspaces.provenance import (
    BOM_TYPES,
    SNAPSHOT_TYPE,
    Base,
    PublicKey,
    Signer,
    differences,
    open_envelope,
    parse_statement,
    snapshot_statement,
)
from workspaces.snapshots.imageconfig import BASE_DIGEST, BASE_NAME
from workspaces.store import Store

UNSIGNED = (
    "There is no signed statement about it in the database: it was archived before versions were signed, or entered "
    "from an archive that another host wrote."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`signed_by` is the key's fingerprint; `problems` are sentences, none when the statement holds."""

    signed_by: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.problems:
            return f"signed by {self.signed_by}, verified"
        return "NOT VERIFIED: " + " ".join(self.problems)


def prove(store: Store, archive: Archive, signer: Signer, snapshot: Snapshot, manifest_digest: str) -> str:
    """Sign what is known of a committed version whose image is in the archive; keep it there, and return it.

    A repeat gives the same. Raises NotFound, Corrupt, HostError.
    """
    base = _base(_config(archive, manifest_digest))
    envelope = signer.sign(_expected(store, snapshot, base, manifest_digest))
    archive.attach(manifest_digest, SNAPSHOT_TYPE, envelope)
    return envelope.decode("ascii")


def check_record(store: Store, key: PublicKey, snapshot: Snapshot) -> Verdict:
    """Whether an archived version's statement is signed with `key` and says what the store says.

    The base image's name is only in the image's configuration, which check_version reads.
    """
    if snapshot.statement is None:
        return Verdict(key.fingerprint, (UNSIGNED,))
    return _verdict(key, lambda: _record(store, key, snapshot))


def check_version(store: Store, archive: Archive, key: PublicKey, snapshot: Snapshot, progress: Progress) -> Verdict:
    """What check_record does, and whether the archive has that statement and that image; every byte of it is read.

    Of a version without a statement the image is compared with what the store says. Raises NoIdentity.
    """
    recorded = check_record(store, key, snapshot)
    digest = snapshot.manifest_digest
    if digest is None:
        return recorded

    def problems() -> Iterator[str]:
        if snapshot.statement is None:
            if archive.blobs_of(digest)[0].digest != snapshot.image_id:
                yield "The image in the archive is another one than the store's."
        else:
            statement = snapshot.statement.encode()
            attached = archive.attached(digest)
            if SNAPSHOT_TYPE not in attached:
                yield "The archive has no statement about it."
            elif archive.document(attached[SNAPSHOT_TYPE]) != statement:
                yield "The statement in the archive is another one than the store's."
            yield from _image(archive, digest, open_envelope(statement, key))
        yield from _layers(archive, digest, snapshot.diff_ids, progress)
        if snapshot.sbom_digest is not None:
            yield from _bom(archive, key, snapshot)

    found = _verdict(key, problems)
    return Verdict(key.fingerprint, tuple(dict.fromkeys((*recorded.problems, *found.problems))))


def check_archived(archive: Archive, key: PublicKey, image: str) -> tuple[Verdict, dict[str, Any]]:
    """For a host that has only the archive: the statement about an archived image, and whether it holds.

    Layers are compared by their digests; `archive verify` reads them. Raises NotFound, StatementError without a
    statement that `key` signed.
    """
    found = archive.find(image)
    attached = archive.attached(found.digest)
    if SNAPSHOT_TYPE not in attached:
        raise NotFound(f"The archive has no statement about {found.ref}.")
    signed = open_envelope(archive.document(attached[SNAPSHOT_TYPE]), key)
    said = parse_statement(signed)

    def problems() -> Iterator[str]:
        if said["predicate"]["image"] != found.ref:
            yield f"The archive calls it {printable(found.ref)}, and the statement is about another image."
        yield from _image(archive, found.digest, signed)

    return _verdict(key, problems), said


def _verdict(key: PublicKey, problems: Callable[[], Iterable[str]]) -> Verdict:
    found: list[str] = []
    try:
        found.extend(problems())
    except (StatementError, Corrupt, NotFound) as exc:
        found.append(exc.message)
    except (KeyError, TypeError, AttributeError) as exc:  # signed, and yet not what is signed here
        found.append(f"The statement lacks a part: {printable(repr(exc), 80)}.")
    return Verdict(key.fingerprint, tuple(found))


def _record(store: Store, key: PublicKey, snapshot: Snapshot) -> tuple[str, ...]:
    signed = open_envelope((snapshot.statement or "").encode(), key)
    said = parse_statement(signed)
    base = (said.get("predicate") or {}).get("base") or {}
    taken = Base(str(base.get("name")), str(base.get("digest")))
    return differences(signed, _expected(store, snapshot, taken, snapshot.manifest_digest or ""))


def _expected(store: Store, snapshot: Snapshot, base: Base, manifest_digest: str) -> bytes:
    parent = store.snapshot(snapshot.parent_id) if snapshot.parent_id is not None else None
    return snapshot_statement(snapshot, parent, host=store.instance, base=base, manifest_digest=manifest_digest)


def _image(archive: Archive, digest: str, signed: bytes) -> Iterator[str]:
    """Where the archived image is another one than was signed for."""
    said = parse_statement(signed)
    config_digest = archive.blobs_of(digest)[0].digest
    config = _config(archive, digest)
    subjects = {subject["digest"]["sha256"] for subject in said["subject"]}
    for what, actual in (("manifest", digest), ("configuration", config_digest)):
        if actual.removeprefix("sha256:") not in subjects:
            yield f"The {what} {actual} was not signed for."
    if config.get("rootfs", {}).get("diff_ids") != said["predicate"]["layers"]:
        yield "The image's layers are others than were signed for."
    base = _base(config)
    if said["predicate"]["base"] != {"name": base.name, "digest": base.digest}:
        yield "The image's configuration names another base image than was signed for."


def _layers(archive: Archive, digest: str, diff_ids: tuple[str, ...], progress: Progress) -> Iterator[str]:
    """Where the bytes of a layer are not those of its diffID."""
    _, *blobs = archive.blobs_of(digest)
    if len(blobs) != len(diff_ids):
        yield f"The archive has {len(blobs)} layers of it, the store {len(diff_ids)}."
        return
    for number, (blob, diff_id) in enumerate(zip(blobs, diff_ids, strict=True)):
        progress(f"Reading layer {number + 1} of {len(blobs)}", number / len(blobs))
        try:
            if digest_of(inflate(archive.read_blob(blob))) != diff_id:
                yield f"{blob.digest} holds another layer than {diff_id}."
        except Corrupt as exc:
            yield exc.message if blob.digest in exc.message else f"{blob.digest}: {exc.message}"


def _bom(archive: Archive, key: PublicKey, snapshot: Snapshot) -> Iterator[str]:
    said = parse_statement(open_envelope(archive.document(str(snapshot.sbom_digest)), key))
    kinds = tuple(BOM_TYPES.values())
    named = {subject["digest"]["sha256"] for subject in said["subject"]}
    if said.get("predicateType") not in kinds or str(snapshot.manifest_digest).removeprefix("sha256:") not in named:
        yield "The list of its packages was signed for another image."


def _config(archive: Archive, digest: str) -> dict[str, Any]:
    """The image's configuration. Raises Corrupt."""
    blob = archive.blobs_of(digest)[0]
    if blob.size > MAX_JSON:
        raise Corrupt(f"{blob.digest} has {blob.size} bytes, too many for a configuration.")
    try:
        value = json.loads(b"".join(archive.read_blob(blob)))
    except (ValueError, RecursionError) as exc:
        raise Corrupt(f"{blob.digest} is no image configuration.") from exc
    return value if isinstance(value, dict) else {}


def _base(config: dict[str, Any]) -> Base:
    labels = (config.get("config") or {}).get("Labels") or {}
    return Base(str(labels.get(BASE_NAME, "")), str(labels.get(BASE_DIGEST, "")))
