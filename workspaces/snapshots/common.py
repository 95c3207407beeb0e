"""What the steps share: the names and labels of images on their way, and room on disks."""

from __future__ import annotations

import os
from pathlib import Path

from workspaces.engine.base import ContainerInfo
from workspaces.errors import NoSpace
from workspaces.lifecycle import LABEL_IMAGE
from workspaces.model import Snapshot, Workspace
from workspaces.names import amount, image_name
from workspaces.store import Store

# Labels beside those of engine/base.py.
LABEL_TEMPORARY = "io.workspaces.temporary"  # on the engine's commit, before its configuration is put right
LABEL_SOURCE = "io.workspaces.source"  # on the same: id of the image that the container was made from
LABEL_SOURCE_NAME = "io.workspaces.source-name"  # and that image's name for people
LABEL_PARENT = "io.workspaces.parent"
LABEL_REQUESTED_BY = "io.workspaces.requested-by"
LABEL_DECIDED_BY = "io.workspaces.decided-by"
OURS = "io.workspaces."

MARGIN = 64 << 20  # bytes that stay free
LOCK_SECONDS = 300.0  # a start, commit or restore of the same workspace may take minutes on a busy host


def snapshot_key(store: Store, snapshot: Snapshot) -> str:
    """LABEL_SNAPSHOT's value: unique among all state directories that share an engine."""
    return f"{store.instance}:{snapshot.id}"


def temporary_reference(store: Store, snapshot: Snapshot) -> str:
    """The name of the engine's commit until its configuration is put right."""
    return f"workspaces-commit/{store.instance}:s{snapshot.id}"


def final_reference(workspace: str, version: int) -> str:
    """The name of a version, from the workspace's `challenge/name`."""
    challenge, _, name = workspace.partition("/")
    return image_name(challenge, name, version)


def source_name(store: Store, workspace: Workspace, container: ContainerInfo | None) -> tuple[str, bool]:
    """How people know the image that a container was made from, and whether that is a version.

    The challenge may have another image by now, so the container's own label counts first.
    """
    named = container.labels.get(LABEL_IMAGE) if container else None
    made_from = named or workspace.image or store.challenge(workspace.challenge).image
    others = [store.snapshot(workspace.parent_id)] if workspace.parent_id is not None else []  # of another workspace
    for snapshot in [*store.snapshots(workspace.id), *others]:
        if snapshot.version is not None and made_from in (snapshot.image_ref, snapshot.image_id):
            return final_reference(snapshot.workspace, snapshot.version), True
    return made_from, False


def check_room(directory: str | Path, wanted: int, what: str) -> None:
    """Raise NoSpace when the disk of `directory` has fewer than `wanted` bytes free.

    A directory that cannot be seen from here (an engine on another host) is not judged.
    """
    try:
        room = os.statvfs(directory)
    except OSError:
        return
    free = room.f_bavail * room.f_frsize
    if free < wanted + MARGIN:
        raise NoSpace(
            f"{what} needs about {amount(wanted)}, and {directory} has {amount(free)} free.",
            "Make room there (workspaces doctor tells of disks), then retry.",
        )
