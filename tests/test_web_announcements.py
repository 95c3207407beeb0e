"""Announcements on the pages: who reads them, putting them away, writing one with a look at it first."""

from __future__ import annotations

import re

from tests.support.web import CHEAP_HASH, Browser, Web, web_fixture  # noqa: F401
from tests.test_web_flows import text
from workspaces.model import Role, Severity

HOSTILE = '<script>alert("x")</script>\n\u202egnp\u202c two\tthree'


def banners(browser: Browser, path: str = "/me") -> list[str]:
    return re.findall(r'<section class="notice announcement (.*?)</section>', browser.get(path).text, re.DOTALL)


def test_everybody_reads_it_until_put_away(web: Web) -> None:
    web.store.add_announcement(HOSTILE, Severity.URGENT, actor="chief")
    made = web.store.add_announcement("for als", challenge="als", actor="chief")
    alice, chief = web.browser("alice"), web.browser("chief")
    first, second = banners(alice)
    assert first.startswith("is-bad")
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;\n\\u202egnp\\u202c two    three" in first
    assert second.startswith("is-info")
    assert len(banners(chief, "/admin/")) == 1
    assert banners(web.browser(), "/login") == []
    alice.post(f"/announcements/{made.id}/dismiss", headers={"Referer": "http://localhost/me"})
    assert len(banners(alice)) == 1
    assert len(banners(web.browser("bob"))) == 2
    assert alice.post("/announcements/99/dismiss").status_code == 404


def test_writing_one_with_a_look_at_it_first(web: Web) -> None:
    chief = web.browser("chief")
    assert "Nothing is announced" in chief.get("/admin/announcements").text
    form = {"text": HOSTILE.replace("\n", "\r\n"), "severity": "warning", "challenge": "als", "do": "preview"}
    page = chief.post("/admin/announcements", form).text
    assert "Warning: &lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; \\u202egnp\\u202c two three" in page
    assert 'id="preview"' in page
    assert '<option value="als" selected>' in page
    assert web.store.announcements() == []
    chief.post("/admin/announcements", {**form, "do": "announce", "until": "2099-05-01T18:00"})
    (made,) = web.store.announcements()
    assert (made.text, made.severity, made.challenge, made.until_at) == (HOSTILE, Severity.WARNING, "als", 4081341600.0)
    assert web.store.events(kind="announcement.added")[0].actor == "chief"
    page = chief.get("/admin/announcements").text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    chief.post("/admin/announcements/end", {"announcement": str(made.id)})
    assert "Nothing is announced" in chief.get("/admin/announcements").text
    assert "&lt;script&gt;" in chief.get("/admin/announcements?show=all").text
    assert chief.post("/admin/announcements/end", {"announcement": str(made.id)}).status_code == 409


def test_what_cannot_be_announced_says_why_and_keeps_what_was_typed(web: Web) -> None:
    chief = web.browser("chief")
    for wrong, why in (
        ({"text": " "}, "The announcement is empty."),
        ({"text": "x" * 1001}, "1000 are allowed"),
        ({"text": "a", "from": "soon"}, "soon is not a date and time."),
        ({"text": "a", "until": "2001-01-01T00:00"}, "ends after it begins"),
        ({"text": "a", "severity": "loud"}, "Say how urgent it is."),
    ):
        page = chief.post("/admin/announcements", {**wrong, "do": "announce"})
        assert page.status_code == 400
        assert why in text(page.text)
    assert web.store.announcements(ended=True) == []


def test_who_administers_a_challenge_tells_its_people_only(web: Web) -> None:
    web.store.add_challenge("bci", "base:1", actor="chief")
    web.store.add_user("ada", password_hash=CHEAP_HASH, actor="chief")
    web.store.set_challenge_role("ada", "als", Role.ADMIN, actor="chief")
    ada = web.browser("ada")
    page = ada.get("/admin/announcements").text
    assert '<option value="als"' in page
    assert '<option value="bci"' not in page
    assert "everybody" not in re.findall(r"<option[^>]*>([^<]*)", page)
    said = {"text": "a", "do": "announce"}
    assert ada.post("/admin/announcements", {**said, "challenge": "als"}).status_code == 302
    assert ada.post("/admin/announcements", said).status_code == 403
    assert ada.post("/admin/announcements", {**said, "challenge": "bci"}).status_code == 404
    to_all = web.store.add_announcement("to all", actor="chief")
    assert ada.post("/admin/announcements/end", {"announcement": str(to_all.id)}).status_code == 403
    assert [a.text for a in web.store.announcements()] == ["to all", "a"]
