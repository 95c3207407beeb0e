"""How far a job is, in the words that command line and pages share. Pure."""

from __future__ import annotations

import time

from workspaces.jobkinds import KINDS
from workspaces.model import Job, JobState
from workspaces.names import amount, span


def percent(job: Job) -> int:
    """0 to 100; 100 only of one that is done."""
    return 100 if job.state is JobState.DONE else min(int(job.progress * 100), 99)


def is_stalled(job: Job, now: float | None = None) -> bool:
    """Whether a running job has told nothing for longer than is usual for its kind."""
    late = (now or time.time()) - (job.seen_at or job.started_at or job.created_at)
    return job.state is JobState.RUNNING and late > KINDS[job.kind].quiet


def condition(job: Job, now: float | None = None) -> str:
    """Its state in a word: the store's, or stalled, waiting or cancelling."""
    if is_stalled(job, now):
        return "stalled"
    if job.state is JobState.QUEUED and job.waits_for:
        return "waiting"
    return "cancelling" if job.state is JobState.RUNNING and job.cancelled_by else job.state.value


def pace(job: Job, now: float | None = None) -> str:
    """`1.2 of 2.0 GiB, about 40 s left`, as far as it is known; empty else."""
    done, whole, left = measures(job, now)
    return f"{done} of {whole}" + (f", about {left} left" if left else "") if whole else ""


def measures(job: Job, now: float | None = None) -> tuple[str, str, str]:
    """What is done, the whole, and about how long it still takes; each empty when that is not known."""
    if job.state is not JobState.RUNNING or job.bytes_done is None or not job.bytes_total:
        return "", "", ""
    left = (job.expected_at or 0.0) - (now or time.time())
    return *_parts(job.bytes_done, job.bytes_total), span(_rounded(left)) if left >= 1 else ""


def again(job: Job, now: float | None = None) -> str:
    """When it is tried again, or behind which job it waits; empty for one that waits for neither."""
    if job.retry_at is None:
        return f"waits behind job {job.behind}" if job.behind is not None else ""
    left = job.retry_at - (now or time.time())
    clock = time.strftime("%H:%M:%S UTC", time.gmtime(job.retry_at))
    when = f"tried again at {clock}" if left > 0 else "tried again as soon as there is a place"
    if not job.waits_for:
        return when
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(job.waits_since or job.created_at))
    return f"waits for the {job.waits_for} since {since}, {when}"


def _parts(done: int, total: int) -> tuple[str, str]:
    """Both in one unit, named once where it is the same."""
    whole, part = amount(total), amount(done)
    number, unit = part.split()
    return (number if unit == whole.split()[1] else part), whole


def _rounded(seconds: float) -> float:
    """An estimate is no more exact than it looks."""
    for step in (1, 5, 10, 30, 60):
        if seconds < step * 12:
            return max(step, round(seconds / step) * step)
    return round(seconds / 300) * 300
