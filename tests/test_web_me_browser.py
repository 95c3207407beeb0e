"""The participant's pages in Chromium: what changes by itself, plots, keyboard, narrow windows, hostile texts."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.support.sample import finish_jobs
from tests.support.site import Site, browser_fixture, site_fixture
from workspaces.model import JobKind, WorkspaceState

__all__ = ["browser_fixture", "site_fixture"]
pytestmark = pytest.mark.browser

HOSTILE = "<script>window.evil = 1</script> \"'& ‮gnol " + "W" * 900
# how many pixels of a plot are drawn
DRAWN = """element => {
  const canvas = element.querySelector("canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return data.filter((value, at) => at % 4 === 3 && value > 0).length;
}"""


def press(page: Page, name: str, presses: int = 60) -> None:
    """Go to the control of that name with Tab alone, and press Enter."""
    for _ in range(presses):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"Tab never comes to {name}")


def test_start_stop_and_reset_by_keyboard_with_the_state_changing_by_itself(site: Site) -> None:
    number = site.store.workspace("als/carla").id  # stopped
    carla = site.window("carla", "/me")
    press(carla, "Start")
    expect(carla.get_by_text("als/carla is being started.")).to_be_visible()
    expect(carla.locator("#state")).to_contain_text("Something is done to als/carla already: start.")
    finish_jobs(site.store)
    site.store.set_workspace_state(number, WorkspaceState.RUNNING)
    expect(carla.locator(".page-head .state")).to_have_text("running", timeout=20_000)
    expect(carla.locator("#state")).to_contain_text("It runs.")

    press(carla, "Stop or restart…")
    lost = carla.locator("#state .closes")
    expect(lost).to_contain_text("every program that runs in it")
    carla.keyboard.press("Escape")
    expect(lost).not_to_have_attribute("open", "")
    carla.keyboard.press("Enter")
    press(carla, "Stop", presses=1)
    expect(carla.get_by_text("als/carla is being stopped.")).to_be_visible()
    finish_jobs(site.store)
    site.store.set_workspace_state(number, WorkspaceState.STOPPED, "stopped by carla")
    expect(carla.locator("#state")).to_contain_text("It does not run: stopped by carla.", timeout=20_000)

    press(carla, "Reset…")
    expect(carla.get_by_role("heading", name="Reset als/carla?")).to_be_visible()
    carla.get_by_label("Type als/carla to go on").fill("carla")
    carla.keyboard.press("Enter")
    expect(carla.get_by_text("That is not the name.")).to_be_visible()
    expect(carla.get_by_label("Type als/carla to go on")).to_have_value("carla")
    carla.get_by_label("Type als/carla to go on").fill("als/carla")
    press(carla, "Reset it", presses=1)
    expect(carla.get_by_text("als/carla is being reset.")).to_be_visible()
    assert [job.kind for job in site.store.jobs(limit=3)] == [JobKind.RESET, JobKind.STOP, JobKind.START]
    site.said[:] = [line for line in site.said if "400" not in line]  # the name that was wrong


def test_use_is_drawn_read_out_and_fetched_again(site: Site) -> None:
    number = site.store.workspace("als/alice").id
    alice = site.window("alice", "/me")
    plots = alice.locator(".plot")
    expect(plots).to_have_count(3)
    expect(plots.nth(2).locator("canvas")).to_be_visible()
    for index in range(3):
        assert plots.nth(index).evaluate(DRAWN) > 500
    expect(plots.first).to_have_attribute(
        "aria-label", re.compile(r"CPU: \d\.\d\d cores on average, at most \d\.\d\d of 2")
    )
    readout = alice.locator("[data-readout]").first
    resting = readout.text_content()
    box = plots.first.bounding_box()
    assert box is not None
    alice.mouse.move(box["x"] + box["width"] * 0.85, box["y"] + 40)
    expect(readout).to_have_text(re.compile(r"\d+:\d\d.*: \d\.\d\d / \d\.\d\d"))
    alice.mouse.move(0, 0)
    expect(readout).to_have_text(resting or "")

    # What changes beside them leaves them as they are.
    plots.first.locator("canvas").evaluate("e => { window.kept = e }")
    site.store.set_workspace_state(number, WorkspaceState.STOPPED)
    expect(alice.locator(".page-head .state")).to_have_text("stopped", timeout=20_000)
    assert plots.first.locator("canvas").evaluate("e => e === window.kept")
    with alice.expect_response(re.compile("/usage")) as answer:
        alice.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert answer.value.status == 200
    alice.get_by_role("link", name="Week").click()
    expect(alice.get_by_role("link", name="Week")).to_have_attribute("aria-current", "true")
    alice.get_by_text("As a table").click()
    assert alice.get_by_role("row").count() in (2, 3)


def test_figures_that_do_not_come_are_said_and_the_table_is_there(site: Site) -> None:
    alice = site.window("alice")
    alice.context.route("**/usage?*", lambda route: route.abort())
    alice.goto(f"{site.url}/me")
    expect(alice.get_by_text("The figures could not be loaded; the table has them.")).to_be_visible()
    expect(alice.locator("canvas")).to_have_count(0)
    site.said[:] = [line for line in site.said if "ERR_FAILED" not in line]
    plain = site.window("alice", "/me", java_script_enabled=False)
    expect(plain.locator(".plot").first).not_to_be_visible()
    plain.get_by_text("As a table").click()
    assert plain.get_by_role("row").count() >= 2
    plain.get_by_text("Stop or restart…").click()
    plain.get_by_role("button", name="Restart").click()
    expect(plain.get_by_text("als/alice is being restarted.")).to_be_visible()


def test_a_session_is_ended_and_one_that_begins_appears(site: Site) -> None:
    number = site.store.workspace("als/alice").id
    alice = site.window("alice", "/me")
    expect(alice.locator("#sessions")).to_contain_text("Nobody is logged in.")
    session = site.store.begin_session("alice", number, "shell", "<b>198.51.100.7", "p", time.time())
    row = alice.locator(f"#session-{session}")
    expect(row).to_contain_text("<b>198.51.100.7", timeout=20_000)
    row.get_by_role("button", name="End").click()
    expect(alice.get_by_text("The session ends within two seconds.")).to_be_visible()
    expect(row).to_have_count(0)
    alice.get_by_role("link", name="Your sessions so far").click()
    expect(alice.get_by_role("row")).to_have_count(2)


def test_the_config_is_copied_with_its_lines(site: Site) -> None:
    alice = site.window("alice", "/me", permissions=["clipboard-read", "clipboard-write"])
    alice.get_by_text("For ssh als-alice").click()
    alice.locator("#door details").get_by_role("button", name="Copy").click()
    expected = "Host als-alice\n    HostName gate.example.org\n    Port 2222\n    User alice"
    expect(alice.locator("#door details").get_by_role("button", name="Copied")).to_be_visible()
    assert alice.evaluate("navigator.clipboard.readText()") == expected


def test_hostile_texts_fit_a_phone_and_do_nothing(site: Site) -> None:
    number = site.store.workspace("als/alice").id
    site.store.add_workspace("als", "team", ["bob", "lena"], actor="chief")
    site.store.begin_session("alice", number, "shell", HOSTILE, "p", time.time())
    site.store.set_workspace_state(site.store.workspace("als/bob").id, WorkspaceState.FAILED, HOSTILE)
    message = HOSTILE.replace("‮", "").strip()
    asked = site.store.request_snapshot(number, message, actor="alice", via="web")
    site.store.reject_snapshot(asked.id, message, actor="chief")
    site.store.request_snapshot(number, message, actor="alice", via="web")
    phone = {"width": 360, "height": 740}
    alice = site.window("alice", "/me", viewport=phone)
    bob = site.window("bob", "/me", viewport=phone)
    for page, paths in (
        (alice, ("/me", f"/me/workspaces/{number}/usage?range=day", f"/me/workspaces/{number}/reset", "/me/sessions")),
        (bob, ("/me", f"/me/workspaces/{site.store.workspace('als/bob').id}")),
    ):
        for path in paths:
            page.goto(site.url + path)
            for summary in page.locator("main summary").all():
                if summary.is_visible():
                    summary.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            assert page.locator("h1").count() == 1, path
            assert page.evaluate("window.evil") is None, path
