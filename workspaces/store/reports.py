"""What jobs found, and the base images of the engine: written by the worker, for those who may not ask the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, astuple

from workspaces.errors import NotFound
from workspaces.model import (
    BaseImage,
    ChallengeCounts,
    ChangeReport,
    ImageFinding,
    Job,
    JobKind,
    OwnLimits,
    Report,
    Workspace,
)
from workspaces.store.challenges import check_limits
from workspaces.store.connection import Row
from workspaces.store.retries import Retries
from workspaces.store.rows import changes_json, to_changes

KEPT = 5  # findings of one kind about the same, the latest
SHELF = 200  # in all, of what is about single workspaces or versions: each may list thousands of paths

_IMAGES = "SELECT id, refs, size, layers, created_at, seen_at, checked_at, findings FROM base_images"


class Reports(Retries):
    # what jobs found

    def set_report(self, job_id: int, about: str, document: str) -> None:
        """Keep what a job found, in place of an earlier attempt's; old ones make room. NotFound."""
        with self._write() as db:
            kind = self.job(job_id).kind
            row = {"job_id": job_id, "kind": kind, "about": about, "at": time.time(), "document": document}
            db.table("job_reports").insert(row, replace=True)
            old = "SELECT job_id FROM job_reports WHERE kind = ? AND about = ? ORDER BY job_id DESC LIMIT -1 OFFSET ?"
            db.execute(f"DELETE FROM job_reports WHERE job_id IN ({old})", [kind, about, KEPT])  # noqa: S608 -- our own
            rest = "SELECT job_id FROM job_reports ORDER BY job_id DESC LIMIT -1 OFFSET ?"
            db.execute(f"DELETE FROM job_reports WHERE about != '' AND job_id IN ({rest})", [SHELF])  # noqa: S608

    def report_of(self, job_id: int) -> Report | None:
        """What that job found; None when it found nothing yet, or that was long ago."""
        row = self._find("SELECT job_id, kind, about, at, document FROM job_reports WHERE job_id = ?", [job_id])
        return _report(row) if row else None

    def latest_report(self, kind: JobKind, about: str = "") -> Report | None:
        """What the last job of that kind about the same found."""
        sql = (
            "SELECT job_id, kind, about, at, document FROM job_reports WHERE kind = ? AND about = ? "
            "ORDER BY job_id DESC LIMIT 1"
        )
        row = self._find(sql, [JobKind(kind), about])
        return _report(row) if row else None

    def set_look(self, job_id: int, about: str, report: ChangeReport) -> None:
        """Keep a list of changes as what a job found. NotFound."""
        self.set_report(job_id, about, changes_json(report))

    def latest_job(self, kind: JobKind, workspace_id: int | None = None) -> Job | None:
        """The last one of that kind, of one workspace or of the host."""
        sql = "SELECT id FROM jobs WHERE workspace_id IS ? AND kind = ? ORDER BY id DESC LIMIT 1"
        row = self._find(sql, [workspace_id, JobKind(kind)])
        return self.job(row["id"]) if row else None

    # limits of one workspace

    def set_workspace_limits(self, workspace_id: int, own: OwnLimits, *, actor: str) -> Workspace:
        """What it may use in place of what its challenge says; None in `own`: what the challenge says.

        A container that exists has them when a job of kind LIMITS is done, which the caller queues. NotFound,
        InvalidInput.
        """
        with self._write() as db:
            found = self.workspace(workspace_id)
            check_limits(own.over(self.challenge(found.challenge).limits))
            if own != found.own_limits:
                db.execute(
                    "UPDATE workspaces SET own_cpus = ?, own_memory = ?, own_pids = ? WHERE id = ?",
                    [own.cpus, own.memory, own.pids, workspace_id],
                )
                said = {name: "the challenge's" if value is None else value for name, value in asdict(own).items()}
                self._record(actor, "workspace.limits_set", found.ref, data=said)
            return self.workspace(workspace_id)

    # base images

    def base_images(self) -> list[BaseImage]:
        """As the worker saw them last, the newest first."""
        return [_image(row) for row in self._rows(f"{_IMAGES} ORDER BY created_at DESC, id")]

    def base_image(self, image_id: str) -> BaseImage:
        """Raises NotFound."""
        row = self._find(f"{_IMAGES} WHERE id = ?", [image_id]) if image_id.isascii() else None
        if row is None:
            raise NotFound("There is no such image on this host.")
        return _image(row)

    def set_base_images(self, seen: Iterable[BaseImage]) -> None:
        """These are the images now. What was found in one stays with it. Nothing is written when all is known."""
        images = {image.id: image for image in seen}
        known = {image.id: image for image in self.base_images()}
        new = [image for image in images.values() if image.id not in known or image.refs != known[image.id].refs]
        gone = [image_id for image_id in known if image_id not in images]
        if not new and not gone:
            return
        with self._write() as db:
            for image_id in gone:
                db.execute("DELETE FROM base_images WHERE id = ?", [image_id])
            for image in new:
                row = {"id": image.id, "refs": json.dumps(list(image.refs)), "size": image.size}
                more = {"layers": image.layers, "created_at": image.created_at, "seen_at": image.seen_at}
                db.table("base_images").upsert({**row, **more}, pk="id")

    def set_image_findings(self, image_id: str, findings: Iterable[ImageFinding]) -> None:
        """What was found in an image just now. Nothing happens when it is not known yet."""
        with self._write() as db:
            document = json.dumps([astuple(finding) for finding in findings])
            sql = "UPDATE base_images SET checked_at = ?, findings = ? WHERE id = ?"
            db.execute(sql, [time.time(), document, image_id])

    # challenges

    def challenge_counts(self) -> dict[str, ChallengeCounts]:
        """What each challenge has, by slug."""
        sql = """
            SELECT c.slug,
              (SELECT count(*) FROM workspaces w WHERE w.challenge_id = c.id AND w.removed_at IS NULL) AS workspaces,
              (SELECT count(*) FROM workspaces w WHERE w.challenge_id = c.id AND w.removed_at IS NULL
                AND w.state = 'running') AS running,
              (SELECT count(*) FROM snapshots s CROSS JOIN workspaces w ON w.id = s.workspace_id
                WHERE s.state = 'requested' AND w.challenge_id = c.id AND w.removed_at IS NULL) AS requests,
              (SELECT count(*) FROM workspaces w CROSS JOIN snapshots s ON s.workspace_id = w.id
                WHERE w.challenge_id = c.id AND s.version > 0 AND s.pruned_at IS NULL
                AND s.state IN ('committed', 'archived')) AS versions
            FROM challenges c"""
        return {row.pop("slug"): ChallengeCounts(**row) for row in self._rows(sql)}


def found_changes(report: Report) -> ChangeReport:
    """What a job that lists changes found."""
    return to_changes(report.document)


def _report(row: Row) -> Report:
    return Report(**{**row, "kind": JobKind(row["kind"])})


def _image(row: Row) -> BaseImage:
    findings = tuple(ImageFinding(*values) for values in json.loads(row["findings"]))
    return BaseImage(**{**row, "refs": tuple(json.loads(row["refs"])), "findings": findings})
