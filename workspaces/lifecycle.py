"""Brings the containers of workspaces to the state that is wanted of them, and the store to what is seen of them.

    ensure_running: it runs, the agent accepts? ─► its socket                         (no lock)
                    else lock ─► create from image ─► start ─► its socket, RUNNING    (or FAILED, with the reason)
    stop, restart, reset, remove, replace: lock ─► the store says what is going to happen ─► the engine does it
    reconcile:      what the engine shows ─► store, except where a lock is held

One lock for each workspace, a file, holds across processes and threads: of twenty first logins one creates the
container. Every step may be repeated. What is raised is for the person who waits; what the engine said of its inner
workings is kept as the workspace's `state_detail`, for administrators.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workspaces.engine import guestsocket
from workspaces.engine.base import (
    LABEL_INSTANCE,
    LABEL_WORKSPACE,
    ContainerInfo,
    ContainerSpec,
    Engine,
    Progress,
)
from workspaces.errors import (
    Conflict,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    NotFound,
    StoreError,
    WorkspacesError,
)
from workspaces.locks import Locks
from workspaces.model import Challenge, Limits, Workspace, WorkspaceState
from workspaces.names import amount
from workspaces.refusals import ForAll, for_people, no_image
from workspaces.store import Store

log = logging.getLogger(__name__)

LOCK_SECONDS = 60.0  # a commit of a few GB holds a workspace's lock about as long
STOP_SECONDS = 10.0
PAUSED_SECONDS = 60.0  # for an engine to end a commit whose caller died; then it is taken to have died as well
PAUSED_LOOK = 0.25

# Whose container it is: a later workspace of the same name has another number, and is not given its files.
LABEL_NUMBER = "io.workspaces.number"
# What tells a restore whose worker was killed whether it had made the new container already.
LABEL_IMAGE = "io.workspaces.image"  # the reference it was made from
LABEL_MADE = "io.workspaces.made"  # when, in seconds since the epoch
LABEL_READ_ONLY = "io.workspaces.read-only"  # its files cannot change, so nothing is lost with it

ADMINISTRATOR = "an administrator"  # who does what to a workspace, as its users read it
_REMOVED = f"removed by {ADMINISTRATOR}"


def ignore(message: str, fraction: float | None) -> None:
    """Progress that nobody follows."""


class Lifecycle:
    """Thread-safe. `locks` is a directory that all processes of one state directory share."""

    def __init__(self, store: Store, engine: Engine, locks: Path) -> None:
        self.store = store
        self.engine = engine
        self._locks = Locks(locks)

    def container_name(self, workspace: Workspace) -> str:
        """The name of its container in the engine; the instance keeps two state directories apart."""
        return f"ws-{self.store.instance[:6]}.{workspace.challenge}.{workspace.name}"

    def socket(self, workspace: Workspace) -> Path:
        """Where its agent listens when it runs. Raises NotFound or EngineError when the engine cannot tell."""
        return self.engine.guest_socket(self.container_name(workspace))

    @contextmanager
    def locked(self, workspace_id: int, wait: float = LOCK_SECONDS) -> Iterator[None]:
        """Keep all others, here and in other processes, from changing this workspace's container.

        The same thread may take it again. Raises Conflict if it is not free within `wait` seconds, NoSpace, HostError.
        """
        if not self._locks.take(workspace_id, wait):
            ref = self.store.workspace(workspace_id).ref
            raise Conflict(f"Another action on {ref} is going on.", "Try again in a minute.")
        try:
            yield
        finally:
            self._locks.release(workspace_id)

    def ensure_running(self, workspace_id: int, progress: Progress = ignore) -> Path:
        """Create and start the container as needed; the path of its agent's socket, which accepts.

        Raises NotFound for the workspace, Conflict when another action on it goes on for too long, EngineError or
        HostError otherwise, each for the eyes of a participant.
        """
        workspace = self.store.workspace(workspace_id)
        path = self.running(workspace)
        if path is not None:
            return path
        what = "Creating" if workspace.state is WorkspaceState.ABSENT else "Starting"
        progress(f"{what} your workspace {workspace.ref} …", None)
        with self.locked(workspace_id):
            workspace = self.store.workspace(workspace_id)  # may have been restored, or removed, meanwhile
            return self.running(workspace) or self._start(workspace)

    def stop(
        self,
        workspace_id: int,
        progress: Progress = ignore,
        *,
        since: float | None = None,
        why: str = f"stopped by {ADMINISTRATOR}",
    ) -> None:
        """Stop the container; its files stay. Nothing happens when it is stopped or gone. `why` is for its users.

        `since` is for a repeated attempt: when the stop was asked for, in seconds since the epoch. Started after it,
        the container was stopped by an earlier, killed attempt, and those who came since are let be.
        """
        with self.locked(workspace_id):
            workspace = self.store.workspace(workspace_id)
            name = self.container_name(workspace)
            if since is not None and self._started_since(workspace, since):
                return
            if self._settled(name) is None:
                self._note(workspace, WorkspaceState.ABSENT)
                return
            progress(f"Stopping {workspace.ref} …", None)
            # Noted first: the gateway asks why as soon as the sessions end.
            self._note(workspace, WorkspaceState.STOPPED, why)
            self.engine.stop(name, STOP_SECONDS)

    def restart(
        self, workspace_id: int, progress: Progress = ignore, *, since: float | None = None, by: str = ADMINISTRATOR
    ) -> None:
        """Stop and start it; made anew if it is gone. `since` as with `stop`; `by` is for its users."""
        with self.locked(workspace_id):
            self.stop(workspace_id, progress, since=since, why=f"restarted by {by}")
            self.ensure_running(workspace_id, progress)

    def reset(
        self, workspace_id: int, progress: Progress = ignore, *, since: float | None = None, by: str = ADMINISTRATOR
    ) -> None:
        """Delete the container and its files; the next login makes one from the challenge's image.

        `since` is when that was asked for: a container made after it, and from no version, is that of a login after an
        earlier, killed attempt, and stays. Raises Conflict while a snapshot of it is approved and not committed.
        """
        with self.locked(workspace_id):
            workspace = self.store.workspace(workspace_id)
            image = None if since is None else self.made_since(workspace, since)
            versions = {name for s in self.store.snapshots(workspace_id) for name in (s.image_ref, s.image_id)}
            if image is not None and image not in versions | {workspace.image}:
                return
            self.store.check_nothing_to_lose(workspace_id)
            progress(_deleting(workspace), None)
            self.store.set_workspace_image(workspace_id, None, None)
            self._discard(workspace_id, f"reset by {by}")

    def remove(self, workspace_id: int, progress: Progress = ignore, *, actor: str) -> None:
        """Delete container, files and workspace. NotFound; Conflict, and nothing is deleted, as the store's own."""
        with self.locked(workspace_id):  # no login makes the container again in between
            progress(_deleting(self.store.check_removable(workspace_id)), None)
            self._discard(workspace_id, _REMOVED)
            self.store.remove_workspace(workspace_id, actor=actor)

    def replace(
        self,
        workspace_id: int,
        image_ref: str,
        parent_snapshot_id: int | None,
        progress: Progress = ignore,
        *,
        since: float | None = None,
    ) -> None:
        """Restore: put a new container, made from a version's image, in the place of the one there is, and start it.

        `since` is when the restore was asked for, in seconds since the epoch: a container made from this image after
        it is what an earlier, killed attempt has put there, and stays with what its user has done in it by now.
        Nothing is deleted unless the image is there. Raises Conflict like `reset`, EngineError.
        """
        with self.locked(workspace_id):
            workspace = self.store.workspace(workspace_id)
            if self.engine.image(image_ref) is None:
                raise EngineError(f"The image {image_ref} is not on this host; {workspace.ref} was left as it is.")
            done = since is not None and self.made_since(workspace, since) == image_ref
            if not done:
                self.store.check_nothing_to_lose(workspace_id)
                progress(_deleting(workspace), None)
            # Before the container goes: killed in between, the next login makes it from the right image.
            self.store.set_workspace_image(workspace_id, image_ref, parent_snapshot_id)
            if not done:
                self._discard(workspace_id, "being restored to an earlier version")
            progress(f"Starting {workspace.ref} from {image_ref} …", None)
            workspace = self.store.workspace(workspace_id)
            if self.running(workspace) is None:
                self._start(workspace)

    def seal(
        self, workspace_id: int, image_ref: str | None, parent_snapshot_id: int | None, progress: Progress = ignore
    ) -> None:
        """Delete the container; the next login makes a read-only one, from `image_ref` unless that is None.

        What was in it is in that image: the caller holds the lock, has stopped and committed it, and knows. Sealed
        already: nothing happens. Raises EngineError, and deletes nothing, when the image is not there.
        """
        with self.locked(workspace_id):
            workspace = self.store.workspace(workspace_id)
            if image_ref is not None and self.engine.image(image_ref) is None:
                raise EngineError(f"The image {image_ref} is not on this host; {workspace.ref} was left as it is.")
            info = self.engine.container(self.container_name(workspace))
            writable = info is not None and LABEL_READ_ONLY not in info.labels
            if writable:
                progress(_deleting(workspace), None)
            if image_ref is not None:
                self.store.set_workspace_image(workspace_id, image_ref, parent_snapshot_id)
            if writable:
                self._discard(workspace_id, "made read-only by the organisers")
            # Last: until then the gateway lets nobody in, who would write into what is deleted.
            self.store.set_read_only(workspace_id, True)

    def unseal(self, workspace_id: int, progress: Progress = ignore) -> None:
        """The next login makes a container that can be written, from what the read-only one was made from."""
        with self.locked(workspace_id):
            workspace = self.store.workspace(workspace_id)
            info = self.engine.container(self.container_name(workspace))
            sealed = info is not None and LABEL_READ_ONLY in info.labels
            if sealed:
                progress(_deleting(workspace), None)
            self.store.set_read_only(workspace_id, False)
            if sealed:
                self._discard(workspace_id, "made writable again by the organisers")

    def apply_limits(self, workspace_id: int, wait: float = LOCK_SECONDS) -> Limits | None:
        """Give its container the limits that the workspace has now; None when there is none, which gets them when made.

        Raises NotFound, Conflict, EngineError.
        """
        with self.locked(workspace_id, wait):  # a container that is just being made may have the old ones
            workspace = self.store.workspace(workspace_id)
            return self.engine.limit(self.container_name(workspace), self._limits(workspace))

    def made(self, workspace_id: int) -> ContainerInfo:
        """The container, made and not started if there is none. The caller holds the lock. NotFound, EngineError."""
        workspace = self.store.workspace(workspace_id)
        return self.engine.ensure_container(self._spec(workspace, self.store.challenge(workspace.challenge)))

    def reconcile(self) -> None:
        """Note in the store what the engine shows of every container. Raises EngineError when it shows nothing.

        A workspace whose lock is held is left to the one who holds it.
        """
        seen_at = time.time()
        found = {info.name: info for info in self.engine.containers({LABEL_INSTANCE: self.store.instance})}
        for workspace in self.store.workspaces():
            info = found.get(self.container_name(workspace))
            state = _seen(workspace, info)
            if state is workspace.state:
                continue
            detail = self._cause(workspace, info) if info is not None and state is WorkspaceState.STOPPED else ""
            with suppress(Conflict, NotFound), self.locked(workspace.id, wait=0):
                self.store.set_workspace_state(workspace.id, state, detail, seen_at=seen_at)

    def diagnose(self, workspace_id: int) -> str:
        """Why its container ended, as half a sentence for its user. Raises StoreError only."""
        try:
            workspace = self.store.workspace(workspace_id)
            info = self.engine.container(self.container_name(workspace))
        except NotFound:
            return _REMOVED
        except (EngineTimeout, EngineUnavailable):
            return "the engine does not answer"
        except EngineError:
            return "the engine reports an error"
        if workspace.state_detail and workspace.state in (WorkspaceState.STOPPED, WorkspaceState.ABSENT):
            return workspace.state_detail
        if info is None:
            return "its container was removed"
        if info.running:
            return "its agent stopped answering" if self.running(workspace) is None else "was started again"
        return self._cause(workspace, info)

    def running(self, workspace: Workspace) -> Path | None:
        """The agent's socket if its own container runs and something accepts there, else None. Raises StoreError."""
        try:
            path = self.socket(workspace)
        except (NotFound, EngineError):
            return None
        if not guestsocket.accepts(path):
            return None
        try:
            info = self.engine.container(self.container_name(workspace))
        except EngineError:
            return path  # the engine is away; its containers go on, and so can those who use them
        if info is None or not info.running or not _belongs(info, workspace):
            return None
        if info.state == "paused":
            # A commit does that for a moment, and holds the lock. Where nobody does, it was left so and needs a start.
            with suppress(Conflict), self.locked(workspace.id, wait=0):
                return None
        if workspace.state is not WorkspaceState.RUNNING:
            self._note(workspace, WorkspaceState.RUNNING)
        return path

    def _start(self, workspace: Workspace) -> Path:
        """Create and start. The caller holds the lock."""
        name = self.container_name(workspace)
        challenge = self.store.challenge(workspace.challenge)
        image = workspace.image or challenge.image
        self._note(workspace, WorkspaceState.STARTING)
        try:
            try:
                info = self.engine.ensure_container(self._spec(workspace, challenge))
            except NotFound as exc:
                if self.engine.image(image) is not None:
                    raise
                raise no_image(workspace, image) from exc
            if not _belongs(info, workspace):
                raise ForAll(
                    f"An earlier workspace {workspace.ref} has left its container on this host.",
                    f"An administrator can delete it, with its files: workspaces reset {workspace.ref}",
                )
            self._settled(name)
            self.engine.start(name)
            path = self.socket(workspace)
        except Exception as exc:
            detail = exc.message if isinstance(exc, WorkspacesError) else f"{type(exc).__name__}: {exc}"
            log.warning("%s did not start: %s", workspace.ref, detail)
            with suppress(StoreError):  # what went wrong first is what counts
                self._note(workspace, WorkspaceState.FAILED, detail)
            raise for_people(workspace, exc) from exc
        self._note(workspace, WorkspaceState.RUNNING)
        return path

    def _spec(self, workspace: Workspace, challenge: Challenge) -> ContainerSpec:
        image = workspace.image or challenge.image
        return ContainerSpec(
            name=self.container_name(workspace),
            image=image,
            hostname=workspace.name,
            limits=workspace.own_limits.over(challenge.limits),
            network=challenge.network,
            mounts=challenge.mounts,
            read_only=workspace.read_only,
            labels={
                LABEL_INSTANCE: self.store.instance,
                LABEL_WORKSPACE: workspace.ref,
                LABEL_NUMBER: str(workspace.id),
                LABEL_IMAGE: image,
                LABEL_MADE: str(time.time()),
                **({LABEL_READ_ONLY: "yes"} if workspace.read_only else {}),
            },
        )

    def _discard(self, workspace_id: int, why: str) -> None:
        """Delete the container. The caller holds the lock and has made sure that nothing promised is lost."""
        workspace = self.store.workspace(workspace_id)
        self._note(workspace, WorkspaceState.ABSENT, why)
        self.engine.remove(self.container_name(workspace))

    def _settled(self, name: str) -> ContainerInfo | None:
        """The container once it is not paused, or PAUSED_SECONDS are over. The caller holds the lock.

        Whoever committed it has died; the engine goes on with that, and must not find files that change.
        """
        deadline = time.monotonic() + PAUSED_SECONDS
        while (info := self.engine.container(name)) and info.state == "paused" and time.monotonic() < deadline:
            threading.Event().wait(PAUSED_LOOK)
        return info

    def made_since(self, workspace: Workspace, since: float) -> str | None:
        """What its container was made from, if that was after `since`; else None."""
        info = self.engine.container(self.container_name(workspace))
        if info is None or not _belongs(info, workspace) or float(info.labels.get(LABEL_MADE, "0")) < since:
            return None
        return info.labels.get(LABEL_IMAGE)

    def _started_since(self, workspace: Workspace, since: float) -> bool:
        """Whether it was started after `since`. Its user can forge that, and so keep a stop from being repeated."""
        path = self.running(workspace)
        with suppress(OSError):  # the agent makes its socket at each start
            return path is not None and path.lstat().st_mtime >= since
        return False

    def _limits(self, workspace: Workspace) -> Limits:
        return workspace.own_limits.over(self.store.challenge(workspace.challenge).limits)

    def _note(self, workspace: Workspace, state: WorkspaceState, detail: str = "") -> None:
        self.store.set_workspace_state(workspace.id, state, detail)

    def _cause(self, workspace: Workspace, info: ContainerInfo) -> str:
        if info.oom_killed and info.exit_code != 0:
            return f"ran out of memory ({amount(self._limits(workspace).memory)})"
        if info.exit_code == 128 + 9:
            return "was killed"
        return "was stopped" if info.exit_code in (0, 128 + 15) else f"ended with status {info.exit_code}"


def _seen(workspace: Workspace, info: ContainerInfo | None) -> WorkspaceState:
    if info is not None and info.running:
        return WorkspaceState.RUNNING
    if workspace.state is WorkspaceState.FAILED:
        return WorkspaceState.FAILED  # and its reason stays, until it runs
    return WorkspaceState.ABSENT if info is None else WorkspaceState.STOPPED


def _deleting(workspace: Workspace) -> str:
    """Told before anything is written: a job that is cancelled ends there, and the store still says what is there."""
    return f"Deleting the container of {workspace.ref} …"


def _belongs(info: ContainerInfo, workspace: Workspace) -> bool:
    return info.labels.get(LABEL_NUMBER, str(workspace.id)) == str(workspace.id)
