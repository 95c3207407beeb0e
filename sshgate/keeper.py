"""What holds for all workers of a gateway together: how many connections and sessions there are, and who guesses.

    accept.py ──► enter ──────────────────────────────┐       ──► drop, when somebody has to make room
    worker ──► `Shared` ──► link.py ──► coordinator ──► Keeper ──► Admission, Guessing
                            authenticated, sessions, streams, guess, right, left

A connection has a number, which the keeper gave it; whatever it holds goes back with `left`. How many sessions, or
forwarded connections, it has is said as a number and not as one more or one less, so nothing is wrong for long when a
message or an answer is lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sshgate import limits, texts
from sshgate.limits import MAX_ACCOUNT_SESSIONS, Admission, Guessing
from workspaces.throttle import network


class Shared(Protocol):
    """What a worker asks of the keeper, wherever that is. A refusal is the sentence for the client, None is consent."""

    async def authenticated(self, number: int, account: str) -> str | None: ...

    async def sessions(self, number: int, count: int) -> str | None:
        """Whether connection `number` may have `count` sessions."""

    async def streams(self, number: int, count: int) -> str | None:
        """Whether connection `number` may have `count` forwarded connections."""

    async def guess(self, account: str, address: str) -> float:
        """Count a try of a password. 0 when it may be made, else seconds to wait."""

    async def too_many_codes(self, account: str) -> bool:
        """Whether so many one-time codes were wrong that no other counts for a while."""

    async def attend(self, workspace_id: int, socket: Path, user: str) -> None:
        """`user` begins a session in a workspace: returns when what is asked inside will be answered, if it can be."""

    async def where(self, workspace_id: int) -> Path | None:
        """Where the agent of a workspace listens, if any worker has found it running."""

    # nobody waits for what follows

    def right(self, account: str, address: str) -> None:
        """The try was right."""

    def wrong_code(self, account: str) -> None:
        """The password was right, the one-time code was not."""

    def fewer(self, number: int, count: int) -> None:
        """Connection `number` has only `count` sessions by now."""

    def fewer_streams(self, number: int, count: int) -> None:
        """Connection `number` needs no more than `count` forwarded connections by now."""

    def left(self, number: int) -> None:
        """Connection `number` ended."""


@dataclass(slots=True)
class Held:
    """One connection. `account` is None until it is authenticated."""

    address: str
    account: str | None = None
    sessions: int = 0
    streams: int = 0
    refused: bool = False
    network: str = field(init=False)

    def __post_init__(self) -> None:
        self.network = network(self.address)


class Keeper:
    """Counts; blocks on nothing. `drop` ends a connection, by its number, that counts no longer."""

    def __init__(
        self, drop: Callable[[int], None], next_number: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._drop = drop
        self.next_number = next_number
        self.admission = Admission(clock)
        self.guessing = Guessing(clock)
        self._held: dict[int, Held] = {}
        self._sessions: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._all_streams = 0

    def enter(self, address: str) -> int | None:
        """A connection was made: its number, or None when it is one too many."""
        crowd = self.admission.crowd(address)
        if crowd is not None:
            oldest = min(n for n, held in self._held.items() if held.account is None and held.network == crowd)
            self.left(oldest)
            self._drop(oldest)
        if not self.admission.enter(address):
            return None
        number = self.next_number
        self.next_number += 1
        self._held[number] = Held(address)
        return number

    def restore(self, number: int, address: str, account: str | None, sessions: int, streams: int) -> None:
        """Count a connection that an earlier coordinator let in."""
        if number not in self._held:
            self._held[number] = Held(address, account)
            self.admission.restore(address, account)
            if account is not None:
                self.guessing.remember(account, address)
            self.fewer(number, sessions)
            self.fewer_streams(number, streams)

    def authenticated(self, number: int, account: str) -> str | None:
        held = self._held.get(number)
        if held is None or held.account not in (None, account):
            return texts.UNSETTLED
        if held.account is None:  # else it was restored, and asks again because it had no answer
            held.account = account
            held.refused = not self.admission.authenticated(held.address, account)
        if held.refused:
            return texts.TOO_MANY_CONNECTIONS
        self.guessing.remember(account, held.address)
        return None

    def sessions(self, number: int, count: int) -> str | None:
        held = self._held.get(number)
        if held is None or held.account is None or held.refused:
            return texts.UNSETTLED
        if self._sessions[held.account] - held.sessions + count > MAX_ACCOUNT_SESSIONS:
            return texts.TOO_MANY_ACCOUNT_SESSIONS
        self.fewer(number, count)
        return None

    def fewer(self, number: int, count: int) -> None:
        held = self._held.get(number)
        if held is not None and held.account is not None:
            self._sessions[held.account] += count - held.sessions
            held.sessions = count
            if not self._sessions[held.account]:
                del self._sessions[held.account]

    def streams(self, number: int, count: int) -> str | None:
        held = self._held.get(number)
        if held is None or held.account is None or held.refused:
            return texts.UNSETTLED
        more = count - held.streams
        if self._streams[held.account] + more > limits.MAX_ACCOUNT_STREAMS:
            return texts.TOO_MANY_ACCOUNT_STREAMS
        if self._all_streams + more > limits.MAX_ALL_STREAMS:
            return texts.TOO_MANY_ALL_STREAMS
        self.fewer_streams(number, count)
        return None

    def fewer_streams(self, number: int, count: int) -> None:
        held = self._held.get(number)
        if held is not None and held.account is not None:
            self._all_streams += count - held.streams
            self._streams[held.account] += count - held.streams
            held.streams = count
            if not self._streams[held.account]:
                del self._streams[held.account]

    def guess(self, account: str, address: str) -> float:
        return self.guessing.take(account, address)

    def too_many_codes(self, account: str) -> bool:
        return self.guessing.too_many_codes(account)

    def right(self, account: str, address: str) -> None:
        self.guessing.right(account, address)

    def wrong_code(self, account: str) -> None:
        self.guessing.wrong_code(account)

    def left(self, number: int) -> None:
        """Nothing happens when it is known to have ended."""
        self.fewer(number, 0)
        self.fewer_streams(number, 0)
        held = self._held.pop(number, None)
        if held is not None:
            self.admission.leave(held.address, held.account)
