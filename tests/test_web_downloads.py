"""Downloading an own version, and what the pages say of commands, rules, freezes and restores."""

# ruff: noqa: F401 - fixtures are imported, and then arguments

from __future__ import annotations

import http.client
import io
import json
import random
import socket
import tarfile
import time

import pyrage
import pytest

from tests.support.api import program
from tests.support.gateway import until
from tests.support.savetar import FakeImage, layer
from tests.support.web import Web, web_fixture
from tests.test_web_server import running
from webadmin import server, taking
from workspaces.archive import Archive
from workspaces.archive.sealing import Seal
from workspaces.model import Command, FreezeMode, SnapshotState

pytestmark = pytest.mark.slow


def archived(web: Web, name: str = "alice", data: bytes = b"42\n") -> int:
    """A version of `als/name` that is in the archive; its snapshot's id."""
    image = FakeImage([layer({"root/result": data})])
    asked = web.request(name)
    web.store.approve_snapshot(asked, actor="chief")
    version = web.store.begin_commit(asked).version
    ref = f"als/{name}:v{version}"
    web.store.finish_commit(asked, ref, image.id, image.diff_ids, 3)
    digest = Archive(web.settings.archive_dir).put(
        image.save(), ref=ref, config_digest=image.id, diff_ids=image.diff_ids
    )
    web.store.finish_archive(asked, digest)
    return asked


def allow(web: Web) -> None:
    web.store.set_challenge("als", downloads=True, actor="chief")


def test_an_own_version_comes_as_a_tar_that_docker_loads(web: Web) -> None:
    number = archived(web)
    alice = web.browser("alice")
    assert "Download v1" not in alice.get("/me").text
    assert alice.get(f"/me/snapshots/{number}/download").status_code == 403
    asks = program(web, "alice")
    assert asks.get(f"/snapshots/{number}/download").status_code == 403
    allow(web)
    page = alice.get("/me").text
    assert f"/me/snapshots/{number}/download" in page
    assert "docker load -i als-alice-v1.tar" in page
    answer = alice.get(f"/me/snapshots/{number}/download")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == 'attachment; filename="als-alice-v1.tar"'
    with tarfile.open(fileobj=io.BytesIO(answer.data)) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == ["als/alice:v1"]
    assert asks.get(f"/snapshots/{number}/download").data == answer.data, "the first one is over"


def test_nobody_else_gets_it_and_nothing_else_is_got(web: Web) -> None:
    allow(web)
    number = archived(web)
    for name in ("bob", "chief"):
        texts = [web.browser(name).get(f"/me/snapshots/{n}/download") for n in (number, 999)]
        assert [text.status_code for text in texts] == [404, 404]
        assert texts[0].text == texts[1].text
    waits = web.request("bob")
    refused = web.browser("bob").get(f"/me/snapshots/{waits}/download")
    assert (refused.status_code, "Only an archived version" in refused.text) == (409, True)


def test_a_version_that_the_archive_lost_is_told_and_gives_the_place_back(web: Web) -> None:
    allow(web)
    number = archived(web)
    (web.settings.archive_dir / "index.json").unlink()
    alice = web.browser("alice")
    for _ in range(taking.AT_ONCE + 1):
        assert alice.get(f"/me/snapshots/{number}/download").status_code == 404


def test_what_cannot_be_decrypted_here_names_no_place_of_this_host(web: Web) -> None:
    allow(web)
    asked = archived(web)
    seal = Seal([str(pyrage.x25519.Identity.generate().to_public())], web.settings.keys)
    image = FakeImage([layer({"root/result": b"other"})])
    ref = "als/alice:v2"
    there = Archive(web.settings.archive_dir, seal)
    digest = there.put(image.save(), ref=ref, config_digest=image.id, diff_ids=image.diff_ids)
    with web.store.transaction():
        web.store._db().execute("UPDATE snapshots SET manifest_digest = ? WHERE id = ?", [digest, asked])
    alice = web.browser("alice")
    for _ in range(taking.AT_ONCE + 1):
        answer = alice.get(f"/me/snapshots/{asked}/download")
        assert (answer.status_code, "cannot be read just now" in answer.text) == (503, True)
        assert str(web.settings.keys) not in answer.text


def test_one_at_a_time_for_each_person_and_few_in_all() -> None:
    downloads = taking.Downloads()
    names = [f"p{n}" for n in range(taking.AT_ONCE)]
    for name in names:
        downloads.begin(name)
    with pytest.raises(Exception, match="You are downloading a version already"):
        downloads.begin(names[0])
    with pytest.raises(Exception, match="Too many versions"):
        downloads.begin("late")
    downloads.end(names[0])
    downloads.begin("late")


def test_who_stops_reading_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else three of them would keep everybody else from downloading."""
    monkeypatch.setattr(server, "STALLED_SECONDS", 1.0)
    allow(web)
    number = archived(web, data=random.Random(1).randbytes(64 << 20))
    alice = web.browser("alice")
    signed = alice.client.get_cookie(web.app.config["SESSION_COOKIE_NAME"])
    assert signed is not None
    cookie = f"workspaces-{web.store.instance[:6]}={signed.value}"  # the application of these tests has another store's
    with running(web.settings, web.store) as port, socket.create_connection(("127.0.0.1", port), 10) as reader:
        path = f"/me/snapshots/{number}/download"
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        assert status(port, path, cookie) == 409
        until(lambda: status(port, path, cookie, most=1) == 200, 30)


def status(port: int, path: str, cookie: str, most: int = 0) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Cookie": cookie, "Host": "localhost"})
    answer = connection.getresponse()
    answer.read(most)
    connection.close()
    time.sleep(0.05)
    return answer.status


def test_a_request_says_how_it_is_run_and_the_administrator_reads_it(web: Web) -> None:
    alice, chief = web.browser("alice"), web.browser("chief")
    path = f"/me/workspaces/{web.workspace_id('alice')}/snapshots"
    wrong = alice.post(path, {"message": "first", "cmd": '["a", <b>1'})
    assert wrong.status_code == 400
    assert "begins as a list, and is none" in wrong.text
    assert "[&#34;a&#34;, &lt;b&gt;1" in wrong.text, "what was typed stays, escaped"
    assert alice.post(path, {"message": "first", "cmd": "python <x>.py"}).status_code == 302
    (asked,) = web.store.snapshots(web.workspace_id("alice"))
    assert asked.command == Command((), ("/bin/sh", "-c", "python <x>.py"))
    for page in ("/admin/", f"/admin/snapshots/{asked.id}"):
        assert "CMD [&#34;/bin/sh&#34;, &#34;-c&#34;, &#34;python &lt;x&gt;.py&#34;]" in chief.get(page).text


def test_a_rule_that_approves_is_said(web: Web) -> None:
    web.store.set_challenge("als", auto_approve=1, actor="chief")
    path = f"/me/workspaces/{web.workspace_id('alice')}/snapshots"
    alice = web.browser("alice")
    alice.post(path, {"message": "first"})
    assert web.store.snapshots(web.workspace_id("alice"))[0].state is SnapshotState.APPROVED
    assert "approved by the challenge&#39;s own rule" in alice.get("/me").text


@pytest.mark.parametrize(
    ("mode", "said"), [("stop", "nobody can log in"), ("read-only", "can be read, and not changed")]
)
def test_a_person_reads_that_the_challenge_is_frozen(web: Web, mode: str, said: str) -> None:
    assert said not in web.browser("alice").get("/me").text
    web.store.begin_freeze("als", FreezeMode(mode), actor="chief")
    assert said in web.browser("alice").get("/me").text


def test_a_restore_on_the_web_keeps_unless_it_is_told_not_to(web: Web) -> None:
    number = archived(web)
    chief, ref = web.browser("chief"), "als/alice"
    assert "is kept as a version first" in chief.get(f"/admin/snapshots/{number}/restore").text
    chief.post(f"/admin/snapshots/{number}/restore", {"typed": ref})
    chief.post(f"/admin/snapshots/{number}/restore", {"typed": ref, "discard": "yes"})
    told = [dict(job.arguments) for job in web.store.jobs() if job.kind == "restore"]
    assert told == [{"discard": "yes"}, {}]
