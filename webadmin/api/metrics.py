"""For monitors: `/metrics` in the form of Prometheus, `/healthz` (alive) and `/readyz` (able to do its work).

/metrics takes a token with the scope metrics. Without one only loopback gets it, and only while no proxy stands in
front of this ([web] url), since a proxy's own requests come from loopback too. It has to ask under an address or as
`localhost`: a page elsewhere whose name leads here all of a sudden (DNS rebinding) asks under that name.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from webadmin.api import auth, durations, problems
from webadmin.context import parts, store
from workspaces import __version__, heartbeat
from workspaces.errors import WorkspacesError
from workspaces.model import WorkspaceState
from workspaces.rights import Right
from workspaces.scopes import Scope

FREE_MIN = 16 << 20  # bytes of the state directory's disk, without which nothing can be written for long


def install(app: Flask) -> None:
    app.add_url_rule("/healthz", "healthz", healthz)
    app.add_url_rule("/readyz", "readyz", readyz)
    app.add_url_rule("/metrics", "metrics", metrics)
    durations.install(app)


def healthz() -> Response:
    """`ok` when the store answers too."""
    store().data_version()
    return Response("ok\n", mimetype="text/plain")


def readyz() -> Response:
    """`ok`, or 503 and what is missing, a line each; no more than that, as anybody may ask."""
    missing = list(_missing())
    if not missing:
        return Response("ok\n", mimetype="text/plain")
    return Response("".join(f"{line}\n" for line in missing), 503, mimetype="text/plain")


def metrics() -> Response:
    """All figures."""
    try:
        if not _is_own():
            auth.caller(Scope.METRICS).check(Right.HOST)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Figures())
        text = generate_latest(registry) + generate_latest(durations.REGISTRY)
    except WorkspacesError as error:
        return problems.of(error)
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def _missing() -> Iterator[str]:
    settings = parts().settings
    try:
        store().check_writable()
        if store().waits_for_engine() or heartbeat.engine_answers(settings.locks) is False:
            yield "the engine does not answer"
    except WorkspacesError:
        yield "the store cannot be written"
    if heartbeat.trouble(settings.locks) is not None:
        yield "the worker shows no life"
    disk = os.statvfs(settings.home)
    if disk.f_bavail * disk.f_frsize < FREE_MIN:
        yield "the disk is full"


def _is_own() -> bool:
    """Whether the request comes from this host itself, by no proxy nor foreign page, and shows no token."""
    if parts().settings.web_url or "Authorization" in request.headers:
        return False
    try:
        asked = urlsplit(f"//{request.host}").hostname or ""
        if asked != "localhost":
            ipaddress.ip_address(asked)
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


class _Figures(Collector):
    """What the store and this host say now."""

    def collect(self) -> Iterable[Metric]:
        counted, settings = store().counted(), parts().settings
        yield _gauge("info", "The program.", (((__version__,), 1),), "version")
        states = {str(state): 0 for state in WorkspaceState} | counted.workspaces
        yield _gauge("workspaces", "Workspaces by state.", _rows(states), "state")
        yield _gauge("requests_waiting", "Snapshot requests that wait for a decision.", (((), counted.requests),))
        yield _gauge("request_oldest_seconds", "How long the first of them has waited.",
                     (((), counted.oldest_request),))  # fmt: skip
        yield _gauge("jobs", "Jobs by kind and state, but for those that are done.", counted.jobs.items(),
                     "kind", "state")  # fmt: skip
        yield _gauge("job_oldest_seconds", "How long the first job that could begin has waited.",
                     (((), counted.oldest_job),))  # fmt: skip
        yield _gauge("jobs_waiting_for", "Jobs that wait for what does not answer.", _rows(counted.outages), "what")
        yield _gauge("sessions", "Open SSH sessions by kind.", _rows(counted.sessions), "kind")
        yield _gauge("users", "Accounts that may log in.", (((), counted.users),))
        yield _gauge("versions", "Versions that are kept.", (((), counted.versions),))
        yield _gauge("version_bytes", "What they add to their bases, uncompressed.", (((), counted.version_bytes),))
        yield _gauge("archive_bytes", "What the archived ones of them add.", (((), store().archived().bytes),))
        yield _gauge("container_bytes", "What containers have written.", (((), counted.disk_bytes),))
        beaten = heartbeat.age(settings.locks)
        alive = heartbeat.trouble(settings.locks) is None
        yield _gauge("worker_up", "Whether the worker shows life.", (((), int(alive)),))
        if beaten is not None:
            yield _gauge("worker_heartbeat_seconds", "How long ago it last did.", (((), beaten),))
        yield from self._host()

    def _host(self) -> Iterable[Metric]:
        """The host as the worker saw it last, within the last minute or so while it lives."""
        sample = store().host_usage()
        if sample is None:
            return
        yield _gauge("host_cores_used", "Cores that were busy.", (((), sample.cpus),))
        yield _gauge("host_cores", "Cores.", (((), sample.cores),))
        yield _gauge("host_memory_bytes", "Memory.", ((("used",), sample.memory), (("total",), sample.memory_total)),
                     "part")  # fmt: skip
        yield _gauge("host_disk_bytes", "The fuller of its disks.",
                     ((("used",), sample.disk), (("total",), sample.disk_total)), "part")  # fmt: skip
        yield _gauge("host_load1", "Processes that ran or waited to, over a minute.", (((), sample.load),))


def _rows(counts: dict[str, int]) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), count) for name, count in counts.items()]


def _gauge(name: str, text: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"workspaces_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
