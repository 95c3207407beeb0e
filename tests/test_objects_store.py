"""Jobs about the host, what jobs find, limits of one workspace, and base images, in the store."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.sample import report
from tests.support.web import fill_small
from workspaces.errors import InvalidInput, NotFound
from workspaces.jobkinds import KINDS
from workspaces.model import BaseImage, ChallengeCounts, ImageFinding, JobKind, JobState, Limits, OwnLimits
from workspaces.store import Store, found_changes


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "db")
    fill_small(store)
    return store


def alice(store: Store) -> int:
    return store.workspace("als/alice").id


def test_a_job_about_the_host_has_no_workspace(store: Store) -> None:
    job = store.add_job(JobKind.VERIFY, actor="chief")
    assert (job.workspace_id, job.workspace) == (0, "")
    assert store.add_job(JobKind.VERIFY, actor="chief").id == job.id
    assert [found.id for found in store.find_jobs("kind:verify").items] == [job.id]
    assert [found.id for found in store.find_jobs("chief").items] == [job.id]  # by words too
    assert store.find_jobs("", within=["als"]).total == 0
    taken = store.claim_job()
    assert taken is not None
    assert taken.id == job.id
    store.fail_job(job.id, "the disk", None)
    assert [event.workspace for event in store.events(kind="job.failed")] == [None]
    [news] = store.news("chief")
    assert "verify" in news.text
    retried, left = store.retry_failed(actor="chief")
    assert [found.id for found in retried] == [job.id]
    assert left == []
    store.cancel_job(job.id, actor="chief")
    assert store.job(job.id).state is JobState.CANCELLED


def test_what_deletes_is_not_retried_with_all_that_failed(store: Store) -> None:
    job = store.add_job(JobKind.GC, actor="chief", arguments={"delete": "yes"})
    store.claim_job()
    store.fail_job(job.id, "no", None)
    retried, left = store.retry_failed(actor="chief")
    assert (retried, [(found.id, why) for found, why in left]) == ([], [(job.id, "it would delete from the archive")])


def test_a_workspace_goes_with_jobs_about_workspaces_only(store: Store) -> None:
    with pytest.raises(InvalidInput):
        store.add_job(JobKind.VERIFY, alice(store), actor="chief")
    with pytest.raises(InvalidInput):
        store.add_job(JobKind.START, actor="chief")


def test_looks_and_comparisons_run_beside_a_commit_and_not_beside_a_reset(store: Store) -> None:
    store.add_job(JobKind.STOP, alice(store), actor="chief")
    stop = store.claim_job()
    look = store.add_job(JobKind.LOOK, alice(store), actor="chief")
    diff = store.add_job(JobKind.DIFF, alice(store), actor="chief", arguments={"old": "1", "new": "2"})
    store.add_job(JobKind.RESET, alice(store), actor="chief")
    running = [job.kind for job in iter(store.claim_job, None)]
    assert sorted(running) == ["diff", "look"]
    assert stop is not None
    store.finish_job(stop.id, "stopped")
    assert store.claim_job() is None  # it would delete what is looked into
    store.finish_job(look.id, "seen")
    store.finish_job(diff.id, "compared")
    reset = store.claim_job()
    assert reset is not None
    assert reset.kind is JobKind.RESET


def test_findings_are_kept_by_what_they_are_about(store: Store) -> None:
    one, two = (store.add_job(JobKind.LOOK, store.workspace(f"als/{name}").id, actor="c") for name in ("alice", "bob"))
    store.set_look(one.id, str(one.workspace_id), report(1, [("added", "/root/a", 5)]))
    store.set_look(two.id, str(two.workspace_id), report(1, [("added", "/root/b", 5)]))
    latest = store.latest_report(JobKind.LOOK, str(one.workspace_id))
    assert latest is not None
    assert latest == store.report_of(one.id)
    assert [entry.path for entry in found_changes(latest).entries] == ["/root/a"]
    assert store.latest_report(JobKind.VERIFY) is None
    assert store.latest_job(JobKind.LOOK, two.workspace_id) == two
    assert store.latest_job(JobKind.VERIFY) is None


def test_old_findings_make_room(store: Store) -> None:
    jobs = []
    for number in range(7):
        job = store.add_job(JobKind.USAGE, actor="c", arguments={"n": str(number)})
        store.set_report(job.id, "", json.dumps(number))
        jobs.append(job.id)
    assert [store.report_of(job_id) is not None for job_id in jobs] == [False] * 2 + [True] * 5


def test_limits_of_one_workspace(store: Store) -> None:
    base = store.challenge("als").limits
    assert store.workspace("als/alice").own_limits == OwnLimits()
    changed = store.set_workspace_limits(alice(store), OwnLimits(memory=4 << 30), actor="chief")
    assert changed.own_limits.over(base) == Limits(base.cpus, 4 << 30, base.pids)
    assert store.find_workspaces("name:alice").items[0].workspace.own_limits == OwnLimits(memory=4 << 30)
    [event] = store.events(kind="workspace.limits_set")
    assert event.data == {"cpus": "the challenge's", "memory": str(4 << 30), "pids": "the challenge's"}
    store.set_workspace_limits(alice(store), OwnLimits(memory=4 << 30), actor="chief")
    assert len(store.events(kind="workspace.limits_set")) == 1
    for bad in (OwnLimits(memory=1), OwnLimits(cpus=0.0), OwnLimits(cpus=5000.0), OwnLimits(pids=1 << 23)):
        with pytest.raises(InvalidInput):
            store.set_workspace_limits(alice(store), bad, actor="chief")
    assert store.set_workspace_limits(alice(store), OwnLimits(), actor="chief").own_limits == OwnLimits()
    with pytest.raises(NotFound):
        store.set_workspace_limits(99, OwnLimits(), actor="chief")


def test_base_images(store: Store) -> None:
    image = BaseImage("sha256:1", ("base:1",), 5 << 20, 2, 100.0, 200.0)
    store.set_base_images([image])
    finding = ImageFinding("sh", False, True, "", "nobody can log in", "add dash")
    store.set_image_findings(image.id, [finding])
    before = store.data_version()
    store.set_base_images([BaseImage("sha256:1", ("base:1",), 5 << 20, 2, 100.0, 300.0)])
    assert store.data_version() == before  # nothing is new
    store.set_base_images([BaseImage("sha256:1", ("base:1", "base:2"), 5 << 20, 2, 100.0, 300.0)])
    [found] = store.base_images()
    assert (found.refs, found.findings) == (("base:1", "base:2"), (finding,))
    assert found.checked_at is not None
    store.set_base_images([])
    with pytest.raises(NotFound):
        store.base_image(image.id)


def test_counts_of_challenges(store: Store) -> None:
    store.add_challenge("empty", "base:1", actor="test")
    assert store.challenge_counts() == {"als": ChallengeCounts(workspaces=2), "empty": ChallengeCounts()}
    store.request_snapshot(alice(store), "one", actor="alice", via="web")
    assert store.challenge_counts()["als"] == ChallengeCounts(workspaces=2, requests=1)


def test_jobs_of_an_older_database_are_kept(tmp_path: Path) -> None:
    """The table is built anew: rows, indexes, log and references stay."""
    path = tmp_path / "db"
    store = Store.open(path)
    fill_small(store)
    job = store.add_job(JobKind.STOP, alice(store), actor="chief")
    store.claim_job()
    store.close()
    with sqlite3.connect(path) as db:  # as it was before
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0015_reports'")
        db.executescript("DROP TABLE job_reports; DROP TABLE base_images; DROP INDEX challenges_image;")
        db.execute("DROP INDEX workspaces_image")
        [(table,)] = db.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs'").fetchall()
        old = table.replace("workspace_id INTEGER REF", "workspace_id INTEGER NOT NULL REF").replace('"jobs"', "jobs")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'jobs'", [old])
    db.close()
    store = Store.open(path)
    assert store.job(job.id).state is JobState.RUNNING
    assert [line.line for line in store.job_log(job.id)] == ["Begun."]
    assert store.add_job(JobKind.USAGE, actor="chief").id > job.id
    with sqlite3.connect(path) as db:
        indexes = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'jobs'")}
    db.close()
    assert {"jobs_state", "jobs_running", "jobs_running_step", "jobs_begun", "jobs_search_added"} <= indexes


def test_every_kind_of_job_has_its_rules() -> None:
    assert set(KINDS) == set(JobKind)
