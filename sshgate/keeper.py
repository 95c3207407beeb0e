"""What holds for all workers of a gateway together: how many connections and sessions there are, and who guesses.

    accept.py ──► enter ──────────────────────────────┐
    worker ──► `Shared` ──► link.py ──► coordinator ──► Keeper ──► Admission, Guessing
                            authenticated, sessions, guess, right, left

A connection has a number, which the keeper gave it; whatever it holds goes back with `left`. How many sessions it has
is said as a number and not as one more or one less, so nothing is wrong for long when a message or an answer is lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sshgate import texts
from sshgate.limits import MAX_ACCOUNT_SESSIONS, Admission, Guessing


class Shared(Protocol):
    """What a worker asks of the keeper, wherever that is. A refusal is the sentence for the client, None is consent."""

    async def authenticated(self, number: int, account: str) -> str | None: ...

    async def sessions(self, number: int, count: int) -> str | None:
        """Whether connection `number` may have `count` sessions."""

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

    def left(self, number: int) -> None:
        """Connection `number` ended."""


@dataclass(slots=True)
class Held:
    """One connection. `account` is None until it is authenticated."""

    address: str
    account: str | None = None
    sessions: int = 0
    refused: bool = False


class Keeper:
    """Counts; blocks on nothing."""

    def __init__(self, next_number: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.next_number = next_number
        self.admission = Admission(clock)
        self.guessing = Guessing(clock)
        self._held: dict[int, Held] = {}
        self._sessions: Counter[str] = Counter()

    def enter(self, address: str) -> int | None:
        """A connection was made: its number, or None when it is one too many."""
        if not self.admission.enter(address):
            return None
        number = self.next_number
        self.next_number += 1
        self._held[number] = Held(address)
        return number

    def restore(self, number: int, address: str, account: str | None, sessions: int) -> None:
        """Count a connection that an earlier coordinator let in."""
        if number not in self._held:
            self._held[number] = Held(address, account)
            self.admission.restore(address, account)
            if account is not None:
                self.guessing.remember(account, address)
            self.fewer(number, sessions)

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
        held = self._held.pop(number, None)
        if held is not None:
            self.admission.leave(held.address, held.account)
