"""How long answers took, by endpoint; kept in memory, for one process, until a monitor asks."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)

REGISTRY = CollectorRegistry()
_SECONDS = Histogram(
    "workspaces_http_request_seconds",
    "How long the application took for an answer, without its sending.",
    ("endpoint", "method", "status"),
    registry=REGISTRY,
    buckets=BUCKETS,
)


def install(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.begun_at = time.perf_counter()


def _end(response: Response) -> Response:
    begun = g.pop("begun_at", None)
    if begun is not None:
        # Labels are few, whatever is asked for: endpoints, not addresses, and no method that nobody knows.
        method = request.method if request.url_rule else "other"
        status = f"{response.status_code // 100}xx"
        _SECONDS.labels(request.endpoint or "none", method, status).observe(time.perf_counter() - begun)
    return response
