"""A session's way back to the person's own machine: their agent (-A) and their display (-X), when they asked for it.

    auth-agent-req, x11-req ──► allowed? noted ──► when the process starts: the container's agent listens
    agent     /dev/shm/ssh-…/agent, 0600 in a directory 0700, of the login user ──► SSH_AUTH_SOCK
    display   127.0.0.1:6010 and on, and the client's cookie given to `xauth` in the container ──► DISPLAY

Both end with the session. /dev/shm is the container's own and in memory: a snapshot sees nothing of it. The cookie is
the client's invention; the real one never leaves its machine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sshgate import texts
from sshgate.forwarding import Door
from sshgate.places import Place
from sshgate.pump import pipe
from sshgate.stream import Stream
from workspaces.errors import GuestError, GuestUnavailable, WorkspacesError
from workspaces.guest.client import GuestClient, SpawnRequest
from workspaces.model import Forwarding as Kind
from workspaces.names import printable

if TYPE_CHECKING:
    from sshgate.auth import Server

log = logging.getLogger(__name__)

DIRECTORY = "/dev/shm"  # noqa: S108 - the container's
FIRST_DISPLAY, DISPLAYS = 10, 50
XAUTH = b"xauth"
XAUTH_SECONDS = 10.0
_XAUTH_WORD = re.compile(rb"[A-Za-z0-9.:/_-]{1,512}")  # what sshd takes: it becomes a command to xauth

Complain = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Display:
    """What the client said of its display."""

    single: bool  # one connection only
    protocol: bytes
    cookie: bytes
    screen: int

    def commands(self, number: int) -> bytes:
        """For the standard input of `xauth -`, as sshd writes them."""
        name = b"unix:%d.%d" % (number, self.screen)
        return b"remove %s\nadd %s %s %s\n" % (name, name, self.protocol, self.cookie)


class SessionDoors:
    """Of one session. `close` may be called again, and is followed by another `open` at most."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._agent = False
        self._display: Display | None = None
        self._doors: list[Door] = []
        self._settled = False

    # --- what the client asks for ---

    async def asked_for_agent(self) -> bool:
        """Whether the agent will be forwarded."""
        self._agent = await self._allowed(Kind.AGENT, "agent-forwarding")
        return self._agent

    async def asked_for_x11(self, single: bool, protocol: bytes, cookie: bytes, screen: int) -> bool:
        """Whether X11 will be forwarded; a second request is refused, as in sshd."""
        fine = _XAUTH_WORD.fullmatch(protocol) and _XAUTH_WORD.fullmatch(cookie) and self._display is None
        if not fine or not await self._allowed(Kind.X11, "X11-forwarding"):
            return False
        self._display = Display(single, protocol, cookie, screen)
        return True

    def settle(self) -> None:
        """The session knows what it is to run: nothing more may be asked for, its environment is made next."""
        self._settled = True

    async def _allowed(self, kind: Kind, permission: str) -> bool:
        if self._settled or not self._server.connection.permitted(permission):
            return False
        try:
            await self._server.forwarding.permission.place(kind)
        except WorkspacesError as error:
            self._server.forwarding.log.info("%s: no %s: %s", self._server.user, permission, error.message)
            return False
        except Exception:
            log.exception("whether %s may have %s is not known", self._server.user, permission)
            return False
        return True

    # --- the way through ---

    async def open(
        self, client: GuestClient, place: Place, env: Mapping[bytes, bytes], complain: Complain
    ) -> dict[bytes, bytes]:
        """Listen in the container; returns what is added to the session's `env`. Raises GuestUnavailable.

        What cannot be had is said to `complain`, and the session goes on without it.
        """
        self.close()
        added: dict[bytes, bytes] = {}
        if self._agent:
            try:
                added[b"SSH_AUTH_SOCK"] = await self._open_agent(client, place)
            except GuestUnavailable:
                raise
            except WorkspacesError as error:
                complain(texts.not_forwarded("The agent", error.message))
        if self._display:
            try:
                added[b"DISPLAY"] = await self._open_display(client, place, env, self._display)
            except GuestUnavailable:
                raise
            except WorkspacesError as error:
                complain(error.message)
        return added

    async def _open_agent(self, client: GuestClient, place: Place) -> bytes:
        async def open_channel(window: int, factory: Callable[[], Stream], *_: object) -> object:
            return await self._server.connection.agent_channel(window).open(factory)

        path = f"{DIRECTORY}/ssh-{secrets.token_hex(8)}/agent"
        self._doors.append(
            await self._server.forwarding.door(client, Kind.AGENT, place, path, open_channel, private=True)
        )
        return path.encode()

    async def _open_display(
        self, client: GuestClient, place: Place, env: Mapping[bytes, bytes], display: Display
    ) -> bytes:
        async def open_channel(window: int, factory: Callable[[], Stream], host: str, port: int, _: int) -> object:
            return await self._server.connection.x11_channel(window).open(factory, host, port)

        last: GuestError | None = None
        for number in range(FIRST_DISPLAY, FIRST_DISPLAY + DISPLAYS):
            target = ("127.0.0.1", 6000 + number)
            try:
                door = await self._server.forwarding.door(
                    client, Kind.X11, place, target, open_channel, single=display.single
                )
            except GuestUnavailable:
                raise
            except GuestError as error:  # taken, as a rule
                last = error
                continue
            try:
                await _xauth(client, place, env, display.commands(number))
            except BaseException:
                door.close()
                raise
            self._doors.append(door)
            return b"localhost:%d.%d" % (number, display.screen)
        raise GuestError(texts.not_forwarded("X11", last.message if last else ""))

    def close(self) -> None:
        """Listen no more. What was accepted goes on, until the client or the container ends it."""
        while self._doors:
            self._doors.pop().close()


async def _xauth(client: GuestClient, place: Place, env: Mapping[bytes, bytes], commands: bytes) -> None:
    """Give `commands` to the image's xauth. Raises GuestError with a sentence for the person."""
    stdin, write = pipe()
    read, stdout = pipe()  # large enough for what xauth may say
    try:
        os.write(write, commands)
        os.close(write)
        write = -1
        request = SpawnRequest(argv=(XAUTH, b"-q", b"-"), env=env, user=place.challenge.login_user)
        try:
            process = await client.spawn(request, (stdin, stdout, stdout), XAUTH_SECONDS)
        except GuestUnavailable:
            raise
        except GuestError:
            raise GuestError(texts.NO_XAUTH) from None
        try:
            async with asyncio.timeout(XAUTH_SECONDS):
                status = await process.wait()
        except TimeoutError:
            raise GuestError(texts.not_forwarded("X11", "xauth does not end.")) from None
        finally:
            process.close()
        if status.code != 0:
            os.set_blocking(read, False)
            said = b""
            with suppress(BlockingIOError):
                said = os.read(read, 300)
            raise GuestError(texts.not_forwarded("X11", printable(said.decode("utf-8", "replace").strip(), 300)))
    finally:
        for fd in (stdin, stdout, read, write):
            if fd >= 0:
                os.close(fd)
