"""Who is at the other end: public keys and passwords, and what each connection may then open.

    key       probe or signature ──► is it a key of the account that logs in? (store, in a thread)
    password  tries left? tokens left? ──► argon2 (a thread of its own)
    auth_completed ──► identity, from the name that asyncssh authenticated ──► has the account room for one more?

A probe proves nothing: that a key was offered is used for nothing but the answer to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.constants import (
    DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
    DISC_PROTOCOL_ERROR,
    DISC_TOO_MANY_CONNECTIONS,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
)

from sshgate import texts
from sshgate.connection import Connection
from sshgate.limits import MAX_SESSIONS
from sshgate.session import Session
from workspaces import accounts
from workspaces.names import printable, split_login
from workspaces.store import Store

if TYPE_CHECKING:
    from sshgate.server import Gate

log = logging.getLogger(__name__)

MAX_TRIES = 6  # passwords on one connection
MAX_OFFERS = 24  # keys on one connection, each counted when probed and when signed with


def key_is_of(store: Store, user_name: str, fingerprint: str) -> bool:
    """Whether that key lets that account in. Blocks on the store."""
    owner = store.key_owner(fingerprint)
    return owner is not None and owner.name == user_name and not owner.disabled


def password_is_of(store: Store, user_name: str, password: str) -> bool:
    """Whether that password lets that account in; takes as long when there is no such account. Blocks."""
    user = store.find_user(user_name)
    right = accounts.check_password(store.password_hash(user_name), password)
    return right and user is not None and not user.disabled


class Server(asyncssh.SSHServer):
    """asyncssh's callbacks for one connection."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.user: str | None = None  # only ever set by auth_completed
        self.wanted: str | None = None  # the workspace asked for with USER+WORKSPACE
        self.sessions: set[Session] = set()
        self._login: str | None = None
        self._tries = 0
        self._offers = 0
        self._key: str | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = cast(Connection, conn)
        self.peer = conn.get_extra_info("peername") or ("", 0)
        self.own = conn.get_extra_info("sockname") or ("", 0)
        self.address = str(self.peer[0])
        self.gate.servers.add(self)
        if self.gate.draining:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.gate.servers.discard(self)
        self.gate.shared.left(self.connection.number)
        self.gate.changed()

    def begin_auth(self, username: str) -> bool:
        if self._login is not None:
            raise asyncssh.DisconnectError(DISC_PROTOCOL_ERROR, "The user name cannot be changed")
        self._login = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._offers += 1
        if self._offers > MAX_OFFERS:
            raise asyncssh.DisconnectError(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, texts.TOO_MANY_TRIES)
        fingerprint = key.get_fingerprint()
        right = await self.gate.in_store(key_is_of, self.gate.store, split_login(username)[0], fingerprint)
        self._key = fingerprint if right else None
        return right

    async def validate_password(self, username: str, password: str) -> bool:
        self._key = None
        self._count_try()
        name = split_login(username)[0]
        wait = await self.gate.shared.guess(name, self.address)
        if wait > 0:
            log.info("password try for %s from %s refused for %.0f s", printable(name, 64), self.address, wait)
            self.connection.send_auth_banner(texts.wait_before_password(wait))
            return False
        right = await self.gate.in_passwords(password_is_of, self.gate.store, name, password)
        if right:
            self.gate.shared.right(name, self.address)
        else:
            log.info("wrong password for %s from %s", printable(name, 64), self.address)
        return right

    def change_password(self, username: str, old_password: str, new_password: str) -> bool:
        del username, old_password, new_password
        self._count_try()
        return False

    def _count_try(self) -> None:
        self._tries += 1
        if self._tries > MAX_TRIES:
            raise asyncssh.DisconnectError(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, texts.TOO_MANY_TRIES)

    def auth_completed(self) -> None:
        self.user, self.wanted = split_login(str(self.connection.get_extra_info("username")))
        way = "key" if self._key else "password"
        log.info("%s logged in from %s with a %s", self.user, self.address, way)
        self.connection.create_task(self._settle(self.user))

    async def _settle(self, user: str) -> None:
        """End the connection when the account has too many. Its first session is asked for after this."""
        refusal = await self.gate.shared.authenticated(self.connection.number, user)
        if refusal is not None:
            self.connection.disconnect(DISC_TOO_MANY_CONNECTIONS, refusal)
            return
        self.gate.note_login(user, self._key, self.address)

    def open_sessions(self) -> int:
        return sum(not session.closed for session in self.sessions)

    def sessions_changed(self) -> None:
        """A session ended."""
        self.gate.shared.fewer(self.connection.number, self.open_sessions())

    def session_requested(self) -> Awaitable[Session]:
        if self.user is None or self.gate.draining:
            raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, texts.CLOSING)
        if self.open_sessions() >= MAX_SESSIONS:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, texts.TOO_MANY_SESSIONS)
        session = Session(self.gate, self)
        self.sessions.add(session)  # before the channel is confirmed: many requests may come in one packet
        return self._reserve(session, self.open_sessions())

    async def _reserve(self, session: Session, count: int) -> Session:
        """`session`, which makes it `count` on this connection, if the account may have it."""
        refusal = await self.gate.shared.sessions(self.connection.number, count)
        if refusal is not None:
            self.sessions.discard(session)
            self.sessions_changed()
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, refusal)
        return session
