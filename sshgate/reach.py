"""Asks the agent of a person's workspace for something, and starts the workspace as needed.

    where it listens is known, here or to another worker ──► ask ──► done      milliseconds, no engine
    nobody answers there ──► start the workspace (start.py) ──► ask

For sessions and forwarded connections alike: whichever comes first starts the workspace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sshgate import texts
from sshgate.places import Place
from workspaces.errors import EngineError, EngineTimeout, GuestUnavailable
from workspaces.guest.client import GuestClient

if TYPE_CHECKING:
    from sshgate.server import Gate

log = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0  # for an agent that answers in 2 ms, unless a commit pauses its container
MEND_SECONDS = 10.0  # of its silence, after which the lifecycle looks whether the container was left paused

T = TypeVar("T")


async def reach(
    gate: Gate,
    place: Place,
    ask: Callable[[GuestClient], Awaitable[T]],
    start: Callable[[], Awaitable[Path]] | None = None,
    silence: float | None = None,
) -> tuple[T, Path]:
    """What `ask` gives, and the agent's socket. `start` starts the workspace, as gate.starter.ensure does.

    `silence`: seconds after which the agent counts as silent, more than it may take by itself. Raises WorkspacesError.
    """
    number = place.workspace.id
    socket = gate.starter.known(number) or await gate.shared.where(number)
    if socket is not None:
        try:
            found = await _asked(gate, place, socket, ask, silence), socket
            gate.starter.learn(number, socket)
            return found
        except GuestUnavailable as error:
            log.info("%s: %s", place.workspace.ref, error.message)
    try:
        socket = await (start() if start else gate.starter.ensure(number, lambda _: None))
        return await _asked(gate, place, socket, ask, silence), socket
    except GuestUnavailable:
        raise await ended(gate, place) from None


async def ended(gate: Gate, place: Place) -> EngineError:
    """Why nobody answers there any more, for the person."""
    return EngineError(texts.ended(place.workspace.ref, await gate.starter.diagnose(place.workspace.id)))


async def _asked(
    gate: Gate, place: Place, socket: Path, ask: Callable[[GuestClient], Awaitable[T]], silence: float | None
) -> T:
    """Ask the agent, once: asked again, one that was only paused would do it twice.

    Raises GuestUnavailable when no agent is there, EngineTimeout when it does not answer.
    """
    number = place.workspace.id
    seconds = MEND_SECONDS if silence is None else silence
    mend = asyncio.get_running_loop().call_later(seconds, gate.starter.mend, number)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await gate.shared.attend(number, socket, place.user)
            return await ask(GuestClient(socket))
    except TimeoutError:
        message = texts.SLOW_TO_ANSWER.format(seconds=ANSWER_SECONDS)
        raise EngineTimeout(message, texts.SLOW_TO_ANSWER_HINT) from None
    finally:
        mend.cancel()
