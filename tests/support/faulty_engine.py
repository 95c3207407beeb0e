"""An engine that is slow, never answers, fails, or goes away: a wrapper around a real one, set for each method.

engine = FaultyEngine(memory)
engine.slow("start", 0.3) · engine.never("commit") · engine.fail("create", NoSpace("…")) · engine.vanish_after(5)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from workspaces.engine.base import Engine
from workspaces.errors import EngineTimeout, EngineUnavailable, WorkspacesError

NEVER_SECONDS = 0.2  # what an engine's own time-out is in these tests


class FaultyEngine:
    """Has every method of `inner`. `calls` lists the methods called, in order."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.released = threading.Event()  # ends what is slow or never answers, at once
        self._faults: dict[str, Callable[[], None]] = {}
        self._left: int | None = None
        self._lock = threading.Lock()

    def slow(self, method: str, seconds: float) -> None:
        """`method` takes that much longer."""
        self._faults[method] = lambda: self._pause(seconds)

    def never(self, method: str, seconds: float = NEVER_SECONDS) -> None:
        """`method` answers nothing until the engine's time-out."""

        def fault() -> None:
            self._pause(seconds)
            raise EngineTimeout(f"The container engine took too long: could not {method}.")

        self._faults[method] = fault

    def fail(self, method: str, error: WorkspacesError, times: int = -1) -> None:
        """`method` raises `error`, `times` times (-1: always)."""
        left = [times]

        def fault() -> None:
            if left[0]:
                left[0] -= 1
                raise error

        self._faults[method] = fault

    def vanish_after(self, calls: int) -> None:
        """After that many more calls nothing answers any more."""
        self._left = calls

    def mend(self) -> None:
        """All is well again."""
        self._faults.clear()
        self._left = None

    def _pause(self, seconds: float) -> None:
        self.released.wait(seconds)

    def _before(self, method: str) -> None:
        with self._lock:
            self.calls.append(method)
            if self._left is not None:
                if self._left <= 0:
                    raise EngineUnavailable(f"The container engine does not answer: could not {method}.")
                self._left -= 1
            fault = self._faults.get(method)
        if fault:
            fault()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found) or name in ("close", "guest_socket"):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._before(name)
            return found(*arguments, **named)

        return call
