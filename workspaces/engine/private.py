"""A container engine of this state directory's own, for hosts where none answers.

    start ─► address range, bridge ─► containerd ─► dockerd (root in containers is an unprivileged user outside)
    stop  ─► containers ─► dockerd ─► containerd, shims ─► filters, bridges, mounts: nothing is left but the data

    <directory>/        0700: daemon.json, containerd.toml, network.json, data/, containerd/, *.log
    /run/workspaces-H/  0711: sockets, pid file, run-time state, and data/ bound to <directory>/data

H is a hash of the directory. Data is used through /run because a remapped root must be able to walk there, which it
may not through a state directory that only root enters; and because a unix socket's path has at most 107 bytes.

It shares nothing with another daemon on this host: its bridge, address range, sockets, containerd and filters are its
own, and it makes no rule that is not for its own bridges (`--iptables=false`; see `firewall`).
A daemon is found by its command line, never by a process id on disk, which may be somebody else's by now.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError

from workspaces.engine import firewall, hostnet, keyrings, processes
from workspaces.engine.base import LABEL_INSTANCE, RUN_MOUNT
from workspaces.engine.connection import CALL_SECONDS, PRIVATE_LABEL, docker_errors
from workspaces.engine.diskerrors import disk_errors
from workspaces.errors import EngineError, HostError
from workspaces.files import put

START_SECONDS = 60.0
STOP_SECONDS = 20.0
PING_SECONDS = 10
LOG_MAX = 10 << 20  # bytes; a longer log becomes .old at the next start
PROGRAMS = ("dockerd", "containerd", "containerd-shim-runc-v2", "runc", "ip", "iptables", "mount", "setsid")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Status:
    """`pid` of dockerd, None when it does not run; `answers` whether its API does."""

    host: str
    pid: int | None
    answers: bool


class PrivateEngine:
    """Starts and stops the private engine whose data lie in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._hash = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:10]
        self.run_dir = Path(f"/run/workspaces-{self._hash}")
        self.socket = self.run_dir / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.bridge = f"wsb{self._hash}"
        self._daemon_json = self.directory / "daemon.json"
        self._containerd_toml = self.directory / "containerd.toml"
        self._containerd_socket = self.run_dir / "containerd.sock"

    def exists(self) -> bool:
        """Whether it was ever started: its data are here."""
        return self._daemon_json.exists()

    def status(self) -> Status:
        found = self._dockerd()
        return Status(self.host, found[0] if found else None, bool(found) and self._answers())

    def killed(self) -> bool:
        """Whether it ended without being stopped. Waits for a start or stop that goes on."""
        with self._locked():
            return self.run_dir.exists() and not self._answers()

    def start(self) -> None:
        """Start what does not run, and return when the API answers.

        Raises HostError, with the log's end if a daemon does not start, or NoSpace on a full disk.
        """
        if self._answers():
            return
        self._check_host()
        with disk_errors(f"The private engine in {self.directory} cannot be started"), self._locked():
            if self._answers():
                return
            self._directories()
            self._network()
            if not self._containerd():
                self._launch("containerd", "--config", str(self._containerd_toml))
                self._await("containerd", self._containerd_socket.exists, self._containerd)
            if not self._dockerd():
                (self.run_dir / "docker.pid").unlink(missing_ok=True)  # of one that was killed
                self._keep_sockets()
                self._launch("dockerd", "--config-file", str(self._daemon_json))
                self._await("dockerd", self._answers, self._dockerd)
                self._prune_volumes()
            self._await("dockerd", self._answers, self._dockerd)
            keyrings.make_room()  # after the daemon can be seen, so that another one that stops now leaves it

    def stop(self) -> None:
        """Stop its containers and it, and remove all but its data. Nothing happens when it does not run.

        Raises EngineError when something could not be removed.
        """
        if not self.directory.exists() and not self.run_dir.exists():
            return
        with self._locked():
            if self._answers():
                self._stop_containers()
            processes.end(self._dockerd(), STOP_SECONDS)
            processes.end(self._containerd(), STOP_SECONDS)
            processes.end(self._left_over(), 0)
            for bridge in firewall.bridges_of(self.host):
                firewall.Firewall(bridge).remove()
                hostnet.delete_bridge(bridge)
            hostnet.delete_bridge(self.bridge)
            firewall.restore_forwarding(others=bool(processes.daemons_here()))
            if not processes.find(lambda argv: argv[0].endswith("dockerd")):
                keyrings.restore()
            processes.unmount_below(self.run_dir)
            processes.unmount_all(self._mounted_in_data)
            processes.remove_cgroups(self._containers())
            self._forget()

    # parts of start

    def _check_host(self) -> None:
        if os.geteuid() != 0:
            raise HostError("Only root can start a container engine.", "Run this as root, or set [engine] host.")
        missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
        if missing:
            raise HostError(
                f"The private engine needs {', '.join(missing)}.", "apt-get install docker.io iptables iproute2"
            )

    def _directories(self) -> None:
        self.run_dir.mkdir(mode=0o711, exist_ok=True)
        self.run_dir.chmod(0o711)  # whatever the umask
        for path in (self.directory / "data", self.directory / "containerd", self.run_dir / "data"):
            path.mkdir(mode=0o711, exist_ok=True)
        if str(self.run_dir / "data") not in processes.mounts_below(self.run_dir):
            processes.bind(self.directory / "data", self.run_dir / "data")
        _write(
            self._containerd_toml,
            f"""version = 2
root = {json.dumps(str(self.directory / "containerd"))}
state = {json.dumps(str(self.run_dir / "containerd"))}
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = {json.dumps(str(self._containerd_socket))}
[plugins."io.containerd.internal.v1.opt"]
path = {json.dumps(str(self.directory / "containerd" / "opt"))}
""",
        )
        for name in ("dockerd", "containerd"):
            log = self._log(name)
            if log.exists() and log.stat().st_size > LOG_MAX:
                log.replace(log.with_suffix(".old"))

    def _network(self) -> None:
        """Choose the address range once; make the daemon's default bridge, which no workspace uses."""
        chosen = self.directory / "network.json"
        try:
            space = ipaddress.IPv4Network(json.loads(chosen.read_text(encoding="utf-8"))["range"])
        except (OSError, ValueError, KeyError):
            space = hostnet.free_range(int(self._hash, 16))
            _write(chosen, json.dumps({"range": str(space)}))
        default, pool = space.subnets(prefixlen_diff=1)
        hostnet.ensure_bridge(self.bridge, f"{default.network_address + 1}/{default.prefixlen}")
        _write(
            self._daemon_json,
            json.dumps(
                {
                    "hosts": [self.host],
                    "group": "root",  # the group docker is for the host's own engine
                    "data-root": str(self.run_dir / "data"),
                    "exec-root": str(self.run_dir / "exec"),
                    "pidfile": str(self.run_dir / "docker.pid"),
                    "containerd": str(self._containerd_socket),
                    "bridge": self.bridge,
                    "default-address-pools": [{"base": str(pool), "size": pool.prefixlen}],
                    "iptables": False,
                    "ip-masq": False,
                    "ip-forward": False,
                    "userland-proxy": False,
                    "userns-remap": "default",
                    "live-restore": True,
                    "labels": [PRIVATE_LABEL],
                    "log-level": "warn",
                    "features": {"containerd-snapshotter": False},
                },
                indent=1,
            ),
        )

    def _keep_sockets(self) -> None:
        """Keep the sockets of containers that outlived the last dockerd, and clear away what it left mounted.

        At its start it unmounts once whatever is mounted on each volume with options, although a container may use it
        (moby 20.10, volume/local/local.go, New). A second mount of the same on top is what it takes away then.
        """
        used = {self._volume_directory(path) for path in self._running_containers()}
        volumes = re.compile(rf"{re.escape(str(self.run_dir))}/data/[^/]+/volumes/[^/]+/_data")
        for target in processes.mounts_below(self.run_dir):
            if volumes.fullmatch(target) and Path(target) not in used:
                processes.unmount(target)
        for directory in used & {Path(target) for target in processes.mounts_below(self.run_dir)}:
            processes.bind(directory, directory)

    def _running_containers(self) -> list[Path]:
        """Docker's directories of the containers that have a shim."""
        return [path for path in self.run_dir.glob("data/*/containers/*") if processes.find(self._is_shim(path.name))]

    def _is_shim(self, container: str = "") -> Callable[[list[str]], bool]:
        wanted = {str(self._containerd_socket), container} - {""}
        return lambda argv: "containerd-shim" in argv[0] and wanted <= set(argv)

    @staticmethod
    def _volume_directory(container: Path) -> Path:
        """Where the host sees the RUN_MOUNT of a container, from what Docker keeps about it."""
        try:
            mounts = json.loads((container / "config.v2.json").read_text(encoding="utf-8"))["MountPoints"]
            name = str(mounts[RUN_MOUNT]["Name"])
        except (OSError, ValueError, KeyError, TypeError):
            return Path("/nonexistent")
        return container.parent.parent / "volumes" / name / "_data"

    def _prune_volumes(self) -> None:
        """Remove volumes of containers that are gone.

        After a restart dockerd's count of a surviving container's mounts is wrong, and it refuses to remove the volume
        when the container goes ("volume has active mounts"); the next dockerd counts from nothing and does not.
        """
        with docker_errors("remove old volumes"), closing(self._client()) as client:
            found = client.volumes(filters={"dangling": True, "label": LABEL_INSTANCE})
            for volume in found.get("Volumes") or ():
                with suppress(APIError):
                    client.remove_volume(volume["Name"], force=True)

    def _launch(self, name: str, *arguments: str) -> None:
        """Start a daemon that outlives this process, and its session, and under systemd its unit."""
        scope = ("systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--")
        under_systemd = Path("/run/systemd/system").is_dir() and shutil.which("systemd-run", path=PATH)
        command = ["setsid", "--fork", *(scope if under_systemd else ()), name, *arguments]
        # Neither a client's variables nor those by which systemd would take the daemon for the calling unit's process.
        dropped = ("DOCKER_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "TMPDIR", "CONTAINERD_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {"PATH": PATH}
        with self._log(name).open("ab") as log:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                umask=0o022,
                check=True,
            )

    def _await(self, name: str, ready: Callable[[], bool], running: Callable[[], list[int]]) -> None:
        deadline = time.monotonic() + START_SECONDS
        seen = False
        pause = 0.01
        while not ready():
            alive = bool(running())
            if (seen and not alive) or time.monotonic() > deadline:
                what = "ended at once" if seen and not alive else f"did not answer within {START_SECONDS:.0f} s"
                log = self._log(name)
                raise HostError(f"The private engine's {name} {what}.", f"{processes.last_lines(log)}\nIts log: {log}")
            seen = seen or alive
            time.sleep(pause)
            pause = min(0.2, pause * 1.5)

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            with docker_errors("ask the engine"), closing(self._client(PING_SECONDS)) as client:
                return bool(client.ping())
        except EngineError:
            return False

    def _client(self, timeout: int = CALL_SECONDS) -> docker.APIClient:
        return docker.APIClient(base_url=self.host, version="auto", timeout=timeout)

    # parts of stop

    def _stop_containers(self) -> None:
        with docker_errors("stop the containers"), closing(self._client()) as client, ThreadPoolExecutor(8) as pool:
            running = [str(item["Id"]) for item in client.containers()]
            list(pool.map(lambda name: _stop_one(client, name), running))

    def _left_over(self) -> list[int]:
        """Shims, and processes of containers whose shim was killed."""
        return [*processes.find(self._is_shim()), *processes.in_cgroups(self._containers())]

    def _containers(self) -> set[str]:
        """The ids of all containers, which their control groups are named for."""
        return {path.name for path in self.directory.glob("data/*/containers/*")}

    def _mounted_in_data(self) -> list[str]:
        """What Docker mounted for containers; the data themselves may lie on a disk of the administrator's."""
        own = re.compile(rf"{re.escape(str(self.directory))}/data/[^/]+/(overlay2|volumes|containers)/.+")
        return [target for target in processes.mounts_below(self.directory) if own.fullmatch(target)]

    def _forget(self) -> None:
        if not self.run_dir.exists():
            return
        with suppress(FileNotFoundError):
            (self.run_dir / "data").rmdir()  # a mount point; never deleted with what it shows
        for path in self.run_dir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.run_dir.rmdir()

    # shared

    def _dockerd(self) -> list[int]:
        return processes.find(lambda argv: argv[0].endswith("dockerd") and str(self._daemon_json) in argv)

    def _containerd(self) -> list[int]:
        return processes.find(lambda argv: argv[0].endswith("containerd") and str(self._containerd_toml) in argv)

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One start or stop at a time; two processes may find at once that no engine runs."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.directory / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _stop_one(client: docker.APIClient, name: str) -> None:
    """Best effort: what does not stop now is killed with its shim."""
    with suppress(APIError):
        client.unpause(name)
    with suppress(APIError):
        client.stop(name, timeout=10)


def _write(path: Path, text: str) -> None:
    put(path, text.encode(), 0o600, over=True)
