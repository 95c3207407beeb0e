"""Who may do what: every route × every role × what is somebody's; and CSRF on every form.

The rows of tests/support/matrix.py are compared with the application's map of routes: a new route without a row fails.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.support.authenticator import plant
from tests.support.chromium import served
from tests.support.matrix import DONE, FORBIDDEN, MATRIX, MISSING, SIGN_IN, SOCKETS, TOPICS, WHO, Row
from tests.support.sample import public_key
from tests.support.web import CHEAP_HASH, Browser, Web, open_web
from webadmin.api.operations import OPERATIONS
from workspaces import apitokens, recovery
from workspaces.model import FreezeMode, JobKind, Role
from workspaces.store import topics

pytestmark = pytest.mark.slow

POSTS = [name for name in MATRIX if name.startswith("POST")]
TOKEN = "token-of-an-invitation"
# What changes something for whoever asks, signed in or not.
ANYWHERE = {
    *("POST auth.login", "POST auth.logout", "POST auth.second", "POST invite.accept"),
    *("POST passkeys.sign_in_options", "POST passkeys.sign_in"),
    *("POST passkeys.second_options", "POST passkeys.second"),
}
LISTS = ("admin.queue", "admin.workspaces", "admin.jobs")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with one object of each kind in the state that each route needs, made once."""
    home = tmp_path_factory.mktemp("state")
    web = open_web(home)
    web.store.add_challenge("bci", "base:1", actor="test")
    for name, challenge, role in (
        ("rita", "als", Role.REVIEWER),
        ("otto", "bci", Role.ADMIN),
        ("ada", "als", Role.ADMIN),
    ):
        web.store.add_user(name, password_hash=CHEAP_HASH, actor="test")
        web.store.set_challenge_role(name, challenge, role, actor="test")
    web.store.add_user("hugo", Role.REVIEWER, CHEAP_HASH, actor="test")
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
    web.store.begin_sign_in("alice", "digest", via="password", address="192.0.2.1", browser="laptop")
    web.store.link_identity("alice", "https://id.example", "alice", "alice@id.example", actor="test")
    web.store.invite("bob", recovery.digest(TOKEN), time.time() + 3600, actor="test")
    apitokens.make(web.store, "alice", "program", ["read"], 1, actor="test")
    queued = web.store.add_job(JobKind.START, web.workspace_id("requested"), actor="chief")
    stopped = web.store.add_job(JobKind.STOP, web.workspace_id("bob"), actor="chief")
    web.store.cancel_job(stopped.id, actor="chief")
    assert queued.id != stopped.id
    number = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    web.store.begin_recording(number, "a.cast", 1.0)
    web.store.add_announcement("text", challenge="als", actor="chief")
    web.store.begin_freeze("als", FreezeMode.COMMIT, actor="chief")
    web.store.thaw("als", actor="chief")
    web.store.close()
    return home


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Iterator[Callable[[], Web]]:
    """Gives an application over a copy of that directory, another one each time."""
    with ExitStack() as stack:

        def make() -> Web:
            home = tmp_path / str(len(list(tmp_path.iterdir())))
            home.mkdir()
            with closing(sqlite3.connect(template / "workspaces.db")) as source:
                source.execute("VACUUM INTO ?", [str(home / "workspaces.db")])
            web = open_web(home)
            stack.callback(web.store.close)
            return web

        yield make


@pytest.fixture
def web(fresh: Callable[[], Web]) -> Web:
    return fresh()


def _url(web: Web, endpoint: str, row: Row) -> str:
    """An address of `endpoint` about alice's objects, or bob's account."""
    job = next(j.id for j in web.store.jobs() if j.kind in ("start", "stop") and j.state == row.job)
    rule = next(r for r in web.app.url_map.iter_rules() if r.endpoint == endpoint)
    # Made late: with a passkey, a password alone signs alice in no more.
    if "passkey_id" in rule.arguments and not web.store.passkeys("alice"):
        plant(web.store, "alice")
    values: dict[str, Any] = {
        "filename": "app.css",
        "workspace_id": web.workspace_id("alice"),
        "snapshot_id": web.store.snapshots(workspace_id=web.workspace_id(row.state))[0].id,
        "key_id": web.store.keys("alice")[0].id,
        "name": "alice" if endpoint == "admin.unlink" else "bob",
        "slug": "als",
        "member": "alice",
        "kind": "verify",
        "freeze_id": web.store.freezes("als")[0].id,
        "job_id": job,
        "sign_in_id": next(one.id for one in web.store.sign_ins("alice") if one.browser == "laptop"),
        "passkey_id": next((one.id for one in web.store.passkeys("alice")), 0),
        "identity_id": web.store.identities("alice")[0].id,
        "token": TOKEN,
        "token_id": web.store.tokens("alice")[0].id,
        "up_to": 10**6,
        "session_id": web.store.sessions()[0].id,
        "announcement_id": 1,
        "action": {"admin.set_disabled": "disable", "admin.look": "watch", "admin.screen": "watch"}.get(
            endpoint, "restart"
        ),
    }
    with web.app.test_request_context():
        return web.app.url_for(endpoint, **{k: v for k, v in values.items() if k in rule.arguments})


def _contents(web: Web) -> bytes:
    """The database as one file; most requests write nothing at all, and it stays the same to the byte."""
    with closing(sqlite3.connect(web.settings.database)) as db:
        return db.serialize()


def _rows(contents: bytes) -> list[str]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(contents[:18] + b"\1\1" + contents[20:])  # not WAL, which memory does not have
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
def test_each_route_for_each_role(fresh: Callable[[], Web], name: str) -> None:
    method, endpoint = name.split()
    row = MATRIX[name]
    web = fresh()
    # Who changes something gets a host of his own, as the first would leave nothing to do for the second.
    for who, expected in sorted(row.outcomes().items(), key=lambda pair: pair[1] == DONE):
        # With a passkey, which its routes make, a password alone signs nobody in any more.
        if (expected == DONE and method == "POST") or "own_passkeys" in name:
            web = fresh()
        browser = web.browser(who)
        url, before = _url(web, endpoint, row), _contents(web)
        assert _outcome(browser, method, url, row.data, who or "nobody") == expected, who
        if expected in (SIGN_IN, FORBIDDEN, MISSING) or method == "GET":
            after = _contents(web)
            assert after == before or _rows(after) == _rows(before), f"{who} changed something"


def test_each_websocket_for_each_role(web: Web) -> None:
    """And what is handed over otherwise is none, for whoever may open it."""
    assert set(SOCKETS) == {name.split()[1] for name, row in MATRIX.items() if 426 in row.outcomes().values()}
    browsers = {who: web.browser(who) for who in WHO}

    def opened(who: str | None, endpoint: str) -> int:
        path = _url(web, endpoint, MATRIX[f"GET {endpoint}"])
        found = browsers[who].client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
        headers = {"Cookie": f"{found.key}={found.value}"} if found else {}
        try:
            with connect(url.replace("http", "ws") + path, origin=Origin(url), additional_headers=headers):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    with served(web.app) as url:
        for endpoint, row in SOCKETS.items():
            assert {who: opened(who, endpoint) for who in WHO} == row.outcomes()
        assert 101 not in {opened("chief", other) for other in ("following.live", "admin.stream_session", "me.page")}


def test_each_topic_for_each_role(web: Web) -> None:
    assert {name.partition(":")[0] for name in TOPICS} == set(topics.TOPICS)
    ids = {
        "workspace_id": web.workspace_id("alice"),
        "job_id": web.store.add_job(JobKind.LOOK, web.workspace_id("alice"), actor="test").id,
        "host_job_id": web.store.add_job(JobKind.USAGE, actor="test").id,
    }
    browsers = {who: web.browser(who) for who in WHO}
    for name, row in TOPICS.items():
        url = f"/live?topic=me&topic={name.format(**ids)}"
        found = {who: _outcome(browser, "GET", url, {}, "") for who, browser in browsers.items()}
        assert found == row.outcomes(), name


def test_staff_change_nothing_from_elsewhere(web: Web) -> None:
    """With a copied cookie say: it may look and sign out, and opens no terminal."""
    web.store.set_role("alice", Role.ADMIN, actor="chief")
    alice = web.browser("alice", REMOTE_ADDR="192.0.2.1")
    alice.environ = {"REMOTE_ADDR": "192.0.2.99"}
    token = alice.token()
    changing = {
        f"{method} {rule.endpoint}"
        for rule in web.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        if not rule.endpoint.startswith("api.")  # cookies count for nothing there
    }
    assert changing > ANYWHERE
    for name in sorted((changing | {f"GET {endpoint}" for endpoint in SOCKETS}) - ANYWHERE):
        method, endpoint = name.split()
        row = MATRIX[name]
        url = _url(web, endpoint, row)
        before = _contents(web)
        data = {"csrf_token": token, **{k: v.format(key=public_key("alice")[1]) for k, v in row.data.items()}}
        answer = alice.client.open(url, method=method, data=data, environ_base=alice.environ)
        assert (answer.status_code, (answer.location or "")[:6]) == (302, "/login"), name
        assert _contents(web) == before, name
        token = alice.token()
    assert alice.get("/me").status_code == 200
    bob = web.browser("bob", REMOTE_ADDR="192.0.2.1")
    bob.environ = {"REMOTE_ADDR": "192.0.2.99"}  # a participant with his laptop in a train
    assert bob.post("/account/sign-ins/end").location == "/account#sign-ins"


def test_a_reviewer_of_the_whole_host_is_one_in_each_challenge(fresh: Callable[[], Web]) -> None:
    web = fresh()
    hugo = web.browser("hugo")
    for name, row in MATRIX.items():
        method, endpoint = name.split()
        if not endpoint.startswith("admin."):
            continue
        expected = row.outcomes()["rita"]
        if method == "POST" and expected == DONE:
            web = fresh()
            hugo = web.browser("hugo")
        assert _outcome(hugo, method, _url(web, endpoint, row), row.data, "hugo") == expected, name


def test_lists_hold_nothing_of_other_challenges(web: Web) -> None:
    for endpoint in LISTS:
        url = _url(web, endpoint, MATRIX[f"GET {endpoint}"])
        assert ">als/" in web.browser("ada").get(url).text
        assert ">als/" not in web.browser("otto").get(url).text
    badge = 'title="requests that wait"'
    assert badge in web.browser("rita").get("/admin/jobs").text
    assert badge not in web.browser("otto").get("/admin/jobs").text


def test_what_a_role_does_not_allow_is_not_offered(web: Web) -> None:
    pages = {name: web.browser(name) for name in ("rita", "ada", "chief")}
    workspace, committed = web.workspace_id("committed"), _url(web, "admin.restore", MATRIX["GET admin.restore"])
    for path, text in (
        (f"/admin/workspaces/{workspace}", "Reset…"),
        (f"/admin/workspaces/{workspace}", "Remove…"),
        (f"/admin/workspaces/{workspace}", "Set these limits"),
        (f"/admin/workspaces/{workspace}/versions", "Restore…"),
        ("/admin/challenges/als", "Freeze…"),
        (committed.removesuffix("/restore"), "Restore this version…"),
        ("/admin/workspaces", ">Start<"),
        ("/admin/jobs", ">Cancel<"),
    ):
        assert [text in pages[name].get(path).text for name in pages] == [False, True, True], text
    for address in ("/admin/users", "/admin/events"):
        assert [f'href="{address}"' in pages[name].get("/admin/jobs").text for name in pages] == [False, False, True]


def test_an_argument_that_nobody_has_explained_stays_closed(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    view = web.app.view_functions["admin.user"]
    monkeypatch.setitem(view.__dict__, "right", "see")  # by mistake
    assert web.browser("ada").get("/admin/users/bob").status_code == FORBIDDEN
    monkeypatch.delitem(view.__dict__, "right")  # and a view that names none is for administrators of the host
    assert web.browser("ada").get("/admin/users/bob").status_code == FORBIDDEN
    assert web.browser("chief").get("/admin/users/bob").status_code == 200


def test_a_role_that_is_taken_away_is_gone_at_once(web: Web) -> None:
    rita = web.browser("rita")
    assert rita.get("/").location == "/admin/"
    web.store.set_challenge_role("rita", "als", Role.PARTICIPANT, actor="chief")
    assert rita.get("/admin/").status_code == FORBIDDEN
    assert rita.get("/").location == "/me"


def test_every_route_has_a_row(web: Web) -> None:
    routes = {
        f"{m} {r.endpoint}" for r in web.app.url_map.iter_rules() for m in (r.methods or set()) - {"HEAD", "OPTIONS"}
    }
    of_api = {f"{one.method} api.{one.name}" for one in OPERATIONS}  # test_api_access.py
    assert routes - of_api == set(MATRIX)


@pytest.mark.parametrize("name", POSTS)
def test_no_form_works_without_its_token(web: Web, name: str) -> None:
    endpoint = name.split()[1]
    admin, owner = web.browser("chief"), web.browser("alice")
    other_token = web.browser("bob").token()
    url, before = _url(web, endpoint, MATRIX[name]), _contents(web)
    for browser in (admin, owner):
        for token in ({}, {"csrf_token": "x"}, {"csrf_token": other_token}):
            response = browser.client.post(url, data={**MATRIX[name].data, **token})
            assert response.status_code == 400
            assert "out of date" in response.text
    assert _contents(web) == before


def test_no_route_answers_to_a_method_it_does_not_name(web: Web) -> None:
    admin, routes = web.browser("chief"), web.app.url_map.bind("localhost")
    for name in POSTS:
        url = _url(web, name.split()[1], MATRIX[name])
        if not routes.test(url, "GET"):
            assert admin.get(url).status_code == 405, name


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
