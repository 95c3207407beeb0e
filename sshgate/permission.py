"""Whether a person may forward this or that, and where: asked of the store anew, though not more than once a second.

    place, check ──► found a moment ago, and nobody looked since? ──► else the store ──► this kind in this challenge?
    server.py looks who may be here ──► looked() ──► what was found before that is found again

So each forward either is seen by the look that notices the end of a membership, or is refused after it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sshgate import texts
from sshgate.places import Place, find
from workspaces.errors import Refused, WorkspacesError
from workspaces.model import Forwarding as Kind

if TYPE_CHECKING:
    from sshgate.auth import Server
    from sshgate.server import Gate

PLACE_SECONDS = 1.0  # for which an answer of the store holds: a browser opens a hundred connections at once


class Permission:
    """One connection's."""

    def __init__(self, gate: Gate, server: Server) -> None:
        self._gate = gate
        self._server = server
        self._found: dict[str | None, tuple[float, asyncio.Future[Place]]] = {}  # by what was asked for
        self._looks = 0

    async def place(self, kind: Kind) -> Place:
        """Where it goes. Raises WorkspacesError when that kind of forwarding, or any, is not for this person."""
        return await self._find(kind, self._server.wanted)

    async def check(self, kind: Kind, place: Place) -> None:
        """Whether it may go on being `place`. Raises WorkspacesError."""
        await self._find(kind, place.workspace.ref)

    async def _find(self, kind: Kind, wanted: str | None) -> Place:
        """Never what was found before the last look: whatever comes of it is seen by the next one."""
        if self._server.user is None or self._gate.draining:
            raise Refused(f"{texts.CLOSING}.")
        assert self._server.grant is not None
        challenges = self._server.grant.challenges
        looks = -1
        while looks != self._looks:
            looks, now = self._looks, asyncio.get_running_loop().time()
            at, found = self._found.get(wanted, (0.0, None))
            if found is None or now - at > PLACE_SECONDS:
                looking = self._gate.in_store(find, self._gate.store, self._server.user, wanted, challenges)
                found = asyncio.ensure_future(looking)
                found.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._found[wanted] = now, found
            try:
                place = await asyncio.shield(found)
            except WorkspacesError:
                if looks == self._looks:
                    raise
        if kind not in place.challenge.forwarding:
            raise Refused(texts.not_allowed(place.challenge.slug, kind))
        return place

    def looked(self) -> None:
        """The gate sees anew who may be here: what was found before that is not trusted."""
        self._looks += 1
        self._found.clear()
