"""The page of the terminal, and where its websocket begins. Both are for members of the workspace."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import Any

from flask import current_app, make_response, render_template, request

from webadmin import access, session
from webadmin.context import parts, ssh_line, store
from webadmin.me import bp
from webadmin.security import POLICY
from webadmin.serving import handover
from webadmin.terminal.door import Door
from webadmin.terminal.relay import talk

SCRIPTS = ("vendor/xterm.js", "vendor/xterm-fit.js", "vendor/xterm.css")


@bp.get("/workspaces/<int:workspace_id>/terminal")
def terminal(workspace_id: int) -> Any:
    """The terminal, for as long as the page is open."""
    workspace = access.own_workspace(workspace_id)
    if answer := access.moved():
        return answer  # it could not be opened
    # xterm.js writes style elements for colours and sizes. They are let in by a word of this answer, on this page only.
    nonce = secrets.token_urlsafe(18)
    static = Path(current_app.static_folder or "")
    response = make_response(
        render_template(
            "me/terminal.html",
            workspace=workspace,
            ssh=ssh_line(session.me().name, workspace.ref),
            nonce=nonce,
            is_installed=all((static / name).is_file() for name in SCRIPTS),
        )
    )
    response.headers["Content-Security-Policy"] = POLICY.replace(
        "style-src 'self'", f"style-src 'self' 'nonce-{nonce}'"
    )
    return response


@bp.get("/workspaces/<int:workspace_id>/terminal/socket")
def terminal_socket(workspace_id: int) -> Any:
    """The terminal's bytes. Whoever may type there may change something."""
    workspace = access.own_workspace(workspace_id)
    if answer := access.moved():
        return answer
    account = session.me()
    door = Door(parts().settings, store(), account.name, workspace.ref, request.remote_addr or "?")
    touch = partial(store().touch_sign_in, account.sign_in.id)
    return handover.socket(partial(talk, parts().terminals, parts().watching, door, touch))
