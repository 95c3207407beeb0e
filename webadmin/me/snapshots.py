"""Asking for a snapshot, taking that back, and having a version."""

from __future__ import annotations

from typing import Any

from flask import flash, request

from webadmin import access, downloads, session
from webadmin.actions import versions as actions
from webadmin.context import store
from webadmin.i18n import _
from webadmin.me.base import bp, home, space
from webadmin.me.page import show
from workspaces.commands import named_command
from workspaces.errors import Conflict, InvalidInput
from workspaces.model import SnapshotState


@bp.post("/workspaces/<int:workspace_id>/snapshots")
def request_snapshot(workspace_id: int) -> Any:
    found = space(workspace_id)
    number = found.workspace.id
    message = request.form.get("message", "").replace("\r\n", "\n")
    try:
        command = named_command(None, request.form.get("cmd", "").replace("\r\n", "\n"))
        asked = store().request_snapshot(number, message, actor=session.me().name, via="web", command=command)
    except (InvalidInput, Conflict) as error:
        return show(found, f"snapshot-{number}", error)
    if asked.state is SnapshotState.APPROVED:
        flash(_("Your request is approved by the challenge's own rule, and the snapshot is taken now."))
    else:
        flash(_("Your request is in the queue. An administrator decides on it."))
    return home(number)


@bp.post("/snapshots/<int:snapshot_id>/withdraw")
def withdraw(snapshot_id: int) -> Any:
    snapshot = access.own_snapshot(snapshot_id)
    store().withdraw_snapshot(snapshot.id, actor=session.me().name)
    flash(_("The request is withdrawn."))
    return home(snapshot.workspace_id)


@bp.get("/snapshots/<int:snapshot_id>/download")
def download(snapshot_id: int) -> Any:
    """A version of one's own as a tar for `docker load`, from the archive."""
    snapshot = access.own_snapshot(snapshot_id)
    actions.check_open_to_members(store(), snapshot)
    actions.check_downloadable(snapshot)
    return downloads.answer(session.me().name, snapshot)
