"""One gateway worker's connections: it knows each, watches for accounts that are closed, and drains at the end.

    worker.py ──► Gate.take(socket) ──► one auth.Server for each connection ──► one session.Session for each channel
                   └─► shared: what holds for all workers of the host (keeper.py)

Whatever blocks runs in a pool of its own, so that a hanging engine or a flood of passwords holds up nothing else:
store (lookups), passwords (argon2), and in start.py the engine's. Nothing is started at import.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asyncssh.constants import DISC_BY_APPLICATION

from sshgate import texts
from sshgate.auth import Server
from sshgate.connection import Connection, options
from sshgate.grant import Grant
from sshgate.hangups import Hangups
from sshgate.hostkey import HostKeys
from sshgate.keeper import Shared
from sshgate.places import Place
from sshgate.recorder import Recorder
from sshgate.records import Record, Records
from sshgate.start import Starter
from sshgate.tape import Tape
from sshgate.unread import Unread
from workspaces.errors import WorkspacesError
from workspaces.lifecycle import Lifecycle
from workspaces.model import Notice
from workspaces.store import Store

log = logging.getLogger(__name__)

STORE_THREADS = 4
PASSWORD_THREADS = 1  # in each worker, and there is a worker for each core
WATCH_SECONDS = 2.0
NOTICE_SECONDS = 0.4  # a worker that is about to pause a workspace waits until its people are told
CLOSE_SECONDS = 1.0  # for the last words to reach the client

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Gate:
    """What all connections of this process share. Made and used on the event loop.

    Without `recorder` nothing is recorded, whatever a challenge says.
    """

    def __init__(self, store: Store, lifecycle: Lifecycle, shared: Shared, recorder: Recorder | None = None) -> None:
        self.store = store
        self.starter = Starter(lifecycle)
        self.shared = shared
        self.servers: set[Server] = set()
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self.hangups = Hangups(self._loop)
        self.unread = Unread(self._loop)
        self._lookups = ThreadPoolExecutor(STORE_THREADS, "store")
        self._passwords = ThreadPoolExecutor(PASSWORD_THREADS, "password")
        self.records = Records(store)
        self.recorder = recorder
        self._changed = asyncio.Event()
        self._choices: Any = None
        self._arriving: dict[int, asyncio.Task[Any]] = {}
        self._notice: int | None = None  # the last one that was there at the start, or that was told since
        self._following: list[asyncio.Task[None]] = []

    async def open(self, keys: HostKeys) -> None:
        """Make ready for connections; `keys` are what the gateway shows them."""
        self._choices = await options(partial(Server, self), keys)
        self._following = [
            asyncio.create_task(self._follow(self._look, WATCH_SECONDS, "the store")),
            asyncio.create_task(self._follow(self._listen, NOTICE_SECONDS, "notices")),
        ]

    def take(self, sock: socket.socket, number: int) -> None:
        """Talk SSH on `sock`, which is non-blocking, connected, and this gate's own from now on."""
        connection = Connection(self._loop, self._choices)
        connection.number = number
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: connection, sock))

        def arrived(_: object) -> None:
            del self._arriving[number]
            if task.cancelled() or task.exception() is not None:
                sock.close()
                self.shared.left(number)
            self.changed()

        self._arriving[number] = task
        task.add_done_callback(arrived)

    def drop(self, number: int) -> None:
        """End a connection at once. Nothing happens when it has ended."""
        if number in self._arriving:
            self._arriving[number].add_done_callback(lambda _: self.drop(number))
        for server in self.servers:
            if server.connection.number == number:
                server.connection.abort()

    async def arrived(self) -> None:
        """Wait until all that `take` was given are among `servers`."""
        while self._arriving:
            await asyncio.wait(self._arriving.values())

    @property
    def empty(self) -> bool:
        """Whether nobody is connected."""
        return not self.servers and not self._arriving

    async def in_store(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run what blocks on the store."""
        return await self._loop.run_in_executor(self._lookups, partial(function, *args, **kwargs))

    async def in_passwords(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run what is slow on purpose."""
        return await self._loop.run_in_executor(self._passwords, partial(function, *args, **kwargs))

    # --- what is written down, after the fact: nobody waits for it ---

    def note_login(self, user: str, grant: Grant, address: str) -> None:
        def write() -> None:
            if grant.fingerprint:
                self.store.touch_key(grant.fingerprint, address)
            said = {"key": grant.fingerprint, "authority": grant.authority, "key_id": grant.key_id}
            data = {"address": address, "with": grant.way, **said, "serial": grant.serial}
            self.store.add_event(user, "login.accepted", data=data)

        self.records.add(write)

    def note_session(self, place: Place, kind: str, address: str, tape: Tape | None = None) -> Record:
        """Write down that a session (`shell`, `exec` or `sftp`) begins; its end is told to `records`."""
        recording = (tape.name, tape.began_at) if tape else None
        record = Record(place.user, place.workspace.id, kind, address, recording)
        self.records.begin(record)
        return record

    def note_recording(self, record: Record, size: int, seconds: float, left_out: int) -> None:
        """Write down what a recording has come to: bytes, seconds, and bytes that are missing. From any thread."""

        def write() -> None:
            if record.id is not None:
                self.store.end_recording(record.id, size, seconds, left_out)

        self.records.add(write)

    def note_forward(self, place: Place) -> None:
        """Write down that somebody came for a forwarded connection alone."""
        self.records.add(partial(self.store.touch_login, place.workspace.id))

    def note_told(self, user: str, news: int) -> None:
        """Write down that a greeting told `user` the notices up to that id."""
        self.records.add(partial(self.store.read_news, user, news))

    # --- watching ---

    async def _follow(self, look: Callable[[], Awaitable[None]], seconds: float, what: str) -> None:
        """Await `look` now and whenever the store has changed, `seconds` apart; again when it failed."""
        seen: object = None
        while True:
            try:
                version = await self.in_store(self.store.data_version)
                if version != seen:
                    await look()
                    seen = version
            except WorkspacesError as error:
                log.error("%s could not be read: %s", what, error.message)
            except Exception:
                log.exception("watching %s failed", what)
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        """See who may be here no longer, and until when the others may."""
        users = {user.name for user in await self.in_store(self.store.users) if not user.disabled}
        workspaces = await self.in_store(self.store.workspaces)
        members = {w.id: w.members for w in workspaces}
        closing = {c.slug: c.closes_at for c in await self.in_store(self.store.challenges)}
        closes_at = {w.id: None if w.read_only else closing.get(w.challenge) for w in workspaces}
        for server in tuple(self.servers):
            server.forwarding.permission.looked()
            if server.user is not None and server.user not in users:
                self._dismiss(server, texts.ACCOUNT_CLOSED)
                continue
            for session in tuple(server.sessions):
                if session.place and session.place.user not in members.get(session.place.workspace.id, ()):
                    session.end(texts.MEMBERSHIP_ENDED.format(ref=session.place.workspace.ref))
                elif session.place and session.clocks:
                    place = session.place
                    session.clocks.closes(closes_at.get(place.workspace.id), place.challenge.slug)
            for place in server.forwarding.places():
                if place.user not in members.get(place.workspace.id, ()):
                    server.forwarding.end(place.workspace.id)
                    if not server.sessions:
                        self._dismiss(server, texts.MEMBERSHIP_ENDED.format(ref=place.workspace.ref))
            server.forwarding.stays.closes(closes_at)
        killed = await self.in_store(self.records.killed)
        for session in [s for server in self.servers for s in server.sessions if s.record in killed]:
            session.end(texts.SESSION_KILLED)

    async def _listen(self) -> None:
        """Tell those who have a terminal what the worker has to say about their workspace, once each."""
        if self._notice is None:
            self._notice = await self.in_store(self.store.last_notice)
            return
        for notice in await self.in_store(self.store.notices, self._notice):
            self._notice = notice.id
            self._announce(notice)

    def _announce(self, notice: Notice) -> None:
        here = [s for server in self.servers for s in server.sessions if s.carries(notice.workspace_id)]
        for session in here:
            session.announce(notice.text)
        if here:
            self.records.add(partial(self.store.notice_told, notice.id, self.records.process))

    def _dismiss(self, server: Server, reason: str) -> None:
        for session in tuple(server.sessions):
            if session.place:
                session.end(f"{reason}.")
        self._loop.call_later(CLOSE_SECONDS, server.connection.disconnect, DISC_BY_APPLICATION, reason)

    # --- the end ---

    def changed(self) -> None:
        """A session or connection ended."""
        self._changed.set()

    async def retire(self) -> None:
        """Wait until everybody has left, however long that takes. No connection is given to `take` by then."""
        while not self.empty:
            self._changed.clear()
            await self._changed.wait()

    async def drain(self, seconds: float) -> None:
        """Take nobody more, wait `seconds` for open sessions, then hang up what is left."""
        self.draining = True
        for server in tuple(self.servers):
            if not server.in_use:
                server.connection.disconnect(DISC_BY_APPLICATION, texts.CLOSING)
            for session in server.sessions:
                if session.place:
                    session.announce(texts.draining(seconds))
        await self._until(lambda: not any(server.in_use for server in self.servers), seconds)
        for server in tuple(self.servers):
            self._dismiss(server, texts.CLOSING)
        await self._until(lambda: not self.servers, 2 * CLOSE_SECONDS)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()

    async def close(self) -> None:
        """Let go of everything at once. Containers stay as they are."""
        self.draining = True
        for task in (*self._following, *self._arriving.values()):
            task.cancel()
        for server in tuple(self.servers):
            server.connection.abort()
        await self._until(lambda: not self.servers, CLOSE_SECONDS)
        self.starter.close()
        self.hangups.close()
        self.unread.close()
        if self.recorder:
            self.recorder.close()
        self.records.close()
        for pool in (self._lookups, self._passwords):
            pool.shutdown(wait=False, cancel_futures=True)
