"""A whole small world for snapshots and jobs: store, engine, lifecycle, archive, and workers on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.savetar import layer
from workspaces import guest, jobs
from workspaces.archive import Archive
from workspaces.engine.base import LABEL_SNAPSHOT, ContainerSpec, Engine, ImageConfig
from workspaces.engine.memory import MemoryEngine
from workspaces.jobs import Worker
from workspaces.lifecycle import Lifecycle
from workspaces.model import Job, JobKind, JobState, Limits, Network, Role, Snapshot, Workspace
from workspaces.provenance import Signer
from workspaces.registry import Registry
from workspaces.snapshots import examining
from workspaces.store import Store

SECONDS = 60.0  # only what fails takes so long
OPEN = (JobState.QUEUED, JobState.RUNNING)
IMAGE = "base:1"
RUNS = {"Env": ["A=1"], "Entrypoint": ["/bin/sh"], "Cmd": ["-i"], "User": "bobby", "WorkingDir": "/srv"}


@dataclass
class World:
    """`chief` decides, `alice` has the workspace `<slug>/alice`, whose container is not made yet."""

    root: Path
    store: Store
    engine: Engine
    slug: str
    image: str

    def __post_init__(self) -> None:
        self.archive = Archive(self.root / "archive")
        self.signer = Signer(self.root / "keys")
        self.registry: Registry | None = None
        self.store.add_user("chief", Role.ADMIN, actor="test")
        self.store.add_user("alice", actor="test")
        limits = Limits(cpus=1.0, memory=256 << 20, pids=128)
        self.store.add_challenge(self.slug, self.image, limits, Network.NONE, actor="test")
        self.id = self.store.add_workspace(self.slug, "alice", ["alice"], actor="test").id

    @property
    def workspace(self) -> Workspace:
        return self.store.workspace(self.id)

    @property
    def lifecycle(self) -> Lifecycle:
        return Lifecycle(self.store, self.engine, self.root / "locks")

    @property
    def rootfs(self) -> Path:
        """The container's file system, with the in-memory engine; made, and not started, if there is none."""
        assert isinstance(self.engine, MemoryEngine)
        if self.engine.container(self.container) is None:
            workspace = self.workspace
            limits = self.store.challenge(self.slug).limits
            spec = ContainerSpec(self.container, workspace.image or self.image, "alice", limits, Network.NONE)
            self.engine.ensure_container(spec)
        return self.engine.rootfs(self.container)

    @property
    def container(self) -> str:
        return self.lifecycle.container_name(self.workspace)

    def request(self, message: str = "first") -> Snapshot:
        return self.store.request_snapshot(self.id, message, actor="alice", via="cli")

    def approved(self, message: str = "first") -> Snapshot:
        snapshot = self.request(message)
        self.store.approve_snapshot(snapshot.id, actor="chief")
        return self.store.snapshot(snapshot.id)

    def add_job(self, kind: JobKind, snapshot_id: int | None = None, arguments: dict[str, str] | None = None) -> Job:
        return self.store.add_job(kind, self.id, actor="chief", snapshot_id=snapshot_id, arguments=arguments)

    def worker(self, store: Any = None, engine: Any = None, archive: Any = None, registry: Any = None) -> Worker:
        """A new worker; parts of it may be wrapped."""
        store, engine = store or self.store, engine or self.engine
        lifecycle = Lifecycle(store, engine, self.root / "locks")
        return Worker(
            store,
            engine,
            lifecycle,
            archive or self.archive,
            self.root / "locks",
            signer=self.signer,
            registry=registry or self.registry,
        )

    @contextmanager
    def working(self, worker: Worker | None = None) -> Iterator[Worker]:
        """A worker that runs in a thread until the block ends."""
        worker = worker or self.worker()
        stop, ready = threading.Event(), threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop, ready.set), daemon=True)
        thread.start()
        try:
            assert ready.wait(SECONDS)
            yield worker
        finally:
            stop.set()
            thread.join(SECONDS)
            assert not thread.is_alive()

    def work(self) -> None:
        """Run a worker until no job is left."""
        with self.working():
            self.wait(lambda: not self.store.jobs(states=OPEN))

    def wait(self, condition: Callable[[], Any], seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.describe()
            threading.Event().wait(0.005)

    def describe(self) -> str:
        lines = [
            f"{job.id} {job.kind} {job.state} {job.attempts} {job.message} {job.error}" for job in self.store.jobs()
        ]
        return "\n".join([*lines, *(f"{s.id} {s.state} v{s.version} {s.reason}" for s in self.store.snapshots())])

    def our_images(self) -> dict[str, tuple[str, ...]]:
        """Image id → names, of every image that a snapshot of this state directory left in the engine."""
        prefix = f"{self.store.instance}:"
        return {
            image.id: image.refs
            for image in self.engine.images()
            if image.config.labels.get(LABEL_SNAPSHOT, "").startswith(prefix)
        }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world on the in-memory engine, with challenge `als`; its container is not made yet."""
    with memory_world(tmp_path) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses."""
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(jobs, "CLAIM_SECONDS", 0.02)
    monkeypatch.setattr(jobs, "LONGEST_PAUSE", 0.01)


class NoScanner:
    """Finds no secret, at once: tests of other things need not wait for the real one, which compiles its rules anew in
    each state directory for seconds."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> NoScanner:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def scan(self, data: bytes) -> tuple[str, ...]:
        return ()


@contextmanager
def memory_world(root: Path, scanner: Any = NoScanner) -> Iterator[World]:
    """A world on an in-memory engine of its own, all below `root`."""
    root.mkdir(exist_ok=True)
    guest.install(root / "guest")
    store = Store.open(root / "workspaces.db")
    engine = MemoryEngine(root / "engine", root / "guest", store.instance)
    tar = root / "rootfs.tar"
    tar.write_bytes(layer({"etc/os-release": b"ID=test\n", "root/readme": b"welcome\n"}))
    engine.import_rootfs(tar, IMAGE, ImageConfig(RUNS))
    try:
        with patch.object(examining, "Scanner", scanner):
            yield World(root, store, engine, "als", IMAGE)
    finally:
        engine.close()
        store.close()
