"""How much disk each workspace uses: looked at now and then, one at a time, for people to see.

    running, not looked at for EVERY_SECONDS ─┐
    its last session ended meanwhile ─────────┴─► the one that waits longest ─► engine (walks its files) ─► store

The walk takes as long as there are files, and whoever owns them decides how many: so a workspace comes again only after
SHARE times as long as its last walk took, and between any two walks there is a pause. It runs in a thread of
the worker that nothing waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from workspaces.engine.base import Engine
from workspaces.errors import NotFound
from workspaces.lifecycle import Lifecycle
from workspaces.model import Workspace, WorkspaceState
from workspaces.rounds import go_on
from workspaces.store import Store

LOOK_SECONDS = 5.0  # between two looks at what is due, and so between two walks
EVERY_SECONDS = 600.0
AGAIN_SECONDS = 60.0  # at the earliest, after a session ended
SHARE = 30
FRESH_SECONDS = 3600.0  # for which a number that has not changed is not written again


class Sampler:
    """Looks at one workspace after the other. `clock` is in seconds and only ever grows."""

    def __init__(
        self, store: Store, engine: Engine, lifecycle: Lifecycle, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._engine = engine
        self._lifecycle = lifecycle
        self._clock = clock
        self._next: dict[int, float] = {}  # when a workspace's turn comes
        self._soonest: dict[int, float] = {}  # …and the least it waits when a session ends
        self._occupied: set[int] = set()  # workspaces in which somebody was on at the last look

    def run(self, stop: threading.Event) -> None:
        """Sample until `stop` is set."""
        go_on({"disk use cannot be looked at": self.step}, stop, LOOK_SECONDS, LOOK_SECONDS)

    def step(self) -> Workspace | None:
        """Look at the workspace that is due longest, if one is. Raises StoreError, EngineError."""
        running = {w.id: w for w in self._store.workspaces(state=WorkspaceState.RUNNING)}
        self._hurry({session.workspace_id for session in self._store.sessions()})
        now = self._clock()
        self._next = {number: self._next.get(number, now) for number in running}
        due = min(self._next, key=lambda number: self._next[number], default=None)
        if due is None or self._next[due] > now:
            return None
        self._measure(running[due], now)
        return running[due]

    def _hurry(self, occupied: set[int]) -> None:
        """Let those come next whose last session has ended."""
        for number in self._occupied - occupied:
            if number in self._next:
                self._next[number] = min(self._next[number], self._soonest.get(number, 0.0))
        self._occupied = occupied

    def _measure(self, workspace: Workspace, begun: float) -> None:
        try:
            size = self._engine.disk_use(self._lifecycle.container_name(workspace))
        except NotFound:
            return
        finally:
            now = self._clock()
            pause = SHARE * (now - begun)
            self._next[workspace.id] = now + max(EVERY_SECONDS, pause)
            self._soonest[workspace.id] = now + max(AGAIN_SECONDS, pause)
        fresh = workspace.disk_at is not None and time.time() - workspace.disk_at < FRESH_SECONDS
        if size != workspace.disk_bytes or not fresh:
            self._store.set_workspace_disk(workspace.id, size)
