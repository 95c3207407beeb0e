"""How much of the gateway one address, one account and everybody together may take.

    connection ──► Admission: cap and token bucket of the address while it is not authenticated; global cap, and
                   at that the address with most gives up one connection for a newcomer's who has fewer
    password   ──► Guessing: token buckets of account+address, of the address, and of all; keys are not concerned

A token goes back when the login succeeds, so twenty people behind one address are not held up. Nobody can lock a
rival out: an account has no bucket of its own but for wrong codes after its right password, a key needs no token, and
who logged in from an address before is asked for nothing but the token of account+address there. All of it is in the
coordinator, on its event loop, and holds for all workers together (keeper.py); `clock` is in seconds and only grows.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from workspaces.throttle import MAX_TRACKED, Buckets, Rate, network

MAX_CONNECTIONS = 2000  # in all
MAX_UNAUTHENTICATED = 300  # in all
MAX_UNAUTHENTICATED_ADDRESS = 64
MAX_ACCOUNT_CONNECTIONS = 64
MAX_SESSIONS = 20  # on one connection
MAX_ACCOUNT_SESSIONS = 128  # each may hold a window of input in memory
MAX_STREAMS = 256  # forwarded connections on one connection: an editor, or a browser through -D, opens 100 at once
MAX_ACCOUNT_STREAMS = 512  # what the agent carries for one workspace
MAX_ALL_STREAMS = 8192  # each takes a descriptor
WIDE_STREAMS = 32  # of one account have the whole window, the others SMALL_WINDOW: 92 MiB at most wait in a worker
SMALL_WINDOW = 128 << 10  # bytes
MAX_LISTENERS = 16  # of -R on one connection

CONNECT = Rate(128, 0.5)
GUESS_ACCOUNT = Rate(6, 20)
GUESS_ADDRESS = Rate(60, 5)
GUESS_TOTAL = Rate(200, 0.1)
WRONG_CODE = Rate(12, 300)  # after the right password, from wherever: it takes a million tries to find one


class Admission:
    """Counts connections: `enter`, perhaps `authenticated`, then `leave` with what those said."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(CONNECT, clock)
        self._all = 0
        self._waiting: Counter[str] = Counter()
        self._waiting_total = 0
        self._accounts: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()  # where somebody logged in before

    def crowd(self, address: str) -> str | None:
        """The network one of whose unauthenticated connections is in the way of a newcomer from `address`, if any.

        It is the one that has most, and has more than the newcomer's will have, or as many where somebody logged in
        before. So whoever fills all places with silent connections has an equal share of them, and no more.
        """
        host = network(address)
        if not self._full or self._exhausted(host):
            return None
        most = max(self._waiting.values(), default=0)
        if most <= self._waiting[host] + (host not in self._known):
            return None
        return next(crowd for crowd, count in self._waiting.items() if count == most)

    def enter(self, address: str) -> bool:
        """A connection was made. False: refuse it, and don't call `leave`."""
        host = network(address)
        if self._full or self._exhausted(host):
            return False
        self._buckets.take(host)
        self.restore(address, None)
        return True

    def restore(self, address: str, account: str | None) -> None:
        """Count a connection that is there already, authenticated as `account` unless that is None."""
        self._all += 1
        if account is None:
            self._waiting[network(address)] += 1
            self._waiting_total += 1
        else:
            self._accounts[account] += 1
            self._know(address)

    def authenticated(self, address: str, account: str) -> bool:
        """The connection's login succeeded. False: the account has too many connections; `leave` is still due."""
        self._forget_waiting(address)
        self._buckets.give(network(address))
        self._know(address)
        self._accounts[account] += 1
        return self._accounts[account] <= MAX_ACCOUNT_CONNECTIONS

    def leave(self, address: str, account: str | None) -> None:
        """The connection ended; `account` is None when it never was authenticated."""
        self._all -= 1
        if account is None:
            self._forget_waiting(address)
            return
        self._accounts[account] -= 1
        if not self._accounts[account]:
            del self._accounts[account]

    @property
    def _full(self) -> bool:
        return self._all >= MAX_CONNECTIONS or self._waiting_total >= MAX_UNAUTHENTICATED

    def _exhausted(self, host: str) -> bool:
        return self._waiting[host] >= MAX_UNAUTHENTICATED_ADDRESS or self._buckets.wait(host) > 0

    def _know(self, address: str) -> None:
        host = network(address)
        self._known[host] = None
        self._known.move_to_end(host)
        if len(self._known) > MAX_TRACKED:
            self._known.popitem(last=False)

    def _forget_waiting(self, address: str) -> None:
        host = network(address)
        self._waiting_total -= 1
        self._waiting[host] -= 1
        if not self._waiting[host]:
            del self._waiting[host]


class Guessing:
    """Limits on password tries. An attempt costs before the password is looked at, so parallel ones count too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._account = Buckets(GUESS_ACCOUNT, clock)
        self._address = Buckets(GUESS_ADDRESS, clock)
        self._total = Buckets(GUESS_TOTAL, clock)
        self._codes = Buckets(WRONG_CODE, clock)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def take(self, account: str, address: str) -> float:
        """Count one attempt. 0 when it may be made, else how many seconds to wait before the next."""
        rows = self._rows(account, address)
        wait = max(buckets.wait(key) for buckets, key in rows)
        if wait <= 0:
            for buckets, key in rows:
                buckets.take(key)
        return wait

    def right(self, account: str, address: str) -> None:
        """It was the account's owner: neither this attempt nor the mistakes before it count."""
        for buckets, key in self._rows(account, address):
            (buckets.fill if buckets is self._account else buckets.give)(key)
        self.remember(account, address)

    def wrong_code(self, account: str) -> None:
        """A one-time code was wrong, and the password right: nobody else can use up these tokens of an account."""
        self._codes.take(account)

    def too_many_codes(self, account: str) -> bool:
        """Whether no code is looked at for a while."""
        return self._codes.wait(account) > 0

    def remember(self, account: str, address: str) -> None:
        """The account's owner logged in from there, in whatever way."""
        pair = account, network(address)
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MAX_TRACKED:
            self._known.popitem(last=False)

    def _rows(self, account: str, address: str) -> list[tuple[Buckets, Hashable]]:
        pair = account[:64], network(address)
        rows: list[tuple[Buckets, Hashable]] = [(self._account, pair)]
        if pair not in self._known:
            rows += [(self._address, pair[1]), (self._total, "")]
        return rows
