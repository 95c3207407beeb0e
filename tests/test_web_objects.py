"""Pages of one workspace, challenges, images, archive and jobs, with JavaScript off."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from tests.support.api import program
from tests.support.sample import finish_jobs, report
from tests.support.web import Web, web_fixture  # noqa: F401
from tests.test_web_downloads import archived
from workspaces.model import (
    BaseImage,
    Forwarding,
    FreezeMode,
    FrozenState,
    ImageFinding,
    Job,
    JobKind,
    JobState,
    Limits,
    Mount,
    Network,
    OwnLimits,
    Role,
    WorkspaceState,
)

pytestmark = pytest.mark.slow

HOSTILE = '<script>alert("x")</script>\u202e& \'"'


def text(html: str) -> str:
    """A page as read: no tags, single spaces."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


def version(web: Web, name: str, message: str = "first") -> int:
    """A version of als/name that the store takes for archived; its snapshot's id."""
    store, request = web.store, web.request(name, message)
    store.approve_snapshot(request, actor="chief")
    store.begin_commit(request)
    number = store.snapshot(request).version
    store.finish_commit(request, f"als/{name}:v{number}", f"sha256:{request}", (f"sha256:{request}",), 1 << 20)
    store.finish_archive(request, f"sha256:{request:064}", "{}" if number == 1 else None)
    finish_jobs(store)
    return request


def job_of(web: Web, kind: JobKind) -> Job:
    return next(job for job in web.store.jobs() if job.kind is kind)


def test_limits_of_one_workspace(web: Web) -> None:
    chief, space = web.browser("chief"), web.workspace_id("alice")
    url = f"/admin/workspaces/{space}"
    page = chief.post(f"{url}/limits", {"cpus": "2", "memory": "4g", "pids": ""}, follow_redirects=True)
    assert "gets these limits now" in page.text
    assert "2 cores, 4.0 GiB memory, 512 processes of its own" in text(page.text)
    assert web.store.workspace(space).own_limits == OwnLimits(cpus=2.0, memory=4 << 30)
    job = job_of(web, JobKind.LIMITS)
    assert (job.workspace_id, job.requested_by, job.state) == (space, "chief", JobState.QUEUED)
    page = chief.post(f"{url}/limits", {"cpus": HOSTILE, "memory": "4g"})
    assert page.status_code == 400
    assert "is no number of cores" in text(page.text)
    assert "<script>alert" not in page.text
    assert 'value="4g"' in page.text  # what was typed stays
    assert "data-live" not in page.text
    assert chief.post(f"{url}/limits", {"memory": "1k"}).status_code == 400
    page = chief.post(f"{url}/limits", {"default": "yes", "cpus": "9"}, follow_redirects=True)
    assert web.store.workspace(space).own_limits == OwnLimits()
    assert "of its own" not in text(page.text)


def test_members_come_and_go(web: Web) -> None:
    chief, space = web.browser("chief"), web.workspace_id("alice")
    url = f"/admin/workspaces/{space}"
    page = chief.post(f"{url}/members", {"name": " bob "}, follow_redirects=True)
    assert "bob is a member" in page.text
    assert web.store.workspace(space).members == ("alice", "bob")
    for name, status in (("", 400), ("bob", 409), ("nobody", 404), (HOSTILE, 404)):
        page = chief.post(f"{url}/members", {"name": name})
        assert page.status_code == status, name
        assert "<script>alert" not in page.text
    web.store.begin_session("bob", space, "shell", "192.0.2.1", "test:1", 1.0)
    page = chief.get(f"{url}/members/bob/remove")
    assert "1 session of bob ends now" in page.text
    assert web.store.workspace(space).members == ("alice", "bob")
    assert chief.post(f"{url}/members/bob/remove").status_code == 302
    assert web.store.workspace(space).members == ("alice",)
    assert "Nobody is left" in chief.get(f"{url}/members/alice/remove").text
    assert chief.get(f"{url}/members/bob/remove").status_code == 404


def test_sessions_now_and_past_are_on_the_page(web: Web) -> None:
    space = web.workspace_id("alice")
    first = web.store.begin_session("alice", space, "shell", "192.0.2.1", "test:1", 1.0)
    web.store.end_session(first, 1.5)
    web.store.begin_session("alice", space, "sftp", "198.51.100.9", "test:1", 2.0)
    page = text(web.browser("chief").get(f"/admin/workspaces/{space}").text)
    assert "shell from 192.0.2.1" in page
    assert "open alice sftp from 198.51.100.9" in page


def test_its_page_leads_to_all_its_sessions_and_events(web: Web) -> None:
    number = web.workspace_id("alice")
    web.store.end_session(web.store.begin_session("alice", number, "shell", "192.0.2.9", "p", 1.0), 2.0)
    web.store.set_challenge_role("bob", "als", Role.REVIEWER, actor="chief")
    for who, event in (("chief", True), ("bob", False)):
        browser = web.browser(who)
        links = re.findall(r'class="push" href="([^"]+)">Show all', browser.get(f"/admin/workspaces/{number}").text)
        pages = [text(browser.get(unescape(link)).text) for link in links]
        assert any("192.0.2.9" in page for page in pages)
        assert any(link.startswith("/admin/events") for link in links) is event
        assert not event or any("als/alice" in page and "Audit" in page for page in pages)


def test_removing_a_workspace_asks_for_its_name(web: Web) -> None:
    chief, space = web.browser("chief"), web.workspace_id("alice")
    version(web, "alice")
    page = chief.get(f"/admin/workspaces/{space}/remove")
    assert "1 version stays in the archive" in page.text
    assert "What is lost" in page.text
    page = chief.post(f"/admin/workspaces/{space}/remove", {"typed": "als/bob"})
    assert page.status_code == 400
    assert 'value="als/bob"' in page.text
    assert not [job for job in web.store.jobs() if job.kind is JobKind.REMOVE]
    assert chief.post(f"/admin/workspaces/{space}/remove", {"typed": "als/alice"}).location == "/admin/workspaces"
    assert job_of(web, JobKind.REMOVE).workspace_id == space
    pending = web.request("bob")
    web.store.approve_snapshot(pending, actor="chief")
    assert chief.get(f"/admin/workspaces/{web.workspace_id('bob')}/remove").status_code == 409


def test_what_has_changed_now_without_a_request(web: Web) -> None:
    chief, space = web.browser("chief"), web.workspace_id("alice")
    url = f"/admin/workspaces/{space}/changes"
    assert "Nobody has looked yet" in chief.get(url).text
    assert chief.post(f"{url}/look").location == url
    assert chief.post(f"{url}/look").location == url
    [job] = [job for job in web.store.jobs() if job.kind is JobKind.LOOK]
    assert "data-moving" in chief.get(f"{url}/live", headers={"X-Fragment": "1"}).text
    web.store.claim_job()
    web.store.set_look(job.id, str(space), report(1.0, [("added", f"/root/{HOSTILE}", 5)], warnings=(HOSTILE,)))
    web.store.finish_job(job.id, "1 path changed")
    for page in (chief.get(url).text, chief.get(f"/admin/jobs/{job.id}").text):
        assert "+1 added" in text(page)
        assert "<script>alert" not in page
        assert "\\u202e" in page  # written out
    web.store.set_challenge_role("bob", "als", Role.REVIEWER, actor="test")
    assert "+1 added" not in text(web.browser("bob").get(f"/admin/jobs/{job.id}").text)
    assert program(web, "bob").get(f"/jobs/{job.id}/found").status_code == 403
    assert "Look again" in chief.get(url).text
    assert web.store.snapshots() == []


def test_versions_with_what_became_of_them(web: Web) -> None:
    chief, space = web.browser("chief"), web.workspace_id("alice")
    first, second = version(web, "alice"), version(web, "alice", HOSTILE)
    rejected = web.request("alice", "third")
    web.store.reject_snapshot(rejected, "no", actor="chief")
    page = chief.get(f"/admin/workspaces/{space}/versions").text
    assert "<script>alert" not in page
    said = text(page)
    assert re.search(r"v1 archived signed .* requested just now by alice approved just now by chief committed", said)
    assert re.search(r"v2 archived not signed what the workspace builds on", said)
    assert "rejected just now by chief" in said
    found = text(chief.get(f"/admin/workspaces/{space}/versions?q=state:rejected").text)
    assert "third" in found
    assert "v1 archived" not in found
    chief.post(f"/admin/snapshots/{first}/pin", {"pinned": "yes"})
    assert web.store.snapshot(first).pinned
    assert "Unpin" in chief.get(f"/admin/snapshots/{first}").text
    chief.post(f"/admin/snapshots/{first}/pin", {"pinned": "no"})
    assert not web.store.snapshot(first).pinned

    url = f"/admin/workspaces/{space}/diff"
    assert "What differs from" in chief.get(url).text
    answer = chief.get(f"{url}?old=1&new=v2")
    assert "not been compared yet" in answer.text
    assert [job for job in web.store.jobs() if job.kind is JobKind.DIFF] == []  # looking changes nothing
    for _ in range(2):
        assert chief.post(f"{url}/compare", {"old": "1", "new": "2"}).location == f"{url}?old=1&new=2"
    [job] = [job for job in web.store.jobs() if job.kind is JobKind.DIFF]
    assert dict(job.arguments) == {"old": str(first), "new": str(second)}
    while (taken := web.store.claim_job()) is not None and taken.id != job.id:
        web.store.finish_job(taken.id, "done")
    web.store.set_look(job.id, f"{first}:{second}", report(1.0, [("changed", "/root/a", 5)], since="als/alice:v1"))
    web.store.finish_job(job.id, "1 path")
    assert "~1 changed" in text(chief.get(f"{url}?old=1&new=2").text)
    assert "not been compared yet" in chief.get(f"{url}?old=2&new=1").text
    for wrong, status in (("old=1&new=1", 400), ("old=1&new=9", 404), ("old=1", 400), ("old=x&new=2", 400)):
        assert chief.get(f"{url}?{wrong}").status_code == status, wrong


def test_a_version_is_downloaded(web: Web) -> None:
    chief, pending = web.browser("chief"), web.request("bob")
    assert chief.get(f"/admin/snapshots/{pending}/download").status_code == 409
    found = archived(web)
    assert f"/admin/snapshots/{found}/download" in chief.get(f"/admin/snapshots/{found}").text
    answer = chief.get(f"/admin/snapshots/{found}/download")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == 'attachment; filename="als-alice-v1.tar"'
    assert answer.data


def test_challenges_are_listed_with_their_counts(web: Web) -> None:
    web.request("alice")
    version(web, "bob")
    web.store.set_workspace_state(web.workspace_id("alice"), WorkspaceState.RUNNING)
    web.store.add_challenge("old", "base:2", closes_at=1.0, actor="test")
    page = text(web.browser("chief").get("/admin/challenges").text)
    assert re.search(r"als open 2 1 running 1 1 base:1 never", page)
    assert re.search(r"old closed 0 0 running 0 0 base:2", page)
    web.store.add_user("otto", password_hash=None, actor="test")
    web.store.set_password_hash("otto", web.store.password_hash("chief") or "", actor="test")
    web.store.set_challenge_role("otto", "old", Role.ADMIN, actor="test")
    mine = text(web.browser("otto").get("/admin/challenges").text)
    assert "old closed" in mine
    assert "als" not in mine


def test_a_challenge_is_changed(web: Web, tmp_path: Path) -> None:
    chief = web.browser("chief")
    web.store.set_workspace_state(web.workspace_id("alice"), WorkspaceState.RUNNING)
    form = chief.get("/admin/challenges/als/edit").text
    assert 'value="2g"' in form
    assert "/srv:/data" in form
    data = {
        "image": "base:2", "cpus": "3", "memory": "4g", "pids": "512", "apply": "yes", "network": "none",
        "mounts": f"/srv:/data\r\n{tmp_path}:/more\r\n", "login_user": "root", "opens": "", "forwards": ["", "local"],
        "closes": "2030-05-01T18:00", "at_close": "stop", "idle": "2h", "session": "", "record": "none",
        "auto_approve": "2", "downloads": "yes", "keep_last": "5", "keep_submitted": "no", "sbom": "spdx",
    }  # fmt: skip
    page = chief.post("/admin/challenges/als/edit", data, follow_redirects=True)
    assert "als is changed." in page.text
    assert "1 container gets the limits now." in page.text
    found = web.store.challenge("als")
    assert (found.image, found.limits, found.network) == ("base:2", Limits(3.0, 4 << 30, 512), Network.NONE)
    assert found.mounts == (Mount("/srv", "/data"), Mount(str(tmp_path), "/more"))
    assert (found.at_close, found.idle_seconds, found.session_seconds) == (FreezeMode.STOP, 7200.0, None)
    assert (found.keep_last, found.keep_submitted, found.sbom, found.downloads) == (5, False, "spdx", True)
    assert [kind.value for kind in found.forwarding] == ["local"]
    assert found.closes_at == 1903888800.0
    assert job_of(web, JobKind.LIMITS).workspace == "als/alice"
    shown = text(page.text)
    for said in ("2 requests of each person a day", "the last 5 of each workspace", "every workspace is frozen: stop"):
        assert said in shown
    [event] = web.store.events(kind="challenge.changed")
    page = chief.post(
        "/admin/challenges/als/edit", {k: v for k, v in data.items() if k != "apply"}, follow_redirects=True
    )
    assert "Nothing was changed." in page.text
    assert web.store.events(kind="challenge.changed") == [event]
    page = chief.post("/admin/challenges/als/edit", data | {"closes": "", "keep_last": "", "idle": ""})
    cleared = web.store.challenge("als")
    assert (cleared.closes_at, cleared.keep_last, cleared.idle_seconds) == (None, None, None)


def test_a_form_that_lay_open_undoes_nothing_that_others_did(web: Web, tmp_path: Path) -> None:
    chief, store = web.browser("chief"), web.store
    store.set_challenge("als", closes_at=1903888800.0, actor="chief")
    found = chief.get("/admin/challenges/als/edit").text
    was = unescape(re.findall(r'name="was" value="([^"]*)"', found)[0])
    kinds = [kind.value for kind in Forwarding]
    form = {**json.loads(was), "mounts": "/srv:/data\r\n", "forwards": ["", *kinds], "was": was}
    mounts = (Mount(str(tmp_path), "/more"),)
    limits = Limits(4.0, 8 << 30, 512)
    store.set_challenge("als", closes_at=2e9, limits=limits, mounts=mounts, forwarding=(), actor="rita")
    assert chief.post("/admin/challenges/als/edit", form | {"pids": "64", "idle": "2h"}).status_code == 302
    now = store.challenge("als")
    assert (now.closes_at, now.mounts, now.forwarding) == (2e9, mounts, ())
    assert (now.limits, now.idle_seconds) == (Limits(4.0, 8 << 30, 64), 7200.0)
    chief.post("/admin/challenges/als/edit", form | {"closes": "2040-01-01T00:00", "was": "[nonsense"})
    assert store.challenge("als").closes_at == 2208988800.0
    chief.post("/admin/challenges/als/edit", {"mounts": ""})  # of a program, which carries nothing
    assert store.challenge("als").mounts == ()


def test_a_form_of_a_challenge_says_each_thing_that_is_wrong(web: Web) -> None:
    chief, before = web.browser("chief"), web.store.challenge("als")
    wrong = {"cpus": "0", "memory": HOSTILE, "mounts": "/no/such/place:/x", "idle": "soon", "network": "all"}
    page = chief.post("/admin/challenges/als/edit", wrong)
    assert page.status_code == 400
    assert "5 fields are not right; nothing was changed." in page.text
    for said in ("is no number of cores", "is not a size", "is not a directory", "is not a length", "is no network"):
        assert said in text(page.text), said
    assert "<script>alert" not in page.text
    page = chief.post("/admin/challenges/als/edit", {"opens": "2030-01-02T00:00", "closes": "2030-01-01T00:00"})
    assert page.status_code == 400
    assert "closes after it opens" in page.text
    assert web.store.challenge("als") == before


def test_an_administrator_of_a_challenge_changes_nothing_of_the_host(web: Web) -> None:
    web.store.set_challenge_role("alice", "als", Role.ADMIN, actor="test")
    ada, before = web.browser("alice"), web.store.challenge("als")
    assert 'name="image"' not in ada.get("/admin/challenges/als/edit").text
    data = {"image": "evil:1", "mounts": "/etc:/etc", "network": "none", "auto_approve": "3"}
    assert ada.post("/admin/challenges/als/edit", data).status_code == 302
    after = web.store.challenge("als")
    assert (after.image, after.mounts, after.network) == (before.image, before.mounts, before.network)
    assert after.auto_approve == 3


def test_a_challenge_is_added(web: Web) -> None:
    chief = web.browser("chief")
    assert "Add the challenge" in chief.get("/admin/add-challenge").text
    assert chief.post("/admin/add-challenge", {"slug": "Bad Name", "image": "base:1"}).status_code == 400
    assert chief.post("/admin/add-challenge", {"slug": "als", "image": "base:1"}).status_code == 409
    data = {"slug": "bci", "image": "base:1", "memory": "1g", "forwards": ["", "agent", "local"]}
    assert chief.post("/admin/add-challenge", data).location == "/admin/challenges/bci"
    found = web.store.challenge("bci")
    assert (found.limits, len(found.forwarding)) == (Limits(1.0, 1 << 30, 512), 2)


def test_a_challenge_is_frozen_and_thawed(web: Web) -> None:
    chief = web.browser("chief")
    web.request("alice")
    page = text(chief.get("/admin/challenges/als/freeze").text)
    assert "It has 2 workspaces: 0 running, 0 with somebody on." in page
    assert "1 request waits for a decision" in page
    for data, status in (({"typed": "als"}, 400), ({"typed": "bci", "mode": "stop"}, 400)):
        assert chief.post("/admin/challenges/als/freeze", data).status_code == status
    assert web.store.freezes("als") == []
    location = chief.post("/admin/challenges/als/freeze", {"typed": "als", "mode": "stop"}).location
    [freeze] = web.store.freezes("als")
    assert location == f"/admin/challenges/als/freezes/{freeze.id}"
    assert chief.post("/admin/challenges/als/freeze", {"typed": "als", "mode": "stop"}).status_code == 409
    web.store.finish_frozen(freeze.id, web.workspace_id("bob"), FrozenState.UNCHANGED, None, HOSTILE)
    fragment = chief.get(f"{location}/live", headers={"X-Fragment": "1"}).text
    assert "1 of 2 done · 1 unchanged" in text(fragment)
    assert "data-moving" in fragment
    assert "<script>alert" not in fragment
    web.store.add_challenge("other", "base:1", actor="test")
    assert chief.get(f"/admin/challenges/other/freezes/{freeze.id}").status_code == 404
    answer = chief.post("/admin/challenges/als/thaw", follow_redirects=True)
    assert "als is thawed." in answer.text
    assert web.store.challenge("als").frozen is None


def test_images_are_shown_as_the_worker_saw_them(web: Web) -> None:
    chief = web.browser("chief")
    assert "No image is known" in chief.get("/admin/images").text
    images = [
        BaseImage("sha256:1", ("base:1",), 5 << 20, 2, 100.0, 200.0),
        BaseImage("sha256:2", (f"evil:{HOSTILE}",), 1, 1, 50.0, 200.0),
    ]
    web.store.set_base_images(images)
    web.store.set_image_findings("sha256:1", [ImageFinding("sh", False, True, "", "nobody can log in", HOSTILE)])
    web.store.add_challenge("lost", "gone:1", actor="test")
    page = chief.get("/admin/images").text
    assert "<script>alert" not in page
    said = text(page)
    assert "als (2 workspaces)" in said
    assert "nobody can log in to it" in said
    assert "Not on this host gone:1" in said
    assert chief.post("/admin/images/look", {"image": "sha256:1"}).status_code == 302
    assert dict(job_of(web, JobKind.IMAGES).arguments) == {"image": "sha256:1"}
    assert chief.post("/admin/images/look", {"image": "sha256:9"}).status_code == 404
    assert chief.post("/admin/images/look").status_code == 302
    assert "not on this host" in text(chief.get("/admin/challenges/lost").text)


def test_the_archive(web: Web) -> None:
    chief = web.browser("chief")
    assert "Nobody has counted yet" in chief.get("/admin/archive").text
    for name, kind in (("usage", JobKind.USAGE), ("verify", JobKind.VERIFY), ("gc", JobKind.GC)):
        assert chief.post(f"/admin/archive/{name}").location == "/admin/archive"
        assert job_of(web, kind).workspace == ""
    assert chief.get("/admin/archive/collect").status_code == 409  # nobody knows yet what would go
    share = {"challenge": "als", "images": 3, "alone": 3 << 30, "once": 1 << 30, "own": 1 << 30}
    usage = {"images": 3, "alone": 3 << 30, "once": 1 << 30, "stored": 1 << 30, "ratio": 3.0, "shares": [share]}
    damaged = {"blob": "sha256:1", "sentence": HOSTILE, "images": [HOSTILE], "hurt": 3}
    garbage = {"deleted": False, "blobs": 2, "bytes": 5 << 20, "unfinished": 0, "young": 1}
    documents = {
        JobKind.USAGE: {**usage, "unread": [], "where": "/srv/archive"},
        JobKind.VERIFY: {"blobs": 9, "sealed": 1, "bytes": 1 << 30, "bad": 1, "problems": [damaged]},
        JobKind.GC: {**garbage, "listed": [{"digest": "sha256:2", "size": 5 << 20}]},
    }
    for kind, document in documents.items():
        web.store.set_report(job_of(web, kind).id, "", json.dumps(document))
    finish_jobs(web.store)
    page = chief.get("/admin/archive").text
    assert "<script>alert" not in page
    said = text(page)
    for words in ("3.0 ×", "1 blob is missing or damaged.", "and 2 more", "2 blobs that no version refers to, 5.0 MiB"):
        assert words in said, words
    for kind in documents:
        assert "What it found" in chief.get(f"/admin/jobs/{job_of(web, kind).id}").text
    assert "2 blobs of the archive, 5.0 MiB" in chief.get("/admin/archive/collect").text
    assert chief.post("/admin/archive/collect", {"typed": "yes"}).status_code == 400
    assert chief.post("/admin/archive/collect", {"typed": "archive"}).location == "/admin/archive"
    assert dict(job_of(web, JobKind.GC).arguments) == {"delete": "yes"}


def test_what_the_rules_do_not_keep(web: Web) -> None:
    chief = web.browser("chief")
    first, _second = version(web, "alice", HOSTILE), version(web, "alice")
    assert chief.get("/admin/archive/prune?challenge=als").status_code == 404  # it keeps all
    web.store.set_challenge("als", keep_last=1, keep_submitted=False, actor="chief")
    assert "keeps the last one" in text(chief.get("/admin/archive").text)
    page = chief.get("/admin/archive/prune?challenge=als")
    assert "1 version would be removed" in page.text
    assert "als/alice:v1" in page.text
    assert "<script>alert" not in page.text
    assert chief.post("/admin/archive/prune?challenge=als", {"typed": "no"}).status_code == 400
    form = {"typed": "als", "seen": re.findall(r'name="seen" value="([0-9a-f]+)"', page.text)[0]}
    third = version(web, "alice")  # since the page was shown, so that the rules let go of one more
    changed = chief.post("/admin/archive/prune?challenge=als", form)
    assert changed.status_code == 409
    assert "By now other versions would be removed." in changed.text
    assert "2 versions would be removed" in changed.text
    form["seen"] = re.findall(r'name="seen" value="([0-9a-f]+)"', changed.text)[0]
    assert chief.post("/admin/archive/prune?challenge=als", form).location == "/admin/archive"
    assert dict(job_of(web, JobKind.PRUNE).arguments) == {"challenge": "als", "versions": f"{first},{third - 1}"}
    assert web.store.snapshot(first).pruned_at is None  # the worker does it


def test_jobs_are_searched_and_read_in_pages(web: Web) -> None:
    chief, store = web.browser("chief"), web.store
    for number in range(60):
        job = store.add_job(JobKind.DIFF, web.workspace_id("bob"), actor="chief", arguments={"n": str(number)})
        store.cancel_job(job.id, actor="chief")
    last = store.add_job(JobKind.VERIFY, actor=HOSTILE)
    page = chief.get("/admin/jobs").text
    assert "Displaying 1–50 of 61" in page
    assert "<script>alert" not in page
    assert "verify of this host" in text(page)
    assert "Displaying 51–61 of 61" in chief.get("/admin/jobs?page=2").text
    found = chief.get("/admin/jobs?q=kind:verify").text
    assert "Displaying 1–1 of 1" in found
    assert 'data-live="/admin/jobs/live?q=kind%3Averify"' in found
    answer = chief.get("/admin/jobs?q=kind:wrong&_external=1&endpoint=x")
    assert answer.status_code == 200
    assert "not known" in text(answer.text)
    assert "No job matches" in chief.get("/admin/jobs?q=kind:commit").text
    store.claim_job()
    store.job_progress(last.id, 0.25, "Reading", (1 << 30, 4 << 30), 4102444800.0)
    one = text(chief.get(f"/admin/jobs/{last.id}").text)
    assert "1.0 of 4.0 GiB" in one
    assert "Done so far 1.0 GiB of 4.0 GiB" in one
    store.fail_job(last.id, "no answer", 600, "archive")
    assert "Waits for archive, since" in text(chief.get(f"/admin/jobs/{last.id}").text)


def test_a_job_behind_another_names_it_and_the_one_in_front_can_be_cancelled(web: Web) -> None:
    chief, store, space = web.browser("chief"), web.store, web.workspace_id("alice")
    front = store.add_job(JobKind.RESTORE, space, actor="chief", arguments={"from": "als/bob:v1"})
    store.claim_job()
    store.fail_job(front.id, "no answer", 600, "archive")
    late = store.add_job(JobKind.STOP, space, actor="chief")
    assert f"waits behind job {front.id}" in text(chief.get("/admin/jobs").text)
    page = chief.get(f"/admin/jobs/{late.id}").text
    facts = text(page).partition("Waits behind")[2]
    assert facts.startswith(f" job {front.id} , restore of als/alice")
    assert "waits for the archive since" in facts
    assert f"Cancel job {front.id} in front" in page
    chief.post(f"/admin/jobs/{front.id}/cancel")
    assert "in front" not in chief.get(f"/admin/jobs/{late.id}").text
