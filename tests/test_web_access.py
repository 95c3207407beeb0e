"""Who may do what: every route × visitor, another participant, the owner, an administrator; and CSRF on every form.

The rows below are compared with the application's map of routes: a new route without a row fails.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.sample import public_key
from tests.support.web import CHEAP_HASH, PASSWORD, Browser, CheapHasher, Web, open_web
from workspaces import accounts
from workspaces.model import JobKind

pytestmark = pytest.mark.slow

SIGN_IN, OK, DONE, FORBIDDEN, MISSING = "sign in", 200, 302, 403, 404


@dataclass(frozen=True)
class Row:
    """What visitor, other participant, owner and administrator get; `data` is a form that would work."""

    visitor: object
    other: object
    owner: object
    admin: object
    data: dict[str, str] = field(default_factory=dict)


everyone = partial(Row, OK, OK, OK, OK)
signed_in = partial(Row, SIGN_IN, OK, OK, OK)
own = partial(Row, SIGN_IN, MISSING, DONE, MISSING)
owned = partial(Row, SIGN_IN, MISSING, OK, MISSING)
admin_sees = partial(Row, SIGN_IN, FORBIDDEN, FORBIDDEN, OK)
admin_does = partial(Row, SIGN_IN, FORBIDDEN, FORBIDDEN, DONE)
NEW_PASSWORD = {"current": PASSWORD, "new": "another long one", "again": "another long one"}
NEW_USER = {"name": "carla", "challenge": "als", "password": "another long one"}

MATRIX = {
    "GET static": everyone(),
    "GET healthz": everyone(),
    "GET start": Row(SIGN_IN, DONE, DONE, DONE),
    "GET auth.login": Row(OK, DONE, DONE, DONE),
    "POST auth.login": Row(DONE, DONE, DONE, DONE, {"name": "bob", "password": PASSWORD}),
    "POST auth.logout": Row(DONE, DONE, DONE, DONE),
    "GET me.page": signed_in(),
    "GET me.live_spaces": signed_in(),
    "GET me.workspace": owned(),
    "GET me.live_space": owned(),
    "GET me.usage_of": owned(),
    "POST me.act": own(),
    "GET me.reset": owned(),
    "POST me.reset": own({"typed": "als/alice"}),
    "GET me.sessions": signed_in(),
    "POST me.end_session": own(),
    "POST me.request_snapshot": own({"message": "first"}),
    "POST me.withdraw": own(),
    "POST me.read_news": Row(SIGN_IN, DONE, DONE, DONE),
    "GET me.download": Row(SIGN_IN, MISSING, FORBIDDEN, MISSING),  # not before the challenge allows it
    "POST me.add_key": Row(SIGN_IN, DONE, DONE, DONE, {"key": "{key}"}),
    "POST me.remove_key": own(),
    "POST me.change_password": Row(SIGN_IN, DONE, DONE, DONE, NEW_PASSWORD),
    "GET admin.queue": admin_sees(),
    "GET admin.live_queue": admin_sees(),
    "GET admin.snapshot": admin_sees(),
    "GET admin.live_snapshot": admin_sees(),
    "POST admin.approve": admin_does(),
    "POST admin.reject": admin_does({"reason": "not yet"}),
    "POST admin.inspect": admin_does(),
    "POST admin.retry": admin_does(),
    "GET admin.restore": admin_sees(),
    "POST admin.restore": admin_does(),
    "GET admin.workspaces": admin_sees(),
    "GET admin.live_workspaces": admin_sees(),
    "GET admin.workspace": admin_sees(),
    "GET admin.live_workspace": admin_sees(),
    "POST admin.act": admin_does(),
    "GET admin.reset": admin_sees(),
    "POST admin.reset": admin_does(),
    "GET admin.users": admin_sees(),
    "POST admin.add_user": admin_does(NEW_USER),
    "GET admin.user": admin_sees(),
    "POST admin.set_password": admin_does({"password": "another long one"}),
    "POST admin.set_disabled": admin_does(),
    "GET admin.jobs": admin_sees(),
    "GET admin.live_jobs": admin_sees(),
    "GET admin.job": admin_sees(),
    "GET admin.live_job": admin_sees(),
    "POST admin.retry_job": admin_does(),
    "POST admin.cancel_job": admin_does(),
    "GET admin.events": admin_sees(),
}
POSTS = [name for name in MATRIX if name.startswith("POST")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with one object of each kind in the state that each route needs, made once."""
    home = tmp_path_factory.mktemp("state")
    web = open_web(home)
    for name in ("committed", "failed", "requested"):
        web.store.add_user(name, password_hash=CHEAP_HASH, actor="test")
        web.store.add_workspace("als", name, ["alice"], actor="test")
    done = web.request("committed")
    web.store.approve_snapshot(done, actor="chief")
    web.store.begin_commit(done)
    web.store.finish_commit(done, "als/committed:v1", "sha256:1", ("sha256:2",), 10)
    failed = web.request("failed")
    web.store.approve_snapshot(failed, actor="chief")
    web.store.fail_snapshot(failed, "no space")
    web.request("requested")
    queued = web.store.add_job(JobKind.START, web.workspace_id("requested"), actor="chief")
    stopped = web.store.add_job(JobKind.STOP, web.workspace_id("bob"), actor="chief")
    web.store.cancel_job(stopped.id, actor="chief")
    assert queued.id != stopped.id
    web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.7", "p", 1_800_000_000.0)
    web.store.close()
    return home


@pytest.fixture
def web(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(accounts, "PasswordHasher", CheapHasher)
    source = sqlite3.connect(template / "workspaces.db")
    source.execute("VACUUM INTO ?", [str(tmp_path / "workspaces.db")])
    source.close()
    web = open_web(tmp_path)
    yield web
    web.store.close()


def _url(web: Web, endpoint: str) -> str:
    """An address of `endpoint` about alice's objects, or bob's account."""
    state = {
        "me.withdraw": "requested",
        "admin.restore": "committed",
        "admin.retry": "failed",
    }.get(endpoint, "requested")
    jobs = {"admin.retry_job": "cancelled", "admin.cancel_job": "queued"}
    job = next(j.id for j in web.store.jobs() if j.kind in ("start", "stop") and j.state == jobs.get(endpoint, j.state))
    values: dict[str, Any] = {
        "filename": "app.css",
        "workspace_id": web.workspace_id("alice"),
        "snapshot_id": web.store.snapshots(workspace_id=web.workspace_id(state))[0].id,
        "key_id": web.store.keys("alice")[0].id,
        "name": "bob",
        "job_id": job,
        "up_to": 10**6,
        "session_id": 1,
        "action": "disable" if endpoint == "admin.set_disabled" else "restart",
    }
    rule = next(r for r in web.app.url_map.iter_rules() if r.endpoint == endpoint)
    with web.app.test_request_context():
        return web.app.url_for(endpoint, **{k: v for k, v in values.items() if k in rule.arguments})


def _contents(web: Web) -> list[str]:
    with sqlite3.connect(web.settings.database) as db:
        return list(db.iterdump())


def _outcome(browser: Browser, method: str, url: str, data: dict[str, str], who: str) -> object:
    if method == "GET":
        response = browser.get(url)
    else:
        response = browser.post(url, {k: v.format(key=public_key(who)[1]) for k, v in data.items()})
    if response.status_code == 302 and response.location.startswith("/login") and not url.startswith("/log"):
        return SIGN_IN
    return response.status_code


@pytest.mark.parametrize("name", MATRIX)
def test_each_route_for_each_role(web: Web, name: str) -> None:
    method, endpoint = name.split()
    row = MATRIX[name]
    url = _url(web, endpoint)
    for who, expected in ((None, row.visitor), ("bob", row.other), ("alice", row.owner), ("chief", row.admin)):
        browser = web.browser(who)
        before = _contents(web)
        assert _outcome(browser, method, url, row.data, who or "nobody") == expected, who
        if expected in (SIGN_IN, FORBIDDEN, MISSING) or method == "GET":
            assert _contents(web) == before, f"{who} changed something"


def test_every_route_has_a_row(web: Web) -> None:
    routes = {
        f"{m} {r.endpoint}" for r in web.app.url_map.iter_rules() for m in (r.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == set(MATRIX)


@pytest.mark.parametrize("name", POSTS)
def test_no_form_works_without_its_token(web: Web, name: str) -> None:
    endpoint = name.split()[1]
    admin, owner = web.browser("chief"), web.browser("alice")
    other_token = web.browser("bob").token()
    before = _contents(web)
    for browser in (admin, owner):
        for token in ({}, {"csrf_token": "x"}, {"csrf_token": other_token}):
            response = browser.client.post(_url(web, endpoint), data={**MATRIX[name].data, **token})
            assert response.status_code == 400
            assert "out of date" in response.text
    assert _contents(web) == before


def test_no_route_answers_to_a_method_it_does_not_name(web: Web) -> None:
    admin = web.browser("chief")
    for name in POSTS:
        if name.replace("POST", "GET") not in MATRIX:
            url = _url(web, name.split()[1])
            assert admin.get(url).status_code == (
                200 if url.startswith(("/admin/users",)) and url.count("/") == 2 else 405
            )


def test_what_is_another_participants_is_not_told_from_what_is_not_there(web: Web) -> None:
    bob = web.browser("bob")
    theirs = web.store.snapshots(workspace_id=web.workspace_id("requested"))[0].id
    texts = []
    for snapshot_id in (theirs, 99999):
        response = bob.post(f"/me/snapshots/{snapshot_id}/withdraw")
        assert response.status_code == 404
        texts.append(re.sub(r"\d+", "", response.text))
    assert texts[0] == texts[1]


def test_ids_out_of_range_are_not_found(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    huge = 10**30
    assert alice.post(f"/me/workspaces/{huge}/snapshots", {"message": "x"}).status_code == 404
    assert alice.post(f"/me/snapshots/{huge}/withdraw").status_code == 404
    assert chief.get(f"/admin/workspaces/{huge}").status_code == 404
    assert chief.get(f"/admin/snapshots/{huge}").status_code == 404
    assert chief.post(f"/admin/jobs/{huge}/retry").status_code == 404
