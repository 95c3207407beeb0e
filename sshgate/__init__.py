"""The ssh gateway: authenticates, finds the person's workspace, makes sure that it runs, carries bytes."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

from workspaces.lifecycle import Lifecycle
from workspaces.settings import Settings
from workspaces.store import Store

FILES = 65536  # descriptors of one process: a session takes up to seven


def main(
    settings: Settings, store: Store, open_lifecycle: Callable[[], Lifecycle], ready: Callable[[str, int], None]
) -> None:
    """Run the gateway with this process as its coordinator until SIGTERM. Raises HostError when it cannot start.

    On SIGHUP the process is replaced by the program as it is installed by then; that one does not call `ready`.
    """
    from sshgate.coordinator import Coordinator
    from sshgate.takeover import Kept, inherited, replace

    async def run() -> Kept | None:
        return await Coordinator(settings, store, inherited()).run(open_lifecycle, ready)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    kept = asyncio.run(run())
    if kept is not None:
        replace(kept)


def check(settings: Settings) -> None:
    """Raise what would keep the gateway's processes from starting."""
    from sshgate import coordinator, worker  # noqa: F401 - that they can be imported is half of it
    from sshgate.hostkey import load_host_keys

    load_host_keys(settings.keys)
