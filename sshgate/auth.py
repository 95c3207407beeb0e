"""Who is at the other end: public keys and passwords, and what each connection may then open.

    key, certificate    probe or signature ──► does it let the account in that logs in? (store, in a thread)
    password, and code  tries left? tokens left? ──► argon2 (a thread of its own)
    auth_completed ──► identity, from the name that asyncssh authenticated; the grant of the proof that completed it
                   ──► has the account room for one more?

A probe proves nothing: that a key was offered is used for nothing but the answer to it. An account with one-time
codes has no method "password": keyboard-interactive asks for both in one go, and says as much of a wrong code
as of a wrong password.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, cast

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
from sshgate.forwarding import Forwarding
from sshgate.grant import PASSWORD, PASSWORD_AND_CODE, Certificate, Grant, judge_certificate, judge_key
from sshgate.limits import MAX_SESSIONS
from sshgate.session import Session
from workspaces import accounts
from workspaces.accounts import Verdict
from workspaces.names import printable, split_login

if TYPE_CHECKING:
    from sshgate.server import Gate

log = logging.getLogger(__name__)

MAX_TRIES = 6  # passwords on one connection
MAX_OFFERS = 24  # keys on one connection, each counted when probed and when signed with

_SAID = {Verdict.WRONG: "wrong password", Verdict.WRONG_CODE: "right password, wrong code,"}


class Server(asyncssh.SSHServer):
    """asyncssh's callbacks for one connection."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.user: str | None = None  # only ever set by auth_completed
        self.wanted: str | None = None  # the workspace asked for with USER+WORKSPACE
        self.sessions: set[Session] = set()
        self.forwarding = Forwarding(gate, self)
        self._login: str | None = None
        self._tries = 0
        self._offers = 0
        self.grant: Grant | None = None  # of the last proof; what it allows counts once `user` is set
        self._asks_code = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = cast(Connection, conn)
        self.peer = conn.get_extra_info("peername") or ("", 0)
        self.own = conn.get_extra_info("sockname") or ("", 0)
        self.address = self.shown = str(self.peer[0])  # `shown` is what people read: the browser's of a web terminal
        self.gate.servers.add(self)
        if self.gate.draining:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.forwarding.close()
        self.gate.servers.discard(self)
        self.gate.shared.left(self.connection.number)
        self.gate.changed()

    async def begin_auth(self, username: str) -> bool:
        if self._login is not None:
            raise asyncssh.DisconnectError(DISC_PROTOCOL_ERROR, "The user name cannot be changed")
        self._login = username
        secret = await self.gate.in_store(self.gate.store.totp_secret, split_login(username)[0])
        self._asks_code = secret is not None
        return True

    # --- keys and certificates ---

    async def judge(self, username: str, key: asyncssh.SSHKey | None, certificate: Certificate | None) -> Grant | None:
        """What a key, or the certificate for it, allows; nothing is proven by that."""
        self.grant = None
        self._offers += 1
        if self._offers > MAX_OFFERS:
            raise asyncssh.DisconnectError(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, texts.TOO_MANY_TRIES)
        name, store = split_login(username)[0], self.gate.store
        if certificate is not None:
            here = str(self.own[0])
            return await self.gate.in_store(
                judge_certificate, store, name, certificate, self.address, time.time(), here
            )
        if key is not None:
            return await self.gate.in_store(judge_key, store, name, key.get_fingerprint(), self.address, time.time())
        return None

    def proven(self, grant: Grant) -> None:
        """It was signed with."""
        self.grant = grant

    # --- passwords and codes ---

    def password_auth_supported(self) -> bool:
        return not self._asks_code

    async def validate_password(self, username: str, password: str) -> bool:
        return await self._check(username, password, None)

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        del username, lang, submethods
        prompts = [(texts.ASK_PASSWORD, False), (texts.ASK_CODE, False)]
        return "", "", "", prompts if self._asks_code else prompts[:1]

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        if len(responses) != 1 + self._asks_code:
            self._count_try()
            return False
        return await self._check(username, responses[0], responses[1] if self._asks_code else None)

    async def _check(self, username: str, password: str, code: str | None) -> bool:
        self.grant = None
        self._count_try()
        name, shared = split_login(username)[0], self.gate.shared
        wait = await shared.guess(name, self.address)
        if wait > 0:
            log.info("password try for %s from %s refused for %.0f s", printable(name, 64), self.address, wait)
            self.connection.send_auth_banner(texts.wait_before_password(wait))
            return False
        paused = code is not None and await shared.too_many_codes(name)
        if paused:
            log.warning("too many wrong codes for %s, the last from %s", printable(name, 64), self.address)
            code = ""  # is none; whoever tries learns nothing of the password
        verdict = await self.gate.in_passwords(accounts.check_login, self.gate.store, name, password, code)
        if verdict is not Verdict.RIGHT:
            log.info("%s for %s from %s", _SAID[verdict], printable(name, 64), self.address)
            if verdict is Verdict.WRONG_CODE and not paused:
                shared.wrong_code(name)
            return False
        shared.right(name, self.address)
        self.grant = PASSWORD if code is None else PASSWORD_AND_CODE
        return True

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
        assert self.grant is not None
        if self.grant.visitor is not None:
            self.peer = (self.grant.visitor, 0)
            self.shown = f"{self.grant.visitor} (web terminal)"
        log.info("%s logged in from %s with a %s", self.user, self.shown, self.grant.way)
        self.connection.create_task(self._settle(self.user, self.grant))

    async def _settle(self, user: str, grant: Grant) -> None:
        """End the connection when the account has too many. Its first session is asked for after this."""
        refusal = await self.gate.shared.authenticated(self.connection.number, user)
        if refusal is not None:
            self.connection.disconnect(DISC_TOO_MANY_CONNECTIONS, refusal)
            return
        self.gate.note_login(user, grant, self.shown)

    def open_sessions(self) -> int:
        return sum(not session.closed for session in self.sessions)

    @property
    def in_use(self) -> bool:
        return bool(self.sessions) or self.forwarding.in_use

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

    # --- forwarding: asyncssh has looked at the key's options by then ---

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        del orig_host, orig_port
        return self.forwarding.connect((dest_host, dest_port))

    def unix_connection_requested(self, dest_path: str) -> Any:
        return self.forwarding.connect(dest_path)

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        return self.forwarding.listen((listen_host, listen_port))

    def unix_server_requested(self, listen_path: str) -> Any:
        return self.forwarding.listen(listen_path)
