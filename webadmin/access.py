"""Who may pass: guards that whole blueprints carry, so that a new route is closed until it says otherwise.

    bp.before_request(access.guard)         in the blueprint: only administrators of the host pass …
    @bp.get("/snapshots/<int:snapshot_id>")
    @access.require(Right.DECIDE)           … unless the view names the right that it takes

Where the address names a thing of a challenge (THINGS), the right must hold in that challenge, and what is of a
challenge that one may not even see is not told from what is not there. What a form names, a view checks with `check`;
what a list holds, it asks the store for with `scope`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import current_app, flash, redirect, request, url_for

from webadmin import errors, live, session
from webadmin.context import parts, store
from webadmin.i18n import _
from webadmin.security import came_from
from workspaces.errors import NotFound, Refused
from workspaces.model import Snapshot, Workspace
from workspaces.rights import Right

View = TypeVar("View", bound=Callable[..., Any])

# Arguments of addresses that name a thing of a challenge, and to which challenge it belongs.
THINGS: dict[str, Callable[[Any], str | None]] = {
    "workspace_id": lambda number: store().challenge_of("workspace", number),
    "snapshot_id": lambda number: store().challenge_of("snapshot", number),
    "job_id": lambda number: store().challenge_of("job", number),
    "session_id": lambda number: store().challenge_of("session", number),
    "freeze_id": lambda number: store().challenge_of("freeze", number),
    "slug": lambda slug: str(slug),
}
WORDS = frozenset({"action", "kind", "member"})  # those that name nothing which has to be looked up
LOOKING = ("GET", "HEAD")  # the methods of what changes nothing


def require_account() -> Any:
    """Let the signed-in pass; lead others to the sign-in page, and back from there.

    To change something, staff must be where they signed in.
    """
    if session.account() is None:
        return _sign_in(_("Please sign in."))
    return None if request.method in LOOKING else moved()


def require_login() -> Any:
    """The same, for who has the second factor that this host asks for; else it is set up first."""
    return require_account() or _second_factor()


def step_up(view: View) -> View:
    """For a view that does something dangerous: who has not proven lately who he is does so first.

    On the page that says what will be lost as well, so that nothing is typed twice.
    """

    @wraps(view)
    def proven(*args: Any, **values: Any) -> Any:
        return unproven() or view(*args, **values)

    proven.__dict__["step_up"] = True
    return cast(View, proven)


def unproven() -> Any:
    """The answer for who has not proven lately who he is; None for who has."""
    return moved() or (None if session.me().is_proven else _confirm())


def moved() -> Any:
    """The answer for staff whose cookie shows up elsewhere; else None.

    It proves nothing there, however young it is: a password alone would confirm it, where signing in may take more.
    """
    if not session.me().rights.is_staff or session.is_fresh():
        return None
    return _sign_in(_("Your address or browser has changed. Please sign in again; nothing was done yet."))


def lacks_factor(account: session.Account) -> bool:
    """Whether this host asks the person for a second factor that he does not have. A provider looks after its own."""
    who = parts().settings.access.second_factor
    if who == "none" or (who == "staff" and not account.rights.is_staff) or account.sign_in.via == "oidc":
        return False
    return not store().has_second_factor(account.name)


def require(right: Right) -> Callable[[View], View]:
    """Open a view to all who have `right`: in the challenge of what the address names, or else anywhere."""

    def mark(view: View) -> View:
        view.__dict__["right"] = right
        return view

    return mark


def guard() -> Any:
    """Let those pass who have the right that the view names; without one, administrators of the host.

    To change something, the session must be where it was signed in.
    """
    account = session.account()
    if account is None:
        return _sign_in(_("Please sign in."))
    if not account.is_admin:
        if not account.rights.is_staff:
            raise Refused(_("Only administrators may do that."))
        right: Right | None = getattr(current_app.view_functions.get(request.endpoint or ""), "right", None)
        if right is None:
            raise Refused(_("Only administrators of this host may do that."))
        check(right, _challenge())
    if answer := _second_factor():
        return answer
    return None if request.method in LOOKING else moved()


def may(right: Right | str, challenge: str | None = None) -> bool:
    """Whether who is signed in has `right` in that challenge, or without one anywhere; for templates too."""
    account = session.account()
    return account is not None and account.rights.may(Right(right), challenge)


def scope(right: Right) -> frozenset[str] | None:
    """The challenges in which who is signed in has `right`; None for all: what lists are asked for with."""
    return session.me().rights.scope(right)


def check(right: Right, challenge: str | None = None) -> None:
    """Raise NotFound for a challenge that one may not even see, Refused for one where `right` does not hold."""
    if may(right, challenge):
        return
    if challenge is not None and not may(Right.SEE, challenge):
        raise NotFound("There is nothing at this address, or it is not yours to see.")
    raise Refused("Your role does not allow that.", "An administrator of this host can give you another.")


def _challenge() -> str | None:
    """That of what the address names; None when it names nothing of one. NotFound, Refused for what nobody knows."""
    found: set[str] = set()
    for name, value in (request.view_args or {}).items():
        if name in THINGS:
            slug = THINGS[name](value)
            if slug is None:
                raise NotFound("There is nothing at this address, or it is not yours to see.")
            found.add(slug)
        elif name not in WORDS:  # closed, until somebody says what it is
            raise Refused("Only administrators of this host may do that.")
    if len(found) > 1:
        raise NotFound("There is nothing at this address, or it is not yours to see.")
    return next(iter(found), None)


def _sign_in(why: str) -> Any:
    if live.wanted():
        return errors.answer(401, _("You are not signed in any more."), _("Reload the page to sign in."))
    flash(why)
    back = request.script_root + request.full_path.rstrip("?") if request.method == "GET" else came_from()
    return redirect(url_for("auth.login", next=back))


def _confirm() -> Any:
    if live.wanted():
        return errors.answer(403, _("Please confirm that it is you."), _("Reload the page."))
    if request.method == "GET":
        back: str | None = request.script_root + request.full_path.rstrip("?")
    else:
        flash(_("Nothing was done yet."))
        back = came_from()
    return redirect(url_for("confirm.page", next=back))


def _second_factor() -> Any:
    account = session.me()
    if not lacks_factor(account):
        return None
    if live.wanted():
        return errors.answer(403, _("Your account needs a second factor."), _("Reload the page."))
    flash(_("This host asks you for a second factor beside the password. Set one up to go on."))
    return redirect(url_for("account.page", _anchor="codes"))


def own_workspace(workspace_id: int) -> Workspace:
    """The workspace if the signed-in user is a member of it. NotFound alike when it is another's or nobody's."""
    return own_among(store().workspaces_of(session.me().name), workspace_id)


def own_among(mine: Iterable[Workspace], workspace_id: int) -> Workspace:
    """That of `mine`, all that the signed-in user is a member of. NotFound for another."""
    for workspace in mine:
        if workspace.id == workspace_id:
            return workspace
    raise NotFound(_("You have no such workspace."))


def own_snapshot(snapshot_id: int) -> Snapshot:
    """The snapshot if it is of a workspace of the signed-in user. NotFound alike when it is another's or nobody's."""
    try:
        snapshot = store().snapshot(snapshot_id)
        own_workspace(snapshot.workspace_id)
    except NotFound:
        raise NotFound(_("You have no such snapshot.")) from None
    return snapshot
