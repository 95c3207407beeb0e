"""What holds for each page and whoever looks: axe finds nothing, a phone shows it, the console is silent.

The pages come from the map of routes (tests/support/pages.py), so that a new one is held to the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support import pages
from tests.support.furnished import furnish
from tests.support.site import Site, browser_fixture, site_fixture
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
    looked_at: set[str] = set()
    for person in everybody:
        window = site.window(person, viewport=WIDE)
        for url in pages.seen_by(site.app, person, urls):
            looked_at.add(url)
            found = look(window, site.url + url, axe)
            if found:
                wrong[f"{person} {url}"] = found
        window.context.close()
    site.said = [said for said in site.said if "/nowhere" not in said]  # that it is not there
    assert wrong == {}, "\n".join(f"{where}\n  " + "\n  ".join(what) for where, what in wrong.items())
    assert len(looked_at) > 20


def look(window: Page, url: str, axe: str) -> list[str]:
    """What is wrong with the page at `url`: wide and light, then narrow and dark, with all that folds unfolded."""
    window.set_viewport_size(WIDE)  # type: ignore[arg-type]
    window.emulate_media(color_scheme="light")
    window.goto(url)
    window.evaluate(UNFOLD)
    window.evaluate(axe)
    found: list[str] = window.evaluate(RUN, EVERYTHING)
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
