"""Sessions on the administrators' pages: lists, ending, watching and replaying, and that every look is told."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.web import CHEAP_HASH, Web, web_fixture  # noqa: F401
from tests.test_web_flows import text
from webadmin import tailing
from webadmin.serving.handover import Gone, Stream
from workspaces import casts
from workspaces.model import Role

HOSTILE = "</script><script>alert(1)</script>\x1b]0;x\x07\u202e\u2028 é"


def begin(web: Web, name: str = "alice", *, recorded: bool = True, lines: bytes = b"") -> int:
    """A session of `name` that goes on, as its gateway writes it down."""
    number = web.store.begin_session(name, web.workspace_id(name), "shell", "192.0.2.7<b>", "p", time.time())
    if recorded:
        web.settings.recordings.mkdir(exist_ok=True)
        web.store.begin_recording(number, f"{number}.cast", time.time() - 60)
        file(web, number).write_bytes(casts.header(100, 30, 0.0, "xterm", HOSTILE) + lines)
    return number


def file(web: Web, number: int) -> Path:
    return web.settings.recordings / f"{number}.cast"


def end(web: Web, number: int) -> None:
    web.store.end_session(number, time.time())
    web.store.end_recording(number, file(web, number).stat().st_size, 2.5, 0)


def looks(web: Web) -> list[tuple[str, str]]:
    kinds = ("session.watched", "session.replayed", "session.exported")
    return [(event.actor, event.kind) for event in reversed(web.store.events()) if event.kind in kinds]


def test_the_lists(web: Web) -> None:
    chief = web.browser("chief")
    assert "Nobody is on" in chief.get("/admin/sessions").text
    assert "No session yet" in chief.get("/admin/sessions?show=all").text
    live, over = begin(web), begin(web, "bob")
    end(web, over)
    for path in ("/admin/sessions", "/admin/sessions/live"):
        page = chief.get(path).text
        assert f'id="e{live}"' in page
        assert f'id="e{over}"' not in page
        assert "192.0.2.7&lt;b&gt;" in page
        assert "being recorded" in page
    page = chief.get("/admin/sessions?show=all").text
    assert page.index(f'id="e{over}"') < page.index(f'id="e{live}"')
    assert "Displaying 1–2 of 2" in text(page)
    assert 'data-live="/admin/sessions/live?show=all"' in page
    assert f'id="e{live}"' not in chief.get("/admin/sessions?show=all&q=user:bob+recorded:yes").text
    assert "No session matches" in chief.get("/admin/sessions?show=all&q=watched:yes").text
    wrong = chief.get("/admin/sessions?q=colour:red")
    assert wrong.status_code == 400
    assert "there is nothing named" in wrong.text


def test_who_looks_is_in_the_record_before_a_byte_is_shown_and_the_person_sees_it(web: Web) -> None:
    line = casts.line(1.0, "o", HOSTILE)
    number = begin(web, lines=line)
    chief = web.browser("chief")
    for path in ("stream", "recording"):
        refused = chief.get(f"/admin/sessions/{number}/{path}")
        assert refused.status_code == 403
        assert HOSTILE[:9] not in refused.text
    back = chief.get(f"/admin/sessions/{number}/watch")
    assert (back.status_code, back.location) == (302, f"/admin/sessions/{number}")
    assert looks(web) == []

    page = chief.post(f"/admin/sessions/{number}/watch/begin", follow_redirects=True)
    assert looks(web) == [("chief", "session.watched")]
    assert f'data-stream="/admin/sessions/{number}/stream"' in page.text
    assert "'wasm-unsafe-eval'" in page.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert chief.post(f"/admin/sessions/{number}/replay/begin").status_code == 409, "not while it goes on"

    web.store.add_user("deputy", Role.ADMIN, CHEAP_HASH, actor="chief")
    deputy = web.browser("deputy")
    assert deputy.get(f"/admin/sessions/{number}/stream").status_code == 403, "another one's look is not his"
    end(web, number)
    assert chief.post(f"/admin/sessions/{number}/watch/begin").status_code == 409
    assert chief.get(f"/admin/sessions/{number}/stream").status_code == 409
    assert chief.get(f"/admin/sessions/{number}/recording").status_code == 403
    replay = deputy.post(f"/admin/sessions/{number}/replay/begin", follow_redirects=True).text
    assert f'data-recording="/admin/sessions/{number}/recording"' in replay
    recording = deputy.get(f"/admin/sessions/{number}/recording")
    assert recording.data == file(web, number).read_bytes()
    assert json.loads(recording.data.splitlines()[1]) == [1.0, "o", HOSTILE]
    assert recording.mimetype == "application/x-asciicast"
    assert recording.headers["X-Content-Type-Options"] == "nosniff"
    export = deputy.post(f"/admin/sessions/{number}/export")
    assert export.headers["Content-Disposition"] == f'attachment; filename="session-{number}.cast"'
    assert export.data == file(web, number).read_bytes()
    assert looks(web) == [("chief", "session.watched"), ("deputy", "session.replayed"), ("deputy", "session.exported")]

    for browser, path in ((chief, f"/admin/sessions/{number}"), (web.browser("alice"), "/me/sessions")):
        page = browser.get(path, follow_redirects=True)
        if page.status_code == 404:
            continue
        assert "chief" in text(page.text)
        assert "deputy" in text(page.text)


def test_there_may_be_nothing_to_see(web: Web) -> None:
    chief = web.browser("chief")
    plain = begin(web, recorded=False)
    refused = chief.post(f"/admin/sessions/{plain}/watch/begin")
    assert refused.status_code == 409
    assert "was not recorded" in refused.text
    assert "Watch" not in re.findall(r">([^<]*)</button>", chief.get(f"/admin/sessions/{plain}").text)
    gone = begin(web)
    end(web, gone)
    web.store.forget_recordings([gone])
    assert chief.post(f"/admin/sessions/{gone}/replay/begin").status_code == 409
    assert "removed" in text(chief.get(f"/admin/sessions/{gone}").text)
    assert looks(web) == []
    lost = begin(web)
    end(web, lost)
    file(web, lost).unlink()
    chief.post(f"/admin/sessions/{lost}/replay/begin")
    assert chief.get(f"/admin/sessions/{lost}/recording").status_code == 404


def test_ending_one_says_what_ends(web: Web) -> None:
    number, chief = begin(web), web.browser("chief")
    page = text(chief.get(f"/admin/sessions/{number}/end").text)
    assert "End the session of alice in als/alice?" in page
    assert "what runs in its foreground" in page
    assert web.store.session(number).ended_at is None
    assert "ends within two seconds" in chief.post(f"/admin/sessions/{number}/end", follow_redirects=True).text
    assert web.store.session(number).ended_at is not None
    assert web.store.events(kind="session.killed")[0].actor == "chief"
    for answer in (chief.get(f"/admin/sessions/{number}/end"), chief.post(f"/admin/sessions/{number}/end")):
        assert answer.status_code == 409


# --- the stream ---


class Reader:
    """What comes out of a stream; `rights` last until they are taken away, and the recording until it `is_written`."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self.rights = True
        self.noted = 0
        self.gone = asyncio.Event()
        self.is_written: Callable[[], bool] = lambda: False
        self._work = tailing.follower(path, self._note, lambda: self.is_written())

    async def run(self) -> None:
        async def send(message: dict[str, object]) -> None:
            body = message["body"]
            assert isinstance(body, bytes)
            self.said.append(body.decode())

        await self._work(Stream(send, self.gone, self.allowed))

    async def allowed(self) -> bool:
        return self.rights

    def _note(self) -> None:
        self.noted += 1

    @property
    def messages(self) -> list[object]:
        return [json.loads(data) for data in re.findall(r"^data: (.+)$", "".join(self.said), re.MULTILINE)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "ASK_SECONDS", "BEAT_SECONDS"):
        monkeypatch.setattr(tailing, name, 0.01)


async def until(condition: Callable[[], object]) -> None:
    """A file has no event to wait for."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not within 10 s")


@pytest.mark.usefixtures("quick")
def test_a_stream_begins_with_what_is_shown_and_goes_on_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.cast"
    path.write_bytes(
        casts.header(100, 30, 0.0, "xterm", "t")
        + casts.line(1.0, "o", "before ")
        + casts.line(2.0, "r", "120x40")
        + casts.line(3.0, "o", HOSTILE)
    )

    async def run() -> None:
        reader = Reader(path)
        task = asyncio.create_task(reader.run())
        await until(lambda: len(reader.messages) == 1)
        assert reader.messages[0] == {"cols": 120, "rows": 40, "time": 3.0, "init": f"before {HOSTILE}"}
        with path.open("ab", buffering=0) as file:
            file.write(casts.line(4.0, "o", "after") + b'[5.0, "o", "to')
            await until(lambda: len(reader.messages) == 2)
            file.write(b'rn"]\n' + casts.line(6.0, "r", "1x99999999999") + casts.line(6.0, "m", casts.gap(1 << 20)))
            await until(lambda: len(reader.messages) == 4)
        assert reader.messages[1:3] == [[4.0, "o", "after"], [5.0, "o", "torn"]]
        assert "[1.0 MiB left out]" in str(reader.messages[3])
        await until(lambda: reader.noted > 1)
        reader.rights = False
        await asyncio.wait_for(task, 10)
        assert reader.said[-1] == "event: done\ndata: \n\n"

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_a_stream_of_much_output_begins_with_the_last_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "INIT_MAX", 1000)
    path = tmp_path / "a.cast"
    path.write_bytes(b"".join(casts.line(float(n), "o", "x" * 99 + "\n") for n in range(50_000)))

    async def run() -> None:
        reader = Reader(path)
        task = asyncio.create_task(reader.run())
        await until(lambda: reader.messages)
        assert isinstance(reader.messages[0], dict)
        assert len(reader.messages[0]["init"]) == 1000
        assert reader.messages[0]["time"] == 49_999.0
        reader.gone.set()
        with path.open("ab") as file:
            file.write(casts.line(5.0, "o", "x"))
        with pytest.raises(Gone):
            await asyncio.wait_for(task, 10)

    asyncio.run(run())


def test_a_stream_that_nobody_reads_any_more_ends_though_nothing_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "LOOK_SECONDS", 3600.0)
    path = tmp_path / "a.cast"
    path.write_bytes(casts.header(80, 24, 0.0, "xterm", "t"))

    async def run() -> None:
        reader = Reader(path)
        task = asyncio.create_task(reader.run())
        await until(lambda: reader.messages)
        reader.gone.set()
        with pytest.raises(Gone):
            await asyncio.wait_for(task, 10)
        assert reader.noted == 0

    asyncio.run(run())


def test_a_stream_says_something_now_and_then_or_nobody_would_know_who_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_SECONDS", "SILENT_SECONDS"):
        monkeypatch.setattr(tailing, name, 0.01)

    async def run() -> None:
        reader = Reader(tmp_path / "a.cast")
        task = asyncio.create_task(reader.run())
        await until(lambda: reader.said[1:4] == [":\n\n"] * 3)
        reader.gone.set()
        with pytest.raises(Gone):
            await asyncio.wait_for(task, 10)

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_a_stream_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.cast"

    async def run() -> None:
        reader = Reader(path)
        task = asyncio.create_task(reader.run())
        await until(lambda: reader.messages)
        path.write_bytes(casts.header(80, 24, 0.0, "xterm", "t") + casts.line(1.0, "o", "hello"))
        await until(lambda: len(reader.messages) == 2)
        assert reader.messages[1] == [1.0, "o", "hello"]
        reader.rights = False
        await task

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_a_stream_goes_on_until_the_last_of_a_session_that_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.cast"
    path.write_bytes(casts.header(80, 24, 0.0, "xterm", "t"))
    much = [casts.line(float(n), "o", "x" * 999) for n in range(3000)]  # three times of what is read at once

    async def run() -> None:
        reader = Reader(path)

        def end() -> bool:
            with path.open("ab") as file:
                file.writelines(much)
            reader.is_written = lambda: True
            return True

        reader.is_written = end
        await asyncio.wait_for(reader.run(), 20)
        assert len(reader.messages) == 1 + len(much)
        assert reader.said[-1] == "event: done\ndata: \n\n"

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_nothing_is_shown_to_whom_the_right_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.cast"
    path.write_bytes(casts.header(80, 24, 0.0, "xterm", "t"))

    class Late(Reader):
        async def allowed(self) -> bool:
            with path.open("ab") as file:
                file.write(casts.line(1.0, "o", "secret"))
            return False

    async def run() -> None:
        reader = Late(path)
        reader.is_written = lambda: True
        await asyncio.wait_for(reader.run(), 10)
        assert len(reader.messages) == 1
        assert reader.said[-1] == "event: done\ndata: \n\n"

    asyncio.run(run())
