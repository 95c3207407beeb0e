"""Certificate authorities whose user certificates are believed: on the whole host, or for one challenge."""

from __future__ import annotations

import time

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Authority
from workspaces.names import printable
from workspaces.store.challenges import Challenges

_AUTHORITIES = (
    "SELECT a.id, c.slug AS challenge, a.fingerprint, a.line, a.added_at "
    "FROM authorities a LEFT JOIN challenges c ON c.id = a.challenge_id"
)


class Authorities(Challenges):
    def add_authority(self, fingerprint: str, line: str, challenge: str | None = None, *, actor: str) -> Authority:
        """Believe certificates signed with a key (parsed by accounts.parse_public_key); None is the whole host.

        NotFound for the challenge, Conflict when it is believed there already.
        """
        if not fingerprint.startswith("SHA256:"):
            raise InvalidInput("The fingerprint of a key starts with SHA256:.")
        with self._write():
            where = self.challenge(challenge).id if challenge is not None else None
            if any(known.challenge == challenge for known in self.authorities(fingerprint)):
                raise Conflict("Certificates of this authority are believed there already.")
            row = {"challenge_id": where, "fingerprint": fingerprint, "line": line, "added_at": time.time()}
            number = self._insert("authorities", row)
            self._record(actor, "authority.added", data={"fingerprint": fingerprint, "challenge": challenge})
            return Authority(**self._one(f"{_AUTHORITIES} WHERE a.id = ?", [number]))

    def authorities(self, fingerprint: str | None = None) -> list[Authority]:
        """All of them, or those with that key; the oldest first."""
        if fingerprint is None:
            return [Authority(**row) for row in self._rows(f"{_AUTHORITIES} ORDER BY a.id")]
        rows = self._rows(f"{_AUTHORITIES} WHERE a.fingerprint = ? ORDER BY a.id", [fingerprint])
        return [Authority(**row) for row in rows]

    def terminal_authority(self) -> str | None:
        """The fingerprint of the key that signs for terminals of the web application, from this host only."""
        found = self._find("SELECT value FROM meta WHERE key = 'terminal'")
        return str(found["value"]) if found else None

    def set_terminal_authority(self, fingerprint: str, *, actor: str) -> None:
        """Believe that key from now on, and not the one before. InvalidInput."""
        if not fingerprint.startswith("SHA256:"):
            raise InvalidInput("The fingerprint of a key starts with SHA256:.")
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('terminal', ?)", [fingerprint])
            self._record(actor, "authority.terminal", data={"fingerprint": fingerprint})

    def remove_authority(self, fingerprint: str, challenge: str | None = None, *, actor: str) -> None:
        """Believe its certificates no more, there; sessions that they opened go on. NotFound."""
        with self._write() as db:
            known = [found for found in self.authorities(fingerprint) if found.challenge == challenge]
            if not known:
                where = f"for the challenge {printable(challenge, 64)}" if challenge is not None else "for the host"
                raise NotFound(f"No authority {printable(fingerprint, 64)} is trusted {where}.")
            db.execute("DELETE FROM authorities WHERE id = ?", [known[0].id])
            self._record(actor, "authority.removed", data={"fingerprint": fingerprint, "challenge": challenge})
