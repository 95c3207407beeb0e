"""The figures of the pages: how long the server takes for each while twenty people read, and what an open page costs.

    pages    20 readers, each with a second's thought between two pages ─► median and 99th percentile of each page
    crowd    20 readers without a thought ─► the same of all pages, and the server's CPU for one
    live     ten pages left open on a busy host, as the browser's script keeps them up to date ─► CPU of one

"Pages" is what the goal is about: people who read, each page as often as any other, the slowest with the rest. A crowd
without a thought is no people: twenty requests are always there, so each waits for nineteen others, and its times are
twenty times what the server takes for one. It is measured to know that.

A time is what a reader waits, from the request to the last byte of the answer, on this machine's loopback: the server's
own time, and the time that the request waits for others before it. `bare Flask` is the median of a page of 30 kB from
memory, through the same server, asked by the same readers in the same run.
"""

from __future__ import annotations

import http.client
import random
import re
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from html import unescape
from urllib.parse import urlencode

from bench.figures import Size
from bench.peers import BARE_PAGE, PAGES, SLOWEST
from bench.rows import Goal, Results, Row
from bench.turns import Failed
from bench.webworld import Asked, Reader, WebWorld

READERS = 20
THOUGHT = 1.0  # seconds between two pages of a reader, on average
MEDIAN_MAX, SLOWEST_MAX = 50, 150  # ms
LIVE_MAX = 1  # % of a core
OPEN_PAGES = 10
CALM = 5.0  # seconds after which a page without a stream looks by itself
APART, LONGEST_APART, SHARE = 0.8, 5.0, 150  # seconds between two looks of one, as in webadmin/static/app.js
GOALS = (Goal(MEDIAN_MAX), Goal(SLOWEST_MAX, of=SLOWEST))

Taken = dict[str, list[float]]


def pages(world: WebWorld, size: Size, results: Results) -> None:
    """Each page, while twenty people read with a second's thought between two pages."""
    way = f"{READERS} readers, {THOUGHT:g} s of thought"
    asked = world.pages
    taken = _read(world, asked, size.reading * len(asked), THOUGHT)
    bare = statistics.median(_read_bare(world, size.reading * 5, THOUGHT))
    for name, values in [("all pages", [t for times in taken.values() for t in times]), *sorted(taken.items())]:
        results.rows.append(Row(name, way, "ms", _values(values, bare), GOALS))
    missed = {page.name for page in asked} - taken.keys()
    if missed:
        raise Failed(f"Nobody came to read {', '.join(sorted(missed))}.")


def crowd(world: WebWorld, size: Size, results: Results) -> None:
    """All pages, while twenty people ask for the next as soon as they have one."""
    way = f"{READERS} readers without a pause"
    before = world.program.seconds()
    taken = _read(world, world.pages, size.reading * 5, 0.0)
    spent = world.program.seconds() - before
    every = [t for times in taken.values() for t in times]
    before = world.bare.seconds()
    bare = _read_bare(world, size.reading * 5, 0.0)
    bare_spent = world.bare.seconds() - before
    results.rows.append(Row("all pages", way, "ms", _values(every, statistics.median(bare))))
    cpu = {PAGES: spent / len(every) * 1000, BARE_PAGE: bare_spent / len(bare) * 1000}
    results.rows.append(Row("server's CPU for a page", way, "ms", cpu))


def live(world: WebWorld, size: Size, results: Results) -> None:
    """Pages left open while something happens on the host once a second: the server's CPU for one."""
    for page in world.pages:
        if page.path in ("/admin/", "/admin/overview", "/admin/workspaces", "/admin/jobs", "/me"):
            share = _open_pages(world, page, size.reading * 5)
            way = f"{OPEN_PAGES} open, an event each second"
            results.rows.append(Row(f"{page.name}, left open", way, "% of a core", {PAGES: share}, (Goal(LIVE_MAX),)))


def _values(seconds: list[float], bare: float) -> dict[str, float]:
    """Median and 99th percentile in ms."""
    slowest = sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.99))]
    return {PAGES: statistics.median(seconds) * 1000, SLOWEST: slowest * 1000, BARE_PAGE: bare * 1000}


def _read(world: WebWorld, asked: list[Asked], seconds: float, thought: float) -> Taken:
    taken: Taken = {}
    lock = threading.Lock()

    def turn(number: int) -> Callable[[], None]:
        draw = random.Random(number)
        readers = {who: world.reader(who) for who in world.cookies}
        left: list[Asked] = []

        def one() -> None:
            if not left:  # each page as often as any other, in another order each time
                left.extend(draw.sample(asked, len(asked)))
            page = left.pop()
            begun = time.perf_counter()
            status, _, _ = readers[page.who].get(page.path)
            passed = time.perf_counter() - begun
            if status != 200:
                raise Failed(f"{page.path}: {status}")
            with lock:
                taken.setdefault(page.name, []).append(passed)

        return one

    for page in asked:  # templates are compiled at the first look
        world.reader(page.who).get(page.path)
    _crowd([turn(number) for number in range(READERS)], seconds, thought)
    return taken


def _read_bare(world: WebWorld, seconds: float, thought: float) -> list[float]:
    taken: list[float] = []

    def turn() -> Callable[[], None]:
        reader = Reader(world.bare.port)

        def one() -> None:
            begun = time.perf_counter()
            reader.get("/")
            taken.append(time.perf_counter() - begun)

        return one

    _crowd([turn() for _ in range(READERS)], seconds, thought)
    return taken


def _crowd(turns: list[Callable[[], None]], seconds: float, thought: float) -> None:
    """Let each take its turns at once for so long, thinking between them for half to one and a half of `thought`."""
    until = time.monotonic() + seconds
    problems: list[Exception] = []

    def run(turn: Callable[[], None], number: int) -> None:
        draw = random.Random(1000 + number)
        time.sleep(draw.random() * thought)
        try:
            while time.monotonic() < until and not problems:
                turn()
                if thought:
                    time.sleep(thought * (0.5 + draw.random()))
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(turn, number)) for number, turn in enumerate(turns)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


# pages that stay open


def _open_pages(world: WebWorld, page: Asked, seconds: float) -> float:
    """Percent of a core that one of OPEN_PAGES costs, beside what the host's own events cost without any."""
    ended = threading.Event()
    ready = threading.Barrier(OPEN_PAGES + 1)
    problems: list[Exception] = []

    def keep() -> None:
        try:
            _keep_open(world.reader(page.who), page.path, ready, ended)
        except Exception as problem:
            problems.append(problem)
            ready.abort()

    threads = [threading.Thread(target=keep) for _ in range(OPEN_PAGES)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        ready.wait(60)
    before, begun = world.program.seconds(), time.monotonic()
    while time.monotonic() - begun < seconds and not problems:
        world.store.add_event("worker", "job.done", workspace="als/nobody")
        time.sleep(1.0)
    spent, passed = world.program.seconds() - before, time.monotonic() - begun
    ended.set()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return spent / passed / OPEN_PAGES * 100


def _keep_open(reader: Reader, path: str, ready: threading.Barrier, ended: threading.Event) -> None:
    """As the page's scripts do: a region is fetched again when the stream says so, or without one, now and then."""
    _, _, body = reader.get(path)
    text = body.decode()
    tags: dict[str, str] = {unescape(url): "" for url in re.findall(r'data-live="([^"]+)"', text)}
    apart = APART
    topics = sorted({topic for said in re.findall(r'data-topic="([^"]+)"', text) for topic in said.split()})
    stream = re.search(r'data-stream="([^"]+)"', text)

    def look() -> None:
        nonlocal apart
        apart = APART
        for url, tag in tags.items():
            headers = {"X-Fragment": "1"} | ({"If-None-Match": tag} if tag else {})
            status, answered, _ = reader.get(url, headers)
            if status not in (200, 304):
                raise Failed(f"{url}: {status}")
            tags[url] = answered.get("ETag", "")
            took = re.search(r"cpu;dur=([0-9.]+)", answered.get("Server-Timing", ""))
            apart = min(LONGEST_APART, max(apart, float(took[1]) / 1000 * SHARE if took else 0.0))

    look()
    if not (stream and topics):
        ready.wait(60)
        while not ended.wait(CALM):
            look()
        return
    version = re.search(r'data-version="([^"]*)"', text)
    query = urlencode([*(("topic", topic) for topic in topics), ("since", version[1] if version else "")])
    answer = reader.open(f"{unescape(stream[1])}?{query}", {"X-Fragment": "1"})
    if answer.status != 200:
        raise Failed(f"{stream[1]}: {answer.status}")
    ready.wait(60)
    watch = threading.Thread(target=_hang_up, args=(answer, ended))
    watch.start()
    looked = time.monotonic()
    with suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
        while not ended.is_set():
            line = answer.readline()
            if not line:
                break
            if line.strip() == b"event: changed":
                ended.wait(max(0.0, looked + apart - time.monotonic()))
                looked = time.monotonic()
                look()
    watch.join()


def _hang_up(answer: http.client.HTTPResponse, ended: threading.Event) -> None:
    """Wake whoever reads the answer when it is over."""
    ended.wait()
    with suppress(OSError, AttributeError):
        raw = answer.fp.raw._sock  # type: ignore[attr-defined]
        raw.shutdown(2)
