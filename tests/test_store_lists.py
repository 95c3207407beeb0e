"""Lists in parts: what a query finds, in which order, on which page; compared with looking at everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import sample
from tests.support.sample import HOUR, ago
from workspaces.errors import InvalidInput
from workspaces.model import JobKind, Limits, Network, Role, WorkspaceState
from workspaces.queries import Listed
from workspaces.store import Store

LISTS = [listed.value for listed in Listed]
SORTS = [
    *(("workspaces", key) for key in ("name", "state", "login", "disk", "added")),
    *(("users", key) for key in ("name", "role", "login", "added")),
    *(("snapshots", key) for key in ("requested", "size", "decided")),
    ("jobs", "created"), ("events", "at"), ("sessions", "started"),
]  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The sample store, with a second challenge, sessions, and text that could be mistaken for something else."""
    store = Store.open(tmp_path_factory.mktemp("lists") / "workspaces.db")
    sample.fill(store)
    store.add_user("rita", Role.ADMIN, actor="chief")
    store.set_email("rita", "rita@example.org", actor="chief")
    store.add_challenge("eeg", "base:1", Limits(), Network.NONE, actor="chief")
    team = store.add_workspace("eeg", "team-1", ["alice", "bob"], actor="chief")
    store.set_workspace_disk(team.id, 3 << 30)
    store.request_snapshot(
        team.id, "<b>100% sure_\\ \u00c4rger mit “Anf\u00fchrung”</b> \u00e9t\u00e9", actor="alice", via="cli"
    )
    for number, name in enumerate(("alice", "bob", "alice", "alice")):
        id_ = store.begin_session(
            name, team.id, "shell" if number else "sftp", f"192.0.2.{number}", "gw", time.time() - number * HOUR
        )
        if number % 2:
            store.end_session(id_, time.time())
    with ago(3 * HOUR):
        store.add_event(
            "alice",
            "login.accepted",
            data={"via": "ssh", "address": "192.0.2.7", "note": "\u00e9t\u00e9 \u65e5\u672c\u8a9e"},
        )
    yield store
    store.close()


def finder(store: Store, listed: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(store, f"find_{listed}")
    return found


def refs(store: Store, q: str, **more: Any) -> list[str]:
    return [line.workspace.ref.partition("/")[2] for line in store.find_workspaces(q, **more).items]


@pytest.mark.parametrize(
    ("q", "names"),
    [
        ("challenge:eeg", "team-1"),
        ("challenge:eeg,nothing", "team-1"),
        ("state:running challenge:als", "alice bob deniz hana kofi"),
        ("-state:running,stopped,absent", "ivan"),
        ("user:alice", "alice team-1"),
        ("name:alice", "alice"),
        ("alice", "alice team-1"),
        ("eeg/te", "team-1"),
        ("-challenge:als", "team-1"),
        ("li", "alice team-1"),
        ("%", ""),
        ("_", ""),
        ("disk>2G challenge:eeg", "team-1"),
        ("disk<2G challenge:eeg", ""),
        ("idle>80h", "george ivan jun lena"),
        ("idle<1h", "alice bob hana kofi team-1"),  # somebody is on in it
        ("on:yes", "team-1"),
        ("version:yes -user:emeka", "alice kofi"),
        ("request:yes", "bob deniz hana kofi team-1"),
        ("frozen:yes", ""),
        ("added<1h", "team-1"),
        ('"\' OR 1=1 --"', ""),
    ],
)
def test_workspaces_found(full: Store, q: str, names: str) -> None:
    assert sorted(refs(full, q)) == names.split()
    assert sorted(full.workspace(id_).name for id_ in full.select_ids(q)) == names.split()
    assert full.count_matching(q) == len(names.split())


def test_who_was_on_until_lately_is_not_idle(tmp_path: Path) -> None:
    """A session of nine days that ended an hour ago: the login says little."""
    store = Store.open(tmp_path / "workspaces.db")
    store.add_challenge("als", "base:1", Limits(), Network.NONE, actor="chief")
    store.add_user("alice", actor="chief")
    with ago(20 * 24 * HOUR):
        space = store.add_workspace("als", "alice", ["alice"], actor="chief")
    with ago(9 * 24 * HOUR):
        store.touch_login(space.id)
        session = store.begin_session("alice", space.id, "shell", "192.0.2.1", "gw", time.time())
    assert refs(store, "idle>7d") == []
    with ago(HOUR):
        store.end_session(session, time.time())
    assert refs(store, "idle>7d") == []
    assert refs(store, "idle<2h") == ["alice"]
    assert refs(store, "idle<30m") == []
    store.close()


def test_jobs_are_found_by_when_they_ended(full: Store) -> None:
    with ago(30 * HOUR):
        job = full.add_job(JobKind.VERIFY, actor="chief")
    assert full.find_jobs("kind:verify ended<1d").total == 0
    full.cancel_job(job.id, actor="chief")
    assert [found.id for found in full.find_jobs("kind:verify state:cancelled ended<1d").items] == [job.id]
    assert full.find_jobs("kind:verify since:1d").total == full.find_jobs("kind:verify ended>1h").total == 0


def test_a_line_of_a_workspace_has_what_its_row_shows(full: Store) -> None:
    (kofi,) = full.find_workspaces("name:kofi").items
    assert kofi.workspace.members == ("kofi",)
    (team,) = full.find_workspaces("name:team-1").items
    assert team.job is not None
    assert team.job.kind is JobKind.INSPECT


@pytest.mark.parametrize(
    ("q", "names"),
    [
        ("role:admin", "chief rita"),
        ("role:admin email:yes", "rita"),
        ("key:yes", "alice carla"),
        ("challenge:eeg", "alice bob"),
        ("workspace:eeg/team-1 -alice", "bob"),
        ("example.org", "rita"),
        ("seen<4h role:participant", "alice"),
        ("added<1h", "rita"),
        ("disabled:yes", ""),
        ("ri", "rita"),
    ],
)
def test_users_found(full: Store, q: str, names: str) -> None:
    assert [line.user.name for line in full.find_users(q).items] == names.split()


def test_a_line_of_a_user_has_what_its_row_shows(full: Store) -> None:
    (alice,) = full.find_users("alice").items
    assert [ref for _, ref in alice.workspaces] == ["als/alice", "eeg/team-1"]
    assert alice.keys == 1
    assert alice.last_login_at is not None
    assert 2.9 * HOUR < time.time() - alice.last_login_at < 3.1 * HOUR
    assert full.find_users("rita").items[0].last_login_at is None


@pytest.mark.parametrize(
    ("q", "count"),
    [
        ("state:requested", 4),
        ("state:requested challenge:als", 3),
        ("workspace:kofi", 2),
        ("user:alice state:archived", 2),
        ("decided:chief state:rejected", 1),
        ("RAILT", 1),  # anywhere in a word
        ("\u00e4rger", 1),  # whatever its case
        ("100%", 1),
        ("sure_\\", 1),
        ("'anf\u00fchrung'", 0),
        ("patient -predictions.csv", 0),
        ("team-1", 1),
        ("size>100M", 2),
        ("size<100M version:1", 2),
        ("since:3d", 6),
        ("until:3d", 4),
        ("pinned:yes", 0),
        ("via:cli", 1),
    ],
)
def test_snapshots_found(full: Store, q: str, count: int) -> None:
    assert full.find_snapshots(q).total == len(full.find_snapshots(q).items) == count
    assert len(full.select_ids(q, Listed.SNAPSHOTS)) == count


def test_a_word_that_is_too_short_is_refused(full: Store) -> None:
    with pytest.raises(InvalidInput, match="'v1' is too short"):
        full.find_snapshots("v1")


def test_events_are_found_by_the_beginnings_of_words(full: Store) -> None:
    assert full.find_events("192.0.2").total == 1
    assert full.find_events("\u00c9T\u00c9").total == 2  # also in the message of a request
    assert full.find_events("\u65e5\u672c").total == 1
    assert full.find_events("login").total == full.find_events("kind:login").total == 1
    assert full.find_events("kind:login.accepted,snapshot").total == 1 + full.find_events("kind:snapshot").total
    assert full.find_events("challenge:eeg").total == sum(
        (e.workspace or "").startswith("eeg/") for e in full.events(1000)
    )
    assert full.find_events("workspace:team-1 kind:workspace.added").total == 1
    assert full.find_events("since:4h actor:alice kind:login.accepted").total == 1
    assert full.find_events("-actor:chief,alice since:20d").total > 0


def test_sessions_and_jobs_found(full: Store) -> None:
    assert [s.address for s in full.find_sessions("user:alice").items] == ["192.0.2.0", "192.0.2.2", "192.0.2.3"]
    assert full.find_sessions("on:yes").total == 2
    assert full.find_sessions("on:no alice").total == 1
    assert full.find_sessions("kind:sftp workspace:eeg/team-1").total == 1
    assert full.find_sessions("since:90m").total == 2
    assert full.find_sessions("until:90m challenge:eeg").total == 2
    assert full.find_jobs("kind:commit state:done").total == 4
    assert full.find_jobs("inspect eeg").total == full.find_jobs("workspace:eeg/team-1").total == 1


def test_words_follow_what_is_changed_and_removed(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "workspaces.db")
    sample.fill(store)
    (line,) = store.find_snapshots("deniz state:requested").items
    store.reject_snapshot(line.snapshot.id, "Zebra stripes", actor="chief")
    assert store.find_snapshots("zebra").total == 1
    space = store.workspace("als/jun").id
    ids = [store.begin_session("jun", space, "exec", "10.0.0.9", "gw", time.time()) for _ in range(3)]
    assert store.find_sessions("jun").total == 3
    with store._write() as db:
        db.execute("DELETE FROM sessions WHERE id = ?", [ids[0]])
    assert store.find_sessions("jun").total == len(store.find_sessions("jun").items) == 2
    store.add_job(JobKind.STOP, space, actor="chief")
    job = store.claim_job()
    assert job is not None
    store.fail_job(job.id, "The giraffe is away.", None)
    assert store.find_jobs("giraffe").total == 1
    store.close()


@pytest.mark.parametrize(("listed", "key"), SORTS)
def test_pages_are_parts_of_one_order(full: Store, listed: str, key: str) -> None:
    for sort in (key, f"-{key}"):
        whole = finder(full, listed)(sort=sort, size=200)
        assert whole.sort == sort
        parts = [finder(full, listed)(sort=sort, size=3, page=n + 1) for n in range(-(-whole.total // 3))]
        assert [item for part in parts for item in part.items] == list(whole.items)
    down, up = (finder(full, listed)(sort=sort, size=200).items for sort in (f"-{key}", key))
    assert down == up[::-1]


def test_sorted_by_what_was_asked(full: Store) -> None:
    disks = [line.workspace.disk_bytes or 0 for line in full.find_workspaces(sort="-disk").items]
    assert disks == sorted(disks, reverse=True)
    assert full.find_users(sort="-login").items[0].user.name == "alice"
    sizes = [line.snapshot.size or 0 for line in full.find_snapshots("version:1", sort="size").items]
    assert sizes == sorted(sizes)
    with pytest.raises(InvalidInput, match="'password_hash'"):
        full.find_users(sort="password_hash")


def test_a_page_beyond_the_end_is_the_last(full: Store) -> None:
    last = full.find_workspaces(page=99, size=5)
    assert (last.page, last.pages, last.total) == (3, 3, 13)
    assert (last.first, last.last, len(last.items)) == (11, 13, 3)
    assert full.find_workspaces(page=-4, size=5).page == 1
    nothing = full.find_workspaces("nobody-has-this", page=7)
    assert (nothing.page, nothing.pages, nothing.first, nothing.last, nothing.items) == (1, 1, 0, 0, ())
    assert full.find_workspaces(size=10**9).size == 200
    assert full.find_workspaces(size=0).size == 1


@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize("q", ["", "alice"])
def test_walking_by_id_finds_each_once(full: Store, listed: str, q: str) -> None:
    for newest in (False, True):
        items: list[Any] = []
        after = 0
        while True:
            part = getattr(full, f"walk_{listed}")(q, after=after, size=4, newest=newest)
            items += part.items
            if part.next is None:
                break
            after = part.next
        whole = finder(full, listed)(q, size=200).items
        assert len(items) == len(whole)
        assert {repr(item) for item in items} == {repr(item) for item in whole}


def test_what_comes_meanwhile_shifts_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "workspaces.db")
    for number in range(6):
        store.add_event("x", f"thing.n{number}")
    first = store.walk_events(size=3, newest=True)
    store.add_event("x", "thing.new")
    assert first.next is not None
    rest = store.walk_events(size=3, newest=True, after=first.next)
    assert [e.kind for e in (*first.items, *rest.items)] == [f"thing.n{n}" for n in range(5, -1, -1)]
    assert [e.kind for e in store.walk_events(after=first.items[0].id).items] == ["thing.new"]
    store.close()


@pytest.mark.parametrize("listed", LISTS)
def test_within_some_challenges(full: Store, listed: str) -> None:
    find = finder(full, listed)
    counts = [find(within=slugs).total for slugs in (["als"], ["eeg"], ["als", "eeg"], [], ["nothing"])]
    assert counts[3:] == [0, 0]
    assert 0 < counts[1] < max(counts[2], find().total + 1)
    assert counts[1] == len(find(within=["eeg"], size=200).items)
    if listed != "users":
        assert counts[2] == counts[0] + counts[1]
    assert find("challenge:als", within=["eeg"]).total == (2 if listed == "users" else 0)


def test_a_step_that_builds_tables_anew_loses_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What later steps of the migrations do to a table, this does to all that the lists read."""
    from sqlite_utils import Database

    from workspaces.store import migrations

    path = tmp_path / "workspaces.db"
    store = Store.open(path)
    sample.fill(store)
    store.close()

    def m9999_anew(db: Database) -> None:
        for table in ("workspaces", "users", "sessions", "jobs", "events", "snapshots"):
            (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
            _head, _, body = sql.partition("(")
            db.execute(f"CREATE TABLE {table}_new ({body}")
            db.execute(f"INSERT INTO {table}_new SELECT * FROM {table}")
            db.execute(f"DROP TABLE {table}")
            db.execute(f"ALTER TABLE {table}_new RENAME TO {table}")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, m9999_anew))
    store = Store.open(path)
    store.add_event("giraffe", "login.accepted")
    assert store.find_events("giraffe").total == 1
    assert store.find_snapshots("frailty").total == 1
    assert store.find_jobs("kofi").total > 0
    assert store.workspace("als/kofi").state is WorkspaceState.RUNNING
    store.close()


def test_a_workspace_of_a_removed_one_s_name_is_told_apart_by_its_number(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "workspaces.db")
    store.add_challenge("als", "base:1", Limits(), Network.NONE, actor="chief")
    store.add_user("alice", actor="chief")
    spaces = []
    for _ in range(2):
        spaces.append(store.add_workspace("als", "alice", ["alice"], actor="chief").id)
        store.request_snapshot(spaces[-1], "m", actor="alice", via="ssh")
        if len(spaces) < 2:
            store.remove_workspace(spaces[0], actor="chief")
    assert store.find_snapshots("workspace:als/alice").total == 2
    for number in spaces:
        assert [line.snapshot.workspace_id for line in store.find_snapshots(f"workspace:{number}").items] == [number]
    assert store.find_snapshots("workspace:99").total == store.find_snapshots(f"workspace:{'9' * 40}").total == 0
    store.close()
