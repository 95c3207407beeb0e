"""How what the pages rely on is: worker, engine, archive, registry, as far as the store tells. Nothing is asked.

That the engine answers is known by the worker, which asks it every few seconds; what else does not answer, by the jobs
that wait for it; damage in the archive by the last time that it was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from webadmin.actions import findings
from workspaces import heartbeat
from workspaces.model import JobKind
from workspaces.store import Store
from workspaces.store.figures import Archived


@dataclass(frozen=True, slots=True)
class Health:
    """`waiting`: how many jobs wait for what does not answer, by its name; `verified`: the last look at the archive.

    `engine`: whether it answers the worker, None when nobody can tell.
    """

    waiting: dict[str, int]
    engine: bool | None
    archived: Archived
    verified: findings.Found | None

    @property
    def damaged(self) -> int:
        """Blobs that were missing or damaged when the archive was read."""
        return int(self.verified.document.get("bad", 0)) if self.verified else 0


def look(store: Store, locks: Path) -> Health:
    """The worker's sign of life, and the engine's, are in `locks`."""
    return Health(
        store.outages(), heartbeat.engine_answers(locks), store.archived(), findings.latest(store, JobKind.VERIFY)
    )
