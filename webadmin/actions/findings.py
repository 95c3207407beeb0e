"""What jobs found: a list of changes with its tree, or the document of a job about the host. Pages and API share it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from webadmin import trees
from workspaces.model import ChangeReport, JobKind, Report
from workspaces.snapshots.tree import Row
from workspaces.store import Store, found_changes

CHANGES = (JobKind.LOOK, JobKind.DIFF)


@dataclass(frozen=True, slots=True)
class Found:
    """`changes` for a kind that lists some, else `document`; `at` is when it was found, by job `job_id`."""

    kind: JobKind
    job_id: int
    at: float
    changes: ChangeReport | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tree(self) -> Row | None:
        return trees.whole(self.changes)


def of_job(store: Store, job_id: int) -> Found | None:
    """What that job found, if it is of a kind that finds something and has."""
    return of_report(store.report_of(job_id))


def latest(store: Store, kind: JobKind, about: str = "") -> Found | None:
    """What the last one found."""
    return of_report(store.latest_report(kind, about))


def of_report(report: Report | None) -> Found | None:
    """As it is kept in the store."""
    if report is None:
        return None
    if report.kind in CHANGES:
        return Found(report.kind, report.job_id, report.at, changes=found_changes(report))
    return Found(report.kind, report.job_id, report.at, document=json.loads(report.document))
