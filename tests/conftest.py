"""What every test shares: fixtures of the parts, and the rule that tests with an engine run in one process.

With `-n 2` the tests that need a container engine form one group, so that one engine is started and the fast
tests run beside it.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.xdist_group("engine"))
        elif item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.xdist_group("browser"))
