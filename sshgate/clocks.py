"""How long a session may last: when nothing moves in it, in all, and until its challenge closes.

    counter of bytes ──compared at each look──► idle since ─┐
    began, challenge closes ────────────────────────────────┴─► the next thing due ──► one timer ──► warn, end

Nothing here is done for each byte: the session counts what it copies anyway, and a look now and then sees whether the
count is another one. A session without any limit has no timer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from sshgate import texts

WARN_SECONDS = 300.0  # before the end, or a fifth of the limit when that is less
LOOKS = 25  # at least so many in the time that a session may be idle: it ends late by one of them at most
LOOK_MAX = 60.0  # seconds between two looks at whether bytes moved
AGAIN_SECONDS = 3600.0  # the longest that the clock on the wall is trusted to run evenly


@dataclass(slots=True)
class _Limit:
    """One way to an end: `left()` are the seconds until then, `warn` how many before it the person is told."""

    left: Callable[[], float]
    warn: float
    warning: Callable[[float], str]
    ended: str
    warned: bool = False


class Clocks:
    """One session's. `moved` counts its bytes in both directions; `warn` and `end` get a sentence.

    `idle` and `longest` are seconds, None for no limit. `wall` tells the time as the store's: seconds since the epoch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        moved: Callable[[], int],
        warn: Callable[[str], None],
        end: Callable[[str], None],
        *,
        idle: float | None,
        longest: float | None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._moved = moved
        self._warn = warn
        self._end = end
        self._wall = wall
        self._closes_at: float | None = None
        self._closing: _Limit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = self._over = False
        self._seen = moved()
        self._since = began = loop.time()
        self._look = min(LOOK_MAX, idle / LOOKS) if idle is not None else None
        self._idle: _Limit | None = None
        self._longest: _Limit | None = None
        if idle is not None:
            limit = idle
            self._idle = _Limit(
                lambda: self._since + limit - loop.time(), _before(idle), texts.idle_warning, texts.idle_end(idle)
            )
        if longest is not None:
            last = began + longest
            self._longest = _Limit(
                lambda: last - loop.time(), _before(longest), texts.longest_warning, texts.longest_end(longest)
            )

    def closes(self, at: float | None, challenge: str) -> None:
        """The challenge closes then, or never. Told anew when the organisers change it; the first time starts all."""
        if self._over or (self._begun and at == self._closes_at):
            return
        greeted, self._begun = not self._begun, True
        self._closes_at = at
        self._closing = None
        if at is not None:
            moment = at
            self._closing = _Limit(
                lambda: moment - self._wall(),
                WARN_SECONDS,
                lambda left: texts.closing_warning(challenge, left),
                texts.closing_end(challenge),
                warned=greeted and moment - self._wall() <= WARN_SECONDS,  # the greeting has just said so
            )
        self._tick()

    def stop(self) -> None:
        """No more of it. May be called again."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._moved() != self._seen:
            self._seen, self._since = self._moved(), self._loop.time()
            if self._idle is not None:
                self._idle.warned = False
        waits = [AGAIN_SECONDS] if self._closing is not None else []
        if self._look is not None:
            waits.append(self._look)
        for limit in (self._idle, self._longest, self._closing):
            if limit is None:
                continue
            left = limit.left()
            if left <= 0:
                self.stop()
                self._end(limit.ended)
                return
            if left <= limit.warn and not limit.warned:
                limit.warned = True
                self._warn(limit.warning(left))
            waits.append(left if limit.warned else left - limit.warn)
        if waits:
            self._timer = self._loop.call_later(max(0.0, min(waits)), self._tick)


def _before(limit: float) -> float:
    return min(WARN_SECONDS, limit / 5)
