"""What the rest of the program asks of a container engine.

The engine keeps one container per workspace, found by name, and images that are base images or committed
versions. Every operation may be repeated: `ensure_*` moves toward a state, "already gone" is success.
All calls block; all raise EngineError or one of its children, NotFound for an image or container that must
exist, and nothing else. Sizes are bytes, times seconds.

A container runs the guest agent as process 1. It sees `guest_dir` read-only at GUEST_MOUNT and a tiny tmpfs
at RUN_MOUNT, where the agent listens on AGENT_SOCKET; `guest_socket` is that socket as the host sees it.
Both mount points lie under /dev, a tmpfs, so neither leaves a trace in a committed image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from workspaces.engine.imagetar import Layer
from workspaces.model import ChangeReport, Limits, Mount, Network

GUEST_MOUNT = "/dev/workspaces/guest"
RUN_MOUNT = "/dev/workspaces/run"
AGENT_SOCKET = "agent.sock"
AGENT_COMMAND = (f"{GUEST_MOUNT}/agent", "init", f"{RUN_MOUNT}/{AGENT_SOCKET}")

# Labels of containers and of images that this program made.
LABEL_INSTANCE = "io.workspaces.instance"  # which state directory; two may share one engine
LABEL_WORKSPACE = "io.workspaces.workspace"  # challenge/name
LABEL_SNAPSHOT = "io.workspaces.snapshot"  # <instance>:<snapshot id>

Progress = Callable[[str, float | None], None]
"""Called with what is being done and how much of it is (0 to 1, or Bytes; None where that is not known)."""


class Bytes(float):
    """A fraction that knows its bytes: `done` of `total`, which is more than 0."""

    done: int
    total: int

    def __new__(cls, done: int, total: int) -> Bytes:
        done = min(max(done, 0), total)
        made = super().__new__(cls, done / total)
        made.done, made.total = done, total
        return made


@dataclass(frozen=True, slots=True)
class EngineInfo:
    name: str
    version: str
    runtime_version: str
    storage_driver: str
    userns: bool
    data_root: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What a workspace's container is made from. `name` is its identity: an existing one is taken as it is."""

    name: str
    image: str
    hostname: str
    limits: Limits
    network: Network
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False  # its files cannot change, but for /tmp, /var/tmp and /run, which are in memory and empty


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """`state` is created, running, paused, restarting, removing, exited or dead, as Docker names them."""

    id: str
    name: str
    state: str
    exit_code: int
    oom_killed: bool
    image_id: str
    labels: Mapping[str, str]

    @property
    def running(self) -> bool:
        return self.state in ("running", "paused")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of an image's configuration that says how it is run, with Docker's names in `values`.

    Keys are those of the OCI image configuration's `config`: Env, Cmd, Entrypoint, WorkingDir, User, Labels,
    Volumes, ExposedPorts, StopSignal. A key that is absent is not set in the image.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.values.get("Labels") or {})


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """`id` is the digest of the image's configuration, `diff_ids` those of its uncompressed layers, lowest first."""

    id: str
    refs: tuple[str, ...]
    size: int
    created_at: float
    diff_ids: tuple[str, ...]
    config: ImageConfig


@dataclass(frozen=True, slots=True)
class RunResult:
    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Use:
    """What a running container uses: seconds of CPU and bytes over its network since its start, the rest now.

    `memory` is in bytes and leaves out the page cache that the kernel would give up first, as Docker's own figure does.
    """

    cpu_seconds: float
    memory: int
    pids: int
    received: int
    sent: int


class Files(Protocol):
    """A container's regular files as they are on the host, opened unbuffered for reading, never through a link.

    The container's root may change them meanwhile: what is read is hostile, and may be longer than its size says.
    """

    def open(self, path: str) -> BinaryIO | None:
        """What the container wrote at `path`, None when that is no regular file or cannot be opened."""

    def open_base(self, path: str) -> BinaryIO | None:
        """What its image has there."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier version has at a path where it differs from the image that a container was made from.

    `mode` is st_mode, 0 when it has nothing there; `mtime` is in whole seconds. `in_source`: the image has something.
    A file whose inode changed after `until` may differ from it in what does not show, such as content or attributes.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    in_source: bool = False
    until: float = math.inf


class Engine(Protocol):
    def info(self) -> EngineInfo:
        """Raises EngineUnavailable when nothing answers."""

    def prepare(self) -> None:
        """Make sure that networks and filters are there; a process that makes containers calls it at its start."""

    def retire(self) -> None:
        """Remove this instance's networks and filters. Its containers are gone by then."""

    # containers
    def ensure_container(self, spec: ContainerSpec) -> ContainerInfo:
        """Create the container, not started, unless one of that name exists. NotFound when the image does not."""

    def start(self, name: str) -> ContainerInfo:
        """Start it, or do nothing when it runs. Returns when the agent's socket accepts, EngineTimeout else."""

    def limit(self, name: str, limits: Limits) -> Limits | None:
        """Give a container other limits, from now on if it runs; what it has then, None when there is no such one.

        Less memory than it uses makes the kernel end programs in it.
        """

    def stop(self, name: str, timeout: float = 10) -> None:
        """SIGTERM to the agent, SIGKILL after `timeout`. Nothing happens when it is stopped or gone."""

    def remove(self, name: str) -> None:
        """Kill and delete container and volume. Nothing happens when they are gone."""

    def container(self, name: str) -> ContainerInfo | None: ...

    def containers(self, labels: Mapping[str, str]) -> list[ContainerInfo]: ...

    def guest_socket(self, name: str) -> Path:
        """Where the host sees the agent's socket. Untrusted: the container may have put anything there."""

    def changes(self, name: str, earlier: Mapping[str, Earlier] | None = None) -> ChangeReport:
        """What differs from the image it was made from; a file's size and mode are read without following links.

        With `earlier`, by path as `/a/b`: what differs from that version, told by size, mode, owner and time.
        """

    def written(self, name: str) -> Files | None:
        """What it wrote and what its image has, for reading; None where the storage driver shows no directories."""

    def disk_use(self, name: str) -> int:
        """Bytes that the container has written over its image. The engine walks its files: many take long."""

    def usage(self, name: str) -> Use | None:
        """What it uses; None when it does not run, or its counters are not on this host. Costs next to nothing."""

    def commit(self, name: str, reference: str, labels: Mapping[str, str]) -> ImageInfo:
        """Commit as `reference`, paused meanwhile, with `labels` added. Its configuration is still the container's."""

    # images
    def image(self, reference: str) -> ImageInfo | None:
        """By reference or id."""

    def images(self, labels: Mapping[str, str] | None = None, without: str = "") -> list[ImageInfo]:
        """Tagged and untagged ones that carry all of `labels`, and none of the name `without`."""

    def import_rootfs(self, rootfs: Path, reference: str, config: ImageConfig) -> ImageInfo:
        """Make a one-layer image from a tar of a root file system (plain or compressed)."""

    def pull(self, reference: str, progress: Progress) -> ImageInfo: ...

    def load(self, chunks: Iterable[bytes]) -> list[ImageInfo]:
        """Load a `docker save` tar."""

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as a `docker save` tar, in chunks."""

    def reconfigure(self, image_id: str, config: Mapping[str, Any], reference: str) -> ImageInfo:
        """Make an image with the layers of `image_id` and `config` as its whole OCI configuration; tag it.

        The same input gives the same id. `config["rootfs"]` must list exactly the layers of `image_id`.
        """

    def assemble(self, config: Mapping[str, Any], layers: Iterable[Layer], reference: str) -> ImageInfo:
        """Make an image of any layers with `config` as its whole OCI configuration; tag it.

        `layers`, lowest first, may lack those that the engine has on the same ones below. The same input gives the
        same id. Raises EngineError when a layer is nowhere, or another one than `config["rootfs"]` lists.
        """

    def layer(self, reference: str, number: int) -> Iterator[bytes]:
        """Layer `number` of an image, from 0, as an uncompressed tar of its files.

        Its bytes need not be those whose digest the layer is known by, nor its times have fractions of seconds.
        """

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image one more reference, taking it from another image that had it."""

    def untag(self, reference: str) -> None:
        """Remove a name, and its image with the last one unless a container uses it. Nothing when there is none."""

    def remove_image(self, image_id: str) -> None:
        """Nothing happens when it is gone; Conflict when a container uses it."""

    def run(self, image: str, argv: tuple[str, ...], timeout: float = 60) -> RunResult:
        """Run `argv` in a throw-away container without network that sees `guest_dir`, and remove it."""

    def close(self) -> None: ...
