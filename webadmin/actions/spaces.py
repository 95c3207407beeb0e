"""What administrators do with one workspace: limits, members, looks and comparisons. Pages and API share it."""

from __future__ import annotations

from collections.abc import Mapping

from webadmin.i18n import _
from workspaces.challengeforms import own_limits
from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import UNDER_WAY, Job, JobKind, OwnLimits, Report, Snapshot, Workspace
from workspaces.store import Store


def set_limits(store: Store, workspace_id: int, typed: Mapping[str, str], *, actor: str) -> tuple[Workspace, Job]:
    """What is typed as `cpus`, `memory` and `pids`, empty for what the challenge says; and the job that applies it.

    Raises InvalidInput, NotFound.
    """
    given = {name: typed.get(name, "").strip() or None for name in ("cpus", "memory", "pids")}
    return give_limits(store, workspace_id, own_limits(given), actor=actor)


def give_limits(store: Store, workspace_id: int, own: OwnLimits, *, actor: str) -> tuple[Workspace, Job]:
    """The same with values. A container that exists gets them when the job is done."""
    with store.transaction():
        workspace = store.set_workspace_limits(workspace_id, own, actor=actor)
        return workspace, store.add_job(JobKind.LIMITS, workspace_id, actor=actor)


def add_member(store: Store, workspace_id: int, name: str, *, actor: str) -> None:
    """Let somebody log in to it. Raises InvalidInput without a name, NotFound, Conflict for a member."""
    name = name.strip()
    if not name:
        raise InvalidInput(_("No name was given."), _("Type the name of an account."))
    if name in store.workspace(workspace_id).members:
        raise Conflict(_("%(name)s is a member already.", name=name))
    store.add_member(workspace_id, name, actor=actor)


def remove_member(store: Store, workspace_id: int, name: str, *, actor: str) -> None:
    """Somebody may not log in to it any more. Raises NotFound for who is no member."""
    check_member(store.workspace(workspace_id), name)
    store.remove_member(workspace_id, name, actor=actor)


def check_member(workspace: Workspace, name: str) -> None:
    """Raises NotFound."""
    if name not in workspace.members:
        raise NotFound(_("There is no such member."))


def look(store: Store, workspace_id: int, *, actor: str) -> Job:
    """Have it listed what a snapshot would capture now. Raises NotFound."""
    return _once(store, JobKind.LOOK, workspace_id, {}) or store.add_job(JobKind.LOOK, workspace_id, actor=actor)


def pair(store: Store, workspace_id: int, old: int, new: int) -> tuple[Snapshot, Snapshot]:
    """Versions `old` and `new` of a workspace, by number. Raises NotFound, InvalidInput for the same one twice."""
    if old == new:
        raise InvalidInput(_("These are the same version."), _("Choose two."))
    return store.version(workspace_id, old), store.version(workspace_id, new)


def compare(store: Store, old: Snapshot, new: Snapshot, *, actor: str) -> Job:
    """Have two versions compared. Raises NotFound."""
    told = {"old": str(old.id), "new": str(new.id)}
    return _once(store, JobKind.DIFF, new.workspace_id, told) or store.add_job(
        JobKind.DIFF, new.workspace_id, actor=actor, arguments=told
    )


def comparison(store: Store, old: Snapshot, new: Snapshot) -> tuple[Report | None, Job | None]:
    """What was found to differ, which never changes; and what compares them now, or last failed to."""
    jobs = store.jobs(workspace_id=new.workspace_id, limit=200)
    told = {"old": str(old.id), "new": str(new.id)}
    job = next((j for j in jobs if j.kind is JobKind.DIFF and dict(j.arguments) == told), None)
    return store.latest_report(JobKind.DIFF, f"{old.id}:{new.id}"), job


def _once(store: Store, kind: JobKind, workspace_id: int, told: Mapping[str, str]) -> Job | None:
    """Such a job that waits or runs already."""
    jobs = store.jobs(states=UNDER_WAY, workspace_id=workspace_id)
    return next((job for job in jobs if job.kind is kind and dict(job.arguments) == dict(told)), None)
