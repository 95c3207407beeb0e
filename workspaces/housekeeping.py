"""What the worker looks after beside its jobs, every few seconds.

a challenge that has closed ──► is frozen, if it asks for it    an announcement's time has come ──► terminals
an engine that died ──► `revive`                                network filters ──► put back
what the engine shows ──► the store's sightings of containers and base images
what killed workers left ──► cleared, once
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from workspaces import chores, snapshots
from workspaces.archive import Archive
from workspaces.engine.base import Engine
from workspaces.errors import EngineUnavailable
from workspaces.heartbeat import engine_answered
from workspaces.lifecycle import Lifecycle
from workspaces.rounds import go_on
from workspaces.snapshots import Shelf
from workspaces.store import Store

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0


class Housekeeping:
    """`revive` starts an engine that died, if that is this program's to do; `locks` is where its answers are noted."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        lifecycle: Lifecycle,
        archive: Archive,
        shelf: Shelf,
        locks: Path,
        revive: Callable[[], None],
    ) -> None:
        self._store = store
        self._engine = engine
        self._lifecycle = lifecycle
        self._archive = archive
        self._shelf = shelf
        self._locks = locks
        self._revive = revive
        self._swept = False

    def run(self, stop: threading.Event) -> None:
        """Keep house until `stop` is set."""
        steps: dict[str, Callable[[], object]] = {
            "challenges that have closed cannot be frozen": self._freeze_closed,
            "announcements cannot be told": self._store.tell_announcements,
            "the engine cannot be started again": self._look_after_engine,
            "what killed workers left cannot be cleared": self._sweep,
            "network filters cannot be looked at": self._engine.prepare,
            "containers cannot be looked at": self._lifecycle.reconcile,
            "images cannot be looked at": chores.Images(self._store, self._engine).look,
        }
        go_on(steps, stop, EVERY_SECONDS)

    def _freeze_closed(self) -> None:
        for begun in self._store.begin_due_freezes(time.time()):
            log.info("challenge %s has closed and is being frozen", begun.challenge)

    def _look_after_engine(self) -> None:
        try:
            self._engine.info()
        except EngineUnavailable:
            self._revive()
        engine_answered(self._locks)

    def _sweep(self) -> None:
        if not self._swept:
            self._archive.clean()
            self._shelf.clean(self._store)
            snapshots.sweep(self._store, self._engine, self._lifecycle)
            self._swept = True
