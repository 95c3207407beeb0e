"""One of the gateway's worker processes; the coordinator starts it: `python -m sshgate.worker HOME DESCRIPTOR KEYS`.

    coordinator ──► connection + descriptor ──► Gate.take ──► "taken", or "refused"
                ──► drop:   end a connection that has not logged in; its place is somebody else's
                ──► retire: serve whoever is here until they leave, and end
                ──► drain:  give them some seconds, and end
                ──► stop, or no coordinator any more: end at once

It has the end of a socket pair (link.py) and decides nothing about its own life: SIGTERM and SIGINT, which a service
manager or a terminal sends to all processes at once, are left to the coordinator.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncssh

from sshgate.hostkey import HostKeys
from sshgate.link import Link, Message
from sshgate.recorder import Bounds, Recorder
from sshgate.records import show_alive
from sshgate.remote import Remote, Row
from sshgate.server import Gate
from workspaces import settings
from workspaces.engine import open_engine
from workspaces.errors import WorkspacesError
from workspaces.lifecycle import Lifecycle
from workspaces.store import Store

log = logging.getLogger("sshgate.worker")


class Worker:
    """Carries out what the coordinator says, until it says to end."""

    def __init__(
        self, sock: socket.socket, store: Store, lifecycle: Lifecycle, locks: Path, recorder: Recorder
    ) -> None:
        self._link = Link(sock, self._heard, self._lost)
        self._remote = Remote(self._link)
        self._gate = Gate(store, lifecycle, self._remote, recorder)
        show_alive(locks, self._gate.records.process)
        self._ending: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self, keys: HostKeys) -> None:
        await self._gate.open(keys)
        self._opened.set()
        log.info("ready, host key %s", keys.current.get_fingerprint())
        self._ready()
        await self._ended.wait()
        await self._gate.close()
        self._link.close()

    def _heard(self, message: Message, descriptors: list[int]) -> None:
        match message["do"]:
            case "connection":
                self._take(message["n"], descriptors)
            case "drop":
                self._gate.drop(message["n"])
            case "answer":
                self._remote.answered(message)
            case "report":
                self._reporting = asyncio.create_task(self._report())
            case "retire":
                self._end(self._gate.retire())
            case "drain":
                self._end(self._gate.drain(message["seconds"]))
            case "stop":
                self._ended.set()

    def _take(self, number: int, descriptors: list[int]) -> None:
        if not descriptors:  # the kernel drops what it cannot give a number
            log.error("a connection is refused: this worker has no descriptor left")
            self._link.send(do="refused", n=number)
            return
        sock = socket.socket(fileno=descriptors[0])
        try:
            sock.setblocking(False)
            self._gate.take(sock, number)
        except Exception:
            log.exception("a connection is refused")
            sock.close()
            self._link.send(do="refused", n=number)
        else:
            self._link.send(do="taken", n=number)

    def _lost(self) -> None:
        log.error("the gateway's coordinator is gone; this worker ends")
        self._ended.set()

    async def _report(self) -> None:
        await self._opened.wait()
        await self._gate.arrived()
        self._remote.report(self._rows())
        self._ready()

    def _ready(self) -> None:
        self._link.send(do="ready", process=self._gate.records.process)

    def _rows(self) -> Iterator[Row]:
        for server in self._gate.servers:
            yield (
                server.connection.number,
                server.address,
                server.user,
                server.open_sessions(),
                server.forwarding.room.taken,
            )

    def _end(self, way: Coroutine[Any, Any, None]) -> None:
        """End when `way` has come to its end; a later one takes its place."""

        async def go() -> None:
            await way
            self._ended.set()

        if self._ending:
            self._ending.cancel()
        self._ending = asyncio.create_task(go())


def main(home: Path, descriptor: int, keys_descriptor: int) -> None:
    """Run a worker of state directory `home` until the coordinator ends it."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s gateway-worker[%(process)d] %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    asyncssh.set_log_level(logging.WARNING)
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    with open(keys_descriptor, "rb") as file:
        keys = HostKeys.unpack(file.read())

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, lambda: None)
        recorder = Recorder(found.recordings, Bounds(found.recording_size))
        await Worker(sock, store, Lifecycle(store, engine, found.locks), found.locks, recorder).run(keys)

    with ExitStack() as stack:
        try:
            found = settings.load(home)
            store = Store.open(found.database)
            stack.callback(store.close)
            engine = open_engine(found, store.instance, start=False)
            stack.callback(engine.close)
        except WorkspacesError as error:
            sock.send(json.dumps([{"do": "failed", "message": error.message, "hint": error.hint}]).encode("ascii"))
            sys.exit(error.exit_status)
        asyncio.run(run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
