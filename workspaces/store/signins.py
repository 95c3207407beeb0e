"""Sign-ins to the pages: one row for each browser that is signed in, found by a digest of what the browser shows.

A row ends with the person (sign out, "everywhere", another password or second factor), an administrator (disabling),
or by age, which is the caller's to judge; rows that nobody showed for KEPT_SECONDS are deleted when one is added.
"""

from __future__ import annotations

import time

from workspaces.errors import NotFound
from workspaces.model import SignIn, User
from workspaces.names import printable
from workspaces.rights import Rights
from workspaces.store.connection import Row
from workspaces.store.roles import CHALLENGE_ROLES, Roles, to_rights
from workspaces.store.rows import to_user

KEPT_SECONDS = 30 * 86400
AT_ONCE = 40  # of one person; the one that was shown least lately goes first
BROWSER_MAX = 200

_SIGN_INS = (
    "SELECT s.id, u.name AS user, s.via, s.address, s.browser, s.created_at, s.seen_at, s.proven_at "
    "FROM sign_ins s JOIN users u ON u.id = s.user_id"
)
# All that a request needs to know, in one read.
_WHO = (
    "SELECT u.id, u.name, u.role, u.password_hash IS NOT NULL AS has_password, u.disabled, u.created_at, "
    "u.totp_secret IS NOT NULL AS has_totp, u.email, s.id AS sign_in_id, s.via, s.address, s.browser, "
    "s.created_at AS begun_at, s.seen_at, s.proven_at, " + CHALLENGE_ROLES + " AS challenges "
    "FROM sign_ins s JOIN users u ON u.id = s.user_id WHERE "
)


class SignIns(Roles):
    def begin_sign_in(
        self, user: str, token_hash: str, *, via: str, address: str, browser: str, proven_at: float | None = None
    ) -> SignIn:
        """Note that `user` signs in from a browser; who he is was proven just now, or at `proven_at`. NotFound."""
        now = time.time()
        with self._write() as db:
            found = self.user(user)
            row: Row = {"token_hash": token_hash, "user_id": found.id, "via": via, "address": address[:64]}
            times = {"created_at": now, "seen_at": now, "proven_at": now if proven_at is None else proven_at}
            number = self._insert("sign_ins", {**row, "browser": printable(browser, BROWSER_MAX), **times})
            db.execute("DELETE FROM sign_ins WHERE seen_at < ?", [now - KEPT_SECONDS])
            db.execute(
                "DELETE FROM sign_ins WHERE id IN (SELECT id FROM sign_ins WHERE user_id = ? "
                "ORDER BY seen_at DESC, id DESC LIMIT -1 OFFSET ?)",
                [found.id, AT_ONCE],
            )
            return SignIn(**self._one(f"{_SIGN_INS} WHERE s.id = ?", [number]))

    def find_sign_in(self, token_hash: str | int) -> tuple[SignIn, User, Rights] | None:
        """Whose browser shows this, and what he may do, or None; the account may be disabled: look.

        Or by the id of a sign-in, for what goes on by itself since its browser was looked at.
        """
        row = self._find(f"{_WHO}{'s.token_hash' if isinstance(token_hash, str) else 's.id'} = ?", [token_hash])
        if row is None:
            return None
        sign_in = SignIn(
            row["sign_in_id"],
            row["name"],
            row["via"],
            row["address"],
            row["browser"],
            row["begun_at"],
            row["seen_at"],
            row["proven_at"],
        )
        return sign_in, to_user(row), to_rights(row["role"], row["challenges"])

    def sign_ins(self, user: str) -> list[SignIn]:
        """Those of one person, the one shown last first. NotFound."""
        sql = f"{_SIGN_INS} WHERE s.user_id = ? ORDER BY s.seen_at DESC, s.id DESC"
        return [SignIn(**row) for row in self._rows(sql, [self.user(user).id])]

    def touch_sign_in(self, sign_in_id: int) -> None:
        """The person did something just now. Nothing happens when it has ended."""
        with self._write() as db:
            db.execute("UPDATE sign_ins SET seen_at = ? WHERE id = ?", [time.time(), sign_in_id])

    def prove_sign_in(self, sign_in_id: int, token_hash: str) -> None:
        """The person has just proven again who he is; from now on the browser shows something else. NotFound."""
        with self._write() as db:
            now = time.time()
            sql = "UPDATE sign_ins SET token_hash = ?, proven_at = ?, seen_at = ? WHERE id = ?"
            if not db.execute(sql, [token_hash, now, now, sign_in_id]).rowcount:
                raise NotFound("You are not signed in any more.")

    def end_sign_in(self, user: str, sign_in_id: int, *, actor: str) -> None:
        """NotFound when `user` has no such sign-in, also when somebody else has it."""
        with self._write() as db:
            found = next((one for one in self.sign_ins(user) if one.id == sign_in_id), None)
            if found is None:
                raise NotFound("There is no such sign-in.")
            db.execute("DELETE FROM sign_ins WHERE id = ?", [found.id])
            self._record(actor, "signin.ended", data={"user": user, "address": found.address})

    def end_sign_ins(self, user: str, *, but: int | None = None, actor: str) -> int:
        """End all of one person, or all but one; how many those were. NotFound."""
        with self._write() as db:
            found = self.user(user)
            count = db.execute("DELETE FROM sign_ins WHERE user_id = ? AND id IS NOT ?", [found.id, but]).rowcount
            if count:
                self._record(actor, "signin.all_ended", data={"user": user, "count": count})
            return int(count)

    def forget_sign_in(self, token_hash: str) -> None:
        """Signing out: nothing happens when it has ended."""
        with self._write() as db:
            db.execute("DELETE FROM sign_ins WHERE token_hash = ?", [token_hash])
