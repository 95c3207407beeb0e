"""Token buckets, and which addresses count as one host's: what the limits on guessing and on floods are made of."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

MAX_TRACKED = 20_000  # buckets of one kind; the longest unused is forgotten first


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, then one each `every` seconds."""

    burst: float
    every: float


class Buckets:
    """Token buckets of one rate, by key. `clock` is in seconds and only ever grows. Not thread-safe."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._rows: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key → tokens, when counted

    def wait(self, key: Hashable) -> float:
        """Seconds until a token is there, 0 when one is."""
        return max(0.0, (1 - self._tokens(key)) * self._rate.every)

    def take(self, key: Hashable) -> None:
        self._set(key, self._tokens(key) - 1)

    def give(self, key: Hashable) -> None:
        """Put one token back."""
        self._set(key, min(self._rate.burst, self._tokens(key) + 1))

    def fill(self, key: Hashable) -> None:
        """As if nothing had been taken."""
        self._rows.pop(key, None)

    def _tokens(self, key: Hashable) -> float:
        tokens, at = self._rows.get(key, (self._rate.burst, 0.0))
        return min(self._rate.burst, tokens + (self._clock() - at) / self._rate.every)

    def _set(self, key: Hashable, tokens: float) -> None:
        self._rows[key] = tokens, self._clock()
        self._rows.move_to_end(key)
        if len(self._rows) > MAX_TRACKED:
            self._rows.popitem(last=False)


def network(address: str) -> str:
    """One host's addresses as one: an IPv6 host may use any in its /64. What is no address stays as it is."""
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
