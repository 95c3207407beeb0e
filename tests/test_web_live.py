"""What keeps open pages up to date: topics and their tokens, and the event stream that tells of changes."""

# ruff: noqa: F401 - fixtures are imported, and then arguments

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.gateway import until
from tests.support.serving import in_a_thread
from tests.support.web import Browser, Web, web_fixture
from webadmin import following, watching
from webadmin.server import Server
from workspaces.errors import InvalidInput
from workspaces.model import HostSample, JobKind, Sample, WorkspaceState
from workspaces.store import Store
from workspaces.store.topics import TOPICS, split_topic

pytestmark = pytest.mark.slow


# tokens


def tokens(store: Store, space: int, job: int) -> dict[str, str]:
    topics = ["queue", "workspaces", "jobs", "sessions", "overview", f"workspace:{space}", f"job:{job}"]
    personal = [("me", "alice"), ("me", "bob"), ("account", "alice"), ("account", "bob")]
    return {topic: store.topic_token(topic) for topic in topics} | {
        f"{topic} {who}": store.topic_token(topic, who) for topic, who in personal
    }


def test_a_token_changes_with_what_its_pages_show_and_with_little_else(web: Web) -> None:
    store, alice, bob = web.store, web.workspace_id("alice"), web.workspace_id("bob")
    job = store.add_job(JobKind.START, alice, actor="chief").id
    session: list[int] = []

    def begin() -> None:
        session.append(store.begin_session("alice", alice, "shell", "192.0.2.1", "p", time.time()))

    def look() -> None:
        host = HostSample(1.0, 2, 1, 2, 1, 2, 0.1)
        store.add_usage(time.time(), {alice: Sample(0.5, 1 << 30, 3, None, 0, 0)}, host)

    claim = lambda: store.claim_job(set())  # noqa: E731
    own = {"me alice", f"workspace:{alice}"}
    moving = {"queue", "workspaces", "jobs", "overview", f"job:{job}"} | own
    changes: list[tuple[Callable[[], object], set[str]]] = [
        (claim, moving),
        (lambda: store.job_progress(job, 0.5, "half"), moving),
        (lambda: store.set_workspace_state(alice, WorkspaceState.RUNNING, ""), {"workspaces", "overview"} | own),
        (look, {"me alice", "overview"}),
        (begin, {"sessions", "workspaces", "overview"} | own),
        (lambda: store.end_session(session[0], time.time()), {"sessions", "workspaces", "overview"} | own),
        (lambda: store.request_snapshot(alice, "m", actor="alice", via="web"), {"queue", "overview"} | own),
        (lambda: store.set_disabled("alice", True, actor="chief"), {"account alice"}),
        (lambda: store.set_password_hash("bob", "x", actor="bob"), {"account bob"}),
        (lambda: store.add_member(bob, "alice", actor="chief"), {"me alice", "me bob", "account alice"}),
    ]
    for change, least in changes:
        before = tokens(store, alice, job)
        assert before == tokens(store, alice, job), "it stays the same without a change"
        change()
        after = tokens(store, alice, job)
        changed = {topic for topic in after if after[topic] != before[topic]}
        assert least <= changed
        quiet = ({"account bob"}, {"me alice", "overview"}, own | {"sessions", "workspaces", "overview"})
        if least in quiet:
            assert "me bob" not in changed
        if "account alice" not in least:
            assert "account alice" not in changed


def test_a_job_that_waits_behind_another_is_told_when_that_ends(web: Web) -> None:
    store, alice = web.store, web.workspace_id("alice")
    front = store.add_job(JobKind.STOP, alice, actor="chief")
    late = store.add_job(JobKind.START, alice, actor="chief")
    before = store.topic_token(f"job:{late.id}")
    store.cancel_job(front.id, actor="chief")
    assert store.topic_token(f"job:{late.id}") != before


def test_no_topic_reads_a_whole_table(web: Web) -> None:
    values = {"who": "alice", "id": 1}
    for statements in TOPICS.values():
        for sql in statements:
            for row in web.store._db().conn.execute(f"EXPLAIN QUERY PLAN {sql}", values):
                plan = row[3]
                reads = plan.startswith("SCAN ") and plan != "SCAN CONSTANT ROW" and "subquery" not in plan
                assert not reads or "INDEX sessions_" in plan or "INDEX recordings_open" in plan, (
                    sql,
                    plan,
                )  # of the open ones


@pytest.mark.parametrize(
    "topic", ["", "x", "me:1", "job", "job:", "job:x", "job:-1", "job:1:2", "job:" + "9" * 40, "job:٣"]
)
def test_what_is_no_topic_is_refused(topic: str) -> None:
    with pytest.raises(InvalidInput):
        split_topic(topic)


# the stream


@dataclass
class Reader:
    """An open page's stream; its events as they come."""

    client: socket.socket
    text: str = ""

    def more(self, word: str, seconds: float = 10) -> str:
        """Read until `word` has come; what came, up to it. Raises EOFError."""
        self.client.settimeout(seconds)
        while word not in self.text:
            data = self.client.recv(4096)
            if not data:
                raise EOFError(self.text)
            self.text += data.decode()
        before, _, self.text = self.text.partition(word)
        return before + word

    def silent(self, seconds: float) -> bool:
        try:
            self.more("changed", seconds)
        except TimeoutError:
            return True
        return False


@dataclass
class Live:
    web: Web
    port: int

    def open(self, browser: Browser, query: str) -> Reader:
        cookie = browser.client.get_cookie(self.web.app.config["SESSION_COOKIE_NAME"])
        assert cookie is not None
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        head = f"GET /live?{query} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie.key}={cookie.value}\r\n\r\n"
        client.sendall(head.encode())
        return Reader(client)


@pytest.fixture
def live(web: Web) -> Iterator[Live]:
    server = Server(web.app, web.settings)
    with in_a_thread(server):
        yield Live(web, server.port)


def hello(reader: Reader) -> str:
    """Until the stream tells of changes; the version it began with."""
    reader.more("event: hello\ndata: ")
    return reader.more("\n").strip()


def test_a_change_is_told_to_those_whom_it_concerns(live: Live) -> None:
    web = live.web
    alice, bob = web.browser("alice"), web.browser("bob")
    version = hello(live.open(alice, "topic=me"))
    mine, other = live.open(alice, f"topic=me&topic=workspace:{web.workspace_id('alice')}&since={version}"), None
    other = live.open(bob, f"topic=me&since={version}")
    assert hello(mine) == hello(other) == version
    began = time.monotonic()
    web.store.request_snapshot(web.workspace_id("alice"), "m", actor="alice", via="ssh")
    text = mine.more("workspace:")
    assert "event: changed\ndata: me\n\n" in text
    assert time.monotonic() - began < 8
    assert other.silent(1.5)
    late = live.open(bob, f"topic=me&since={version}")
    late.more("event: changed\ndata: me")  # it may have missed something


def test_only_what_one_may_see_is_followed(live: Live) -> None:
    web = live.web
    alice, chief = web.browser("alice"), web.browser("chief")
    own, other = web.workspace_id("alice"), web.workspace_id("bob")
    job = web.store.add_job(JobKind.START, other, actor="chief").id
    refused = {
        "topic=queue": 403, "topic=workspaces": 403, "topic=overview": 403, "topic=sessions": 403, "topic=jobs": 403,
        f"topic=workspace:{other}": 404, "topic=workspace:999": 404, f"topic=me&topic=job:{job}": 404, "topic=x": 400,
        "topic=account": 400, "": 400, "&".join(f"topic=job:{n}" for n in range(99)): 400,
    }  # fmt: skip
    for query, status in refused.items():
        assert alice.get(f"/live?{query}").status_code == status, query
    assert alice.get(f"/live?topic=workspace:{own}").status_code == 200
    for query in list(refused)[:8]:
        expected = 404 if "999" in query else 200
        assert chief.get(f"/live?{query}").status_code == expected, query
    assert web.browser().get("/live?topic=me").status_code == 302
    assert web.browser().get("/live?topic=me", headers={"X-Fragment": "1"}).status_code == 401


@pytest.mark.parametrize("how", ["disabled", "signed out", "password"])
def test_a_stream_ends_with_the_right_to_it(live: Live, how: str) -> None:
    alice = live.web.browser("alice")
    reader, bob = live.open(alice, "topic=me"), live.open(live.web.browser("bob"), "topic=me")
    hello(reader)
    hello(bob)
    bob.more("data: me\n\n")  # nothing is known of what it was made from
    if how == "disabled":
        live.web.store.set_disabled("alice", True, actor="chief")
    elif how == "signed out":
        alice.post("/logout")
    else:
        live.web.store.set_password_hash("alice", "x", actor="alice")
        live.web.store.end_sign_ins("alice", actor="alice")
    reader.more("event: over")
    reader.more("\r\n0\r\n\r\n")  # the answer ends
    assert bob.silent(1)


def test_streams_of_one_person_are_bounded_and_their_places_come_back(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "EACH_MAX", 3)
    alice = live.web.browser("alice")
    readers = [live.open(alice, "topic=me") for _ in range(3)]
    for reader in readers:
        hello(reader)
    assert "429" in live.open(alice, "topic=me").more("\r\n\r\n")
    hello(live.open(live.web.browser("bob"), "topic=me"))
    readers.pop().client.close()

    def there_is_room() -> bool:
        return "200" in live.open(alice, "topic=me").more("\r\n\r\n")

    until(there_is_room, 10)


def test_a_quiet_stream_shows_that_it_lives(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BEAT_SECONDS", 0.2)
    reader = live.open(live.web.browser("alice"), "topic=me")
    hello(reader)
    assert ":\n\n" in reader.more(":\n\n")
