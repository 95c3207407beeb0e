"""Roles in single challenges, and to which challenge a thing belongs: what rights are judged by."""

from __future__ import annotations

import json

from workspaces.model import Role
from workspaces.rights import Rights
from workspaces.store.connection import Row
from workspaces.store.workspaces import Workspaces

# Of a user u, beside the columns of the account: the roles in challenges, as a JSON object.
CHALLENGE_ROLES = (
    "(SELECT json_group_object(c.slug, r.role) FROM challenge_roles r JOIN challenges c ON c.id = r.challenge_id "
    "WHERE r.user_id = u.id)"
)
_OF = {
    "workspace": "SELECT challenge_id FROM workspaces WHERE id = ?",
    "snapshot": "SELECT w.challenge_id FROM snapshots s JOIN workspaces w ON w.id = s.workspace_id WHERE s.id = ?",
    "job": "SELECT w.challenge_id FROM jobs j JOIN workspaces w ON w.id = j.workspace_id WHERE j.id = ?",
    "session": "SELECT w.challenge_id FROM sessions s JOIN workspaces w ON w.id = s.workspace_id WHERE s.id = ?",
    "freeze": "SELECT challenge_id FROM freezes WHERE id = ?",
}


def to_rights(role: str, challenges: str) -> Rights:
    return Rights(Role(role), {slug: Role(there) for slug, there in json.loads(challenges).items()})


class Roles(Workspaces):
    def rights_of(self, name: str) -> Rights:
        """What the account may do; NotFound."""
        user = self.user(name)
        row = self._one(f"SELECT u.role, {CHALLENGE_ROLES} AS challenges FROM users u WHERE u.id = ?", [user.id])  # noqa: S608
        return to_rights(row["role"], row["challenges"])

    def challenge_roles(self, challenge: str) -> dict[str, Role]:
        """Who has a role in that challenge alone, by name. NotFound."""
        sql = (
            "SELECT u.name, r.role FROM challenge_roles r JOIN users u ON u.id = r.user_id "
            "WHERE r.challenge_id = ? ORDER BY u.name"
        )
        return {row["name"]: Role(row["role"]) for row in self._rows(sql, [self.challenge(challenge).id])}

    def set_challenge_role(self, name: str, challenge: str, role: Role, *, actor: str) -> None:
        """Make `name` a reviewer or administrator of one challenge; PARTICIPANT takes that away. NotFound.

        Nothing happens when it is so already.
        """
        with self._write() as db:
            user, found, role = self.user(name), self.challenge(challenge), Role(role)
            held = self.challenge_roles(challenge).get(name, Role.PARTICIPANT)
            if held is role:
                return
            keys = [user.id, found.id]
            db.execute("DELETE FROM challenge_roles WHERE user_id = ? AND challenge_id = ?", keys)
            if role is not Role.PARTICIPANT:
                db.execute("INSERT INTO challenge_roles (user_id, challenge_id, role) VALUES (?, ?, ?)", [*keys, role])
            self._record(actor, "user.role_set", data={"user": name, "role": role, "challenge": challenge})

    def challenge_of(self, kind: str, number: int) -> str | None:
        """The slug of the challenge that a workspace, snapshot, job, session or freeze belongs to; None without one.

        What belonged to a removed workspace still belongs to its challenge.
        """
        row: Row | None = self._find(f"SELECT slug FROM challenges WHERE id = ({_OF[kind]})", [number])  # noqa: S608
        return row["slug"] if row else None
