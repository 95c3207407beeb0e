"""One server process of the measurement of pages: `python -m bench.webserver HOME program` or `… bare`.

Both are served alike, by the server of `workspaces web`. The bare one answers a page of the same size from memory: what
Flask and the server take by themselves. The port is the first line of standard output.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from flask import Flask

from webadmin.server import main as serve
from workspaces import settings
from workspaces.store import Store

BARE_BYTES = 30_000


def bare() -> Flask:
    """An application of one page."""
    app = Flask("bare")
    page = f"<!doctype html><title>bare</title><p>{'x' * BARE_BYTES}</p>"
    app.add_url_rule("/", "page", lambda: page)
    return app


def main(home: Path, kind: str) -> None:
    configured = replace(settings.load(home), web_listen=("127.0.0.1", 0))
    store = Store.open(configured.database)
    serve(configured, store, lambda _host, port: print(port, flush=True), bare() if kind == "bare" else None)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
