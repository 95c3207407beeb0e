"""The same done to many workspaces: chosen one by one, or all that a search finds.

    list: boxes and an action ─► page that says which and what it means ─► done one by one ─► a result for each

What is confirmed is what is done: the page that asks names them by number, whatever the search finds by then, and not
more than MOST. One that fails, is gone by then, or is not the reader's to change, does not stop the others. The worker
does what takes time; its jobs are in the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import make_response, render_template, request

from webadmin import access
from webadmin.admin.base import actor, bp
from webadmin.context import store
from webadmin.i18n import N_, _
from workspaces import messages
from workspaces.errors import InvalidInput, WorkspacesError
from workspaces.model import JobKind, Workspace
from workspaces.queries import Listed
from workspaces.rights import Right

MOST = 1000  # workspaces at once
NUMBER = 19  # digits of one that the store can hold
SHOWN = 200  # names on the page that asks


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do; `means` says what it does to each, `job` is queued for it (none: it is done at once)."""

    label: str
    means: str
    job: JobKind | None = None
    right: Right = Right.WORKSPACES


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one workspace; `job` is what does it now."""

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
    ),
    "thaw": Action(N_("Thaw"), N_("Files can be changed again from the next login on. Versions stay."), JobKind.THAW),
    "message": Action(N_("Send a message"), N_("Whoever has a terminal open there sees it at once."), None, Right.TELL),
}


def chosen() -> tuple[list[Workspace], list[int]]:
    """Those that the form names, of what the reader may see, and the numbers of others, which may be gone.

    InvalidInput for none, or too many.
    """
    within = access.scope(Right.SEE)
    if request.form.get("all") and not request.form.get("do"):
        ids = store().select_ids(request.form.get("q", ""), Listed.WORKSPACES, within=within)
    else:
        named = [*request.form.get("ids", "").split(","), *request.form.getlist("id")][: MOST + 2]
        ids = sorted({int(text) for text in named if text.isascii() and text.isdigit() and len(text) < NUMBER})
    if len(ids) > MOST:
        raise InvalidInput(
            _("These are more than %(most)s workspaces.", most=MOST), _("Narrow the search down; nothing was done.")
        )
    wanted = set(ids)
    found = [workspace for workspace in store().workspaces(challenges=within) if workspace.id in wanted]
    if not found:
        raise InvalidInput(_("No workspace is chosen."), _("Tick some, or choose all that the search finds."))
    return found, sorted(wanted - {workspace.id for workspace in found})


def do(name: str, workspaces: list[Workspace], text: str = "") -> list[Result]:
    """Do it to each; a result for each, in their order. InvalidInput for an empty message."""
    if name == "message":
        messages.message_line(text)
    return [_one(ACTIONS[name], workspace, text) for workspace in workspaces]


def _one(action: Action, workspace: Workspace, text: str) -> Result:
    try:
        access.check(action.right, workspace.challenge)
        if action.job is None:
            [sent] = messages.send(store(), [workspace.id], text, actor=actor())
            return Result(workspace.ref, sent.said, not sent.error)
        if action.job is JobKind.THAW and not workspace.read_only:
            return Result(workspace.ref, _("is not frozen"), good=True)
        job = store().add_job(action.job, workspace.id, actor=actor())
    except WorkspacesError as error:
        return Result(workspace.ref, error.message, good=False)
    return Result(workspace.ref, _("the worker does it"), good=True, job=job.id)


@bp.post("/workspaces/bulk")
@access.require(Right.SEE)
def bulk() -> Any:
    """Say what an action would do; with `do`, do it."""
    name = request.form.get("action", "")
    if name not in ACTIONS:
        raise InvalidInput(_("There is no such action."))
    workspaces, gone = chosen()
    text = request.form.get("text", "").replace("\r\n", "\n")
    error: WorkspacesError | None = None
    results: list[Result] = []
    if request.form.get("do"):
        try:
            results = do(name, workspaces, text)
            results += [Result(f"#{number}", _("There is no such workspace any more."), good=False) for number in gone]
        except InvalidInput as problem:
            error = problem
    html = render_template(
        "admin/bulk.html",
        name=name,
        action=ACTIONS[name],
        workspaces=workspaces,
        shown=SHOWN,
        results=results,
        text=text,
        q=request.form.get("q", ""),
        error=error,
    )
    return make_response(html, error.http_status if error else 200)
