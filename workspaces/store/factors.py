"""Second factors: passkeys and recovery codes, and taking all of them away. One-time codes are in users.py."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Passkey, User
from workspaces.names import printable
from workspaces.store.connection import Row
from workspaces.store.users import Users

PASSKEYS_MAX = 20  # of one person
NAME_MAX = 60
_CREDENTIAL_MAX = 2000  # characters
_PASSKEYS = (
    "SELECT p.id, u.name AS user, p.credential, p.public_key, p.sign_count, p.transports, p.name, p.added_at, "
    "p.last_used_at, p.last_used_from FROM passkeys p JOIN users u ON u.id = p.user_id"
)


def _passkey(row: Row) -> Passkey:
    return Passkey(**{**row, "transports": tuple(json.loads(row["transports"]))})


def _name(text: str) -> str:
    found = printable(" ".join(text.split()), NAME_MAX)
    if not found:
        raise InvalidInput("A passkey needs a name.", "Name what it is on, such as “work laptop”.")
    return found


class Factors(Users):
    def add_passkey(
        self,
        user: str,
        credential: str,
        public_key: bytes,
        sign_count: int,
        name: str,
        transports: Iterable[str] = (),
        *,
        but: int | None = None,
        actor: str,
    ) -> Passkey:
        """Let `user` sign in with a passkey: `credential` is its id in base64url, `public_key` in COSE.

        Ends sign-ins to the pages, all or all but one. NotFound; InvalidInput for what cannot be one; Conflict when
        anybody has it, or for too many.
        """
        if not 0 < len(credential) <= _CREDENTIAL_MAX or not credential.isascii():
            raise InvalidInput("That is no passkey.")
        with self._write() as db:
            owner, said = self.user(user), _name(name)
            if len(self.passkeys(user)) >= PASSKEYS_MAX:
                raise Conflict(f"{PASSKEYS_MAX} passkeys are enough.", "Remove one that is not used any more.")
            if self._find("SELECT 1 FROM passkeys WHERE credential = ?", [credential]):
                raise Conflict("This passkey is known here already.")
            row = {"user_id": owner.id, "credential": credential, "public_key": public_key, "sign_count": sign_count}
            more = {"transports": json.dumps(sorted(transports)), "name": said, "added_at": time.time()}
            number = self._insert("passkeys", {**row, **more})
            db.execute("DELETE FROM sign_ins WHERE user_id = ? AND id IS NOT ?", [owner.id, but])
            self._record(actor, "passkey.added", data={"user": user, "name": said})
            return _passkey(self._one(f"{_PASSKEYS} WHERE p.id = ?", [number]))

    def passkeys(self, user: str) -> list[Passkey]:
        """Those of one person, oldest first. NotFound."""
        return [_passkey(r) for r in self._rows(f"{_PASSKEYS} WHERE p.user_id = ? ORDER BY p.id", [self.user(user).id])]

    def find_passkey(self, credential: str) -> tuple[Passkey, User] | None:
        """The passkey of that id and whose it is, or None; any text may be asked for. The account may be disabled."""
        if len(credential) > _CREDENTIAL_MAX or not credential.isascii():
            return None
        row = self._find(f"{_PASSKEYS} WHERE p.credential = ?", [credential])
        return (_passkey(row), self.user(row["user"])) if row else None

    def touch_passkey(self, passkey_id: int, sign_count: int, address: str) -> None:
        """Note that it signed somebody in just now. Nothing happens when it is gone."""
        sql = "UPDATE passkeys SET sign_count = ?, last_used_at = ?, last_used_from = ? WHERE id = ?"
        with self._write() as db:
            db.execute(sql, [sign_count, time.time(), address[:64], passkey_id])

    def name_passkey(self, user: str, passkey_id: int, name: str, *, actor: str) -> None:
        """Call it otherwise. NotFound when `user` has none of that id, InvalidInput for an empty name."""
        with self._write() as db:
            self._own_passkey(user, passkey_id)
            db.execute("UPDATE passkeys SET name = ? WHERE id = ?", [_name(name), passkey_id])
            self._record(actor, "passkey.named", data={"user": user, "name": _name(name)})

    def remove_passkey(self, user: str, passkey_id: int, *, actor: str) -> None:
        """NotFound when `user` has none of that id, also when somebody else has it."""
        with self._write() as db:
            found = self._own_passkey(user, passkey_id)
            db.execute("DELETE FROM passkeys WHERE id = ?", [passkey_id])
            self._record(actor, "passkey.removed", data={"user": user, "name": found.name})

    def _own_passkey(self, user: str, passkey_id: int) -> Passkey:
        found = next((passkey for passkey in self.passkeys(user) if passkey.id == passkey_id), None)
        if found is None:
            raise NotFound("There is no such passkey.")
        return found

    # recovery codes

    def set_recovery_codes(self, user: str, digests: Iterable[str], *, actor: str) -> None:
        """Replace all recovery codes of `user` by those with these digests. NotFound."""
        with self._write() as db:
            found = self.user(user)
            db.execute("DELETE FROM recovery_codes WHERE user_id = ?", [found.id])
            for digest in digests:
                db.execute("INSERT INTO recovery_codes (user_id, digest) VALUES (?, ?)", [found.id, digest])
            self._record(actor, "user.recovery_codes_set", data={"user": user})

    def recovery_codes_left(self, user: str) -> int:
        """How many were not used yet. NotFound."""
        sql = "SELECT count(*) AS n FROM recovery_codes WHERE user_id = ? AND used_at IS NULL"
        return int(self._one(sql, [self.user(user).id])["n"])

    def use_recovery_code(self, user: str, digest: str) -> bool:
        """Use up a code. False when there is none of that digest, or it was used before. NotFound."""
        with self._write() as db:
            found = self.user(user)
            sql = "UPDATE recovery_codes SET used_at = ? WHERE user_id = ? AND digest = ? AND used_at IS NULL"
            used = bool(db.execute(sql, [time.time(), found.id, digest]).rowcount)
            if used:
                self._record(user, "user.recovery_code_used", data={"left": self.recovery_codes_left(user)})
            return used

    # all of them

    def has_second_factor(self, user: str) -> bool:
        """Whether a password alone does not sign in to the pages. NotFound."""
        return self.user(user).has_totp or bool(self.passkeys(user))

    def remove_factors(self, user: str, *, actor: str) -> None:
        """Take one-time codes, passkeys and recovery codes away, and end sign-ins to the pages. NotFound."""
        with self._write() as db:
            found = self.user(user)
            db.execute("UPDATE users SET totp_secret = NULL, totp_step = 0 WHERE id = ?", [found.id])
            for table in ("passkeys", "recovery_codes", "sign_ins"):
                db.execute(f"DELETE FROM {table} WHERE user_id = ?", [found.id])  # noqa: S608
            self._record(actor, "user.factors_removed", data={"user": user})
