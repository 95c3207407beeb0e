"""What an organiser does with `workspaces --server URL`: challenges, limits, people, messages, versions, archive."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.api import program
from tests.support.sample import public_key
from tests.support.web import Web, web_fixture
from tests.test_remote import Run, here, there, url, worker
from tests.test_web_downloads import archived
from workspaces.errors import Conflict, InvalidInput, NotFound, UsageError, WorkspacesError
from workspaces.model import (
    BaseImage,
    Change,
    ChangeReport,
    FreezeMode,
    JobKind,
    Mount,
    Network,
    OwnLimits,
    Role,
    Severity,
)
from workspaces.store.rows import changes_json

pytestmark = pytest.mark.slow


def test_a_challenge_is_made_changed_frozen_and_thawed(web: Web, there: Run) -> None:
    made = there("challenge", "add", "bci", "--image", "base:2", "--cpus", "2", "--mount", "/srv:/data",
                 "--closes", "2099-05-01T18:00", "--network", "none")  # fmt: skip
    assert "Challenge bci is there" in made.output, made.exception
    there("challenge", "set", "bci", "--memory", "3g", "--idle", "2h", "--record", "terminals", "--opens", "2026-01-01")
    found = web.store.challenge("bci")
    assert (found.limits.cpus, found.limits.memory, found.network) == (2.0, 3 << 30, Network.NONE)
    assert (found.mounts, found.idle_seconds, found.record) == ((Mount("/srv", "/data"),), 7200.0, "terminals")
    assert found.opens_at is not None
    missing = there("challenge", "set", "bci", "--mount", "/only/on/the/server:/data")
    assert "not a directory on this host" in str(missing.exception)  # the server says so, not this side
    assert isinstance(there("challenge", "freeze", "als", "--status").exception, NotFound)
    with worker(web):
        waited = there("challenge", "freeze", "als", "--mode", "stop", "--yes")
    assert ", ended 20" in waited.output, waited.exception
    assert web.store.challenge("als").frozen is FreezeMode.STOP
    shown = there("challenge", "freeze", "als", "--status").output
    assert "als/alice" in shown
    assert "workspaces challenge thaw als" in shown
    assert "The challenge als is thawed." in there("challenge", "thaw", "als").output
    assert web.store.challenge("als").frozen is None
    assert isinstance(there("challenge", "thaw", "als").exception, Conflict)


def test_limits_messages_and_removal(web: Web, there: Run) -> None:
    with worker(web):
        assert "2 cpus" in there("limits", "alice", "--cpus", "2").output
        assert web.store.workspace("als/alice").own_limits == OwnLimits(2.0)
        assert "as its challenge says" in there("limits", "alice", "--default").output
        assert "is removed" in there("remove", "bob", "--yes").output
    assert {job.kind for job in web.store.jobs()} == {JobKind.LIMITS, JobKind.REMOVE}
    web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    told = there("message", "alice", "nobody", "-m", "Save your work")
    assert ("als/alice: told alice" in told.stdout, "nobody: " in told.stderr, told.exit_code) == (True, True, 1)
    assert "Announcement 1 is there" in there("announcement", "add", "-m", "Soon", "--severity", "warning").output
    assert web.store.announcements()[0].severity is Severity.WARNING
    assert "has ended" in there("announcement", "end", "1").output
    assert web.store.announcements() == []


def test_people(web: Web, there: Run, tmp_path: Path) -> None:
    assert "reviewer in als" in there("user", "role", "bob", "reviewer", "--challenge", "als").output
    assert "reviewer on this host" in there("user", "role", "alice", "reviewer").output
    assert (web.store.user("alice").role, web.store.rights_of("bob").challenges) == (
        Role.REVIEWER,
        {"als": Role.REVIEWER},
    )
    assert "/invite/" in there("user", "invite", "bob").output
    assert isinstance(there("user", "invite", "bob", "--for", "2d").exception, UsageError)
    there("user", "invite", "bob", "--withdraw")
    assert web.store.invitation_of("bob") is None
    assert "password alone" in there("user", "reset-factors", "bob").output
    assert "signed out in 0" in there("user", "sign-out", "bob").output
    file = tmp_path / "people.csv"
    file.write_text("name,challenge\ndora,als\nalice,nowhere\n")
    wrong = there("user", "import", str(file))
    assert "line 3" in wrong.stderr
    assert isinstance(wrong.exception, InvalidInput)
    assert web.store.find_user("dora") is None
    file.write_text("name\ndora\n")
    assert "would be made" in there("user", "import", str(file), "--challenge", "als", "--dry-run").output
    assert "dora als/dora: account, workspace" in there("user", "import", str(file), "--challenge", "als").output
    key = tmp_path / "key.pub"
    key.write_text(public_key("chief@laptop")[1])
    assert "chief can log in" in there("key", "add", "chief", str(key)).output
    [found] = web.store.keys("chief")
    assert found.fingerprint in there("key", "list", "chief").output
    there("key", "remove", "chief", found.fingerprint)
    assert web.store.keys("chief") == []


def test_versions_are_compared_and_the_archive_checked_and_cleared(web: Web, there: Run, tmp_path: Path) -> None:
    for message in ("v1", "v2"):
        number = web.request("alice", message)
        web.store.approve_snapshot(number, actor="chief")
        web.store.begin_commit(number)
        web.store.finish_commit(number, f"als/alice:{message}", "sha256:1", ("sha256:2",), 10)
    report = ChangeReport(1.0, "v1", 2, 0, 0, 9, (Change("added", "/root/x", 9, 0o644),), (), ())
    found = {
        JobKind.DIFF.value: changes_json(report),
        JobKind.VERIFY.value: json.dumps({"blobs": 3, "sealed": 0, "bytes": 9, "bad": 0, "problems": []}),
        JobKind.GC.value: json.dumps({"deleted": False, "blobs": 1, "bytes": 9, "unfinished": 0, "young": 0,
                                "listed": [{"digest": "sha256:9", "size": 9}]}),
    }  # fmt: skip
    with worker(web, found):
        compared = there("snapshot", "diff", "alice", "v1")
        assert "from als/alice:v1 to als/alice:v2: 2 added" in compared.output, compared.exception
        assert "/root/x" in compared.output
        assert "… and 1 more" in compared.output
        assert "3 blobs are there and whole." in there("archive", "verify").output
        assert "sha256:9" in there("archive", "gc").output
        assert "1 blobs, 9 B: deleted" in there("archive", "gc", "--delete").output
    assert [job.arguments for job in web.store.jobs() if job.kind is JobKind.GC] == [{"delete": "yes"}, {}, {}]
    refused = there("archive", "export", "als/alice:v1", "x.tar")
    assert "archived" in str(refused.exception)
    assert not Path("x.tar").exists()
    archived(web, "bob")
    file = tmp_path / "bob.tar"
    assert "docker load -i bob.tar" in there("archive", "export", "als/bob:v1", str(file)).output
    with tarfile.open(file) as tar:
        assert "manifest.json" in tar.getnames()


def test_failed_jobs_images_and_recordings(web: Web, there: Run, tmp_path: Path) -> None:
    failed = web.store.add_job(JobKind.START, web.workspace_id("bob"), actor="chief")
    web.store.claim_job()
    web.store.fail_job(failed.id, "no engine", None)
    assert f"Not {failed.id}, start of als/bob" in there("job", "retry", "--failed").stderr
    web.store.set_base_images([BaseImage("sha256:a", ("base:1",), 1 << 20, 2, 1.0, 2.0)])
    assert there("image", "list").output.split()[-6:-2] == ["base:1", "1.0", "MiB", "2"]
    number = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", 1.0)
    web.settings.recordings.mkdir(exist_ok=True)
    text = '{"version": 2, "width": 80, "height": 24}\n[0.01, "o", "hello"]\n'
    (web.settings.recordings / "a.cast").write_text(text)
    web.store.begin_recording(number, "a.cast", 1.0)
    web.store.end_session(number, 5.0)
    file = tmp_path / "out.cast"
    there("session", "export", str(number), "-o", str(file))
    assert file.read_text() == text
    assert "hello" in there("session", "replay", str(number)).stdout
    assert str(number) in there("session", "list", "--recorded").output
    assert len(web.store.looks([number])[number]) == 2
    refused = there("session", "export", str(number), "-o", str(tmp_path / "no"), who="bob")
    assert isinstance(refused.exception, WorkspacesError)
    assert not (tmp_path / "no").exists()


def test_recorded_sessions_come_with_their_recordings(
    web: Web, here: Run, there: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for count, name in enumerate(("alice", "bob", "alice")):
        number = web.store.begin_session(name, web.workspace_id(name), "shell", "192.0.2.1", "p", now)
        web.store.begin_recording(number, f"{number}.cast", now)
        if count:
            web.store.end_recording(number, 1 << 20, 90.0 * count, 0)
        web.store.end_session(number, now + 1000.0)
    unrecorded = web.store.begin_session("bob", web.workspace_id("bob"), "shell", "192.0.2.1", "p", now)
    asked: list[str] = []
    ask = requests.Session.request

    def counted(self: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
        asked.append(url)
        return ask(self, method, url, **options)

    monkeypatch.setattr(requests.Session, "request", counted)
    assert there("session", "list", "--recorded").output == here("session", "list", "--recorded").output
    assert len(asked) == 1
    assert "1.0 MiB" in there("session", "list", "--recorded", who="alice").output
    items = program(web, "chief").get("/sessions").get_json()["items"]
    said = {one["id"]: one["recording"] for one in items}
    assert said.pop(unrecorded) is None
    assert [said[number]["size"] for number in sorted(said)] == [0, 1 << 20, 1 << 20]
    web.store.forget_recordings([number])
    assert there("session", "list", "--recorded").output.count("shell") == 2
    found = program(web, "chief").get("/sessions?q=recorded:no").get_json()["items"]
    assert {one["id"]: one["recording"] and one["recording"]["removed_at"] is None for one in found} == {
        number: False,
        unrecorded: None,
    }
