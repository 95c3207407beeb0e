"""The participant's one page: own workspaces and their versions, keys and password."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for

from webadmin import access, auth, downloads, session
from webadmin.context import ssh_line, store
from webadmin.i18n import _
from webadmin.live import fragment
from workspaces import accounts
from workspaces.commands import named_command
from workspaces.errors import Conflict, InvalidInput, NotFound, Refused, WorkspacesError
from workspaces.model import (
    Challenge,
    ChangeReport,
    Job,
    JobState,
    NewsItem,
    Session,
    Snapshot,
    SnapshotState,
    Workspace,
)
from workspaces.snapshots.tree import Row, fold
from workspaces.store import check_kept

bp = Blueprint("me", __name__, url_prefix="/me")
bp.before_request(access.require_login)

OPEN = (SnapshotState.REQUESTED, SnapshotState.APPROVED, SnapshotState.COMMITTING)
SHOWN = 50  # requests listed for one workspace
ON_NOW = 12  # sessions
NEWS = 8
ROWS, EACH, OPEN_FIRST = 200, 20, 6  # of the tree of changes, of one directory in it, directories open at first


@dataclass(frozen=True, slots=True)
class Space:
    """One workspace as its member sees it: `open` is the request under way, `jobs` what is being done to it.

    `sessions` are the latest of those that are open in it, everybody's.
    """

    workspace: Workspace
    challenge: Challenge
    ssh: str
    snapshots: list[Snapshot]
    open: Snapshot | None
    report: ChangeReport | None
    jobs: list[Job]
    sessions: list[Session]

    @property
    def tree(self) -> Row | None:
        """What the request under way would capture."""
        return fold(self.report, rows=ROWS, each=EACH, first=OPEN_FIRST) if self.report else None


def _spaces() -> list[Space]:
    name = session.me().name
    mine = store().workspaces_of(name)
    return [_space(w, ssh_line(name, w.ref if len(mine) > 1 else None)) for w in mine]


def _space(workspace: Workspace, ssh: str) -> Space:
    snapshots = store().snapshots(workspace_id=workspace.id, limit=SHOWN)
    under_way = next((s for s in snapshots if s.state in OPEN and s.requested_via != "auto"), None)
    return Space(
        workspace,
        store().challenge(workspace.challenge),
        ssh,
        snapshots,
        under_way,
        store().changes(under_way.id) if under_way else None,
        store().jobs(states=(JobState.QUEUED, JobState.RUNNING), workspace_id=workspace.id, limit=10),
        store().sessions(workspace.id, limit=ON_NOW),
    )


def _news() -> list[NewsItem]:
    return store().news(session.me().name, limit=NEWS)


def _page(form: str = "", error: WorkspacesError | None = None) -> Any:
    """The page; with `error`, what was typed stays in the form of that name and the error is said there."""
    html = render_template(
        "me/page.html",
        spaces=_spaces(),
        news=_news(),
        keys=store().keys(session.me().name),
        form=form,
        error=error,
        typed=request.form,
    )
    return make_response(html, error.http_status if error else 200)


@bp.get("")
def page() -> Any:
    return _page()


@bp.get("/live")
def live_spaces() -> Any:
    def render() -> str:
        return render_template("me/_spaces.html", spaces=_spaces(), news=_news(), form="", error=None, typed={})

    return fragment(render)


@bp.post("/news/<int:up_to>/read")
def read_news(up_to: int) -> Any:
    """All that was on the page when the button was made; what came since stays unread."""
    store().read_news(session.me().name, up_to)
    return redirect(url_for(".page"))


@bp.post("/workspaces/<int:workspace_id>/snapshots")
def request_snapshot(workspace_id: int) -> Any:
    workspace = access.own_workspace(workspace_id)
    message = request.form.get("message", "").replace("\r\n", "\n")
    try:
        command = named_command(None, request.form.get("cmd", "").replace("\r\n", "\n"))
        asked = store().request_snapshot(workspace.id, message, actor=session.me().name, via="web", command=command)
    except (InvalidInput, Conflict) as error:
        return _page(f"snapshot-{workspace.id}", error)
    if asked.state is SnapshotState.APPROVED:
        flash(_("Your request is approved by the challenge's own rule, and the snapshot is taken now."))
    else:
        flash(_("Your request is in the queue. An administrator decides on it."))
    return redirect(url_for(".page"))


@bp.post("/snapshots/<int:snapshot_id>/withdraw")
def withdraw(snapshot_id: int) -> Any:
    snapshot = access.own_snapshot(snapshot_id)
    store().withdraw_snapshot(snapshot.id, actor=session.me().name)
    flash(_("The request is withdrawn."))
    return redirect(url_for(".page"))


@bp.get("/snapshots/<int:snapshot_id>/download")
def download(snapshot_id: int) -> Any:
    """A version of one's own as a tar for `docker load`, from the archive."""
    snapshot = access.own_snapshot(snapshot_id)
    if not store().challenge(snapshot.workspace.partition("/")[0]).downloads:
        raise Refused(_("This challenge does not let versions be downloaded."), _("The organisers can change that."))
    if snapshot.state is not SnapshotState.ARCHIVED or snapshot.manifest_digest is None:
        raise Conflict(_("Only an archived version can be downloaded."), _("Try again when it is archived."))
    check_kept(snapshot)
    return downloads.answer(session.me().name, snapshot)


@bp.post("/keys")
def add_key() -> Any:
    name = session.me().name
    try:
        store().add_key(name, *accounts.parse_key_line(request.form.get("key", "").strip()), actor=name)
    except (InvalidInput, Conflict) as error:
        return _page("key", error)
    flash(_("The key is added. It works from now on."))
    return redirect(url_for(".page", _anchor="keys"))


@bp.post("/keys/<int:key_id>/remove")
def remove_key(key_id: int) -> Any:
    name = session.me().name
    key = next((k for k in store().keys(name) if k.id == key_id), None)
    if key is None:
        raise NotFound(_("You have no such key."))
    store().remove_key(name, key.fingerprint, actor=name)
    flash(_("The key is removed. Sessions that it opened go on; new ones need another."))
    return redirect(url_for(".page", _anchor="keys"))


@bp.post("/password")
def change_password() -> Any:
    user = session.me().user
    new = request.form.get("new", "")
    try:
        if new != request.form.get("again", ""):
            raise InvalidInput(_("The two new passwords differ."))
        hashed = accounts.hash_password(new)
        if auth.verify(user.name, request.form.get("current", "")) is None:
            raise Refused(_("The current password is wrong."))
    except (InvalidInput, Refused) as error:
        return _page("password", error)
    store().set_password_hash(user.name, hashed, actor=user.name)
    session.begin(store().user(user.name))
    flash(_("Your password is changed. You are signed out everywhere else."))
    return redirect(url_for(".page", _anchor="password"))
