"""What is in a snapshot: the listing of what it would capture, and the configuration of its image until it is archived.

The configuration is kept so that the archive need not read an image from the engine whose layers it has already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from workspaces.model import ChangeReport
from workspaces.store.rows import changes_json, to_changes
from workspaces.store.snapshots import Snapshots


class Contents(Snapshots):
    def changes(self, snapshot_id: int) -> ChangeReport | None:
        """What it would capture, as last listed; None before the first listing."""
        row = self._find("SELECT report FROM changes WHERE snapshot_id = ?", [snapshot_id])
        return to_changes(row["report"]) if row else None

    def changes_listed(self, snapshot_ids: Iterable[int]) -> dict[int, float]:
        """When what each of these would capture was last listed; nothing for those that were not."""
        sql = (
            "SELECT snapshot_id, json_extract(substr(report, 1, instr(report, ',') - 1) || '}', '$.at') AS at "
            "FROM changes WHERE snapshot_id IN (SELECT value FROM json_each(?))"
        )  # `at` is the first of a report's fields: the rest, which may be long, is not parsed
        return {row["snapshot_id"]: row["at"] for row in self._rows(sql, [json.dumps(list(snapshot_ids))])}

    def set_changes(self, snapshot_id: int, report: ChangeReport) -> None:
        """Keep `report`, in place of an earlier one. NotFound."""
        with self._write() as db:
            self.snapshot(snapshot_id)
            row = {"snapshot_id": snapshot_id, "report": changes_json(report)}
            db.table("changes").insert(row, replace=True)

    def configuration(self, snapshot_id: int) -> bytes | None:
        """The OCI configuration that its image has or is about to get; None before that and once it is archived."""
        row = self._find("SELECT configuration FROM configurations WHERE snapshot_id = ?", [snapshot_id])
        return row["configuration"] if row else None

    def set_configuration(self, snapshot_id: int, configuration: bytes) -> None:
        """Keep it, in place of an earlier attempt's. NotFound."""
        with self._write() as db:
            self.snapshot(snapshot_id)
            row = {"snapshot_id": snapshot_id, "configuration": configuration}
            db.table("configurations").insert(row, replace=True)
