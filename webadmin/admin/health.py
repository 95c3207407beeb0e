"""How what the pages rely on is: worker, engine, archive, registry, as far as the store tells. Nothing is asked.

What does not answer is known by the jobs that wait for it; damage in the archive by the last time that it was read.
"""

from __future__ import annotations

from dataclasses import dataclass

from webadmin.admin import findings
from webadmin.admin.findings import Found
from webadmin.context import store
from workspaces.model import JobKind
from workspaces.store.figures import Archived


@dataclass(frozen=True, slots=True)
class Health:
    """`waiting`: how many jobs wait for what does not answer, by its name; `verified`: the archive's last reading."""

    waiting: dict[str, int]
    archived: Archived
    verified: Found | None

    @property
    def damaged(self) -> int:
        """Blobs that were missing or damaged when the archive was read."""
        return int(self.verified.document.get("bad", 0)) if self.verified else 0


def look() -> Health:
    return Health(store().outages(), store().archived(), findings.latest(JobKind.VERIFY))
