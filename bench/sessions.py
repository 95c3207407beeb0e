"""The figures with many sessions: logins at once, and sessions that are open and idle.

    crowd   N logins at once, each from one of twenty loopback addresses, into ten containers
    idle    memory before ─► N login shells, opened a few at a time ─► memory after; a login before and with them

The gateway refuses more than some sixty half-open logins from one address, which a crowd does not come from.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.figures import Size
from bench.peers import BARE, DEFAULTS, FORCED, GATEWAY, PINNED, Peer, SshPeer, Way
from bench.rows import Goal, Results, Row
from bench.turns import Client, at_once, in_turns, timed
from bench.world import World

ADDRESSES = 20
OPENERS = 8  # idle sessions are opened so many at a time
LOGINS = 10  # measured before the sessions are opened, and again with them


def crowd(world: World, size: Size, results: Results) -> None:
    """So many logins at once, each for `true`: the median, the last one, and how many failed."""
    people = world.everybody()

    def commands(name: str, way: Way) -> list[list[str]]:
        return [
            world.peers[name].line("true", way, person=number % people, source=1 + number % ADDRESSES)
            for number in range(size.crowd)
        ]

    cases = [(name, PINNED) for name in world.peers]
    cases += [(name, DEFAULTS) for name, peer in world.peers.items() if isinstance(peer, SshPeer) and name != BARE]
    rounds = 2 if size.repeats > 1 else 1
    found = in_turns({case: partial(at_once, commands(*case)) for case in cases}, rounds, warm=False)
    for way in (DEFAULTS, PINNED):
        ended = {name: pairs for (name, its), pairs in found.items() if its == way}
        failed = {name: float(sum(pair[1] for pair in pairs)) for name, pairs in ended.items()}
        # of the rounds, the one whose last login came later: nothing is averaged away
        worst = {name: max((pair[0] for pair in pairs), key=lambda s: s[-1:]) for name, pairs in ended.items()}
        label = f"{size.crowd} logins at once"
        answered = {name: seconds for name, seconds in worst.items() if seconds}
        results.rows += [
            Row(f"{label}, median", way.name, "s", {n: statistics.median(s) for n, s in answered.items()}),
            Row(f"{label}, last", way.name, "s", {n: s[-1] for n, s in answered.items()}, (Goal(0.3, FORCED),)),
            Row(f"{label}, failed", way.name, "", failed, (Goal(0),)),
        ]
        results.curves[way.name] = worst


def idle(world: World, size: Size, results: Results) -> None:
    """Memory of each open login shell, and how long a new login takes while they are open."""
    people = world.everybody()
    memory: dict[str, float] = {}
    slower: dict[str, float] = {}
    for name in (GATEWAY, FORCED):
        peer = world.peers[name]
        quiet = _login(peer)
        count, before = len(world.servers.members()), world.servers.memory()
        clients: list[Client] = []
        try:
            _open(peer, size.idle, people, clients)
            memory[name] = (world.servers.memory() - before) / size.idle / 1e6
            slower[name] = _login(peer) / quiet
        finally:
            for client in clients:
                client.close()
            world.servers.end_shells()
        world.servers.settled(count)
    label = f"{size.idle} idle sessions"
    results.rows += [
        Row(f"{label}, memory of each", PINNED.name, "MB", memory, (Goal(0.25, FORCED),)),
        Row(f"{label}, a new login over its quiet time", PINNED.name, "×", slower, (Goal(2),)),
    ]


def _login(peer: Peer) -> float:
    """The median time of a login, in seconds."""
    return statistics.median(in_turns({0: partial(timed, peer.line("true", PINNED))}, LOGINS)[0])


def _open(peer: Peer, count: int, people: int, clients: list[Client]) -> None:
    """Open `count` login shells and put them into `clients`, whatever happens. Raises Failed."""

    def one(number: int) -> None:
        line = peer.line(None, PINNED, person=number % people, tty=True, source=1 + number % ADDRESSES)
        client = Client(line)
        clients.append(client)
        client.prompt()

    with ThreadPoolExecutor(OPENERS) as pool:
        try:
            for _ in pool.map(one, range(count)):
                pass
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
