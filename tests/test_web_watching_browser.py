"""Watching and replaying in Chromium: what asciinema-player shows, live and afterwards, under the strict policy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.site import Site, browser_fixture, site_fixture  # noqa: F401
from tests.test_web_watching import HOSTILE
from workspaces import casts
from workspaces.assets import missing

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def player() -> None:
    if missing():
        pytest.fail("The player is not installed: run make install")


def test_a_session_is_watched_ended_and_replayed(site: Site, tmp_path: Path) -> None:
    directory = tmp_path / "recordings"
    directory.mkdir()
    path = directory / "a.cast"
    path.write_bytes(
        casts.header(60, 12, time.time(), "xterm", HOSTILE)
        + casts.line(0.1, "o", f"{HOSTILE}\r\nfirst line\r\n")
        + casts.line(0.2, "o", "\x1b]0;<img src=x onerror=alert(1)>\x07\x1b[31mred\x1b[0m\r\n")
    )
    store = site.store
    space = store.workspaces()[0]
    number = store.begin_session("alice", space.id, "shell", "192.0.2.7", "p", time.time())
    store.begin_recording(number, path.name, time.time())

    chief = site.window("chief", "/admin/sessions")
    row = chief.locator(f"#e{number}")
    row.get_by_role("button", name="Watch").focus()
    chief.keyboard.press("Enter")
    terminal = chief.locator("#screen .ap-term")
    expect(terminal).to_contain_text("first line")
    expect(terminal).to_contain_text("<script>alert(1)</script>")
    with path.open("ab", buffering=0) as file:
        file.write(casts.line(2.0, "r", "70x14") + casts.line(2.1, "o", "typed just now\r\n"))
    expect(terminal).to_contain_text("typed just now")

    boss = site.window("chief", f"/admin/sessions/{number}")
    boss.get_by_role("link", name="End…").click()
    boss.get_by_role("button", name="End the session").click()
    expect(boss.get_by_text("ends within two seconds")).to_be_visible()
    store.end_recording(number, path.stat().st_size, 2.1, 0)
    expect(chief.locator("#screen-said")).to_contain_text("has ended")

    boss.get_by_role("button", name="Replay").click()
    expect(boss.locator("#screen .ap-term")).to_contain_text("typed just now")
    expect(boss.locator("#screen .ap-control-bar")).to_be_attached()
    assert [event.kind for event in reversed(store.events(4, actor="chief")) if event.kind.startswith("session.")] == [
        "session.watched",
        "session.killed",
        "session.replayed",
    ]


def test_an_announcement_is_written_with_a_preview_and_put_away(site: Site) -> None:
    chief = site.window("chief", "/admin/announcements")
    chief.get_by_label("Text").fill(HOSTILE.split("\x1b")[0])
    chief.get_by_label("How urgent").select_option("urgent")
    chief.get_by_role("button", name="Preview").click()
    expect(chief.locator("#preview")).to_contain_text("Urgent: </script><script>alert(1)")
    expect(chief.get_by_text("Nothing is announced")).to_be_visible()
    chief.get_by_role("button", name="Announce").click()
    alice = site.window("alice", "/me")
    banner = alice.get_by_role("region", name="Announcement")
    expect(banner).to_contain_text("alert(1)")
    banner.get_by_role("button", name="Hide this announcement").focus()
    alice.keyboard.press("Enter")
    expect(banner).to_have_count(0)
