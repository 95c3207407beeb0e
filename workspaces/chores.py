"""Jobs about the host: the archive read again, counted and cleared; base images noted. Each can be repeated.

    verify   every blob read and re-hashed    ─► problems, by image
    collect  what no version refers to        ─► counted; deleted when the job says so
    usage    manifests                        ─► bytes stored, and as if nothing was shared, by challenge
    prune    the challenges' rules            ─► versions removed (snapshots/retention.py)
    images   the engine's images              ─► the store, for those who may not ask the engine

What was found is kept in the store with the job, as JSON, never longer than a page can show.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from workspaces import snapshots
from workspaces.archive import Archive, Garbage
from workspaces.engine import images
from workspaces.engine.base import LABEL_SNAPSHOT, Bytes, Engine, Progress
from workspaces.model import BaseImage, Job
from workspaces.names import amount
from workspaces.store import Store

LISTED = 200  # problems, blobs or versions that are named; the rest is counted
NAMED = 20  # images that one damaged blob hurts
IMAGES_SECONDS = 60.0  # between two looks at the engine's images


def verify(store: Store, archive: Archive, job: Job, progress: Progress) -> str:
    """Read the whole archive. What is damaged fails no job: it was found. Raises ArchiveUnavailable."""
    size = 0

    def told(done: int, total: int) -> None:
        nonlocal size
        size = total
        progress("Reading the archive again", Bytes(done, total) if total else None)

    progress("Reading the archive again", None)
    verdict = archive.verify(told)
    problems = [
        {"blob": p.blob, "sentence": p.sentence, "images": list(p.images[:NAMED]), "hurt": len(p.images)}
        for p in verdict.problems[:LISTED]
    ]
    found = {"blobs": verdict.blobs, "sealed": verdict.sealed, "bytes": size, "bad": len(verdict.problems)}
    store.set_report(job.id, "", json.dumps({**found, "problems": problems}))
    store.add_event(job.requested_by, "archive.verified", data={"blobs": verdict.blobs, "bad": found["bad"]})
    if verdict.problems:
        return f"{found['bad']} of {verdict.blobs} blobs are missing or damaged; restore what is named from a backup."
    return f"{verdict.blobs} blobs are there and whole."


def collect(store: Store, archive: Archive, job: Job, progress: Progress) -> str:
    """Find what nothing refers to, and delete it if the job's argument `delete` says so. Raises ArchiveError."""
    freed = 0

    def told(name: str, size: int) -> None:
        nonlocal freed
        freed += size
        progress(f"Deleting what nothing refers to: {amount(freed)} so far", None)
        store.add_event(job.requested_by, "archive.deleted", data={"what": name, "bytes": size})

    deletes = job.arguments.get("delete") == "yes"
    progress("Looking for what nothing refers to", None)
    found = archive.collect(told) if deletes else archive.garbage()
    store.set_report(job.id, "", json.dumps({"deleted": deletes, **_garbage(found)}))
    many = f"{len(found.blobs)} blobs, {amount(found.size)}"
    if deletes:
        return f"{many} are deleted."
    return f"{many} can be deleted." if found.blobs or found.unfinished else "Every blob belongs to a version."


def _garbage(found: Garbage) -> dict[str, object]:
    largest = sorted(found.blobs, key=lambda blob: -blob.size)[:LISTED]
    return {
        "blobs": len(found.blobs),
        "bytes": found.size,
        "unfinished": len(found.unfinished),
        "young": found.young,
        "listed": [{"digest": blob.digest, "size": blob.size} for blob in largest],
    }


def usage(store: Store, archive: Archive, job: Job, progress: Progress) -> str:
    """Count what the archive holds. Raises ArchiveError."""
    progress("Counting what the archive holds", None)
    found = archive.usage(lambda done, total: progress("Counting what the archive holds", done / total))
    unread = list(found.unread[:LISTED])
    store.set_report(
        job.id, "", json.dumps({**asdict(found), "ratio": found.ratio, "unread": unread, "where": archive.where})
    )
    return f"{found.images} versions, {amount(found.stored)} stored, {amount(found.alone)} if nothing was shared."


def prune(store: Store, engine: Engine, archive: Archive, job: Job, progress: Progress) -> str:
    """Remove what the rules of the challenge that the job names do not keep; of that, the `versions` that it names.

    Raises ArchiveError, EngineError.
    """
    progress("Removing what the rules do not keep", None)
    named = job.arguments.get("versions")
    only = None if named is None else {int(number) for number in named.split(",") if number}
    challenge = job.arguments.get("challenge") or None
    done = snapshots.prune(store, engine, archive, challenge, only=only, actor=job.requested_by)
    listed = [snapshot.image_ref for snapshot in done[:LISTED]]
    store.set_report(job.id, "", json.dumps({"versions": len(done), "listed": listed}))
    return f"{len(done)} versions are pruned."


def look_at_images(store: Store, engine: Engine, job: Job, progress: Progress) -> str:
    """Note the base images now; look into the one that the job's argument `image` names. NotFound, EngineError."""
    progress("Looking at the engine's images", None)
    note_images(store, engine)
    wanted = job.arguments.get("image")
    if wanted is None:
        return f"{len(store.base_images())} base images are noted."
    image = store.base_image(wanted)
    progress(f"Looking into {image.refs[0]}", None)
    findings = images.check(engine, image.refs[0])
    store.set_image_findings(image.id, findings)
    missing = [finding.name for finding in findings if not finding.present]
    if not missing:
        return f"{image.refs[0]} has all that is looked for."
    bad = any(finding.required and not finding.present for finding in findings)
    return f"{image.refs[0]} lacks {', '.join(missing)}." + (" Nobody can log in to it." if bad else "")


def note_images(store: Store, engine: Engine) -> None:
    """Write down the images of the engine that are no versions and have a name. Raises EngineError."""
    now = time.time()
    seen = [
        BaseImage(image.id, image.refs, image.size, len(image.diff_ids), image.created_at, now)
        for image in engine.images(without=LABEL_SNAPSHOT)
        if image.refs
    ]
    store.set_base_images(seen)


class Images:
    """Notes the images now and then, for the worker's rounds."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store, self._engine = store, engine
        self._next = 0.0

    def look(self) -> None:
        """Look if it is time. Raises EngineError."""
        if time.monotonic() >= self._next:
            note_images(self._store, self._engine)
            self._next = time.monotonic() + IMAGES_SECONDS
