"""What one connection forwards: -L, -D and -W into the container, -R out of it, TCP and unix sockets.

    direct-tcpip, direct-streamlocal ──► allowed? room? ──► place ──► agent connects in the container ──► Stream
    tcpip-forward, streamlocal-forward ──► allowed? room? ──► place ──► agent listens in the container ──► Door
    somebody connects to a Door ──► room? ──► channel to the client ──► Stream

Nothing is ever dialled, listened on or looked up outside the container. What the person may is asked anew, though not
more than once a second: the challenge's switches, the key's options, and whether they are a member still. A workspace
that does not run is started.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.constants import (
    DISC_BY_APPLICATION,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
    OPEN_RESOURCE_SHORTAGE,
)

from sshgate import limits, texts
from sshgate.channels import Windowed
from sshgate.connection import WINDOW
from sshgate.permission import Permission
from sshgate.places import Place
from sshgate.reach import ended, reach
from sshgate.room import Room
from sshgate.sparing import Sparing
from sshgate.stay import Stays
from sshgate.stream import Stream
from workspaces import throttle
from workspaces.errors import GuestUnavailable, Refused, WorkspacesError
from workspaces.guest.client import GuestClient, Listener
from workspaces.model import Forwarding as Kind
from workspaces.names import printable

if TYPE_CHECKING:
    from sshgate.auth import Server
    from sshgate.connection import Connection
    from sshgate.server import Gate

log = logging.getLogger(__name__)

CONNECT_SECONDS = 45.0  # the agent itself gives up after 30
NOTICES_MAX = 5
NOTICE = throttle.Rate(32, 1)  # lines about one connection

Target = tuple[str, int] | str  # host and port, or a unix socket's path
Open = Callable[[int, Callable[[], Stream], str, int, int], Awaitable[object]]
"""Opens a channel to the client: its window, its session's factory, who connected (host, port), and the Door's port."""


class Door(asyncssh.SSHListener):
    """A port or unix socket in the container; whoever connects there gets a channel to the client.

    `lost` is called when the container ends it; with `single` it closes after the first connection.
    """

    def __init__(
        self,
        forwarding: Forwarding,
        kind: Kind,
        place: Place,
        listener: Listener,
        open_channel: Open,
        lost: Callable[[], None] | None = None,
        single: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.place = place
        self.lost = lost
        self._forwarding = forwarding
        self._listener = listener
        self._open = open_channel
        self._single = single
        self._task = asyncio.create_task(self._serve())

    def get_port(self) -> int:
        return self._listener.port

    def close(self) -> None:
        """Listen no more. What was accepted goes on."""
        self._task.cancel()
        self._listener.close()
        self._forwarding.doors.discard(self)
        self._forwarding.gate.changed()

    async def _serve(self) -> None:
        try:
            async for host, port, sock in self._listener:
                self._forwarding.bring(self, sock, self._open, host, port)
                if self._single:
                    self.close()
                    return
        except WorkspacesError as error:
            self._forwarding.log.info("%s: %s", self.place.workspace.ref, error.message)
        self.close()
        if self.lost:
            self.lost()


class Forwarding:
    """All of one connection's forwards, and what decides on each."""

    def __init__(self, gate: Gate, server: Server) -> None:
        self.gate = gate
        self.streams: set[Stream] = set()
        self.doors: set[Door] = set()
        self.permission = Permission(gate, server)
        self.log = Sparing(log)
        self._server = server
        self._tasks: set[asyncio.Task[object]] = set()
        self._notices: list[str] = []
        self._told = throttle.Buckets(NOTICE)
        self._listening = 0  # requests under way
        self._settled = asyncio.Event()
        self._settled.set()
        self._noted = False
        self._closed = False
        self.room = Room(gate, server, lambda: len(self.streams))
        self._moved_before = 0  # bytes, by streams that have ended
        self.stays = Stays(self._moved, self._expire)

    @property
    def connection(self) -> Connection:
        return self._server.connection

    @property
    def in_use(self) -> bool:
        return bool(self.streams or self.doors)

    # --- the client connects ---

    def connect(self, target: Target) -> tuple[Windowed, Awaitable[Stream]]:
        """A channel, and what becomes its session once the container's side is connected. Raises ChannelOpenError."""
        stream, window = self._admit()
        unix = isinstance(target, str)
        channel = self.connection.unix_channel(window) if unix else self.connection.tcp_channel(window)
        return channel, self._connect(stream, target)

    async def _connect(self, stream: Stream, target: Target) -> Stream:
        task = self._begin()
        try:
            await self.room.take()
            stream.attach(await self._dial(stream, target))
            return stream
        except asyncssh.ChannelOpenError:
            raise
        except Refused as error:
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, _reason(error)) from None
        except WorkspacesError as error:
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, _reason(error)) from None
        except OSError as error:  # no descriptor is left
            log.error("no socket for a forwarded connection: %s", error.strerror)
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, texts.TOO_MANY_ALL_STREAMS) from None
        except Exception:
            log.exception("a forwarded connection of %s failed", self._server.user)
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, texts.INTERNAL) from None
        finally:
            self._tasks.discard(task)
            if not stream.attached:
                stream.close()

    async def _dial(self, stream: Stream, target: Target) -> socket.socket:
        place = stream.place = await self.permission.place(Kind.LOCAL)
        self.stays.begin(place)
        user = place.challenge.login_user

        async def ask(client: GuestClient) -> socket.socket:
            return await client.connect(target, CONNECT_SECONDS, user=user)

        sock, _ = await reach(self.gate, place, ask, silence=CONNECT_SECONDS)
        if self._closed or stream.over:
            sock.close()
            raise Refused(f"{texts.CLOSING}.")
        self._note(place)
        return sock

    # --- the client listens ---

    async def listen(self, target: Target) -> Door | None:
        """Listen in the container; None when that is refused, for a reason that the person is told."""
        task = self._begin()
        self._listening += 1
        self._settled.clear()
        try:
            return await self._listen(target)
        except WorkspacesError as error:
            self._notice(texts.not_forwarded(_name(target), _reason(error)))
        except Exception:
            log.exception("listening for %s failed", self._server.user)
        finally:
            self._listening -= 1
            if not self._listening:
                self._settled.set()
            self._tasks.discard(task)
        return None

    async def settled(self) -> None:
        """Wait until each port that was asked for is listened on or refused.

        A command that ends at once must not end the client before it is told, as sshd's answers come in order.
        """
        await self._settled.wait()

    async def _listen(self, target: Target) -> Door:
        # those with `lost` are -R's, the others belong to a session
        if sum(door.lost is not None for door in self.doors) + self._listening > limits.MAX_LISTENERS:
            raise Refused(texts.TOO_MANY_LISTENERS)
        place = await self.permission.place(Kind.REMOTE)

        async def open_channel(window: int, factory: Callable[[], Stream], host: str, port: int, own: int) -> object:
            if isinstance(target, str):
                return await self.connection.unix_channel(window).accept(factory, target)
            return await self.connection.tcp_channel(window).accept(factory, target[0], own, host, port)

        def lost() -> None:
            self.connection.forget_listener(target if isinstance(target, str) else (target[0], door.get_port()))
            self._run(self._tell_lost(place))

        async def ask(client: GuestClient) -> Door:
            return await self.door(client, Kind.REMOTE, place, target, open_channel, lost)

        door, _ = await reach(self.gate, place, ask)
        self._note(place)
        return door

    async def _tell_lost(self, place: Place) -> None:
        """The workspace ended: a client that is there for its forwards alone has to know, to connect again."""
        error = await ended(self.gate, place)
        if not self._server.sessions and not self._closed:
            self.connection.disconnect(DISC_BY_APPLICATION, error.message)

    async def door(
        self,
        client: GuestClient,
        kind: Kind,
        place: Place,
        target: Target,
        open_channel: Open,
        lost: Callable[[], None] | None = None,
        *,
        private: bool = False,
        single: bool = False,
    ) -> Door:
        """Listen in the container, by its agent. Raises WorkspacesError, GuestError when that cannot be."""
        listener = await client.listen(target, user=place.challenge.login_user, private=private)
        if self._closed:
            listener.close()
            raise GuestUnavailable(f"{texts.CLOSING}.")
        door = Door(self, kind, place, listener, open_channel, lost, single)
        self.doors.add(door)
        self.stays.begin(place)
        try:
            await self.permission.check(kind, place)  # it may have ended while no look could see the door
        except BaseException:
            door.close()
            raise
        return door

    def bring(self, door: Door, sock: socket.socket, open_channel: Open, host: str, port: int) -> None:
        """Somebody in the container connected to `door`: `sock` leads to them."""
        try:
            stream, window = self._admit()
        except asyncssh.ChannelOpenError as error:
            reason = "the client has left" if self._closed else error.reason
            self.log.info("a connection inside %s was closed: %s", door.place.workspace.ref, reason)
            sock.close()
            return
        stream.place = door.place
        stream.attach(sock)

        async def bring() -> None:
            try:
                await self.room.take()
                await self.permission.check(door.kind, door.place)
                await open_channel(window, lambda: stream, host, port, door.get_port())
            except WorkspacesError as error:
                self.log.info("a connection inside %s was closed: %s", door.place.workspace.ref, error.message)
                stream.close()
            except (asyncssh.Error, OSError) as error:
                self.log.info("%s takes no channel: %s", self._server.user, printable(str(error), 200))
                stream.close()

        self._run(bring())

    # --- bookkeeping ---

    def _admit(self) -> tuple[Stream, int]:
        """One more, counted from now on, and its window in bytes. Raises ChannelOpenError."""
        servers = self.gate.servers
        account = sum(len(server.forwarding.streams) for server in servers if server.user == self._server.user)
        if self._closed or self.gate.draining:
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, texts.CLOSING)
        if len(self.streams) >= limits.MAX_STREAMS:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, texts.TOO_MANY_STREAMS)
        stream = Stream(self.connection, self.gate.hangups, self._gone)
        self.streams.add(stream)
        return stream, WINDOW if account < limits.WIDE_STREAMS else limits.SMALL_WINDOW

    def _gone(self, stream: Stream) -> None:
        if stream in self.streams:
            self.streams.discard(stream)
            self._moved_before += stream.moved
            self.room.give_back()
        self.gate.changed()

    def _moved(self) -> int:
        """Another number than before when a byte moved, or a session runs, which has clocks of its own."""
        self._moved_before += self._has_session()
        return self._moved_before + sum(stream.moved for stream in self.streams)

    def _has_session(self) -> bool:
        return any(session.record for session in self._server.sessions)

    def _expire(self, workspace_id: int, reason: str) -> None:
        log.info("%s: what is forwarded ends: %s", self._server.user, reason)
        self.end(workspace_id)
        if not self._has_session():
            self.connection.disconnect(DISC_BY_APPLICATION, reason)

    def _note(self, place: Place) -> None:
        if not self._noted:
            self._noted = True
            self.gate.note_forward(place)

    def _notice(self, text: str) -> None:
        """Tell the person: SSH has no words for why a port is not forwarded. `ssh -v` shows it, and a terminal.

        A client may have as many refused as it likes, and read nothing: some are told, and to terminals that take it.
        """
        self.log.info("%s: %s", self._server.user, text)
        if self._told.wait(None) > 0:
            return
        self._told.take(None)
        self.connection.send_debug(text)
        told = [session for session in self._server.sessions if session.place]
        for session in told:
            if not session.held:
                session.announce(text)
        if not told and len(self._notices) < NOTICES_MAX:
            self._notices.append(text)

    def take_notices(self) -> list[str]:
        """What the first session on the connection is to say."""
        notices, self._notices = self._notices, []
        return notices

    def _begin(self) -> asyncio.Task[object]:
        """The current task, which is cancelled when the connection is lost."""
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._tasks.add(task)
        return task

    def _run(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            task = self._begin()
            try:
                await work
            except Exception:
                log.exception("forwarding for %s failed", self._server.user)
            finally:
                self._tasks.discard(task)

        asyncio.create_task(guarded())  # noqa: RUF006 - held by self._tasks

    def places(self) -> set[Place]:
        """Where forwards lead."""
        found = {stream.place for stream in self.streams} | {door.place for door in self.doors}
        return {place for place in found if place is not None}

    def end(self, workspace_id: int) -> None:
        """End those that lead to a workspace."""
        self.stays.forget(workspace_id)
        for part in self._parts():
            if part.place and part.place.workspace.id == workspace_id:
                part.close()

    def close(self) -> None:
        """The connection is lost: end everything."""
        self._closed = True
        self.stays.stop()
        self.log.close()
        for task in tuple(self._tasks):
            task.cancel()
        for part in self._parts():
            part.close()

    def _parts(self) -> list[Door | Stream]:
        return [*self.doors, *self.streams]


def _reason(error: WorkspacesError) -> str:
    return f"{error.message} {error.hint}" if error.hint else error.message


def _name(target: Target) -> str:
    return printable(target, 110) if isinstance(target, str) else f"Port {target[1]} of the workspace"
