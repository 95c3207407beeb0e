"""The commit step: a container becomes the image `challenge/name:vN`, exactly once.

    store: COMMITTING, version N ─► engine's commit, under a temporary name ─► the parent version's layers and what
    changed since (layering.py), with the base image's configuration, as the final name ─► store: COMMITTED, archiving
    queued ─► temporary image deleted

Whatever was reached before a kill is found again and not done twice: the final image by its name and snapshot label,
the temporary one by its name. An engine goes on with a commit whose caller died; the container is paused meanwhile,
so a paused container means waiting. All of it happens under the workspace's lock.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack, suppress

from workspaces.engine.base import (
    LABEL_INSTANCE,
    LABEL_SNAPSHOT,
    LABEL_WORKSPACE,
    ContainerInfo,
    Engine,
    ImageInfo,
    Progress,
)
from workspaces.engine.imagetar import config_bytes
from workspaces.errors import Conflict, EngineError, NotFound, WorkspacesError
from workspaces.layers.node import DIRECTORY
from workspaces.lifecycle import Lifecycle
from workspaces.model import Snapshot, SnapshotState, Workspace
from workspaces.names import amount
from workspaces.snapshots.announcing import standing_still, tell_saved
from workspaces.snapshots.common import (
    LABEL_SOURCE,
    LABEL_SOURCE_NAME,
    LABEL_TEMPORARY,
    LOCK_SECONDS,
    check_room,
    final_reference,
    snapshot_key,
    source_name,
    temporary_reference,
)
from workspaces.snapshots.imageconfig import BASE_DIGEST, version_config, version_labels
from workspaces.snapshots.inspecting import measure
from workspaces.snapshots.layering import Arrangement, arranged
from workspaces.snapshots.review import MAX_LAYERS, too_many_layers
from workspaces.snapshots.shelf import Shelf
from workspaces.store import Store

log = logging.getLogger(__name__)

DONE = (SnapshotState.COMMITTED, SnapshotState.ARCHIVED)
UNDECIDED = (SnapshotState.APPROVED, SnapshotState.COMMITTING)  # a temporary image may be on its way
PAUSED_SECONDS = 600.0  # how long an engine may take to end a commit whose caller died
PAUSED_LOOK = 0.5


def commit(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    snapshot_id: int,
    progress: Progress,
    shelf: Shelf | None = None,
) -> str:
    """Commit an approved snapshot; nothing happens when it is committed.

    Without `shelf` the version does not share layers with its parent: it has all since the container's image.
    Raises Conflict when it is not approved, has nothing to commit, or its image's name is taken; NoSpace;
    NotFound; EngineError. The snapshot's state is then still COMMITTING: the caller retries or fails it.
    """
    snapshot = store.snapshot(snapshot_id)
    progress("Waiting for the workspace", None)
    with lifecycle.locked(snapshot.workspace_id, LOCK_SECONDS):
        snapshot = store.snapshot(snapshot_id)
        if snapshot.state is SnapshotState.APPROVED and snapshot.version is not None:
            _begin_anew(store, engine, lifecycle, snapshot, progress)
        if snapshot.state not in DONE:
            snapshot = store.begin_commit(snapshot_id)
            image, base = _version(store, engine, lifecycle, snapshot, progress, shelf)
            size = max(0, image.size - base.size) if base else image.size
            tell_saved(store, store.finish_commit(snapshot_id, _final(snapshot), image.id, image.diff_ids, size))
        snapshot = store.snapshot(snapshot_id)
        _tidy(store, engine, snapshot)
    return _sentence(store, snapshot, shelf)


def discard(store: Store, engine: Engine, snapshot_id: int) -> None:
    """Delete the images of a snapshot that was not committed: a retry captures the container anew."""
    snapshot = store.snapshot(snapshot_id)
    _tidy(store, engine, snapshot)
    if snapshot.state in DONE or snapshot.version is None:
        return
    found = engine.image(_final(snapshot))
    if found is not None and found.config.labels.get(LABEL_SNAPSHOT) == snapshot_key(store, snapshot):
        engine.untag(_final(snapshot))


def sweep(store: Store, engine: Engine, lifecycle: Lifecycle) -> None:
    """Delete temporary images of commits that are over, such as one that an engine ended after its caller's death."""
    prefix = f"{store.instance}:"
    for image in engine.images({LABEL_INSTANCE: store.instance, LABEL_TEMPORARY: "yes"}):
        number = image.config.labels.get(LABEL_SNAPSHOT, "").removeprefix(prefix)
        try:
            snapshot = store.snapshot(int(number))
        except (ValueError, NotFound):
            continue  # not ours after all
        with suppress(Conflict), lifecycle.locked(snapshot.workspace_id, wait=0):
            snapshot = store.snapshot(snapshot.id)
            if snapshot.state not in UNDECIDED:
                _tidy(store, engine, snapshot)


def _begin_anew(store: Store, engine: Engine, lifecycle: Lifecycle, snapshot: Snapshot, progress: Progress) -> None:
    """A person has it retried: what an earlier attempt captured may be old by now."""
    _settled(engine, lifecycle.container_name(store.workspace(snapshot.workspace_id)), progress)
    discard(store, engine, snapshot.id)


def _version(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    snapshot: Snapshot,
    progress: Progress,
    shelf: Shelf | None,
) -> tuple[ImageInfo, ImageInfo | None]:
    """The final image and the base that it stands on, made unless they exist."""
    found = engine.image(_final(snapshot))
    if found is None:
        temporary = _committed(store, engine, lifecycle, snapshot, progress, shelf)
        found = _configured(store, engine, snapshot, temporary, progress, shelf)
    elif found.config.labels.get(LABEL_SNAPSHOT) != snapshot_key(store, snapshot):
        raise Conflict(
            f"The engine has another image named {_final(snapshot)}.",
            f"Give it another name (docker tag) and untag it (docker rmi {_final(snapshot)}), then retry.",
        )
    base = found.config.labels.get(BASE_DIGEST)
    return found, engine.image(base) if base else None


def _committed(
    store: Store,
    engine: Engine,
    lifecycle: Lifecycle,
    snapshot: Snapshot,
    progress: Progress,
    shelf: Shelf | None,
) -> ImageInfo:
    """The engine's own commit, under its temporary name; the one of an earlier attempt if there is one."""
    reference = temporary_reference(store, snapshot)
    workspace = store.workspace(snapshot.workspace_id)
    name = lifecycle.container_name(workspace)
    container = _settled(engine, name, progress)
    found = engine.image(reference)
    if found is not None:
        return found
    if container is None and workspace.read_only:  # deleted when it was frozen, and nobody has logged in since
        container = lifecycle.made(workspace.id)
    if container is None:
        raise Conflict(
            f"{workspace.ref} has no container, so there is nothing to commit.",
            "It is made at the first login; a reset or restored workspace has one after the next login.",
        )
    source_is, _ = source_name(store, workspace, container)
    source = _source(engine, workspace, container, source_is)
    if len(source.diff_ids) >= MAX_LAYERS:
        raise Conflict(
            too_many_layers(len(source.diff_ids) + 1),
            "Copy the files elsewhere, reset the workspace, and put them back: it then starts from the base image.",
        )
    progress("Looking at what changed", None)
    report = measure(store, engine, lifecycle, snapshot, progress, shelf)
    store.set_changes(snapshot.id, report)
    written = max(report.bytes, engine.disk_use(name))  # the engine commits all since the image
    check_room(engine.info().data_root, written, f"Committing {workspace.ref}")
    progress(f"Committing {amount(report.bytes)}", 0.1)
    labels = {
        LABEL_INSTANCE: store.instance,
        LABEL_WORKSPACE: workspace.ref,
        LABEL_SNAPSHOT: snapshot_key(store, snapshot),
        LABEL_TEMPORARY: "yes",
        LABEL_SOURCE: source.id,
        LABEL_SOURCE_NAME: source_is,
    }
    if not container.running:
        store.set_captured(snapshot.id, time.time())
        return engine.commit(name, reference, labels)
    with standing_still(store, snapshot):
        return engine.commit(name, reference, labels)


def _settled(engine: Engine, name: str, progress: Progress) -> ContainerInfo | None:
    """The container once it is not paused: a commit of an earlier attempt that the engine still does has ended."""
    deadline = time.monotonic() + PAUSED_SECONDS
    while (container := engine.container(name)) is not None and container.state == "paused":
        if time.monotonic() >= deadline:  # the engine died in the middle: nothing will wake it but us
            return engine.start(name)
        progress("Waiting for the engine to end an interrupted commit", None)
        threading.Event().wait(PAUSED_LOOK)
    return container


def _source(engine: Engine, workspace: Workspace, container: ContainerInfo, name: str) -> ImageInfo:
    """The image that the container was made from; the one of that name now when an administrator deleted it."""
    for reference in (container.image_id, name):
        source = engine.image(reference)
        if source is not None:
            return source
    raise NotFound(
        f"The image that {workspace.ref} was made from is not in the engine any more.",
        "Load or build it again under its name: workspaces image list",
    )


def _configured(
    store: Store,
    engine: Engine,
    snapshot: Snapshot,
    temporary: ImageInfo,
    progress: Progress,
    shelf: Shelf | None,
) -> ImageInfo:
    """The version's layers under the base image's configuration, as the final name."""
    inherited = temporary.config.labels
    source = engine.image(inherited[LABEL_SOURCE]) if LABEL_SOURCE in inherited else None
    if source is None:
        raise NotFound(f"The image that {snapshot.workspace} was made from is not in the engine any more.")
    parent = store.snapshot(snapshot.parent_id) if snapshot.parent_id is not None else None
    base_name = inherited.get(LABEL_SOURCE_NAME, "")
    labels = version_labels(
        snapshot,
        snapshot_key(store, snapshot),
        store.instance,
        source,
        base_name,
        f"v{parent.version}" if parent else "",
    )
    changes = store.changes(snapshot.id)
    with ExitStack() as stack:
        found = Arrangement(temporary.diff_ids)
        if shelf is not None:
            expected = changes.bytes if changes else 0
            found = stack.enter_context(arranged(shelf, temporary, source, parent, expected, progress))
        progress("Writing the version's configuration", 0.8)
        config = version_config(snapshot, source, found.diff_ids, labels, base_name)
        store.set_configuration(snapshot.id, config_bytes(config))
        if found.diff_ids == temporary.diff_ids:
            image = engine.reconfigure(temporary.id, config, _final(snapshot))
        else:
            image = engine.assemble(config, found.layers, _final(snapshot))
    if image.diff_ids != found.diff_ids:
        raise EngineError(f"The engine made {_final(snapshot)} with other layers than it was given.")
    return image


def _tidy(store: Store, engine: Engine, snapshot: Snapshot) -> None:
    """Delete what is left of the engine's own commits of this snapshot."""
    engine.untag(temporary_reference(store, snapshot))
    for image in engine.images({LABEL_SNAPSHOT: snapshot_key(store, snapshot), LABEL_TEMPORARY: "yes"}):
        if not image.refs and image.id != snapshot.image_id:
            try:
                engine.remove_image(image.id)
            except Conflict as exc:
                log.warning("temporary image %s stays: %s", image.id, exc.message)


def _final(snapshot: Snapshot) -> str:
    if snapshot.version is None:
        raise Conflict(f"Snapshot {snapshot.id} has no version.")
    return final_reference(snapshot.workspace, snapshot.version)


def _sentence(store: Store, snapshot: Snapshot, shelf: Shelf | None) -> str:
    done = f"Committed {snapshot.image_ref}, {amount(snapshot.size or 0)} more than its base."
    parent = store.snapshot(snapshot.parent_id) if snapshot.parent_id is not None else None
    if parent is not None and parent.diff_ids == snapshot.diff_ids:
        return f"{done} Nothing has changed since v{parent.version}."
    changes = store.changes(snapshot.id)
    if parent is not None and shelf is not None and changes is not None and changes.is_nothing:
        top = None
        with suppress(WorkspacesError):  # it is committed, whatever can be said of it
            top = shelf.index(snapshot.diff_ids[-1], (str(snapshot.image_id),))
        if top is not None and not top.whiteouts and all(node.kind == DIRECTORY for node in top.entries.values()):
            return f"{done} Only times or modes of directories have changed since v{parent.version}."
    return done
