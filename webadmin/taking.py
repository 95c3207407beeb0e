"""Who downloads a version at this moment, in this process."""

from __future__ import annotations

import threading

from workspaces.errors import Conflict

AT_ONCE = 3  # each reads and packs what is gigabytes


class Downloads:
    """One at a time for each person, and AT_ONCE in all."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._names: set[str] = set()

    def begin(self, name: str) -> None:
        """Raises Conflict when that person, or too many others, are downloading."""
        with self._guard:
            if name in self._names:
                raise Conflict("You are downloading a version already.", "Wait until it is there, then try again.")
            if len(self._names) >= AT_ONCE:
                raise Conflict("Too many versions are being downloaded just now.", "Try again in a few minutes.")
            self._names.add(name)

    def end(self, name: str) -> None:
        with self._guard:
            self._names.discard(name)
