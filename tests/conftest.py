"""What holds for all tests."""

from __future__ import annotations

from tests.support.quick import cheap_passwords, copied_databases, dear_passwords, migrated

__all__ = ["cheap_passwords", "copied_databases", "dear_passwords", "migrated"]
