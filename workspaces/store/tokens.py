"""API tokens, found by a digest of their secrets, and what a write of theirs was answered.

An answer is written in the transaction of what it answers (`transaction()`): either both are there or neither, so a
program that repeats a write with the same key, also after a crash, gets the answer or has it done now, once.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Token, User
from workspaces.names import printable
from workspaces.rights import Rights
from workspaces.scopes import DAYS_MAX, NAME_MAX, Scope
from workspaces.store.connection import Row
from workspaces.store.roles import CHALLENGE_ROLES, Roles, to_rights
from workspaces.store.rows import to_user

AT_ONCE = 50  # of one person
KEPT_SECONDS = 30 * 86400  # that one is listed after its end
ANSWERS_SECONDS = 86400

_TOKENS = (
    "SELECT t.id, u.name AS user, t.name, t.scopes, t.hint, t.created_at, t.expires_at, t.last_used_at, "
    "t.last_used_from FROM tokens t JOIN users u ON u.id = t.user_id"
)
# All that a request needs to know, in one read.
_WHO = (
    "SELECT u.id, u.name, u.role, u.password_hash IS NOT NULL AS has_password, u.disabled, u.created_at, "
    "u.totp_secret IS NOT NULL AS has_totp, u.email, t.id AS token_id, t.name AS token_name, t.scopes, t.hint, "
    "t.created_at AS made_at, t.expires_at, t.last_used_at, t.last_used_from, " + CHALLENGE_ROLES + " AS challenges "
    "FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.digest = ?"
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a write was answered, sealed (apitokens.seal); `request` is a digest of what it was."""

    request: str
    status: int
    body: str


class Tokens(Roles):
    def add_token(
        self,
        user: str,
        name: str,
        scopes: tuple[Scope, ...],
        digest: str,
        hint: str,
        *,
        expires_at: float,
        actor: str,
    ) -> Token:
        """Add a token until `expires_at`, a year ahead at most. NotFound, InvalidInput, Conflict for too many."""
        now = time.time()
        name = name.strip()
        if not name or len(name) > NAME_MAX or printable(name, NAME_MAX) != name:
            raise InvalidInput(f"A token has a name of 1 to {NAME_MAX} characters.", "Say what will use it.")
        if not now < expires_at <= now + DAYS_MAX * 86400 or not scopes:
            raise InvalidInput(f"A token is for 1 to {DAYS_MAX} days.")
        with self._write() as db:
            owner = self.user(user)
            db.execute("DELETE FROM tokens WHERE expires_at < ?", [now - KEPT_SECONDS])
            if len(self.tokens(user)) >= AT_ONCE:
                raise Conflict(f"{user} has {AT_ONCE} tokens already.", "Remove those that are not used.")
            row: Row = {"user_id": owner.id, "name": name, "scopes": json.dumps([str(s) for s in scopes])}
            more = {"digest": digest, "hint": hint, "created_at": now, "expires_at": expires_at}
            number = self._insert("tokens", {**row, **more})
            self._record(actor, "token.added", data={"user": user, "token": number, "scopes": ", ".join(scopes)})
            return self.token(number)

    def token(self, token_id: int) -> Token:
        """Raises NotFound."""
        return _to_token(self._one(f"{_TOKENS} WHERE t.id = ?", [token_id], f"There is no token {token_id}."))

    def tokens(self, user: str | None = None) -> list[Token]:
        """Those of one person, or of all (None), the newest first; also some that have expired. NotFound."""
        if user is None:
            return [_to_token(row) for row in self._rows(f"{_TOKENS} ORDER BY t.id DESC")]
        rows = self._rows(f"{_TOKENS} WHERE t.user_id = ? ORDER BY t.id DESC", [self.user(user).id])
        return [_to_token(row) for row in rows]

    def find_token(self, digest: str) -> tuple[Token, User, Rights] | None:
        """Whose program shows this, and what its owner may do; None when unknown, expired or its owner disabled."""
        row = self._find(_WHO, [digest])
        if row is None or row["disabled"] or row["expires_at"] <= time.time():
            return None
        token = Token(
            row["token_id"],
            row["name"],
            row["token_name"],
            tuple(json.loads(row["scopes"])),
            row["hint"],
            row["made_at"],
            row["expires_at"],
            row["last_used_at"],
            row["last_used_from"],
        )
        return token, to_user(row), to_rights(row["role"], row["challenges"])

    def touch_token(self, token_id: int, address: str) -> None:
        """It was used just now, from `address`. Nothing happens when it is gone."""
        with self._write() as db:
            sql = "UPDATE tokens SET last_used_at = ?, last_used_from = ? WHERE id = ?"
            db.execute(sql, [time.time(), address[:64], token_id])

    def remove_token(self, token_id: int, *, actor: str, user: str | None = None) -> Token:
        """It works no more. NotFound, also when it is not `user`'s, if one is named."""
        with self._write() as db:
            found = self.token(token_id)
            if user is not None and found.user != user:
                raise NotFound(f"There is no token {token_id}.")
            db.execute("DELETE FROM tokens WHERE id = ?", [token_id])
            self._record(actor, "token.removed", data={"user": found.user, "token": token_id})
            return found

    # what writes were answered

    def answered(self, token_id: int, key: str) -> Answered | None:
        """What the write of that key was answered in the last ANSWERS_SECONDS."""
        sql = "SELECT request, status, body FROM answers WHERE token_id = ? AND key = ? AND at > ?"
        row = self._find(sql, [token_id, key, time.time() - ANSWERS_SECONDS])
        return Answered(**row) if row else None

    def keep_answer(self, token_id: int, key: str, answer: Answered) -> None:
        """Keep it, in the transaction of what it answers. Conflict when there is one."""
        now = time.time()
        with self._write() as db:
            db.execute("DELETE FROM answers WHERE at <= ?", [now - ANSWERS_SECONDS])
            row: Row = {"token_id": token_id, "key": key, "request": answer.request, "status": answer.status}
            self._insert("answers", {**row, "body": answer.body, "at": now})


def _to_token(row: Row) -> Token:
    return Token(**{**row, "scopes": tuple(json.loads(row["scopes"]))})
