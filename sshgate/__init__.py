"""The ssh gateway: authenticates, finds the person's workspace, makes sure that it runs, carries bytes."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

from workspaces.lifecycle import Lifecycle
from workspaces.settings import Settings
from workspaces.store import Store

FILES = 65536  # descriptors: a session takes up to seven


def main(settings: Settings, store: Store, lifecycle: Lifecycle, ready: Callable[[str, int], None]) -> None:
    """Run the gateway in this process until SIGTERM. Raises HostError when it cannot start."""
    from sshgate.server import serve

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    asyncio.run(serve(settings, store, lifecycle, ready))
