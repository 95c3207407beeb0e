"""The administrators' pages: one blueprint behind one guard; each module adds its routes to it."""

from __future__ import annotations

from webadmin.admin import people, queue, record, spaces
from webadmin.admin.base import bp

__all__ = ["bp", "people", "queue", "record", "spaces"]
