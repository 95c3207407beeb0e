"""The calls of the store that commands make, answered by a server elsewhere."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workspaces.errors import Conflict, NotFound, WorkspacesError
from workspaces.model import (
    ChangeReport,
    Command,
    Event,
    Job,
    JobKind,
    JobState,
    LogLine,
    OwnLimits,
    Recording,
    Session,
    Snapshot,
    SnapshotState,
    Workspace,
    WorkspaceState,
)
from workspaces.remote.archive import RemoteArchive
from workspaces.remote.base import on_host, part, search
from workspaces.remote.challenges import RemoteChallenges
from workspaces.remote.client import Client
from workspaces.remote.decode import decode
from workspaces.remote.people import RemotePeople

PAUSE = 0.5  # seconds between two looks at the same job


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a list of sessions tells of one's recording; nothing where the server is an older one."""

    id: int
    recording: Recording | None = None


class RemoteStore(RemotePeople, RemoteChallenges, RemoteArchive):
    """All of it."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._looked: dict[int, float] = {}
        self._recordings: dict[int, Recording] = {}
        self.limiting: dict[int, Job] = {}  # jobs that give a workspace its limits

    def add_event(self, *_: object, **__: object) -> None:
        """The server records what it does."""

    # workspaces

    def workspaces(self, challenge: str | None = None, state: WorkspaceState | None = None) -> list[Workspace]:
        q = search(challenge=challenge, state=state)
        found = [decode(Workspace, item) for item in self._client.all("/workspaces", q=q)]
        return sorted(found, key=lambda workspace: (workspace.challenge, workspace.name))

    def workspace(self, ref: str | int) -> Workspace:
        if isinstance(ref, int):
            return decode(Workspace, self._client.get(f"/workspaces/{ref}"))
        found = [decode(Workspace, item) for item in self._client.all("/workspaces", ref=ref)]
        if not found:
            raise NotFound(f"There is no workspace {ref!r}, or it is not yours to see.")
        if len(found) > 1:
            choices = ", ".join(workspace.ref for workspace in found)
            raise Conflict(f"Several workspaces are named {ref}.", f"Say which: {choices}.")
        return found[0]

    def workspaces_of(self, user: str) -> list[Workspace]:
        return [decode(Workspace, item) for item in self._client.all("/workspaces", q=search(user=user))]

    def add_member(self, workspace_id: int, user: str, **_: object) -> None:
        self._client.write("PUT", f"/workspaces/{workspace_id}/members/{part(user)}")

    def remove_member(self, workspace_id: int, user: str, **_: object) -> None:
        self._client.write("DELETE", f"/workspaces/{workspace_id}/members/{part(user)}")

    def set_workspace_limits(self, workspace_id: int, own: OwnLimits, **_: object) -> Workspace:
        """The job that gives them to its container is begun with it, and waited for by the lifecycle."""
        body = dataclasses.asdict(own)
        self.limiting[workspace_id] = decode(Job, self._client.write("PUT", f"/workspaces/{workspace_id}/limits", body))
        return self.workspace(workspace_id)

    def tell(self, workspaces: Iterable[str], text: str) -> list[tuple[str, str, bool]]:
        """Say something to who is on in each: its name, what became of it, and whether that was well."""
        results: list[tuple[str, str, bool]] = []
        there: list[int] = []
        for ref in workspaces:
            try:
                there.append(self.workspace(ref).id)
            except WorkspacesError as error:
                results.append((ref, error.message, False))
        if there:
            told = self._client.write("POST", "/workspaces/message", {"ids": there, "text": text})
            results += [(one["workspace"], one["said"], one["good"]) for one in told["items"]]
        return results

    # snapshots

    def snapshots(
        self,
        workspace_id: int | None = None,
        states: Iterable[SnapshotState] | None = None,
        limit: int | None = None,
    ) -> list[Snapshot]:
        wanted = None if states is None else set(states)
        if workspace_id is not None:
            items: Iterable[Any] = self._client.get(f"/workspaces/{workspace_id}/snapshots")["items"]
        else:
            q = search(state=",".join(sorted(wanted)) if wanted else None)
            items = self._client.all("/snapshots", limit, q=q)
        found = [decode(Snapshot, item) for item in items]
        return [snapshot for snapshot in found if wanted is None or snapshot.state in wanted][:limit]

    def snapshot(self, snapshot_id: int) -> Snapshot:
        return decode(Snapshot, self._client.get(f"/snapshots/{snapshot_id}"))

    def version(self, workspace_id: int, number: int) -> Snapshot:
        for snapshot in self.snapshots(workspace_id, (SnapshotState.COMMITTED, SnapshotState.ARCHIVED)):
            if snapshot.version == number:
                return snapshot
        raise NotFound(f"There is no version v{number}.")

    def changes(self, snapshot_id: int) -> ChangeReport | None:
        try:
            return decode(ChangeReport, self._client.get(f"/snapshots/{snapshot_id}/changes"))
        except NotFound:
            return None

    def request_snapshot(
        self, workspace_id: int, message: str, *, command: Command | None = None, **_: object
    ) -> Snapshot:
        body: dict[str, object] = {"message": message}
        for name in ("entrypoint", "cmd"):
            if command is not None and (words := getattr(command, name)):
                body[name] = _as_list(words)
        return decode(Snapshot, self._client.write("POST", f"/workspaces/{workspace_id}/snapshots", body))

    def approve_snapshot(self, snapshot_id: int, **_: object) -> Job:
        return decode(Job, self._client.write("POST", f"/snapshots/{snapshot_id}/approve"))

    def reject_snapshot(self, snapshot_id: int, reason: str, **_: object) -> None:
        self._client.write("POST", f"/snapshots/{snapshot_id}/reject", {"reason": reason})

    def withdraw_snapshot(self, snapshot_id: int, **_: object) -> None:
        self._client.write("POST", f"/snapshots/{snapshot_id}/withdraw")

    def retry_snapshot(self, snapshot_id: int, **_: object) -> Job:
        return decode(Job, self._client.write("POST", f"/snapshots/{snapshot_id}/retry"))

    def pin_snapshot(self, snapshot_id: int, pinned: bool, **_: object) -> Snapshot:
        return decode(Snapshot, self._client.write("PUT" if pinned else "DELETE", f"/snapshots/{snapshot_id}/pin"))

    # jobs

    def jobs(
        self, states: Iterable[JobState] | None = None, workspace_id: int | None = None, limit: int | None = 100
    ) -> list[Job]:
        ref = None if workspace_id is None else self.workspace(workspace_id).ref
        q = search(state=",".join(sorted(states)) if states else None, workspace=ref)
        return [decode(Job, item) for item in self._client.all("/jobs", limit, q=q)]

    def job(self, job_id: int) -> Job:
        """Commands look at a job again and again; here not more often than every PAUSE."""
        if (wait := self._looked.get(job_id, 0.0) + PAUSE - time.monotonic()) > 0:
            time.sleep(wait)
        found = decode(Job, self._client.get(f"/jobs/{job_id}"))
        self._looked[job_id] = time.monotonic()
        return found

    def job_log(self, job_id: int, after: int = 0) -> list[LogLine]:
        return [decode(LogLine, item) for item in self._client.get(f"/jobs/{job_id}/log", after=after)["items"]]

    def add_job(
        self,
        kind: JobKind,
        workspace_id: int,
        *,
        snapshot_id: int | None = None,
        arguments: Mapping[str, str] | None = None,
        **_: object,
    ) -> Job:
        told = dict(arguments or {})
        if kind is not JobKind.RESTORE or snapshot_id is None:
            raise on_host()
        ref = self.workspace(workspace_id).ref
        body = {"confirm": ref, "into": workspace_id, "discard": told.get("discard") == "yes"}
        return decode(Job, self._client.write("POST", f"/snapshots/{snapshot_id}/restore", body))

    def retry_job(self, job_id: int, **_: object) -> Job:
        return decode(Job, self._client.write("POST", f"/jobs/{job_id}/retry"))

    def retry_failed(self, **_: object) -> tuple[list[Job], list[tuple[Job, str]]]:
        found = self._client.write("POST", "/jobs/retry-failed")
        left = [(decode(Job, one["job"]), str(one["why"])) for one in found["left"]]
        return [decode(Job, item) for item in found["retried"]], left

    def cancel_job(self, job_id: int, **_: object) -> Job:
        return decode(Job, self._client.write("POST", f"/jobs/{job_id}/cancel"))

    def set_job_priority(self, job_id: int, priority: int, **_: object) -> Job:
        return decode(Job, self._client.write("PUT", f"/jobs/{job_id}/priority", {"priority": priority}))

    # sessions, the record

    def sessions(
        self,
        workspace_id: int | None = None,
        user: str | None = None,
        *,
        ended: bool = False,
        limit: int = 1000,
        recorded: bool = False,
    ) -> list[Session]:
        ref = None if workspace_id is None else self.workspace(workspace_id).ref
        q = search(on=None if ended else "yes", workspace=ref, user=user, recorded="yes" if recorded else None)
        items = list(self._client.all("/sessions", limit, q=q))
        for told in (decode(_Recorded, item) for item in items):
            if told.recording is not None:
                self._recordings[told.id] = dataclasses.replace(told.recording, session_id=told.id)
        return [decode(Session, item) for item in items]

    def recordings_of(self, session_ids: Iterable[int]) -> dict[int, Recording]:
        """Those that came with the sessions."""
        return {number: self._recordings[number] for number in session_ids if number in self._recordings}

    def kill_session(self, session_id: int, **_: object) -> Session:
        return decode(Session, self._client.write("POST", f"/sessions/{session_id}/end"))

    def events(self, limit: int = 100, workspace: str | None = None, actor: str | None = None) -> list[Event]:
        q = search(workspace=workspace, actor=actor)
        return [decode(Event, item) for item in self._client.all("/audit", limit, q=q)]


def _as_list(words: tuple[str, ...]) -> str:
    return json.dumps(list(words))
