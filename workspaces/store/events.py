"""The record of who did what. Nothing changes or removes a line of it."""

from __future__ import annotations

from collections.abc import Mapping

from workspaces.model import Event
from workspaces.store.connection import Connections
from workspaces.store.rows import to_event


class Events(Connections):
    def add_event(
        self,
        actor: str,
        kind: str,
        *,
        workspace: str | None = None,
        snapshot_id: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Record something that is no other call's business here, e.g. a login.

        `kind` is `thing.what` (`login.accepted`), `workspace` a `challenge/name`; values of `data` are kept
        as text, those that are None left out.
        """
        self._record(actor, kind, workspace, snapshot_id, data)

    def events(
        self, limit: int = 100, workspace: str | None = None, actor: str | None = None, kind: str | None = None
    ) -> list[Event]:
        """The newest first, at most `limit`; of one `challenge/name`, of one actor, of one kind."""
        sql = "SELECT id, at, actor, kind, workspace, snapshot_id, data FROM events WHERE 1"
        params: list[object] = []
        for column, value in (("workspace", workspace), ("actor", actor), ("kind", kind)):
            if value is not None:
                sql, params = f"{sql} AND {column} = ?", [*params, value]
        return [to_event(row) for row in self._rows(f"{sql} ORDER BY id DESC LIMIT ?", [*params, limit])]
