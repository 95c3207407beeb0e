"""The same done to many workspaces: what is said before, a result for each, and nobody's who may not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.api import program
from tests.support.web import Browser, Web, web_fixture
from webadmin.actions import bulk
from workspaces.model import JobKind, Role

__all__ = ["web_fixture"]


@pytest.fixture
def chief(web: Web) -> Browser:
    return web.browser("chief")


def kinds(web: Web) -> list[tuple[JobKind, str]]:
    return sorted((job.kind, job.workspace) for job in web.store.jobs())


def both(web: Web) -> list[int]:
    return [web.workspace_id("alice"), web.workspace_id("bob")]


@pytest.mark.parametrize("action", [name for name, action in bulk.ACTIONS.items() if action.job])
def test_an_action_is_explained_and_then_queued_for_each(web: Web, chief: Browser, action: str) -> None:
    if action == "thaw":
        for number in both(web):
            web.store.set_read_only(number, True)
    form: dict[str, Any] = {"action": action, "id": both(web)}
    asked = chief.post("/admin/workspaces/bulk", form)
    assert (asked.status_code, web.store.jobs()) == (200, [])
    assert "als/alice" in asked.text
    done = chief.post("/admin/workspaces/bulk", {**form, "do": "yes"})
    assert done.status_code == 200
    assert kinds(web) == [(JobKind(action), "als/alice"), (JobKind(action), "als/bob")]
    assert done.text.count("the worker does it") == 2


def test_all_that_a_search_finds(web: Web, chief: Browser) -> None:
    asked = chief.post("/admin/workspaces/bulk", {"action": "start", "all": "yes", "q": "user:alice"})
    assert "als/alice" in asked.text
    assert "als/bob" not in asked.text
    chief.post("/admin/workspaces/bulk", {"action": "start", "ids": confirmed(asked.text), "do": "yes"})
    assert kinds(web) == [(JobKind.START, "als/alice")]


def confirmed(page: str) -> str:
    [ids] = re.findall(r'name="ids" value="([0-9,]*)"', page)
    return str(ids)


def test_what_was_confirmed_is_what_is_done_whatever_the_search_finds_by_then(web: Web, chief: Browser) -> None:
    """The page said which: one that has begun to match since was not on it, and one that is gone is told."""
    alice, bob = both(web)
    asked = chief.post("/admin/workspaces/bulk", {"action": "stop", "all": "yes", "q": "on:no"})
    assert "2 workspaces" in asked.text
    web.store.add_user("carol", actor="chief")
    web.store.add_workspace("als", "carol", ["carol"], actor="chief")
    web.store.begin_session("alice", alice, "shell", "192.0.2.7", "p", 1_800_000_000.0)
    web.store.remove_workspace(bob, actor="chief")
    form = {"action": "stop", "all": "yes", "q": "on:no", "ids": confirmed(asked.text), "do": "yes"}
    done = chief.post("/admin/workspaces/bulk", form)
    assert kinds(web) == [(JobKind.STOP, "als/alice")]
    assert f"#{bob}" in done.text
    assert "1 of them could not be done" in done.text
    without = {name: value for name, value in form.items() if name != "ids"}
    assert chief.post("/admin/workspaces/bulk", without).status_code == 400  # nothing was confirmed
    assert len(web.store.jobs()) == 1


def test_one_that_cannot_be_done_does_not_stop_the_others(web: Web, chief: Browser) -> None:
    alice, bob = both(web)
    web.store.add_job(JobKind.START, alice, actor="chief")
    done = chief.post("/admin/workspaces/bulk", {"action": "start", "id": [alice, bob, 10**30], "do": "yes"})
    assert "als/bob" in done.text
    assert (JobKind.START, "als/bob") in kinds(web)


def test_what_is_not_frozen_is_not_thawed(web: Web, chief: Browser) -> None:
    done = chief.post("/admin/workspaces/bulk", {"action": "thaw", "id": both(web), "do": "yes"})
    assert done.text.count("is not frozen") == 2
    assert kinds(web) == []


def test_a_message_reaches_who_is_on(web: Web, chief: Browser) -> None:
    alice, _ = both(web)
    web.store.begin_session("alice", alice, "shell", "192.0.2.7", "p", 1_800_000_000.0)
    form: dict[str, Any] = {"action": "message", "id": both(web), "do": "yes"}
    assert chief.post("/admin/workspaces/bulk", {**form, "text": " "}).status_code == 400
    done = chief.post("/admin/workspaces/bulk", {**form, "text": "<b>Save your work"})
    assert "told alice" in done.text
    assert "nobody has a terminal open" in done.text
    assert [notice.text for notice in web.store.notices(0)] == ["Message from the organisers: <b>Save your work"]


@pytest.mark.parametrize(
    "form", [{}, {"action": "start"}, {"action": "remove", "id": "1"}, {"action": "stop", "id": "x"}], ids=str
)
def test_nothing_chosen_is_said(chief: Browser, form: dict[str, str]) -> None:
    assert chief.post("/admin/workspaces/bulk", {**form, "do": "yes"}).status_code == 400


def test_too_many_are_refused(web: Web, chief: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST", 1)
    assert chief.post("/admin/workspaces/bulk", {"action": "stop", "id": both(web), "do": "yes"}).status_code == 400
    assert web.store.jobs() == []


def test_requests_are_decided_together_with_a_result_for_each(web: Web, chief: Browser) -> None:
    first, second = web.request("alice"), web.request("bob")
    assert f'value="{first}" form="together"' in chief.get("/admin/").text
    done = chief.post("/admin/queue/decide", {"action": "approve", "id": [first, second, 999]})
    assert done.text.count("approved; the worker commits it") == 2
    assert "#999" in done.text
    assert {web.store.snapshot(number).decided_by for number in (first, second)} == {"chief"}
    again = chief.post("/admin/queue/decide", {"action": "reject", "id": [first], "reason": "too late"})
    assert "is approved already" in again.text


@pytest.mark.parametrize("role", [Role.REVIEWER, Role.ADMIN])
def test_who_decides_in_a_challenge_does_not_approve_what_is_his_own(web: Web, role: Role) -> None:
    web.store.set_challenge_role("alice", "als", role, actor="test")
    own, other = web.request("alice"), web.request("bob")
    web.store.add_member(web.workspace_id("alice"), "chief", actor="test")
    alice = web.browser("alice")
    for page in ("/admin/", f"/admin/snapshots/{own}", f"/admin/snapshots/{own}/live"):
        assert f"/{own}/approve" not in alice.get(page).text
        assert "others who decide approve it" in alice.get(page).text
    assert f"/{other}/approve" in alice.get("/admin/").text
    assert alice.post(f"/admin/snapshots/{own}/approve").status_code == 403
    done = alice.post("/admin/queue/decide", {"action": "approve", "id": [own, other]})
    assert "of your own workspace" in done.text
    assert program(web, "alice").post(f"/snapshots/{own}/approve").status_code == 403
    assert [web.store.snapshot(number).state for number in (own, other)] == ["requested", "approved"]
    chief = web.browser("chief")
    assert f"/{own}/approve" in chief.get(f"/admin/snapshots/{own}").text
    assert chief.post(f"/admin/snapshots/{own}/approve").status_code == 302  # may be alone
    assert web.store.snapshot(own).decided_by == "chief"


@pytest.mark.parametrize(
    "form", [{}, {"action": "approve"}, {"action": "reject", "id": "1"}, {"action": "x", "id": "1"}], ids=str
)
def test_a_decision_needs_requests_and_a_rejection_a_reason(web: Web, chief: Browser, form: dict[str, str]) -> None:
    number = web.request("alice")
    assert chief.post("/admin/queue/decide", form).status_code == 400
    assert web.store.snapshot(number).decided_by is None
