"""Every page that there is, from the map of routes: the tests of all pages see a new one by themselves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from tests.support.furnished import INVITATION
from tests.support.web import CHEAP_HASH, Browser
from workspaces.model import Role
from workspaces.store import Store

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
    objects = _objects(store)
    found = ["/nowhere"]
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if _is_page(rule):
                names = sorted(rule.arguments)
                missing = [name for name in names if name not in objects]
                assert not missing, f"{rule}: say in tests/support/pages.py what <{', '.join(missing)}> may be"
                for values in itertools.product(*(objects[name] for name in names)):
                    found.append(_address(rule, dict(zip(names, values, strict=True))))
    return sorted(set(found))


def seen_by(app: Flask, person: str | None, urls: Iterable[str]) -> list[str]:
    """Those of `urls` that are a page for this person: neither refused, nor led elsewhere, nor a file."""
    browser = Browser(app)
    if person:
        assert browser.sign_in(person).status_code == 302
    pages = []
    for url in urls:
        answer = browser.get(url, buffered=False)
        page = answer.mimetype == "text/html" and (answer.status_code == 200 or url == "/nowhere")
        answer.close()
        if page:
            pages.append(url)
    return pages


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


def _objects(store: Store) -> dict[str, list[Any]]:
    """What each name in an address may be: few of each, of different kinds."""
    spaces = store.workspaces()
    begun = store.begin_session("alice", spaces[0].id, "shell", "192.0.2.7", "test", time.time())
    store.begin_recording(begun, "test.cast", time.time())
    store.note_look(begun, "watch", actor="chief")  # that page is for who has begun to look
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
        "passkey_id": [1],  # nobody has one here, as its owner could not sign in without
        "session_id": [begun],
        "action": ["watch"],
    }
