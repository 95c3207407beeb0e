"""Makes sure that a workspace runs, once however many arrive, and never in the way of those whose workspace does.

    warm:  known from an earlier start ──────────────────────────────► path      no thread, no engine
    cold:  first caller ──► thread ──► Lifecycle.ensure_running ──► path ──► every caller
                              └─ progress ──► every caller's terminal

A path is known once the lifecycle has seen that the container behind it is this workspace's own, and forgotten when
nothing answers there.

A hanging engine holds threads of these pools only, and a caller at most START_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sshgate import texts
from workspaces.errors import EngineTimeout, WorkspacesError
from workspaces.lifecycle import Lifecycle

log = logging.getLogger(__name__)

START_THREADS = 8
START_SECONDS = 180.0
LOOK_SECONDS = 5.0  # for a question that the engine answers from what it knows

Tell = Callable[[str], None]
_A = TypeVar("_A")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Start:
    future: asyncio.Future[Path] = field(init=False)
    said: list[str] = field(default_factory=list)
    listeners: list[Tell] = field(default_factory=list)

    def say(self, text: str) -> None:
        if text and text not in self.said:
            self.said.append(text)
            for tell in tuple(self.listeners):
                tell(text)


class Starter:
    """All of it on the event loop but for what runs in its threads."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._loop = asyncio.get_running_loop()
        self._engine = ThreadPoolExecutor(START_THREADS, "start")
        self._looks = ThreadPoolExecutor(2, "look")
        self._known: dict[int, Path] = {}
        self._starts: dict[int, _Start] = {}

    def known(self, workspace_id: int) -> Path | None:
        """Where its agent listens, if that is known."""
        return self._known.get(workspace_id)

    def learn(self, workspace_id: int, socket: Path) -> None:
        """Its agent has just answered there."""
        self._known.setdefault(workspace_id, socket)

    async def ensure(self, workspace_id: int, tell: Tell) -> Path:
        """Create and start its container as needed; `tell` gets each new step, also those before it came.

        Raises WorkspacesError with the reason. A caller that is cancelled leaves the start going on.
        """
        start = self._starts.get(workspace_id)
        if start is None:
            start = self._begin(workspace_id)
        for text in start.said:
            tell(text)
        start.listeners.append(tell)
        try:
            return await asyncio.wait_for(asyncio.shield(start.future), START_SECONDS)
        except TimeoutError:
            raise EngineTimeout(texts.SLOW_TO_START.format(seconds=START_SECONDS), texts.SLOW_TO_START_HINT) from None
        finally:
            start.listeners.remove(tell)

    def mend(self, workspace_id: int) -> None:
        """See to a workspace whose agent is silent: a container that was left paused goes on. Waits for nothing."""
        if workspace_id not in self._starts:
            self._begin(workspace_id)

    async def diagnose(self, workspace_id: int) -> str:
        """Why its container ended, as far as that can be told in a few seconds."""
        self._known.pop(workspace_id, None)
        try:
            return await self._look(self._lifecycle.diagnose, workspace_id)
        except TimeoutError:
            return "the engine does not answer"
        except WorkspacesError as error:
            return error.message

    def close(self) -> None:
        """Wait for nothing: what was started goes on in the engine."""
        self._engine.shutdown(wait=False, cancel_futures=True)
        self._looks.shutdown(wait=False, cancel_futures=True)

    async def _look(self, function: Callable[[_A], _T], argument: _A) -> _T:
        return await asyncio.wait_for(self._loop.run_in_executor(self._looks, function, argument), LOOK_SECONDS)

    def _begin(self, workspace_id: int) -> _Start:
        def progress(text: str, _fraction: float | None) -> None:
            self._loop.call_soon_threadsafe(start.say, text)

        def done(future: asyncio.Future[Path]) -> None:
            self._starts.pop(workspace_id, None)
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                self._known[workspace_id] = future.result()
            elif not isinstance(error, WorkspacesError):
                log.error("workspace %d did not start", workspace_id, exc_info=error)

        self._known.pop(workspace_id, None)
        start = self._starts[workspace_id] = _Start()
        start.future = self._loop.run_in_executor(self._engine, self._lifecycle.ensure_running, workspace_id, progress)
        start.future.add_done_callback(done)
        return start
