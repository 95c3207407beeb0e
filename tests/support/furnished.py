"""More of what is in a store in the middle of a challenge, beside the sample, for pictures and tests of pages."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

from tests.support.sample import DAY, HOUR, MINUTE, ago, finish_jobs
from workspaces import recovery
from workspaces.model import (
    BaseImage,
    FreezeMode,
    HostSample,
    ImageFinding,
    JobKind,
    Limits,
    Network,
    Severity,
    WorkspaceState,
)
from workspaces.store import Store

INVITATION = "an-invitation"
PEOPLE_ON = (("alice", "shell", 35 * MINUTE), ("bob", "shell", 12 * MINUTE), ("kofi", "sftp", 50 * MINUTE))


def furnish(store: Store, looks: int = 6) -> None:
    """Sessions, the host's use in the last `looks` quarters of an hour, disk, announcement, invitation, freeze."""
    for name, kind, passed in PEOPLE_ON:
        space = store.workspace(f"als/{name}").id
        with ago(passed):
            store.begin_session(name, space, kind, "198.51.100.24", "gateway", time.time())
    with ago(3 * HOUR):
        past = store.begin_session(
            "alice", store.workspace("als/alice").id, "exec", "198.51.100.24", "gateway", time.time()
        )
        store.end_session(past, time.time() + 90)
    _use(store, looks)
    with ago(2 * HOUR):
        text = "The test set is replaced on Friday at noon; the old one stays in /data/old."
        store.add_announcement(text, Severity.INFO, challenge="als", actor="chief")
    store.invite("lena", recovery.digest(INVITATION), time.time() + 2 * DAY, actor="chief")
    with ago(60 * DAY):
        store.add_challenge("bci", "debian-ds:12", Limits(1.0, 2 << 30, 256), Network.NONE, actor="chief")
    with ago(30 * DAY):
        store.begin_freeze("bci", FreezeMode.STOP, actor="chief")
    store.set_challenge("bci", actor="chief", keep_last=5)
    _found(store)


def _found(store: Store) -> None:
    """What jobs about the host found some hours ago: images, and how the archive is."""
    with ago(2 * HOUR):
        digest = "sha256:" + "7c" * 32
        image = BaseImage(digest, ("debian-ds:12",), 1_430_000_000, 6, time.time() - 40 * DAY, time.time())
        old = replace(image, id="sha256:" + "1f" * 32, refs=("debian-ds:11",), size=1_210_000_000)
        store.set_base_images([image, old])
        store.set_image_findings(old.id, [ImageFinding("tmux", False, False, "", "no session stays", "add tmux")])
        shares = [
            {"challenge": "als", "images": 4, "alone": 6_292_000_000, "once": 2_002_000_000, "own": 2_002_000_000},
        ]
        usage = {"images": 4, "alone": 6_292_000_000, "once": 2_002_000_000, "stored": 2_046_000_000, "ratio": 3.1}
        blobs = {"blobs": 2, "bytes": 44_000_000, "listed": [{"digest": "sha256:" + "a4" * 32, "size": 43_000_000}]}
        for kind, document in (
            (JobKind.USAGE, {**usage, "shares": shares, "unread": [], "where": "file:///srv/workspaces/archive"}),
            (JobKind.VERIFY, {"blobs": 41, "sealed": 0, "bytes": 2_046_000_000, "bad": 0, "problems": []}),
            (JobKind.GC, {**blobs, "deleted": False, "unfinished": 1, "young": 0}),
        ):
            job = store.add_job(kind, actor="chief")
            store.set_report(job.id, "", json.dumps(document))
            finish_jobs(store, kind)


def _use(store: Store, looks: int) -> None:
    spaces = store.workspaces()
    for number, space in enumerate(spaces):
        if space.state is not WorkspaceState.ABSENT and space.disk_bytes is None:
            store.set_workspace_disk(space.id, (number * 733 % 2900 + 40) << 20)
    now = time.time()
    for look in range(looks):
        busy = 0.5 + 0.5 * math.sin(look / 7)
        host = HostSample(
            6.1 * busy + 1.2, 16, int((14 + 9 * busy) * (1 << 30)), 64 << 30, 410 << 30, 1 << 40, 5.5 * busy
        )
        store.add_usage(now - 10 - (looks - 1 - look) * 15 * MINUTE, {}, host)
