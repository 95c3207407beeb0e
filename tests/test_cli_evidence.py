"""Commands about statements, lists of packages and the registry, as a person calls them."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.support.registries import FakeRegistry, MemoryRegistry
from tests.test_cli import Run, engine, ready, run
from workspaces import doctor, settings
from workspaces.snapshots import sboms

pytestmark = pytest.mark.slow


@pytest.fixture
def archived(ready: Run) -> Run:
    """Snapshot 1 is als/alice:v1, archived."""
    assert ready("start", "alice").status == 0
    assert ready("snapshot", "commit", "alice", "-m", "first").status == 0
    return ready


def forge(tmp_path: Path, message: str) -> None:
    """As somebody does who has the database's file."""
    with closing(sqlite3.connect(tmp_path / "home" / "workspaces.db")) as db, db:
        db.execute("UPDATE snapshots SET message = ?", [message])


def test_show_says_who_signed(archived: Run, tmp_path: Path) -> None:
    key = archived("snapshot", "key")
    assert key.out == (tmp_path / "home" / "keys" / "provenance.pub").read_text()
    fingerprint = key.err.removeprefix("ed25519, ").strip()
    assert f"statement: signed by {fingerprint}, verified\n" in archived("snapshot", "show", "1").out
    shown: Any = archived("snapshot", "show", "1", "--json").json
    assert (shown["verified"], shown["signed_by"], shown["problems"]) == (True, fingerprint, [])
    ran = archived("snapshot", "verify", "1")
    assert (ran.status, ran.out) == (
        0,
        f"als/alice:v1 is what was signed for, every byte: signed by {fingerprint}, verified.\n",
    )


def test_a_forged_record_is_named_and_fails(archived: Run, tmp_path: Path) -> None:
    forge(tmp_path, "\x1b[31mforged")
    shown = archived("snapshot", "show", "1")
    assert 'NOT VERIFIED: predicate.request.message: "first" was signed' in shown.out
    assert "\x1b" not in shown.out
    ran = archived("snapshot", "verify", "1")
    assert ran.status == 1
    assert "predicate.request.message" in ran.err
    assert "als/alice:v1 is not what was signed for" in ran.err
    assert "\x1b" not in ran.err
    as_json: Any = archived("snapshot", "show", "1", "--json").json
    assert as_json["verified"] is False


def test_a_statement_is_written_for_others(archived: Run, tmp_path: Path) -> None:
    printed = archived("snapshot", "statement", "1").out
    assert json.loads(printed)["payloadType"] == "application/vnd.in-toto+json"
    assert archived("snapshot", "statement", "1", "--output", str(tmp_path / "s.json")).out == ""
    assert (tmp_path / "s.json").read_text() == printed
    ran = archived("snapshot", "statement", "1", "--output", str(tmp_path / "nowhere" / "s.json"))
    assert (ran.status, "cannot be written" in ran.err) == (1, True)


def test_an_archive_that_came_alone(archived: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = archived("archive", "provenance", "als/alice:v1")
    assert ran.status == 0
    said: Any = ran.json
    assert said["predicate"]["request"]["by"].startswith("cli:")
    home = tmp_path / "other"
    monkeypatch.setenv("WORKSPACES_HOME", str(home))
    assert archived("init").status == 0
    (home / "workspaces.toml").write_text(f'[archive]\nurl = "file://{tmp_path}/home/archive"\n')
    refused = archived("archive", "provenance", "als/alice:v1")
    assert (refused.status, "check it with that host's key" in refused.err) == (1, True)
    theirs = str(tmp_path / "home" / "keys" / "provenance.pub")
    ran = archived("archive", "provenance", "als/alice:v1", "--key", theirs)
    assert (ran.status, ran.json) == (0, said)
    assert "verified" in ran.err
    assert archived("archive", "provenance", "als/alice:v9", "--key", theirs).status == 1


def test_what_is_not_archived_has_no_statement(ready: Run) -> None:
    assert ready("start", "alice").status == 0
    assert ready("snapshot", "request", "alice", "-m", "first").status == 0
    for command in ("verify", "statement"):
        ran = ready("snapshot", command, "1")
        assert (ran.status, "Snapshot 1 is requested" in ran.err) == (1, True)
    assert "statement" not in ready("snapshot", "show", "1").out


def test_push_by_hand(archived: Run, tmp_path: Path) -> None:
    ran = archived("snapshot", "push", "1")
    assert ran.status == 2
    assert "[registry]" in ran.err
    memory = MemoryRegistry()
    with FakeRegistry(memory).serving() as fake:
        (tmp_path / "home" / "workspaces.toml").write_text(f'[registry]\nurl = "{fake.url}/team"\n')
        ran = archived("snapshot", "push", "1")
        assert (ran.status, "pushes it" in ran.out) == (0, True)
        # what comes after archiving is done in one go where no worker runs
        assert archived("snapshot", "commit", "alice", "-m", "second").status == 0
        host = fake.url.removeprefix("http://")
        shown = archived("snapshot", "show", "2").out
        assert f" as {host}/team/als/alice:v2\n" in shown
        assert ("team/als/alice", "v2") in memory.manifests


def test_a_registry_that_fails_does_not_fail_the_version(ready: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "workspaces.toml").write_text('[registry]\nurl = "http://127.0.0.1:9/team"\n')
    (tmp_path / "home" / "keys" / "registry.json").write_text("nonsense")
    (tmp_path / "home" / "keys" / "registry.json").chmod(0o600)
    assert ready("start", "alice").status == 0
    ran = ready("snapshot", "commit", "alice", "-m", "first")
    assert ran.status == 0
    assert "als/alice:v1 is archived" in ran.out
    assert "push failed: " in ran.err
    assert "registry.json must hold" in ran.err


def test_a_registry_that_is_down_is_not_waited_for(ready: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "workspaces.toml").write_text('[registry]\nurl = "http://127.0.0.1:9/team"\n')
    assert ready("start", "alice").status == 0
    ran = ready("snapshot", "commit", "alice", "-m", "first")
    assert ran.status == 0
    assert "Connection refused" in ran.err
    assert "The worker tries it again." in ran.err
    [push] = [job for job in ready("job", "list", "--json").json if job["kind"] == "push"]  # type: ignore[attr-defined]
    assert (push["state"], push["attempts"]) == ("queued", 1)


def test_a_key_that_is_damaged_hides_nothing_else(archived: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "keys" / "provenance").write_text("nonsense")
    ran = archived("snapshot", "show", "1")
    assert ran.status == 0
    assert "statement: NOT VERIFIED: The signing key" in ran.out
    assert "message: first" in ran.out
    assert archived("snapshot", "verify", "1").status == 1


def test_packages(ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sboms, "_run", lambda *_: {"spdxVersion": "SPDX-2.3", "packages": [{"name": "h\x9bello"}]})
    assert ready("challenge", "set", "als", "--sbom", "spdx").status == 0
    assert "lists each version's packages as spdx" in ready("challenge", "show", "als").out
    assert ready("challenge", "set", "als", "--sbom", "xml").status == 2
    assert ready("start", "alice").status == 0
    assert ready("snapshot", "commit", "alice", "-m", "first").status == 0
    assert "workspaces snapshot sbom 1" in ready("snapshot", "show", "1").out
    ran = ready("snapshot", "sbom", "1")
    document: Any = ran.json
    assert document["packages"] == [{"name": "h\x9bello"}]
    assert "\x9b" not in ran.out
    assert ready("snapshot", "sbom", "1", "--output", str(tmp_path / "list.json")).out == ""
    assert json.loads((tmp_path / "list.json").read_text()) == document
    assert ready("challenge", "set", "als", "--sbom", "none").status == 0
    assert ready("snapshot", "commit", "alice", "-m", "second").status == 0
    ran = ready("snapshot", "sbom", "2")
    assert (ran.status, "No list of packages was made" in ran.err) == (1, True)


def change(tmp_path: Path, columns: str) -> None:
    with closing(sqlite3.connect(tmp_path / "home" / "workspaces.db")) as db, db:
        db.execute(f"UPDATE snapshots SET {columns}")


def test_a_version_from_before_versions_were_signed(archived: Run, tmp_path: Path) -> None:
    change(tmp_path, "statement = NULL")
    shown = archived("snapshot", "show", "1")
    assert "statement: NOT VERIFIED: There is no signed statement about it in the database" in shown.out
    ran = archived("snapshot", "verify", "1")
    assert ran.status == 1
    assert "Nothing proves who asked for als/alice:v1" in ran.err
    assert "Its files in the archive are those that the database names" in ran.err
    assert "differences" not in ran.err
    assert archived("snapshot", "statement", "1").status == 1
    for blob in (tmp_path / "home" / "archive" / "blobs" / "sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(b"\x1f\x8b" + bytes(100))
    damaged = archived("snapshot", "verify", "1")
    assert damaged.status == 1
    assert "Its files in the archive are" not in damaged.err
    assert "is damaged" in damaged.err


def test_an_unsigned_version_is_compared_with_the_database(archived: Run, tmp_path: Path) -> None:
    change(tmp_path, f"statement = NULL, image_id = 'sha256:{'0' * 64}'")
    ran = archived("snapshot", "verify", "1")
    assert ran.status == 1
    assert "is another one than the store's" in ran.err


@pytest.mark.parametrize("command", ["verify", "sbom", "push"])
def test_a_pruned_version_is_said_to_be_pruned(archived: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "home" / "workspaces.toml").write_text('[registry]\nurl = "http://127.0.0.1:9/x"\n')
    change(tmp_path, f"pruned_at = 1e9, sbom_digest = 'sha256:{'0' * 64}'")
    ran = archived("snapshot", command, "1")
    assert ran.status == 1
    assert "als/alice v1 was pruned on 2001-09-09" in ran.err


def test_what_is_encrypted_is_checked_with_an_identity_that_is_named(ready: Run, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    home = tmp_path / "home"
    (home / "workspaces.toml").write_text(f'[archive]\nrecipients = ["{identity.to_public()}"]\n')
    assert ready("start", "alice").status == 0
    assert ready("snapshot", "commit", "alice", "-m", "first").status == 0
    refused = ready("snapshot", "verify", "1")
    assert (refused.status, "--identity FILE" in refused.err) == (1, True)
    file = tmp_path / "identity"
    file.touch(0o600)
    file.write_text(f"{identity}\n")
    ran = ready("snapshot", "verify", "1", "--identity", str(file))
    assert (ran.status, "every byte" in ran.out) == (0, True), ran.err
    (home / "keys" / "archive-host.txt").unlink()
    assert ready("archive", "provenance", "als/alice:v1").status == 1
    assert ready("archive", "provenance", "als/alice:v1", "--identity", str(file)).status == 0


def test_doctor_says_that_a_sealed_archive_cannot_be_pushed(tmp_path: Path) -> None:
    recipient = pyrage.x25519.Identity.generate().to_public()
    (tmp_path / "keys").mkdir()
    written = f'[archive]\nrecipients = ["{recipient}"]\n[registry]\nurl = "https://registry.example/x"\n'
    (tmp_path / "workspaces.toml").write_text(written)
    found = settings.load(tmp_path)
    assert [f.sentence for f in doctor.archive(found) if f.subject == "registry"] == [
        "nothing here opens what is archived, so that no version can be pushed"
    ]
    (tmp_path / "keys" / "archive-identity.txt").touch(0o600)
    assert [f for f in doctor.archive(found) if f.level == "bad"] == []


def test_what_was_archived_before_versions_were_signed_is_signed_later(archived: Run, tmp_path: Path) -> None:
    before = archived("snapshot", "statement", "1").out
    change(tmp_path, "statement = NULL")
    assert "workspaces snapshot sign 1" in archived("snapshot", "verify", "1").err
    ran = archived("snapshot", "sign", "--all")
    assert (ran.status, ran.out) == (0, "1 statements were signed.\n")
    assert archived("snapshot", "statement", "1").out == before
    assert archived("snapshot", "verify", "1").status == 0
    assert "snapshot.signed" in archived("audit", "list").out
    assert archived("snapshot", "sign", "--all").out == "0 statements were signed.\n"
    assert archived("snapshot", "sign", "1").out == "There is a statement about als/alice:v1.\n"
    for wrong in ([], ["1", "--all"]):
        assert archived("snapshot", "sign", *wrong).status == 2


def test_what_another_host_made_or_signed_is_not_signed(archived: Run, tmp_path: Path) -> None:
    change(tmp_path, "statement = NULL")
    home = tmp_path / "home"
    for name in ("provenance", "provenance.pub"):
        (home / "keys" / name).rename(tmp_path / name)
    index = (home / "archive" / "index.json").read_bytes()
    ran = archived("snapshot", "sign", "1")
    assert ran.status == 1
    assert "not signed with this host's key; it is not replaced" in ran.err
    for name in ("provenance", "provenance.pub"):
        (tmp_path / name).rename(home / "keys" / name)
    with closing(sqlite3.connect(home / "workspaces.db")) as db, db:
        db.execute("UPDATE events SET kind = 'snapshot.adopted' WHERE kind = 'snapshot.committed'")
    ran = archived("snapshot", "sign", "--all")
    assert (ran.status, ran.out) == (0, "0 statements were signed.\n")
    assert "Not 1: als/alice:v1 was entered from an archive" in ran.err
    assert (home / "archive" / "index.json").read_bytes() == index


def test_another_image_than_was_committed_is_not_signed(archived: Run, tmp_path: Path) -> None:
    change(tmp_path, f"statement = NULL, image_id = 'sha256:{'0' * 64}'")
    ran = archived("snapshot", "sign", "1")
    assert ran.status == 1
    assert "another image as als/alice:v1 than was committed" in ran.err
