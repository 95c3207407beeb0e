"""Room for a connection's forwarded connections among those of all workers, which the keeper counts.

    a stream begins ──► more than were asked for? ──► the keeper is asked for eight more, or else for what is needed
    streams end ──► what is not needed goes back

So most streams wait for no other process, and 64 connections of one account may have some each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.constants import OPEN_RESOURCE_SHORTAGE

if TYPE_CHECKING:
    from sshgate.auth import Server
    from sshgate.server import Gate

STEP = 8


class Room:
    """One connection's. `needed` says how many streams there are, those that begin among them."""

    def __init__(self, gate: Gate, server: Server, needed: Callable[[], int]) -> None:
        self.taken = 0  # as the keeper counts
        self._gate = gate
        self._server = server
        self._needed = needed
        self._taking = asyncio.Lock()

    async def take(self) -> None:
        """Have all streams counted. Raises ChannelOpenError."""
        async with self._taking:
            needed, refusal = self._needed(), None
            for count in (_rounded(needed), needed):  # of the last that there are, no more than needed
                if needed > self.taken:
                    refusal = await self._gate.shared.streams(self._server.connection.number, count)
                    if refusal is None:
                        self.taken = count
        self.give_back()
        if refusal is not None:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, refusal)

    def give_back(self) -> None:
        """Streams ended, perhaps. Not while an answer is awaited, which would be for another number."""
        needed = self._needed()
        count = needed if self.taken % STEP else _rounded(needed)
        if count < self.taken and not self._taking.locked():
            self.taken = count
            self._gate.shared.fewer_streams(self._server.connection.number, count)


def _rounded(streams: int) -> int:
    return -(-streams // STEP) * STEP
