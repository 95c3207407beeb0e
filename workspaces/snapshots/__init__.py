"""What becomes of a requested snapshot, as steps that can be repeated after a kill at any moment.

    inspect ─► what it would capture          (inspecting.py, review.py: warnings)
    commit  ─► image challenge/name:vN        (committing.py, imageconfig.py: the base image's own configuration)
    archive ─► manifest in the archive        (archiving.py), with a signed statement (proving.py)
    push    ─► the same in a registry         (pushing.py)
    list_packages ─► what is in it            (sboms.py)
    restore ─► container made from a version  (restoring.py)

Each function does one step for one snapshot, tells `progress`, and returns a sentence about what was done.
"""

from workspaces.snapshots.archiving import archive
from workspaces.snapshots.committing import commit, discard, sweep
from workspaces.snapshots.inspecting import inspect
from workspaces.snapshots.proving import Verdict, check_archived, check_record, check_version
from workspaces.snapshots.pushing import push
from workspaces.snapshots.restoring import restore
from workspaces.snapshots.sboms import list_packages, packages_of

__all__ = [
    "Verdict",
    "archive",
    "check_archived",
    "check_record",
    "check_version",
    "commit",
    "discard",
    "inspect",
    "list_packages",
    "packages_of",
    "push",
    "restore",
    "sweep",
]
