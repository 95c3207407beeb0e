"""The gateway: listens, knows every connection, watches for accounts that are closed, and drains at the end.

    serve() ──► Gate ──► one auth.Server for each connection ──► one session.Session for each channel

Whatever blocks runs in a pool of its own, so that a hanging engine or a flood of passwords holds up nothing else:
store (lookups), passwords (argon2), and in start.py the engine's. Nothing is started at import.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

import asyncssh
from asyncssh.constants import DISC_BY_APPLICATION

from sshgate import texts
from sshgate.attend import Attendants
from sshgate.auth import Server
from sshgate.connection import Connection, options
from sshgate.grant import Grant
from sshgate.hostkey import HostKeys, load_host_keys
from sshgate.limits import Admission, Guessing
from sshgate.places import Place
from sshgate.records import Record, Records, end_stale
from sshgate.start import Starter
from workspaces.errors import HostError, WorkspacesError
from workspaces.lifecycle import Lifecycle
from workspaces.model import Workspace, WorkspaceState
from workspaces.settings import Settings
from workspaces.store import Store

log = logging.getLogger(__name__)

STORE_THREADS = 4
PASSWORD_THREADS = 2
WATCH_SECONDS = 2.0
DRAIN_SECONDS = 30.0
CLOSE_SECONDS = 1.0  # for the last words to reach the client
BACKLOG = 512

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Gate:
    """What all connections share. Made and used on the event loop."""

    def __init__(self, store: Store, lifecycle: Lifecycle) -> None:
        self.store = store
        self.starter = Starter(lifecycle)
        self.attendants = Attendants(store, self._member)
        self.admission = Admission()
        self.guessing = Guessing()
        self.servers: set[Server] = set()
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._lookups = ThreadPoolExecutor(STORE_THREADS, "store")
        self._passwords = ThreadPoolExecutor(PASSWORD_THREADS, "password")
        self.records = Records(store)
        self._running: list[Workspace] = []
        self._last_user: dict[int, str] = {}
        self._changed = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def listen(self, host: str, port: int, keys: HostKeys) -> int:
        """Start; returns the port. Raises HostError when the address cannot be had."""
        choices = await options(partial(Server, self), keys)
        factory = partial(Connection, self._loop, choices)
        try:
            self._listener = await self._loop.create_server(factory, host, port, backlog=BACKLOG, reuse_address=True)
        except OSError as error:
            raise HostError(
                f"The gateway cannot listen on {host}:{port}: {error.strerror}.",
                "Set another address: [gateway] listen in workspaces.toml",
            ) from error
        # apart, because a workspace that is slow to answer must not put off the end of a closed account's sessions
        self._watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._attend())]
        return int(self._listener.sockets[0].getsockname()[1])

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

    def note_session(self, place: Place, kind: str, address: str) -> Record:
        """Write down that a session (`shell`, `exec` or `sftp`) begins; its end is told to `records`."""
        self._last_user[place.workspace.id] = place.user
        record = Record(place.user, place.workspace.id, kind, address)
        self.records.begin(record)
        return record

    def _member(self, workspace_id: int) -> str:
        """Who asks inside a workspace, as far as that can be told: whoever logged in last, else its first member."""
        members = next((w.members for w in self._running if w.id == workspace_id), ())
        return self._last_user.get(workspace_id) or (members[0] if members else "participant")

    # --- watching ---

    async def _watch(self) -> None:
        seen: object = None
        while True:
            try:
                version = await self.in_store(self.store.data_version)
                if version != seen:
                    await self._look()
                    seen = version
            except WorkspacesError as error:
                log.error("the store could not be read: %s", error.message)
            except Exception:
                log.exception("watching failed")
            await asyncio.sleep(WATCH_SECONDS)

    async def _attend(self) -> None:
        while True:
            for workspace in self._running:
                if workspace.id in self.attendants.attended:
                    continue
                try:
                    socket = await self.starter.look(workspace)
                    if socket:
                        self.attendants.begin(workspace.id, socket)
                except Exception:
                    log.exception("attending %s failed", workspace.ref)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look(self) -> None:
        """See which workspaces run, who may be here no longer, and until when the others may."""
        self._running = await self.in_store(self.store.workspaces, state=WorkspaceState.RUNNING)
        users = {user.name for user in await self.in_store(self.store.users) if not user.disabled}
        members = {w.id: w.members for w in await self.in_store(self.store.workspaces)}
        closes_at = {c.slug: c.closes_at for c in await self.in_store(self.store.challenges)}
        for server in tuple(self.servers):
            if server.user is not None and server.user not in users:
                self._dismiss(server, texts.ACCOUNT_CLOSED)
                continue
            for session in tuple(server.sessions):
                if session.place and session.place.user not in members.get(session.place.workspace.id, ()):
                    session.end(texts.MEMBERSHIP_ENDED.format(ref=session.place.workspace.ref))
                elif session.place and session.clocks:
                    slug = session.place.challenge.slug
                    session.clocks.closes(closes_at.get(slug), slug)
        killed = await self.in_store(self.records.killed)
        for session in [s for server in self.servers for s in server.sessions if s.record in killed]:
            session.end(texts.SESSION_KILLED)

    def _dismiss(self, server: Server, reason: str) -> None:
        for session in tuple(server.sessions):
            if session.place:
                session.end(f"{reason}.")
        self._loop.call_later(CLOSE_SECONDS, server.connection.disconnect, DISC_BY_APPLICATION, reason)

    # --- the end ---

    def changed(self) -> None:
        """A session or connection ended."""
        self._changed.set()

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, wait `seconds` for open sessions, then hang up what is left."""
        self.draining = True
        if self._listener:
            self._listener.close()
        for server in tuple(self.servers):
            if not server.sessions:
                server.connection.disconnect(DISC_BY_APPLICATION, texts.CLOSING)
            for session in server.sessions:
                if session.place:
                    session.announce(texts.draining(seconds))
        await self._until(lambda: not any(server.sessions for server in self.servers), seconds)
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
        if self._listener:
            self._listener.close()
        for task in self._watching:
            task.cancel()
        for server in tuple(self.servers):
            server.connection.abort()
        await self._until(lambda: not self.servers, CLOSE_SECONDS)
        await self.attendants.close()
        self.starter.close()
        self.records.close()
        for pool in (self._lookups, self._passwords):
            pool.shutdown(wait=False, cancel_futures=True)


async def serve(
    settings: Settings,
    store: Store,
    lifecycle: Lifecycle,
    ready: Callable[[str, int], None],
    *,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; a second one ends it at once. `ready` gets address and port.

    Raises HostError when it cannot start.
    """
    asyncssh.set_log_level(logging.WARNING)
    host, port = settings.gateway_listen
    gate = Gate(store, lifecycle)
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def asked_to_stop() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    try:
        keys = load_host_keys(settings.keys)
        port = await gate.listen(host, port, keys)
        await gate.in_store(end_stale, store, [gate.records.process])
        log.info("listening on %s port %d, host key %s", host, port, keys.current.get_fingerprint())
        ready(host, port)
        await stop.wait()
        log.info("draining")
        ends = [asyncio.create_task(gate.drain(drain_seconds)), asyncio.create_task(stop_now.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
    finally:
        await gate.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("ended")
