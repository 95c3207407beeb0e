"""The same done to many at once: workspaces, and decisions on requests. Pages and API share it.

Each has a result: one that fails, or is not the person's to change, does not stop the others. The worker does what
takes time; its jobs are in the results. All is written as one change, as 500 by themselves would wait for the disk 500
times, for seconds; where the store itself fails, nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from webadmin.actions.versions import approve, reason_given, reject
from webadmin.i18n import N_, _
from workspaces import messages
from workspaces.errors import InvalidInput, StoreError, WorkspacesError
from workspaces.model import JobKind, Workspace
from workspaces.queries import Listed
from workspaces.rights import Right
from workspaces.store import Store

MOST = 1000  # workspaces at once
MOST_REQUESTS = 500  # decided at once

Check = Callable[[Right, str], None]  # raises NotFound, Refused where somebody may not do that in a challenge


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do; `means` says what it does to each, `job` is queued for it (none: it is done at once).

    What is `dangerous` is confirmed first on the pages.
    """

    label: str
    means: str
    job: JobKind | None = None
    right: Right = Right.WORKSPACES
    dangerous: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one; `job` is what does it now, `id` the number of the workspace or request."""

    id: int
    workspace: str
    said: str
    good: bool
    job: int | None = None


ACTIONS = {
    "start": Action(N_("Start"), N_("Containers are made where there is none, and started."), JobKind.START),
    "stop": Action(N_("Stop"), N_("Programs and sessions in them end. Files stay."), JobKind.STOP),
    "restart": Action(N_("Restart"), N_("Programs and sessions in them end. Files stay."), JobKind.RESTART),
    "freeze": Action(
        N_("Freeze"),
        N_("Sessions end, what has changed becomes a version, and files can be read, not changed, until it is thawed."),
        JobKind.FREEZE,
        dangerous=True,
    ),
    "thaw": Action(
        N_("Thaw"),
        N_("Files can be changed again from the next login on. Versions stay."),
        JobKind.THAW,
        dangerous=True,
    ),
    "message": Action(N_("Send a message"), N_("Whoever has a terminal open there sees it at once."), None, Right.TELL),
}


def chosen(
    store: Store, ids: Collection[int] = (), *, q: str | None = None, within: frozenset[str] | None
) -> list[Workspace]:
    """Those with these ids, or all that `q` finds; of the challenges `within`. InvalidInput for none, or too many.

    What a search finds is looked up now, when it is done.
    """
    wanted = set(ids if q is None else store.select_ids(q, Listed.WORKSPACES, within=within))
    if len(wanted) > MOST:
        raise InvalidInput(
            _("These are more than %(most)s workspaces.", most=MOST), _("Narrow the search down; nothing was done.")
        )
    found = store.workspaces(challenges=within, ids=wanted)
    if not found:
        raise InvalidInput(_("No workspace is chosen."), _("Tick some, or choose all that the search finds."))
    return found


def gone(ids: Collection[int], found: Iterable[Workspace]) -> list[Result]:
    """A result for each that was named and is not there any more, or not for this person to see."""
    left = sorted({*ids} - {workspace.id for workspace in found})
    return [Result(number, f"#{number}", _("There is no such workspace any more."), good=False) for number in left]


def do(
    store: Store, name: str, workspaces: Iterable[Workspace], text: str = "", *, check: Check, actor: str
) -> list[Result]:
    """Do it to each; a result for each, in their order. InvalidInput for an empty message."""
    if name == "message":
        messages.message_line(text)
    with store.transaction():
        return [_one(store, ACTIONS[name], workspace, text, check, actor) for workspace in workspaces]


def _one(store: Store, action: Action, workspace: Workspace, text: str, check: Check, actor: str) -> Result:
    number, ref = workspace.id, workspace.ref
    try:
        check(action.right, workspace.challenge)
        if action.job is None:
            [sent] = messages.send(store, [number], text, actor=actor)
            return Result(number, ref, sent.said, not sent.error)
        if action.job is JobKind.THAW and not workspace.read_only:
            return Result(number, ref, _("is not frozen"), good=True)
        job = store.add_job(action.job, number, actor=actor)
    except StoreError:
        raise
    except WorkspacesError as error:
        return Result(number, ref, error.message, good=False)
    return Result(number, ref, _("the worker does it"), good=True, job=job.id)


def decide(
    store: Store, action: str, ids: Collection[int], reason: str = "", *, check: Check, actor: str
) -> list[Result]:
    """Approve or reject each of these requests; a result for each, in the order of their numbers.

    InvalidInput, before anything is done, for none of them, too many, another action, or a rejection without a reason.
    """
    if action not in ("approve", "reject"):
        raise InvalidInput(_("There is no such action."))
    if not ids:
        raise InvalidInput(_("No request is chosen."), _("Tick some of them."))
    if len(ids) > MOST_REQUESTS:
        raise InvalidInput(_("These are more than %(most)s requests.", most=MOST_REQUESTS),
                           _("Decide on fewer at once."))  # fmt: skip
    reason = reason_given(reason) if action == "reject" else ""
    with store.transaction():
        return [_decided(store, action, number, reason, check, actor) for number in sorted(set(ids))]


def _decided(store: Store, action: str, number: int, reason: str, check: Check, actor: str) -> Result:
    name = f"#{number}"
    try:
        check(Right.DECIDE, store.challenge_of("snapshot", number) or "")
        name = f"{store.snapshot(number).workspace} #{number}"
        if action == "approve":
            job = approve(store, number, actor=actor)
            return Result(number, name, _("approved; the worker commits it"), good=True, job=job.id)
        reject(store, number, reason, actor=actor)
        return Result(number, name, _("rejected"), good=True)
    except StoreError:
        raise
    except WorkspacesError as error:
        return Result(number, name, error.message, good=False)
