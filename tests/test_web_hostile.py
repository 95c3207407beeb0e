"""What strangers may type and send: names, messages and paths that try to be markup; errors; the policy of headers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.support.sample import SETUID, report
from tests.support.web import Web, open_web, web_fixture  # noqa: F401
from workspaces.errors import StoreBusy
from workspaces.model import Finding, JobKind, PackageChange, WorkspaceState
from workspaces.store import Store

pytestmark = pytest.mark.slow

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 12345*6789 }} {% raw %} ${12345*6789}",
    "\u202egnp.exe \u2066RTL\u2069 שלום",
    "x" * 1000,
    "&lt;b&gt; &amp; </textarea></title>",
]


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_text_is_only_text(web: Web, message: str) -> None:
    request = web.request("alice", message)
    path = f"/root/{message[:200]}"
    entry = replace(SETUID, path=path)
    hostile = report(0, [("added", path, 1)], warnings=(message[:400],), since="<b>base</b>")
    web.store.set_changes(
        request,
        replace(
            hostile,
            entries=(*hostile.entries, entry),
            not_captured=(message[:100],),
            secrets=(Finding(path, message),),
            packages=(PackageChange("dpkg", message, None, message), PackageChange("pip", "x", message, None)),
        ),
    )
    other = web.request("bob")
    web.store.reject_snapshot(other, message, actor="chief")
    web.store.set_workspace_state(web.workspace_id("bob"), WorkspaceState.FAILED, message)
    other_space = web.workspace_id("bob")
    web.store.add_job(JobKind.START, other_space, actor="chief")
    job = web.store.claim_job(full=[JobKind.INSPECT])
    assert job is not None
    web.store.fail_job(job.id, message, None)
    web.store.add_event(message[:64], message[:64], workspace=message[:64], data={message[:32]: message})
    chief = web.browser("chief")
    pages = [f"/admin/{page}" for page in ("", "workspaces", "users", "users/bob", "jobs", "events")]
    pages += [f"/admin/snapshots/{request}", f"/admin/snapshots/{other}", f"/admin/workspaces/{other_space}"]
    for browser, paths in ((chief, pages), (web.browser("alice"), ["/me"]), (web.browser("bob"), ["/me"])):
        for url in paths:
            page = browser.get(url)
            assert page.status_code == 200, url
            for bad in ("<script>", "<img src=x", "<b>base", "83810205"):
                assert bad not in page.text, url
            assert page.text.count("</textarea>") == page.text.count("<textarea"), url
    assert "setuid" in chief.get(f"/admin/snapshots/{request}").text
    if "\u202e" in message:  # a path that turns its reader round is written out
        html = chief.get(f"/admin/snapshots/{request}").text
        assert "<bdi>root/\\u202egnp.exe" in html[html.index("What changed") :]


@pytest.mark.parametrize("text_", HOSTILE)
def test_hostile_input_comes_back_as_text(web: Web, text_: str) -> None:
    chief = web.browser("chief")
    for response in (
        web.browser().sign_in(text_, text_),
        chief.post("/admin/users", {"name": text_, "challenge": text_, "key": text_}),
        chief.post("/me/keys", {"key": text_}),
        chief.get(f"/admin/users/{text_.replace('/', '')}"),
        web.browser("alice").post(f"/me/workspaces/{web.workspace_id('alice')}/snapshots", {"message": text_ + "\0"}),
    ):
        assert response.status_code in (400, 403, 404, 405)
        assert "<script>" not in response.text
        assert "<img src=x" not in response.text


# errors


def test_errors_are_pages_fragments_or_json_and_never_tracebacks(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = web.browser("alice")
    page = alice.get("/nowhere")
    assert (page.status_code, "<h1>Not found</h1>" in page.text) == (404, True)
    assert alice.get("/me/keys").status_code == 405
    assert '"status":404' in alice.get("/nowhere", headers={"Accept": "application/json"}).text.replace(" ", "")
    assert "<html" not in alice.get("/nowhere", headers={"X-Fragment": "1"}).text
    page = alice.client.post("/me/keys", data={"key": "x" * 200_000})
    assert (page.status_code, "Too much at once" in page.text) == (413, True)
    chief = web.browser("chief")
    assert chief.get("/admin/snapshots/999").status_code == 404
    assert "There is no snapshot 999." in chief.get("/admin/snapshots/999").text

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Store, "workspaces_of", broken)
    page = alice.get("/me")
    assert page.status_code == 500
    assert "secret detail" not in page.text
    assert "Traceback" not in page.text
    assert page.headers["Content-Security-Policy"]


def test_a_store_that_does_not_answer_is_said(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = web.browser("alice")

    def busy(*_: object, **__: object) -> None:
        raise StoreBusy("The database is busy.", "Try again in a moment.")

    monkeypatch.setattr(Store, "find_user", busy)
    page = alice.get("/me")
    assert page.status_code == 503
    assert "Try again in a moment." in page.text
    assert alice.get("/me/live", headers={"X-Fragment": "1"}).status_code == 503


def test_every_answer_carries_the_security_headers(web: Web) -> None:
    chief = web.browser("chief")
    for path in ("/login", "/admin/", "/nowhere", "/healthz", "/static/app.css", "/"):
        headers = chief.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
    assert chief.get("/admin/").headers["Cache-Control"] == "no-store"


def test_no_page_needs_inline_script_or_style(web: Web) -> None:
    web.request("alice")
    chief, alice = web.browser("chief"), web.browser("alice")
    for browser, paths in (
        (chief, ("/admin/", "/admin/workspaces", "/admin/users", "/admin/jobs", "/admin/events")),
        (alice, ("/me",)),
    ):
        for path in paths:
            html = browser.get(path).text
            assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:|<style", html), path


def test_static_files_are_cached_for_good_by_an_address_that_changes(web: Web) -> None:
    browser = web.browser()
    [css] = re.findall(r'href="(/static/app\.css\?v=[0-9a-f]{12})"', browser.get("/login").text)
    assert "immutable" in browser.get(css).headers["Cache-Control"]
    assert browser.get("/static/app.css").headers["Cache-Control"] == "no-cache"
    assert browser.get("/static/../app.py").status_code == 404


def test_health(web: Web) -> None:
    assert web.browser().get("/healthz").text == "ok\n"
