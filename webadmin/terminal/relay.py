"""Carries a terminal's bytes between a websocket and an ssh channel, so that neither end can fill this process.

    browser ── {"open": [columns, rows]} ─► ; then, either way, binary messages are bytes and texts are JSON:
            ── {"resize": [columns, rows]}, {"ack": n} ─►     ◄─ {"ack": n}, {"exit": status}, {"error": code} ──

So many bytes may be under way that the other side has not acknowledged: OUTPUT to the browser, which acknowledges what
its terminal has shown, INPUT to the process. So what fills up is the pipe of the program that writes, or the page that
pastes, and an acknowledgement never waits behind bytes that nobody takes. All terminals together share RATE.

ssh blocks (paramiko), so each terminal has a thread that reads and one that writes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import paramiko

from webadmin.serving.handover import Gone, Socket
from webadmin.terminal.door import Door, NotLetIn
from webadmin.watching import Watching
from workspaces.errors import StoreError, WorkspacesError

log = logging.getLogger(__name__)
T = TypeVar("T")

OUTPUT = 256 << 10
INPUT = 64 << 10
PIECE = 32 << 10  # bytes read at once
RATE = 12 << 20  # bytes a second, of all terminals
BURST = 4 << 20
EACH_MAX = 8  # terminals of one person
ALL_MAX = 100
OPENING_SECONDS = 20.0  # for the page's first message
LOOK_SECONDS = 30.0
TOUCH_SECONDS = 60.0  # between two notes that somebody types
SIZE_MAX = 1000
POLICY_VIOLATION, TRY_AGAIN, SIGNED_OUT, NOT_OPENED = 1008, 1013, 4401, 4403


class Broken(Exception):
    """The page did not keep to the rules above."""


class Terminals:
    """Those of this process, and what they share. Its methods belong to the event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2 * ALL_MAX + 8, "terminal")
        self._people: Counter[str] = Counter()
        self._free_at = 0.0

    def enter(self, name: str) -> bool:
        """Whether that person may have one more; then `leave` is due."""
        if self._people[name] >= EACH_MAX or self._people.total() >= ALL_MAX:
            return False
        self._people[name] += 1
        return True

    def leave(self, name: str) -> None:
        self._people[name] -= 1
        if not self._people[name]:
            del self._people[name]

    async def pace(self, size: int) -> None:
        """Wait until so many bytes more are within RATE."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - BURST / RATE) + size / RATE
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args))

    def later(self, function: Callable[[], object]) -> None:
        """Run what blocks, and wait for nothing."""
        self._pool.submit(function)


async def talk(terminals: Terminals, watching: Watching, door: Door, touch: Callable[[], None], socket: Socket) -> None:
    """One terminal, from its page's first message to the end. `touch` notes that somebody types; it blocks."""
    if not terminals.enter(door.name):
        await _end(socket, "many", TRY_AGAIN)
        return
    try:
        await _Talk(terminals, watching, door, touch, socket).run()
    finally:
        terminals.leave(door.name)


async def _end(socket: Socket, error: str, code: int) -> None:
    with suppress(Gone):
        await socket.send(json.dumps({"error": error}))
    await socket.close(code, error)


class _Talk:
    def __init__(
        self, terminals: Terminals, watching: Watching, door: Door, touch: Callable[[], None], socket: Socket
    ) -> None:
        self._terminals, self._watching, self._door = terminals, watching, door
        self._touch, self._socket = touch, socket
        self._loop = asyncio.get_running_loop()
        self._shown = 0  # bytes sent to the browser that it has not acknowledged
        self._acknowledged = asyncio.Event()
        self._typed = 0  # bytes of the browser that the process has not taken
        self._input: asyncio.Queue[bytes] = asyncio.Queue()
        self._touched = 0.0
        self._over = False
        self._channel: paramiko.Channel

    async def run(self) -> None:
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                columns, rows = _size(_command(await self._socket.receive()), "open")
            transport, self._channel = await self._terminals.run(self._door.open, columns, rows)
        except (Gone, Broken, TimeoutError):
            await self._socket.close(POLICY_VIOLATION, "broken")
            return
        except WorkspacesError as error:
            log.error("no terminal for %s in %s: %s", self._door.name, self._door.ref, error.message)
            await _end(self._socket, error.code if isinstance(error, NotLetIn) else "gateway", NOT_OPENED)
            return
        try:
            await self._carry()
        finally:
            self._over = True
            self._acknowledged.set()
            self._terminals.later(transport.close)

    async def _carry(self) -> None:
        """Until one of these ends, which ends the others."""
        ways: tuple[Awaitable[None], ...] = (self._output(), self._write(), self._receive(), self._look())
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Gone:
            pass
        except Broken:
            await _end(self._socket, "broken", POLICY_VIOLATION)
        except (OSError, EOFError, paramiko.SSHException):  # the gateway went away while it was written to
            await _end(self._socket, "gateway", NOT_OPENED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # what the process writes

    async def _output(self) -> None:
        status = await self._terminals.run(self._read)
        with suppress(Gone):
            await self._socket.send(json.dumps({"exit": status}))
        await self._socket.close(1000, "exit")

    def _read(self) -> int:
        """In a thread of its own, until the process has ended; its exit status, -1 when the connection was lost."""
        while data := self._channel.recv(PIECE):
            asyncio.run_coroutine_threadsafe(self._show(data), self._loop).result()
        return self._channel.recv_exit_status()

    async def _show(self, data: bytes) -> None:
        await self._terminals.pace(len(data))
        while self._shown and self._shown + len(data) > OUTPUT and not self._over:
            self._acknowledged.clear()
            await self._acknowledged.wait()
        if self._over:
            raise Gone
        self._shown += len(data)
        await self._socket.send(data)

    # what the person types

    async def _write(self) -> None:
        while True:
            data = await self._input.get()
            await self._terminals.run(self._channel.sendall, data)
            self._typed -= len(data)
            await self._socket.send(json.dumps({"ack": len(data)}))
            if time.monotonic() - self._touched > TOUCH_SECONDS:
                self._touched = time.monotonic()
                with suppress(StoreError):
                    await self._terminals.run(self._touch)

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if isinstance(message, bytes):
                self._typed += len(message)
                if self._typed > INPUT:
                    raise Broken
                self._input.put_nowait(message)
                continue
            command = _command(message)
            if "ack" in command:
                self._acknowledge(command["ack"])
            else:
                columns, rows = _size(command, "resize")
                await self._terminals.run(self._channel.resize_pty, columns, rows)

    def _acknowledge(self, size: object) -> None:
        if type(size) is not int or not 0 < size <= self._shown:
            raise Broken
        self._shown -= size
        self._acknowledged.set()

    # whether the person may still be here

    async def _look(self) -> None:
        follower = await self._watching.follow(self._door.name, ())
        try:
            while True:
                _, ask = await follower.news(LOOK_SECONDS)
                if ask and not await self._socket.allowed():
                    await _end(self._socket, "over", SIGNED_OUT)
                    return
        finally:
            self._watching.leave(follower)


def _command(message: bytes | str) -> dict[str, Any]:
    """A message in JSON. Raises Broken."""
    if isinstance(message, bytes) or len(message) > 200:
        raise Broken
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise Broken from None
    if not isinstance(found, dict) or len(found) != 1:
        raise Broken
    return found


def _size(command: dict[str, Any], name: str) -> tuple[int, int]:
    """Columns and rows, of which a terminal has at least one. Raises Broken."""
    size = command.get(name)
    if not isinstance(size, list) or len(size) != 2 or not all(type(number) is int for number in size):
        raise Broken
    columns, rows = (max(1, min(SIZE_MAX, number)) for number in size)
    return columns, rows
