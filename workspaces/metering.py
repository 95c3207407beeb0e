"""What workspaces and the host use, looked at once a minute, for people to see.

    workspaces that run ─► engine.usage of each (counters since its start) ─► differences ─► store.add_usage, once
    the host            ─► hostload                                        ─┘

One look reads some small files for each container and writes once, however many there are. It runs in a thread of the
worker that nothing waits for. Disk use is not measured here: it is what sampling.py last found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from workspaces.engine.base import Engine, Use
from workspaces.errors import EngineError, NotFound
from workspaces.hostload import HostLoad
from workspaces.lifecycle import Lifecycle
from workspaces.model import Sample, Workspace, WorkspaceState
from workspaces.rounds import go_on
from workspaces.store import Store

FIRST_SECONDS = 5.0  # after the worker's start, which others wait for
EVERY_SECONDS = 60.0
LONGEST = 3 * EVERY_SECONDS  # between two looks whose difference still tells a rate


class Metering:
    """Looks at all of them at once. `clock` is in seconds and only ever grows."""

    def __init__(
        self, store: Store, engine: Engine, lifecycle: Lifecycle, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._engine = engine
        self._lifecycle = lifecycle
        self._clock = clock
        self._host = HostLoad()
        self._looked: float | None = None
        self._known: dict[int, Use | None] = {}  # at the last look, by workspace id; None: it ran, and was not seen
        self._missed = False  # whether that look did not reach all

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set."""
        go_on({"use cannot be looked at": self.step}, stop, EVERY_SECONDS, FIRST_SECONDS)

    def step(self) -> None:
        """One look. Raises StoreError, OSError; what the engine does not tell is left out, and logged."""
        running = self._store.workspaces(state=WorkspaceState.RUNNING)
        now, before = self._clock(), self._looked
        passed = now - before if before is not None and now - before <= LONGEST else None
        missed, known = self._missed, self._known
        self._looked, self._known, self._missed = now, {}, True  # until all is read
        trouble, places = self._read(running)
        self._missed = trouble is not None
        samples = {}
        if passed:
            for workspace in running:
                use, earlier = self._known.get(workspace.id), known.get(workspace.id)
                if use is not None and (earlier is not None or not (missed or workspace.id in known)):
                    samples[workspace.id] = _sample(use, earlier, passed, workspace.disk_bytes)
        host = self._host.read([self._store.path.parent, *places])
        if samples or host is not None:
            self._store.add_usage(time.time(), samples, host)
        if trouble is not None:
            raise trouble

    def _read(self, running: list[Workspace]) -> tuple[EngineError | None, list[Path]]:
        """Fill `_known`; what kept the engine from telling all, and where it keeps its data."""
        try:
            places = [Path(self._engine.info().data_root)] if running else []
            for workspace in running:
                self._known[workspace.id] = None
                try:
                    use = self._engine.usage(self._lifecycle.container_name(workspace))
                except NotFound:
                    continue
                self._known[workspace.id] = use
        except EngineError as error:  # the next one would wait as long for nothing
            return error, []
        return None, places


def _sample(use: Use, before: Use | None, passed: float, disk: int | None) -> Sample:
    """`before` is None, or counted more, when it was started since: then all that it counted is of this time."""
    if before is None or use.cpu_seconds < before.cpu_seconds or use.received < before.received:
        before = Use(0.0, 0, 0, 0, 0)
    return Sample(
        cpus=(use.cpu_seconds - before.cpu_seconds) / passed,
        memory=use.memory,
        pids=use.pids,
        disk=disk,
        received=use.received - before.received,
        sent=max(0, use.sent - before.sent),
    )
