"""Decisions on requests, and versions put back or handed out. Pages and API share it; who may is asked before."""

from __future__ import annotations

from webadmin.i18n import _
from workspaces.errors import Conflict, InvalidInput, Refused
from workspaces.model import Job, JobKind, Role, Snapshot, SnapshotState
from workspaces.names import check_message
from workspaces.queries import Listed
from workspaces.store import Store, check_kept

RESTORABLE = (SnapshotState.COMMITTED, SnapshotState.ARCHIVED)


def kept(store: Store, workspace_id: int) -> int:
    """How many versions of a workspace can be restored."""
    return store.count_matching(f"workspace:{workspace_id} state:{','.join(RESTORABLE)} pruned:no", Listed.SNAPSHOTS)


def reason_given(text: str) -> str:
    """What a rejection says to the person. Raises InvalidInput for nothing, or what is no message."""
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise InvalidInput(
            _("A rejection needs a reason."), _("Say what should be different; the participant reads it.")
        )
    return check_message(text)


def barred(store: Store, actor: str) -> frozenset[int]:
    """Ids of the workspaces whose requests `actor` may not approve: one's own, but for administrators of the host.

    They may be alone, and can do anything; who was made a reviewer decides on what others made.
    """
    if store.user(actor).role is Role.ADMIN:
        return frozenset()
    return frozenset(workspace.id for workspace in store.workspaces_of(actor))


def approve(store: Store, snapshot_id: int, *, actor: str) -> Job:
    """Raises NotFound; Conflict for what is decided; Refused for one's own (`barred`)."""
    if store.snapshot(snapshot_id).workspace_id in barred(store, actor):
        raise Refused(_("You cannot approve a snapshot of your own workspace."), _("Others who decide can."))
    return store.approve_snapshot(snapshot_id, actor=actor)


def reject(store: Store, snapshot_id: int, reason: str, *, actor: str) -> None:
    """Raises InvalidInput without a reason, NotFound, Conflict for what is decided."""
    store.reject_snapshot(snapshot_id, reason_given(reason), actor=actor)


def inspect(store: Store, snapshot: Snapshot, *, actor: str) -> Job:
    """Have it listed again what an undecided snapshot would capture now. Raises Conflict."""
    if snapshot.state is not SnapshotState.REQUESTED:
        raise Conflict(_("This request is decided already."))
    return store.add_job(JobKind.INSPECT, snapshot.workspace_id, actor=actor, snapshot_id=snapshot.id)


def check_restorable(version: Snapshot) -> None:
    """Raises Conflict for what is no version, NotFound for one that was pruned."""
    if version.state not in RESTORABLE:
        raise Conflict(_("Only a committed version can be restored."))
    check_kept(version)


def restore(store: Store, version: Snapshot, workspace_id: int, *, discard: bool, actor: str) -> Job:
    """Have a workspace put to `version`; with `discard`, what is in it now is not kept as one."""
    check_restorable(version)
    arguments = {"discard": "yes"} if discard else {}
    return store.add_job(JobKind.RESTORE, workspace_id, actor=actor, snapshot_id=version.id, arguments=arguments)


def check_downloadable(version: Snapshot) -> None:
    """Raises Conflict for what the archive does not have, NotFound for what was pruned."""
    if version.state is not SnapshotState.ARCHIVED or version.manifest_digest is None:
        raise Conflict(_("Only an archived version can be downloaded."), _("Try again when it is archived."))
    check_kept(version)


def check_open_to_members(store: Store, version: Snapshot) -> None:
    """Raises Refused where the challenge does not hand versions out to whose they are."""
    if not store.challenge(version.workspace.partition("/")[0]).downloads:
        raise Refused(_("This challenge does not let versions be downloaded."), _("The organisers can change that."))
