"""The archive of a server elsewhere: jobs that look at it and clear it, versions compared, and what is handed out."""

from __future__ import annotations

from typing import Any, BinaryIO

from workspaces.model import BaseImage, ChangeReport, Job, Snapshot
from workspaces.remote.base import Remote, part
from workspaces.remote.decode import decode


class RemoteArchive(Remote):
    def look_at_archive(self, kind: str) -> Job:
        """Have it done: usage, verify or gc."""
        return decode(Job, self._client.write("POST", "/archive/look", {"kind": kind}))

    def collect_archive(self) -> Job:
        """Have deleted what no version refers to, which was looked for before."""
        return decode(Job, self._client.write("POST", "/archive/collect", {"confirm": "archive"}))

    def due(self, slug: str) -> list[Snapshot]:
        """The versions that the rules of a challenge do not keep. Raises NotFound when they keep every one."""
        return [decode(Snapshot, item) for item in self._client.all(f"/challenges/{part(slug)}/prune")]

    def prune(self, slug: str) -> Job:
        return decode(Job, self._client.write("POST", f"/challenges/{part(slug)}/prune", {"confirm": slug}))

    def found(self, job_id: int) -> Any:
        """What a job about the archive found."""
        return self._client.get(f"/jobs/{job_id}/found")["document"]

    def base_images(self) -> list[BaseImage]:
        """As the worker saw them last."""
        return [decode(BaseImage, item) for item in self._client.get("/images")["items"]]

    def compare(self, workspace_id: int, old: int, new: int) -> Job:
        """Have two versions of a workspace compared."""
        return decode(Job, self._client.write("POST", f"/workspaces/{workspace_id}/diff", {"old": old, "new": new}))

    def diff(self, workspace_id: int, old: int, new: int) -> ChangeReport:
        """What differs between versions that were compared."""
        return decode(ChangeReport, self._client.get(f"/workspaces/{workspace_id}/diff", old=old, new=new))

    def download_cast(self, session_id: int, target: BinaryIO) -> int:
        """Write a session's recording; how many bytes that were."""
        return self._client.download(f"/sessions/{session_id}/cast", target)

    def download_version(self, snapshot_id: int, target: BinaryIO) -> int:
        """Write a version as a tar; how many bytes that were."""
        return self._client.download(f"/snapshots/{snapshot_id}/download", target)
