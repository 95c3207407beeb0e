"""A Docker daemon that answers as a test wants, on a unix socket: for what a real one does once in a year."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Answer = tuple[int, Any]  # status and JSON, or bytes for the beginning of a body that never goes on
Route = tuple[str, Callable[[], Answer]]  # pattern of "METHOD /path?query" without the API's version

INFO = {"ID": "fake", "DockerRootDir": "/nowhere", "DriverStatus": [], "SecurityOptions": [], "Labels": []}


@contextmanager
def fake_daemon(directory: Path, routes: Sequence[Route], api: str = "1.41") -> Iterator[tuple[str, list[str]]]:
    """Its URL, and the requests that it got. The first route that matches answers; none: 404."""
    requests: list[str] = []
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {re.sub(r'^/v[0-9.]+', '', self.path)}"
            requests.append(request)
            status: int
            value: Any
            status, value = 404, {"message": f"no {request}"}
            for pattern, respond in routes:
                if re.fullmatch(pattern, request):
                    status, value = respond()
                    break
            else:
                if request == "GET /info":
                    status, value = 200, INFO
                elif request == "GET /version":
                    status, value = (
                        200,
                        {"ApiVersion": api, "MinAPIVersion": "1.24", "Version": "fake", "Arch": "amd64"},
                    )
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + isinstance(value, bytes)))
            self.end_headers()
            self.wfile.write(body)
            if isinstance(value, bytes):
                self.wfile.flush()
                ended.wait(60)

        do_GET = do_POST = do_DELETE = answer

        def address_string(self) -> str:
            return "test"

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        block_on_close = False

    path = directory / "docker.sock"
    with Server(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"unix://{path}", requests
        finally:
            ended.set()
            server.shutdown()
