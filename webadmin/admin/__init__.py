"""The administrators' pages: one blueprint behind one guard; each module adds its routes to it."""

from __future__ import annotations

from webadmin.admin import (
    announcements,
    archive,
    bulk,
    challenges,
    deciding,
    freezing,
    images,
    jobs,
    overview,
    people,
    queue,
    record,
    rosters,
    sessions,
    space,
    spaces,
    versions,
)
from webadmin.admin.base import bp

__all__ = [
    "announcements",
    "archive",
    "bp",
    "bulk",
    "challenges",
    "deciding",
    "freezing",
    "images",
    "jobs",
    "overview",
    "people",
    "queue",
    "record",
    "rosters",
    "sessions",
    "space",
    "spaces",
    "versions",
]
