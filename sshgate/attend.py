"""Answers what people ask inside their workspaces: `snapshot -m TEXT …`, `snapshot list`, `snapshot withdraw`.

    snapshot ──► agent ──► attendance ──► Asking.answer() in a thread ──► store
                 one per running workspace, kept by `Attending`, which looks every few seconds which ones run

All of it is in the gateway's coordinator, since an agent knows one attendance only; a worker says who begins a
session where, and waits until that workspace is attended. One is attended although nobody is logged in: a script
under nohup may ask too. What is asked is hostile text, and comes no faster than a person asks.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from sshgate import texts
from sshgate.takeover import hold_signals
from workspaces.commands import named_command
from workspaces.errors import GuestError, NotFound, UsageError, WorkspacesError
from workspaces.guest.client import Ask, Attendance, GuestClient
from workspaces.lifecycle import Lifecycle
from workspaces.model import SnapshotState, Workspace, WorkspaceState
from workspaces.names import printable
from workspaces.store import Store
from workspaces.throttle import Buckets, Rate

log = logging.getLogger(__name__)

ASK_RATE = Rate(20, 1)
LIST_MAX = 50
OPTIONS = {"-m": "--message", "--message": "--message", "--cmd": "--cmd", "--entrypoint": "--entrypoint"}
OFFER_SECONDS = 2.0
WATCH_SECONDS = 2.0
LOOK_SECONDS = 5.0  # for a question that the engine answers from what it knows


@dataclass(frozen=True, slots=True)
class Asking:
    """What one workspace's people may do with its snapshots. Blocks on the store."""

    store: Store
    workspace_id: int

    def answer(self, args: Sequence[str], actor: str) -> tuple[int, str]:
        """Exit status and text for `snapshot ARGS…`, asked by member `actor`."""
        try:
            return 0, self._do(args, actor)
        except UsageError as error:
            return error.exit_status, f"snapshot: {error.message}\n{texts.SNAPSHOT_HELP}"
        except WorkspacesError as error:
            return error.exit_status, f"snapshot: {texts.failure(error)}"

    def _do(self, args: Sequence[str], actor: str) -> str:
        if not args:
            raise UsageError("say what to do.")
        first, rest = args[0], args[1:]
        if first in ("-h", "--help", "help"):
            return texts.SNAPSHOT_HELP
        if first in ("list", "status") and not rest:
            rows = self.store.snapshots(self.workspace_id, limit=LIST_MAX)
            return texts.snapshots(
                [
                    replace(row, message=printable(row.message), reason=row.reason and printable(row.reason))
                    for row in rows
                ]
            )
        if first == "withdraw" and not rest:
            return self._withdraw(actor)
        said = _options(args)
        command = named_command(said.get("--entrypoint"), said.get("--cmd"))
        made = self.store.request_snapshot(
            self.workspace_id, said["--message"], actor=actor, via="ssh", command=command
        )
        return texts.requested(made, self.store.challenge(made.workspace.partition("/")[0]).mounts)

    def _withdraw(self, actor: str) -> str:
        open_ones = self.store.snapshots(self.workspace_id, [SnapshotState.REQUESTED], limit=1)
        if not open_ones:
            raise NotFound("no request waits for a decision.", "See: snapshot list")
        self.store.withdraw_snapshot(open_ones[0].id, actor=actor)
        return f"Snapshot #{open_ones[0].id} is withdrawn."


def _options(args: Sequence[str]) -> dict[str, str]:
    """By long names: `-m TEXT`, `-mTEXT`, `--message=TEXT` and what may go with it. Raises UsageError."""
    said: dict[str, str] = {}
    left = list(args)
    while left:
        first = left.pop(0)
        name, equals, text = first.partition("=")
        if first.startswith("-m") and len(first) > 2:
            name, equals, text = "-m", "=", first.removeprefix("-m")
        if name not in OPTIONS:
            if list(said) == ["--message"]:  # most likely the rest of it
                quoted = printable(shlex.quote(" ".join([said["--message"], first, *left])), 300)
                raise UsageError(f"put the message in quotes: -m {quoted}")
            raise UsageError(f"{printable(first, 80)!r} is not known.")
        if not equals:
            if not left:
                raise UsageError(f"{name} needs a text.")
            text = left.pop(0)
        if OPTIONS[name] in said:
            raise UsageError(f"{name} is given twice.")
        said[OPTIONS[name]] = text
    if "--message" not in said:
        raise UsageError("say with -m what it is.")
    return said


class Attendants:
    """One attendance for each workspace that runs, as long as it runs."""

    def __init__(self, store: Store, actor: Callable[[int], str]) -> None:
        self._store = store
        self._actor = actor
        self._pool = ThreadPoolExecutor(1, "asks", initializer=hold_signals)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sockets: dict[int, Path] = {}
        self._offers: dict[int, asyncio.Future[None]] = {}
        self._rates = Buckets(ASK_RATE)

    async def ensure(self, workspace_id: int, socket: Path) -> None:
        """Attend the agent at `socket` unless it is attended; returns when that is settled, or is taking long."""
        self.begin(workspace_id, socket)
        await asyncio.wait([self._offers[workspace_id]], timeout=OFFER_SECONDS)

    def begin(self, workspace_id: int, socket: Path) -> None:
        """The same, and wait for nothing."""
        if workspace_id not in self._tasks:
            self._offers[workspace_id] = asyncio.get_running_loop().create_future()
            self._sockets[workspace_id] = socket
            self._tasks[workspace_id] = asyncio.create_task(self._attend(workspace_id, socket))

    @property
    def attended(self) -> set[int]:
        return set(self._tasks)

    def socket(self, workspace_id: int) -> Path | None:
        """Where the agent of a workspace listens that is attended."""
        return self._sockets.get(workspace_id)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _attend(self, workspace_id: int, socket: Path) -> None:
        offer = self._offers[workspace_id]
        attendance = None
        try:
            attendance = await GuestClient(socket).attend()
            offer.set_result(None)
            async for ask in attendance:
                await self._reply(workspace_id, attendance, ask)
        except GuestError as error:
            log.info("workspace %d is not attended: %s", workspace_id, error.message)
        except Exception:
            log.exception("attending workspace %d failed", workspace_id)
        finally:
            if attendance is not None:
                attendance.close()
            if not offer.done():
                offer.set_result(None)
            del self._tasks[workspace_id], self._offers[workspace_id], self._sockets[workspace_id]

    async def _reply(self, workspace_id: int, attendance: Attendance, ask: Ask) -> None:
        wait = self._rates.wait(workspace_id)
        if wait > 0:
            await asyncio.sleep(wait)
        self._rates.take(workspace_id)
        if ask.kind != "snapshot":
            status, text = 2, "This gateway does not know how to answer that."
        else:
            loop = asyncio.get_running_loop()
            status, text = await loop.run_in_executor(self._pool, self._answer, workspace_id, ask.args)
        await attendance.answer(ask.id, status, text)

    def _answer(self, workspace_id: int, args: Sequence[str]) -> tuple[int, str]:
        try:
            actor = self._actor(workspace_id)
        except WorkspacesError as error:
            return error.exit_status, f"snapshot: {texts.failure(error)}"
        return Asking(self._store, workspace_id).answer(args, actor)


class Attending:
    """Keeps every workspace attended that runs, and knows who asks there. Made on the event loop.

    `last_users`: who began the last session in each workspace.
    """

    def __init__(self, store: Store, lifecycle: Lifecycle, last_users: Mapping[int, str] | None = None) -> None:
        self._store = store
        self._lifecycle = lifecycle
        self.attendants = Attendants(store, self.member)
        self._loop = asyncio.get_running_loop()
        self._looks = ThreadPoolExecutor(2, "look", initializer=hold_signals)
        self._running: list[Workspace] = []
        self.last_users = dict(last_users or {})
        self._task = asyncio.create_task(self._watch())

    async def attend(self, workspace_id: int, socket: Path, user: str) -> None:
        """`user` begins a session where an agent listens on `socket`; returns when `snapshot` works, or will not."""
        self.last_users[workspace_id] = user
        await self.attendants.ensure(workspace_id, socket)

    def where(self, workspace_id: int) -> Path | None:
        """Where the agent of a workspace listens, if it is known to run."""
        return self.attendants.socket(workspace_id)

    def member(self, workspace_id: int) -> str:
        """Who asks inside a workspace, as far as that can be told: the member who logged in last, else the first one.

        Blocks on the store. Raises NotFound, StoreError.
        """
        members = self._store.workspace(workspace_id).members
        last = self.last_users.get(workspace_id)
        return last if last in members else next(iter(members), "participant")

    async def close(self) -> None:
        self._task.cancel()
        await self.attendants.close()
        self._looks.shutdown(wait=False, cancel_futures=True)

    async def _watch(self) -> None:
        seen: object = None
        while True:
            try:
                version = await self._loop.run_in_executor(self._looks, self._store.data_version)
                if version != seen:
                    self._running = await self._loop.run_in_executor(self._looks, self._find_running)
                    seen = version
                for workspace in self._running:
                    if workspace.id not in self.attendants.attended:
                        await self._look(workspace)
            except WorkspacesError as error:
                log.error("the store could not be read: %s", error.message)
            except Exception:
                log.exception("watching failed")
            await asyncio.sleep(WATCH_SECONDS)

    def _find_running(self) -> list[Workspace]:
        return self._store.workspaces(state=WorkspaceState.RUNNING)

    async def _look(self, workspace: Workspace) -> None:
        """Attend it if it runs indeed. Starts nothing."""
        try:
            looked = self._loop.run_in_executor(self._looks, self._lifecycle.running, workspace)
            socket = await asyncio.wait_for(looked, LOOK_SECONDS)
        except (WorkspacesError, TimeoutError):
            return
        if socket is not None:
            self.attendants.begin(workspace.id, socket)
