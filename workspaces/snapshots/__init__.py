"""What becomes of a requested snapshot, as steps that can be repeated after a kill at any moment.

    inspect ─► what it would capture          (inspecting.py, examining.py: contents, review.py: warnings)
    commit  ─► image challenge/name:vN        (committing.py, imageconfig.py: the base image's own configuration)
    archive ─► manifest in the archive        (archiving.py)
    restore ─► container made from a version  (restoring.py)

Each function does one step for one snapshot, tells `progress`, and returns a sentence about what was done.
"""

from workspaces.snapshots.archiving import archive
from workspaces.snapshots.committing import commit, discard, sweep
from workspaces.snapshots.inspecting import inspect
from workspaces.snapshots.restoring import restore

__all__ = ["archive", "commit", "discard", "inspect", "restore", "sweep"]
