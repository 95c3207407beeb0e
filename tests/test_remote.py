"""`workspaces --server URL`: the same commands print the same here and through the API of a real server."""

from __future__ import annotations

import datetime
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.serving import in_a_thread
from tests.support.web import Web, web_fixture
from webadmin.server import Server
from workspaces import apitokens
from workspaces.cli import common
from workspaces.cli.common import cli
from workspaces.errors import HostError, UsageError, WorkspacesError
from workspaces.model import Change, ChangeReport, JobKind
from workspaces.remote import Client

__all__ = ["web_fixture"]

pytestmark = pytest.mark.slow

Run = Callable[..., Result]


@pytest.fixture
def url(web: Web) -> Iterator[str]:
    with in_a_thread(Server(web.app, web.settings)) as address:
        yield address


@pytest.fixture
def there(web: Web, url: str) -> Run:
    """Run a command on the server, as chief or whoever is named."""
    secrets: dict[str, str] = {}

    def run(*arguments: str, who: str = "chief", answers: str = "") -> Result:
        if who not in secrets:
            wanted = ("admin",) if who == "chief" else ("read", "snapshots", "workspaces")
            secrets[who] = apitokens.make(web.store, who, "cli", wanted, 1, actor="test")[1]
        return CliRunner().invoke(
            cli, ["--server", url, *arguments], input=answers, env={"WORKSPACES_TOKEN": secrets[who]}
        )

    return run


@pytest.fixture
def here(web: Web) -> Run:
    return lambda *arguments: CliRunner().invoke(cli, ["--home", str(web.settings.home), *arguments])


@contextmanager
def worker(web: Web, found: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """One that says of each job that it is done, and of some kinds what they found."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            if job := web.store.claim_job():
                web.store.job_progress(job.id, 0.5, "Half of it.")
                if job.kind in found:
                    about = "{old}:{new}".format(**job.arguments) if job.kind is JobKind.DIFF else ""
                    web.store.set_report(job.id, about, found[job.kind])
                web.store.finish_job(job.id, f"{job.kind} is done.")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_what_is_shown_is_the_same_here_and_there(web: Web, here: Run, there: Run) -> None:
    there("list")  # so that the token is there before what is compared
    number = web.request("alice", "<b>first</b> \u202ereversed")
    changes = (
        Change("added", "/root/model.bin", 1 << 20, 0o644),
        Change("changed", "/etc/passwd", 90, 0o644, ("mode",)),
    )
    web.store.set_changes(
        number, ChangeReport(1_700_000_000.5, "base:1", 1, 1, 0, 1 << 20, changes, ("A warning.",), ("/tmp",))
    )
    done = web.request("bob")
    web.store.approve_snapshot(done, actor="chief")
    web.store.begin_commit(done)
    web.store.finish_commit(done, "als/bob:v1", "sha256:1", ("sha256:2",), 10)
    job = web.store.add_job(JobKind.STOP, web.workspace_id("bob"), actor="chief")
    web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    ended = web.store.begin_session("bob", web.workspace_id("bob"), "exec", "192.0.2.2", "p", time.time())
    web.store.end_session(ended, 1_700_000_060.0)
    for command in (
        "list", "list --json", "list --challenge als --state absent", "list --state running", "show alice",
        "show als/bob", "snapshot list", "snapshot list bob", "snapshot list --state requested",
        f"snapshot show {number}", f"snapshot show {number} --all", f"snapshot show {done}", "job list",
        "job list --state queued --json", f"job show {job.id} --log", f"job show {job.id} --json", "user list",
        "challenge list", "challenge show als", "challenge show als --json", "session list --all --user bob",
        "audit list", "audit list --actor alice --limit 2", "members als/alice", "user show alice", "key list alice",
        "limits alice --json", "announcement list", "session list --recorded", "archive prune",
        "show nobody", "challenge show nobody",
    ):  # fmt: skip
        a, b = here(*command.split()), there(*command.split())
        assert (a.exit_code, a.stdout) == (b.exit_code, b.stdout), (command, b.exception)
        assert type(a.exception) is type(b.exception), command


def test_what_is_done_there_is_done(web: Web, there: Run) -> None:
    assert (
        "Request #1 waits" in there("snapshot", "request", "alice", "-m", "v1", "--cmd", "run me", who="alice").output
    )
    snapshot = web.store.snapshot(1)
    assert (snapshot.requested_by, snapshot.command.cmd if snapshot.command else ()) == (
        "alice",
        ("/bin/sh", "-c", "run me"),
    )
    refused = there("snapshot", "approve", "1", who="alice")
    assert isinstance(refused.exception, WorkspacesError)
    assert "role" in refused.exception.message
    assert "is rejected; alice will read" in there("snapshot", "reject", "1", "-m", "no").output
    there("snapshot", "request", "alice", "-m", "v2", who="alice")
    assert "withdrawn" in there("snapshot", "withdraw", "2", who="alice").output
    there("snapshot", "request", "alice", "-m", "v3", who="alice")
    assert "commits it" in there("snapshot", "approve", "3").output
    job = next(job for job in web.store.jobs() if job.kind is JobKind.COMMIT)
    assert "cancelled" in there("job", "cancel", str(job.id)).output
    assert "tries it again" in there("snapshot", "retry", "3").output
    there("user", "add", "dora", "--challenge", "als")
    there("user", "disable", "dora")
    assert web.store.user("dora").disabled
    assert there("members", "als/alice", "--add", "bob").output.split() == ["alice", "bob"]
    session = web.store.begin_session("alice", web.workspace_id("alice"), "shell", "192.0.2.1", "p", time.time())
    assert "ends within" in there("session", "kill", str(session)).output
    assert web.store.session(session).ended_at


def test_containers_are_started_and_reset_by_jobs_that_are_waited_for(web: Web, there: Run) -> None:
    with worker(web):
        assert "als/alice runs." in there("start", "alice", who="alice").output
        assert "is stopped" in there("stop", "als/alice").output
        assert isinstance(there("reset", "alice", answers="n\n").exception, UsageError)
        assert "is reset" in there("reset", "alice", answers="y\n").output
        shown = there("job", "show", "1", "--follow")
    assert "start is done." in shown.output
    assert [job.kind for job in web.store.jobs()] == ["reset", "stop", "start"]


def test_what_needs_the_host_says_so(web: Web, there: Run) -> None:
    for command in ("engine status", "init", "doctor", "archive list", "archive verify --identity x", "token list",
                    "image build x", "user passwd alice --password-file -", "user remove alice", "session watch 1",
                    "key remove alice SHA256:x", "snapshot verify 1",
                    "snapshot statement 1", "snapshot diff alice 1 2 --with bob"):  # fmt: skip
        result = there(*command.split())
        assert isinstance(result.exception, UsageError), (command, result.output, result.exception)
        assert "host" in str(result.exception)


def test_a_token_is_needed_and_not_shown_to_others(web: Web, url: str, tmp_path: Path) -> None:
    run = CliRunner()
    assert isinstance(run.invoke(cli, ["--server", url, "list"], env={"WORKSPACES_TOKEN": ""}).exception, UsageError)
    wrong = run.invoke(cli, ["--server", url, "list"], env={"WORKSPACES_TOKEN": "wst_wrong"}).exception
    assert isinstance(wrong, WorkspacesError)
    assert "unknown" in wrong.message
    file = tmp_path / "token"
    file.write_text(apitokens.make(web.store, "chief", "file", ["read"], 1, actor="test")[1] + "\n")
    assert "als/alice" in run.invoke(cli, ["--server", url, "--token-file", str(file), "list"]).output
    for address in ("http://example.org", "ftp://localhost", "https://user@example.org", "example.org", "https://"):
        with pytest.raises(UsageError):
            Client(address, "wst_x")
    for token in ("", "a b", "a\nb", "ä"):
        with pytest.raises(UsageError):
            Client("https://example.org", token)


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on loopback that answers everything so; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"<html>hello", {"Content-Type": "text/html"}),
        (200, b"[1, 2", {"Content-Type": "application/json"}),
        (302, b"", {"Location": "https://elsewhere.example.org/"}),
        (200, b'{"items": [{"id": "\\u001b[31m"}], "next": null}', {"Content-Type": "application/json"}),
        (200, b'{"items": [], "next": "https://elsewhere.example.org/x"}', {"Content-Type": "application/json"}),
        (500, b'{"detail": "\\u001b[31m red", "errors": [3]}', {"Content-Type": "application/problem+json"}),
    ],
)
def test_what_is_no_answer_of_a_server_is_told_and_not_followed(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    from workspaces.remote import RemoteStore

    with answering(status, body, headers) as address, pytest.raises(WorkspacesError) as caught:
        RemoteStore(Client(address, "wst_x")).workspaces()
    assert "\x1b" not in str(caught.value)


def test_who_does_not_prove_who_it_is_gets_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workspaces.remote.client.time.sleep", lambda _: None)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "pem").write_bytes(pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "pem")
    kind = {"Content-Type": "application/json"}
    with answering(200, b"{}", kind, tls) as address, pytest.raises(HostError) as caught:
        Client(address, "wst_x").get("/me")
    assert "prove" in caught.value.message


def test_commands_elsewhere_are_commands() -> None:
    assert {name for names in common.COMMANDS.values() for name in names} >= common.ELSEWHERE
