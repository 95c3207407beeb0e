"""What the gateway's workers share: counts by connection, questions without answer, and a new coordinator's report."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sshgate import accept, keeper, limits, remote, texts
from sshgate.accept import Acceptor, listen_on
from sshgate.hostkey import load_host_keys
from sshgate.keeper import Keeper
from sshgate.link import Link, Message, pair
from sshgate.recorder import Recorder
from sshgate.remote import Remote
from sshgate.worker import Worker
from tests.support.gateway import memory_engine
from workspaces.errors import HostError
from workspaces.lifecycle import Lifecycle
from workspaces.store import Store


def entered(keeper: Keeper, address: str = "192.0.2.1") -> int:
    number = keeper.enter(address)
    assert number is not None
    return number


def logged_in(keeper: Keeper, account: str, address: str = "192.0.2.1") -> int:
    number = entered(keeper, address)
    assert keeper.authenticated(number, account) is None
    return number


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Keeper:
    monkeypatch.setattr(keeper, "MAX_ACCOUNT_SESSIONS", 3)
    monkeypatch.setattr(limits, "MAX_ACCOUNT_CONNECTIONS", 2)
    monkeypatch.setattr(limits, "MAX_ACCOUNT_STREAMS", 4)
    monkeypatch.setattr(limits, "MAX_ALL_STREAMS", 6)
    return Keeper(lambda _: None)


def test_sessions_are_counted_for_the_account(few: Keeper) -> None:
    one, two, other = logged_in(few, "alice"), logged_in(few, "alice"), logged_in(few, "bob")
    assert few.sessions(one, 1) is None
    assert few.sessions(one, 2) is None
    assert few.sessions(two, 1) is None
    assert few.sessions(two, 2) == texts.TOO_MANY_ACCOUNT_SESSIONS
    assert few.sessions(other, 3) is None
    few.fewer(one, 1)
    assert few.sessions(two, 2) is None


def test_forwarded_connections_are_counted_for_the_account_and_in_all(few: Keeper) -> None:
    one, two, other = logged_in(few, "alice"), logged_in(few, "alice"), logged_in(few, "bob")
    assert few.streams(entered(few), 1) == texts.UNSETTLED
    assert few.streams(one, 3) is None
    assert few.streams(two, 2) == texts.TOO_MANY_ACCOUNT_STREAMS
    assert few.streams(two, 1) is None
    assert few.streams(other, 3) == texts.TOO_MANY_ALL_STREAMS
    few.fewer_streams(one, 2)
    assert few.streams(other, 3) is None
    few.left(one)
    assert few.streams(other, 4) is None
    assert few.streams(two, 2) is None


def test_what_a_connection_had_is_free_when_it_ends(few: Keeper) -> None:
    one, two = logged_in(few, "alice"), logged_in(few, "alice")
    assert few.sessions(one, 3) is None
    few.left(one)
    few.left(one)
    assert few.sessions(two, 3) is None
    logged_in(few, "alice")


def test_a_connection_too_many_has_no_sessions_and_is_counted_until_it_ends(few: Keeper) -> None:
    logged_in(few, "alice")
    logged_in(few, "alice")
    third = entered(few)
    assert few.authenticated(third, "alice") == texts.TOO_MANY_CONNECTIONS
    assert few.sessions(third, 1) == texts.UNSETTLED
    few.left(third)


def test_nobody_has_sessions_before_the_login_or_after_the_end(few: Keeper) -> None:
    number = entered(few)
    assert few.sessions(number, 1) == texts.UNSETTLED
    few.left(number)
    assert few.authenticated(number, "alice") == texts.UNSETTLED
    assert few.sessions(number, 1) == texts.UNSETTLED


def test_an_account_is_settled_once(few: Keeper) -> None:
    number = logged_in(few, "alice")
    assert few.authenticated(number, "bob") == texts.UNSETTLED


def test_restored_connections_count(few: Keeper) -> None:
    few.restore(1, "192.0.2.1", "alice", 2, 1)
    few.restore(2, "192.0.2.1", "alice", 1, 2)
    few.restore(2, "192.0.2.1", "alice", 1, 2)
    assert few.authenticated(1, "alice") is None, "the worker had no answer, and asks once more"
    assert few.sessions(1, 2) is None
    assert few.sessions(1, 3) == texts.TOO_MANY_ACCOUNT_SESSIONS
    assert few.streams(1, 2) is None
    assert few.streams(1, 3) == texts.TOO_MANY_ACCOUNT_STREAMS
    for number in (1, 2):
        few.left(number)
    few.restore(3, "192.0.2.1", None, 0, 0)
    assert few.authenticated(3, "alice") is None
    assert few.sessions(3, 3) is None


class Flooded:
    """A gateway in minutes that pass at once; `networks` open whatever they can, and say nothing for half a minute."""

    def __init__(self, networks: list[str], each: int) -> None:
        self.now = 1000.0
        self.dropped: list[int] = []
        self.keeper = Keeper(self.dropped.append, clock=lambda: self.now)
        self._networks, self._each = networks, each
        self._silent: list[tuple[float, int]] = []

    def second(self) -> None:
        self.now += 1
        while self._silent and self._silent[0][0] <= self.now - 30:
            self.keeper.left(self._silent.pop(0)[1])
        for _ in range(self._each):
            for network in self._networks:
                number = self.keeper.enter(network)
                if number is not None:
                    self._silent.append((self.now, number))

    def logins(self, address: str) -> int:
        """How many of twenty attempts succeed; each takes two seconds, with the attack going on."""
        done = 0
        for _ in range(20):
            number = self.keeper.enter(address)
            self.second()
            self.second()
            if number is not None:
                done += self.keeper.authenticated(number, "alice") is None
                self.keeper.left(number)
        return done


@pytest.mark.parametrize(("networks", "each"), [(5, 64), (50, 8), (150, 3)])
def test_silent_connections_of_many_networks_keep_nobody_out(networks: int, each: int) -> None:
    flooded = Flooded([f"198.51.100.{n}" for n in range(networks)], each)
    flooded.second()
    assert flooded.logins("192.0.2.7") == 20
    assert len(flooded.dropped) > 0


def test_where_somebody_logged_in_before_a_network_for_each_place_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has an IPv6 prefix has thousands of networks."""
    monkeypatch.setattr(limits, "MAX_UNAUTHENTICATED", 40)
    flooded = Flooded([f"2001:db8:0:{n:x}::1" for n in range(limits.MAX_UNAUTHENTICATED)], 2)
    flooded.keeper.left(logged_in(flooded.keeper, "alice", "192.0.2.7"))
    flooded.second()
    assert flooded.keeper.enter("192.0.2.8") is None, "a network for each place, and this one is unknown"
    assert flooded.logins("192.0.2.7") == 20


def test_who_has_an_equal_share_of_the_places_drives_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNAUTHENTICATED", 6)
    dropped: list[int] = []
    keeper = Keeper(dropped.append)
    first = [entered(keeper, "192.0.2.1") for _ in range(6)]
    for count in (1, 2, 3):
        entered(keeper, "192.0.2.2")
        assert dropped == first[:count], "the oldest first"
    for address in ("192.0.2.1", "192.0.2.2"):
        assert keeper.enter(address) is None
    assert keeper.authenticated(first[0], "alice") == texts.UNSETTLED, "it was about to log in, and has no place"
    for number in first:
        keeper.left(number)
    entered(keeper, "192.0.2.1")


def test_who_may_not_come_in_anyway_drives_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNAUTHENTICATED", 6)
    dropped: list[int] = []
    keeper = Keeper(dropped.append, clock=lambda: 1000.0)
    for _ in range(int(limits.CONNECT.burst)):
        keeper.left(entered(keeper, "192.0.2.2"))
    for _ in range(6):
        entered(keeper, "192.0.2.1")
    assert keeper.enter("192.0.2.2") is None
    assert not dropped


def test_who_was_connected_before_a_takeover_is_no_stranger_to_passwords(few: Keeper) -> None:
    few.restore(1, "192.0.2.1", "alice", 1, 0)
    tried = 0
    while few.guess(f"stranger{tried}", "192.0.2.1") == 0:
        tried += 1
    assert few.guess("alice", "192.0.2.1") == 0, "what strangers try from there is not counted against her"


def talk(run: Callable[[Remote, Other], Any]) -> None:
    """A worker's keeper and, in the same process, the other end of its link."""

    async def go() -> None:
        ours, theirs = pair()
        far = Other(theirs)
        near = Link(ours, lambda message, _: worker.answered(message), lambda: None)
        worker = Remote(near)
        await run(worker, far)
        near.close()
        far.link.close()

    asyncio.run(go())


class Other:
    """A coordinator that answers when the test says so."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.link = Link(sock, lambda message, _: self.heard.put_nowait(message), lambda: None)

    def answer(self, message: Message, answer: object) -> None:
        self.link.send(**{"do": "answer", "id": message["id"], "is": answer})


def test_answers_find_their_questions() -> None:
    async def run(worker: Remote, far: Other) -> None:
        asked = [asyncio.create_task(worker.sessions(n, n)) for n in (1, 2)]
        messages = [await far.heard.get() for _ in asked]
        assert [message["n"] for message in messages] == [1, 2]
        far.answer(messages[1], "no")
        far.answer(messages[0], None)
        assert await asyncio.gather(*asked) == [None, "no"]

    talk(run)


def test_without_an_answer_everything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.05)

    async def run(worker: Remote, far: Other) -> None:
        assert await worker.authenticated(1, "alice") == texts.UNSETTLED
        assert await worker.sessions(1, 1) == texts.UNSETTLED
        assert await worker.guess("alice", "192.0.2.1") > 0
        late = await far.heard.get()
        far.answer(late, None)
        far.answer({"id": 10_000}, None)
        assert await worker.sessions(1, 1) == texts.UNSETTLED

    talk(run)


def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITING_MAX", 3)

    async def run(worker: Remote, far: Other) -> None:
        asked = [asyncio.create_task(worker.sessions(n, 1)) for n in range(3)]
        await far.heard.get()
        assert await worker.sessions(4, 1) == texts.UNSETTLED
        for task in asked:
            task.cancel()

    talk(run)


def test_a_report_has_all_connections_and_every_open_question() -> None:
    async def run(worker: Remote, far: Other) -> None:
        asked = asyncio.create_task(worker.sessions(7, 1))
        first = await far.heard.get()
        rows = [(n, "192.0.2.1", "alice" if n % 2 else None, 0, n) for n in range(250)]
        worker.report(rows)
        seen: list[object] = []
        while (message := await far.heard.get())["do"] == "rows":
            seen += [tuple(row) for row in message["rows"]]
        assert seen == rows
        assert message == {"do": "reported"}
        again = await far.heard.get()
        assert again == first
        far.answer(again, None)
        assert await asked is None

    talk(run)


def test_what_the_other_end_has_no_room_for_waits_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        ours, theirs = pair()
        far = Link(ours, lambda *_: None, lambda: None)
        read_end, write_end = os.pipe()
        for n in range(20_000):
            far.send(do="connection", n=n, fd=read_end if n == 19_999 else None)
        heard: list[int] = []
        done = asyncio.Event()

        def handle(message: Message, descriptors: list[int]) -> None:
            heard.append(message["n"])
            for descriptor in descriptors:
                os.close(descriptor)
                done.set()

        near = Link(theirs, handle, lambda: None)
        await far.flushed()
        await asyncio.wait_for(done.wait(), 10)
        os.close(read_end)
        os.close(write_end)
        assert heard == list(range(20_000))
        near.close()
        far.close()

    asyncio.run(run())


def test_news_that_can_wait_come_with_what_cannot_and_in_order() -> None:
    async def run(worker: Remote, far: Other) -> None:
        worker.left(1)
        asked = asyncio.create_task(worker.sessions(2, 1))
        worker.left(3)
        messages = [await far.heard.get() for _ in range(3)]
        assert [message["n"] for message in messages] == [1, 3, 2]
        assert far.link.taken == 1
        far.answer(messages[2], None)
        assert await asked is None
        worker.left(4)
        assert (await asyncio.wait_for(far.heard.get(), 10))["n"] == 4

    talk(run)


def test_the_end_of_the_other_end_is_told_once() -> None:
    async def run() -> None:
        ours, theirs = pair()
        lost = asyncio.Event()
        near = Link(ours, lambda *_: None, lost.set)
        theirs.close()
        await asyncio.wait_for(lost.wait(), 10)
        near.send(do="ready")
        near.close()

    asyncio.run(run())


def test_accepting_goes_on_after_descriptors_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "PAUSE_SECONDS", 0.05)

    class Short:
        """A listening socket whose process has no descriptors left, once."""

        def __init__(self, inner: socket.socket) -> None:
            self.inner = inner
            self.fails = [True]
            self.fileno, self.close, self.setblocking = inner.fileno, inner.close, inner.setblocking

        def accept(self) -> Any:
            if self.fails:
                self.fails.pop()
                raise OSError(24, os.strerror(24))
            return self.inner.accept()

    async def run() -> None:
        (listener,) = listen_on("127.0.0.1", 0)
        taken: asyncio.Queue[socket.socket] = asyncio.Queue()
        short: Any = Short(listener)
        acceptor = Acceptor([short], Keeper(lambda _: None), lambda sock, _: taken.put_nowait(sock))
        acceptor.resume()
        with socket.create_connection(listener.getsockname()):
            (await asyncio.wait_for(taken.get(), 10)).close()
        acceptor.close()

    asyncio.run(run())


def test_an_address_that_is_none() -> None:
    with pytest.raises(HostError, match=r"cannot listen on 192\.0\.2\.77:2222"):
        listen_on("192.0.2.77", 2222)


def test_a_worker_that_is_not_ready_yet_says_so_to_no_coordinator(tmp_path: Path) -> None:
    async def run(store: Store) -> None:
        ours, theirs = pair()
        far = Other(ours)
        lifecycle = Lifecycle(store, memory_engine(tmp_path), tmp_path)
        worker = Worker(theirs, store, lifecycle, tmp_path, Recorder(tmp_path))
        far.link.send(do="report")
        far.link.send(do="retire")
        await far.link.flushed()
        early = asyncio.create_task(far.heard.get())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not early.done()
        await worker.run(load_host_keys(tmp_path))
        assert (await early)["do"] == "ready"
        far.link.close()

    store = Store.open(tmp_path / "workspaces.db")
    asyncio.run(run(store))
    store.close()
