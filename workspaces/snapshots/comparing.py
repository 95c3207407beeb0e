"""What differs between two versions, of one workspace or of two."""

from __future__ import annotations

import time

from workspaces.engine.base import Progress
from workspaces.errors import NotFound
from workspaces.layers import compare
from workspaces.model import Change, ChangeReport, Job, Snapshot
from workspaces.names import amount
from workspaces.snapshots.review import shortened
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store


def diff(shelf: Shelf, old: Snapshot, new: Snapshot) -> list[Change]:
    """Paths that were added, changed and removed from one committed version to another, sorted by path.

    Raises NotFound when the layers of one can be read neither from the engine nor from the archive, Conflict when they
    have too many paths to compare, EngineError.
    """
    images = [snapshot.image_id for snapshot in (old, new) if snapshot.image_id]
    found = shelf.trees((old.diff_ids, new.diff_ids), images)
    if found is None:
        raise NotFound(
            f"{old.image_ref} and {new.image_ref} cannot be compared: one of their layers is neither in the engine "
            "nor in the archive.",
            "The log names it. workspaces archive verify tells what else is missing.",
        )
    return compare(*found)


def differ(store: Store, shelf: Shelf, job: Job, progress: Progress) -> str:
    """Compare the snapshots that a job's arguments `old` and `new` name; kept as what it found. Raises as `diff`."""
    old, new = (store.snapshot(int(job.arguments[name])) for name in ("old", "new"))
    progress(f"Comparing {old.image_ref} with {new.image_ref}", None)
    report = _report(diff(shelf, old, new), old.image_ref or "")
    store.set_look(job.id, f"{old.id}:{new.id}", report)
    return f"{report.paths} paths differ, {amount(report.bytes)}."


def _report(changes: list[Change], since: str) -> ChangeReport:
    added, changed, removed = (sum(c.kind == kind for c in changes) for kind in ("added", "changed", "removed"))
    size = sum(change.size for change in changes if change.kind != "removed")
    return shortened(ChangeReport(time.time(), since, added, changed, removed, size, tuple(changes)))
