"""A store filled as in the middle of a challenge of twelve participants, for pictures and for tests of pages.

Only the store's own calls are used, with the clock set back for each, so that ages look real.
"""

from __future__ import annotations

import base64
import hashlib
import random
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from workspaces.model import (
    Change,
    ChangeReport,
    Finding,
    HostSample,
    JobKind,
    Limits,
    Mount,
    Network,
    PackageChange,
    Role,
    Sample,
    Snapshot,
    WorkspaceState,
)
from workspaces.store import Store

PEOPLE = ("alice", "bob", "carla", "deniz", "emeka", "fatima", "george", "hana", "ivan", "jun", "kofi", "lena")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NOT_CAPTURED = ("/data", "/dev/shm")


@contextmanager
def ago(seconds: float) -> Iterator[None]:
    """What is written inside happened `seconds` ago."""
    then = time.time() - seconds
    with mock.patch("time.time", return_value=then):
        yield


def public_key(comment: str) -> tuple[str, str]:
    """Fingerprint and line of an ed25519 key that nobody has, always the same for one comment."""
    blob = b"".join(
        struct.pack(">I", len(part)) + part for part in (b"ssh-ed25519", hashlib.sha256(comment.encode()).digest())
    )
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}", f"ssh-ed25519 {base64.b64encode(blob).decode()} {comment}"


def report(
    at: float, paths: list[tuple[str, str, int]], extra: int = 0, warnings: tuple[str, ...] = (), since: str = ""
) -> ChangeReport:
    """A report of `paths` (kind, path, bytes) and `extra` more small files of a package."""
    rng = random.Random(len(paths) * 1000 + extra)
    package = [
        Change("added", f"/usr/lib/R/library/survival/R/file{n:04d}.rds", rng.randint(600, 90_000), 0o100644)
        for n in range(extra)
    ]
    entries = [Change(k, p, size, 0 if k == "removed" else 0o100644) for k, p, size in paths] + package
    return ChangeReport(
        at=at,
        since=since or "debian-ds:12",
        added=sum(e.kind == "added" for e in entries),
        changed=sum(e.kind == "changed" for e in entries),
        removed=sum(e.kind == "removed" for e in entries),
        bytes=sum(e.size for e in entries),
        entries=tuple(entries[:3000]),
        warnings=warnings,
        not_captured=NOT_CAPTURED,
    )


def fill(store: Store, password_hash: str | None = None) -> None:
    """Fill an empty store. Everybody has the password that `password_hash` is of; only two have keys."""
    with ago(26 * DAY):
        store.add_user("chief", Role.ADMIN, password_hash, actor="cli:root")
        store.add_challenge(
            "als", "debian-ds:12", Limits(2.0, 4 << 30, 512), Network.OPEN, (Mount("/srv/als", "/data"),), "root",
            None, time.time() + 40 * DAY, actor="chief",
        )  # fmt: skip
    for number, name in enumerate(PEOPLE):
        with ago(25 * DAY - number * HOUR):
            store.add_user(name, Role.PARTICIPANT, password_hash, actor="chief")
            store.add_workspace("als", name, [name], actor="chief")
    for name in ("alice", "carla"):
        fingerprint, line = public_key(f"{name}@laptop")
        with ago(20 * DAY):
            store.add_key(name, fingerprint, line, actor=name)
        with ago(35 * MINUTE):
            store.touch_key(fingerprint, "198.51.100.24")
    _states(store)
    _versions(store)
    _queue(store)
    _use(store)


def _space(store: Store, name: str) -> int:
    return store.workspace(f"als/{name}").id


def _states(store: Store) -> None:
    running = {"alice": 35 * MINUTE, "bob": 12 * MINUTE, "deniz": 2 * HOUR, "hana": 5 * MINUTE, "kofi": 50 * MINUTE}
    stopped = {"carla": 20 * HOUR, "emeka": 3 * DAY, "fatima": 26 * HOUR, "jun": 4 * DAY, "lena": 6 * DAY}
    for people, state in ((running, WorkspaceState.RUNNING), (stopped, WorkspaceState.STOPPED)):
        for name, passed in people.items():
            with ago(passed):
                store.touch_login(_space(store, name))
                store.set_workspace_state(_space(store, name), state)
    with ago(9 * MINUTE):
        store.set_workspace_state(_space(store, "ivan"), WorkspaceState.FAILED, "ran out of memory (4.0 GiB)")


def _versions(store: Store) -> None:
    history = (
        ("alice", 12 * DAY, "First try: linear model on the training set", 48 << 20),
        ("emeka", 9 * DAY, "Baseline, random forest, no tuning", 310 << 20),
        ("alice", 5 * DAY, "Gradient boosting, cross-validated", 126 << 20),
        ("kofi", 4 * DAY, "Survival model with time-dependent covariates", 88 << 20),
    )
    for name, passed, message, size in history:
        snapshot = commit(store, name, message, passed, size)
        with ago(passed - 8 * MINUTE):
            store.finish_archive(snapshot.id, "sha256:" + hashlib.sha256(message.encode()).hexdigest())
            finish_jobs(store)
    with ago(2 * DAY):
        rejected = store.request_snapshot(_space(store, "bob"), "final!!!", actor="bob", via="web")
    with ago(2 * DAY - HOUR):
        store.reject_snapshot(
            rejected.id,
            "predictions.csv is missing the patient ids, so it cannot be scored. Please add the column and ask again.",
            actor="chief",
        )
        finish_jobs(store)


def commit(store: Store, name: str, message: str, passed: float, size: int) -> Snapshot:
    """A version of `als/name`, requested `passed` seconds ago, committed but not archived."""
    with ago(passed):
        snapshot = store.request_snapshot(_space(store, name), message, actor=name, via="ssh")
        store.set_changes(snapshot.id, report(time.time(), [("added", "/root/model.rds", size)]))
        finish_jobs(store)
    with ago(passed - 5 * MINUTE):
        store.approve_snapshot(snapshot.id, actor="chief")
        store.begin_commit(snapshot.id)
    with ago(passed - 6 * MINUTE):
        digest = "sha256:" + hashlib.sha256(f"{name} {message}".encode()).hexdigest()
        done = store.begin_commit(snapshot.id)
        store.finish_commit(snapshot.id, f"als/{name}:v{done.version}", digest, (digest,), size)
        finish_jobs(store, JobKind.COMMIT)
    return store.snapshot(snapshot.id)


def finish_jobs(store: Store, kind: JobKind | None = None) -> None:
    """Do as the worker does when all goes well: take what is queued and end it, of one kind or all."""
    while (job := store.claim_job()) is not None:
        store.job_progress(job.id, 1.0, "done")
        store.finish_job(job.id, "done")
        if job.kind is kind:
            return


def _queue(store: Store) -> None:
    requests = (
        (
            "kofi", "ssh", 3 * HOUR + 20 * MINUTE,
            "Final submission: Cox model with frailty term, seed fixed in run.sh",
            [
                ("added", "/root/als/predictions.csv", 2_310_144), ("added", "/root/als/model.rds", 41_288_400),
                ("changed", "/root/als/run.sh", 1_804), ("changed", "/root/als/R/features.R", 9_211),
                ("added", "/root/.ssh/id_ed25519", 411), ("removed", "/root/als/old/model-v3.rds", 0),
                ("added", "/root/als/train.csv", 8_214_006),
            ],
            1184,
            (
                "Secrets were found in files: /root/.ssh/id_ed25519 (private-key).",
                "Files of the challenge's data were copied: /root/als/train.csv (from /data/train.csv).",
            ),
            "als/kofi:v1",
        ),
        (
            "deniz", "web", 48 * MINUTE, "Ensemble of three networks, retrained after the data fix of Monday",
            [
                ("added", "/root/weights/fold-1.pt", 214_300_672), ("added", "/root/weights/fold-2.pt", 214_300_672),
                ("added", "/root/weights/fold-3.pt", 214_300_672), ("added", "/root/predict.py", 6_120),
                ("added", "/root/predictions.csv", 2_310_211), ("changed", "/root/.bash_history", 14_020),
                ("changed", "/etc/apt/sources.list", 310),
            ],
            0, (), "",
        ),
        (
            "bob", "web", 12 * MINUTE, "Same model as before, now with the patient ids in predictions.csv",
            [
                ("changed", "/root/predictions.csv", 2_544_910), ("changed", "/root/predict.R", 3_871),
                ("added", "/root/README", 902),
            ],
            0, (), "",
        ),
    )  # fmt: skip
    for name, via, passed, message, paths, extra, warnings, since in requests:
        with ago(passed):
            snapshot = store.request_snapshot(_space(store, name), message, actor=name, via=via)
        with ago(passed - 20):
            changes = report(time.time(), paths, extra, warnings, since)
            if warnings:
                changes = replace(changes, **FOUND)
            store.set_changes(snapshot.id, changes)
            finish_jobs(store)
    with ago(4 * MINUTE):
        running = store.request_snapshot(
            _space(store, "hana"), "Imputation by chained equations", actor="hana", via="ssh"
        )
        store.set_changes(running.id, report(time.time(), [("added", "/root/imputed.rds", 96 << 20)]))
        finish_jobs(store)
    with ago(20):
        store.approve_snapshot(running.id, actor="chief")
        job = store.claim_job(set())
        assert job is not None
        store.begin_commit(running.id)
        store.job_progress(job.id, 0.64, "writing the layer, 61.4 of 96.0 MiB")


def _use(store: Store) -> None:
    """What alice's workspace used since the morning, with a night in which it did not run."""
    number, now = _space(store, "alice"), time.time()
    with store.transaction():
        for minute in (*range(0, 240, 4), *range(700, 900, 4)):
            busy = abs((minute % 96) - 48) / 30
            sample = Sample(
                busy, int((1 + busy) * (1 << 30)), 12 + minute % 5, (948 << 20) - minute * 9000, 40_000, 9_000
            )
            host = HostSample(1.1 * busy, 4, 6 << 30, 16 << 30, 210 << 30, 480 << 30, 2 * busy)
            store.add_usage(now - minute * MINUTE, {number: sample}, host)
    store.set_workspace_disk(number, 948 << 20)


FOUND: dict[str, Any] = {
    "secrets": (Finding("/root/.ssh/id_ed25519", "private-key"),),
    "copies": (Finding("/root/als/train.csv", "/data/train.csv"),),
    "packages": (
        PackageChange("dpkg", "r-cran-survival", None, "3.5-3-1"),
        PackageChange("dpkg", "libblas3", "3.11.0-2", "3.12.0-3"),
        PackageChange("pip", "xgboost", None, "2.1.1"),
        PackageChange("pip", "six", "1.16.0", None),
    ),
    "packages_since": "debian-ds:12",
}
SETUID = Change("changed", "/usr/local/bin/helper", 18_344, stat.S_IFREG | stat.S_ISUID | 0o755)
