"""Every error becomes one answer here: a page, a fragment for a polling page, or JSON; never a traceback."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from webadmin import live
from webadmin.api import problems
from webadmin.i18n import N_, _
from webadmin.session import account
from workspaces.errors import WorkspacesError

log = logging.getLogger(__name__)

TITLES = {
    400: N_("That was not understood"),
    401: N_("Please sign in"),
    403: N_("Not allowed"),
    404: N_("Not found"),
    405: N_("Nothing to see here"),
    409: N_("Not possible now"),
    413: N_("Too much at once"),
    429: N_("Too many tries"),
    503: N_("Not available now"),
    504: N_("That took too long"),
    507: N_("The disk is full"),
}
MESSAGES = {
    404: (N_("There is nothing at this address, or it is not yours to see."), ""),
    405: (N_("This address only takes forms."), N_("Go to the start page and press the button there.")),
    413: (N_("What was sent is larger than this page takes."), N_("Shorten it and send it again.")),
    500: (
        N_("Something went wrong here. It has been written to the log."),
        N_("Try again; if it stays, tell an administrator."),
    ),
}


def install(app: Flask) -> None:
    app.register_error_handler(WorkspacesError, _ours)
    app.register_error_handler(CSRFError, _csrf)
    app.register_error_handler(HTTPException, _http)


def _ours(error: WorkspacesError) -> Response:
    if error.http_status >= 500:
        log.error("%s %s: %s", request.method, request.path, error)
    return answer(error.http_status, error.message, error.hint)


def _csrf(error: CSRFError) -> Response:
    if _signed_out():
        return answer(400, _("You are not signed in any more."), _("Sign in and send the form again."))
    log.warning("form refused from %s: %s", request.remote_addr, error.description)
    return answer(
        400, _("This form is out of date, so nothing was changed."), _("Go back, reload the page and send it again.")
    )


def _http(error: HTTPException) -> Response:
    """Flask's own errors; any exception that nobody foresaw is one of them, 500, which Flask has logged."""
    status = error.code or 500
    if status < 400 and error.response is not None:  # a redirect that routing asked for
        return make_response(error.get_response())
    if status in MESSAGES:
        message, hint = (said and _(said) for said in MESSAGES[status])
    else:
        message, hint = error.description or error.name, ""
    response = answer(status, message, hint)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _signed_out() -> bool:
    try:
        return account() is None
    except WorkspacesError:  # the store does not answer; that is not the person's doing
        return False


def answer(status: int, message: str, hint: str = "") -> Response:
    """The answer with `status` that says `message` and what to do (`hint`), in the form that was asked for."""
    if problems.wanted():
        known = problems.DETAILS.get(status)
        return problems.answer(status, known or message, "" if known else hint)
    title = _(TITLES.get(status, N_("Something went wrong") if status >= 500 else N_("That did not work")))
    if live.wanted():
        response = make_response(render_template("_error.html", message=message, hint=hint))
    elif request.accept_mimetypes.best == "application/json":
        response = jsonify(status=status, title=title, message=message, hint=hint)
    else:
        response = make_response(render_template("error.html", title=title, status=status, message=message, hint=hint))
    response.status_code = status
    return response
