"""Limits on password guessing: token buckets per account and address, per address, and in total.

An attempt takes a token from each bucket before the password is looked at, so attempts in parallel count too;
a right password gives them back. The account alone has no bucket but for wrong one-time codes after its right
password: nobody can lock a rival out from another address. Kept in memory, for one process; ssh keys are not concerned.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

MAX_TRACKED = 20_000  # buckets of one kind; the longest unused is forgotten first

_Key = tuple[str, ...]  # what kind of bucket, and whose


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` attempts at once, then one each `every` seconds."""

    burst: float
    every: float


ACCOUNT = Rate(6, 60)
ADDRESS = Rate(40, 10)
TOTAL = Rate(120, 0.25)
WRONG_CODE = Rate(12, 300)  # after the right password, from wherever: it takes a million tries to find one


class Throttle:
    """Thread-safe. `clock` is in seconds and only ever grows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: defaultdict[str, OrderedDict[_Key, tuple[float, float]]] = defaultdict(OrderedDict)

    def take(self, account: str, address: str) -> float:
        """Count one attempt. Returns 0 when it may be made, else how many seconds to wait before the next."""
        with self._lock:
            rows = _keys(account, address)
            wait = max((1 - self._tokens(key, rate)) * rate.every for key, rate in rows)
            if wait > 0:
                return wait
            for key, rate in rows:
                self._set(key, self._tokens(key, rate) - 1)
            return 0

    def give_back(self, account: str, address: str) -> None:
        """The attempt was the account's owner: it does not count, nor do his earlier mistakes."""
        with self._lock:
            for key, rate in _keys(account, address):
                self._set(key, rate.burst if key[0] == "account" else min(rate.burst, self._tokens(key, rate) + 1))

    def wrong_code(self, account: str) -> None:
        """A one-time code was wrong, and the password right: nobody else can use up these tokens of an account."""
        with self._lock:
            key = "code", account[:64]
            self._set(key, self._tokens(key, WRONG_CODE) - 1)

    def too_many_codes(self, account: str) -> bool:
        """Whether no code is looked at for a while."""
        with self._lock:
            return self._tokens(("code", account[:64]), WRONG_CODE) < 1

    def _tokens(self, key: _Key, rate: Rate) -> float:
        tokens, at = self._kinds[key[0]].get(key, (rate.burst, 0.0))
        return min(rate.burst, tokens + (self._clock() - at) / rate.every)

    def _set(self, key: _Key, tokens: float) -> None:
        rows = self._kinds[key[0]]
        rows[key] = tokens, self._clock()
        rows.move_to_end(key)
        if len(rows) > MAX_TRACKED:
            rows.popitem(last=False)


def _keys(account: str, address: str) -> tuple[tuple[_Key, Rate], ...]:
    network = _network(address)
    return ((("account", account[:64], network), ACCOUNT), (("address", network), ADDRESS), (("total",), TOTAL))


def _network(address: str) -> str:
    """One host's addresses as one: an IPv6 host may use any in its /64."""
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 64), strict=False))
    return str(ip)
