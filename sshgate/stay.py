"""How long what a connection forwards may last: as long as a session of the same challenge, by the same clocks.

    first forward into a workspace ──► Clocks ──► idle too long, lasted too long, the challenge closes ──► end

They run until the connection ends, or what it forwards there: whoever stays for a forward alone is counted as if that
were a session. While a session runs beside it, that one's own clock says when the person is idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from sshgate.clocks import Clocks
from sshgate.places import Place


class Stays:
    """One connection's. `moved` changes whenever a byte does; `end` gets a workspace's number and a sentence."""

    def __init__(self, moved: Callable[[], int], end: Callable[[int, str], None]) -> None:
        self._moved = moved
        self._end = end
        self._clocks: dict[int, tuple[str, Clocks]] = {}

    def begin(self, place: Place) -> None:
        """Something is, or will be, forwarded there; not the first time, as a rule."""
        number, challenge = place.workspace.id, place.challenge
        if number in self._clocks:
            return

        def end(reason: str) -> None:
            self.forget(number)
            self._end(number, reason)

        clocks = Clocks(
            asyncio.get_running_loop(),
            self._moved,
            lambda _: None,
            end,
            idle=challenge.idle_seconds,
            longest=challenge.session_seconds,
        )
        self._clocks[number] = challenge.slug, clocks
        clocks.closes(challenge.closes_at, challenge.slug)

    def closes(self, closes_at: Mapping[int, float | None]) -> None:
        """When workspaces close, by number: told whenever the organisers changed anything."""
        for number, (slug, clocks) in tuple(self._clocks.items()):
            clocks.closes(closes_at.get(number), slug)

    def forget(self, workspace_id: int) -> None:
        """Nothing is forwarded there any more."""
        _, clocks = self._clocks.pop(workspace_id, ("", None))
        if clocks:
            clocks.stop()

    def stop(self) -> None:
        """The connection is lost."""
        for number in tuple(self._clocks):
            self.forget(number)
