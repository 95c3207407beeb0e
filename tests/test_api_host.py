"""What administrators do on their pages, by the API: many at once, limits, changes, archive, recordings, figures."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.api import Program, program
from tests.support.web import CHEAP_HASH, Web, web_fixture
from tests.test_api import problem
from workspaces.errors import StoreBusy
from workspaces.model import (
    BaseImage,
    Change,
    ChangeReport,
    FreezeMode,
    Job,
    JobKind,
    OwnLimits,
    Role,
    SnapshotState,
    WorkspaceState,
)
from workspaces.store import Store

__all__ = ["web_fixture"]


@pytest.fixture
def chief(web: Web) -> Program:
    return program(web, "chief", "admin")


def test_many_workspaces_at_once(web: Web, chief: Program) -> None:
    alice, bob = web.workspace_id("alice"), web.workspace_id("bob")
    web.store.set_read_only(bob, True)
    thawed = chief.post("/workspaces/bulk", {"action": "thaw", "ids": [alice, bob, 10**9]}).get_json()["items"]
    assert [(one["workspace"], one["good"], one["said"]) for one in thawed] == [
        ("als/alice", True, "is not frozen"),
        ("als/bob", True, "the worker does it"),
        (f"#{10**9}", False, "There is no such workspace any more."),
    ]
    assert [(job.id, job.kind) for job in web.store.jobs()] == [(thawed[1]["job"], JobKind.THAW)]
    found = chief.post("/workspaces/bulk", {"action": "start", "q": "user:alice"}).get_json()["items"]
    assert [one["workspace"] for one in found] == ["als/alice"]
    assert len(chief.post("/workspaces/bulk", {"action": "stop", "q": ""}).get_json()["items"]) == 2
    for body in ({"action": "stop"}, {"action": "stop", "ids": [alice], "q": ""}, {"action": "stop", "ids": []},
                 {"action": "remove", "q": ""}, {"action": "stop", "q": "nonsense:x"}):  # fmt: skip
        problem(chief.post("/workspaces/bulk", body), 422)


def test_where_the_store_fails_nothing_is_done(web: Web, chief: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    add, count = type(web.store).add_job, iter(range(9))

    def fail_later(store: Store, *arguments: Any, **named: Any) -> Job:
        if next(count):
            raise StoreBusy("The store is busy.")
        return add(store, *arguments, **named)

    monkeypatch.setattr(type(web.store), "add_job", fail_later)
    problem(chief.post("/workspaces/bulk", {"action": "start", "q": ""}), 503)
    assert web.store.jobs() == []


def test_a_message_reaches_who_is_on_and_takes_its_own_scope(web: Web, chief: Program) -> None:
    web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.7", "p", time.time())
    body = {"text": "Save <b>your work", "q": "challenge:als"}
    problem(program(web, "chief", "workspaces").post("/workspaces/message", body), 403)
    told = chief.post("/workspaces/message", body).get_json()["items"]
    assert [one["said"] for one in told] == ["told alice", "nobody has a terminal open"]
    assert [notice.text for notice in web.store.notices(0)] == ["Message from the organisers: Save <b>your work"]
    problem(chief.post("/workspaces/message", {"text": " ", "q": ""}), 422)


def test_many_requests_are_decided_and_a_rejection_says_why(web: Web, chief: Program) -> None:
    one, two = web.request("alice"), web.request("bob")
    problem(chief.post("/snapshots/decide", {"action": "reject", "ids": [one]}), 422)
    approved = chief.post("/snapshots/decide", {"action": "approve", "ids": [one, 99]}).get_json()["items"]
    assert [(result["id"], result["good"]) for result in approved] == [(one, True), (99, False)]
    assert web.store.job(approved[0]["job"]).kind is JobKind.COMMIT
    chief.post("/snapshots/decide", {"action": "reject", "ids": [two], "reason": "too\r\nlarge "})
    assert (web.store.snapshot(two).state, web.store.snapshot(two).reason) == (SnapshotState.REJECTED, "too\nlarge")


def test_limits_of_one_workspace_and_of_all(web: Web, chief: Program) -> None:
    path = f"/workspaces/{web.workspace_id('alice')}"
    job = chief.ask("PUT", f"{path}/limits", {"cpus": 2.5, "memory": 1 << 30}).get_json()
    assert (job["kind"], chief.get(path).get_json()["own_limits"]) == (
        "limits",
        {"cpus": 2.5, "memory": 1 << 30, "pids": None},
    )
    problem(chief.ask("PUT", f"{path}/limits", {"pids": 1}), 422)
    chief.ask("PUT", f"{path}/limits", {})
    assert web.store.workspace("als/alice").own_limits == OwnLimits()
    web.store.set_workspace_state(web.workspace_id("bob"), WorkspaceState.RUNNING)
    changed = chief.ask("PATCH", "/challenges/als", {"cpus": 3.0, "record": "terminals", "apply": True}).get_json()
    assert (changed["limits"]["cpus"], changed["record"]) == (3.0, "terminals")
    assert {job.workspace for job in web.store.jobs() if job.kind is JobKind.LIMITS} == {"als/alice", "als/bob"}
    for mount in ({"source": "/nowhere", "target": "/x"}, {"source": "/srv", "target": "/proc/x"}):
        problem(chief.ask("PATCH", "/challenges/als", {"mounts": [mount]}), 422)


def test_a_workspace_is_removed_only_when_it_is_named(web: Web, chief: Program) -> None:
    path = f"/workspaces/{web.workspace_id('alice')}/remove"
    problem(chief.post(path, {"confirm": "als/bob"}), 403)
    assert chief.post(path, {"confirm": "als/alice"}).get_json()["kind"] == "remove"
    web.store.approve_snapshot(web.request("bob"), actor="chief")  # whose files are promised
    problem(chief.post(f"/workspaces/{web.workspace_id('bob')}/remove", {"confirm": "als/bob"}), 409)


def test_a_members_program_keeps_the_rules_of_his_page(web: Web, chief: Program) -> None:
    path = f"/workspaces/{web.workspace_id('alice')}"
    web.store.begin_freeze("als", FreezeMode.READ_ONLY, actor="chief")
    for job in web.store.jobs():
        web.store.cancel_job(job.id, actor="chief")
    alice = program(web, "alice")
    problem(alice.post(f"{path}/reset", {"confirm": "als/alice"}), 403)
    assert chief.post(f"{path}/reset", {"confirm": "als/alice"}).status_code == 202
    problem(alice.post(f"{path}/stop"), 409)  # something is done to it already


def test_changes_without_a_request_and_two_versions_compared(web: Web, chief: Program) -> None:
    number = web.workspace_id("alice")
    path = f"/workspaces/{number}/changes"
    problem(chief.get(path), 404)
    job = chief.post(path).get_json()
    assert chief.post(path).get_json()["id"] == job["id"]  # one that waits is not asked for twice
    report = ChangeReport(1.0, "base:1", 1, 0, 0, 9, (Change("added", "/root/<b>", 9, 0o644),), (), ())
    web.store.set_look(job["id"], str(number), report)
    assert [entry["path"] for entry in chief.get(path).get_json()["entries"]] == ["/root/<b>"]
    assert chief.get(f"/jobs/{job['id']}/found").get_json()["changes"]["added"] == 1
    old, new = (_version(web, name) for name in ("v1", "v2"))
    path = f"/workspaces/{number}/diff"
    problem(chief.get(f"{path}?old=1&new=2"), 404)
    job = chief.post(path, {"old": 1, "new": 2}).get_json()
    assert (job["kind"], job["arguments"]) == ("diff", {"old": str(old), "new": str(new)})
    web.store.set_look(job["id"], f"{old}:{new}", report)
    assert chief.get(f"{path}?old=1&new=2").get_json()["bytes"] == 9
    assert chief.post(path, {"old": 1, "new": 2}).get_json()["id"] == job["id"]
    problem(chief.post(path, {"old": 1, "new": 1}), 422)
    problem(chief.post(path, {"old": 1, "new": 3}), 404)
    problem(chief.get(f"/snapshots/{new}/download"), 409)


def _version(web: Web, message: str) -> int:
    number = web.request("alice", message)
    web.store.approve_snapshot(number, actor="chief")
    web.store.begin_commit(number)
    web.store.finish_commit(number, f"als/alice:{message}", "sha256:1", ("sha256:2",), 10)
    return number


def test_the_archive_is_looked_at_before_anything_is_deleted(web: Web, chief: Program) -> None:
    problem(chief.post("/archive/collect", {"confirm": "archive"}), 409)
    job = chief.post("/archive/look", {"kind": "gc"}).get_json()
    web.store.set_report(job["id"], "", json.dumps({"deleted": False, "blobs": 2, "bytes": 30}))
    [found] = chief.get("/archive/findings").get_json()["items"]
    assert (found["kind"], found["document"]["bytes"]) == ("gc", 30)
    problem(chief.post("/archive/collect", {"confirm": "yes"}), 403)
    assert chief.post("/archive/collect", {"confirm": "archive"}).get_json()["arguments"] == {"delete": "yes"}
    problem(chief.get("/challenges/als/prune"), 404)
    web.store.set_challenge("als", keep_last=1, actor="test")
    assert chief.get("/challenges/als/prune").get_json()["items"] == []
    problem(chief.post("/challenges/als/prune", {"confirm": ""}), 403)
    assert chief.post("/challenges/als/prune", {"confirm": "als"}).get_json()["arguments"] == {
        "challenge": "als",
        "versions": "",
    }


def test_base_images_and_who_uses_them(web: Web, chief: Program) -> None:
    web.store.set_base_images([BaseImage("sha256:a", ("base:1",), 10, 2, 1.0, 2.0)])
    [image] = chief.get("/images").get_json()["items"]
    assert (image["refs"], image["challenges"], image["checked_at"]) == (["base:1"], ["als"], None)
    assert chief.post("/images/look", {"image": "sha256:a"}).get_json()["arguments"] == {"image": "sha256:a"}
    problem(chief.post("/images/look", {"image": "sha256:b"}), 404)


def test_a_recording_is_handed_out_and_that_is_in_the_record(web: Web, chief: Program) -> None:
    number = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    problem(chief.get(f"/sessions/{number}/recording"), 404)
    web.settings.recordings.mkdir(exist_ok=True)
    text = '{"version": 2, "width": 80, "height": 24}\n[0.5, "o", "hello"]\n'
    (web.settings.recordings / "a.cast").write_text(text)
    web.store.begin_recording(number, "a.cast", 1.0)
    problem(chief.get(f"/sessions/{number}/cast"), 409)  # it goes on
    assert chief.get(f"/sessions/{number}/watch").mimetype == "text/event-stream"
    web.store.end_session(number, 5.0)
    problem(chief.get(f"/sessions/{number}/watch"), 409)
    answer = chief.get(f"/sessions/{number}/cast")
    assert (answer.text, answer.mimetype) == (text, "application/x-asciicast")
    looks = program(web, "alice").get(f"/sessions/{number}/recording").get_json()["looks"]
    assert [(look["actor"], look["how"]) for look in looks] == [("chief", "export"), ("chief", "watch")]
    problem(program(web, "chief", "read").get(f"/sessions/{number}/cast"), 403)


def test_figures_failed_jobs_and_what_happened_to_one_workspace(web: Web, chief: Program) -> None:
    web.request("alice")
    failed = web.store.add_job(JobKind.START, web.workspace_id("bob"), actor="chief")
    web.store.claim_job()
    web.store.fail_job(failed.id, "no engine", None)
    found = chief.get("/overview").get_json()
    assert (found["workspaces"], found["waiting"], [job["id"] for job in found["failures"]]) == (2, 1, [failed.id])
    assert found["health"] == {
        "waiting": {},
        "engine": None,
        "damaged": 0,
        "archived": chief.get("/archive").get_json(),
    }
    web.store.set_challenge_role("alice", "als", Role.REVIEWER, actor="test")
    assert program(web, "alice").get("/overview").get_json()["health"] is None
    assert chief.get("/challenges/als/figures").get_json()["requests"] == 1
    again = chief.post("/jobs/retry-failed").get_json()
    assert ([one["job"]["id"] for one in again["left"]], again["retried"]) == ([failed.id], [])  # it may be unwanted
    path = f"/workspaces/{web.workspace_id('alice')}"
    first = chief.get(f"{path}/events?limit=1").get_json()
    assert (first["items"][0]["kind"], len(first["items"])) == ("snapshot.requested", 1)
    assert {event["workspace"] for event in chief.get(first["next"]).get_json()["items"]} == {"als/alice"}
    assert chief.get(f"{path}/usage?range=week").get_json()["step"] == 3600


def test_jobs_about_the_host_are_for_who_has_its_right(web: Web, chief: Program) -> None:
    web.store.add_user("hugo", Role.REVIEWER, CHEAP_HASH, actor="test")
    hugo, page = program(web, "hugo"), web.browser("hugo")
    ours = web.store.add_job(JobKind.START, web.workspace_id("alice"), actor="chief").id
    hosts = web.store.add_job(JobKind.USAGE, actor="chief").id
    web.store.set_report(hosts, "", '{"bytes": 1}')
    for path in (f"/jobs/{hosts}", f"/jobs/{hosts}/log", f"/jobs/{hosts}/found", f"/events?job={ours},{hosts}"):
        problem(hugo.get(path), 404)
        assert chief.get(path).status_code == 200
    assert hugo.get(f"/jobs/{ours}").status_code == 200
    assert [job["id"] for job in chief.get("/jobs").get_json()["items"]] == [hosts, ours]
    for q in ("", "?q=kind:usage,start", "?q=host:yes", "?q=-host:no"):
        assert [job["id"] for job in hugo.get(f"/jobs{q}").get_json()["items"]] == ([] if "host" in q else [ours])
    for path in ("/admin/jobs", "/admin/jobs/live"):
        html = page.get(path).text
        assert f'id="j{ours}"' in html
        assert f'id="j{hosts}"' not in html
        assert "1 job under way" in html
    assert page.get(f"/admin/jobs/{hosts}").status_code == 404
    while job := web.store.claim_job():
        web.store.fail_job(job.id, "no", None)
    found = [program(web, name).get("/overview").get_json()["failures"] for name in ("hugo", "chief")]
    assert [[job["id"] for job in jobs] for jobs in found] == [[ours], [hosts, ours]]
    assert "1 has failed" in page.get("/admin/jobs").text
    assert "2 have failed" in web.browser("chief").get("/admin/jobs").text
