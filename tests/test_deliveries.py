"""Mail and webhooks: a real mail server and a real web server on loopback, in good and in bad health."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import email
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from standardwebhooks import Webhook as Verifier

from tests.support.certificates import self_signed
from tests.support.faults import Killed, Wrapped
from tests.support.stores import empty, path, store
from workspaces import deliveries, mail
from workspaces.deliveries import Deliverer, Permanent
from workspaces.errors import Conflict, InvalidInput, StoreError
from workspaces.model import Delivery, DeliveryState
from workspaces.settings import Mail
from workspaces.store import Store

SECONDS = 20.0


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(deliveries, "PAUSES", (0.01, 0.02, 0.03))
    monkeypatch.setattr(deliveries, "HOLD_SECONDS", 0.3)


@contextmanager
def delivering(store: Store, keys: Path, settings: Mail | None = None) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=Deliverer(store, keys, settings, "https://gate.example").run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SECONDS)
        assert not thread.is_alive()


class Hook:
    """A web server that answers with `answers` in turn, then 204, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = []
        self.calls: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.calls.append(({k.lower(): v for k, v in self.headers.items()}, body))
                answer = hook.answers.pop(0) if hook.answers else 204
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                if answer // 100 == 3:
                    self.send_header("Location", f"{hook.url}elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    return tmp_path / "keys"


def add_hook(store: Store, keys: Path, url: str) -> str:
    key, secret = deliveries.make_secret(keys)
    store.add_webhook(deliveries.check_url(url), key, actor="chief")
    return secret


def reject(store: Store, name: str = "alice", reason: str = "the ids are missing") -> int:
    snapshot = store.request_snapshot(store.workspace(f"als/{name}").id, "m", actor=name, via="ssh")
    store.reject_snapshot(snapshot.id, reason, actor="chief")
    return snapshot.id


def states(store: Store) -> list[str]:
    return [delivery.state.value for delivery in store.deliveries()]


def held_up(delivery: Delivery) -> bool:
    """By a server that says nothing."""
    return any(said in str(delivery.error) for said in ("It took longer", "An earlier try has not ended"))


# webhooks


def test_a_webhook_is_called_signed_and_in_order(store: Store, keys: Path, hook: Hook) -> None:
    secret = add_hook(store, keys, hook.url)
    number = reject(store)
    with delivering(store, keys):
        until(lambda: states(store) == ["sent", "sent"])
    found = [Verifier(secret).verify(body, headers) for headers, body in hook.calls]
    assert [event["type"] for event in found] == ["snapshot.requested", "snapshot.rejected"]
    data = found[1]["data"]
    assert (data["snapshot"], data["workspace"], data["actor"]) == (number, "als/alice", "chief")
    assert data["reason"] == "the ids are missing"
    headers, body = hook.calls[1]
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(secret).verify(body.replace(b"chief", b"thief"), headers)
    assert len({headers["webhook-id"] for headers, _ in hook.calls}) == 2


@pytest.mark.parametrize("refusal", [500, 404, 302])
def test_what_is_refused_is_tried_again_with_the_same_id(store: Store, keys: Path, hook: Hook, refusal: int) -> None:
    """A redirect is a refusal: what is at the other end was not chosen by an administrator."""
    add_hook(store, keys, hook.url)
    hook.answers = [refusal, refusal]
    reject(store)
    with delivering(store, keys):
        until(lambda: states(store) == ["sent", "sent"])
    first = store.deliveries()[-1]
    assert [headers["webhook-id"] for headers, _ in hook.calls].count(first.token) >= 2
    assert len(hook.calls) == 4
    assert sorted(delivery.attempts for delivery in store.deliveries()) in ([2, 2], [1, 3])


def test_it_is_given_up_in_the_end_and_can_be_retried(store: Store, keys: Path, hook: Hook) -> None:
    secret = add_hook(store, keys, hook.url)
    hook.answers = [503] * 8
    reject(store)
    with delivering(store, keys):
        until(lambda: states(store) == ["dead", "dead"])
        dead = store.deliveries([DeliveryState.DEAD])[0]
        assert (dead.attempts, dead.error) == (4, "It answered 503.")
        store.retry_delivery(dead.id, actor="chief")
        until(lambda: store.delivery(dead.id).state is DeliveryState.SENT)
        with pytest.raises(Conflict, match="only a dead one"):
            store.retry_delivery(dead.id, actor="chief")
    assert Verifier(secret).verify(hook.calls[-1][1], hook.calls[-1][0])["type"] == dead.kind


def test_gone_is_given_up_at_once(store: Store, keys: Path, hook: Hook) -> None:
    add_hook(store, keys, hook.url)
    hook.answers = [410, 410]
    reject(store)
    with delivering(store, keys):
        until(lambda: states(store) == ["dead", "dead"])
    assert len(hook.calls) == 2


def test_killed_between_sending_and_recording_it_is_sent_again_with_the_same_id(
    store: Store, keys: Path, hook: Hook
) -> None:
    add_hook(store, keys, hook.url)
    store.request_snapshot(store.workspace("als/alice").id, "m", actor="alice", via="ssh")

    def die(name: str, call: Callable[[], Any]) -> Any:
        if name == "end_delivery":
            raise Killed(name)
        return call()

    dying: Any = Wrapped(store, die)
    with pytest.raises(Killed):
        Deliverer(dying, keys, None).run(threading.Event())
    assert states(store) == ["waiting"]
    with delivering(store, keys):
        until(lambda: states(store) == ["sent"])
    ids = [headers["webhook-id"] for headers, _ in hook.calls]
    assert ids == [store.deliveries()[0].token] * 2


def test_while_the_database_cannot_be_written_nothing_is_sent(store: Store, keys: Path, hook: Hook) -> None:
    add_hook(store, keys, hook.url)
    store.request_snapshot(store.workspace("als/alice").id, "m", actor="alice", via="ssh")
    tries: list[str] = []

    def full(name: str, call: Callable[[], Any]) -> Any:
        if name in ("claim_delivery", "end_delivery") and len(tries) < 5:
            tries.append(name)
            raise StoreError("The disk is full.")
        return call()

    failing: Any = Wrapped(store, full)
    with delivering(failing, keys):
        until(lambda: states(store) == ["sent"])
    assert tries == ["claim_delivery"] * 5
    assert len(hook.calls) == 1


@pytest.mark.slow
def test_one_that_does_not_answer_holds_up_its_own_only(
    store: Store, keys: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TRY_SECONDS", 1.0)
    release = threading.Event()

    def hold(_: BaseHTTPRequestHandler) -> None:
        release.wait(SECONDS)

    stuck = Hook()
    stuck.answers = [hold] * 9
    add_hook(store, keys, stuck.url)
    add_hook(store, keys, hook.url)
    try:
        with delivering(store, keys):
            reject(store)
            until(lambda: len(hook.calls) == 2)
            until(lambda: any(held_up(d) for d in store.deliveries()))
            reject(store, "bob")
            until(lambda: len(hook.calls) == 4)
            assert len(stuck.calls) == 1  # not one more thread for each try
    finally:
        release.set()
        stuck.close()


def test_a_server_that_cannot_be_reached_says_so(store: Store, keys: Path, hook: Hook) -> None:
    add_hook(store, keys, hook.url)
    hook.close()
    store.request_snapshot(store.workspace("als/alice").id, "m", actor="alice", via="ssh")
    with delivering(store, keys):
        until(lambda: states(store) == ["dead"])
    assert store.deliveries()[0].error == "It cannot be reached."


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "168.63.129.16", "[fd00:ec2::254]", "0.0.0.0"]
)
def test_metadata_and_link_local_addresses_are_never_called(host: str) -> None:
    with pytest.raises(Permanent, match="never called"):
        deliveries.check_target(f"http://{host}/latest/meta-data")


def test_addresses_of_webhooks(store: Store, keys: Path) -> None:
    for url in ("ftp://x/", "https://", "x", "https://a b/", "https://x/#y", "https://x:99999/", "https://x/\n", "http://[/",
                "https://u:p@x/", "https://x/" + "y" * 500, "https://ü/"):  # fmt: skip
        with pytest.raises(InvalidInput):
            deliveries.check_url(url)
    add_hook(store, keys, "https://chat.example/hooks/1?a=b")
    with pytest.raises(Conflict):
        add_hook(store, keys, "https://chat.example/hooks/1?a=b")


def test_a_removed_webhook_is_called_no_more(store: Store, keys: Path, hook: Hook) -> None:
    add_hook(store, keys, hook.url)
    reject(store)
    store.remove_webhook(store.webhooks()[0].id, actor="chief")
    assert store.deliveries() == []
    reject(store)
    assert [d.kind for d in store.deliveries()] == []


def test_the_secret_is_for_its_owner_only(store: Store, keys: Path, hook: Hook) -> None:
    add_hook(store, keys, hook.url)
    [file] = keys.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    store.request_snapshot(store.workspace("als/alice").id, "m", actor="alice", via="ssh")
    with delivering(store, keys):
        until(lambda: states(store) == ["dead"])
    assert "Others may read" in str(store.deliveries()[0].error)
    assert hook.calls == []


# mail


class _Controller(Controller):
    """On a port that the kernel chooses."""

    def _trigger_server(self) -> None:
        server: Any = self.server
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


class Post:
    """A mail server that keeps what it takes, and refuses recipients as `refusals` says."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[Message] = []
        self.refusals: dict[str, list[str]] = {}
        self._controller = _Controller(self, hostname="127.0.0.1", port=0, **options)
        self._controller.start()
        self.port: int = self._controller.port

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        left = self.refusals.get(address, [])
        if left:
            return left.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 taken"

    def close(self) -> None:
        self._controller.stop(no_assert=True)


@pytest.fixture
def post() -> Iterator[Post]:
    made = Post()
    yield made
    made.close()


def settings(port: int, security: str = "none", user: str = "") -> Mail:
    return Mail("localhost", port, security, user, "workspaces@gate.example")


def test_people_with_an_address_are_mailed(store: Store, keys: Path, post: Post) -> None:
    store.set_email("alice", "alice@example.org", actor="chief")
    store.set_email("chief", "chief@example.org", actor="chief")
    reject(store, reason="No.\nBcc: mallory@example.org\n\nü")
    with delivering(store, keys, settings(post.port)):
        until(lambda: states(store) == ["sent", "sent"])
    to_chief, to_alice = post.mails
    assert (to_chief["To"], to_chief["Subject"]) == ("chief@example.org", "als/alice: snapshot requested")
    assert (to_alice["To"], to_alice["From"]) == ("alice@example.org", "workspaces@gate.example")
    assert to_alice["Bcc"] is None
    assert to_alice["Auto-Submitted"] == "auto-generated"
    assert to_alice["Message-ID"] == f"<{store.deliveries()[0].token}@gate.example>"
    text = to_alice.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert text.decode().splitlines() == [
        "Your snapshot of als/alice was rejected by chief: No. Bcc: mallory@example.org ü",
        "",
        "https://gate.example/me",
    ]


@pytest.mark.slow
def test_a_mail_server_that_says_nothing_holds_up_no_webhook(
    store: Store, keys: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TRY_SECONDS", 1.0)
    monkeypatch.setattr(mail, "SECONDS", 3.0)
    store.set_email("alice", "alice@example.org", actor="chief")
    add_hook(store, keys, hook.url)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        delivering(store, keys, settings(silent.getsockname()[1])),
    ):
        for _ in range(2):
            reject(store)
        until(lambda: len(hook.calls) == 4)
        until(lambda: any(held_up(d) for d in store.deliveries()))
    assert [d.state for d in store.deliveries() if d.user and d.state is DeliveryState.SENT] == []


def test_a_refused_recipient_is_given_up_and_a_postponed_one_is_not(store: Store, keys: Path, post: Post) -> None:
    for name in ("alice", "bob"):
        store.set_email(name, f"{name}@example.org", actor="chief")
    post.refusals = {"alice@example.org": ["550 no such person"], "bob@example.org": ["451 greylisted"] * 2}
    reject(store, "alice")
    reject(store, "bob")
    with delivering(store, keys, settings(post.port)):
        until(lambda: sorted(states(store)) == ["dead", "sent"])
    dead = store.deliveries([DeliveryState.DEAD])[0]
    assert dead.error == "The mail server refuses alice@example.org: 550 no such person"
    assert [mail["To"] for mail in post.mails] == ["bob@example.org"]


def test_encrypted_with_a_password(store: Store, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    given: list[tuple[bytes, bytes]] = []

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        given.append((data.login, data.password))
        return AuthResult(success=data.password == b"open sesame")

    post = Post(tls_context=context, require_starttls=True, authenticator=authenticate, auth_required=True)
    try:
        store.set_email("alice", "alice@example.org", actor="chief")
        reject(store)
        found = settings(post.port, "starttls", "gate")
        password = keys / mail.PASSWORD_FILE
        with delivering(store, keys, found):  # nobody knows the certificate
            until(lambda: states(store) == ["dead"])
        assert given == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        store.retry_delivery(store.deliveries()[0].id, actor="chief")
        password.write_text("open sesame\n")
        password.chmod(0o600)
        with delivering(store, keys, found):
            until(lambda: states(store) == ["sent"])
        assert given[0] == (b"gate", b"open sesame")
        password.chmod(0o644)
        reject(store)
        with delivering(store, keys, found):
            until(lambda: "Others may read" in str(store.deliveries()[0].error))
        assert len(post.mails) == 1
    finally:
        post.close()


def test_without_a_mail_server_mail_is_given_up(store: Store, keys: Path) -> None:
    store.set_email("alice", "alice@example.org", actor="chief")
    reject(store)
    with delivering(store, keys):
        until(lambda: states(store) == ["dead"])
    assert "[mail] server is not set" in str(store.deliveries()[0].error)


def test_an_address_that_is_removed_is_not_mailed(store: Store, keys: Path, post: Post) -> None:
    store.set_email("alice", "alice@example.org", actor="chief")
    reject(store)
    store.set_email("alice", None, actor="chief")
    with delivering(store, keys, settings(post.port)):
        until(lambda: states(store) == ["dead"])
    assert post.mails == []


@pytest.mark.parametrize(
    "address",
    ["", "alice", "a@b\nBcc: c@d", "a@b\r", '"a b"@c', "a@b,c@d", "<a@b>", "a@-b", "a b@c", "é@b.c", "a@" + "b" * 260,
     "a@b\x00"],
)  # fmt: skip
def test_what_is_no_address_is_refused(store: Store, address: str) -> None:
    with pytest.raises(InvalidInput, match="is not an e-mail address"):
        store.set_email("alice", address, actor="chief")
    assert store.user("alice").email is None


def test_no_line_break_gets_into_a_header() -> None:
    with pytest.raises(ValueError, match="line"):
        mail.compose(settings(25), "a@b.example", "x\nBcc: c@d", "", token="t")
