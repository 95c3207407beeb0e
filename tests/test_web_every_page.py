"""What holds for each page and whoever looks: axe finds nothing, a phone shows it, the console is silent.

The pages come from the map of routes (tests/support/pages.py), so that a new one is held to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Page, Route
from werkzeug.exceptions import HTTPException

from tests.support import pages
from tests.support.authenticator import plant
from tests.support.furnished import furnish
from tests.support.site import Site, browser_fixture, site_fixture
from tests.support.web import PASSWORD, Browser
from webadmin.i18n import LOCALE

__all__ = ["browser_fixture", "site_fixture"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

AXE = LOCALE.parent / "assets/node_modules/axe-core/axe.min.js"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
EVERYTHING: dict[str, Any] = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]
}
# What can differ in the dark and on a phone.
AGAIN: dict[str, Any] = {"runOnly": {"type": "rule", "values": ["color-contrast", "target-size", "link-in-text-block"]}}
STRUCTURE: dict[str, Any] = {**EVERYTHING, "rules": {name: {"enabled": False} for name in AGAIN["runOnly"]["values"]}}
RUN = """
async (options) => {
  const found = await axe.run(document, { ...options, resultTypes: ["violations"] });
  return found.violations.flatMap((v) =>
    v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 160)} (${n.any[0]?.message ?? v.help})`));
}
"""
UNFOLD = "document.querySelectorAll('details:not(.menu)').forEach((e) => { e.open = true; })"
TOO_WIDE = """
() => [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
  && e.checkVisibility() && !e.closest(".unseen")).map((e) => e.outerHTML.slice(0, 160)).slice(0, 3)
"""
# Tables scroll in their frames, so that a page is never too wide; with this much room none should have to.
CUT = """
() => [...document.querySelectorAll(".card.scroll")].filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => `is cut off: ${e.firstElementChild.outerHTML.slice(0, 160)}`)
"""
# Pages that answer a form: results, and what comes back with errors.
POSTED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("chief", "/admin/workspaces/bulk", {"action": "stop", "id": [1, 2]}),
    ("chief", "/admin/workspaces/bulk", {"action": "message", "id": [1, 2], "text": "hello", "do": "yes"}),
    ("chief", "/admin/queue/decide", {"action": "approve", "id": [7, 999]}),
    ("chief", "/admin/users/import", {"text": "name,challenge\nzoe,als\nZ!,als\nnora,nowhere\n"}),
    ("chief", "/admin/users/import", {"text": "name,challenge\nzoe,als\n"}),
    ("chief", "/admin/users/kofi/invite", {}),
    ("chief", "/admin/users", {"name": "Z!", "challenge": "als"}),
    ("chief", "/admin/challenges/als/edit", {"cpus": "none", "memory": "much", "mounts": "x"}),
    ("chief", "/admin/workspaces/1/limits", {"cpus": "none"}),
    ("chief", "/admin/workspaces/1/remove", {"typed": "another"}),
    ("chief", "/admin/announcements", {"text": "The hall closes at nine.", "severity": "urgent", "do": "preview"}),
    ("alice", "/me/workspaces/1/snapshots", {"message": ""}),
    ("alice", "/me/keys", {"key": "no key"}),
    ("alice", "/me/password", {"current": "wrong", "new": "x", "again": "y"}),
    ("alice", "/account/tokens", {"name": "my script", "scope": "read", "days": "5"}),
)


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.fail(f"{AXE} is not there: make test-install")
    return AXE.read_text(encoding="utf-8")


def test_every_page_for_everybody(site: Site, axe: str) -> None:
    # A word of 1,000 letters is somewhere on most pages.
    site.store.request_snapshot(site.store.workspace("als/lena").id, "W" * 1000, actor="lena", via="web")
    furnish(site.store)
    everybody = pages.people(site.store)
    urls = pages.addresses(site.app, site.store)
    wrong: dict[str, list[str]] = {}
    shapes: dict[str, list[frozenset[str]]] = {}  # of <main>, by route
    frames: set[frozenset[str]] = set()
    for person in everybody:
        browser, window = pages.visitor(site.app, person), site.window(person, viewport=WIDE)
        window.add_init_script(axe)
        if person == "rita":  # who could not sign in with this one
            plant(site.store, "rita")
        found = pages.seen_by(browser, urls)
        posted = [posted_page(browser, path, form) for who, path, form in POSTED if who == person]
        if person == "rita":
            posted.append(posted_page(pages.visitor(site.app, None), "/login", {"name": "rita", "password": PASSWORD}))
        for url, html in [*found.items(), *posted]:
            # What is built as a page of the same route was, whoever saw that, has nothing new to look at; and what is
            # built of less can only have lost something that the rest counts on: no colour, and no width.
            (shape, frame), name = pages.shape(html), route(site.app, url)
            seen = shapes.setdefault(name, [])
            if shape in seen and frame in frames:
                continue
            less = frame in frames and any(shape < other for other in seen)
            seen.append(shape)
            frames.add(frame)
            if (url, html) in posted:
                window.route(site.url + url, answers(html))
            if trouble := look(window, site.url + url, less):
                wrong[f"{person} {url}"] = trouble
        window.context.close()
    site.said = [said for said in site.said if "/nowhere" not in said]  # that it is not there
    assert wrong == {}, "\n".join(f"{where}\n  " + "\n  ".join(what) for where, what in wrong.items())
    assert {"auth.second", "own_passkeys.remove", "admin.screen", "admin.collect", "admin.prune"} <= shapes.keys()


def posted_page(browser: Browser, path: str, form: dict[str, Any]) -> tuple[str, str]:
    """The page that answers this form, and an address for it."""
    answer = browser.post(path, form, follow_redirects=True)
    assert answer.mimetype == "text/html"
    assert answer.status_code in (200, 400, 403, 409), f"{path}: {answer.status_code}"
    return f"{answer.request.path}?posted={abs(hash(str(form)))}", answer.text


def answers(html: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8")


def route(app: Flask, url: str) -> str:
    """The name of what answers there."""
    try:
        return str(app.url_map.bind("localhost").match(url.partition("?")[0])[0])
    except HTTPException:
        return url


def look(window: Page, url: str, less: bool) -> list[str]:
    """What is wrong with the page at `url`: wide and light, then narrow and dark, with all that folds unfolded.

    With `less`, only how it is built.
    """
    window.set_viewport_size(WIDE)  # type: ignore[arg-type]
    window.emulate_media(color_scheme="light")
    window.goto(url)
    found: list[str] = window.evaluate(CUT)
    if window.evaluate("document.documentElement.scrollWidth") > WIDE["width"]:
        found.append(f"wider than the window: {window.evaluate(TOO_WIDE)}")
    window.evaluate(UNFOLD)
    if less:
        found += window.evaluate(RUN, STRUCTURE)
        return found
    found += window.evaluate(RUN, EVERYTHING)
    window.set_viewport_size(PHONE)  # type: ignore[arg-type]
    window.emulate_media(color_scheme="dark")
    if window.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
        found.append(f"wider than a phone: {window.evaluate(TOO_WIDE)}")
    found += window.evaluate(RUN, AGAIN)
    if window.locator("h1").count() != 1:
        found.append("not one h1")
    return found


def test_the_stylesheets_use_properties_for_colours() -> None:
    """A colour that is written out is one that does not change in the dark."""
    import re

    for sheet in sorted(Path(LOCALE.parent / "static").glob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.DOTALL)
        text = re.sub(r":root \{.*?\}", "", text, flags=re.DOTALL)
        text = re.sub(r"@media print \{.*\Z", "", text, flags=re.DOTALL)
        found = re.findall(r"(?:color|background|border[a-z-]*)\s*:[^;]*(?:#[0-9a-fA-F]{3,8}|rgb\()", text)
        assert found == [], sheet.name
