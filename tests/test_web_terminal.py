"""The terminal without a browser: who gets in, what the gateway sees, and bytes that one side does not take."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from sshgate.grant import Certificate, judge_certificate
from tests.support.gateway import PASSWORD, Person, until
from tests.support.web import Browser
from tests.support.webgate import WebGate, web_gate
from webadmin import watching
from webadmin.terminal import door, relay
from workspaces.errors import SettingsError
from workspaces.keyoptions import TERMINAL_KEY_ID, Options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebGate]:
    with web_gate(tmp_path_factory.mktemp("web")) as gate:
        yield gate


_number = iter(range(1000))


@pytest.fixture
def person(gate: WebGate) -> Person:
    return gate.stage.person(f"p{next(_number)}", password=True)


class Page:
    """What the page does: acknowledges what it has shown, and sends no more than it may."""

    def __init__(self, talk: ClientConnection, *, size: tuple[int, int] = (80, 24)) -> None:
        self.talk = talk
        self.shown = b""
        self.sent = self.acknowledged = 0
        self.told: list[dict[str, object]] = []
        self.tell(open=list(size))

    def tell(self, **message: object) -> None:
        with suppress(ConnectionClosed):  # what was said before is read yet
            self.talk.send(json.dumps(message))

    def take(self, *, acknowledge: bool = True) -> None:
        message = self.talk.recv(20)
        if isinstance(message, str):
            self.told.append(json.loads(message))
            self.acknowledged += int(self.told[-1].get("ack", 0))  # type: ignore[call-overload]
        else:
            self.shown += message
            if acknowledge:
                self.tell(ack=len(message))

    def until(self, text: bytes) -> bytes:
        """What was shown up to that text; it is forgotten."""
        while text not in self.shown:
            self.take()
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def type(self, data: bytes) -> None:
        for start in range(0, len(data), 16384):
            piece = data[start : start + 16384]
            while self.sent + len(piece) - self.acknowledged > relay.INPUT:
                self.take()
            self.talk.send(piece)
            self.sent += len(piece)

    def end(self) -> dict[str, object]:
        """Until the connection is closed; what was said last."""
        while True:
            try:
                self.take()
            except ConnectionClosed:
                return self.told[-1]


def open_page(gate: WebGate, person: Person, browser: Browser | None = None) -> Page:
    assert person.workspace
    return Page(gate.socket(browser or gate.sign_in(person.name, PASSWORD), person.workspace.id))


# who gets in, and what is written down


def test_a_shell_in_the_own_workspace(gate: WebGate, person: Person) -> None:
    page = open_page(gate, person)
    page.type(
        b"stty size; echo $WORKSPACE_USER; echo $SSH_CLIENT; echo \xc3\xa4 | od -An -tx1; stty -echo; echo re''ady\n"
    )
    text = page.until(b"ready\r\n")
    assert b"24 80" in text
    assert f"\n{person.name}\r\n".encode() in text
    assert b"127.0.0.1 0 " in text, "the browser's address"
    assert b"c3 a4 0a" in text
    page.tell(resize=[100, 30])
    page.type(b"while [ \"$(stty size)\" != '30 100' ]; do sleep 0.05; done; echo re''sized\n")
    page.until(b"resized")
    (session,) = gate.stage.store.sessions(user=person.name)
    assert (session.kind, session.address) == ("shell", "127.0.0.1 (web terminal)")
    login = gate.stage.store.events(actor=person.name, kind="login.accepted")[0]
    assert login.data["with"] == "web terminal"
    assert login.data["key_id"] == "web terminal from 127.0.0.1"
    page.type(b"exit 7\n")
    assert page.end() == {"exit": 7}
    until(lambda: not gate.stage.store.sessions(user=person.name), 10)


@pytest.mark.parametrize("case", ["nobody", "another", "no origin", "foreign origin", "not there"])
def test_nobody_else_gets_in(gate: WebGate, person: Person, case: str) -> None:
    assert person.workspace
    other = gate.stage.person(f"o{next(_number)}", password=True)
    browser = None if case == "nobody" else gate.sign_in((other if case == "another" else person).name, PASSWORD)
    origin = {"no origin": None, "foreign origin": "https://evil.example"}.get(case, "")
    number = 999 if case == "not there" else person.workspace.id
    expected = {"nobody": 401, "another": 404, "not there": 404}.get(case, 403)
    with pytest.raises(InvalidStatus) as refused:
        gate.socket(browser, number, origin)
    assert refused.value.response.status_code == expected
    if browser and "origin" not in case:
        assert browser.get(f"/me/workspaces/{number}/terminal").status_code == 404
    assert not gate.stage.store.sessions(user=person.name)


@pytest.mark.parametrize("how", ["disabled", "signed out", "killed", "no member", "idle"])
def test_it_ends_with_the_right_to_it(gate: WebGate, person: Person, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "ASK_SECONDS", 0.2)
    store, browser = gate.stage.store, gate.sign_in(person.name, PASSWORD)
    page = open_page(gate, person, browser)
    page.type(b"echo re''ady\n")
    page.until(b"ready\r\n")
    begun = time.monotonic()
    if how == "disabled":
        store.set_disabled(person.name, True, actor="chief")
    elif how == "signed out":
        browser.post("/logout")
    elif how == "no member":
        assert person.workspace
        store.remove_member(person.workspace.id, person.name, actor="chief")
    elif how == "idle":  # for a day; the page is open all the while, and the store goes on changing
        with store._write() as db:
            db.execute("UPDATE sign_ins SET seen_at = seen_at - 86400 WHERE via = 'password'")
    else:
        store.kill_session(store.sessions(user=person.name)[0].id, actor="chief")
    last = page.end()
    assert last == {"error": "over"} or (how not in ("signed out", "idle") and "exit" in last)
    assert time.monotonic() - begun < 8
    until(lambda: not store.sessions(user=person.name), 10)


def test_proving_again_who_one_is_ends_no_terminal(gate: WebGate, person: Person) -> None:
    page = open_page(gate, person)
    page.type(b"echo re''ady\n")
    page.until(b"ready\r\n")
    (sign_in,) = gate.stage.store.sign_ins(person.name)
    gate.stage.store.prove_sign_in(sign_in.id, "another digest")
    gate.sign_in(person.name, PASSWORD)  # that is a change of who is signed in, so it is asked again
    time.sleep(1)  # it is looked at meanwhile
    page.type(b"echo st''ill\n")
    page.until(b"still\r\n")
    page.talk.close()


def test_terminals_of_one_person_are_bounded(gate: WebGate, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "EACH_MAX", 2)
    browser = gate.sign_in(person.name, PASSWORD)
    pages = [open_page(gate, person, browser) for _ in range(2)]
    for page in pages:
        page.type(b"echo re''ady\n")
        page.until(b"ready\r\n")
    assert open_page(gate, person, browser).end() == {"error": "many"}
    pages[0].talk.close()

    def there_is_room() -> bool:
        page = open_page(gate, person, browser)
        page.take()
        page.talk.close()
        return page.told != [{"error": "many"}]

    until(there_is_room, 10)
    pages[1].talk.close()


# bytes


def test_what_is_binary_stays_so_and_letters_may_be_split(gate: WebGate, person: Person) -> None:
    page = open_page(gate, person)
    data = random.Random(5).randbytes(300_000).replace(b"\0", b"")
    page.type(
        b"stty raw -echo; echo re''ady; head -c %d | tee /tmp/x$$ | sha256sum; cat /tmp/x$$; rm /tmp/x$$\n" % len(data)
    )
    page.until(b"ready\n")
    page.type(data)
    page.until(hashlib.sha256(data).hexdigest().encode() + b"  -\n")
    while len(page.shown) < len(data):
        page.take()
    assert page.shown[: len(data)] == data
    page.talk.close()


def test_pasting_a_megabyte_into_what_echoes_it_does_not_lock_up(gate: WebGate, person: Person) -> None:
    page = open_page(gate, person)
    lines = b"".join(b"%07d %s\n" % (n, b"x" * 91) for n in range(10_500))
    page.type(b"wc -c; echo re''ady\n")
    page.type(lines + b"\x04")
    text = page.until(b"ready\r\n")
    assert str(len(lines)).encode() in text  # what the terminal has still to echo may come after it
    page.talk.close()


def test_a_page_that_acknowledges_nothing_stops_its_program(gate: WebGate, person: Person) -> None:
    page = open_page(gate, person)
    page.type(b"stty -echo; seq 1000000\n")
    got = 0
    with suppress(TimeoutError):
        while got <= relay.OUTPUT:
            message = page.talk.recv(2)
            got += len(message) if isinstance(message, bytes) else 0
    assert got <= relay.OUTPUT
    page.tell(ack=got)  # and goes on
    page.until(b"\n1000000\r\n")
    page.talk.close()


@pytest.mark.parametrize(
    "message",
    [
        '{"ack": 999999999}', '{"ack": -1}', '{"ack": true}', '{"resize": [1]}', '{"resize": ["a", 2]}', "[]", "x",
        '{"a": 1, "b": 2}', "[" * 190, b"x" * (relay.INPUT // 2),
    ],
)  # fmt: skip
def test_a_page_that_breaks_the_rules_is_ended(gate: WebGate, person: Person, message: bytes | str) -> None:
    page = open_page(gate, person)
    page.type(b"stty -echo raw; echo re''ady; sleep 20\n")
    page.until(b"ready\n")
    for _ in range(8 if isinstance(message, bytes) else 1):
        try:
            page.talk.send(message)
        except ConnectionClosed:
            break
    assert page.end() == {"error": "broken"}


def test_sizes_are_bounded(gate: WebGate, person: Person) -> None:
    assert person.workspace
    browser = gate.sign_in(person.name, PASSWORD)
    page = Page(gate.socket(browser, person.workspace.id), size=(10**9, -5))
    page.type(b"stty size\n")
    page.until(b"1 1000\r\n")
    page.talk.close()


def test_one_who_reads_nothing_holds_up_nobody(gate: WebGate, person: Person) -> None:
    """Its socket is full, with pages and another terminal beside it."""
    stuck, other = open_page(gate, person), open_page(gate, person)
    stuck.type(b"cat /dev/zero\n")
    raw: socket.socket = stuck.talk.socket
    stop = threading.Event()

    def lie() -> None:  # acknowledges what it does not read
        while not stop.wait(0.01):
            try:
                stuck.talk.send(json.dumps({"ack": 1}))
            except ConnectionClosed:
                return

    liar = threading.Thread(target=lie)
    liar.start()
    assert raw.fileno() > 0
    for n in range(5):
        other.type(f"echo n''{n}\n".encode())
        other.until(f"n{n}\r\n".encode())
        assert gate.browser.get("/healthz").status_code == 200
    stop.set()
    liar.join()
    stuck.talk.close()
    other.talk.close()


# the authority


def certificate(authority: str, **changes: object) -> Certificate:
    now = time.time()
    facts: dict[str, object] = {
        "authority": authority, "key_id": f"{TERMINAL_KEY_ID}198.51.100.9", "serial": 1, "principals": ("alice",),
        "valid_after": now - 5, "valid_before": now + 60, "options": Options(),
        "line": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAfuCHKVTjquxvt6CM6tdG4SLp1Btn/nOeHHE5UOzRdf",
    }  # fmt: skip
    return Certificate(**{**facts, **changes})  # type: ignore[arg-type]


def test_the_gateway_believes_the_authority_from_this_host_only(gate: WebGate) -> None:
    store = gate.stage.store
    if store.find_user("alice") is None:
        gate.stage.person("alice")
    key = door.signing_key(gate.settings.keys)
    own = door.fingerprint_of(key)
    store.set_terminal_authority(own, actor="test")
    now = time.time()
    judge = judge_certificate
    assert (grant := judge(store, "alice", certificate(own), "127.0.0.1", now)) is not None
    assert (grant.visitor, grant.challenges) == ("198.51.100.9", None)
    assert judge(store, "alice", certificate(own), "192.0.2.7", now, "192.0.2.7") is not None
    assert judge(store, "alice", certificate(own), "192.0.2.8", now, "192.0.2.7") is None
    assert judge(store, "alice", certificate(own, principals=("bob",)), "127.0.0.1", now) is None
    assert judge(store, "alice", certificate(own, valid_before=now - 1), "127.0.0.1", now) is None
    assert judge(store, "alice", certificate("SHA256:other"), "127.0.0.1", now) is None
    hostile = judge(store, "alice", certificate(own, key_id="<script>"), "127.0.0.1", now)
    assert hostile is not None
    assert hostile.visitor == "?"


def test_its_key_is_nobody_elses_to_read(tmp_path: Path) -> None:
    first = door.fingerprint_of(door.signing_key(tmp_path))
    assert (tmp_path / door.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert door.fingerprint_of(door.signing_key(tmp_path)) == first
    (tmp_path / door.KEY_FILE).chmod(0o644)
    with pytest.raises(SettingsError, match="Others may read"):
        door.signing_key(tmp_path)
    (tmp_path / door.KEY_FILE).chmod(0o600)
    (tmp_path / door.KEY_FILE).write_text("nothing")
    with pytest.raises(SettingsError, match="get a new one"):
        door.signing_key(tmp_path)
