"""The figures about versions: what committing and archiving take, and how many bytes.

    snapshot   a change of N MB ─► `workspaces snapshot commit` ◄─ compared ─► `docker commit`, `docker save | gzip -1`
    versions   one workspace, ten versions with a change each ─► bytes in the archive over those of base and changes
    freeze     many workspaces ─► `workspaces challenge freeze`, while somebody logs in again and again

By hand means what an administrator would type without this program. It is spared what a version has besides: the base
image's configuration, layers that are shared, digests, a manifest, bytes that are on the disk when it ends.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.figures import MEGA, Size
from bench.peers import HAND, PINNED, VERSIONS
from bench.rows import Goal, Results, Row
from bench.servers import processes
from bench.turns import Failed, in_turns, timed
from bench.world import World
from workspaces import settings
from workspaces.engine.base import LABEL_WORKSPACE
from workspaces.lifecycle import Lifecycle
from workspaces.model import JobKind, JobState, Limits
from workspaces.store import Store

FILE = 100  # MB; a change consists of files of that size, or of one smaller
TURNS = 10  # versions of one workspace
LOGINS = 10
COMMAND_SECONDS = 1800.0
MEMORY = 200  # MB that the worker may take at most
CROWD = "crowd"


def snapshot(world: World, size: Size, results: Results) -> None:
    """A large change, committed and archived; the sessions' pause, and the worker's memory."""
    people = world.everybody()
    rounds = 2 if size.repeats > 1 else 1
    if people < 2 * rounds:
        raise Failed(f"{people} containers are too few")
    _commit(world, people - 2)  # the rules of the search for secrets are compiled once in a state directory
    worker = _worker(world)
    seconds: dict[str, list[float]] = {VERSIONS: [], HAND: []}
    pauses: dict[str, list[float]] = {VERSIONS: [], HAND: []}
    peak = 0.0
    for turn in range(rounds):
        mine, theirs = 2 * turn, 2 * turn + 1
        for person in (mine, theirs):
            _write(world, person, "change", size.change)
        os.sync()  # else whoever is first has the disk write down what both have written
        order = [(VERSIONS, mine), (HAND, theirs)]
        for name, person in order if turn % 2 == 0 else reversed(order):
            with _pause(world, person) as pause:
                if name == HAND:
                    seconds[name].append(_by_hand(world, person))
                else:
                    _forget_peak(worker)
                    seconds[name].append(_commit(world, person))
                    peak = max(peak, _peak(worker))
            pauses[name].append(pause[0])
    what = f"snapshot of a change of {size.change} MB"
    results.rows += [
        Row(what, "committed and archived", "s", _medians(seconds), (Goal(1.5, HAND),)),
        Row(what, "sessions stand still", "s", _medians(pauses), (Goal(1, HAND),)),
        Row(what, "memory of the worker, at most", "MB", {VERSIONS: peak}, (Goal(MEMORY),)),
    ]


def versions(world: World, size: Size, results: Results) -> None:
    """Ten versions of one workspace, the next one with nothing new, and what they take in the archive."""
    person = world.everybody() - 1
    name = world.people[person].name
    changes, seconds = 0, []
    for turn in range(TURNS):
        _write(world, person, f"part{turn}", size.part)
        changes += _packed(world, person, f"part{turn}")
        seconds.append(_commit(world, person))
    _commit(world, person)
    with closing(Store.open(settings.load(world.stage.home).database)) as store:
        again = next(job for job in store.jobs() if job.kind is JobKind.ARCHIVE)
    if again.started_at is None or again.finished_at is None:
        raise Failed(f"job {again.id} has not ended")
    layers = _archived(world, f"als/{name}:v")
    base = min(layers.values(), key=len)[0]
    unique = {digest: bytes_ for rows in layers.values() for digest, bytes_ in rows}
    total = sum(unique.values())
    results.rows += [
        Row(f"{TURNS} versions, {size.part} MB changed each", "bytes, over base and changes", "×",
            {VERSIONS: total / (base[1] + changes)}, (Goal(1.1),)),
        Row(f"{TURNS} versions, {size.part} MB changed each", "committed and archived", "s",
            {VERSIONS: statistics.median(seconds)}),
        Row("archive of an image that is there", "the job", "s",
            {VERSIONS: again.finished_at - again.started_at}, (Goal(2),)),
    ]  # fmt: skip


def freeze(world: World, size: Size, results: Results) -> None:
    """Many workspaces committed at once, while somebody logs in."""
    _crowd(world, size.frozen)
    line = world.gateway.line("true", PINNED)
    quiet = statistics.median(in_turns({0: lambda: timed(line)}, LOGINS)[0])
    ended = threading.Event()
    problems: list[Exception] = []
    begun = time.monotonic()

    def run() -> None:
        try:
            world.stage.command("challenge", "freeze", CROWD, timeout=COMMAND_SECONDS)
        except Exception as problem:
            problems.append(problem)
        else:
            _until_idle(world)
        finally:
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    logins: list[float] = []
    failed = 0
    while not ended.wait(0.2):
        try:
            logins.append(timed(line))
        except Failed:
            failed += 1
    thread.join()
    seconds = time.monotonic() - begun
    if problems:
        raise problems[0]
    there = len(_archived(world, f"{CROWD}/"))
    what = f"{size.frozen} workspaces frozen at once"
    results.rows += [
        Row(what, "until the last is archived", "s", {VERSIONS: seconds}),
        Row(what, "lost", "", {VERSIONS: float(size.frozen - there)}, (Goal(0),)),
        Row(what, "a login meanwhile over its quiet time", "×", {VERSIONS: statistics.median(logins) / quiet}),
        Row(what, "logins that failed", "", {VERSIONS: float(failed)}, (Goal(0),)),
    ]


def _until_idle(world: World) -> None:
    """Wait until no job is left: what was committed is archived by jobs of its own. Raises Failed."""
    deadline = time.monotonic() + COMMAND_SECONDS
    with closing(Store.open(settings.load(world.stage.home).database)) as store:
        while store.jobs([JobState.QUEUED, JobState.RUNNING], limit=1):
            if time.monotonic() > deadline:
                raise Failed("jobs do not end")
            time.sleep(0.2)


def _write(world: World, person: int, name: str, megabytes: int) -> None:
    """Put files of text without meaning, which packs to three quarters, into a person's container."""
    script = f"mkdir -p /root/{name} && cd /root/{name}"
    for number in range(0, megabytes, FILE):
        count = min(FILE, megabytes - number) * MEGA
        script += f" && head -c {count} /dev/urandom | base64 -w 0 | head -c {count} > {number}"
    timed(world.peers["docker exec"].line(script, person=person))


def _packed(world: World, person: int, name: str) -> int:
    """Bytes of a directory in the container as tar, packed by gzip as it comes."""
    command = world.peers["docker exec"].line(f"tar -C /root -c {name}", person=person)
    packer, total = zlib.compressobj(6, wbits=31), 0
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read(1 << 20):
            total += len(packer.compress(chunk))
    return total + len(packer.flush())


def _commit(world: World, person: int) -> float:
    begun = time.perf_counter()
    name = world.people[person].name
    world.stage.command("snapshot", "commit", f"als/{name}", "-m", "measured", timeout=COMMAND_SECONDS)
    return time.perf_counter() - begun


def _by_hand(world: World, person: int) -> float:
    docker = f"docker -H {world.engine}"
    packed = world.scratch / "byhand.tar.gz"
    container = world.people[person].container
    begun = time.perf_counter()
    script = f"{docker} commit {container} byhand:1 >/dev/null && {docker} save byhand:1 | gzip -1 > {packed}"
    _run(script)
    seconds = time.perf_counter() - begun
    _run(f"{docker} rmi byhand:1 >/dev/null")
    packed.unlink()
    return seconds


def _run(script: str) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise Failed(f"status {done.returncode}: {script}: {done.stderr.strip()[-500:]}")


@contextmanager
def _pause(world: World, person: int) -> Iterator[list[float]]:
    """How long the engine says that the container was paused meanwhile, in seconds, once it is over."""
    found: list[float] = []
    filters = [f"container={world.people[person].container}", "event=pause", "event=unpause"]
    command = ["docker", "-H", world.engine, "events", "--format", "{{.TimeNano}}"]
    command += [word for name in filters for word in ("--filter", name)]
    begun = str(time.time())
    yield found
    said = subprocess.run(
        [*command, "--since", begun, "--until", str(time.time())], capture_output=True, text=True, check=True
    ).stdout.split()
    if len(said) != 2:
        raise Failed(f"the engine tells of {len(said)} pauses and ends of pauses, not of one")
    found.append((int(said[1]) - int(said[0])) / 1e9)


def _worker(world: World) -> int:
    """The process id of the worker."""
    serve = int((world.stage.home / "serve.pid").read_text(encoding="ascii"))
    for process in processes().values():
        if process.parent == serve and b"worker" in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0"):
            return process.pid
    raise Failed("there is no worker")


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak of resident memory


def _peak(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MEGA
    raise Failed(f"process {pid} has ended")


def _archived(world: World, prefix: str) -> dict[str, list[tuple[str, int]]]:
    """The layers, as digest and bytes, of all archived images whose name begins so, by name; lowest first."""
    blobs = settings.load(world.stage.home).archive_dir / "blobs" / "sha256"
    found: dict[str, list[tuple[str, int]]] = {}
    images: list[dict[str, Any]] = world.stage.command_json("archive", "list")
    for image in images:
        if image["ref"].startswith(prefix):
            manifest = json.loads((blobs / image["digest"].removeprefix("sha256:")).read_bytes())
            found[image["ref"]] = [(layer["digest"], layer["size"]) for layer in manifest["layers"]]
    return found


def _crowd(world: World, count: int) -> None:
    """A challenge with so many people in it, each with a running container in which something has changed."""
    image = world.stage.command_json("challenge", "show", "als")["image"]
    world.stage.command("challenge", "add", CROWD, "--image", image, "--network", "none")
    found = settings.load(world.stage.home)
    with world.stage.engine() as engine, closing(Store.open(found.database)) as store:
        store.set_challenge(CROWD, limits=Limits(0.5, 64 << 20, 64), actor="bench")
        lifecycle = Lifecycle(store, engine, found.locks)
        for number in range(count):
            name = f"one{number}"
            store.add_user(name, actor="bench")
            lifecycle.ensure_running(store.add_workspace(CROWD, name, [name], actor="bench").id)
        for container in engine.containers({}):
            if container.labels.get(LABEL_WORKSPACE, "").startswith(f"{CROWD}/"):
                _run(f"docker -H {world.engine} exec {container.name} sh -c 'date > /root/changed'")


def _medians(samples: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}
