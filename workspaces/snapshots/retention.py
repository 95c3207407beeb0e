"""Retention: which versions a challenge's rules do not keep, and removing them. Their records stay.

    store: pruned ─► out of the archive's index ─► image out of the engine     (blobs: Archive.collect)

A version is kept when it is one of the last N of its workspace's name, is pinned, was asked for by a person (unless the
challenge says otherwise; `auto` ones are the program's own), or a workspace stands on it or was frozen with it. Without
N every one is. The record comes first, so that nobody restores what is half gone; whatever a kill left is removed the
next time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress

from workspaces.archive import Archive
from workspaces.engine.base import LABEL_INSTANCE, LABEL_SNAPSHOT, Engine
from workspaces.errors import Conflict
from workspaces.model import Challenge, Snapshot, SnapshotState
from workspaces.snapshots.common import snapshot_key
from workspaces.store import Store


def due(store: Store, challenge: str | None = None) -> list[Snapshot]:
    """The versions that would be pruned, of one challenge or of all; oldest first. Raises NotFound."""
    asked = [store.challenge(challenge)] if challenge else store.challenges()
    rules = [rule for rule in asked if rule.keep_last is not None]
    slugs = [rule.slug for rule in rules]
    versions = store.snapshots(states=(SnapshotState.COMMITTED, SnapshotState.ARCHIVED), challenges=slugs)
    bases = store.bases()
    found = [snapshot for rule in rules for snapshot in not_kept(rule, versions, bases)]
    return sorted(found, key=lambda snapshot: snapshot.id)


def not_kept(rule: Challenge, versions: Iterable[Snapshot], bases: set[int]) -> list[Snapshot]:
    """Those of the challenge's `versions` that its rules do not keep; `bases` are ids that a workspace stands on."""
    if rule.keep_last is None:
        return []
    of_name: dict[str, list[Snapshot]] = defaultdict(list)
    for snapshot in versions:
        if snapshot.workspace.partition("/")[0] == rule.slug and snapshot.pruned_at is None:
            of_name[snapshot.workspace].append(snapshot)
    return [
        snapshot
        for same in of_name.values()
        for snapshot in sorted(same, key=lambda snapshot: snapshot.version or 0)[: -rule.keep_last]
        if snapshot.state is SnapshotState.ARCHIVED
        and not snapshot.pinned
        and not (rule.keep_submitted and snapshot.requested_via != "auto")
        and snapshot.id not in bases
    ]


def prune(
    store: Store,
    engine: Engine,
    archive: Archive,
    challenge: str | None = None,
    *,
    only: Collection[int] | None = None,
    actor: str,
) -> list[Snapshot]:
    """Prune what is due, and what an interrupted attempt left; return the versions pruned now.

    With `only`, of what is due these (ids), which somebody agreed to. One that was pinned, or has a job waiting, in the
    meantime stays. Raises NotFound, ArchiveError, EngineError.
    """
    pruned = []
    for snapshot in due(store, challenge):
        if only is not None and snapshot.id not in only:
            continue
        with suppress(Conflict):
            pruned.append(store.prune_snapshot(snapshot.id, actor=actor))
    archived = store.snapshots(states=(SnapshotState.ARCHIVED,))
    gone = [snapshot for snapshot in archived if snapshot.pruned_at]
    # a removed workspace's version may be entered anew for one of the same name
    there = archive.digests() - {snapshot.manifest_digest for snapshot in archived if not snapshot.pruned_at}
    for snapshot in gone:
        if snapshot.manifest_digest in there:
            archive.remove(snapshot.manifest_digest)
    keys = {snapshot_key(store, snapshot) for snapshot in gone}
    for image in engine.images({LABEL_INSTANCE: store.instance}) if keys else ():
        if image.config.labels.get(LABEL_SNAPSHOT) in keys:
            with suppress(Conflict):  # a container is made from it
                engine.remove_image(image.id)
    return pruned
