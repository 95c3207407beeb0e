"""What an administrator is told before approving, and the configuration that a version gets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.engine import changes
from workspaces.engine.base import LABEL_SNAPSHOT, ImageConfig, ImageInfo
from workspaces.model import Change, ChangeReport, Mount, Snapshot, SnapshotState
from workspaces.snapshots.imageconfig import version_config, version_labels
from workspaces.snapshots.review import review

BASE = "sha256:" + "b" * 64


def report(*entries: Change, **values: int) -> ChangeReport:
    added, changed, removed = (sum(e.kind == kind for e in entries) for kind in ("added", "changed", "removed"))
    whole = ChangeReport(1.0, "x", added, changed, removed, sum(e.size for e in entries), entries)
    return replace(whole, **values)  # type: ignore[arg-type]


def warnings(*entries: Change, layers: int = 2, version: bool = False, **values: int) -> tuple[str, ...]:
    checked = review(report(*entries, **values), since="als:12", layers=layers, mounts=(), since_is_version=version)
    return checked.warnings


@pytest.mark.parametrize(
    "path",
    [
        "/root/.ssh/id_ed25519",
        "/home/a/.ssh/work",
        "/etc/ssh/ssh_host_rsa_key",
        "/root/.bash_history",
        "/root/.python_history",
        "/root/.local/share/fish/fish_history",
        "/root/.netrc",
        "/root/.aws/credentials",
        "/root/.docker/config.json",
        "/root/.config/gcloud/application_default_credentials.json",
        "/root/.cache/huggingface/token",
        "/root/.kaggle/kaggle.json",
        "/root/.git-credentials",
        "/srv/app/.env",
        "/srv/app/.env.production",
        "/srv/secrets.yaml",
        "/root/server.key",
        "/root/server.pem",
    ],
)
def test_secrets_are_told_by_their_paths(path: str) -> None:
    [warning] = warnings(Change("added", path, 10, 0o100600))
    assert path in warning
    assert warning.startswith("There may be ")


@pytest.mark.parametrize(
    "path",
    [
        "/root/.ssh/id_ed25519.pub",
        "/root/.ssh/known_hosts",
        "/root/.ssh/authorized_keys",
        "/etc/ssl/certs/ca.pem",
        "/usr/lib/python3/dist-packages/certifi/cacert.pem",
        "/root/venv/lib/python3.11/site-packages/certifi/cacert.pem",
        "/root/history.txt",
        "/root/environment",
        "/root/token.py",
        "/root/monkey",
    ],
)
def test_what_is_no_secret_is_not_told(path: str) -> None:
    assert warnings(Change("added", path, 10, 0o100644)) == ()


def test_a_secret_deleted_from_a_version_is_still_below() -> None:
    gone = Change("removed", "/root/.netrc")
    assert warnings(gone, version=True) == ("Deleted, but still readable in als:12 below it: /root/.netrc.",)
    assert warnings(gone) == ()


def test_setuid_large_and_unlisted_are_told() -> None:
    found = warnings(
        Change("added", "/usr/bin/x", 10, 0o104755),
        Change("added", "/usr/bin/dir", 0, 0o042755),
        Change("added", "/data.bin", 2 << 30, 0o100644),
        added=10_000,
        bytes=6 << 30,
    )
    assert found == (
        "There are programs that run as their owner or group (setuid, setgid): /usr/bin/x.",
        "There are very large files: /data.bin (2.0 GiB).",
        "Only 3 of 10000 changed paths are listed and were looked at.",
        "It adds 6.0 GiB; a file with holes counts with its full size.",
    )


def test_many_and_nasty_names_stay_one_safe_line() -> None:
    names = [f"/root/\x1b[2J<b>{n}\n.pem" for n in range(9)]
    [warning] = warnings(*(Change("added", name, 1, 0o100600) for name in names))
    assert "\x1b" not in warning
    assert "\n" not in warning
    assert warning.endswith(" and 4 more.")


@pytest.mark.parametrize(("layers", "said"), [(59, None), (60, "60 layers; at 100"), (121, "121 layers, and engines")])
def test_layers_are_counted(layers: int, said: str | None) -> None:
    found = warnings(Change("added", "/a", 1, 0o100644), layers=layers)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_no_change_and_what_is_left_out() -> None:
    checked = review(
        report(), since="als/alice:v1", layers=2, mounts=(Mount("/srv/data", "/data"),), since_is_version=True
    )
    assert checked.warnings == ("Nothing has changed since als/alice:v1.",)
    assert checked.since == "als/alice:v1"
    assert checked.not_captured[0] == "/data: a data directory of the host"
    assert len(checked.not_captured) == 4


def test_a_name_that_an_image_cannot_hold_is_told() -> None:
    found = warnings(Change("added", "/root/.wh.work", 1, 0o100644), Change("removed", "/root/.wh.gone"))
    [told] = found
    assert told.endswith("and they themselves: /root/.wh.work.")


def test_changes_that_are_not_counted_are_not_taken_for_none() -> None:
    found = changes.report(None, None, "base:1", 7)
    checked = review(found, since="base:1", layers=2, mounts=(), since_is_version=False)
    assert checked.countless
    assert not checked.is_nothing
    [warning] = checked.warnings
    assert "neither counted nor listed" in warning


@given(st.lists(st.text(max_size=60), max_size=30))
def test_any_names_are_looked_at(names: list[str]) -> None:
    warnings(*(Change("added", f"/{name}", 1, 0o104755) for name in names))


SNAPSHOT = Snapshot(
    id=7, workspace_id=1, workspace="als/alice", message="first", state=SnapshotState.COMMITTING,
    requested_by="alice", requested_via="ssh", requested_at=1_700_000_000.9, decided_by="chief",
    decided_at=1_700_000_100.9, version=3,
)  # fmt: skip
RUNS = {"Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": ["c"], "User": "u", "WorkingDir": "/w", "Volumes": {"/v": {}}}


def image(labels: dict[str, str], layers: int = 1) -> ImageInfo:
    config = ImageConfig({**RUNS, "Labels": labels})
    return ImageInfo(BASE, ("als:12",), 10, 1.0, tuple("sha256:" + f"{n:064x}" for n in range(layers)), config)


def made(source: ImageInfo) -> tuple[dict[str, str], dict[str, object]]:
    labels = version_labels(SNAPSHOT, "i:7", "i", source, "als:12", "v2")
    diff_ids = (*source.diff_ids, "sha256:" + "f" * 64)
    return labels, version_config(SNAPSHOT, source, diff_ids, labels, "als:12")


def test_a_version_runs_as_its_base_does() -> None:
    labels, config = made(image({"own": "kept", "io.workspaces.snapshot": "a lie"}))
    runs = config["config"]
    assert isinstance(runs, dict)
    assert {key: runs[key] for key in RUNS} == RUNS
    assert runs["Labels"] == {"own": "kept", **labels}
    assert labels[LABEL_SNAPSHOT] == "i:7"
    assert labels["org.opencontainers.image.base.digest"] == BASE
    assert labels["org.opencontainers.image.version"] == "v3"
    assert labels["io.workspaces.parent"] == "v2"
    assert config["created"] == labels["org.opencontainers.image.created"] == "2023-11-14T22:15:00Z"
    history = config["history"]
    assert isinstance(history, list)
    assert [entry["created_by"] for entry in history] == ["als:12", "workspaces snapshot"]


def test_a_version_of_a_version_names_the_same_base() -> None:
    _, config = made(image({"own": "kept"}))
    assert isinstance(config["config"], dict)
    second, again = made(ImageInfo("sha256:" + "c" * 64, (), 10, 1.0, ("a", "b"), ImageConfig(config["config"])))
    assert second["org.opencontainers.image.base.digest"] == BASE
    assert second["org.opencontainers.image.base.name"] == "als:12"
    assert again["config"] == config["config"]


def test_a_repeat_gives_the_same_bytes() -> None:
    texts = [json.dumps(made(image({"own": "kept"}))[1], sort_keys=True) for _ in range(2)]
    assert len({hashlib.sha256(text.encode()).hexdigest() for text in texts}) == 1
