"""Server-sent events of the API over a real server, and what monitors are told."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.api import program
from tests.support.serving import in_a_thread
from tests.support.web import Web, web_fixture
from webadmin import tailing
from webadmin.api import events
from webadmin.api.limits import Limits
from webadmin.context import Parts, attach
from webadmin.server import Server
from workspaces import apitokens, casts, heartbeat, recordings
from workspaces.heartbeat import LOCK
from workspaces.model import JobKind
from workspaces.store import Store

__all__ = ["web_fixture"]


@pytest.fixture
def url(web: Web) -> Iterator[str]:
    """A real server of it."""
    with in_a_thread(Server(web.app, web.settings)) as address:
        yield f"{address}/api/v1"


def token(web: Web, name: str, *scopes: str) -> dict[str, str]:
    secret = apitokens.make(web.store, name, "a test", scopes or ["read"], 1, actor="test")[1]
    return {"Authorization": f"Bearer {secret}"}


def read(response: requests.Response) -> Iterator[tuple[str, str, str]]:
    """Name, data and id of each event."""
    fields: dict[str, str] = {}
    for line in response.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields["event"], fields.get("data", ""), fields.get("id", "")
            fields = {}


def test_a_job_is_followed_to_its_end(web: Web, url: str) -> None:
    job = web.store.add_job(JobKind.START, web.workspace_id("alice"), actor="chief")
    asked = f"{url}/events?job={job.id}"
    with requests.get(asked, headers=token(web, "alice"), stream=True, timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        found = read(response)
        assert json.loads(next(found)[1])["state"] == "queued"
        web.store.claim_job()
        seen = [next(found), next(found)]
        assert [one[0] for one in seen] == ["log", "job"]
        assert json.loads(seen[0][1])["line"] == "Begun."
        web.store.finish_job(job.id, "<b>It runs.</b>\n\nevent: evil")
        rest = list(found)
    assert [one[0] for one in rest] == ["log", "job", "end"]
    assert json.loads(rest[0][1])["line"] == "<b>It runs.</b>\n\nevent: evil"
    headers = {**token(web, "alice"), "Last-Event-ID": seen[0][2]}
    with requests.get(asked, headers=headers, stream=True, timeout=20) as response:
        assert [one[0] for one in read(response)] == ["log", "job", "end"]


def test_lines_of_several_jobs_come_in_the_order_of_their_ids_so_that_none_is_missed(web: Web, url: str) -> None:
    first, second = (
        web.store.add_job(JobKind.START, web.workspace_id(name), actor="chief").id for name in ("alice", "bob")
    )
    for _ in range(2):
        web.store.claim_job()
    for number, text in ((first, "one"), (second, "two"), (second, "three"), (first, "four")):
        web.store.job_progress(number, None, text)
    asked, headers = f"{url}/events?job={first},{second}", token(web, "chief")

    def follow(last: str, count: int) -> list[tuple[str, str, str]]:
        sent = {**headers, "Last-Event-ID": last}
        with requests.get(asked, headers=sent, stream=True, timeout=20) as response:
            found = (one for one in read(response) if one[0] == "log")
            return [next(found) for _ in range(count)]

    lines = follow("", 6)
    numbers = [int(number) for _, _, number in lines]
    assert numbers == sorted(numbers)
    told = [json.loads(data) for _, data, _ in lines]
    assert [line["line"] for line in told] == ["Begun.", "Begun.", "one", "two", "three", "four"]
    assert [line["job"] for line in told[2:]] == [first, second, second, first]
    for index in range(5):
        assert follow(lines[index][2], 5 - index) == lines[index + 1 :]


def test_a_workspace_is_followed_until_it_is_gone_or_the_token_is(
    web: Web, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "ASK_SECONDS", 0.1)
    number = web.workspace_id("alice")
    with requests.get(f"{url}/events?workspace={number}", headers=token(web, "alice"), stream=True, timeout=20) as one:
        found = read(one)
        assert json.loads(next(found)[1])["ref"] == "als/alice"
        web.store.touch_login(number)
        assert json.loads(next(found)[1])["last_login_at"]
        web.store.remove_token(web.store.tokens("alice")[0].id, actor="test")
        assert next(found)[0] == "over"
    with requests.get(f"{url}/events?workspace={number}", headers=token(web, "alice"), stream=True, timeout=20) as one:
        found = read(one)
        next(found)
        web.store.remove_workspace(number, actor="test")
        assert [next(found)[0], next(found)[0]] == ["gone", "end"]


def test_what_is_not_ones_own_is_not_followed_nor_too_much(web: Web, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, alice = token(web, "bob"), web.workspace_id("alice")
    job = web.store.add_job(JobKind.START, alice, actor="chief").id
    for asked, status in (
        (f"workspace={alice}", 404),
        (f"job={job}", 404),
        ("", 422),
        ("job=x", 422),
        ("job=" + ",".join(["1"] * 17), 422),
        (f"workspace={web.workspace_id('bob')},{alice}", 404),
    ):
        answer = requests.get(f"{url}/events?{asked}", headers=bob, timeout=20)
        assert answer.status_code == status, asked
        assert answer.headers["Content-Type"] == "application/problem+json"
    monkeypatch.setattr("webadmin.api.limits.STREAMS", 1)
    own = f"{url}/events?workspace={web.workspace_id('bob')}"
    with requests.get(own, headers=bob, stream=True, timeout=20) as first:
        kept = read(first)  # or it would be closed
        next(kept)
        second = requests.get(own, headers=bob, timeout=20, stream=True)
        assert second.status_code == 429
        assert second.headers["Retry-After"]


# monitors


def figures(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_is_there(web: Web) -> None:
    web.request("alice")
    web.store.add_job(JobKind.START, web.workspace_id("bob"), actor="chief")
    web.browser("alice").get("/me")
    chief = program(web, "chief", "metrics")
    answer = chief.client.get("/metrics", headers={"Authorization": f"Bearer {chief.secret}"})
    assert answer.status_code == 200
    found = figures(answer.text)
    assert found["workspaces_workspaces", ("absent",)] == 2
    assert found["workspaces_workspaces", ("running",)] == 0
    assert found["workspaces_requests_waiting", ()] == 1
    assert found["workspaces_jobs", ("start", "queued")] == 1
    assert found["workspaces_worker_up", ()] == 0
    assert found["workspaces_http_request_seconds_count", ("me.page", "GET", "2xx")] >= 1


def test_metrics_are_for_the_host_itself_or_a_token(web: Web) -> None:
    client = web.app.test_client()
    near, far = {"REMOTE_ADDR": "127.0.0.1"}, {"REMOTE_ADDR": "192.0.2.7"}
    assert client.get("/metrics", environ_base=near).status_code == 200
    assert client.get("/metrics", environ_base=far).status_code == 401
    for asked, status in (
        ("127.0.0.1:8080", 200), ("[::1]:8080", 200), ("localhost:8080", 200), ("localhost", 200),
        ("pages.example:8080", 401), ("127.0.0.1.pages.example", 401), ("localhost.", 401), ("", 401), ("[", 401),
    ):  # fmt: skip
        assert client.get("/metrics", environ_base=near, headers={"Host": asked}).status_code == status, asked
    reader = program(web, "chief", "read")
    wrong = {"Authorization": f"Bearer {reader.secret}"}
    assert client.get("/metrics", environ_base=near, headers=wrong).status_code == 403
    attach(web.app, Parts(replace(web.settings, web_url="https://example.org"), web.store))
    assert client.get("/metrics", environ_base=near).status_code == 401  # the proxy comes from there too


def test_ready_says_what_is_missing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    client = web.app.test_client()
    assert client.get("/healthz").text == "ok\n"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the worker shows no life\n")
    with (web.settings.locks / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(web.settings.locks / LOCK)
        heartbeat.engine_answered(web.settings.locks)
        assert client.get("/readyz").text == "ok\n"
        os.utime(web.settings.locks / heartbeat.ENGINE, (0, time.time() - 40))
        assert client.get("/readyz").text == "the engine does not answer\n"
        heartbeat.engine_answered(web.settings.locks)
        job = web.store.add_job(JobKind.START, web.workspace_id("bob"), actor="chief")
        web.store.claim_job()
        web.store.fail_job(job.id, "no answer", 60.0, "engine")
        assert client.get("/readyz").text == "the engine does not answer\n"
        version = web.store.data_version()
        client.get("/readyz")
        assert web.store.data_version() == version  # asking writes nothing, so no page looks for news
        monkeypatch.setattr("webadmin.api.metrics.FREE_MIN", 1 << 62)
        assert "the disk is full\n" in client.get("/readyz").text
    old = time.time() - 60
    os.utime(web.settings.locks / LOCK, (old, old))
    assert "worker" in client.get("/readyz").text


def test_a_terminal_is_watched_until_its_session_ends(web: Web, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "ASK_SECONDS", 0.1)
    number = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    web.settings.recordings.mkdir(exist_ok=True)
    path = web.settings.recordings / "a.cast"
    path.write_text('{"version": 2, "width": 80, "height": 24}\n[0.5, "o", "hello"]\n')
    web.store.begin_recording(number, "a.cast", time.time())
    headers = token(web, "chief", "workspaces")
    with requests.get(f"{url}/sessions/{number}/watch", headers=headers, stream=True, timeout=20) as response:
        lines = (line for line in response.iter_lines(chunk_size=1, decode_unicode=True) if line.startswith("data: {"))
        assert json.loads(next(lines)[6:])["init"] == "hello"
        assert [(look.actor, look.how) for look in web.store.looks([number])[number]] == [("chief", "watch")]
        web.store.end_session(number, time.time())
        web.store.end_recording(number, path.stat().st_size, 0.5, 0)
        assert list(lines) == []  # it comes to its end by itself
    assert len(web.store.looks([number])[number]) == 1, "asking whether it may go on is no look of its own"


def test_a_watched_terminal_that_shows_nothing_holds_no_place_once_its_reader_left(
    web: Web, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    web.store.begin_recording(number, "a.cast", time.time())
    closed, close = threading.Event(), Limits.close_stream

    def close_stream(self: Limits, token_id: int) -> None:
        close(self, token_id)
        closed.set()

    monkeypatch.setattr(Limits, "close_stream", close_stream)
    headers = token(web, "chief", "workspaces")
    with requests.get(f"{url}/sessions/{number}/watch", headers=headers, stream=True, timeout=20) as response:
        assert next(response.iter_lines(chunk_size=1)) == b"retry: 5000"
        assert not closed.is_set()
    assert closed.wait(20)


@pytest.mark.parametrize("api", [True, False])
def test_what_a_recorder_writes_after_the_end_of_a_session_is_shown(
    web: Web, url: str, monkeypatch: pytest.MonkeyPatch, api: bool
) -> None:
    monkeypatch.setattr(tailing, "ASK_SECONDS", 0.01)
    number = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    web.settings.recordings.mkdir(exist_ok=True)
    path = web.settings.recordings / "a.cast"
    path.write_bytes(casts.header(80, 24, 0.0, "xterm", "t"))
    web.store.begin_recording(number, "a.cast", time.time())
    asked, is_written = threading.Event(), recordings.is_written

    def ask(store: Store, session_id: int) -> bool:
        over, found = store.session(session_id).ended_at is not None, is_written(store, session_id)
        if over:
            asked.set()
        return found

    monkeypatch.setattr(recordings, "is_written", ask)
    if api:
        address, headers = f"{url}/sessions/{number}/watch", token(web, "chief", "workspaces")
    else:
        chief = web.browser("chief")
        chief.post(f"/admin/sessions/{number}/watch/begin")
        address = url.replace("/api/v1", f"/admin/sessions/{number}/stream")
        cookie = chief.client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
        assert cookie is not None
        headers = {"Cookie": f"{cookie.key}={cookie.value}"}
    with requests.get(address, headers=headers, stream=True, timeout=20) as response:
        lines = (line for line in response.iter_lines(chunk_size=1, decode_unicode=True) if "data" in line)
        next(lines)
        web.store.end_session(number, time.time())
        assert asked.wait(20)
        with path.open("ab") as file:
            file.write(casts.line(1.0, "o", "logout"))
        web.store.end_recording(number, path.stat().st_size, 1.0, 0)
        assert list(lines) == ['data: [1.0, "o", "logout"]', "data: "]
