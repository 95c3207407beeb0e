"""How what the pages rely on is: worker, engine, archive, registry, as far as the store tells. Nothing is asked.

What does not answer is known by the jobs that wait for it; damage in the archive by the last time that it was read.
"""

from __future__ import annotations

from dataclasses import dataclass

from webadmin.actions.archive import found
from workspaces.model import JobKind, Report
from workspaces.store import Store
from workspaces.store.figures import Archived


@dataclass(frozen=True, slots=True)
class Health:
    """`waiting`: how many jobs wait for what does not answer, by its name; `verified`: the last look at the archive."""

    waiting: dict[str, int]
    archived: Archived
    verified: Report | None

    @property
    def damaged(self) -> int:
        """Blobs that were missing or damaged when the archive was read."""
        return int(found(self.verified).get("bad", 0))


def look(store: Store) -> Health:
    return Health(store.outages(), store.archived(), store.latest_report(JobKind.VERIFY))
