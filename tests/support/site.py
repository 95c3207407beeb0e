"""The application with the sample data in Chromium: windows of people who are signed in; consoles are listened to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.chromium import EXECUTABLE, chromium, served
from tests.support.sample import fill
from tests.support.web import CHEAP_HASH, PASSWORD, make_settings
from webadmin import create_app
from workspaces.store import Store

# This machine has got or lost a network, as with every container that comes or goes; the test pressed a key before
# the page that was being loaded had its focus.
NOT_OURS = ("ERR_NETWORK_CHANGED", "Autofocus processing was blocked")


@dataclass
class Site:
    """Its address, its store, and `said`: what consoles said, which must be nothing in the end."""

    browser: Browser
    url: str
    store: Store
    app: Flask
    said: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def window(self, name: str | None = None, path: str = "/", **options: object) -> Page:
        """A window of a browser of its own, signed in as `name`."""
        context = self.browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._hear(page, message.text))
        page.on("pageerror", lambda error: self._hear(page, str(error)))
        if name:
            page.goto(f"{self.url}/login?next={path}")
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.wait_for_url(f"**{path if path != '/' else '/**'}")
        return page

    def _hear(self, page: Page, text: str) -> None:
        # What a provider of sign-ins says on its own pages is not the application's.
        if urlsplit(page.url).port == urlsplit(self.url).port and not any(of in text for of in NOT_OURS):
            self.said.append(f"{page.url}: {text}")


@pytest.fixture(name="browser", scope="module")
def browser_fixture() -> Iterator[Browser]:
    if not Path(EXECUTABLE).exists():
        pytest.fail("Chromium is not installed: apt-get install chromium")
    with chromium() as found:
        yield found


@pytest.fixture(name="site")
def site_fixture(browser: Browser, tmp_path: Path) -> Iterator[Site]:
    settings = make_settings(tmp_path)
    store = Store.open(settings.database)
    fill(store, CHEAP_HASH)
    app = create_app(settings, store)
    with served(app) as url:
        site = Site(browser, url, store, app)
        yield site
        for context in site.contexts:
            context.close()
    store.close()
    assert site.said == [], site.said
