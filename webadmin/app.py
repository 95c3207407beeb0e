"""The application factory: nothing is read or opened at import."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask, redirect, url_for
from flask_wtf.csrf import CSRFProtect
from werkzeug.local import LocalProxy

from webadmin import (
    access,
    account,
    admin,
    announcements,
    auth,
    confirm,
    display,
    errors,
    following,
    i18n,
    invite,
    listing,
    live,
    me,
    oidc,
    passkeys,
    session,
    tokens,
)
from webadmin.actions.sessions import Shown, by_id
from webadmin.api import metrics
from webadmin.api import routes as api
from webadmin.context import Parts, attach, store
from webadmin.navigation import navigation
from webadmin.paging import query
from webadmin.security import harden, session_key
from webadmin.serving.environ import head_as_get
from webadmin.terminal import views as _views  # noqa: F401 -- its pages are the participant's
from webadmin.trees import branches
from workspaces.model import Session
from workspaces.settings import Settings
from workspaces.store import Store

FORM_MAX = 64 << 10  # bytes of one request's body: a form with a key and a message, amply


def create_app(settings: Settings, store: Store) -> Flask:
    """The web application over `store`. Raises SettingsError when its session key cannot be used."""
    app = Flask("webadmin")
    secure = settings.web_url.startswith("https:")
    app.config.update(
        SECRET_KEY=session_key(settings.keys),
        # Cookies do not tell ports apart: two state directories on one host must not sign each other's people out.
        SESSION_COOKIE_NAME=f"{'__Host-' if secure else ''}workspaces-{store.instance[:6]}",
        SESSION_COOKIE_PATH="/",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=secure,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=session.MAX_AGE),
        MAX_CONTENT_LENGTH=FORM_MAX,
        MAX_FORM_MEMORY_SIZE=FORM_MAX,
        MAX_FORM_PARTS=100,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a page may stay open
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    attach(app, Parts(settings, store))
    csrf = CSRFProtect(app)
    csrf.exempt(api.bp)  # cookies count for nothing there
    session.install(app)
    errors.install(app)
    display.install(app)
    i18n.install(app)
    app.jinja_env.filters["branches"] = branches
    app.jinja_env.globals.update(
        # Looked up only where a template uses it: the error page must not need the store.
        account=LocalProxy(session.account),
        announced=announcements.announced,
        may=access.may,
        navigation=navigation,
        page_sizes=listing.SIZES,
        query=query,
        recorded=_recorded,
        unread=_unread,
        asset=_asset(Path(app.static_folder or "")),
        store_version=following.version,
    )
    app.before_request(live.note_time)
    app.before_request(following.note_version)
    app.after_request(harden)
    for blueprint in (
        auth.bp,
        invite.bp,
        oidc.bp,
        oidc.own,
        passkeys.bp,
        passkeys.own,
        confirm.bp,
        account.bp,
        announcements.bp,
        me.bp,
        admin.bp,
        following.bp,
        tokens.bp,
        api.bp,
    ):
        app.register_blueprint(blueprint)
    app.add_url_rule("/", "start", _start)
    metrics.install(app)
    app.wsgi_app = head_as_get(app.wsgi_app)  # type: ignore[assignment, method-assign]
    return app


def _start() -> Any:
    """Lead everybody to the page that they came for."""
    account = session.account()
    if account is None:
        return redirect(url_for("auth.login"))
    return redirect(url_for("admin.queue" if account.rights.is_staff else "me.page"))


def _recorded(found: Iterable[Session]) -> dict[int, Shown]:
    """What is recorded of some sessions, and who looked, by their ids."""
    return by_id(store(), found)


def _asset(folder: Path) -> Callable[[str], str]:
    files = (f for f in folder.rglob("*") if f.is_file())
    hashes = {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()[:12] for f in files}

    def asset(name: str) -> str:
        """Address of a static file that changes with its content, as it is cached for good."""
        # A third-party file (vendor/…) may be missing: the page that wants it says so, and works otherwise.
        return url_for("static", filename=name, v=hashes.get(name, "0") if name.startswith("vendor/") else hashes[name])

    return asset


def _unread() -> int:
    """How many news the signed-in person has not read."""
    return store().unread_news(session.me().name)
