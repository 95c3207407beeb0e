"""What happens to jobs and workspaces, as server-sent events.

    GET /events?job=17,18&workspace=3
      job        the job as /jobs/17 answers it, at first and whenever it is another
      log        a line of its log: {"job": 17, "id": …, "at": …, "line": …}; its id is the event's, and ids only grow,
                 whosever the lines are, so that a client which comes back with Last-Event-ID misses none
      workspace  the workspace, likewise
      gone       it was removed: {"workspace": 3}
      end        all that was asked for are jobs, and they have ended
      over       the token may follow no more

The store is looked at only when something was written to it, in one thread for all streams.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from flask import Response, request
from pydantic import StringConstraints

from webadmin.api.auth import Caller, too_many
from webadmin.api.inputs import Input
from webadmin.api.limits import Limits
from webadmin.api.models import Job, LogLine, Workspace
from webadmin.api.operations import get
from webadmin.api.problems import Problem
from webadmin.context import parts
from webadmin.serving.handover import AGAIN, Stream, stream
from workspaces.errors import NotFound, WorkspacesError
from workspaces.model import JobState
from workspaces.store import Store

LOOK_SECONDS = 0.5
EVENTS = "text/event-stream"
BEAT_SECONDS = 15.0  # of silence, after which something is sent: it shows who is gone
ASK_SECONDS = 20.0  # between two questions whether the token may go on
WATCHED_MAX = 16
OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

Numbers = Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,17}(,[1-9][0-9]{0,17}){0,15})?$")]
Event = tuple[str, str, str]  # name, data, id
_pool = ThreadPoolExecutor(1, "events")


class EventsQuery(Input):
    job: Numbers = ""
    """Numbers of jobs, with commas between."""
    workspace: Numbers = ""
    """Numbers of workspaces, likewise."""


@dataclass
class _Watch:
    """What one stream follows, and what it has told."""

    store: Store
    jobs: list[int]
    workspaces: list[int]
    line: int  # of the logs, the last told
    version: int | None = None
    said: dict[tuple[str, int], str] = field(default_factory=dict)
    ended: bool = False

    def look(self) -> list[Event]:
        """What is new. Raises StoreError."""
        version = self.store.data_version()
        if version == self.version:
            return []
        found = list(self._news())
        self.version = version
        return found

    def _news(self) -> Iterator[Event]:
        # Read before their lines, and told after them: a job that has ended has none to come.
        jobs = [self.store.job(number) for number in self.jobs]
        # In one read, in the order of their ids: who comes back names one id for all jobs.
        for number, line in self.store.job_lines(self.jobs, self.line):
            self.line = line.id
            told = LogLine.model_validate(line).model_dump(mode="json")
            yield "log", json.dumps({"job": number, **told}), str(line.id)
        for job in jobs:
            yield from self._told("job", job.id, Job.of(job).model_dump_json())
        for number in list(self.workspaces):
            try:
                found = Workspace.model_validate(self.store.workspace(number))
            except NotFound:
                self.workspaces.remove(number)
                yield "gone", json.dumps({"workspace": number}), ""
            else:
                yield from self._told("workspace", number, found.model_dump_json())
        self.ended = not self.workspaces and all(job.state in OVER for job in jobs)

    def _told(self, kind: str, number: int, text: str) -> Iterator[Event]:
        if self.said.get((kind, number)) != text:
            self.said[kind, number] = text
            yield kind, text, ""


@get("/events")
def follow_events(caller: Caller, query: EventsQuery) -> Annotated[Response, EVENTS]:
    """Follow jobs and workspaces as server-sent events.

    `job` and `workspace` events have the thing as it is now; `log` a line of a job's log, with an id to go on after
    (`Last-Event-ID`); `gone` is of a workspace that was removed; `end` comes when all jobs have ended and nothing else
    is followed; `over` when the token may follow no more.
    """
    jobs, spaces = _numbers(query.job), _numbers(query.workspace)
    if not 0 < len(jobs) + len(spaces) <= WATCHED_MAX:
        raise Problem(422, f"1 to {WATCHED_MAX} jobs and workspaces can be followed.")
    for number in jobs:
        caller.job(number)
    for number in spaces:
        caller.workspace(number)
    limits = parts().limits
    if AGAIN not in request.environ and limits.full(caller.user.id):
        raise too_many(30)
    text = request.headers.get("Last-Event-ID", "")
    last = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    watch = _Watch(caller.store, jobs, spaces, last)
    return stream(partial(_follow, watch, limits, caller.user.id))


def _numbers(text: str) -> list[int]:
    return list(dict.fromkeys(int(part) for part in text.split(",") if part))


async def _follow(watch: _Watch, limits: Limits, user_id: int, stream: Stream) -> None:
    told = asked = time.monotonic()
    with limits.stream(user_id):
        while not stream.gone.is_set():
            try:
                found = await asyncio.get_running_loop().run_in_executor(_pool, watch.look)
            except WorkspacesError:  # the store does not answer: the client comes back and is told why
                return
            for name, data, number in found:
                await stream.event(name, data, number)
            now = time.monotonic()
            if watch.ended:
                await stream.event("end")
                return
            if found:
                told = now
            elif now - told > BEAT_SECONDS:
                told = now
                await stream.write(":\n\n")
            if now - asked > ASK_SECONDS:
                asked = now
                if not await stream.allowed():
                    await stream.event("over")
                    return
            await stream.pause(LOOK_SECONDS)
