"""What becomes of a requested snapshot, as steps that can be repeated after a kill at any moment.

    inspect ─► what it would capture          (inspecting.py, examining.py: contents, review.py: warnings)
    commit  ─► image challenge/name:vN        (committing.py, layering.py: layers shared with the parent version,
                                               imageconfig.py: the base image's own configuration)
    archive ─► manifest in the archive        (archiving.py), with a signed statement (proving.py; signing.py: later)
    push    ─► the same in a registry         (pushing.py)
    list_packages ─► what is in it            (sboms.py)
    restore ─► container made from a version  (restoring.py), after a version of what was there (keeping.py)
    freeze  ─► a version of one workspace of a challenge, which is then stopped or read-only (freezing.py)
    prune   ─► old versions removed           (retention.py; not of one snapshot, but by a challenge's rules)
    diff    ─► what differs between two       (comparing.py)
    look    ─► what one would capture now     (inspecting.py), without a request

A version that only the archive knows is entered first (adopting.py). Who is on in a workspace is told of its
pause (announcing.py).
Each function does one step for one snapshot, tells `progress`, and returns a sentence about what was done.
"""

from workspaces.snapshots.adopting import adopt
from workspaces.snapshots.archiving import archive
from workspaces.snapshots.committing import commit, discard, sweep
from workspaces.snapshots.common import LOCK_SECONDS
from workspaces.snapshots.comparing import diff, differ
from workspaces.snapshots.freezing import freeze, thaw
from workspaces.snapshots.inspecting import inspect, look
from workspaces.snapshots.proving import UNSIGNED, Verdict, check_archived, check_record, check_version
from workspaces.snapshots.pushing import push
from workspaces.snapshots.restoring import restore
from workspaces.snapshots.retention import due, prune
from workspaces.snapshots.sboms import list_packages, packages_of
from workspaces.snapshots.shelf import Shelf
from workspaces.snapshots.signing import sign

__all__ = [
    "LOCK_SECONDS",
    "UNSIGNED",
    "Shelf",
    "Verdict",
    "adopt",
    "archive",
    "check_archived",
    "check_record",
    "check_version",
    "commit",
    "diff",
    "differ",
    "discard",
    "due",
    "freeze",
    "inspect",
    "list_packages",
    "look",
    "packages_of",
    "prune",
    "push",
    "restore",
    "sign",
    "sweep",
    "thaw",
]
