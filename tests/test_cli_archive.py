"""The command line about the archive: verify, export, gc, prune, pins, encryption; and what each says."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.test_cli import Run, engine, ready, run
from workspaces.engine.memory import MemoryEngine

pytestmark = pytest.mark.slow


@pytest.fixture
def versions(ready: Run, engine: MemoryEngine) -> Run:
    """Three versions of als/alice."""
    assert ready("start", "als/alice").status == 0
    [container] = engine.containers({})
    for number in range(3):
        root = engine.rootfs(container.name) / "root"
        root.mkdir(exist_ok=True)
        (root / "file").write_text(str(number) * 1000)
        ran = ready("snapshot", "commit", "als/alice", "-m", f"number {number}")
        assert ran.status == 0, ran.err
    return ready


def test_prune_shows_then_does_and_gc_frees(versions: Run, tmp_path: Path) -> None:
    assert versions("archive", "prune").out == "The rules keep every version.\n"
    assert "archive: every version is kept" in versions("challenge", "show", "als").out
    assert versions("challenge", "set", "als", "--keep-last", "1").status == 0
    assert versions("archive", "prune").out == "The rules keep every version.\n"  # a person asked for each
    assert "and all that people asked for" in versions("challenge", "show", "als").out
    assert versions("challenge", "set", "als", "--keep-submitted", "no").status == 0
    assert versions("snapshot", "pin", "1").out == "als/alice v1 is pinned.\n"
    shown = versions("archive", "prune", "als")
    assert shown.out.splitlines()[0].startswith("als/alice:v2  #2  ")
    assert "1 version would be pruned: workspaces archive prune als --apply" in shown.out
    assert [found["id"] for found in versions("archive", "prune", "--json").json] == [2]  # type: ignore[attr-defined]
    assert len(versions("archive", "list", "--json").json) == 3  # type: ignore[arg-type]
    assert "1 version pruned" in versions("archive", "prune", "--apply").out
    assert [i["ref"] for i in versions("archive", "list", "--json").json] == [  # type: ignore[attr-defined]
        "als/alice:v1",
        "als/alice:v3",
    ]
    states = [line.split()[2:4] for line in versions("snapshot", "list").out.splitlines()[1:]]
    assert states[1][1] == "pruned"
    assert "only this record is left" in versions("snapshot", "show", "2").out
    assert "pinned" in versions("snapshot", "show", "1").out
    refused = versions("snapshot", "restore", "als/alice", "v2", "--yes")
    assert refused.status == 1
    assert "als/alice v2 was pruned on" in refused.err
    found: Any = versions("archive", "gc", "--json").json
    assert len(found["blobs"]) == 4  # not its layer, on which v3 stands
    assert "4 blobs, " in versions("archive", "gc").out
    assert "workspaces archive gc --delete" in versions("archive", "gc").out
    deleted = versions("archive", "gc", "--delete").out
    assert deleted.splitlines()[-1].endswith(": deleted")
    events: Any = versions("audit", "list", "--json").json
    kinds = [event["kind"] for event in events]
    assert kinds.count("archive.deleted") == 4
    assert {event["data"]["what"] for event in events if event["kind"] == "archive.deleted"} == {
        blob["digest"] for blob in found["blobs"]
    }
    assert kinds.count("snapshot.pruned") == 1
    assert versions("archive", "gc").out == "Every blob belongs to an archived version.\n"
    assert "are there and whole" in versions("archive", "verify").out
    assert versions("snapshot", "unpin", "1").out == "als/alice v1 is not pinned.\n"
    assert "1 version pruned" in versions("archive", "prune", "--apply").out
    assert versions("archive", "prune", "none").status == 1
    assert versions("challenge", "set", "als", "--keep-last", "0").status == 1
    assert versions("challenge", "set", "als", "--keep-last", "few").status == 1
    assert versions("challenge", "set", "als", "--keep-last", "all").status == 0


def test_verify_names_what_is_bad(versions: Run, tmp_path: Path) -> None:
    ran = versions("archive", "verify", "--json")
    assert ran.json["problems"] == []  # type: ignore[index]
    root = tmp_path / "home" / "archive"
    index = json.loads((root / "index.json").read_text())
    manifest = json.loads((root / "blobs/sha256" / index["manifests"][2]["digest"][7:]).read_text())
    top = manifest["layers"][-1]["digest"]
    (root / "blobs/sha256" / top[7:]).unlink()
    ran = versions("archive", "verify")
    assert ran.status == 1
    assert f"als/alice:v3: {top} is missing from the archive." in ran.err
    assert "1 blob is missing or damaged" in ran.err
    [problem] = versions("archive", "verify", "--json").json["problems"]  # type: ignore[index]
    assert (problem["blob"], problem["images"]) == (top, ["als/alice:v3"])
    ran = versions("archive", "export", "als/alice:v3", str(tmp_path / "out.tar"))
    assert ran.status == 1
    assert not (tmp_path / "out.tar").exists()


def test_an_encrypted_archive(ready: Run, engine: MemoryEngine, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    home = tmp_path / "home"
    (home / "workspaces.toml").write_text(f'[archive]\nrecipients = ["{identity.to_public()}"]\n')
    assert ready("start", "als/alice").status == 0
    [container] = engine.containers({})
    root = engine.rootfs(container.name) / "root"
    root.mkdir(exist_ok=True)
    (root / "file").write_text("secret")
    assert ready("snapshot", "commit", "als/alice", "-m", "first").status == 0
    listed: Any = ready("archive", "list", "--json").json
    [listed] = listed
    assert listed["encrypted"] is True
    assert listed["digest"] == ready("snapshot", "show", "1", "--json").json["manifest_digest"]  # type: ignore[index]
    assert "encrypted layers were not looked into" in ready("archive", "verify").out
    refused = ready("archive", "export", "als/alice:v1", str(tmp_path / "out.tar"))
    assert refused.status == 1
    assert "no identity here opens it" in refused.err
    assert "--identity FILE" in refused.err
    file = tmp_path / "identity"
    file.write_text(f"{identity}\n")
    file.chmod(0o600)
    assert ready("archive", "verify", "--identity", str(file)).out.splitlines() == ["7 blobs are there and whole."]
    ran = ready("archive", "export", "als/alice:v1", str(tmp_path / "out.tar"), "--identity", str(file))
    assert ran.status == 0, ran.err
    [version] = [image for image in engine.images() if "als/alice:v1" in image.refs]
    for gone in engine.containers({}):
        engine.remove(gone.name)
    engine.remove_image(version.id)
    refused = ready("snapshot", "restore", "als/alice", "v1", "--yes")
    assert refused.status == 1
    assert "archive-identity.txt" in refused.err
    (home / "keys" / "archive-identity.txt").write_text(f"{identity}\n")
    (home / "keys" / "archive-identity.txt").chmod(0o600)
    ran = ready("snapshot", "restore", "als/alice", "v1", "--yes")
    assert ran.status == 0, ran.err
    assert "Traceback" not in ran.err


def test_wrong_settings_are_said_and_nothing_else_breaks(ready: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "workspaces.toml").write_text('[archive]\nrecipients = ["age1nonsense"]\n')
    ran = ready("archive", "list")
    assert ran.status == 2
    assert "no age public key" in ran.err
    assert ready("list").status == 0
    found: Any = ready("doctor", "--json").json
    [archive] = [finding for finding in found if finding["subject"] == "archive"]
    assert archive["level"] == "bad"
    (tmp_path / "home" / "workspaces.toml").unlink()
    assert "0 versions in " in ready("doctor").out
