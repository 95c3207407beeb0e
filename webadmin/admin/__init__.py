"""The administrators' pages: one blueprint behind one guard; each module adds its routes to it."""

from __future__ import annotations

from webadmin.admin import bulk, deciding, overview, people, queue, record, rosters, spaces
from webadmin.admin.base import bp

__all__ = ["bp", "bulk", "deciding", "overview", "people", "queue", "record", "rosters", "spaces"]
