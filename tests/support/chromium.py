"""The distribution's Chromium, driven by Playwright, and the application served on a free port for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from flask import Flask
from playwright.sync_api import Browser, sync_playwright

from tests.support.serving import in_a_thread
from webadmin.context import Parts
from webadmin.server import Server

EXECUTABLE = "/usr/bin/chromium"
ARGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(ARGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve `app` on a free port of this host; gives its address."""
    parts: Parts = app.extensions["workspaces"]
    with in_a_thread(Server(app, replace(parts.settings, web_listen=("127.0.0.1", 0)))) as address:
        yield address
