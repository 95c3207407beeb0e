"""The figures: what is asked of every peer, and what is taken down. `sessions.py` has those with many at once.

Each figure adds its rows to the results; one that raises Failed has none, and the others go on.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.peers import CHACHA, CIPHERS, DEFAULTS, EXEC, FORCED, PINNED, Peer, SshPeer, Way, ciphered
from bench.rows import Goal, Results, Row
from bench.turns import Client, Failed, in_turns, timed
from bench.world import INSIDE, World

MEGA = 1_000_000
FLOOD_LINES = 1_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each; sizes in MB of a million bytes."""

    rounds: int  # of what takes less than a second
    repeats: int  # of what takes seconds
    bulk: int
    sftp: int
    files: int
    echoes: int  # in one round
    lines: int  # of the flood
    crowd: int
    idle: int
    change: int  # of a snapshot
    part: int  # of each of many versions
    frozen: int
    reading: float  # seconds for each page


FULL = Size(
    rounds=15, repeats=3, bulk=500, sftp=200, files=5000, echoes=200, lines=FLOOD_LINES, crowd=200, idle=500,
    change=2000, part=50, frozen=200, reading=4.0,
)  # fmt: skip
QUICK = Size(
    rounds=2, repeats=1, bulk=20, sftp=10, files=100, echoes=20, lines=10_000, crowd=10, idle=10,
    change=20, part=1, frozen=4, reading=0.3,
)  # fmt: skip

Figure = Callable[[World, Size, Results], None]
Case = tuple[str, Way]  # peer, way


def _cases(world: World, ways: tuple[Way, ...] = (DEFAULTS, PINNED), *, without: tuple[str, ...] = ()) -> list[Case]:
    """Every peer in each way that it has; `docker exec` has one, since it knows no algorithms."""
    found: list[Case] = []
    for name, peer in world.peers.items():
        if name not in without:
            found += [(name, way) for way in (ways if isinstance(peer, SshPeer) else ways[:1])]
    return found


def _rows(figure: str, unit: str, values: dict[Case, float], goals: tuple[Goal, ...] = ()) -> list[Row]:
    """One row for each way; what knows no ways stands in every one."""
    ways = list(dict.fromkeys(way for _, way in values))
    single = {name: value for (name, _), value in values.items() if name == EXEC}
    rows = []
    for way in ways:
        own = {name: value for (name, its), value in values.items() if its == way}
        rows.append(Row(figure, way.name, unit, {**single, **own}, goals))
    return rows


def _medians(samples: dict[Case, list[float]]) -> dict[Case, float]:
    return {case: statistics.median(values) for case, values in samples.items()}


def true(world: World, size: Size, results: Results) -> None:
    """`ssh … true`: a whole login, a command that does nothing, and the way out."""
    tasks = {(name, way): partial(timed, world.peers[name].line("true", way)) for name, way in _cases(world)}
    values = {case: value * 1000 for case, value in _medians(in_turns(tasks, size.rounds)).items()}
    rows = _rows("ssh … true", "ms", values)
    goals = {DEFAULTS.name: (Goal(0.8, EXEC),), PINNED.name: (Goal(0.8, EXEC), Goal(0.3, FORCED))}
    results.rows += [replace(row, goals=goals[row.way]) for row in rows]


def prompt(world: World, size: Size, results: Results) -> None:
    """A login on a terminal, up to the shell's prompt."""

    def login(name: str, way: Way) -> float:
        command = world.peers[name].line(None, way, tty=True)
        seconds = _since()
        with Client(command, terminal=True) as client:
            client.prompt()
            return seconds()

    tasks = {case: partial(login, *case) for case in _cases(world)}
    values = {case: value * 1000 for case, value in _medians(in_turns(tasks, size.rounds)).items()}
    results.rows += _rows("login to the first prompt", "ms", values)


def echo(world: World, size: Size, results: Results) -> None:
    """A line through `cat`, and a key that a terminal echoes, on sessions that are open."""
    for way, terminal, message in (("a line through cat", False, b"line\n"), ("a key on a terminal", True, b"x")):
        clients: dict[str, Client] = {}
        try:
            for name, peer in world.peers.items():
                command = peer.line("echo ready; exec cat", PINNED, tty=terminal)
                clients[name] = Client(command, terminal=terminal)
                clients[name].until(b"ready\r\n" if terminal else b"ready\n")
            tasks = {name: partial(_echoes, client, message, size.echoes) for name, client in clients.items()}
            samples = in_turns(tasks, size.rounds)
        finally:
            for client in clients.values():
                client.close()
        medians = {
            name: statistics.median(value for block in blocks for value in block) for name, blocks in samples.items()
        }
        values = {name: seconds * 1e6 for name, seconds in medians.items()}
        results.rows.append(Row("round trip", way, "µs", values, (Goal(0.7, FORCED),)))


def _echoes(client: Client, message: bytes, count: int) -> list[float]:
    found = []
    for _ in range(count):
        seconds = _since()
        client.write(message)
        client.until(message)
        found.append(seconds())
    if not message.endswith(b"\n"):  # the keys make a line, which is echoed and comes back
        client.write(b"\n")
        client.until(b"\n" + message * count + b"\r\n")
    return found


def bulk(world: World, size: Size, results: Results) -> None:
    """Many bytes down and up, with each cipher, and the servers' CPU time for them.

    Down they come once from `head`, which writes 8 KiB at a time, about as much as most programs, and once
    from `cat`, which writes 128 KiB: copying the pieces by turns costs docker far more than it costs the others.
    """
    source = world.scratch / "zeros"
    with source.open("wb") as file:
        file.truncate(size.bulk * MEGA)
    world.inside(f"truncate -s {size.bulk * MEGA} {INSIDE}/zeros")
    usual = (DEFAULTS, ciphered(CIPHERS[0]))
    ways = (*usual, *(ciphered(cipher) for cipher in CIPHERS[1:]))
    cases = [case for case in _cases(world, ways) if _speaks(world.peers[case[0]], case[1])]
    for direction, command, rare in (
        ("down", f"head -c {size.bulk * MEGA} /dev/zero", True),
        ("down by cat", "cat {directory}/zeros", False),
        ("up", "cat > /dev/null", True),
    ):
        transfer = partial(_transfer, world, command, source)
        often = {case: partial(transfer, *case) for case in cases if case[1] in usual}
        found = in_turns(often, size.repeats, warm=False)
        if rare:
            once = {case: partial(transfer, *case) for case in cases if case not in often}
            found |= in_turns(once, 1, warm=False)
        samples = {case: [seconds for seconds, _ in pairs] for case, pairs in found.items()}
        for row in _rows(f"{size.bulk} MB {direction}", "s", _medians(samples)):
            goals = (Goal(0.45, FORCED),) if row.way in [way.name for way in usual] else ()
            results.rows.append(replace(row, goals=goals))
        spent = {case: [cpu * 1000 / size.bulk for _, cpu in pairs] for case, pairs in found.items() if case[0] != EXEC}
        results.rows += _rows(f"server's CPU, {direction}", "s/GB", _medians(spent))
    world.inside(f"rm {INSIDE}/zeros")
    source.unlink()


def _transfer(world: World, command: str, source: Path, name: str, way: Way) -> tuple[float, float]:
    """Seconds until it ended, and CPU seconds that the servers took for it. What `cat >` reads comes from `source`."""
    peer = world.peers[name]
    idle, before = len(world.servers.members()), world.servers.seconds()
    with (source if ">" in command else Path(os.devnull)).open("rb") as file:
        seconds = timed(peer.line(command.format(directory=peer.directory), way), stdin=file)
    world.servers.settled(idle)
    return seconds, world.servers.seconds() - before


def _speaks(peer: Peer, way: Way) -> bool:
    """Whether the peer has the cipher of this way, or it names none."""
    return not isinstance(peer, SshPeer) or way.name != ciphered(CHACHA).name or CHACHA in peer.ciphers


def sftp(world: World, size: Size, results: Results) -> None:
    """One large file by sftp, from memory to nowhere and back, so that no disk is measured."""
    source = world.scratch / "zeros"
    with source.open("wb") as file:
        file.truncate(size.sftp * MEGA)
    world.inside(f"truncate -s {size.sftp * MEGA} {INSIDE}/zeros")
    for verb in ("put", "get"):
        tasks = {}
        for name, way in _cases(world, without=(EXEC,)):
            peer = world.peers[name]
            assert isinstance(peer, SshPeer)
            typed = f"put {source} /dev/null\n" if verb == "put" else f"get {peer.directory}/zeros /dev/null\n"
            tasks[name, way] = partial(timed, peer.sftp(way), typed=typed.encode())
        samples = in_turns(tasks, size.repeats, warm=False)
        results.rows += _rows(f"sftp {verb}, {size.sftp} MB", "s", _medians(samples))
    world.inside(f"rm {INSIDE}/zeros")
    source.unlink()


def rsync(world: World, size: Size, results: Results) -> None:
    """Many small files by rsync into a directory that is not there."""
    source = world.scratch / "files"
    for number in range(size.files):
        directory = source / f"{number // 100:03}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number:05}.txt").write_bytes(f"{number}\n".encode() * 300)

    def copy(name: str, way: Way) -> float:
        remove()
        return timed(world.peers[name].rsync(way, f"{source}/", "copy"))

    def remove() -> None:
        world.inside(f"rm -rf {INSIDE}/copy")
        shutil.rmtree(world.scratch / "copy", ignore_errors=True)

    tasks = {case: partial(copy, *case) for case in _cases(world)}
    samples = in_turns(tasks, size.repeats)
    remove()
    shutil.rmtree(source)
    results.rows += _rows(f"rsync, {size.files} files", "s", _medians(samples), (Goal(0.8, FORCED),))


def flood(world: World, size: Size, results: Results) -> None:
    """`seq` on a terminal, as fast as it goes; every byte is counted."""
    text = sum(len(f"{number}\r\n") for number in range(1, size.lines + 1))

    def task(name: str, way: Way) -> float:
        command = world.peers[name].line(f"seq {size.lines}; echo end-of-flood", way, tty=True)
        seconds = _since()
        with Client(command, terminal=True) as client:
            found = client.until(b"end-of-flood\r\n")
            if len(found) != text + len(b"end-of-flood\r\n"):
                raise Failed(f"{name} delivered {len(found)} bytes of {text + len(b'end-of-flood') + 2}")
            return seconds()

    tasks = {case: partial(task, *case) for case in _cases(world)}
    samples = in_turns(tasks, size.repeats, warm=False)
    results.rows += _rows(f"seq {size.lines} on a terminal", "s", _medians(samples))


def _since() -> Callable[[], float]:
    """A stopwatch that runs."""
    begun = time.perf_counter()
    return lambda: time.perf_counter() - begun
