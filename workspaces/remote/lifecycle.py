"""The calls of the lifecycle that commands make: each is a job on the server, which is waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from workspaces.errors import WorkspacesError
from workspaces.model import UNDER_WAY, Job, JobState
from workspaces.remote.base import on_host
from workspaces.remote.client import Client
from workspaces.remote.decode import decode
from workspaces.remote.store import RemoteStore

Progress = Callable[[str, float | None], None]


class RemoteLifecycle:
    def __init__(self, client: Client, store: RemoteStore) -> None:
        self._client, self._store = client, store

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise on_host()

    def ensure_running(self, workspace_id: int, progress: Progress) -> None:
        self._do(workspace_id, "start", progress)

    def stop(self, workspace_id: int, progress: Progress) -> None:
        self._do(workspace_id, "stop", progress)

    def restart(self, workspace_id: int, progress: Progress) -> None:
        self._do(workspace_id, "restart", progress)

    def reset(self, workspace_id: int, progress: Progress) -> None:
        self._do(workspace_id, "reset", progress, {"confirm": self._store.workspace(workspace_id).ref})

    def remove(self, workspace_id: int, progress: Progress, **_: object) -> None:
        self._do(workspace_id, "remove", progress, {"confirm": self._store.workspace(workspace_id).ref})

    def apply_limits(self, workspace_id: int) -> None:
        """Wait for the job that began when they were set."""
        self._wait(self._store.limiting.pop(workspace_id), lambda *_: None)

    def _do(self, workspace_id: int, what: str, progress: Progress, body: Mapping[str, object] | None = None) -> None:
        self._wait(decode(Job, self._client.write("POST", f"/workspaces/{workspace_id}/{what}", body)), progress)

    def _wait(self, job: Job, progress: Progress) -> None:
        """Raises WorkspacesError when the job fails."""
        said = ""
        while job.state in UNDER_WAY:
            if job.message and job.message != said:
                said = job.message
                progress(said, job.progress)
            job = self._store.job(job.id)
        if job.state is not JobState.DONE:
            raise WorkspacesError(job.error or f"Job {job.id} was {job.state}.", f"See: job show {job.id}")
