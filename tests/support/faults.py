"""Wrapping a part so that chosen calls to it fail, wait, or end the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Killed(BaseException):
    """Stands for SIGKILL: after it, no call through the same Fuse does anything."""


class Fuse:
    """Counts the calls that change something and blows after call number `at`; all calls raise Killed from then on."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.calls: list[str] = []
        self.blown = threading.Event()

    def wrap(self, part: Any, changing: frozenset[str]) -> Any:
        return Wrapped(part, lambda name, call: self._call(name, call, name in changing))

    def _call(self, name: str, call: Callable[[], Any], counts: bool) -> Any:
        if self.blown.is_set():
            raise Killed(name)
        if not counts:
            return call()
        if self.at == len(self.calls):  # only 0: before anything
            self._blow(name)
        result = call()
        self.calls.append(name)
        if self.at == len(self.calls):
            self._blow(name)
        return result

    def _blow(self, name: str) -> None:
        self.blown.set()
        raise Killed(name)


class Wrapped:
    """`part`, each method call of which goes through `hook(name, call)`."""

    def __init__(self, part: Any, hook: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._part = part
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not callable(found):
            return found
        return lambda *arguments, **named: self._hook(name, lambda: found(*arguments, **named))


def failing(part: Any, method: str, errors: list[BaseException | None]) -> Any:
    """`part` whose `method` raises these errors, one for each call (None: works), then works."""
    left = iter(errors)

    def hook(name: str, call: Callable[[], Any]) -> Any:
        if name == method and (error := next(left, None)) is not None:
            raise error
        return call()

    return Wrapped(part, hook)


class Gate:
    """Holds the callers of one method until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def wrap(self, part: Any, method: str) -> Any:
        def hook(name: str, call: Callable[[], Any]) -> Any:
            if name == method:
                self.reached.set()
                assert self.open.wait(20)
            return call()

        return Wrapped(part, hook)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Until the block ends, which then opens it, whatever happens."""
        try:
            assert self.reached.wait(20)
            yield
        finally:
            self.open.set()
