"""What becomes of a requested snapshot, as steps that can be repeated after a kill at any moment.

    inspect ─► what it would capture          (inspecting.py, examining.py: contents, review.py: warnings)
    commit  ─► image challenge/name:vN        (committing.py, layering.py: layers shared with the parent version,
                                               imageconfig.py: the base image's own configuration)
    archive ─► manifest in the archive        (archiving.py)
    restore ─► container made from a version  (restoring.py)
    diff    ─► what differs between two       (comparing.py)

Each function does one step for one snapshot, tells `progress`, and returns a sentence about what was done.
"""

from workspaces.snapshots.archiving import archive
from workspaces.snapshots.committing import commit, discard, sweep
from workspaces.snapshots.comparing import diff
from workspaces.snapshots.inspecting import inspect
from workspaces.snapshots.restoring import restore
from workspaces.snapshots.shelf import Shelf

__all__ = ["Shelf", "archive", "commit", "diff", "discard", "inspect", "restore", "sweep"]
