"""The pages in Chromium: what only a browser shows, such as live progress, copying, widths and console errors."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.support.gateway import until
from tests.support.sample import finish_jobs, public_key, report
from tests.support.site import Site, browser_fixture, site_fixture
from workspaces.model import JobKind, SnapshotState

__all__ = ["browser_fixture", "site_fixture"]

pytestmark = pytest.mark.browser

JOBS_LIVE = re.compile("/admin/jobs/live")


def test_the_story_from_key_to_version(site: Site) -> None:
    alice = site.window("alice", "/me")
    alice.get_by_label("Add a public key").fill(public_key("alice@desk")[1])
    alice.get_by_role("button", name="Add key").click()
    expect(alice.locator("#keys")).to_contain_text("alice@desk")

    chief = site.window("chief", "/admin/")
    alice.get_by_label("What is this version?").fill("third try <b>bold</b>")
    alice.get_by_role("button", name="Request a snapshot").click()
    expect(alice.get_by_role("button", name="Withdraw the request")).to_be_visible()
    request = next(s for s in site.store.snapshots(states=[SnapshotState.REQUESTED]) if s.requested_by == "alice")

    # It appears in the open queue by itself, and so does what changed.
    card = chief.locator(f"#r{request.id}")
    expect(card).to_contain_text("third try <b>bold</b>", timeout=20_000)
    site.store.set_changes(request.id, report(request.requested_at, [("added", "/root/net.pt", 7 << 20)]))
    finish_jobs(site.store)
    expect(card).to_contain_text("+1 added", timeout=20_000)
    card.get_by_role("button", name="Approve").click()
    expect(card).not_to_be_visible()
    expect(chief.locator(f"#d{request.id}")).to_contain_text("commit waits for its turn")

    job = site.store.claim_job()
    assert job is not None
    assert job.kind is JobKind.COMMIT
    site.store.begin_commit(request.id)
    navigations: list[str] = []
    for page in (chief, alice):
        page.on("framenavigated", lambda frame: navigations.append(frame.url))
    for percent in (20, 70):
        site.store.job_progress(job.id, percent / 100, f"writing the layer {percent}")
        for page in (chief, alice):
            expect(page.get_by_text(f"writing the layer {percent}")).to_be_visible()
            expect(page.locator(f"progress[value='{percent}']")).to_be_visible()
    site.store.finish_commit(request.id, "als/alice:v3", "sha256:3", ("sha256:4",), 7 << 20)
    site.store.finish_job(job.id, "committed")
    expect(alice.locator(f"#s{request.id}")).to_contain_text("v3")
    expect(chief.locator(f"#d{request.id}")).to_contain_text("als/alice:v3")
    assert navigations == []


def test_typing_and_reading_survive_live_updates(site: Site) -> None:
    chief = site.window("chief", "/admin/")
    card = chief.locator("#r8")
    chief.locator("#r7 summary").first.click()
    card.get_by_text("Reject…").click()
    reason = card.get_by_label("Reason, which bob will read")
    reason.fill("half a sent")
    chief.locator("#r6-title").evaluate("e => { window.kept = e }")
    before = card.bounding_box()
    site.store.set_changes(8, report(0, [("added", "/root/new", 1)], since="another-image:1"))
    with chief.expect_response(re.compile("/admin/live")) as answer:
        pass
    assert answer.value.status == 200
    expect(card).to_contain_text("another-image:1", timeout=20_000)
    expect(reason).to_be_focused()
    expect(reason).to_have_value("half a sent")
    chief.keyboard.type("ence")
    expect(reason).to_have_value("half a sentence")
    expect(chief.locator("#r7-paths")).to_have_attribute("open", "")
    assert chief.locator("#r6-title").evaluate("e => e === window.kept")  # patched, not replaced
    after = card.bounding_box()
    assert before is not None
    assert after is not None
    assert before["y"] == after["y"]
    card.get_by_role("button", name="Reject the request").click()
    expect(chief.get_by_text("The participant sees your reason.")).to_be_visible()
    bob = site.window("bob", "/me")
    expect(bob.get_by_text("half a sentence", exact=True)).to_be_visible()


def test_polls_stop_in_a_hidden_tab_and_mostly_cost_nothing(site: Site) -> None:
    site.store.finish_job(site.store.jobs()[0].id, "done")
    chief = site.window("chief", "/admin/jobs")
    statuses: list[int] = []
    chief.on("response", lambda response: statuses.append(response.status) if "/jobs/live" in response.url else None)
    show = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    for _ in range(3):
        with chief.expect_response(JOBS_LIVE):
            chief.evaluate(show, True)
            chief.evaluate(show, False)
    assert statuses[0] == 200
    assert statuses[1:] == [304, 304]
    chief.evaluate(show, True)
    chief.clock.install()
    chief.clock.run_for(120_000)
    assert len(statuses) == 3


def test_an_ended_session_and_a_dead_server_are_said(site: Site) -> None:
    chief = site.window("chief", "/admin/jobs")
    site.store.set_disabled("alice", True, actor="chief")
    bob = site.window("bob", "/me")
    site.store.set_disabled("bob", True, actor="chief")
    expect(bob.get_by_text("You are signed out. Reload the page")).to_be_visible(timeout=20_000)
    silent = chief.get_by_text("The server does not answer. Trying again…")
    chief.context.route(JOBS_LIVE, lambda route: route.abort())
    chief.clock.install()

    def said_later() -> bool:
        """What would be waited for between two attempts passes at once."""
        chief.clock.fast_forward(15_000)
        return silent.is_visible()

    site.store.add_job(JobKind.START, 1, actor="chief")
    until(said_later)
    chief.context.unroute(JOBS_LIVE)
    until(lambda: not said_later())
    assert [s for s in site.said if "401" not in s and "ERR_FAILED" not in s] == []
    site.said.clear()


def test_the_ssh_line_is_copied(site: Site) -> None:
    alice = site.window("alice", "/me", permissions=["clipboard-read", "clipboard-write"])
    alice.get_by_role("button", name="Copy").click()
    expect(alice.get_by_role("button", name="Copied")).to_be_visible()
    assert alice.evaluate("navigator.clipboard.readText()") == "ssh -p 2222 alice@gate.example.org"


def test_a_form_is_sent_once(site: Site) -> None:
    alice = site.window("alice", "/me")
    alice.get_by_label("What is this version?").fill("only one")
    alice.get_by_role("button", name="Request a snapshot").dblclick()
    expect(alice.get_by_role("button", name="Withdraw the request")).to_be_visible()
    assert sum(s.message == "only one" for s in site.store.snapshots()) == 1


def test_without_javascript_the_same_forms_work(site: Site) -> None:
    chief = site.window("chief", "/admin/", java_script_enabled=False)
    card = chief.locator("#r8")
    card.get_by_text("Reject…").click()
    card.get_by_label("Reason, which bob will read").fill("not yet")
    card.get_by_role("button", name="Reject the request").click()
    expect(chief.get_by_text("The participant sees your reason.")).to_be_visible()
    expect(chief.get_by_role("link", name="Reload")).to_be_visible()
    bob = site.window("bob", "/me", java_script_enabled=False)
    expect(bob.get_by_text("not yet", exact=True)).to_be_visible()
    expect(bob.get_by_role("button", name="Copy")).not_to_be_visible()
