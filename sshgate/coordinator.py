"""The gateway's first process: it listens, hands each connection to a worker, and keeps what all workers share.

    client ──► accept (accept.py) ──► worker with the fewest connections, as a descriptor over a socket pair (link.py)
    worker ──► questions and news ──► Keeper (limits), Attending (`snapshot` inside workspaces)
    a worker that dies ──► what it held is free again; another one is started, and gets what it had not yet taken

Workers do not share the port by SO_REUSEPORT: there the kernel deals connections out by hash, so a worker that is busy,
stuck or starting again would hold up its part of all logins, and whoever is one too many would be counted only
after a worker had accepted them.

SIGHUP, takeover by a new version: a trial start of it ──► this process replaces itself (same id, same descriptors) ──►
new workers start ──► once all are ready, the old ones are given nobody more, and end when their last client leaves.
SIGTERM: nobody more is accepted, open sessions get half a minute; a second one ends all at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sshgate.accept import Acceptor, listen_on
from sshgate.attend import Attending
from sshgate.hostkey import load_host_keys
from sshgate.keeper import Keeper
from sshgate.link import Link, Message
from sshgate.records import end_sessions, end_sessions_of
from sshgate.spawn import spawn
from sshgate.takeover import SIGNALS, Kept, KeptWorker, hold_signals, trial
from workspaces.errors import HostError, WorkspacesError
from workspaces.lifecycle import Lifecycle
from workspaces.settings import Settings
from workspaces.store import Store

log = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
END_SECONDS = 10.0  # for a worker that was told to end, or that closed its link; then it is killed
LONGEST_PAUSE = 30.0
FLUSH_SECONDS = 2.0


@dataclass(eq=False)
class Worker:
    """One worker process. `slot` is None for those of an earlier version."""

    pid: int
    slot: Slot | None
    handle: int  # pidfd
    process: str = ""  # what it calls itself in the store, once it is ready
    link: Link = field(init=False)
    ready: bool = False
    reported: bool = True  # False until one that was taken over has said what it holds
    retiring: bool = False
    started: float = field(default_factory=time.monotonic)
    handed: int = 0  # connections, ever
    numbers: set[int] = field(default_factory=set)
    untaken: dict[int, socket.socket] = field(default_factory=dict)


@dataclass(eq=False)
class Slot:
    """The place of one worker, which is filled again when it dies."""

    worker: Worker | None = None
    failures: int = 0


class Coordinator:
    """Made on the event loop; `kept` is what an earlier version of this process left."""

    def __init__(self, settings: Settings, store: Store, kept: Kept | None) -> None:
        self._settings = settings
        self._store = store
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self._keeper = Keeper(self._drop, kept.next_number if kept else 1)
        self._workers: set[Worker] = set()
        self._nobodys: list[tuple[socket.socket, int]] = []  # connections that no worker is there for
        self._slots = [Slot() for _ in range(settings.gateway_processes or len(os.sched_getaffinity(0)))]
        self._opening = ThreadPoolExecutor(1, "open")
        self._attending: asyncio.Future[Attending] = self._loop.create_future()
        self._last_users = dict(kept.last_users) if kept else {}
        self._answers: set[asyncio.Task[None]] = set()
        self._all_ready: asyncio.Future[None] = self._loop.create_future()
        self._changed = asyncio.Event()
        self._stops = 0
        self._renewing: asyncio.Task[None] | None = None
        self._renewed = False

    async def run(self, open_lifecycle: Callable[[], Lifecycle], ready: Callable[[str, int], None]) -> Kept | None:
        """Until SIGTERM (None), or until a new version shall take over what is returned. Raises HostError and its like.

        `open_lifecycle` may block; `ready` gets address and port when all workers accept, but not after a takeover.
        """
        self._listen, sockets = self._sockets()
        self._acceptor = Acceptor(sockets, self._keeper, self._hand)
        try:
            for number in SIGNALS:
                self._loop.add_signal_handler(number, self._signalled, number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a takeover blocks them
            for old in self._kept.workers if self._kept else ():
                self._adopt(old)
            starting = asyncio.create_task(self._start(open_lifecycle))
            starting.add_done_callback(lambda _: self._changed.set())
            await self._until(lambda: self._stops > 0 or self._renewed or starting.done())
            if starting.done():
                starting.result()
                if self._kept is None:
                    ready(self._listen[0], self._acceptor.sockets[0].getsockname()[1])
            starting.cancel()
            await self._until(lambda: self._stops > 0 or self._renewed)
            if self._renewed:
                return await self._keep()
            await self._drain()
        finally:
            self._acceptor.close()
            await self._end()
        return None

    def _sockets(self) -> tuple[tuple[str, int], Sequence[socket.socket]]:
        """The address, and what listens there: of before, unless the address is another one now and can be had."""
        listen, kept = self._settings.gateway_listen, self._kept
        if kept is None:
            return listen, listen_on(*listen)
        if kept.listen != listen:
            try:
                made = listen_on(*listen)
            except HostError as error:
                log.error("%s Still listening on %s:%d.", error.message, *kept.listen)
            else:
                for sock in kept.sockets:
                    sock.close()
                return listen, made
        return kept.listen, kept.sockets

    async def _start(self, open_lifecycle: Callable[[], Lifecycle]) -> None:
        """Start all workers. After a takeover, whatever fails is tried again while the old ones go on."""
        pause = 1.0
        while True:
            try:
                keys = await self._loop.run_in_executor(self._opening, load_host_keys, self._settings.keys)
                lifecycle = await self._loop.run_in_executor(self._opening, open_lifecycle)
                break
            except WorkspacesError as error:
                if self._kept is None:
                    raise
                log.error("%s %s; the workers of before go on", error.message, error.hint)
            except Exception:
                if self._kept is None:
                    raise
                log.exception("the engine cannot be opened; the workers of before go on")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
        if self._kept is None:
            await self._loop.run_in_executor(self._opening, end_sessions, self._store, self._settings.locks)
        self._opening.shutdown(wait=False)
        self._attending.set_result(Attending(self._store, lifecycle, self._last_users))
        self._keys = keys.pack()
        for slot in self._slots:
            self._fill(slot)
        await self._all_ready
        log.info("%d workers, listening on %s port %d", len(self._slots), *self._listen)
        for worker in self._workers:
            if worker.slot is None:
                worker.retiring = True
                worker.link.send(do="retire")

    # --- workers ---

    def _fill(self, slot: Slot) -> None:
        if self._stops or self._renewed:
            return
        try:
            pid, handle, sock = spawn(self._settings.home, self._keys)
        except OSError as error:
            slot.failures += 1
            self._fill_again(slot, f"A worker of the gateway cannot be started: {error.strerror}.")
        else:
            slot.worker = self._know(Worker(pid, slot, handle), sock)

    def _fill_again(self, slot: Slot, why: str) -> None:
        """After a pause, unless this is a first start: that one fails."""
        if not self._all_ready.done() and self._kept is None:
            self._all_ready.set_exception(HostError(why))
            return
        pause = min(LONGEST_PAUSE, 2.0 ** (slot.failures - 2)) if slot.failures > 1 else 0.0
        log.error("%s Another starts in %.0f s", why, pause)
        self._loop.call_later(pause, self._fill, slot)

    def _adopt(self, old: KeptWorker) -> None:
        handle = os.pidfd_open(old.pid)
        adopted = Worker(old.pid, None, handle, old.process, reported=False, retiring=old.retiring)
        worker = self._know(adopted, old.socket)
        worker.link.send(do="report")

    def _know(self, worker: Worker, sock: socket.socket) -> Worker:
        def heard(message: Message, descriptors: list[int]) -> None:
            del descriptors  # a worker sends none
            self._heard(worker, message)

        def lost() -> None:
            worker.ready = False
            self._loop.call_later(END_SECONDS, self._kill, worker)

        worker.link = Link(sock, heard, lost)
        self._loop.add_reader(worker.handle, self._died, worker)
        self._workers.add(worker)
        return worker

    def _kill(self, worker: Worker) -> None:
        if worker in self._workers:
            log.error("worker %d does not end; killed", worker.pid)
            signal.pidfd_send_signal(worker.handle, signal.SIGKILL)

    def _died(self, worker: Worker) -> None:
        """Its process ended: free what it held, and start another in its place."""
        status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        self._loop.remove_reader(worker.handle)
        os.close(worker.handle)
        worker.link.finish()  # it may have said why
        self._workers.discard(worker)
        if worker.process:
            self._loop.run_in_executor(None, end_sessions_of, self._store, self._settings.locks, worker.process)
        for number in worker.numbers - worker.untaken.keys():
            self._keeper.left(number)
        slot = worker.slot
        if slot is not None and not self._stops:
            slot.worker = None
            short = time.monotonic() - worker.started < LONGEST_PAUSE
            slot.failures = slot.failures + 1 if short else 0
            self._fill_again(slot, f"Worker {worker.pid} of the gateway ended with status {status}.")
        else:
            log.info("worker %d ended", worker.pid)
        untaken, worker.untaken = worker.untaken, {}
        for number, sock in untaken.items():
            self._hand(sock, number)
        self._see_who_accepts()

    def _takers(self) -> list[Worker]:
        """Workers that may be given connections: those of this version, and until one is ready, those of before."""
        ready = [worker for worker in self._workers if worker.ready and not worker.retiring]
        return [worker for worker in ready if worker.slot] or ready

    def _hand(self, sock: socket.socket, number: int) -> None:
        takers = self._takers()
        if not takers:
            self._nobodys.append((sock, number))
            return
        worker = min(takers, key=lambda taker: (len(taker.untaken), len(taker.numbers), taker.handed))
        worker.handed += 1
        worker.numbers.add(number)
        worker.untaken[number] = sock
        worker.link.send(do="connection", n=number, fd=sock.fileno())

    def _drop(self, number: int) -> None:
        """End a connection that has not logged in, wherever it is."""
        for worker in self._workers:
            if number in worker.numbers:
                worker.link.send(do="drop", n=number)
        for waiting in [nobodys for nobodys in self._nobodys if nobodys[1] == number]:
            self._nobodys.remove(waiting)
            waiting[0].close()

    def _see_who_accepts(self) -> None:
        self._changed.set()
        if self._takers() and not self._renewed:
            nobodys, self._nobodys = self._nobodys, []
            for sock, number in nobodys:
                self._hand(sock, number)
            self._acceptor.resume()
        else:
            self._acceptor.pause()

    # --- what workers say ---

    def _heard(self, worker: Worker, message: Message) -> None:
        do = message["do"]
        if not worker.reported:
            if do == "rows":
                for number, *held in message["rows"]:
                    worker.numbers.add(number)
                    self._keeper.restore(number, *held)
            worker.reported = do == "reported"
            return
        match do:
            case "taken":
                worker.untaken.pop(message["n"]).close()
            case "refused":
                worker.untaken.pop(message["n"]).close()
                worker.numbers.discard(message["n"])
                self._keeper.left(message["n"])
            case "authenticated":
                self._answer(worker, message, self._keeper.authenticated(message["n"], message["account"]))
            case "sessions":
                self._answer(worker, message, self._keeper.sessions(message["n"], message["count"]))
            case "streams":
                self._answer(worker, message, self._keeper.streams(message["n"], message["count"]))
            case "guess":
                self._answer(worker, message, self._keeper.guess(message["account"], message["address"]))
            case "too_many_codes":
                self._answer(worker, message, self._keeper.too_many_codes(message["account"]))
            case "attend":
                task = asyncio.create_task(self._attend(worker, message))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
            case "where":
                known = self._attending.result().where(message["workspace"]) if self._attending.done() else None
                self._answer(worker, message, known and str(known))
            case "right":
                self._keeper.right(message["account"], message["address"])
            case "wrong_code":
                self._keeper.wrong_code(message["account"])
            case "fewer":
                self._keeper.fewer(message["n"], message["count"])
            case "fewer_streams":
                self._keeper.fewer_streams(message["n"], message["count"])
            case "left":
                worker.numbers.discard(message["n"])
                self._keeper.left(message["n"])
            case "ready":
                worker.ready = True
                worker.process = message["process"]
                complete = all(slot.worker is not None and slot.worker.ready for slot in self._slots)
                if complete and not self._all_ready.done():
                    self._all_ready.set_result(None)
                self._see_who_accepts()
            case "failed":
                error = HostError(message["message"], message["hint"])
                log.error("worker %d: %s", worker.pid, error.message)
                if not self._all_ready.done() and self._kept is None:
                    self._all_ready.set_exception(error)

    def _answer(self, worker: Worker, message: Message, answer: object) -> None:
        worker.link.send(**{"do": "answer", "id": message["id"], "is": answer})

    async def _attend(self, worker: Worker, message: Message) -> None:
        if self._attending.done():
            await self._attending.result().attend(message["workspace"], Path(message["socket"]), message["user"])
        else:  # workers of before need not wait for an engine that is away
            self._last_users[message["workspace"]] = message["user"]
        self._answer(worker, message, None)

    # --- the end ---

    def _signalled(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stops += 1
        elif self._kept is None and not self._all_ready.done():
            log.info("no takeover, since this version is not ready yet")
        elif self._renewing is None and not self._stops:
            self._renewing = asyncio.create_task(self._renew())
        self._changed.set()

    async def _renew(self) -> None:
        """See whether a new version would start, before this one gives up its place."""
        try:
            refusal = await trial()
            if refusal is None:
                self._renewed = not self._stops
            else:
                log.error("what is installed now does not start, so this goes on:\n%s", refusal)
        finally:
            self._renewing = None
            self._changed.set()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._changed.clear()
            await self._changed.wait()

    async def _keep(self) -> Kept:
        """What the next version of this process goes on with. The workers go on meanwhile; nobody is accepted."""
        self._acceptor.pause()
        while True:
            await self._until(lambda: not any(worker.link.closed for worker in self._workers))  # they are about to end
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await asyncio.gather(*(worker.link.flushed() for worker in self._workers))
            except TimeoutError:
                log.error("a worker takes no messages; connections on their way to it are lost")
            if not any(worker.link.closed for worker in self._workers):  # nor did one end meanwhile
                break
        kept = tuple(
            KeptWorker(worker.pid, worker.process, socket.socket(fileno=os.dup(worker.link.fileno())), worker.retiring)
            for worker in self._workers
        )
        sockets = [sock.dup() for sock in self._acceptor.sockets]
        users = self._attending.result().last_users if self._attending.done() else self._last_users
        return Kept(self._listen, sockets, self._keeper.next_number, kept, users)

    async def _drain(self) -> None:
        log.info("draining")
        self._acceptor.close()
        for worker in self._workers:
            worker.link.send(do="drain", seconds=DRAIN_SECONDS)
        await self._gone(DRAIN_SECONDS + END_SECONDS, lambda: self._stops > 1)

    async def _end(self) -> None:
        """Let go of everything; of the workers as well, unless they are kept."""
        if self._renewed:
            hold_signals()
            if self._stops:  # too late for this version: the next one gets it
                signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            for worker in self._workers:
                worker.link.close()
                self._loop.remove_reader(worker.handle)
        else:
            self._stops += 1
            for worker in self._workers:
                worker.link.send(do="stop")
            await self._gone(END_SECONDS, lambda: False)
            for worker in self._workers:
                self._kill(worker)
            await self._gone(END_SECONDS, lambda: False)
            log.info("ended")
        if self._attending.done():
            await self._attending.result().close()
        self._opening.shutdown(wait=False, cancel_futures=True)

    async def _gone(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Wait until all workers have ended, or `enough`, or for `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._until(lambda: not self._workers or enough())
        except TimeoutError:
            log.error("%d workers are still there", len(self._workers))
