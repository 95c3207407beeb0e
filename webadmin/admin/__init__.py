"""The administrators' pages: one blueprint behind one guard; each module adds its routes to it."""

from __future__ import annotations

from webadmin.admin import announcements, bulk, deciding, overview, people, queue, record, rosters, sessions, spaces
from webadmin.admin.base import bp

__all__ = [
    "announcements",
    "bp",
    "bulk",
    "deciding",
    "overview",
    "people",
    "queue",
    "record",
    "rosters",
    "sessions",
    "spaces",
]
