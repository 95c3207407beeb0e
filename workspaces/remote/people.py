"""People of a server elsewhere, and what they are told."""

from __future__ import annotations

from typing import Any

from workspaces.model import Announcement, Key, Role, Severity, User
from workspaces.remote.base import Remote, given, moment, on_host, part
from workspaces.remote.decode import decode
from workspaces.rights import Rights


class RemotePeople(Remote):
    def users(self) -> list[User]:
        found = [decode(User, item) for item in self._client.all("/users")]
        return sorted(found, key=lambda user: user.name)

    def user_lines(self) -> tuple[list[User], dict[str, tuple[int, list[str]]]]:
        """All accounts, and how many keys and which workspaces each has, by name: in a few requests, for all."""
        items = list(self._client.all("/users"))
        lines = {str(item["name"]): (int(item["keys"]), [str(ref) for ref in item["workspaces"]]) for item in items}
        return sorted((decode(User, item) for item in items), key=lambda user: user.name), lines

    def user(self, name: str) -> User:
        return decode(User, self._client.get(f"/users/{part(name)}"))

    def rights_of(self, name: str) -> Rights:
        found = self._client.get(f"/users/{part(name)}")
        return Rights(Role(found["role"]), {slug: Role(role) for slug, role in found["challenges"].items()})

    def keys(self, name: str) -> list[Key]:
        return [decode(Key, item) for item in self._client.get(f"/users/{part(name)}")["keys"]]

    def add_key(self, name: str, _fingerprint: str, line: str, options: str = "", **_: object) -> None:
        self._only_me(name)
        self._client.write("POST", "/me/keys", {"key": f"{options} {line}".strip()})

    def remove_key(self, name: str, fingerprint: str, **_: object) -> None:
        self._only_me(name)
        known = [key.id for key in self.keys(name) if key.fingerprint == fingerprint]
        self._client.write("DELETE", f"/me/keys/{known[0] if known else 2**62}")

    def create_user(self, name: str, role: Role, challenge: str | None, key: str | None) -> None:
        """Add an account, which has no password yet."""
        body = {"name": name, "role": str(role), **given(challenge=challenge, key=key.strip() if key else None)}
        self._client.write("POST", "/users", body)

    def set_disabled(self, name: str, disabled: bool, **_: object) -> None:
        self._client.write("POST", f"/users/{part(name)}/{'disable' if disabled else 'enable'}")

    def set_role(self, name: str, role: Role, **_: object) -> None:
        self._client.write("PUT", f"/users/{part(name)}/role", {"role": str(role)})

    def set_challenge_role(self, name: str, challenge: str, role: Role, **_: object) -> None:
        self._client.write("PUT", f"/users/{part(name)}/roles/{part(challenge)}", {"role": str(role)})

    def invite(self, name: str) -> str:
        """Invite somebody to set a password; the address for that."""
        return str(self._client.write("POST", f"/users/{part(name)}/invitation")["address"])

    def withdraw_invitation(self, name: str, **_: object) -> None:
        self._client.write("DELETE", f"/users/{part(name)}/invitation")

    def remove_factors(self, name: str, **_: object) -> None:
        self._client.write("DELETE", f"/users/{part(name)}/factors")

    def end_sign_ins(self, name: str, **_: object) -> int:
        return int(self._client.write("DELETE", f"/users/{part(name)}/sign-ins")["count"])

    def enrol(self, text: str, challenge: str, *, check: bool) -> Any:
        """What a list of people does: `steps` and `problems`. With `check`, nothing is done."""
        body = {"text": text, **given(challenge=challenge or None)}
        return self._client.write("POST", "/roster/check" if check else "/roster", body)

    # what they are told

    def announcements(self, *, ended: bool = False) -> list[Announcement]:
        found = self._client.get("/announcements", ended="true" if ended else None)["items"]
        return [decode(Announcement, item) for item in found]

    def add_announcement(
        self,
        text: str,
        severity: Severity = Severity.INFO,
        *,
        challenge: str | None = None,
        from_at: float | None = None,
        until_at: float | None = None,
        **_: object,
    ) -> Announcement:
        more = given(challenge=challenge, from_at=moment(from_at), until_at=moment(until_at))
        body = {"text": text, "severity": severity.value, **more}
        return decode(Announcement, self._client.write("POST", "/announcements", body))

    def end_announcement(self, announcement_id: int, **_: object) -> None:
        self._client.write("POST", f"/announcements/{announcement_id}/end")

    def _only_me(self, name: str) -> None:
        """Raise UsageError for another's keys: through the API everybody has his own."""
        if self._client.get("/me")["user"]["name"] != name:
            raise on_host("Changing another person's keys")
