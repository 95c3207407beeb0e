"""The participant's pages: what they tell of a workspace, and what its member may do with it."""

from __future__ import annotations

import time

import pytest

from tests.support.sample import HOUR, ago, commit, finish_jobs
from tests.support.web import Web, web_fixture  # noqa: F401
from tests.support.worlds import World, world  # noqa: F401
from tests.test_web_flows import text
from webadmin import session
from webadmin.actions import usage
from webadmin.actions.own import Acts
from webadmin.me.base import SHOWN
from workspaces.errors import Refused
from workspaces.model import FreezeMode, HostSample, JobKind, JobState, OwnLimits, Sample, WorkspaceState

HOST = HostSample(1.0, 2, 1, 2, 1, 2, 0.1)
HOSTILE = "<script>alert(1)</script>\"'&\u202eevil"


def looks(web: Web, name: str = "alice", hours: float = 3.0) -> None:
    """The worker looked once a minute until now."""
    number = web.workspace_id(name)
    for minute in range(int(hours * 60)):
        sample = Sample(0.5, 512 << 20, 7, 3 << 30, 1000, 2000)
        web.store.add_usage(time.time() - minute * 60, {number: sample}, HOST)


def running(web: Web, name: str = "alice") -> int:
    number = web.workspace_id(name)
    web.store.set_workspace_state(number, WorkspaceState.RUNNING)
    return number


# am I running, how do I get in, when is the deadline


def test_each_state_is_said_in_a_sentence(web: Web) -> None:
    number = web.workspace_id("alice")
    alice = web.browser("alice")
    assert "your first login, or a start, makes it" in text(alice.get("/me").text)
    for state, detail, said in (
        (WorkspaceState.STARTING, "", "It is being started."),
        (WorkspaceState.RUNNING, "", "It runs."),
        (WorkspaceState.STOPPED, "stopped by alice", "It does not run: stopped by alice. Your files are there"),
        (WorkspaceState.FAILED, "no space", "It did not start: no space. Your next login tries again."),
    ):
        web.store.set_workspace_state(number, state, detail)
        assert said in text(alice.get("/me").text)


def test_a_workspace_that_was_frozen_alone_says_so_and_is_not_called_new(web: Web) -> None:
    number = web.workspace_id("alice")
    web.store.touch_login(number)
    alice = web.browser("alice")
    page = text(alice.get("/me").text)
    assert "It is not there: your next login, or a start, makes it." in page
    assert "frozen" not in page
    web.store.set_workspace_state(number, WorkspaceState.STOPPED)
    assert f"/{number}/reset" in alice.get("/me").text
    web.store.set_read_only(number, True)
    page = alice.get("/me").text
    assert "The organisers have frozen this workspace: files can be read, and not changed." in text(page)
    assert f"/{number}/reset" not in page


def test_how_to_get_in(web: Web) -> None:
    (web.settings.keys / "ssh_host_ed25519_key.pub").write_text(web.store.keys("alice")[0].line + "\n")
    page = web.browser("alice").get("/me").text
    assert "ssh -p 2222 alice@gate.example.org" in page
    assert "Host als-alice\n    HostName gate.example.org\n    Port 2222\n    User alice</code>" in page
    assert web.store.keys("alice")[0].fingerprint in page[: page.index('id="keys"')]
    (web.settings.keys / "ssh_host_ed25519_key.pub").write_text("nonsense")
    assert web.browser("alice").get("/me").status_code == 200


def test_the_deadline_and_what_happens_then(web: Web) -> None:
    alice = web.browser("alice")
    assert "Closes" not in alice.get("/me").text
    web.store.set_challenge("als", closes_at=time.time() + 50 * HOUR, at_close=FreezeMode.READ_ONLY, actor="chief")
    page = alice.get("/me").text
    assert "Closes in 2 days 2 h" in page
    assert "can only be read" in page
    assert 'deadline is-warning"' not in page
    web.store.set_challenge("als", closes_at=time.time() + 50, actor="chief")
    assert 'deadline is-warning"' in alice.get("/me").text
    web.store.set_challenge("als", closes_at=time.time() - HOUR, actor="chief")
    page = text(alice.get("/me").text)
    assert "Closed 1 h ago" in page
    assert "closed on" in page  # and so it cannot be started


def test_several_workspaces_are_summed_up_and_each_has_a_page(web: Web) -> None:
    web.store.add_workspace("als", "team", ["alice", "bob"], actor="test")
    alice = web.browser("alice")
    page = alice.get("/me").text
    assert "alice+als/team@" in page
    assert "with bob" in text(page)
    assert "Request a snapshot" not in page
    assert "SSH keys" in page
    team = alice.get(f"/me/workspaces/{web.workspace_id('team')}").text
    assert "Request a snapshot" in team
    assert "User alice+als/team" in team
    assert "All your workspaces" in team
    assert "SSH keys" not in team
    fragment = alice.get(f"/me/workspaces/{web.workspace_id('team')}/live", headers={"X-Fragment": "1"})
    assert "Request a snapshot" in fragment.text


# how much have I used


def test_use_is_told_as_meters_sentences_table_and_json(web: Web) -> None:
    number = running(web)
    alice = web.browser("alice")
    assert "Nothing is measured yet" in alice.get("/me").text
    looks(web)
    web.store.set_workspace_disk(number, 3 << 30)
    page = alice.get("/me").text
    assert "0.50 of 1 cores" in page
    assert "512.0 MiB of 2.0 GiB" in page
    assert "7 of 512" in page
    assert "3.0 GiB written to its disk" in text(page)
    assert '<meter min="0" max="1.0"' in page
    assert "0.50 cores on average, at most 0.50 of 1" in page
    assert page.count("<tr>") in (4, 5)  # the head and three or four hours
    web.store.set_workspace_state(number, WorkspaceState.STOPPED)
    page = alice.get("/me").text
    assert "<meter" not in page
    assert "It may use 1 cores, 2.0 GiB of memory and 512 processes." in page
    for name, rows in (("week", (2, 3)), ("month", (2, 3))):
        assert alice.get(f"/me?range={name}").text.count("<tr>") in rows
    found = alice.get(f"/me/workspaces/{number}/usage", headers={"Accept": "application/json"})
    assert "Accept" in found.headers["Vary"]
    data = found.get_json()
    assert data["step"] == 300
    assert 288 <= len(data["at"]) <= 290
    columns = [name for name in data if isinstance(data[name], list)]
    assert set(columns) == {"at", *usage.COLUMNS}
    assert {len(data[name]) for name in columns} == {len(data["at"])}
    assert data["cpus"][0] is None  # it did not run yesterday
    assert data["cpus"][-1] == 0.5
    assert data["disk"][-1] == 3 << 30
    assert data["limits"] == {"cpus": 1.0, "memory": 2 << 30, "processes": 512}
    web.store.set_workspace_limits(number, OwnLimits(cpus=4.0, pids=64), actor="chief")
    data = alice.get(f"/me/workspaces/{number}/usage", headers={"Accept": "application/json"}).get_json()
    assert data["limits"] == {"cpus": 4.0, "memory": 2 << 30, "processes": 64}
    assert "It may use 4 cores, 2.0 GiB of memory and 64 processes." in alice.get("/me").text


def test_use_has_a_page_and_ranges_that_nobody_knows_are_refused(web: Web) -> None:
    number = web.workspace_id("alice")
    alice = web.browser("alice")
    looks(web, hours=0.1)
    page = alice.get(f"/me/workspaces/{number}/usage?range=month").text
    assert '<details id="figures-' in page
    assert "Received" in page
    assert alice.get(f"/me/workspaces/{number}/usage?range=year").status_code == 400
    wrong = alice.get(f"/me/workspaces/{number}/usage?range=<b>", headers={"Accept": "application/json"})
    assert wrong.status_code == 400
    assert alice.get("/me?range=year").status_code == 200
    assert web.browser("bob").get(f"/me/workspaces/{number}/usage").status_code == 404


# start, stop, restart and reset


def test_a_member_starts_stops_and_restarts(web: Web) -> None:
    number = web.workspace_id("alice")
    alice = web.browser("alice")
    said = alice.post(f"/me/workspaces/{number}/start", follow_redirects=True).text
    assert "als/alice is being started." in said
    assert "Start by alice" in text(said)
    assert "Something is done to als/alice already: start." in said
    assert alice.post(f"/me/workspaces/{number}/start").status_code == 409
    [job] = web.store.jobs()
    assert (job.kind, job.requested_by) == (JobKind.START, "alice")
    finish_jobs(web.store)
    running(web)
    web.store.begin_session("alice", number, "shell", "192.0.2.1", "p", time.time())
    page = text(alice.get("/me").text)
    assert "Stop or restart…" in page
    assert "What is lost" in page
    assert "1 open session;" in page
    for action in ("stop", "restart"):
        assert alice.post(f"/me/workspaces/{number}/{action}").status_code == 302
        finish_jobs(web.store)
    assert [job.kind for job in web.store.jobs()] == [JobKind.RESTART, JobKind.STOP, JobKind.START]


def test_a_restore_that_waits_for_the_archive_keeps_nobody_from_starting(web: Web) -> None:
    number, alice, store = web.workspace_id("alice"), web.browser("alice"), web.store
    job = store.add_job(JobKind.RESTORE, number, actor="chief", arguments={"from": "als/alice:v1"})
    store.claim_job()
    assert alice.post(f"/me/workspaces/{number}/start").status_code == 409
    store.fail_job(job.id, "It does not answer.", 600, "archive")
    assert alice.post(f"/me/workspaces/{number}/stop").status_code == 409  # the restore would start it again
    assert alice.post(f"/me/workspaces/{number}/start").status_code == 302
    claimed = store.claim_job()
    assert claimed is not None
    assert claimed.kind is JobKind.START


def test_who_acts_too_often_is_told_to_wait_and_others_are_not(web: Web) -> None:
    alice = web.browser("alice")
    number = web.workspace_id("alice")
    statuses = []
    for _ in range(10):
        statuses.append(alice.post(f"/me/workspaces/{number}/stop").status_code)
        finish_jobs(web.store)
    assert statuses == [302] * 8 + [429] * 2
    assert len(web.store.jobs()) == 8
    page = alice.post(f"/me/workspaces/{number}/stop")
    assert "Try again in 1 min" in page.text
    assert web.browser("bob").post(f"/me/workspaces/{web.workspace_id('bob')}/stop").status_code == 302


def test_the_count_goes_down_with_time() -> None:
    now = [0.0]
    acts = Acts(lambda: now[0])
    for _ in range(8):
        acts.count("alice")
    with pytest.raises(Refused):
        acts.count("alice")
    now[0] += 90
    acts.count("alice")


def test_reset_says_what_is_lost_and_wants_the_name(web: Web) -> None:
    number = running(web)
    web.store.set_workspace_disk(number, 5 << 20)
    web.store.begin_session("alice", number, "shell", "192.0.2.1", "p", time.time())
    alice = web.browser("alice")
    page = text(alice.get(f"/me/workspaces/{number}/reset").text)
    assert "nothing is kept by itself (5.0 MiB written)" in page
    assert "all open sessions: 1 now" in page
    assert "There is no version of it yet." in page
    wrong = alice.post(f"/me/workspaces/{number}/reset", {"typed": "als/bob<b>"})
    assert wrong.status_code == 400
    assert "That is not the name." in wrong.text
    assert "als/bob&lt;b&gt;" in wrong.text
    assert web.store.jobs() == []
    assert alice.post(f"/me/workspaces/{number}/reset", {"typed": " als/alice "}).status_code == 302
    [job] = web.store.jobs()
    assert (job.kind, job.requested_by) == (JobKind.RESET, "alice")


def test_reset_counts_the_versions_that_are_kept_whatever_it_builds_on(web: Web) -> None:
    number = running(web)
    alice, chief = web.browser("alice"), web.browser("chief")

    def asked() -> str:
        return text(alice.get(f"/me/workspaces/{number}/reset").text)

    def admins(action: str = "reset") -> str:
        return text(chief.get(f"/admin/workspaces/{number}/{action}").text)

    assert "There is no version of it: what is in it cannot be restored" in admins()
    first = commit(web.store, "alice", "first", HOUR, 1 << 20)
    web.store.finish_archive(first.id, "sha256:a")
    for count in range(SHOWN):
        web.store.withdraw_snapshot(web.request("alice", f"try {count}"), actor="alice")
    assert "What v1 holds is kept; an administrator can restore it." in asked()
    finish_jobs(web.store)
    web.store.set_workspace_image(number, None, None)  # as a reset does
    assert "no version" not in asked()
    assert "1 version of it is kept" in asked()
    assert "To keep what is in it now as well, request a snapshot first" in asked()
    assert "a version can be restored later" in admins()
    second = commit(web.store, "alice", "second", HOUR / 2, 1 << 20)
    web.store.set_workspace_image(number, None, None)
    assert "2 versions of it are kept" in asked()
    web.store.prune_snapshot(first.id, actor="chief")
    assert "1 version of it is kept" in asked()
    assert "1 version stays in the archive" in admins("remove")
    web.store.finish_archive(second.id, "sha256:b")
    finish_jobs(web.store)
    web.store.prune_snapshot(second.id, actor="chief")
    assert "There is no version of it" in asked()
    assert "There is no version of it" in admins()


def test_what_another_workspace_was_is_not_called_its_version(web: Web) -> None:
    other = commit(web.store, "bob", "first", HOUR, 1 << 20)
    number = running(web)
    web.store.set_workspace_image(number, other.image_ref, other.id)
    assert "There is no version of it yet." in text(web.browser("alice").get(f"/me/workspaces/{number}/reset").text)


def test_a_reset_wants_a_fresh_proof_of_who_asks(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"/me/workspaces/{running(web)}/reset"
    alice = web.browser("alice")
    monkeypatch.setattr(session, "PROOF_SECONDS", 0.0)
    for answer in (alice.get(url), alice.post(url, {"typed": "als/alice"})):
        assert answer.status_code == 302
        assert answer.location.startswith("/confirm")
    assert web.store.jobs() == []


def test_reset_of_a_team_s_names_the_others_and_an_open_request(web: Web) -> None:
    web.store.add_workspace("als", "team", ["alice", "bob"], actor="test")
    number = web.workspace_id("team")
    request = web.store.request_snapshot(number, "m", actor="bob", via="ssh")
    alice = web.browser("alice")
    page = text(alice.get(f"/me/workspaces/{number}/reset").text)
    assert "the same of bob, who share it with you" in page
    assert "your open request would capture" in page
    web.store.approve_snapshot(request.id, actor="chief")
    finish_jobs(web.store)
    refused = alice.post(f"/me/workspaces/{number}/reset", {"typed": "als/team"})
    assert refused.status_code == 409
    assert "not yet committed" in refused.text
    assert all(job.kind is not JobKind.RESET for job in web.store.jobs())


@pytest.mark.parametrize("action", ["start", "restart", "reset"])
def test_nothing_is_started_or_reset_in_a_challenge_that_is_closed(web: Web, action: str) -> None:
    number = running(web)
    alice = web.browser("alice")
    web.store.set_challenge("als", closes_at=time.time() - 60, actor="chief")
    page = alice.post(f"/me/workspaces/{number}/{action}", {"typed": "als/alice"})
    assert page.status_code == 403
    assert "closed on" in page.text
    if action == "reset":
        assert "closed on" in alice.get(f"/me/workspaces/{number}/reset").text
    assert alice.post(f"/me/workspaces/{number}/stop").status_code == 302
    web.store.set_challenge("als", closes_at=None, actor="chief")
    finish_jobs(web.store)
    web.store.begin_freeze("als", FreezeMode.READ_ONLY, actor="chief")
    finish_jobs(web.store)
    web.store.set_read_only(number, True)
    page = alice.post(f"/me/workspaces/{number}/{action}", {"typed": "als/alice"})
    assert page.status_code == (403 if action == "reset" else 302)


def test_members_read_who_of_them_stopped_it(world: World) -> None:  # noqa: F811
    world.add_job(JobKind.START)
    world.work()
    for actor, kind, said in (
        ("alice", JobKind.STOP, "stopped by alice"),
        ("chief", JobKind.STOP, "stopped by an administrator"),
        ("alice", JobKind.RESET, "reset by alice"),
    ):
        world.lifecycle.ensure_running(world.id)
        world.store.add_job(kind, world.id, actor=actor)
        world.work()
        assert world.workspace.state_detail == said
    assert {job.state for job in world.store.jobs()} == {JobState.DONE}


# what happened to my submission


def test_a_version_s_timeline(web: Web) -> None:
    web.store.set_challenge("als", downloads=True, actor="chief")
    with ago(3 * HOUR):
        request = web.request("alice", "first")
    alice = web.browser("alice")
    page = text(alice.get("/me").text)
    assert "Requested 3 h ago by alice over ssh An administrator decides It is committed as a version" in page
    with ago(2 * HOUR):
        web.store.approve_snapshot(request, actor="chief")
        web.store.begin_commit(request)
        web.store.set_paused(request, 0.2)
    with ago(HOUR):
        web.store.finish_commit(request, "als/alice:v1", "sha256:1", ("sha256:2",), 5 << 20)
    web.store.finish_archive(request, "sha256:3")
    web.store.finish_push(request, "registry.example/als/alice:v1")
    finish_jobs(web.store)
    page = text(alice.get("/me").text)
    for step in (
        "Approved 2 h ago by chief",
        "Committed 1 h ago , 5.0 MiB, it stood still for less than a second",
        "Archived just now",
        "Pushed just now as registry.example/als/alice:v1",
        "what your files build on",
        "Download v1",
    ):
        assert step in page
    assert "to-come" not in alice.get("/me").text


def test_a_rejection_a_withdrawal_and_an_approval_by_rule(web: Web) -> None:
    alice = web.browser("alice")
    rejected = web.request("alice", "one")
    web.store.reject_snapshot(rejected, HOSTILE.replace("\u202e", ""), actor="chief")
    withdrawn = web.request("alice", "two")
    web.store.withdraw_snapshot(withdrawn, actor="alice")
    web.store.set_challenge("als", auto_approve=2, actor="chief")
    assert "approves 2 more requests of yours today by itself" in alice.get("/me").text
    number = web.workspace_id("alice")
    alice.post(f"/me/workspaces/{number}/snapshots", {"message": "three"})
    page = text(alice.get("/me").text)
    assert "Rejected just now by chief" in page
    assert "Withdrawn just now by alice" in page
    assert "Approved just now by the challenge's own rule" in page.replace("&#39;", "'")
    assert "<script>alert" not in alice.get("/me").text


def test_what_is_captured_is_said_before_it_is_asked_for(web: Web) -> None:
    number = web.workspace_id("alice")
    web.store.set_workspace_disk(number, 7 << 20)
    page = text(web.browser("alice").get("/me").text)
    assert page.index("Captured:") < page.index("What is this version?")
    assert "Changed so far: 7.0 MiB (seen just now )" in page
    assert "Not captured: running programs and what they have in memory, sockets" in page
    assert "the data at /data" in page


def test_older_versions_unfold(web: Web) -> None:
    for number in range(11):
        web.store.withdraw_snapshot(web.request("alice", f"try {number}"), actor="alice")
    page = web.browser("alice").get("/me").text
    assert "3 older ones" in page
    assert page.index("try 3") < page.index("3 older ones") < page.index("try 2<")


# sessions


def test_own_sessions_are_ended_and_nobody_else_s(web: Web) -> None:
    number = running(web)
    web.store.add_workspace("als", "team", ["alice", "bob"], actor="test")
    mine = web.store.begin_session("alice", number, "shell", HOSTILE, "p", time.time())
    theirs = web.store.begin_session("bob", web.workspace_id("team"), "exec", "192.0.2.2", "p", time.time())
    alice = web.browser("alice")
    page = alice.get("/me/sessions")
    assert "&lt;script&gt;alert(1)" in page.text
    assert "\u202e" not in page.text
    assert f"/me/sessions/{mine}/end" in page.text
    assert f"/me/sessions/{theirs}/end" not in alice.get(f"/me/workspaces/{web.workspace_id('team')}").text
    assert alice.post(f"/me/sessions/{theirs}/end").status_code == 404
    assert alice.post("/me/sessions/99999/end").status_code == 404
    assert web.store.session(theirs).ended_at is None
    page = alice.post(f"/me/sessions/{mine}/end", follow_redirects=True)
    assert "The session ends within two seconds." in page.text
    assert web.store.session(mine).ended_at is not None
    assert web.store.events(kind="session.killed")[0].actor == "alice"
    assert alice.post(f"/me/sessions/{mine}/end").status_code == 409


def test_past_sessions_come_in_pages(web: Web) -> None:
    number = web.workspace_id("alice")
    assert "No session yet" in web.browser("alice").get("/me/sessions").text
    now = time.time()
    for at in range(60):
        web.store.end_session(
            web.store.begin_session("alice", number, "exec", f"192.0.2.{at}", "p", now + at), now + at + 90
        )
    web.store.begin_session("bob", web.workspace_id("bob"), "exec", "198.51.100.1", "p", now)
    web.store.begin_session("alice", number, "exec", "203.0.113.9", "p", now - 1e6)  # of somebody who had the name
    alice = web.browser("alice")
    page = text(alice.get("/me/sessions").text)
    assert "Displaying 1–50 of 60" in page
    assert "192.0.2.59" in page
    assert "1 min 30 s" in page
    page = text(alice.get("/me/sessions?page=2").text)
    assert "Displaying 51–60 of 60" in page
    assert "198.51.100.1" not in page
    assert "203.0.113.9" not in page
    for odd in ("0", "-1", "x", str(10**30)):
        assert alice.get(f"/me/sessions?page={odd}").status_code == 200


def test_messages_and_names_from_outside_are_shown_as_text(web: Web) -> None:
    number = running(web)
    web.store.set_workspace_state(number, WorkspaceState.STOPPED, HOSTILE)
    alice = web.browser("alice")
    message = HOSTILE.replace("\u202e", "") + "W" * 900
    alice.post(f"/me/workspaces/{number}/snapshots", {"message": message})
    page = alice.get("/me").text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 2
    assert "\u202eevil" not in page


def test_an_administrator_without_a_workspace_has_an_empty_page(web: Web) -> None:
    page = web.browser("chief").get("/me").text
    assert "No workspace yet" in page
    assert "Participants get theirs when they are added." in page
    assert "Add a public key" in page
