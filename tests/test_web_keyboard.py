"""The pages by keyboard alone, without a shift under the reader's eyes, and with times that stay true."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.support.site import Site, browser_fixture, site_fixture
from workspaces.model import JobKind, WorkspaceState

__all__ = ["browser_fixture", "site_fixture"]
pytestmark = pytest.mark.browser

# Where the focus is: a name for it, and what keeps one from seeing it.
FOCUS = """
() => {
  const e = document.activeElement;
  if (e === document.body) return null;
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  const wrong = [];
  if (style.outlineStyle === "none") wrong.push("no outline");
  if (box.width < 1 || box.bottom <= 0 || box.top >= innerHeight) wrong.push("not in view");
  const bar = document.querySelector(".bar");
  const under = box.bottom <= bar.getBoundingClientRect().bottom;
  if (under && !bar.contains(e) && !e.matches(".skip")) wrong.push("under the bar");
  const name = (e.ariaLabel || e.labels?.[0]?.textContent || e.textContent || e.title).trim().replace(/\\s+/g, " ");
  return [name.slice(0, 60), wrong.join(", ")];
}
"""
SHIFTS = """
() => {
  window.shifts = [];
  const say = (shift) => [shift.value, ...shift.sources.map((s) => s.node?.outerHTML?.slice(0, 120) ?? "")];
  const watcher = new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map(say)));
  watcher.observe({ type: "layout-shift" });
}
"""


def walk(page: Page, limit: int = 150) -> list[str]:
    """The names of what Tab reaches, in order, to the end of the page; each can be seen."""
    names: list[str] = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUS)
        if here is None:
            return names
        assert here[1] == "", here
        names.append(here[0])
    raise AssertionError(f"Tab never gets out: {names[-5:]}")


@pytest.mark.parametrize(
    ("person", "path", "reached"),
    [
        ("chief", "/admin/", {"Approve", "Reject…", "Look again"}),
        ("chief", "/admin/workspaces", {"als/alice", "Stop", "Start"}),
        ("alice", "/me", {"Copy", "Request a snapshot", "Add key", "Change password"}),
    ],
)
def test_everything_is_reached_by_keyboard_and_seen(site: Site, person: str, path: str, reached: set[str]) -> None:
    page = site.window(person, path, viewport={"width": 1280, "height": 600})
    names = walk(page)
    assert names[:2] == ["Skip to the content", "Workspaces"]
    assert reached <= set(names)
    assert names.index("Sign out") < min(names.index(name) for name in reached)


def test_the_skip_link_leads_past_the_navigation(site: Site) -> None:
    page = site.window("chief", "/admin/workspaces")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_escape_closes_what_was_opened(site: Site) -> None:
    page = site.window("chief", "/admin/")
    opener = page.locator("#r8").get_by_text("Reject…")
    opener.focus()
    page.keyboard.press("Enter")
    reason = page.locator("#r8").get_by_label("Reason, which bob will read")
    reason.fill("no")
    page.keyboard.press("Escape")
    expect(reason).not_to_be_visible()
    expect(opener).to_be_focused()

    page.set_viewport_size({"width": 360, "height": 740})
    page.locator(".menu summary").focus()
    page.keyboard.press("Enter")
    users = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Users")
    expect(users).to_be_visible()
    users.focus()
    page.keyboard.press("Escape")
    expect(users).not_to_be_visible()
    expect(page.locator(".menu summary")).to_be_focused()


def test_the_menu_of_a_phone_needs_no_javascript(site: Site) -> None:
    page = site.window("chief", "/admin/", java_script_enabled=False, viewport={"width": 360, "height": 740})
    users = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Users")
    expect(users).not_to_be_visible()
    page.locator(".menu summary").click()
    users.click()
    expect(page.get_by_role("heading", name="Users", level=1)).to_be_visible()


def test_live_updates_move_nothing(site: Site) -> None:
    space = site.store.workspace("als/jun").id
    page = site.window("chief", "/admin/workspaces")
    page.evaluate(SHIFTS)
    row = page.locator(f"#w{space}")
    expect(row).to_contain_text("stopped")
    job = site.store.add_job(JobKind.START, space, actor="chief")
    expect(row).to_contain_text("start…", timeout=20_000)
    site.store.cancel_job(job.id, actor="chief")
    site.store.set_workspace_state(space, WorkspaceState.FAILED, "the image could not be found " * 3)
    expect(row).to_contain_text("failed", timeout=20_000)
    site.store.set_workspace_state(space, WorkspaceState.RUNNING)
    expect(row).to_contain_text("running", timeout=20_000)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("window.shifts") == []


def test_times_stay_true_in_an_open_page(site: Site) -> None:
    page = site.window("chief")
    page.clock.install()
    page.goto(f"{site.url}/admin/users/alice")
    seen = page.locator("time").filter(has_text=re.compile("min ago$")).first
    minutes = int(seen.inner_text().split()[0])
    page.clock.fast_forward("10:00")
    expect(page.get_by_text(re.compile(f"^{minutes + 10} min ago$")).first).to_be_visible()
    page.clock.fast_forward("01:00:00")
    expect(page.get_by_text(re.compile("^1 h ago$")).first).to_be_visible()
