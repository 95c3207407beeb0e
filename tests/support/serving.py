"""The web application's own server in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from webadmin.server import Server


@contextmanager
def in_a_thread(server: Server) -> Iterator[str]:
    """Gives the address of its pages once it takes requests."""
    started = threading.Event()
    thread = threading.Thread(target=server.serve_until_stopped, args=[lambda *_: started.set()], daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive(), "the server did not end"
