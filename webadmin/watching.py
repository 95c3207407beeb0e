"""Tells open pages that what they show has changed: one look at the store for all of them.

    every LOOK_SECONDS, or ten times as long as the last look took,
                        has the store another version? ─► a token for each topic that somebody follows (store/topics.py)
                        ─► whose token is another one: its followers, a little apart from each other
    in a thread of its own, and only while somebody follows

A follower is a page's event stream (following.py) or a web terminal, which follows `account` alone: when that changes,
it is asked again whether it may go on. So it is after ASK_SECONDS at the latest, if anything in the store has changed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from workspaces.errors import WorkspacesError
from workspaces.store import Store
from workspaces.store.topics import PERSONAL, split_topic

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.4
LOOK_SHARE = 10  # times what a look took, until the next one
ASK_SECONDS = 20.0
SPREAD_SECONDS = 0.01  # for each follower of a topic: so long it takes until all have been told
SPREAD_MAX = 5.0
EACH_MAX = 24  # followers of one person
ALL_MAX = 2000

PROCESS = secrets.token_hex(4)  # the store's versions of another process are another count

Key = tuple[str, str]  # topic, and whose it is when that matters


@dataclass(eq=False)
class Follower:
    """Who wants to know. `wake` is set when `changed` is not empty, or when `ask` says that rights must be asked."""

    name: str
    topics: frozenset[str]
    changed: set[str] = field(default_factory=set)
    ask: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def pairs(self) -> Iterable[Key]:
        return ((topic, self.name if split_topic(topic)[0] in PERSONAL else "") for topic in self.topics)

    async def news(self, seconds: float) -> tuple[set[str], bool]:
        """What has changed since the last call, and whether to ask again; empty after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return set(), False
        changed, ask = self.changed, self.ask
        self.changed, self.ask = set(), False
        self.wake.clear()
        return changed, ask

    def tell(self, topic: str) -> None:
        if split_topic(topic)[0] == "account":
            self.ask = True
        else:
            self.changed.add(topic)
        self.wake.set()


class Watching:
    """All followers of one process. Its methods belong to the event loop, but for `full`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(1, "watch")
        self._followers: dict[Follower, float] = {}  # and when each was last asked
        self._tokens: dict[Key, str] = {}
        self._people: Counter[str] = Counter()
        self._changed_at = 0.0
        self._took = 0.0  # seconds of a processor, for the last look at all topics
        self._task: asyncio.Task[None] | None = None

    def full(self, name: str) -> bool:
        """Whether there are as many as there may be, of that person or in all. From any thread."""
        return self._people[name] >= EACH_MAX or self._people.total() >= ALL_MAX

    def version(self) -> str:
        """Names the state of the store, in this process: another one after any change."""
        return f"{PROCESS}-{self._store.data_version()}"

    async def follow(self, name: str, topics: Iterable[str]) -> Follower:
        """A follower, to be given back to `leave`; what changes from now on is told."""
        follower = Follower(name, frozenset({*topics, "account"}))
        self._people[name] += 1
        self._followers[follower] = time.monotonic()
        try:
            new = [key for key in follower.pairs() if key not in self._tokens]
            tokens, _ = await self._in_thread(new)
            for key, token in tokens.items():
                self._tokens.setdefault(key, token)
        except BaseException:
            self.leave(follower)
            raise
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        return follower

    def leave(self, follower: Follower) -> None:
        if self._followers.pop(follower, None) is not None:
            self._people[follower.name] -= 1
            if not self._people[follower.name]:
                del self._people[follower.name]

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._pool.shutdown(wait=False)

    async def _watch(self) -> None:
        seen, answers = None, True
        while self._followers:
            try:
                version = await asyncio.get_running_loop().run_in_executor(self._pool, self._store.data_version)
                if version != seen:
                    await self._round()
                    seen, self._changed_at = version, time.monotonic()
                answers = True
            except WorkspacesError as error:
                if answers:
                    log.error("open pages are not kept up to date: %s", error.message)
                answers = False
            self._ask_some()
            await asyncio.sleep(max(LOOK_SECONDS, LOOK_SHARE * self._took))
        self._tokens.clear()

    async def _round(self) -> None:
        """Look at every topic, and tell the followers of those that have changed."""
        tokens, self._took = await self._in_thread(self._by_key())
        before, followed = self._tokens, self._by_key()  # some may have come meanwhile
        self._tokens = {key: token for key, token in {**before, **tokens}.items() if key in followed}
        loop = asyncio.get_running_loop()
        for key, followers in followed.items():
            if key not in tokens or before.get(key, tokens[key]) == tokens[key]:
                continue
            spread = min(SPREAD_MAX, SPREAD_SECONDS * (len(followers) - 1))
            for follower in followers:
                loop.call_later(random.uniform(0, spread), follower.tell, key[0])  # noqa: S311

    def _by_key(self) -> dict[Key, list[Follower]]:
        found: dict[Key, list[Follower]] = {}
        for follower in self._followers:
            for key in follower.pairs():
                found.setdefault(key, []).append(follower)
        return found

    def _ask_some(self) -> None:
        """Those that have not been asked for long: what ended their right may be something that no topic tells."""
        now = time.monotonic()
        for follower, asked in self._followers.items():
            if asked < self._changed_at and now - asked > ASK_SECONDS:
                self._followers[follower] = now + random.uniform(0, ASK_SECONDS / 4)  # noqa: S311
                follower.tell("account")

    async def _in_thread(self, keys: Iterable[Key]) -> tuple[dict[Key, str], float]:
        """Their tokens, and how much of a processor's time that took."""
        wanted = list(keys)

        def look() -> tuple[dict[Key, str], float]:
            begun = time.thread_time()
            tokens = {key: self._store.topic_token(*key) for key in wanted}
            return tokens, time.thread_time() - begun

        return await asyncio.get_running_loop().run_in_executor(self._pool, look)
