"""Challenges of a server elsewhere: their rules, and freezing them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from workspaces.model import Challenge, Freeze, FreezeMode, Frozen, Limits
from workspaces.remote.base import Remote, moment, part
from workspaces.remote.client import Client
from workspaces.remote.decode import decode

PAUSE = 0.5  # seconds between two looks at the same freeze


class RemoteChallenges(Remote):
    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._of: dict[int, str] = {}  # to which challenge a freeze belongs
        self._seen: dict[int, tuple[float, Any]] = {}  # when it was looked at, and what was seen

    def challenges(self) -> list[Challenge]:
        return [decode(Challenge, item) for item in self._client.get("/challenges")["items"]]

    def challenge(self, slug: str) -> Challenge:
        return decode(Challenge, self._client.get(f"/challenges/{part(slug)}"))

    def add_challenge(self, slug: str, **values: object) -> Challenge:
        return decode(Challenge, self._client.write("POST", "/challenges", {"slug": slug, **_body(values)}))

    def set_challenge(self, slug: str, **values: object) -> Challenge:
        return decode(Challenge, self._client.write("PATCH", f"/challenges/{part(slug)}", _body(values)))

    def begin_freeze(self, slug: str, mode: FreezeMode, **_: object) -> Freeze:
        body = {"confirm": slug, "mode": mode.value}
        return self._noted(slug, self._client.write("POST", f"/challenges/{part(slug)}/freeze", body))

    def thaw(self, slug: str, **_: object) -> int:
        return int(self._client.write("POST", f"/challenges/{part(slug)}/thaw")["made_writable"])

    def freezes(self, slug: str) -> list[Freeze]:
        return [self._noted(slug, item) for item in self._client.get(f"/challenges/{part(slug)}/freezes")["items"]]

    def freeze(self, freeze_id: int) -> Freeze:
        return decode(Freeze, self._look(freeze_id))

    def frozen(self, freeze_id: int) -> list[Frozen]:
        rows = self._look(freeze_id)["workspaces"]
        return [decode(Frozen, {"freeze_id": freeze_id, **row}) for row in rows]

    def _noted(self, slug: str, item: Any) -> Freeze:
        found = decode(Freeze, item)
        self._of[found.id], self._seen[found.id] = slug, (time.monotonic(), item)
        return found

    def _look(self, freeze_id: int) -> Any:
        """Commands look again and again, at the freeze and at its workspaces; here not more often than every PAUSE."""
        at, item = self._seen[freeze_id]
        if time.monotonic() - at > PAUSE:
            item = self._client.get(f"/challenges/{part(self._of[freeze_id])}/freezes/{freeze_id}")
            self._seen[freeze_id] = (time.monotonic(), item)
        return item


def _body(values: dict[str, Any]) -> dict[str, object]:
    """What the store's names say, as the API's fields."""
    body = {name: value for name, value in values.items() if name != "actor"}
    if isinstance(limits := body.pop("limits", None), Limits):
        body |= dataclasses.asdict(limits)
    if "mounts" in body:
        body["mounts"] = [dataclasses.asdict(mount) for mount in body["mounts"]]
    for name in ("opens_at", "closes_at"):
        if name in body:
            body[name] = moment(body[name])
    return body
