"""What people do on the pages, with JavaScript off: forms, redirects, and what the next page says."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

import pytest

from tests.support.sample import HOUR, ago, fill, finish_jobs, public_key, report
from tests.support.web import CHEAP_HASH, PASSWORD, Web, make_settings, open_web, web_fixture  # noqa: F401
from workspaces.heartbeat import LOCK
from workspaces.model import JobKind, JobState, SnapshotState, WorkspaceState
from workspaces.store import Store

pytestmark = pytest.mark.slow


def text(html: str) -> str:
    """A page as read: no tags, single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_request_approve_commit_restore(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    space = web.workspace_id("alice")
    page = alice.post(f"/me/workspaces/{space}/snapshots", {"message": "line one\r\nline two"}, follow_redirects=True)
    assert "Your request is in the queue." in page.text
    [request] = web.store.snapshots(states=[SnapshotState.REQUESTED])
    assert (request.message, request.requested_by, request.requested_via) == ("line one\nline two", "alice", "web")
    assert "being listed" in text(chief.get("/admin/").text)

    web.store.set_changes(
        request.id, report(0, [("added", "/root/model", 5 << 20)], warnings=("/root/.netrc holds a password.",))
    )
    finish_jobs(web.store)
    page = chief.get("/admin/")
    assert "+1 added" in text(page.text)
    assert "5.0 MiB since" in text(page.text)
    assert "/root/.netrc holds a password." in page.text
    assert "/root/.netrc holds a password." in alice.get("/me").text

    page = chief.post(f"/admin/snapshots/{request.id}/approve", follow_redirects=True)
    assert "All decided" in page.text
    assert "Approved just now by chief" in text(alice.get("/me").text)
    job = web.store.claim_job(set())
    assert job is not None
    web.store.begin_commit(request.id)
    web.store.job_progress(job.id, 0.4, "writing the layer")
    for browser, path in (
        (alice, "/me/live"),
        (chief, "/admin/live"),
        (chief, "/admin/jobs/live"),
        (chief, f"/admin/workspaces/{space}/live"),
    ):
        fragment = browser.get(path, headers={"X-Fragment": "1"}).text
        assert "writing the layer" in fragment, path
        assert 'value="40"' in fragment, path
        assert "data-moving" in fragment, path
        assert "<html" not in fragment, path
    web.store.finish_commit(request.id, "als/alice:v1", "sha256:1", ("sha256:2",), 1234567)
    web.store.finish_job(job.id, "committed")
    assert "v1" in text(alice.get("/me").text)
    assert "1.2 MiB" in text(alice.get("/me").text)
    web.store.finish_archive(request.id, "sha256:3")
    web.store.finish_push(request.id, "registry.example/als/alice:v1")
    assert "Registry registry.example/als/alice:v1" in text(chief.get(f"/admin/snapshots/{request.id}").text)

    page = chief.get(f"/admin/snapshots/{request.id}/restore")
    assert "What is lost" in page.text
    page = chief.post(f"/admin/snapshots/{request.id}/restore", {"typed": "als/alice"}, follow_redirects=True)
    assert "als/alice is being restored to v1." in page.text
    [restore] = [j for j in web.store.jobs() if j.kind is JobKind.RESTORE]
    assert (restore.snapshot_id, restore.requested_by, restore.state) == (request.id, "chief", JobState.QUEUED)
    assert "Restore by chief" in text(alice.get("/me").text)


def test_a_rejection_and_its_reason(web: Web) -> None:
    request = web.request("bob", "final")
    bob, chief = web.browser("bob"), web.browser("chief")
    page = chief.post(f"/admin/snapshots/{request}/reject", {"reason": "   "})
    assert page.status_code == 400
    assert "A rejection needs a reason." in page.text
    assert web.store.snapshot(request).state == "requested"
    page = chief.post(
        f"/admin/snapshots/{request}/reject", {"reason": "no ids in\r\npredictions.csv"}, follow_redirects=True
    )
    assert "Rejected." in page.text
    page = bob.get("/me")
    assert "no ids in\npredictions.csv" in page.text
    assert "rejected" in page.text
    assert "What is this version?" in page.text  # he may ask again


def test_a_request_can_be_withdrawn_until_it_is_decided(web: Web) -> None:
    first = web.request("alice")
    alice = web.browser("alice")
    assert "Withdraw the request" in alice.get("/me").text
    page = alice.post(f"/me/snapshots/{first}/withdraw", follow_redirects=True)
    assert "The request is withdrawn." in page.text
    second = web.request("alice")
    web.store.approve_snapshot(second, actor="chief")
    page = alice.post(f"/me/snapshots/{second}/withdraw")
    assert page.status_code == 409
    assert "Not possible now" in page.text


def test_two_administrators_approve_at_once(web: Web) -> None:
    request = web.request("alice")
    one, two = web.browser("chief"), web.browser("chief")
    assert one.post(f"/admin/snapshots/{request}/approve").status_code == 302
    assert two.post(f"/admin/snapshots/{request}/approve").status_code == 409
    assert len([j for j in web.store.jobs() if j.kind is JobKind.COMMIT]) == 1


def test_a_second_request_keeps_what_was_typed(web: Web) -> None:
    alice = web.browser("alice")
    url = f"/me/workspaces/{web.workspace_id('alice')}/snapshots"
    page = alice.post(url, {"message": "x" * 1001})
    assert page.status_code == 400
    assert "x" * 1001 in page.text
    assert "1000 are allowed" in page.text
    assert "data-live" not in page.text  # a poll would take the error and the text away
    assert alice.post(url, {"message": " \n"}).status_code == 400
    assert alice.post(url, {"message": "a\x07b"}).status_code == 400
    web.request("alice")
    page = alice.post(url, {"message": "another"})
    assert page.status_code == 409
    assert web.store.snapshots(states=[SnapshotState.REQUESTED])[0].message == "first submission"


def test_keys_are_added_and_removed(web: Web) -> None:
    bob = web.browser("bob")
    fingerprint, line = public_key("bob@desk")
    page = bob.post("/me/keys", {"key": f"  {line}\r\n"}, follow_redirects=True)
    assert fingerprint in page.text
    assert "bob@desk" in page.text
    assert "never used" in page.text
    web.store.touch_key(fingerprint, "198.51.100.7")
    assert "198.51.100.7" in bob.get("/me").text
    [key] = web.store.keys("bob")
    assert fingerprint not in bob.post(f"/me/keys/{key.id}/remove", follow_redirects=True).text
    assert web.store.keys("bob") == []


@pytest.mark.parametrize(
    "key", ["", "nonsense", "ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----\r\nabc\r\n-----END", "{alice}"]
)
def test_a_bad_key_is_refused_with_the_reason(web: Web, key: str) -> None:
    bob = web.browser("bob")
    page = bob.post("/me/keys", {"key": key.format(alice=public_key("alice@laptop")[1])})
    assert page.status_code in (400, 409)
    assert 'id="key-error"' in page.text
    assert web.store.keys("bob") == []


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"current": PASSWORD, "new": "short", "again": "short"}, "8 to 1024"),
        ({"current": PASSWORD, "new": "long enough 1", "again": "long enough 2"}, "differ"),
        ({"current": "wrong", "new": "long enough 1", "again": "long enough 1"}, "current password is wrong"),
    ],
)
def test_a_password_is_only_changed_by_its_owner_and_by_the_rule(web: Web, form: dict[str, str], says: str) -> None:
    before = web.store.password_hash("bob")
    page = web.browser("bob").post("/me/password", form)
    assert page.status_code in (400, 403)
    assert says in page.text
    assert web.store.password_hash("bob") == before


def test_an_administrator_adds_a_participant(web: Web) -> None:
    chief = web.browser("chief")
    fingerprint, line = public_key("dora@laptop")
    form = {"name": "dora", "challenge": "als", "password": "a long password", "key": line}
    page = chief.post("/admin/users", form, follow_redirects=True)
    assert "dora is added" in page.text
    assert fingerprint in page.text
    assert web.store.workspaces_of("dora")[0].ref == "als/dora"
    assert web.browser().sign_in("dora", "a long password").status_code == 302
    assert chief.post("/admin/users", form).status_code == 409


@pytest.mark.parametrize(
    "change",
    [
        *({"name": name} for name in ("Dora", "../etc", "")),
        *({"password": password} for password in ("short", "")),
        {"key": "x", "password": ""},
        {"challenge": "none"},
    ],
)
def test_nothing_is_half_added(web: Web, change: dict[str, str]) -> None:
    chief = web.browser("chief")
    users, spaces = web.store.users(), web.store.workspaces()
    page = chief.post("/admin/users", {"name": "dora", "challenge": "als", "password": "a long password", **change})
    assert page.status_code in (400, 404)
    assert 'id="add-error"' in page.text
    assert 'value="short"' not in page.text  # a password is never sent back
    assert (web.store.users(), web.store.workspaces()) == (users, spaces)


def test_disabling_and_enabling(web: Web) -> None:
    chief = web.browser("chief")
    assert "Enable the account" in chief.post("/admin/users/bob/disable", follow_redirects=True).text
    assert web.store.user("bob").disabled
    assert "Disable the account" in chief.post("/admin/users/bob/enable", follow_redirects=True).text
    assert chief.post("/admin/users/chief/disable").status_code == 409
    assert not web.store.user("chief").disabled


def test_actions_on_a_workspace_are_jobs(web: Web) -> None:
    chief = web.browser("chief")
    space = web.workspace_id("alice")
    for action in ("start", "stop", "restart"):
        page = chief.post(
            f"/admin/workspaces/{space}/{action}", headers={"Referer": "http://localhost/admin/workspaces"}
        )
        assert page.location == "/admin/workspaces"
    assert chief.post(f"/admin/workspaces/{space}/explode").status_code == 404
    assert "What is lost" in chief.get(f"/admin/workspaces/{space}/reset").text
    for typed in ("", "alice", "als/bob", "x" * 1000, "<b>"):
        page = chief.post(f"/admin/workspaces/{space}/reset", {"typed": typed})
        assert page.status_code == 400
        assert "Type als/alice; nothing was done yet." in page.text
    chief.post(f"/admin/workspaces/{space}/reset", {"typed": " als/alice "})
    jobs = [(j.kind, j.requested_by) for j in web.store.jobs()]
    assert jobs == [(k, "chief") for k in (JobKind.RESET, JobKind.RESTART, JobKind.STOP, JobKind.START)]


def test_a_foreign_referrer_leads_nowhere(web: Web) -> None:
    space = web.workspace_id("alice")
    for referrer in ("http://evil.example/x", "//evil.example", "http://localhost//evil.example", "http://[", "x"):
        page = web.browser("chief").post(f"/admin/workspaces/{space}/start", headers={"Referer": referrer})
        assert page.location == f"/admin/workspaces/{space}"


def test_failed_things_say_why_and_can_be_tried_again(web: Web) -> None:
    chief, alice = web.browser("chief"), web.browser("alice")
    request = web.request("alice")
    finish_jobs(web.store)
    web.store.approve_snapshot(request, actor="chief")
    job = web.store.claim_job(set())
    assert job is not None
    web.store.fail_job(job.id, "The disk is full.", None)
    web.store.fail_snapshot(request, "The disk is full.")
    web.store.set_workspace_state(web.workspace_id("alice"), WorkspaceState.FAILED, "ran out of memory (2.0 GiB)")
    for browser, path in (
        (chief, "/admin/"),
        (chief, "/admin/jobs"),
        (chief, f"/admin/snapshots/{request}"),
        (alice, "/me"),
    ):
        assert "The disk is full." in browser.get(path).text, path
    for browser, path in ((chief, "/admin/workspaces"), (chief, "/admin/workspaces/1"), (alice, "/me")):
        assert "ran out of memory (2.0 GiB)" in browser.get(path).text, path
    chief.post(f"/admin/snapshots/{request}/retry")
    assert web.store.snapshot(request).state == "approved"
    assert chief.post(f"/admin/snapshots/{request}/retry").status_code == 409


def test_look_again_lists_the_changes_anew(web: Web) -> None:
    request = web.request("alice")
    finish_jobs(web.store)
    chief = web.browser("chief")
    chief.post(f"/admin/snapshots/{request}/inspect")
    job = web.store.jobs()[0]
    assert (job.kind, job.snapshot_id, job.state) == (JobKind.INSPECT, request, JobState.QUEUED)
    assert "looking…" in chief.get("/admin/").text
    web.store.reject_snapshot(request, "no", actor="chief")
    assert chief.post(f"/admin/snapshots/{request}/inspect").status_code == 409


def test_only_a_version_can_be_restored(web: Web) -> None:
    request = web.request("alice")
    chief = web.browser("chief")
    assert chief.get(f"/admin/snapshots/{request}/restore").status_code == 409
    assert chief.post(f"/admin/snapshots/{request}/restore").status_code == 409


def test_a_pruned_version_says_so_and_cannot_be_restored(web: Web) -> None:
    request = web.request("alice")
    web.store.approve_snapshot(request, actor="chief")
    web.store.begin_commit(request)
    web.store.finish_commit(request, "als/alice:v1", "sha256:1", ("sha256:2",), 5)
    web.store.finish_archive(request, "sha256:3")
    chief, alice = web.browser("chief"), web.browser("alice")
    assert f"/admin/snapshots/{request}/restore" in chief.get(f"/admin/snapshots/{request}").text
    while (job := web.store.claim_job()) is not None:
        web.store.finish_job(job.id, "done")
    web.store.pin_snapshot(request, True, actor="chief")
    assert "Pinned" in chief.get(f"/admin/snapshots/{request}").text
    web.store.pin_snapshot(request, False, actor="chief")
    space = web.store.snapshot(request).workspace_id
    web.store.set_workspace_image(space, None, None)  # reset: it does not stand on it any more
    web.store.prune_snapshot(request, actor="chief")
    for path in (f"/admin/snapshots/{request}", f"/admin/workspaces/{space}"):
        page = chief.get(path).text
        assert "runed" in page
        assert f"/admin/snapshots/{request}/restore" not in page
    assert "its files are not kept" in text(alice.get("/me").text)
    answer = chief.post(f"/admin/snapshots/{request}/restore")
    assert answer.status_code == 404
    assert "was pruned on" in text(answer.text)
    assert not [job for job in web.store.jobs() if job.kind is JobKind.RESTORE]


def test_jobs_that_nobody_takes_up_are_noticed(web: Web) -> None:
    chief = web.browser("chief")
    job = web.store.add_job(JobKind.START, web.workspace_id("alice"), actor="chief")
    assert "No worker runs" in chief.get("/admin/jobs").text
    with (web.settings.locks / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "orker" not in chief.get("/admin/jobs").text
        os.utime(lock.name, (0, 0))
        assert "The worker has shown no life for" in chief.get("/admin/jobs").text
    page = chief.post(f"/admin/jobs/{job.id}/cancel", follow_redirects=True)
    assert "No worker runs" not in page.text
    assert "cancelled" in page.text


def test_a_jobs_page_shows_how_far_it_is_and_what_it_did(web: Web) -> None:
    chief = web.browser("chief")
    request = web.request("alice")
    job = web.store.approve_snapshot(request, actor="chief")
    finish_jobs(web.store, JobKind.INSPECT)
    assert web.store.claim_job() is not None
    path = f"/admin/jobs/{job.id}"
    web.store.job_progress(job.id, 0.999, "Packing <b>", (6 << 28, 2 << 30), time.time() + 42)
    page = chief.get(path).text
    assert "Packing &lt;b&gt;<" in page
    assert ">1.5 of 2.0 GiB, about 40 s left<" in page
    assert "99 %" in page
    assert re.search(r"UTC</span><p[^>]*>Begun\.</p>", page)
    assert f'href="{path}"' in chief.get("/admin/jobs").text
    chief.post(f"{path}/cancel")
    page = chief.get(path + "/live").text
    assert "chief cancels it" in page
    assert ">cancelling<" in page
    assert "Cancel</button>" not in page
    web.store.stop_job(job.id, "Cancelled by chief.")
    page = chief.get(path).text
    assert "%" not in page.split("</section>")[0].split("<main")[1]
    assert page.count("Cancelled by chief.") == 2  # as the outcome, and in the log


def test_a_job_without_news_is_stalled_and_one_that_waits_says_until_when(web: Web) -> None:
    chief = web.browser("chief")
    with ago(HOUR):
        job = web.store.add_job(JobKind.START, web.workspace_id("alice"), actor="chief")
        web.store.claim_job()
    page = chief.get("/admin/jobs").text
    assert ">stalled<" in page
    assert "no news since" in page
    web.store.fail_job(job.id, "engine away", retry_in=600)
    retry_at = web.store.job(job.id).retry_at
    said = time.strftime("tried again at %H:%M:%S UTC, 1 try so far: engine away", time.gmtime(retry_at))
    assert said in text(chief.get("/admin/jobs").text).replace(" : ", ": ")


def test_what_waits_for_an_outage_says_for_what(web: Web) -> None:
    chief = web.browser("chief")
    job = web.store.add_job(JobKind.START, web.workspace_id("alice"), actor="chief")
    web.store.claim_job()
    web.store.fail_job(job.id, "It does not answer.", 600, "engine")
    for path in ("/admin/jobs", f"/admin/jobs/{job.id}"):
        page = chief.get(path).text
        assert ">waiting<" in page
        assert "waits for the engine since" in page
    assert "Retry all that failed" not in chief.get("/admin/jobs").text


def test_all_that_failed_is_retried_by_one_button(web: Web) -> None:
    chief = web.browser("chief")
    web.request("alice")
    inspect = web.store.claim_job()
    reset = web.store.add_job(JobKind.RESET, web.workspace_id("bob"), actor="chief")
    assert inspect is not None
    assert web.store.claim_job() is not None
    for job in (inspect, reset):
        web.store.fail_job(job.id, "no", None)
    assert "Retry all that failed" in chief.get("/admin/jobs").text
    chief.post("/admin/jobs/retry-failed")
    assert web.store.job(inspect.id).state is JobState.QUEUED
    assert web.store.job(reset.id).state is JobState.FAILED
    page = chief.get("/admin/jobs").text
    assert "1 failed job is queued again." in page
    assert f"or cannot be retried: {reset.id}." in page


def test_news_on_the_page_until_they_are_read(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    assert 'id="news"' not in alice.get("/me").text
    number = web.request("alice", "<i>one</i>")
    assert 'title="unread news">1<' in chief.get("/admin/jobs").text
    page = chief.get("/me").text
    assert (
        f'<a href="/admin/snapshots/{number}">alice asks for a snapshot of als/alice: &lt;i&gt;one&lt;/i&gt;</a>'
        in page
    )
    web.store.reject_snapshot(number, "not <b>yet</b>", actor="chief")
    assert "unread news" not in chief.get("/admin/jobs").text
    page = alice.get("/me/live").text
    assert "rejected by chief: not &lt;b&gt;yet&lt;/b&gt;" in page
    assert ">1 unread<" in page
    [told] = web.store.news("alice")
    later = web.request("alice")
    web.store.reject_snapshot(later, "again", actor="chief")
    alice.post(f"/me/news/{told.id}/read")
    page = alice.get("/me").text
    assert ">1 unread<" in page  # what came after the page was made
    alice.post(f"/me/news/{web.store.news('alice')[0].id}/read")
    page = alice.get("/me").text
    assert "rejected by chief: again" in page
    assert "unread" not in page


# polling


@pytest.mark.parametrize(
    "path", ["/admin/live", "/admin/workspaces/live", "/admin/jobs/live", "/admin/workspaces/1/live"]
)
def test_a_poll_without_news_is_304(web: Web, path: str) -> None:
    web.request("alice")
    chief = web.browser("chief")
    first = chief.get(path, headers={"X-Fragment": "1"})
    again = chief.get(path, headers={"X-Fragment": "1", "If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
    spent = [float(answer.headers["Server-Timing"].removeprefix("cpu;dur=")) for answer in (first, again)]
    assert spent[0] > spent[1] > 0, "the script asks the more seldom, the more it costs"
    web.store.set_workspace_state(1, WorkspaceState.RUNNING)
    job = web.store.add_job(JobKind.RESTART, 1, actor="chief")
    web.store.reject_snapshot(web.store.snapshots(states=[SnapshotState.REQUESTED])[0].id, "no", actor=f"chief{job.id}")
    assert chief.get(path, headers={"X-Fragment": "1", "If-None-Match": first.headers["ETag"]}).status_code == 200


def test_a_poll_after_a_change_elsewhere_is_304_with_the_new_tag(web: Web) -> None:
    with ago(3):  # tokens are signed anew each second
        web.request("alice")
        chief = web.browser("chief")
        tag = chief.get("/admin/live").headers["ETag"]
    web.store.touch_login(web.workspace_id("bob"))
    again = chief.get("/admin/live", headers={"If-None-Match": tag})
    assert again.status_code == 304
    assert again.headers["ETag"] != tag
    other = web.browser("chief").get("/admin/live", headers={"If-None-Match": tag})
    assert other.status_code == 200  # another session needs other tokens in its forms


def bare(html: str) -> str:
    """Markup without spaces and tokens."""
    return re.sub(r"\s+|value=\"[^\"]*\"", "", html)


def test_a_live_region_has_the_markup_of_its_page(web: Web) -> None:
    web.request("alice")
    chief = web.browser("chief")
    for path in ("/admin/", "/admin/workspaces", "/admin/jobs", "/admin/workspaces/1", "/admin/snapshots/1"):
        page = chief.get(path).text
        [live] = re.findall(r'data-live="([^"]+)"', page)
        assert bare(chief.get(live).text) in bare(page), path


def test_without_javascript_there_is_a_link_to_reload_while_something_moves(web: Web) -> None:
    alice = web.browser("alice")
    assert "<noscript>" not in alice.get("/me").text
    web.store.add_job(JobKind.RESTART, web.workspace_id("alice"), actor="chief")
    assert '<noscript><p class="quiet">Something is under way. <a href="">Reload</a>' in alice.get("/me").text


def test_the_ssh_line(web: Web, tmp_path: Path) -> None:
    assert "ssh -p 2222 alice@gate.example.org" in web.browser("alice").get("/me").text
    web.store.add_workspace("als", "team", ["alice", "bob"], actor="test")
    page = web.browser("alice").get("/me").text
    assert "ssh -p 2222 alice+als/alice@gate.example.org" in page
    assert "ssh -p 2222 alice+als/team@gate.example.org" in page


def test_the_sample_data_is_shown_in_full(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    store = Store.open(make_settings(tmp_path / "s").database)
    fill(store, CHEAP_HASH)
    store.close()
    web = open_web(tmp_path / "s")
    page = text(web.browser("chief").get("/admin/").text)
    assert "3 requests wait, oldest first" in page
    assert page.index("als/kofi") < page.index("als/deniz") < page.index("als/bob")
    assert "64 % writing the layer" in page
    web.store.close()


def test_head_does_what_get_does_and_nothing_more(web: Web) -> None:
    chief, space = web.browser("chief"), web.workspace_id("alice")
    session = web.store.begin_session("alice", space, "shell", "192.0.2.7", "p", time.time())
    known = {"session_id": session, "workspace_id": space, "slug": "als", "snapshot_id": web.request("alice")}
    urls, asked = web.app.url_map.bind("localhost"), 0
    for rule in web.app.url_map.iter_rules():
        if {"GET", "POST"} <= (rule.methods or set()) and rule.arguments <= known.keys():
            url = urls.build(rule.endpoint, {name: known[name] for name in rule.arguments})
            page = chief.get(url)
            before = web.store.data_version()
            head = chief.client.head(url)
            assert (head.status_code, head.data) == (page.status_code, b""), url
            assert head.content_length == len(page.data) or "csrf" in page.text, url
            assert web.store.data_version() == before, f"HEAD {url} changes something"
            asked += 1
    assert asked > 8
