"""Accounts at an OpenID provider that sign somebody in here, and invitations to set a first password."""

from __future__ import annotations

import time

from workspaces.errors import Conflict, NotFound
from workspaces.model import Identity, Invitation, User
from workspaces.names import printable
from workspaces.store.rows import to_user
from workspaces.store.users import _USERS, Users

_IDENTITIES = (
    "SELECT i.id, u.name AS user, i.issuer, i.subject, i.shown, i.linked_at, i.last_used_at "
    "FROM identities i JOIN users u ON u.id = i.user_id"
)
_INVITATIONS = (
    "SELECT i.id, u.name AS user, i.invited_by, i.invited_at, i.expires_at "
    "FROM invitations i JOIN users u ON u.id = i.user_id"
)


class Identities(Users):
    def link_identity(self, user: str, issuer: str, subject: str, shown: str, *, actor: str) -> None:
        """Let who is `subject` at `issuer` sign in as `user`. NotFound; Conflict when another account has it."""
        with self._write():
            owner = self.user(user)
            other = self._find("SELECT user_id FROM identities WHERE issuer = ? AND subject = ?", [issuer, subject])
            if other is not None:
                if other["user_id"] == owner.id:
                    return
                raise Conflict("That sign-in belongs to another account here.", "An administrator can take it away.")
            row = {"user_id": owner.id, "issuer": issuer, "subject": subject, "shown": printable(shown, 100)}
            self._insert("identities", {**row, "linked_at": time.time()})
            self._record(actor, "identity.linked", data={"user": user, "issuer": issuer, "subject": subject})

    def unlink_identity(self, user: str, identity_id: int, *, actor: str) -> None:
        """NotFound when `user` has none of that id."""
        with self._write() as db:
            sql = "DELETE FROM identities WHERE id = ? AND user_id = ? RETURNING issuer, subject"
            gone = db.execute(sql, [identity_id, self.user(user).id]).fetchall()
            if not gone:
                raise NotFound("There is no such sign-in.")
            self._record(actor, "identity.unlinked", data={"user": user, "issuer": gone[0][0], "subject": gone[0][1]})

    def identities(self, user: str) -> list[Identity]:
        """Those of one person, oldest first. NotFound."""
        sql = f"{_IDENTITIES} WHERE i.user_id = ? ORDER BY i.id"
        return [Identity(**row) for row in self._rows(sql, [self.user(user).id])]

    def find_identity(self, issuer: str, subject: str) -> User | None:
        """Whose it is, or None; the account may be disabled: look."""
        sql = f"{_USERS} WHERE id = (SELECT user_id FROM identities WHERE issuer = ? AND subject = ?)"  # noqa: S608
        row = self._find(sql, [issuer, subject])
        return to_user(row) if row else None

    def touch_identity(self, issuer: str, subject: str) -> None:
        with self._write() as db:
            sql = "UPDATE identities SET last_used_at = ? WHERE issuer = ? AND subject = ?"
            db.execute(sql, [time.time(), issuer, subject])

    # invitations

    def invite(self, user: str, digest: str, expires_at: float, *, actor: str) -> Invitation:
        """Let who has the token of that digest set a password for `user`, once; an earlier invitation is void.

        NotFound, Conflict for a disabled account.
        """
        with self._write() as db:
            found = self.user(user)
            if found.disabled:
                raise Conflict(f"The account {user} is disabled.", "Enable it first.")
            db.execute("DELETE FROM invitations WHERE user_id = ? OR expires_at < ?", [found.id, time.time()])
            row = {"user_id": found.id, "digest": digest, "invited_by": actor, "invited_at": time.time()}
            number = self._insert("invitations", {**row, "expires_at": expires_at})
            self._record(actor, "user.invited", data={"user": user})
            return Invitation(**self._one(f"{_INVITATIONS} WHERE i.id = ?", [number]))

    def find_invitation(self, digest: str) -> Invitation | None:
        """The one that is still good, or None; any text may be asked for."""
        sql = f"{_INVITATIONS} WHERE i.digest = ? AND i.expires_at > ? AND NOT u.disabled"
        row = self._find(sql, [digest, time.time()]) if digest.isascii() else None
        return Invitation(**row) if row else None

    def invitation_of(self, user: str) -> Invitation | None:
        """The one of `user` that is still good, or None. NotFound."""
        sql = f"{_INVITATIONS} WHERE i.user_id = ? AND i.expires_at > ?"
        row = self._find(sql, [self.user(user).id, time.time()])
        return Invitation(**row) if row else None

    def accept_invitation(self, digest: str, password_hash: str) -> User:
        """Set the password of whom it invites, and use it up. NotFound when it is not good any more."""
        with self._write() as db:
            found = self.find_invitation(digest)
            if found is None:
                raise NotFound("This invitation is not good any more.", "Ask an administrator for another one.")
            db.execute("DELETE FROM invitations WHERE id = ?", [found.id])
            self.set_password_hash(found.user, password_hash, actor=found.user)
            self._record(found.user, "user.invitation_accepted", data={"user": found.user})
            return self.user(found.user)

    def accept_invitation_by(self, digest: str, issuer: str, subject: str, shown: str) -> User:
        """Link an account at a provider to whom it invites, and use it up. NotFound, Conflict for another's."""
        with self._write() as db:
            found = self.find_invitation(digest)
            if found is None:
                raise NotFound("This invitation is not good any more.", "Ask an administrator for another one.")
            db.execute("DELETE FROM invitations WHERE id = ?", [found.id])
            self.link_identity(found.user, issuer, subject, shown, actor=found.user)
            self._record(found.user, "user.invitation_accepted", data={"user": found.user})
            return self.user(found.user)

    def users_with_email(self, address: str) -> list[User]:
        """Those whose news are mailed there."""
        rows = self._rows(f"{_USERS} WHERE email = ?", [address]) if address.isascii() else []
        return [to_user(row) for row in rows]

    def withdraw_invitation(self, user: str, *, actor: str) -> None:
        """Nothing happens without one. NotFound."""
        with self._write() as db:
            if db.execute("DELETE FROM invitations WHERE user_id = ?", [self.user(user).id]).rowcount:
                self._record(actor, "user.invitation_withdrawn", data={"user": user})
