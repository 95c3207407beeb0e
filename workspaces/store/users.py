"""Accounts and their public keys."""

from __future__ import annotations

import time

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Key, Role, User
from workspaces.names import check_address, check_name, printable
from workspaces.store.connection import Connections
from workspaces.store.rows import to_key, to_user

_USERS = (
    "SELECT id, name, role, password_hash IS NOT NULL AS has_password, disabled, created_at, "
    "totp_secret IS NOT NULL AS has_totp, email FROM users"
)
_KEYS = (
    "SELECT k.id, u.name AS user, k.fingerprint, k.line, k.added_at, k.last_used_at, k.last_used_from, k.options "
    "FROM keys k JOIN users u ON u.id = k.user_id"
)


def _possible(text: str, limit: int = 100) -> bool:
    """Whether a name or fingerprint from outside can be in the database at all (SQLite takes no lone surrogates)."""
    return len(text) <= limit and text.isascii()


class Users(Connections):
    def add_user(
        self, name: str, role: Role = Role.PARTICIPANT, password_hash: str | None = None, *, actor: str
    ) -> User:
        """Add an account that can log in at once. InvalidInput for a bad name, Conflict when it exists."""
        check_name(name, "user")
        with self._write():
            if self.find_user(name):
                raise Conflict(f"The user {name} exists already.")
            row = {"name": name, "role": Role(role), "password_hash": password_hash, "created_at": time.time()}
            self._insert("users", row)
            self._record(actor, "user.added", data={"user": name, "role": role})
            return self.user(name)

    def user(self, name: str) -> User:
        """The account of that name. Raises NotFound."""
        found = self.find_user(name)
        if found is None:
            raise NotFound(f"There is no user {printable(name, 64)!r}.")
        return found

    def find_user(self, name: str) -> User | None:
        """The account of that name, or None; any text may be asked for."""
        row = self._find(f"{_USERS} WHERE name = ?", [name]) if _possible(name) else None
        return to_user(row) if row else None

    def users(self) -> list[User]:
        """All accounts, by name."""
        return [to_user(row) for row in self._rows(f"{_USERS} ORDER BY name")]

    def password_hash(self, name: str) -> str | None:
        """The stored hash; None without password and without such a user, so that neither shows."""
        row = self._find("SELECT password_hash FROM users WHERE name = ?", [name]) if _possible(name) else None
        return row["password_hash"] if row else None

    def set_password_hash(self, name: str, password_hash: str | None, *, actor: str) -> None:
        """Replace the password's hash; None leaves the account with its keys only.

        Ends sign-ins to the pages. NotFound.
        """
        with self._write() as db:
            user = self.user(name)
            db.execute("UPDATE users SET password_hash = ? WHERE id = ?", [password_hash, user.id])
            db.execute("DELETE FROM sign_ins WHERE user_id = ?", [user.id])
            self._record(actor, "user.password_set" if password_hash else "user.password_removed", data={"user": name})

    def totp_secret(self, name: str) -> str | None:
        """The secret of the one-time codes, in base32; None for an account without, and without such a user."""
        row = self._find("SELECT totp_secret FROM users WHERE name = ?", [name]) if _possible(name) else None
        return row["totp_secret"] if row else None

    def set_totp_secret(self, name: str, secret: str | None, *, actor: str) -> None:
        """Ask for codes made with `secret` (base32) beside the password; None asks for the password alone.

        Ends sign-ins to the pages. NotFound.
        """
        with self._write() as db:
            user = self.user(name)
            db.execute("UPDATE users SET totp_secret = ?, totp_step = 0 WHERE id = ?", [secret, user.id])
            db.execute("DELETE FROM sign_ins WHERE user_id = ?", [user.id])
            self._record(actor, "user.totp_set" if secret else "user.totp_removed", data={"user": name})

    def accept_totp_step(self, name: str, secret: str, step: int) -> bool:
        """Use up the code of that step. False when it, or a later one, was accepted before, or the secret changed."""
        with self._write() as db:
            sql = "UPDATE users SET totp_step = ? WHERE name = ? AND totp_secret = ? AND totp_step < ?"
            return bool(db.execute(sql, [step, name, secret, step]).rowcount)

    def set_email(self, name: str, address: str | None, *, actor: str) -> None:
        """Where news are sent to; None for nowhere. NotFound, InvalidInput for what is no address."""
        with self._write() as db:
            user = self.user(name)
            found = None if address is None else check_address(address)
            db.execute("UPDATE users SET email = ? WHERE id = ?", [found, user.id])
            self._record(actor, "user.email_set" if found else "user.email_removed", data={"user": name})

    def set_disabled(self, name: str, disabled: bool, *, actor: str) -> None:
        """Refuse or allow logins; refusing ends sign-ins to the pages.

        Nothing happens when it is so already; NotFound, Conflict for the last admin.
        """
        with self._write() as db:
            user = self.user(name)
            if user.disabled == disabled:
                return
            if disabled:
                self._not_the_last_admin(user)
            db.execute("UPDATE users SET disabled = ? WHERE id = ?", [int(disabled), user.id])
            if disabled:
                db.execute("DELETE FROM sign_ins WHERE user_id = ?", [user.id])
            self._record(actor, "user.disabled" if disabled else "user.enabled", data={"user": name})

    def set_role(self, name: str, role: Role, *, actor: str) -> None:
        """Nothing happens when it is so already; NotFound, Conflict for the last admin."""
        with self._write() as db:
            user = self.user(name)
            if user.role is role:
                return
            if role is not Role.ADMIN:
                self._not_the_last_admin(user)
            db.execute("UPDATE users SET role = ? WHERE id = ?", [Role(role), user.id])
            self._record(actor, "user.role_set", data={"user": name, "role": role})

    def remove_user(self, name: str, *, actor: str) -> None:
        """Remove account, keys and memberships. NotFound, Conflict for the last admin.

        Workspaces stay, without members if it was the only one: removing an account loses no work. Requests,
        decisions and events keep the name as text.
        """
        with self._write() as db:
            user = self.user(name)
            self._not_the_last_admin(user)
            db.execute("DELETE FROM users WHERE id = ?", [user.id])
            self._record(actor, "user.removed", data={"user": name})

    def _not_the_last_admin(self, user: User) -> None:
        if user.role is not Role.ADMIN or user.disabled:
            return
        others = "SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND id != ?"
        if self._find(others, [user.id]) is None:
            raise Conflict(f"{user.name} is the only administrator who can log in.", "Make another one first.")

    # keys

    def add_key(self, user: str, fingerprint: str, line: str, options: str = "", *, actor: str) -> Key:
        """Let `user` log in with a key (parsed by accounts.parse_key_line).

        NotFound for the user; Conflict when anyone has this key, without saying who: a key is one person's.
        """
        if not _possible(fingerprint) or not fingerprint.startswith("SHA256:"):
            raise InvalidInput("The fingerprint of a key starts with SHA256:.")
        with self._write():
            owner = self.user(user)
            other = self.key_owner(fingerprint)
            if other is not None:
                mine = other.id == owner.id
                raise Conflict(
                    f"{owner.name} has this key already." if mine else "This key belongs to another account.",
                    "" if mine else "Make a new one with ssh-keygen.",
                )
            row = {"user_id": owner.id, "fingerprint": fingerprint, "line": line, "added_at": time.time()}
            self._insert("keys", {**row, "options": options})
            said = {"user": user, "fingerprint": fingerprint, "options": options or None}
            self._record(actor, "key.added", data=said)
            return to_key(self._one(f"{_KEYS} WHERE k.fingerprint = ?", [fingerprint]))

    def keys(self, user: str) -> list[Key]:
        """The keys of an account, oldest first; none without such an account."""
        if not _possible(user):
            return []
        return [to_key(row) for row in self._rows(f"{_KEYS} WHERE u.name = ? ORDER BY k.id", [user])]

    def find_key(self, fingerprint: str) -> Key | None:
        """The key of that fingerprint, or None; any text may be asked for. Its account may be disabled: look."""
        row = self._find(f"{_KEYS} WHERE k.fingerprint = ?", [fingerprint]) if _possible(fingerprint) else None
        return to_key(row) if row else None

    def key_owner(self, fingerprint: str) -> User | None:
        """Whose key it is, or None; any text may be asked for. The account may be disabled: look."""
        if not _possible(fingerprint):
            return None
        row = self._find(f"{_USERS} WHERE id = (SELECT user_id FROM keys WHERE fingerprint = ?)", [fingerprint])  # noqa: S608
        return to_user(row) if row else None

    def touch_key(self, fingerprint: str, address: str) -> None:
        """Note that a login with this key succeeded just now, from `address`. Nothing happens when it is gone."""
        with self._write() as db:
            db.execute(
                "UPDATE keys SET last_used_at = ?, last_used_from = ? WHERE fingerprint = ?",
                [time.time(), address, fingerprint],
            )

    def remove_key(self, user: str, fingerprint: str, *, actor: str) -> None:
        """NotFound when `user` has no such key, also when somebody else has it."""
        with self._write() as db:
            if fingerprint not in {key.fingerprint for key in self.keys(user)}:
                raise NotFound(f"{printable(user, 64)} has no key {printable(fingerprint, 64)}.")
            db.execute("DELETE FROM keys WHERE fingerprint = ?", [fingerprint])
            self._record(actor, "key.removed", data={"user": user, "fingerprint": fingerprint})
