"""A registry that refuses, lies, hangs or sends elsewhere: the push fails with its reason, the version stays."""

from __future__ import annotations

import hashlib
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.registries import (
    PROGRAM,
    Answer,
    FakeRegistry,
    MemoryRegistry,
    Request,
    basic,
    real_registry,
    write_credentials,
)
from tests.support.savetar import sha256
from tests.support.worlds import World, world
from workspaces import jobs
from workspaces.errors import RegistryError, SettingsError
from workspaces.model import Job, JobKind, JobState, SnapshotState
from workspaces.registry import Registry, client
from workspaces.settings import load

pytestmark = pytest.mark.slow

__all__ = ["world"]

Rule = Callable[[Request], Answer | None]
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(jobs, "CLAIM_SECONDS", 0.01)


def pushed(world: World, fake: FakeRegistry) -> Job:
    """The push of a new version to that registry, once it has ended; the version is archived whatever came of it."""
    world.registry = Registry(f"{fake.url}/team", world.root / "keys")
    (world.rootfs / "root" / "one").write_text("1")
    snapshot = world.approved()
    world.work()
    done = world.store.snapshot(snapshot.id)
    assert (done.state, done.version) == (SnapshotState.ARCHIVED, 1), world.describe()
    [job] = [job for job in world.store.jobs() if job.kind is JobKind.PUSH]
    assert (job.state is JobState.DONE) is (done.registry_ref is not None)
    return job


def on(method: str, part: str, answer: Answer | None) -> Rule:
    """A registry that works but for these requests."""
    memory = MemoryRegistry()
    return lambda request: answer if request.method == method and part in request.path else memory(request)


def error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {}, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


_SHARED = MemoryRegistry()

REFUSALS: dict[str, tuple[Rule, str]] = {
    "no password": (lambda _: Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}), "there is none"),
    "no kind": (lambda _: Answer(401), "unknown kind of sign-in: ''"),
    "strange kind": (lambda _: Answer(401, {"WWW-Authenticate": "Negotiate \x1b[31m"}), "'Negotiate"),
    "no realm": (lambda _: Answer(401, {"WWW-Authenticate": "Bearer ,,,="}), "unknown kind of sign-in"),
    "clear realm": (
        lambda _: Answer(401, {"WWW-Authenticate": 'Bearer realm="http://registry.invalid/t"'}),
        "in the clear at 'http://registry.invalid/t'",
    ),
    "denied": (
        on("POST", "/uploads/", error(403, "DENIED", "not \x1b[31m yours")),
        r"POST with 403: DENIED, not \x1b[31m yours.",
    ),
    "too large": (on("PUT", "/blobs/", Answer(413)), "bound the size of uploads"),
    "unknown": (on("POST", "/uploads/", error(404, "NAME_UNKNOWN", "no such project")), "no such project"),
    "manifest": (on("PUT", "/manifests/", error(400, "MANIFEST_INVALID", "no")), "PUT with 400: MANIFEST_INVALID, no"),
    "page": (on("PUT", "/manifests/", Answer(405, {}, b"<html>" * 99999)), "PUT with 405."),
    "other digest": (
        on("PUT", "/manifests/", Answer(201, {"Docker-Content-Digest": DIGEST})),
        "stored another manifest than was sent",
    ),
    "other blob": (
        on("PUT", "/blobs/", Answer(201, {"Docker-Content-Digest": DIGEST})),
        "stored another blob than was sent",
    ),
    "lying": (
        on("GET", "/manifests/", Answer(200, {"Docker-Content-Digest": DIGEST}, b"{}")),
        "gave another manifest than it says",
    ),
    "huge": (on("GET", "/manifests/", Answer(200, {}, bytes(5 << 20))), "more than 4194304 bytes"),
    "forgetful": (on("PUT", "/manifests/v1", Answer(201)), "does not give it back as it was"),
    "round": (lambda request: Answer(307, {"Location": request.path}), "redirects without end"),
    "nowhere": (on("POST", "/uploads/", Answer(202)), "which is not safe"),
    "elsewhere": (
        on("POST", "/uploads/", Answer(202, {"Location": "http://registry.invalid/x"})),
        "sends to 'http://registry.invalid/x', which is not safe",
    ),
    "bad port": (on("POST", "/uploads/", Answer(202, {"Location": "https://x:99999999/y"})), "sends to"),
    "file": (on("GET", "/manifests/", Answer(302, {"Location": "file:///etc/passwd"})), "not safe"),
    "upload redirect": (on("PUT", "/blobs/", Answer(307, {"Location": "/x"})), "PUT with 307"),
    "referrers": (
        lambda request: Answer(200, {}, b"[]") if "/sha256-" in request.path else _SHARED(request),
        "is not the list of artifacts",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_it_refuses_is_told_at_once(world: World, name: str) -> None:
    rule, sentence = REFUSALS[name]
    with FakeRegistry(rule).serving() as fake:
        job = pushed(world, fake)
    assert (job.state, job.attempts) == (JobState.FAILED, 1), world.describe()
    assert sentence in str(job.error)
    assert "\x1b" not in str(job.error)
    assert "Traceback" not in str(job.error)


TROUBLES: dict[str, tuple[Callable[[], Rule], str]] = {
    "down": (lambda: lambda _: Answer(503), "GET with 503"),
    "busy": (lambda: on("POST", "/uploads/", Answer(429)), "POST with 429"),
    "broken": (lambda: on("PUT", "/blobs/", Answer(500)), "PUT with 500"),
    "hangs up": (lambda: on("PUT", "/blobs/", None), "not within reach"),
    "short": (
        lambda: on("GET", "/manifests/", Answer(200, {"Content-Length": "99", "Connection": "close"}, b"{}")),
        "",
    ),
    "slow": (lambda: _never, "does not answer in time"),
}
_over = threading.Event()


def _never(request: Request) -> Answer | None:
    _over.wait(5)
    return None


@pytest.mark.parametrize("name", TROUBLES)
def test_what_may_pass_is_tried_again_and_then_told(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "OUTAGE_SECONDS", 0.05)
    make, sentence = TROUBLES[name]
    if name == "slow":
        monkeypatch.setattr(client, "READ_SECONDS", 0.2)
    with FakeRegistry(make()).serving() as fake:
        job = pushed(world, fake)
    assert (job.state, job.attempts) == (JobState.FAILED, 2), world.describe()
    assert sentence in str(job.error)
    assert "It has waited for the registry" in str(job.error)


def test_after_the_trouble_it_is_pushed(world: World) -> None:
    memory = MemoryRegistry()
    troubles = iter([Answer(503), None])
    with FakeRegistry(lambda request: next(troubles, memory(request))).serving() as fake:
        job = pushed(world, fake)
    assert (job.state, job.attempts) == (JobState.DONE, 2), world.describe()
    version = world.store.snapshot(job.snapshot_id or 0)
    assert sha256(memory.manifests["team/als/alice", "v1"]) == version.manifest_digest


def test_nobody_listens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "OUTAGE_SECONDS", 0.05)
    with FakeRegistry(lambda _: None).serving() as fake:
        pass
    job = pushed(world, fake)
    assert job.state is JobState.FAILED
    assert "Connection refused" in str(job.error)


# sign-in


def test_a_token_is_asked_for_this_repository_and_used(world: World) -> None:
    memory = MemoryRegistry()

    def rule(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            assert request.headers["Authorization"] == basic("pusher", "s3cret")
            assert "service=here" in request.path
            assert "scope=repository%3Ateam%2Fals%2Falice%3Apull%2Cpush" in request.path
            return Answer(200, {}, b'{"token": "t0ken"}')
        if request.headers.get("Authorization") != "Bearer t0ken":
            challenge = f'Bearer realm="{fake.url}/token",service="here",scope="x:y:z"'
            return Answer(401, {"WWW-Authenticate": challenge})
        return memory(request)

    write_credentials(world.root / "keys", "pusher", "s3cret")
    with FakeRegistry(rule).serving() as fake:
        job = pushed(world, fake)
        assert job.state is JobState.DONE, world.describe()
        assert sum(request.path.startswith("/token") for request in fake.requests) == 1


@pytest.mark.parametrize(
    "token", [b"", b"[]", b"{}", b'{"token": 5}', b'{"token": "a\\nb"}', b"9" * 99999, b"[" * 9999]
)
def test_a_token_that_is_none(world: World, token: bytes) -> None:
    def rule(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            return Answer(200, {}, token)
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'})

    with FakeRegistry(rule).serving() as fake:
        job = pushed(world, fake)
    assert job.state is JobState.FAILED
    assert "no token that could be read" in str(job.error) or "where a small document belongs" in str(job.error)


def test_the_password_goes_nowhere_else(tmp_path: Path) -> None:
    data = b"layer"
    write_credentials(tmp_path, "pusher", "s3cret")
    with FakeRegistry(lambda _: Answer(200, {}, data)).serving() as other:

        def rule(request: Request) -> Answer:
            if request.headers.get("Authorization") != basic("pusher", "s3cret"):
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            return Answer(307, {"Location": f"{other.url}/storage"})

        with FakeRegistry(rule).serving() as fake, Registry(fake.url, tmp_path).connect("als/alice") as connected:
            assert b"".join(connected.blob(sha256(data), len(data))) == data
        [request] = other.requests
        assert "Authorization" not in request.headers


# bytes


def test_other_bytes_than_asked_for_are_not_taken(tmp_path: Path) -> None:
    for body in (b"layex", b"laye", b"layer" * 100000, b""):
        with (
            FakeRegistry(lambda _, body=body: Answer(200, {}, body)).serving() as fake,  # type: ignore[misc]
            Registry(fake.url, tmp_path).connect("als/alice") as connected,
            pytest.raises(Exception, match="other bytes than those of"),
        ):
            list(connected.blob(sha256(b"layer"), 5))


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_a_large_blob_is_streamed_both_ways(tmp_path: Path) -> None:
    block, count = bytes(range(256)) * 4096, 96
    digest = f"sha256:{hashlib.sha256(block * count).hexdigest()}"

    def read() -> Iterator[bytes]:
        for _ in range(count):
            yield block

    with real_registry(tmp_path) as real, Registry(real.url, tmp_path).connect("als/alice") as connected:
        tracemalloc.start()
        try:
            connected.push_blob(digest, len(block) * count, read)
            assert connected.has_blob(digest)
            assert sum(map(len, connected.blob(digest, len(block) * count))) == len(block) * count
            assert tracemalloc.get_traced_memory()[1] < 12 << 20
        finally:
            tracemalloc.stop()


def test_a_source_that_breaks_off_leaves_no_blob(tmp_path: Path) -> None:
    def read() -> Iterator[bytes]:
        yield b"x" * 1000
        raise RegistryError("the archive's blob is damaged")

    memory = MemoryRegistry()
    with (
        FakeRegistry(memory).serving() as fake,
        Registry(fake.url, tmp_path).connect("als/alice") as connected,
        pytest.raises(RegistryError, match="is damaged"),
    ):
        connected.push_blob(DIGEST, 2000, read)
    assert memory.blobs == {}


# settings


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("registry.example/x", "must be https://host/prefix"),
        ("ftp://registry.example", "must be https://host/prefix"),
        ("https://", "must be https://host/prefix"),
        ("https://registry.example/x?y=z", "must be https://host/prefix"),
        ("https://registry.example:port/x", "is no address"),
        ("http://registry.example/x", "for a registry on this host only"),
        ("https://me:secret@registry.example/x", "holds no password"),
        ("https://registry.example/Upper", "no registry takes the prefix"),
        ("https://registry.example/a//b", "no registry takes the prefix"),
        ("https://registry.example/" + "a" * 129, "no registry takes the prefix"),
    ],
)
def test_an_address_that_cannot_be_right_stops_the_start(tmp_path: Path, url: str, sentence: str) -> None:
    (tmp_path / "workspaces.toml").write_text(f'[registry]\nurl = "{url}"\n')
    with pytest.raises(SettingsError, match=sentence):
        load(tmp_path)


@pytest.mark.parametrize(
    "url", ["https://registry.example", "https://registry.example:5000/team/a_b/c-d", "http://127.0.0.1:5000/x"]
)
def test_addresses_that_are_taken(tmp_path: Path, url: str) -> None:
    (tmp_path / "workspaces.toml").write_text(f'[registry]\nurl = "{url}/"\n')
    assert load(tmp_path).registry_url == url
    registry = Registry(url, tmp_path)
    reference = registry.reference("als/alice", 7)
    assert reference == f"{url.partition('//')[2]}/als/alice:v7"
    assert registry.repository_of(reference) == registry.repository("als/alice")
    assert registry.repository_of("elsewhere.example/als/alice:v7") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"username": 1, "password": "x"}', "\xff", "[" * 9999])
def test_a_file_of_credentials_that_is_none(tmp_path: Path, text: str) -> None:
    write_credentials(tmp_path, "x", "y").write_bytes(text.encode("latin-1"))
    with (
        pytest.raises(SettingsError, match="must hold"),
        Registry("https://registry.example", tmp_path).connect("als/alice"),
    ):
        pass
