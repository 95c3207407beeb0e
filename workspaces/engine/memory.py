"""An engine without containers, for fast tests: a container is a directory and a real agent, run as a plain process.

    root/images/<id>.json, root/layers/<digest>.tar      images are real: layer tars, ids and tars as Docker's
    root/containers/<name>/rootfs, run/agent.sock        what differs from the image is found by comparing files

It isolates nothing. All of it lives in one process and ends with `close`; it is safe to use from several threads.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from workspaces.engine import guestsocket, layers, usage
from workspaces.engine.base import (
    AGENT_SOCKET,
    GUEST_MOUNT,
    LABEL_INSTANCE,
    ContainerInfo,
    ContainerSpec,
    Earlier,
    EngineInfo,
    ImageInfo,
    RunResult,
    Use,
)
from workspaces.engine.memoryimages import MemoryImages
from workspaces.engine.since import put_back, since_earlier
from workspaces.engine.written import Walker
from workspaces.errors import EngineError, EngineTimeout, NotFound
from workspaces.model import Change, ChangeReport, Limits

START_SECONDS = 10.0
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class _Container:
    id: str
    spec: ContainerSpec
    image: ImageInfo
    index: layers.Index
    labels: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    exit_code: int = 0
    started: bool = False


class MemoryFiles:
    """Files of a container's directory, and of its image's layers, topmost first."""

    def __init__(self, rootfs: Path, layer_tars: Sequence[Path]) -> None:
        self._walker = Walker(rootfs)
        self._layers = layer_tars

    def open(self, path: str) -> BinaryIO | None:
        return self._walker.open(path)

    def open_base(self, path: str) -> BinaryIO | None:
        content = next((found for tar in self._layers if (found := layers.read(tar, path)) is not None), b"")
        return io.BytesIO(content) if content else None

    def close(self) -> None:
        self._walker.close()


class MemoryEngine(MemoryImages):
    """The Engine protocol on directories below `root`."""

    def __init__(self, root: Path, guest_dir: Path, instance: str = "memory") -> None:
        super().__init__(root)
        self.guest_dir = guest_dir
        self.instance = instance
        self._containers: dict[str, _Container] = {}
        self._lock = threading.RLock()

    def info(self) -> EngineInfo:
        return EngineInfo("memory", "1", "none 1", "directories", False, str(self.root))

    def prepare(self) -> None:
        return

    def retire(self) -> None:
        return

    # containers

    def ensure_container(self, spec: ContainerSpec) -> ContainerInfo:
        with self._lock:
            if spec.name not in self._containers:
                image = self._image(spec.image)
                rootfs = self._directory(spec.name) / "rootfs"
                rootfs.mkdir(parents=True)
                (self._directory(spec.name) / "run").mkdir(mode=0o755)
                self._unpack(image, rootfs)
                labels = {LABEL_INSTANCE: self.instance, **image.config.labels, **spec.labels}
                index = layers.index(rootfs)
                self._containers[spec.name] = _Container(uuid.uuid4().hex * 2, spec, image, index, labels)
            return self._info(spec.name)

    def start(self, name: str) -> ContainerInfo:
        with self._lock:
            found = self._get(name)
            if not self._running(found):
                directory = self._directory(name)
                environment = {"PATH": DEFAULT_PATH, "HOME": str(directory / "rootfs"), "HOSTNAME": found.spec.hostname}
                values = found.image.config.values.get("Env") or ()
                environment |= dict(item.partition("=")[::2] for item in values)
                with (directory / "log").open("ab") as log:
                    found.process = subprocess.Popen(
                        # A relative path, because a socket's may have 107 bytes only.
                        [str(self.guest_dir / "agent"), "init", f"../run/{AGENT_SOCKET}"],
                        cwd=directory / "rootfs",
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                found.started = True
            process = found.process
        assert process is not None
        if not guestsocket.wait(self.guest_socket(name), START_SECONDS, lambda: process.poll() is None):
            log_end = (self._directory(name) / "log").read_text(errors="replace")[-500:]
            if process.poll() is None:
                raise EngineTimeout(f"The agent in {name} did not answer within {START_SECONDS:.0f} s.")
            raise EngineError(f"{name} ended right after its start (exit status {process.returncode}).", log_end)
        return self._info(name)

    def limit(self, name: str, limits: Limits) -> Limits | None:
        with self._lock:
            found = self._containers.get(name)
            if found is None:
                return None
            found.spec = replace(found.spec, limits=limits)
            return found.spec.limits

    def limits_of(self, name: str) -> Limits:
        """What a container has now, for tests. NotFound."""
        return self._get(name).spec.limits

    def stop(self, name: str, timeout: float = 10) -> None:
        with self._lock:
            found = self._containers.get(name)
            process = found.process if found else None
        if found is None or process is None:
            return
        process.terminate()
        try:
            code = process.wait(timeout)
            found.exit_code = code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            found.exit_code = 128 + signal.SIGKILL
        found.process = None
        (self._directory(name) / "run" / AGENT_SOCKET).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        self.stop(name, 0)
        with self._lock:
            if self._containers.pop(name, None):
                shutil.rmtree(self._directory(name), ignore_errors=True)

    def container(self, name: str) -> ContainerInfo | None:
        with self._lock:
            try:
                return self._info(name)
            except NotFound:
                return None

    def containers(self, labels: Mapping[str, str]) -> list[ContainerInfo]:
        with self._lock:
            found = [self._info(name) for name in self._containers]
        return [info for info in found if labels.items() <= info.labels.items()]

    def guest_socket(self, name: str) -> Path:
        return self._directory(name) / "run" / AGENT_SOCKET

    def rootfs(self, name: str) -> Path:
        """The container's file system, for tests that write to it."""
        return self._directory(name) / "rootfs"

    def changes(self, name: str, earlier: Mapping[str, Earlier] | None = None) -> ChangeReport:
        with self._lock:
            found = self._get(name)
        entries = layers.compare(found.index, self.rootfs(name))
        if earlier is not None:
            entries = self._since(name, entries, earlier)
        counts = [sum(entry.kind == kind for entry in entries) for kind in ("added", "changed", "removed")]
        size = sum(entry.size for entry in entries)
        return ChangeReport(time.time(), found.spec.image, counts[0], counts[1], counts[2], size, tuple(entries))

    def written(self, name: str) -> MemoryFiles:
        with self._lock:
            found = self._get(name)
        return MemoryFiles(self.rootfs(name), [self._layer(diff_id) for diff_id in reversed(found.image.diff_ids)])

    def _since(self, name: str, entries: Sequence[Change], earlier: Mapping[str, Earlier]) -> list[Change]:
        """`entries` against an earlier version. Every layer here says root, who need not own the files."""
        found = []
        for entry in entries:
            kind: str | None = entry.kind
            if entry.path in earlier:
                place = self.rootfs(name) / entry.path.lstrip("/")
                status = place.lstat() if entry.kind != "removed" else None
                root = (status.st_uid, status.st_gid) if status else (0, 0)
                kind = since_earlier(entry.kind, status, earlier[entry.path], root)
            if kind:
                found.append(replace(entry, kind=kind))
        again = put_back({entry.path: entry.kind for entry in entries}, earlier)
        return sorted([*found, *(Change(kind, path) for path, kind in again)], key=lambda change: change.path)

    def disk_use(self, name: str) -> int:
        return self.changes(name).bytes

    def usage(self, name: str) -> Use | None:
        with self._lock:
            found = self._get(name)
            pid = found.process.pid if found.process and self._running(found) else None
        return usage.of_processes(pid) if pid else None

    def commit(self, name: str, reference: str, labels: Mapping[str, str]) -> ImageInfo:
        with self._lock:
            found = self._get(name)
            entries = layers.compare(found.index, self.rootfs(name))
            with self._paused(found):
                added = [self._add_layer(layers.pack(self.rootfs(name), entries))] if entries else []
            values = {**found.image.config.values, "Labels": {**found.labels, **labels}}
            values |= {"Entrypoint": [f"{GUEST_MOUNT}/agent"], "User": "0:0"}  # it leaks into Docker's commits as well
            values.pop("Cmd", None)
            return self._create(values, (*found.image.diff_ids, *added), reference)

    def run(self, image: str, argv: tuple[str, ...], timeout: float = 60) -> RunResult:
        found = self._image(image)
        place = self.root / "runs" / uuid.uuid4().hex
        place.mkdir(parents=True)
        program = argv[0].replace(GUEST_MOUNT, str(self.guest_dir), 1)
        try:
            self._unpack(found, place)
            done = subprocess.run([program, *argv[1:]], cwd=place, capture_output=True, timeout=timeout, check=False)
        except FileNotFoundError as exc:
            raise EngineError(f"The engine could not run {argv[0]} in {image}: no such program.") from exc
        except subprocess.TimeoutExpired as exc:
            raise EngineTimeout(f"The container engine took too long: could not run {argv[0]} in {image}.") from exc
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return RunResult(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        for name in list(self._containers):
            self.stop(name, 5)

    # parts

    def _used(self, image_id: str) -> list[str]:
        return [name for name, found in self._containers.items() if found.image.id == image_id]

    def _directory(self, name: str) -> Path:
        return self.root / "containers" / name

    def _get(self, name: str) -> _Container:
        found = self._containers.get(name)
        if found is None:
            raise NotFound(f"The engine has no container {name}.")
        return found

    def _running(self, found: _Container) -> bool:
        if found.process is None:
            return False
        code = found.process.poll()
        if code is None:
            return True
        found.process, found.exit_code = None, code if code >= 0 else 128 - code
        return False

    def _info(self, name: str) -> ContainerInfo:
        found = self._get(name)
        running = self._running(found)
        state = "running" if running else "exited" if found.started else "created"
        return ContainerInfo(found.id, name, state, found.exit_code, False, found.image.id, dict(found.labels))

    @contextlib.contextmanager
    def _paused(self, found: _Container) -> Iterator[None]:
        if self._running(found) and found.process is not None:
            os.kill(found.process.pid, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(found.process.pid, signal.SIGCONT)
        else:
            yield
