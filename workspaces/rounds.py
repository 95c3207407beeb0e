"""What the worker does again and again beside its jobs, whatever fails.

go_on({"images cannot be looked at": look, …}, stop, seconds) ──► each in its turn ──► pause ──► …
    a step fails ──► what cannot be done, and why, in the log; again only when it fails for another reason
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from workspaces.errors import WorkspacesError

log = logging.getLogger(__name__)


def go_on(steps: Mapping[str, Callable[[], object]], stop: threading.Event, seconds: float, first: float = 0.0) -> None:
    """Call the steps, named by what cannot be done when they fail, every `seconds` from `first` on, until `stop`."""
    failing: dict[str, str] = {}
    pause = first
    while not stop.wait(pause):
        pause = seconds
        for what, step in steps.items():
            try:
                step()
                failing.pop(what, None)
            except (WorkspacesError, OSError) as error:
                why = error.message if isinstance(error, WorkspacesError) else str(error)
                if failing.get(what) != why:
                    failing[what] = why
                    log.warning("%s: %s", what, why)
            except Exception:
                log.exception("%s, unexpectedly", what)
