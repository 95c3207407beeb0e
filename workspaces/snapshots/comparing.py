"""What differs between two versions, of one workspace or of two."""

from __future__ import annotations

from workspaces.errors import NotFound
from workspaces.layers import compare
from workspaces.model import Change, Snapshot
from workspaces.snapshots.shelf import Shelf


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
