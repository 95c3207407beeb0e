"""Pages of one workspace, challenges, the archive and jobs in Chromium: live, by keyboard, with hostile names."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.support.sample import report
from tests.support.site import Site, browser_fixture, site_fixture  # noqa: F401
from workspaces.model import FrozenState, JobKind, OwnLimits

pytestmark = pytest.mark.browser

HOSTILE = '<script>alert("x")</script>\u202e& \'"'


def test_limits_members_and_changes_of_one_workspace(site: Site) -> None:
    space = site.store.workspace("als/alice").id
    page = site.window("chief", f"/admin/workspaces/{space}")
    page.get_by_label("Memory").fill("8g")
    page.keyboard.press("Enter")
    expect(page.get_by_text("8.0 GiB memory")).to_be_visible()
    assert site.store.workspace(space).own_limits == OwnLimits(memory=8 << 30)
    page.get_by_label("Add a member").fill("bob")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Remove bob…").click()
    page.get_by_role("button", name="Remove bob").click()
    expect(page.get_by_text("bob is no longer a member")).to_be_visible()

    page.get_by_role("link", name="Changes now").click()
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_text("waits for its turn")).to_be_visible()
    while (job := site.store.claim_job()) is not None and job.kind is not JobKind.LOOK:
        site.store.finish_job(job.id, "done")
    assert job is not None
    site.store.set_look(job.id, str(space), report(0, [("added", f"/root/{HOSTILE}", 7)], warnings=(HOSTILE,)))
    site.store.finish_job(job.id, "1 path changed")
    expect(page.get_by_text("+1 added")).to_be_visible()  # by itself
    expect(page.get_by_role("button", name="Look again")).to_be_visible()


def test_a_challenge_is_changed_and_frozen(site: Site) -> None:
    page = site.window("chief", "/admin/challenges/als/edit")
    page.get_by_label("Cores").fill("0")
    page.get_by_role("button", name="Change the challenge").click()
    expect(page.get_by_text("is no number of cores")).to_be_visible()
    site.said[:] = [line for line in site.said if "400" not in line]  # the form that was wrong
    page.get_by_label("Cores").fill("3")
    page.get_by_role("button", name="Change the challenge").click()
    expect(page.get_by_text("als is changed.")).to_be_visible()
    page.get_by_role("link", name="Freeze…").click()
    page.get_by_label("stop: they are stopped").check()
    page.get_by_label("to go on").fill("als")
    page.keyboard.press("Enter")
    expect(page.get_by_text("0 of 12 done")).to_be_visible()
    [freeze] = site.store.freezes("als")
    alice = site.store.workspace("als/alice").id
    job = next(j for j in site.store.jobs(workspace_id=alice) if j.kind is JobKind.FREEZE)
    site.store.finish_frozen(freeze.id, alice, FrozenState.UNCHANGED, None, "nothing has changed")
    site.store.cancel_job(job.id, actor="chief")
    expect(page.get_by_text("1 of 12 done")).to_be_visible()
    page.get_by_role("button", name="Thaw").click()
    expect(page.get_by_text("als is thawed.")).to_be_visible()


def test_the_archive_is_read_again_and_its_job_is_followed(site: Site) -> None:
    page = site.window("chief", "/admin/archive")
    page.get_by_role("button", name="Read all of it").click()
    while (job := site.store.claim_job()) is not None and job.kind is not JobKind.VERIFY:
        site.store.finish_job(job.id, "done")
    assert job is not None
    site.store.job_progress(job.id, 0.25, "Reading the archive again", (1 << 30, 4 << 30))
    expect(page.get_by_text("1.0 of 4.0 GiB")).to_be_visible()
    page.get_by_role("link", name=f"Job {job.id}").click()
    site.store.job_progress(job.id, 0.5, "Reading the rest", (2 << 30, 4 << 30))
    expect(page.locator("#log-title ~ ol").get_by_text("Reading the rest")).to_be_visible()
    damaged = {"blob": "sha256:1", "sentence": HOSTILE, "images": [HOSTILE], "hurt": 1}
    document = {"blobs": 9, "sealed": 0, "bytes": 4 << 30, "bad": 1, "problems": [damaged]}
    site.store.set_report(job.id, "", json.dumps(document))
    site.store.finish_job(job.id, "1 of 9 blobs is damaged")
    expect(page.get_by_text("1 blob is missing or damaged.")).to_be_visible()
    page.goto(f"{site.url}/admin/jobs?q=kind:verify")
    expect(page.get_by_text("Displaying 1–1 of 1")).to_be_visible()
