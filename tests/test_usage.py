"""What workspaces and the host use: counted by the worker, kept by the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.faulty_engine import FaultyEngine
from tests.support.sample import ago
from tests.support.stores import empty, path, store  # noqa: F401
from tests.support.worlds import World, memory_world
from workspaces import metering
from workspaces.engine import usage
from workspaces.engine.base import Use
from workspaces.errors import EngineTimeout, EngineUnavailable, InvalidInput
from workspaces.hostload import HostLoad
from workspaces.lifecycle import Lifecycle
from workspaces.metering import EVERY_SECONDS, Metering
from workspaces.model import HostSample, Sample
from workspaces.store import Store
from workspaces.store.usage import DAY, HOUR, KEPT, MINUTE

NOON = 1_800_014_400.0  # a whole hour
LITTLE = Sample(0.5, 100, 3, None, 10, 20)
HOST = HostSample(1.0, 4, 1000, 4000, 70, 100, 0.5)


@pytest.fixture
def at_noon() -> Iterator[None]:
    with patch("workspaces.store.usage.time.time", return_value=NOON + 59):
        yield


# what is kept


@pytest.mark.usefixtures("at_noon")
def test_looks_become_means_and_mosts_of_a_minute_an_hour_and_a_day(store: Store) -> None:  # noqa: F811
    for at, sample in (
        (NOON - 60, LITTLE),
        (NOON + 1, Sample(1.0, 300, 9, 5000, 1, 2)),
        (NOON + 30, Sample(0.0, 100, 1, None, 1, 2)),
    ):
        store.add_usage(at, {1: sample, 2: LITTLE})
    before, now = store.usage(1, NOON - 600, MINUTE)
    assert (before.at, before.seconds, before.samples, before.cpus, before.disk) == (NOON - 60, 60, 1, 0.5, None)
    assert (now.at, now.samples, now.cpus, now.cpus_most, now.memory, now.memory_most) == (NOON, 2, 0.5, 1.0, 200, 300)
    assert (now.pids_most, now.disk, now.received, now.sent) == (9, 5000, 2, 4)
    hours = store.usage(1, NOON - HOUR, HOUR)
    assert [(hour.at, hour.samples) for hour in hours] == [(NOON - HOUR, 1), (NOON, 2)]
    [day] = store.usage(1, NOON - HOUR, DAY)
    assert (day.samples, day.cpus, day.memory, day.received, day.sent) == (3, 0.5, 166, 12, 24)
    [five] = store.usage(1, NOON, 5 * MINUTE)
    assert (five.at, five.seconds, five.samples, five.cpus_most) == (NOON, 300, 2, 1.0)
    [little] = store.usage(2, NOON, MINUTE)
    assert little.samples == 2
    assert store.usage(3, NOON, MINUTE) == []


@pytest.mark.usefixtures("at_noon")
def test_a_mean_weighs_each_look_alike(store: Store) -> None:  # noqa: F811
    for at, cpus in ((NOON - 120, 3.0), (NOON - 119, 1.0), (NOON - 118, 2.0), (NOON - 60, 6.0)):
        store.add_usage(at, {1: Sample(cpus, 0, 1, None, 0, 0)})
    [found] = store.usage(1, NOON - 600, 10 * MINUTE)
    assert found.cpus == pytest.approx(3.0)


def test_what_is_too_old_goes_and_the_coarser_stays(store: Store) -> None:  # noqa: F811
    for days in (800, 40, 2, 0.5, 0):
        store.add_usage(NOON - days * DAY, {1: LITTLE}, HOST)

    def kept(step: int, table: str) -> int:
        return int(store._one(f"SELECT count(*) AS n FROM {table} WHERE step = ?", [step])["n"])

    for table in ("usage", "host_usage"):
        assert [kept(step, table) for step in KEPT] == [2, 3, 3]
    with patch("workspaces.store.usage.time.time", return_value=NOON + 1):
        assert [found.at for found in store.usage(1, NOON - 2 * DAY, MINUTE)] == [NOON - DAY / 2, NOON]
        assert len(store.usage(1, NOON - 60 * DAY, DAY)) == 3


def test_only_what_is_kept_can_be_asked_for(store: Store) -> None:  # noqa: F811
    for step in (0, -60, 30, 90):
        with pytest.raises(InvalidInput):
            store.usage(1, time.time(), step)
    assert store.usage(1, -1e18, MINUTE) == []


def test_every_look_into_the_past_is_a_search(store: Store) -> None:  # noqa: F811
    plans: list[str] = []
    db = store._db()
    asked: list[str] = []
    with db.tracer(lambda sql, params: asked.append(sql)):
        store.usage(1, time.time() - DAY, 5 * MINUTE)
        store.host_usage()
    names = dict.fromkeys(("step", "base", "first", "last", "workspace"), 60)
    for sql in asked:
        params = names if ":base" in sql else [60, 60]
        plans += [str(row[3]) for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
    tables = [plan for plan in plans if set(plan.split()[1:2]) & {"u", "usage", "host_usage"}]
    assert len(tables) == 2
    assert all(plan.startswith("SEARCH") for plan in tables), plans


@pytest.mark.usefixtures("at_noon")
def test_the_host_s_use(store: Store) -> None:  # noqa: F811
    assert store.host_usage() is None
    store.add_usage(NOON, {}, HOST)
    store.add_usage(NOON + 30, {}, HostSample(3.0, 4, 3000, 4000, 80, 100, 1.5))
    found = store.host_usage()
    assert found is not None
    assert (found.cpus, found.cpus_most, found.cores, found.memory, found.memory_most) == (2.0, 3.0, 4, 2000, 3000)
    assert (found.disk, found.disk_total, found.load, found.samples) == (80, 100, 1.0, 2)
    assert [hour.samples for hour in store.host_usages(NOON - DAY, HOUR)] == [2]


# who looks


class Counters:
    """An engine that tells what the test wrote down for each container, and how often it was asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.engine = FaultyEngine(world.engine)
        self.now = 1000.0
        self.uses: dict[str, Use] = {}
        self.metering = Metering(world.store, self, world.lifecycle, lambda: self.now)  # type: ignore[arg-type]

    def info(self) -> object:
        return self.engine.info()

    def usage(self, name: str) -> Use | None:
        self.engine.usage(name)
        return self.uses.get(name.rpartition(".")[2])

    def run_container(self, name: str) -> int:
        space = self.world.store.workspace(f"als/{name}")
        self.world.lifecycle.ensure_running(space.id)
        return space.id

    def look(self, passed: float = EVERY_SECONDS, **cpu_seconds: float) -> None:
        self.now += passed
        self.uses = {name: Use(seconds, 1000, 2, int(seconds), 0) for name, seconds in cpu_seconds.items()}
        self.metering.step()

    def cpus(self, number: int) -> list[float]:
        return [found.cpus for found in self.world.store.usage(number, time.time() - HOUR, HOUR)]

    def samples(self, number: int) -> int:
        return sum(found.samples for found in self.world.store.usage(number, time.time() - HOUR, HOUR))


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[Counters]:
    with memory_world(tmp_path) as world:
        world.store.add_user("bob", actor="test")
        world.store.add_workspace("als", "bob", ["bob"], actor="test")
        yield Counters(world)


def test_a_rate_is_the_difference_of_two_looks(counters: Counters) -> None:
    alice = counters.run_container("alice")
    counters.world.store.set_workspace_disk(alice, 77)
    counters.look(alice=100.0)
    assert counters.samples(alice) == 0  # what was used before nobody knows when
    counters.look(alice=130.0)
    [found] = counters.world.store.usage(alice, time.time() - HOUR, DAY)
    assert (found.cpus, found.memory, found.pids_most, found.disk, found.received) == (0.5, 1000, 2, 77, 30)


def test_one_that_was_started_since_counts_from_nothing(counters: Counters) -> None:
    alice, bob = counters.run_container("alice"), 0
    counters.look(alice=100.0)
    bob = counters.run_container("bob")
    counters.look(alice=6.0, bob=60.0)
    assert counters.cpus(alice) == [0.1]
    assert counters.cpus(bob) == [1.0]
    counters.world.lifecycle.stop(bob)
    counters.look(alice=6.0)
    assert counters.samples(bob) == 1


def test_after_a_look_that_reached_nobody_the_next_one_starts_afresh(counters: Counters) -> None:
    alice = counters.run_container("alice")
    counters.look(alice=100.0)
    counters.engine.fail("usage", EngineTimeout("too long"), times=1)
    with pytest.raises(EngineTimeout):
        counters.look(alice=130.0)
    counters.look(alice=900.0)
    assert counters.samples(alice) == 0
    counters.look(alice=906.0)
    assert counters.cpus(alice) == [0.1]
    counters.look(passed=10 * EVERY_SECONDS, alice=2000.0)  # the host slept
    assert counters.samples(alice) == 1


def test_what_could_not_be_seen_for_one_look_is_not_used_all_at_once(counters: Counters) -> None:
    """It was not started since: hours of computing would be counted in one minute."""
    alice = counters.run_container("alice")
    counters.look(alice=100.0)
    counters.look()  # its control group could not be read
    counters.look(alice=7200.0)
    assert counters.samples(alice) == 0
    counters.look(alice=7206.0)
    assert counters.cpus(alice) == [0.1]


def test_an_engine_that_is_away_is_asked_once_and_the_host_is_seen_all_the_same(counters: Counters) -> None:
    counters.run_container("alice")
    counters.run_container("bob")
    counters.engine.fail("usage", EngineUnavailable("The engine does not answer."))
    counters.engine.calls.clear()
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            counters.look()
    assert counters.engine.calls.count("usage") == 2
    host = counters.world.store.host_usage()
    assert host is not None
    assert 0 <= host.cpus <= host.cores
    assert 0 < host.memory < host.memory_total
    assert 0 < host.disk <= host.disk_total


def test_the_worker_looks_and_tells_of_trouble_once(
    counters: Counters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metering, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(metering, "EVERY_SECONDS", 0.02)
    world = counters.world
    alice = counters.run_container("alice")
    with world.working():
        world.wait(lambda: counters.samples(alice) >= 2)
    [found] = world.store.usage(alice, time.time() - HOUR, DAY)
    assert found.memory > 0
    assert found.pids_most == 1
    counters.engine.fail("usage", EngineUnavailable("Nobody is there."), times=3)
    failing = Metering(world.store, counters.engine, Lifecycle(world.store, world.engine, world.root / "locks"))
    stop = threading.Event()
    thread = threading.Thread(target=failing.run, args=(stop,))
    caplog.set_level(logging.WARNING)
    seen = counters.samples(alice)
    thread.start()
    try:
        world.wait(lambda: counters.samples(alice) > seen)
    finally:
        stop.set()
        thread.join(10)
    assert caplog.text.count("Nobody is there.") == 1


# where it is read

ID = "ab" * 32
STAT = "inactive_file 300\ntotal_inactive_file 400\n"
NETWORK = (
    "Inter-| x\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  eth0: 70 1 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n"
)


def proc(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A /proc with process 7 in `groups`, and what is mounted."""
    place = root / "proc"
    (place / "7" / "net").mkdir(parents=True)
    (place / "self").mkdir()
    (place / "7" / "cgroup").write_text(groups)
    (place / "7" / "net" / "dev").write_text(NETWORK)
    (place / "self" / "mountinfo").write_text(mounts.replace("ROOT", str(root)))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return place


def test_version_2_with_the_systemd_driver(tmp_path: Path) -> None:
    group = f"system.slice/docker-{ID}.scope"
    place = proc(
        tmp_path,
        f"0::/{group}\n",
        "30 23 0:26 / ROOT/cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        {
            f"cg/{group}/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            f"cg/{group}/memory.current": "1000\n",
            f"cg/{group}/memory.stat": STAT,
            f"cg/{group}/pids.current": "5\n",
        },
    )
    assert usage.read(ID, 7, place) == Use(2.5, 700, 5, 70, 50)
    assert usage.read("cd" * 32, 7, place) is None  # the process id is another's by now
    assert usage.read(ID, 8, place) is None


def test_version_1_with_controllers_mounted_together_below_a_group(tmp_path: Path) -> None:
    mounts = "".join(
        f"3{n} 23 0:2{n} /outer ROOT/{name} rw - cgroup cgroup rw,{name}\n"
        for n, name in enumerate(("cpu,cpuacct", "memory", "pids"))
    )
    place = proc(
        tmp_path,
        f"4:pids:/outer/docker/{ID}\n3:cpu,cpuacct:/outer/docker/{ID}\n2:memory:/outer/docker/{ID}\n0::/\n",
        mounts + "39 23 0:29 / ROOT/unified rw - cgroup2 cgroup2 rw\n",
        {
            f"cpu,cpuacct/docker/{ID}/cpuacct.usage": "1500000000\n",
            f"memory/docker/{ID}/memory.usage_in_bytes": "1000\n",
            f"memory/docker/{ID}/memory.stat": STAT,
            f"pids/docker/{ID}/pids.current": "6\n",
        },
    )
    assert usage.read(ID, 7, place) == Use(1.5, 600, 6, 70, 50)


def test_what_cannot_be_seen_from_here_is_not_made_up(tmp_path: Path) -> None:
    place = proc(tmp_path, f"0::/../{ID}\n", "30 23 0:26 /mine ROOT/cg rw - cgroup2 cgroup2 rw\n", {})
    assert usage.read(ID, 7, place) is None


def test_a_host_s_busy_time_leaves_out_waiting_for_disks(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 60 kB\n")
    host = HostLoad(tmp_path)
    looks = iter([10.0, 12.0])
    with patch("workspaces.hostload.time.monotonic", lambda: next(looks)):
        (tmp_path / "stat").write_text("cpu  100 0 100 9 9 0 0 0 50 0\ncpu0 1\ncpu1 1\nintr 3\n")
        assert host.read([tmp_path]) is None
        (tmp_path / "stat").write_text("cpu  200 0 200 999 999 0 0 0 150 0\ncpu0 1\ncpu1 1\nintr 3\n")
        found = host.read([tmp_path, tmp_path / "gone"])
    assert found is not None
    assert (found.cpus, found.cores, found.memory, found.memory_total) == (1.0, 2, 40 << 10, 100 << 10)


def test_old_looks_do_not_count_as_now(store: Store) -> None:  # noqa: F811
    with ago(600):
        store.add_usage(time.time(), {1: LITTLE}, HOST)
    assert store.host_usage() is None
