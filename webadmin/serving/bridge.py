"""The ASGI application: reads a request whole, has Flask answer it in a thread, and sends the answer.

body, at most BODY_MAX ─► a thread, when one is free ─► Flask; what is sent to an address in `apart` has threads apart
    a short answer  ─► collected, the thread is free ─► sent
    a long one      ─► the thread is free ─► one of LONG_THREADS: each part is sent before the next is made; ends when
                       the reader is gone
    handed over     ─► the thread is free ─► its coroutine

So nothing that waits for a client has one of the threads that make pages, nor what waits here for its turn.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.utils import ClientDisconnected

from webadmin.api import problems
from webadmin.serving.environ import Environ, Public, own_origin, to_environ
from webadmin.serving.handover import AGAIN, KEY, WHO, Gone, Socket, Stream
from workspaces.errors import WorkspacesError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

THREADS = 8
APART_THREADS = 64
LONG_THREADS = 16
BODY_MAX = (1 << 20) + (128 << 10)  # bytes, for a list of people and its form; the application mostly takes far less
SMALL = 64 << 10  # bytes of a body; what larger ones have more,
LARGE_MAX = 64 << 20  # all of them together, is at most this
WAITING_MAX = 512  # requests that wait for a thread
LONG = 256 << 10  # bytes, from which an answer is sent while it is made
LONG_SECONDS = 0.5  # after which one is that takes its time
WHOLE = 1 << 20  # bytes of one whose length is known, such as a script, up to which it is not


Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Answer:
    """What Flask answers, as it comes. All but `gone` is the thread's until it is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send | None) -> None:
        self.status = 500
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.begun = False
        self.gone = threading.Event()
        self._loop, self._send = loop, send

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info and self.begun:
            raise exc_info[1]
        self.status, self.headers = int(status[:3]), headers
        return self.chunks.append

    def collect(self, pieces: Iterator[bytes]) -> bool:
        """Take the pieces. False when they are many or slow, and there may be more: then `pass_on` takes the rest."""
        size, since = 0, time.monotonic()
        length = next((int(value) for name, value in self.headers if name.lower() == "content-length"), -1)
        for piece in pieces:
            if self.gone.is_set():
                return True
            self.chunks.append(piece)
            size += len(piece)
            is_long = size >= LONG or (size and time.monotonic() - since > LONG_SECONDS)
            if self._send and is_long and size != length and not 0 <= length <= WHOLE:
                return False
        return True

    def pass_on(self, pieces: Iterator[bytes]) -> None:
        """Send the pieces on, in this thread's time."""
        size, since = 0, time.monotonic()
        for piece in pieces:
            if self.gone.is_set():
                return
            self.chunks.append(piece)
            size += len(piece)
            if size >= LONG or (size and time.monotonic() - since > LONG_SECONDS):
                asyncio.run_coroutine_threadsafe(self.flush(more=True), self._loop).result()
                size, since = 0, time.monotonic()

    async def flush(self, *, more: bool) -> None:
        assert self._send is not None
        data, self.chunks = b"".join(self.chunks), []
        if not self.begun:
            self.begun = True
            names = {name.lower() for name, _ in self.headers}
            if not more and "content-length" not in names and self.status not in (204, 304):
                self.headers.append(("Content-Length", str(len(data))))
            await self._send(self.opening())
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def opening(self, kind: str = "http.response.start") -> Message:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        return {"type": kind, "status": self.status, "headers": headers}


class Bridge:
    """Flask, or another WSGI application, for an ASGI server. `url` is the public address, empty without a proxy.

    What is posted to the addresses in `apart` may take long.
    """

    def __init__(self, app: WSGIApplication, url: str = "", apart: Collection[str] = ()) -> None:
        self._app = app
        self._public = Public.of(url)
        self._apart = apart
        self._pool = ThreadPoolExecutor(THREADS, "web")
        self._pool_apart = ThreadPoolExecutor(APART_THREADS, "apart")
        self._long = ThreadPoolExecutor(LONG_THREADS, "long")
        self._waiting = 0
        self._large = 0  # bytes beyond SMALL, of the bodies that there are
        self._lasting: set[asyncio.Task[None]] = set()
        self._ending = False

    def end_lasting(self) -> None:
        """End streams and websockets, so that the server can."""
        self._ending = True
        for task in self._lasting:
            task.cancel()

    def close(self) -> None:
        for pool in (self._pool, self._pool_apart, self._long):
            pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send)
            elif scope["type"] == "websocket":
                with suppress(ClientDisconnected):
                    await self._websocket(scope, receive, send)
        except WorkspacesError:
            raise  # the answer breaks off, which is known
        except Exception:
            log.exception("%s %s", scope.get("method", "websocket"), scope["path"])
            raise

    # HTTP

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        body = await self._body(scope, receive, send)
        if body is None:
            return
        try:
            await self._request(scope, body, receive, send)
        finally:
            self._large -= max(0, len(body) - SMALL)

    async def _request(self, scope: Any, body: bytes, receive: Receive, send: Send) -> None:
        if self._waiting >= WAITING_MAX:
            await self._say(scope, send, 503, "Too many requests at once.", "Try again in a moment.")
            return
        environ = to_environ(scope, body, self._public)
        pristine = dict(environ)
        answer = _Answer(asyncio.get_running_loop(), send)
        left = asyncio.Event()
        watch = asyncio.create_task(_until_gone(receive, answer.gone, left))
        try:
            await self._answer(environ, answer)
            handler = environ.get(KEY)
            if handler and answer.status == 200 and environ["REQUEST_METHOD"] != "HEAD":
                await send(answer.opening())
                stream = Stream(send, left, lambda: self._allowed(pristine, environ[WHO], 200))
                await self._last(handler(stream))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await answer.flush(more=False)
        finally:
            answer.gone.set()
            watch.cancel()

    async def _say(self, scope: Any, send: Send, status: int, detail: str, hint: str) -> None:
        """An answer without the application; the connection ends after it."""
        text, kind = f"{detail} {hint}\n", "text/plain; charset=utf-8"
        if scope["path"].startswith(problems.PREFIX):
            base = self._public.path if self._public else ""
            text, kind = problems.said(status, detail, hint, scope["path"], base), problems.TYPE
        data = text.encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(data)).encode())]
        headers += [(b"connection", b"close"), *([(b"retry-after", b"2")] if status == 503 else [])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data, "more_body": False})

    async def _body(self, scope: Any, receive: Receive, send: Send) -> bytes | None:
        """The request's body; None when it is too long, or too many are, which is answered, or it never came.

        One that is returned counts as large until the request is over.
        """
        length = dict(scope["headers"]).get(b"content-length", b"0")
        size, large, parts, more = 0, 0, list[bytes](), True
        too_long, too_many, taken = int(length) > BODY_MAX, False, False
        try:
            while more and not too_long and not too_many:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                parts.append(message.get("body", b""))
                size, more = size + len(parts[-1]), message.get("more_body", False)
                too_long = size > BODY_MAX
                self._large += max(0, size - SMALL) - large
                large = max(0, size - SMALL)
                too_many = large > 0 and self._large > LARGE_MAX
            taken = not too_long and not too_many
        finally:
            if not taken:
                self._large -= large
        if too_long:
            await self._say(scope, send, 413, "What was sent is too large.", f"At most {BODY_MAX} bytes are taken.")
        elif too_many:
            await self._say(scope, send, 503, "Too much is sent at once.", "Try again in a moment.")
        return b"".join(parts) if taken else None

    async def _answer(self, environ: Environ, answer: _Answer) -> None:
        """Have a thread run the application, and another one send what is long."""
        loop = asyncio.get_running_loop()
        is_apart = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] in self._apart
        self._waiting += 1
        try:
            pool = self._pool_apart if is_apart else self._pool
            rest = await loop.run_in_executor(pool, self._run, environ, answer)
        finally:
            self._waiting -= 1
        if rest is not None:
            try:
                await answer.flush(more=True)
            finally:
                await loop.run_in_executor(self._long, self._pass_on, answer, *rest)

    def _run(self, environ: Environ, answer: _Answer) -> tuple[Iterator[bytes], Iterable[bytes]] | None:
        """The pieces of a long answer that are left, and what is to be closed after them."""
        if answer.gone.is_set():  # while it waited
            return None
        made = self._app(environ, answer.start)
        is_all = True
        try:
            pieces = iter(made)
            is_all = answer.collect(pieces)
        finally:
            if is_all:
                _close(made)
        return None if is_all else (pieces, made)

    def _pass_on(self, answer: _Answer, pieces: Iterator[bytes], made: Iterable[bytes]) -> None:
        try:
            answer.pass_on(pieces)
        finally:
            _close(made)

    async def _allowed(self, pristine: Environ, who: object, status: int) -> bool:
        """Whether the request would be handed over now, or nobody can tell: then it is asked again later."""
        environ = {**pristine, AGAIN: who, "wsgi.input": io.BytesIO()}
        answer = _Answer(asyncio.get_running_loop(), None)
        await self._answer(environ, answer)
        return answer.status >= 500 or (KEY in environ and answer.status == status)

    async def _last(self, work: Awaitable[None]) -> None:
        """Let it go on until it or the server ends."""
        if self._ending:
            return
        task = asyncio.ensure_future(work)
        self._lasting.add(task)
        try:
            with suppress(Gone):
                await task
        except asyncio.CancelledError:
            if not task.done():  # the server cancels this, not that
                task.cancel()
                raise
        finally:
            self._lasting.discard(task)

    # websockets

    async def _websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        environ = to_environ(scope, b"", self._public)
        environ["HTTP_X_FRAGMENT"] = "1"  # a script asks: it is told 401, not led to the sign-in page
        pristine = dict(environ)
        answer = _Answer(asyncio.get_running_loop(), None)
        if not own_origin(environ):
            answer.status, answer.chunks = 403, [b"Websockets are for pages of this site.\n"]
        elif self._waiting >= WAITING_MAX:
            answer.status, answer.chunks = 503, [b"Too many requests at once.\n"]
        else:
            await self._answer(environ, answer)
        handler = environ.get(KEY)
        if handler is None or answer.status != 426:
            await send(answer.opening("websocket.http.response.start"))
            await send({"type": "websocket.http.response.body", "body": b"".join(answer.chunks), "more_body": False})
            return
        await send({"type": "websocket.accept"})
        socket = Socket(receive, send, lambda: self._allowed(pristine, environ[WHO], 426), environ["REMOTE_ADDR"])
        try:
            await self._last(handler(socket))
            await socket.close()
        except Exception:
            log.exception("websocket %s", scope["path"])
            await socket.close(1011, "Something went wrong here.")


def _close(made: Iterable[bytes]) -> None:
    """As WSGI wants it after an answer, whole or not."""
    if close := getattr(made, "close", None):
        close()


async def _until_gone(receive: Receive, gone: threading.Event, left: asyncio.Event) -> None:
    """The body is read: the next that comes is that the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
    left.set()
