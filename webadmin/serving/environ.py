"""A request as ASGI gives it, as WSGI wants it; and who and where the visitor is, behind a proxy or not."""

from __future__ import annotations

import io
import ipaddress
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Environ = dict[str, Any]
Headers = Iterable[tuple[bytes, bytes]]

# What a client says of a proxy is believed from the proxy only, and nothing but the address.
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP", "HTTP_PROXY")


@dataclass(frozen=True, slots=True)
class Public:
    """The configured public address. Behind a proxy it is what the browser typed, whatever Host the proxy sends."""

    scheme: str
    host: str
    path: str

    @classmethod
    def of(cls, url: str) -> Public | None:
        """None without one: then nobody is a proxy."""
        if not url:
            return None
        parts = urlsplit(url)
        return cls(parts.scheme, parts.netloc, parts.path.rstrip("/"))


def to_environ(scope: Any, body: bytes, public: Public | None) -> Environ:
    """The WSGI environment of an HTTP request, or of the GET with which a websocket begins."""
    raw = scope.get("raw_path") or scope["path"].encode()
    environ: Environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": public.path if public else "",
        "PATH_INFO": unquote_to_bytes(raw).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "SERVER_NAME": (scope.get("server") or ("localhost", 0))[0],
        "SERVER_PORT": str((scope.get("server") or ("", 0))[1] or 0),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": public.scheme if public else "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    _add_headers(environ, scope["headers"])
    environ["REMOTE_ADDR"] = _visitor(scope, environ.get("HTTP_X_FORWARDED_FOR", "") if public else "")
    for name in [name for name in environ if name.startswith(_FORWARDED)]:
        del environ[name]
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # the body is whole
    environ.pop("HTTP_UPGRADE", None)  # Flask's routes are for plain requests
    if public:
        environ["HTTP_HOST"] = public.host
    return environ


def _add_headers(environ: Environ, headers: Headers) -> None:
    for name, value in headers:
        if b"_" in name:  # would be taken for the one with a hyphen
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text


def _visitor(scope: Any, forwarded: str) -> str:
    """The visitor's address: the peer's, or what the one proxy says of its own peer, which is the last it adds."""
    peer = str((scope.get("client") or ("",))[0])
    last = forwarded.rpartition(",")[2].strip().strip('"')
    if last.startswith("["):
        last = last[1:].partition("]")[0]
    elif last.count(":") == 1:
        last = last.partition(":")[0]
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return peer


def head_as_get(app: WSGIApplication) -> WSGIApplication:
    """HEAD is answered as GET, without the body: views tell GET from POST, and one that does something when it is not
    GET would do it without a form's token."""

    def answer(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start)
        made = app({**environ, "REQUEST_METHOD": "GET"}, start)
        if close := getattr(made, "close", None):
            close()
        return ()

    return answer


def own_origin(environ: Environ) -> bool:
    """Whether the page that opens a websocket is of this site: browsers say so, and no other site can have them lie.

    Cookies are sent along whoever opens it, so one without is refused as well.
    """
    origin = environ.get("HTTP_ORIGIN", "")
    return bool(origin) and origin == f"{environ['wsgi.url_scheme']}://{environ.get('HTTP_HOST', '')}"
