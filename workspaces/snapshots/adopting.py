"""Entering versions that only an archive knows, such as on a host that has nothing else of a challenge.

image's name ─► its workspace here? ─► all its versions in the archive ─► the store, as archived

All of them, so that the next version gets a number that the archive has not given yet, and none of them is garbage.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Mapping
from datetime import datetime

from workspaces.archive import Archive
from workspaces.errors import NotFound
from workspaces.model import Snapshot
from workspaces.names import MESSAGE_MAX
from workspaces.snapshots.common import LABEL_REQUESTED_BY
from workspaces.snapshots.imageconfig import OCI
from workspaces.store import Store

_VERSION = re.compile(r"([a-z0-9-]{1,32}/[a-z0-9-]{1,32}):v([1-9][0-9]{0,8})")


def adopt(store: Store, archive: Archive, image: str, *, actor: str) -> Snapshot | None:
    """The version of that name, after its workspace has got all that the archive has of it; None without a workspace.

    Raises NotFound when the archive has no such image, Conflict when the store has other versions, Corrupt, NoIdentity.
    """
    archive.find(image)
    named = _VERSION.fullmatch(image)
    if named is None:
        return None
    try:
        workspace = store.workspace(named[1])
    except NotFound:
        return None
    for found in archive.list(f"{workspace.ref}:"):
        version = _VERSION.fullmatch(found.ref)
        if version is None:
            continue
        if not found.opened:
            archive.find(found.ref)  # says what is missing
        said = found.annotations
        adopted = {
            "image_ref": found.ref,
            "image_id": found.config_digest,
            "manifest_digest": found.digest,
            "message": _text(said, OCI + "description") or f"Entered from the archive as {found.ref}",
            "requested_by": _text(said, LABEL_REQUESTED_BY) or actor,
            "requested_at": _time(said.get(OCI + "created")),
        }
        store.adopt_version(workspace.id, int(version[2]), adopted, found.diff_ids, actor=actor)
    return store.version_named(image)


def _text(annotations: Mapping[str, str], name: str) -> str:
    kept = (c for c in annotations.get(name, "") if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept)[:MESSAGE_MAX].strip()


def _time(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except (ValueError, OverflowError):
        return time.time()
