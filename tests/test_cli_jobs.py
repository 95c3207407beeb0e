"""`workspaces job`, `webhook`, `delivery`: what is said about background work and what leaves this host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.stores import fill
from workspaces import doctor, settings
from workspaces.cli import jobs as cli_jobs
from workspaces.cli.common import cli
from workspaces.model import JobKind
from workspaces.store import Store


def call(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(home), *arguments])


def run(home: Path, *arguments: str) -> Result:
    return call(home, "job", *arguments)


def home_with_jobs(tmp_path: Path) -> Store:
    (tmp_path / "locks").mkdir()
    store = fill(Store.open(tmp_path / "workspaces.db"))
    for name in ("alice", "bob"):
        store.add_job(JobKind.STOP, store.workspace(f"als/{name}").id, actor="chief")
    return store


def test_list_and_show(tmp_path: Path) -> None:
    store = home_with_jobs(tmp_path)
    store.claim_job()
    store.job_progress(1, 0.999, "Stopping\x1b[31m", (6 << 28, 2 << 30), None)
    done = run(tmp_path, "list")
    assert "stop  als/alice  running  80        99%" in done.stdout
    assert "; 1.5 of 2.0 GiB" in done.stdout
    assert "No worker runs" in done.stderr
    assert run(tmp_path, "cancel", "1").stdout == "Job 1 is told to end. See: workspaces job show 1 --follow\n"
    shown = run(tmp_path, "show", "1", "--log").stdout
    assert shown.startswith("1 stop of als/alice: cancelling, 99%, attempt 1\n")
    assert "cancels it" in shown
    assert "  Stopping\\x1b[31m\n" in shown
    found = json.loads(run(tmp_path, "show", "1", "--log", "--json").stdout)
    assert (found["condition"], found["bytes_done"], found["log"][0]["line"]) == ("cancelling", 6 << 28, "Begun.")
    store.stop_job(1, "Cancelled by chief.")
    assert "Cancelled by chief." in run(tmp_path, "list").stdout
    assert "Job 2 is cancelled." in run(tmp_path, "cancel", "2").stdout
    store.close()


def test_priority(tmp_path: Path) -> None:
    store = home_with_jobs(tmp_path)
    assert run(tmp_path, "priority", "2", "100").stdout == "Job 2 has priority 100.\n"
    assert run(tmp_path, "priority", "2", "101").exit_code == 2
    job = store.claim_job()
    assert job is not None
    assert job.id == 2
    store.close()


def test_following_one_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = home_with_jobs(tmp_path)
    steps: list[Callable[[], object]] = []
    monkeypatch.setattr(cli_jobs.time, "sleep", lambda _: steps.pop(0)())  # type: ignore[attr-defined]

    def follow(number: int, end: Callable[[], object]) -> Result:
        steps[:] = [store.claim_job, lambda: store.job_progress(number, 0.5, "Stopping"), end]
        return run(tmp_path, "show", str(number), "--follow")

    good = follow(1, lambda: store.finish_job(1, "als/alice is stopped."))
    assert good.exit_code == 0
    assert [line[21:] for line in good.stdout.splitlines()] == ["Begun.", "Stopping", "als/alice is stopped."]
    bad = follow(2, lambda: store.fail_job(2, "no engine", None))
    assert bad.stdout.splitlines()[-1].endswith("no engine")
    assert "Job 2 is failed." in str(bad.exception)
    store.close()


def test_webhooks_and_deliveries(tmp_path: Path) -> None:
    store = home_with_jobs(tmp_path)
    keys = tmp_path / "keys"
    keys.mkdir()
    url = "https://chat.example/hook"
    added = call(tmp_path, "webhook", "add", url)
    said, secret = added.stdout.splitlines()
    assert said == "Webhook 1 is there. Give the receiver this secret; it is not shown again:"
    [file] = keys.iterdir()
    assert (file.read_text().strip(), secret[:6]) == (secret, "whsec_")
    assert url in call(tmp_path, "webhook", "list").stdout
    assert call(tmp_path, "webhook", "add", url).exit_code == 1
    assert len(list(keys.iterdir())) == 1  # no secret without its webhook
    assert "is no address to call" in str(call(tmp_path, "webhook", "add", "chat.example").exception)

    assert "are mailed to" in call(tmp_path, "user", "set-email", "chief", "chief@example.org").stdout
    assert call(tmp_path, "user", "set-email", "chief").exit_code != 0
    assert "is not an e-mail address" in str(call(tmp_path, "user", "set-email", "chief", "x").exception)
    store.request_snapshot(1, "m", actor="alice", via="ssh")
    mailed, called = store.deliveries()
    store.postpone_delivery(called.id, "It answered 503.", 60, 0)
    store.end_delivery(mailed.id, "The mail server refuses chief@example.org: 550 who?")
    shown = call(tmp_path, "delivery", "list").stdout.splitlines()
    assert "chief@example.org" in shown[1]
    assert "550 who?" in shown[1]
    assert "It answered 503. Again at 20" in shown[2]
    assert len(call(tmp_path, "delivery", "list", "--state", "dead").stdout.splitlines()) == 2
    assert "on its way again" in call(tmp_path, "delivery", "retry", str(mailed.id)).stdout
    assert "Nothing is mailed to chief" in call(tmp_path, "user", "set-email", "chief", "--remove").stdout
    assert store.user("chief").email is None
    assert call(tmp_path, "webhook", "remove", "1").stdout == "Webhook 1 is removed.\n"
    assert list(keys.iterdir()) == []
    store.close()


def test_doctor_tells_of_a_worker_that_is_away_and_of_mail_that_does_not_leave(tmp_path: Path) -> None:
    store = home_with_jobs(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "workspaces.toml").write_text('[mail]\nserver = "mx:25"\nuser = "gate"\nfrom = "gate@x.example"\n')
    found = settings.load(tmp_path)
    assert [f.sentence for f in doctor.state(found) if f.subject == "worker"] == [
        "No worker runs, so nothing is committed, archived, started or stopped"
    ]
    assert [f.subject for f in doctor.news(found, store)] == ["mail"]
    (found.keys / "smtp-password").write_text("x")
    store.set_email("chief", "chief@example.org", actor="chief")
    store.request_snapshot(1, "m", actor="alice", via="ssh")
    assert list(doctor.news(found, store)) == []
    store.end_delivery(store.deliveries()[0].id, "550 who?")
    [finding] = doctor.news(found, store)
    assert finding.sentence == "mails or calls of webhooks were given up, at last to chief@example.org: 550 who?"
    store.close()
