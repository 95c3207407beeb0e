"""The participant's pages: own workspaces, their use, versions and sessions; keys and password."""

from __future__ import annotations

from webadmin.me import account, acts, page, sessions, snapshots, usage  # noqa: F401 -- their routes
from webadmin.me.base import bp

__all__ = ["bp"]
