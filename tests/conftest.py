"""What holds for all tests."""

from __future__ import annotations

import pytest

from tests.support.quick import cheap_passwords, copied_databases, dear_passwords, migrated

__all__ = ["cheap_passwords", "copied_databases", "dear_passwords", "migrated"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`: tests with an engine share one and look at the whole host, so they are one group, that
    one process runs; those with Chromium, which take as long alone, are another."""
    for item in items:
        for name in ("docker", "browser"):
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.xdist_group(name))
