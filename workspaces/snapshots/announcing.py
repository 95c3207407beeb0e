"""What people who are on are told of the moment in which their workspace stands still.

    notice ─► told by every gateway process that carries a session there, or TOLD_SECONDS ─► the engine's commit
           ─► how long that was is kept ─► notice ─► … the version is in the store ─► notice

Between the first two notices nothing is done but the engine's own commit: it pauses the container, and goes on with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from workspaces.errors import StoreError
from workspaces.model import Snapshot
from workspaces.store import Store

log = logging.getLogger(__name__)

TOLD_SECONDS = 2.0
TOLD_LOOK = 0.02


@contextmanager
def standing_still(store: Store, snapshot: Snapshot) -> Iterator[None]:
    """Round the engine's commit of a workspace that runs. Raises StoreError."""
    told = store.add_notice(
        snapshot.workspace_id,
        f"Your workspace is being saved as v{snapshot.version}; it stands still for a moment.",
    )
    deadline = time.monotonic() + TOLD_SECONDS
    while told is not None and store.notice_untold(told) and time.monotonic() < deadline:
        threading.Event().wait(TOLD_LOOK)
    store.set_captured(snapshot.id, time.time())
    began = time.monotonic()
    try:
        yield
    except Exception:
        with suppress(StoreError):  # what went wrong first is what counts
            store.add_notice(
                snapshot.workspace_id, f"Your workspace goes on. Saving it as v{snapshot.version} did not work yet."
            )
        raise
    seconds = time.monotonic() - began
    store.set_paused(snapshot.id, seconds)
    _tell(store, snapshot, f"It stood still for {seconds:.1f} s and goes on; v{snapshot.version} is being written.")


def tell_saved(store: Store, snapshot: Snapshot) -> None:
    """Once the version is in the store. Nobody is told of a workspace that did not run."""
    if snapshot.paused_seconds is not None:
        _tell(store, snapshot, f"Your workspace is saved as v{snapshot.version}.")


def _tell(store: Store, snapshot: Snapshot, text: str) -> None:
    try:
        store.add_notice(snapshot.workspace_id, text)
    except StoreError as error:
        log.warning("nobody is told how far snapshot %d is: %s", snapshot.id, error.message)
