"""More of what is in a store in the middle of a challenge, beside the sample, for pictures and tests of pages."""

from __future__ import annotations

import math
import time

from tests.support.sample import DAY, HOUR, MINUTE, ago
from workspaces import recovery
from workspaces.model import FreezeMode, HostSample, Limits, Network, Severity, WorkspaceState
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
