"""The pages over a store of 500 participants, 5,000 versions, 100,000 events and 50,000 sessions.

Every GET route is opened, each in its role, and every statement that it makes is explained: none reads a table without
an index, none sorts many rows, and no page makes a statement for each of its lines. Time is for the measurements
(`python -m bench`): here work is counted, which is the same on a busy machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import AnyConverter, BaseConverter, PathConverter, Rule, UnicodeConverter

from tests.support import bigstore, plans
from tests.support.api import program
from tests.support.web import CHEAP_HASH, Browser, Web, open_web
from workspaces.queries import Listed
from workspaces.store import Store
from workspaces.store.topics import NUMBERED, TOPICS

pytestmark = pytest.mark.slow

STATEMENTS_MAX = 60  # of one page
STEPS_MAX = 400_000  # instructions of SQLite's machine for one page: some ten milliseconds
WAITS = frozenset({"readyz"})  # no worker runs here, and it says so
ENDLESS: frozenset[str] = frozenset()  # streams that the test's client would read for ever
QUERIES = {
    Listed.WORKSPACES: (
        "",
        "state:running",
        "idle>1h disk>1G",
        "user:{name}",
        "ben",
        "on:yes",
        "job:yes",
        "request:yes version:yes",
    ),
    Listed.USERS: ("", "ben", "challenge:als", "seen>1h", "workspace:{ref}", "key:no role:participant"),
    Listed.SNAPSHOTS: (
        "",
        "state:requested",
        "state:archived",
        "state:rejected,requested",
        "challenge:als",
        "workspace:{ref}",
        "user:{name}",
        "ensemble",
        "ensemble -seed state:archived",
        "since:7d",
        "until:7d",
        "size>1G",
        "pinned:yes",
        "decided:chief",
        "version:3 via:ssh",
    ),
    Listed.JOBS: (
        "",
        "state:failed",
        "state:queued,running",
        "kind:commit",
        "workspace:{ref}",
        "challenge:als",
        "host:no",
        "state:failed host:no",
        "answer host:no",
        "answer",
        "since:7d",
    ),
    Listed.EVENTS: (
        "",
        "actor:{name}",
        "kind:login.accepted",
        "kind:snapshot",
        "challenge:als",
        "workspace:{ref}",
        "198.51.7",
        "login",
        "ensemble since:7d",
        "since:7d",
        "until:7d",
        "actor:{name} kind:login.accepted",
        "actor:chief,worker",
    ),
    Listed.SESSIONS: (
        "",
        "on:yes",
        "user:{name}",
        "workspace:{ref}",
        "challenge:als",
        "kind:sftp",
        "address:198.51.1.1",
        "ben",
        "since:7d",
        "until:7d",
    ),
}
SORTS = {
    Listed.WORKSPACES: ("name", "-name", "state", "-login", "disk", "added"),
    Listed.USERS: ("name", "role", "-login", "added"),
    Listed.SNAPSHOTS: ("requested", "-size", "decided"),
}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home = tmp_path_factory.mktemp("big")
    bigstore.build(home / "workspaces.db", password_hash=CHEAP_HASH).close()
    web = open_web(home)
    yield web
    web.store.close()


@pytest.fixture(scope="module")
def values(big: Web) -> dict[str, object]:
    """What stands for the arguments of routes; a participant's own where that matters."""
    name = bigstore.name_of(1)
    space = big.store.workspaces_of(name)[0]
    version = big.store.find_snapshots(f"workspace:{space.ref} state:archived").items[0].snapshot
    return {
        "name": name,
        "ref": space.ref,
        "slug": space.challenge,
        "workspace_id": space.id,
        "snapshot_id": version.id,
        "version": version.version,
        "job_id": big.store.find_jobs("kind:commit state:done").items[0].id,
        "session_id": big.store.find_sessions(f"user:{name}").items[0].id,
        "filename": "app.css",
    }


@pytest.fixture(scope="module")
def browsers(big: Web, values: dict[str, object]) -> dict[str, Browser]:
    return {"admin": big.browser(bigstore.ADMIN), "participant": big.browser(str(values["name"]))}


def any_of(converter: BaseConverter) -> object:
    """Something that an address may have in that place."""
    if isinstance(converter, AnyConverter):
        return min(converter.items)
    return "x" if isinstance(converter, PathConverter | UnicodeConverter) else 1


def get_rules(app: Flask) -> list[Rule]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.methods and "GET" in rule.methods]
    return [rule for rule in rules if not rule.websocket and rule.endpoint not in ENDLESS]


@pytest.mark.parametrize("kind", TOPICS)
def test_what_an_open_page_asks_for_is_read_through_indexes(big: Web, values: dict[str, object], kind: str) -> None:
    topic = f"{kind}:{values[f'{kind}_id']}" if kind in NUMBERED else kind
    with plans.watched(big.store) as seen:
        big.store.topic_token(topic, str(values["name"]))
    check(big.store, seen)
    assert seen.steps <= STEPS_MAX / 10


def check(store: Store, seen: plans.Seen) -> None:
    for statement in seen.reads:
        assert plans.faults(store, statement) == [], (statement, plans.plan(store, statement))


def test_every_page_is_made_through_indexes(big: Web, values: dict[str, object], browsers: dict[str, Browser]) -> None:
    opened, problems = Counter[str](), []
    programs = {role: program(big, name) for role, name in (("admin", "chief"), ("participant", str(values["name"])))}
    urls = big.app.url_map.bind("localhost")
    for rule in get_rules(big.app):
        # Of what is not in the store, such as an announcement, there is nothing under 1 or x; that is looked up too.
        others = {name: any_of(its) for name, its in rule._converters.items()}
        url = urls.build(rule.endpoint, {name: values.get(name, others[name]) for name in rule.arguments})
        for role, browser in browsers.items():
            if rule.endpoint.startswith("admin.") and role != "admin":
                continue
            with plans.watched(big.store) as seen:
                if rule.endpoint.startswith("api."):
                    answer = programs[role].get(url)
                else:
                    answer = browser.get(url, headers={"X-Fragment": "1"} if "live" in rule.endpoint else {})
                status = answer.status_code
                answer.get_data()  # some is read from the store while it is sent
                answer.close()
            opened[rule.endpoint.partition(".")[0]] += status == 200
            if status >= 500 and rule.endpoint not in WAITS:
                problems.append(f"{url} as {role}: {status}")
            for statement in seen.reads:
                problems += [
                    f"{url} as {role}: {fault}: {statement[:300]}" for fault in plans.faults(big.store, statement)
                ]
            if len(seen.made) > STATEMENTS_MAX:
                problems.append(f"{url} as {role}: {len(seen.made)} statements")
            if seen.steps > STEPS_MAX:
                problems.append(f"{url} as {role}: {seen.steps} steps")
    assert not problems, "\n".join(problems)
    assert min(opened["admin"], opened["me"], opened["api"]) > 10, opened


@pytest.mark.parametrize("listed", Listed)
def test_every_list_is_read_through_indexes(big: Web, values: dict[str, object], listed: Listed) -> None:
    find, walk = (getattr(big.store, f"{verb}_{listed}") for verb in ("find", "walk"))
    for template in QUERIES[listed]:
        q = template.format(**values)
        asked: list[dict[str, Any]] = [
            {"page": 1},
            {"page": 10**6},
            *({"sort": sort} for sort in SORTS.get(listed, ())),
        ]
        for options in asked:
            with plans.watched(big.store) as seen:
                page = find(q, **options)
            assert page.total > 0, q
            check(big.store, seen)
            assert len(seen.made) <= 12
            assert seen.steps <= STEPS_MAX, (q, options, seen.steps)
        for newest in (False, True):
            with plans.watched(big.store) as seen:
                walk(q, newest=newest, within=["als", "eeg"])
            check(big.store, seen)
            assert seen.steps <= STEPS_MAX, (q, newest, seen.steps)
        with plans.watched(big.store) as seen:
            assert len(big.store.select_ids(q, listed)) == page.total
        check(big.store, seen)
