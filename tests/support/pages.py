"""Every page that there is, from the map of routes: the tests of all pages see a new one by themselves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from tests.support.furnished import INVITATION
from tests.support.web import CHEAP_HASH, Browser
from webadmin.context import Parts
from workspaces import casts
from workspaces.model import Role
from workspaces.settings import Settings
from workspaces.store import Store

# Elements without an end.
VOID = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
# What some are asked beside.
ASKED = {"admin.prune": "?challenge=bci", "admin.events": "?size=25"}
# Not pages: parts of them, and what programs read.
NOT_PAGES = ("static", "healthz", "start")


def people(store: Store) -> list[str | None]:
    """Who looks: a visitor, the people of the sample, and one of each role that the sample has nobody of."""
    roles = {user.role for user in store.users()}
    others = []
    for name, role in zip(("rita", "otto", "ada"), [r for r in Role if r not in roles], strict=False):
        others.append(name)
        store.add_user(name, role, CHEAP_HASH, actor="test")
    return [None, "chief", "alice", "bob", *others]


def addresses(app: Flask, store: Store) -> list[str]:
    """One address, or some, of each route that answers GET with a page to somebody."""
    parts: Parts = app.extensions["workspaces"]
    objects = _objects(store, parts.settings)
    found = ["/nowhere"]
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if _is_page(rule):
                names = sorted(rule.arguments)
                missing = [name for name in names if name not in objects]
                assert not missing, f"{rule}: say in tests/support/pages.py what <{', '.join(missing)}> may be"
                for values in itertools.product(*(objects[name] for name in names)):
                    address = _address(rule, dict(zip(names, values, strict=True)))
                    found.append(address + ASKED.get(rule.endpoint, ""))
    return sorted(set(found))


def visitor(app: Flask, person: str | None) -> Browser:
    """A browser in which `person` is signed in."""
    browser = Browser(app)
    if person:
        assert browser.sign_in(person).status_code == 302
    return browser


def seen_by(browser: Browser, urls: Iterable[str]) -> dict[str, str]:
    """Those of `urls` that are a page for who is in this browser, with its text: not refused, led on, or a file."""
    pages = {}
    for url in urls:
        answer = browser.get(url, buffered=False)
        if answer.mimetype == "text/html" and (answer.status_code == 200 or url == "/nowhere"):
            pages[url] = answer.text
        answer.close()
    return pages


def shape(page: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a page is built of, in <main> and around it: each kind of element with those that it is in.

    Neither text nor number counts, so that a list is built alike however many lines it has.
    """
    parser = _Shape()
    parser.feed(page)
    main = frozenset(kind for kind in parser.kinds if ">main." in kind)
    return main, frozenset(parser.kinds - main)


class _Shape(HTMLParser):
    """`kinds` are chains of elements, each with its classes and the names of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.around: list[tuple[str, str]] = []
        self.kinds: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = " ".join(sorted(given.keys() - {"class"}))
        kind = f"{tag}.{given.get('class') or ''}.{given.get('type') or ''}[{names}]"
        self.kinds.add(">".join([around for _tag, around in self.around] + [kind]))
        if tag not in VOID:
            self.around.append((tag, kind))

    def handle_endtag(self, tag: str) -> None:
        while self.around and self.around.pop()[0] != tag:
            pass


def _is_page(rule: Rule) -> bool:
    part = rule.endpoint.rpartition(".")[2]
    return (
        "GET" in (rule.methods or ())
        and not rule.websocket
        and rule.endpoint not in NOT_PAGES
        and not part.startswith("live")
        and not rule.rule.startswith("/api/v")
    )


def _address(rule: Rule, values: dict[str, Any]) -> str:
    built = rule.build(values, append_unknown=False)
    assert built is not None, rule
    return built[1]


def _objects(store: Store, settings: Settings) -> dict[str, list[Any]]:
    """What each name in an address may be: few of each, of different kinds."""
    spaces = store.workspaces()
    begun = store.begin_session("alice", spaces[0].id, "shell", "192.0.2.7", "test", time.time())
    store.begin_recording(begun, "test.cast", time.time())
    ended = store.begin_session("alice", spaces[0].id, "shell", "192.0.2.7", "test", time.time())
    store.begin_recording(ended, "ended.cast", time.time() - 60)
    settings.recordings.mkdir(exist_ok=True)
    shown = casts.header(80, 24, time.time() - 60, "xterm", "") + casts.line(0.5, "o", "$ ls")
    (settings.recordings / "ended.cast").write_bytes(shown)
    store.end_recording(ended, len(shown), 0.5, 0)
    store.end_session(ended, time.time())
    for session_id, how in ((begun, "watch"), (ended, "replay")):  # those pages are for who has begun to look
        store.note_look(session_id, how, actor="chief")
    states = {s.state: s.id for s in store.snapshots(limit=1000)}
    jobs = {j.state: j.id for j in store.jobs(limit=1000)}
    return {
        "workspace_id": [spaces[0].id, next(w.id for w in spaces if w.state == "failed")],
        "snapshot_id": sorted(states.values()),
        "job_id": sorted(jobs.values()),
        "name": ["alice", "chief"],
        "key_id": [store.keys("alice")[0].id],
        "slug": ["als", "bci"],
        "freeze_id": [f.id for f in store.freezes("bci")],
        "member": ["alice"],
        "token": [INVITATION],
        "passkey_id": [1],  # of who has one, which nobody does at first, as its owner could not sign in without
        "session_id": [begun, ended],
        "action": ["watch", "replay"],
    }
