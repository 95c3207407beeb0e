"""Limits on password guessing: token buckets per account and address, per address, and in total.

An attempt takes a token from each bucket before the password is looked at, so attempts in parallel count too;
a right password gives them back. The account alone has no bucket but for who has proven to be its owner before, being
signed in or with the right password: nobody can lock a rival out from another address, nor who is signed in from
anywhere. What nobody guesses, such as passkeys, has buckets of its own: a flood of passwords leaves other ways in.
Kept in memory, for one process; ssh keys are not concerned.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from workspaces.throttle import MAX_TRACKED, Buckets, Rate, network

ACCOUNT = Rate(6, 60)
ADDRESS = Rate(40, 10)
TOTAL = Rate(120, 0.25)
OTHERS = Rate(40, 10)  # at what nobody guesses, from one address
WRONG_CODE = Rate(12, 300)  # after the right password, from wherever: it takes a million tries to find one

Rows = tuple[tuple[Buckets, Hashable], ...]


class Throttle:
    """Thread-safe. `clock` is in seconds and only ever grows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._account = Buckets(ACCOUNT, clock)
        self._address = Buckets(ADDRESS, clock)
        self._total = Buckets(TOTAL, clock)
        self._others, self._others_total = Buckets(OTHERS, clock), Buckets(TOTAL, clock)
        self._codes = Buckets(WRONG_CODE, clock)

    def take(self, account: str, address: str, *, known: bool = False) -> float:
        """Count one attempt. Returns 0 when it may be made, else how many seconds to wait before the next.

        `known`: by somebody who is signed in, or whose password was right.
        """
        return self._take(self._rows(account, address, known))

    def take_address(self, address: str) -> float:
        """Count one attempt at what nobody guesses, such as a passkey or an invitation: what it costs is bounded."""
        return self._take(self._others_of(address))

    def give_back_address(self, address: str) -> None:
        """That attempt was right."""
        with self._lock:
            for buckets, key in self._others_of(address):
                buckets.give(key)

    def give_back(self, account: str, address: str, *, known: bool = False) -> None:
        """The attempt was the account's owner: it does not count, nor do his earlier mistakes."""
        with self._lock:
            for buckets, key in self._rows(account, address, known):
                (buckets.fill if buckets is self._account else buckets.give)(key)

    def wrong_code(self, account: str) -> None:
        """A one-time code was wrong, and the password right: nobody else can use up these tokens of an account."""
        with self._lock:
            self._codes.take(account[:64])

    def too_many_codes(self, account: str) -> bool:
        """Whether no code is looked at for a while."""
        with self._lock:
            return self._codes.wait(account[:64]) > 0

    def _take(self, rows: Rows) -> float:
        with self._lock:
            wait = max(buckets.wait(key) for buckets, key in rows)
            if wait <= 0:
                for buckets, key in rows:
                    buckets.take(key)
            return wait

    def _rows(self, account: str, address: str, known: bool) -> Rows:
        if known:
            return ((self._account, (account[:64], "")),)
        host = network(address)
        return (self._account, (account[:64], host)), (self._address, host), (self._total, "")

    def _others_of(self, address: str) -> Rows:
        return (self._others, network(address)), (self._others_total, "")


class Once:
    """What may be used once, for as long as it would be good; thread-safe. Kept in memory, for one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()  # until when it need be remembered

    def use(self, what: str, seconds: float) -> bool:
        """Whether this is its first use; it is good for `seconds` at most."""
        with self._lock:
            now = self._clock()
            while self._used and next(iter(self._used.values())) < now:
                self._used.popitem(last=False)
            if what in self._used or len(self._used) >= MAX_TRACKED:  # rather nobody than somebody twice
                return False
            self._used[what] = now + seconds
            return True
