"""What pages are measured on: a store of 500 participants, this program's server and a bare one, people who read.

    web_world() ─► the store, generated ─► two servers ─► who signs in ─► which pages there are ─► WebWorld
                ◄─ whatever happens: servers and directory are removed again

Nothing else is needed: no engine, no gateway, no worker.
"""

from __future__ import annotations

import http.client
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

from bench.servers import processes
from bench.turns import Failed
from tests.support import bigstore
from webadmin.app import create_app
from workspaces import accounts, settings
from workspaces.store import Store

SECONDS = 30.0  # that one answer may take
# Lists are read in more than one way.
SEARCHED = {
    "admin.workspaces": ("q=state:running+idle%3E1h&sort=-disk", "size=100"),
    "admin.users": ("sort=-login", "q=challenge:als"),
    "admin.jobs": ("q=state:failed",),
    "admin.events": ("q=ensemble", "page=1000"),
}


@dataclass(frozen=True, slots=True)
class Served:
    """One server process."""

    process: subprocess.Popen[str]
    port: int

    def seconds(self) -> float:
        """CPU time that it has taken."""
        return processes()[self.process.pid].seconds


@dataclass(slots=True)
class Reader:
    """A browser: one connection, which is kept, and the cookies of a sign-in."""

    port: int
    cookie: str = ""
    _connection: http.client.HTTPConnection | None = None

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body. Raises Failed."""
        return self._ask("GET", path, None, headers or {})

    def open(self, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """The answer with its body unread, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request("GET", path, headers={"Cookie": self.cookie, **(headers or {})})
        return connection.getresponse()

    def sign_in(self, name: str, password: str) -> None:
        _, headers, body = self.get("/login")
        self._take(headers)
        token = re.search(rb'name="csrf_token" value="([^"]+)"', body)
        if token is None:
            raise Failed("The sign-in page has no form.")
        form = {"csrf_token": unescape(token[1].decode()), "name": name, "password": password}
        status, headers, _ = self._ask(
            "POST", "/login", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"}
        )
        if status != 302:
            raise Failed(f"{name} cannot sign in: {status}")
        self._take(headers)

    def _take(self, headers: http.client.HTTPMessage) -> None:
        for value in headers.get_all("Set-Cookie") or ():
            self.cookie = value.partition(";")[0]

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        kept, self._connection = self._connection, None
        try:
            connection = kept or http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
            connection.request(method, path, body, {"Cookie": self.cookie, **headers})
            answer = connection.getresponse()
            found = answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as problem:
            if kept is not None:  # the server closes one that is not used for some seconds; a browser opens another
                return self._ask(method, path, body, headers)
            raise Failed(f"{path}: {problem!r}") from problem
        self._connection = connection
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A page, its name in the table, and whose it is."""

    name: str
    path: str
    who: str


@dataclass(slots=True)
class WebWorld:
    store: Store
    program: Served
    bare: Served
    cookies: dict[str, str]
    pages: list[Asked] = field(default_factory=list)

    def reader(self, who: str) -> Reader:
        return Reader(self.program.port, self.cookies[who])


def _serve(home: Path, kind: str) -> Served:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.webserver", str(home), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdigit():
        process.kill()
        process.wait()
        raise Failed(f"The {kind} server does not start.")
    return Served(process, int(line))


def _end(served: Served) -> None:
    served.process.kill()  # nothing of it is kept, and it would wait for its readers
    served.process.wait()


def _pages(world: WebWorld, rules: list[tuple[str, str]], person: str) -> Iterator[Asked]:
    """Of all addresses that take GET, those that show a page to the administrator, or else to the participant."""
    for endpoint, path in rules:
        for who in (bigstore.ADMIN, person):
            answer = world.reader(who).open(path)
            shown = answer.status == 200 and answer.headers.get_content_type() == "text/html"
            answer.close()
            if shown:
                yield Asked(path, path, who)
                for query in SEARCHED.get(endpoint, ()):
                    yield Asked(f"{path}?{query}", f"{path}?{query}", who)
                break
        if endpoint == "me.page":
            yield Asked(f"{path} of a participant", path, person)


def _rules(configured: settings.Settings, store: Store, person: str) -> list[tuple[str, str]]:
    """Endpoint and address of each GET route whose arguments are known."""
    space = store.workspaces_of(person)[0]
    known: dict[str, object] = {
        "name": person,
        "slug": space.challenge,
        "workspace_id": space.id,
        "snapshot_id": store.find_snapshots("state:requested").items[0].snapshot.id,
        "version": 1,
        "job_id": store.find_jobs("kind:commit").items[0].id,
        "session_id": store.find_sessions(f"user:{person}").items[0].id,
    }
    app = create_app(configured, store)
    urls = app.url_map.bind("127.0.0.1")
    return sorted(
        (rule.endpoint, urls.build(rule.endpoint, {name: known[name] for name in rule.arguments}))
        for rule in app.url_map.iter_rules()
        if rule.methods and "GET" in rule.methods and rule.arguments <= known.keys()
    )


@contextmanager
def web_world(say: Callable[[str], None], size: bigstore.Size) -> Iterator[WebWorld]:
    """All of it; removed at the end. Raises Failed."""
    with ExitStack() as ends:
        home = Path(tempfile.mkdtemp(prefix="workspaces-bench-web-", dir="/var/tmp"))
        ends.callback(shutil.rmtree, home, ignore_errors=True)
        for name in ("keys", "locks"):
            (home / name).mkdir(mode=0o700)
        begun = time.monotonic()
        password = secrets.token_urlsafe(12)
        configured = settings.load(home)
        store = bigstore.build(configured.database, size, accounts.hash_password(password))
        ends.callback(store.close)
        say(f"[{time.monotonic() - begun:6.1f} s] A store of {size.people} participants in {home}")
        program, bare = _serve(home, "program"), _serve(home, "bare")
        ends.callback(_end, program)
        ends.callback(_end, bare)
        person = bigstore.name_of(1)
        world = WebWorld(store, program, bare, {})
        for who in (bigstore.ADMIN, person):
            reader = Reader(program.port)
            reader.sign_in(who, password)
            world.cookies[who] = reader.cookie
        world.pages = list(_pages(world, _rules(configured, store, person), person))
        yield world
