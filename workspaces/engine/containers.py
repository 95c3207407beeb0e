"""Containers of a Docker daemon: create, start, stop, look, commit, run.

    ContainerSpec ─► ensure_container (created, hardened) ─► start (filters, then the daemon's start, then isolation)

A container's process 1 is the guest agent, which runs nothing until the gateway asks; what `start` does after the
daemon's own start, such as isolating the network port, is therefore done before any of the participant's code runs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docker.types import DriverConfig, LogConfig, Mount
from docker.utils import parse_repository_tag, version_lt

from workspaces.engine import changes, guestsocket, imagetar, usage
from workspaces.engine.base import (
    AGENT_COMMAND,
    AGENT_SOCKET,
    GUEST_MOUNT,
    LABEL_INSTANCE,
    RUN_MOUNT,
    ContainerInfo,
    ContainerSpec,
    Earlier,
    ImageInfo,
    RunResult,
    Use,
)
from workspaces.engine.connection import BULK_SECONDS, CALL_SECONDS, docker_errors
from workspaces.engine.dockerimages import DockerImages
from workspaces.engine.firewall import Firewall, isolate_ports
from workspaces.engine.written import WrittenFiles
from workspaces.errors import Conflict, EngineError, EngineTimeout, NotFound
from workspaces.model import ChangeReport, Limits, Network

START_SECONDS = 30.0
OUTPUT_MAX = 1 << 20  # bytes kept of what `run` prints
# What apt-get, dpkg and useradd need of root, and no more.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE", "SYS_CHROOT",
)  # fmt: skip
RECURSIVE_READ_ONLY = "1.44"  # the API from which a read-only mount is so all the way down
LOG_LIMITS = {"max-size": "1m", "max-file": "2"}
SCRATCH = {path: "size=64m,mode=1777" for path in ("/tmp", "/var/tmp")} | {"/run": "size=16m,mode=755"}  # noqa: S108


class DockerContainers(DockerImages):
    """The container half of the engine."""

    # networks

    @property
    def network_name(self) -> str:
        return f"ws-{self.instance}"

    @property
    def bridge_name(self) -> str:
        return f"ws{self.instance[:10]}"  # a network interface's name has at most 15 characters

    def prepare(self) -> None:
        """Make sure that the network `open` and its filters are there."""
        self._firewall().ensure()

    def retire(self) -> None:
        """Remove this instance's network and filters."""
        with docker_errors("look at the network"):
            found = self.quick().networks(filters={"label": f"{LABEL_INSTANCE}={self.instance}"})
        for network in found:
            with docker_errors("remove the network"):
                self.quick().remove_network(network["Id"])
        Firewall(self.bridge_name).remove()

    def _firewall(self) -> Firewall:
        what = "make the network"
        try:
            with docker_errors(what):
                found = self.quick().inspect_network(self.network_name)
        except NotFound:
            options = {
                "com.docker.network.bridge.name": self.bridge_name,
                "com.docker.network.bridge.enable_icc": "false",
                "com.docker.network.bridge.enable_ip_masquerade": "false" if self.private() else "true",
            }
            try:
                with docker_errors(what):
                    self.quick().create_network(
                        self.network_name,
                        driver="bridge",
                        options=options,
                        check_duplicate=True,
                        labels={LABEL_INSTANCE: self.instance},
                    )
            except Conflict:
                pass  # another process made it meanwhile
            with docker_errors(what):
                found = self.quick().inspect_network(self.network_name)
        subnets = [str(item["Subnet"]) for item in found["IPAM"]["Config"] if ":" not in str(item["Subnet"])]
        if found["Options"].get("com.docker.network.bridge.name") != self.bridge_name or len(subnets) != 1:
            raise EngineError(
                f"The engine's network {self.network_name} is not ours.", f"docker network rm {self.network_name}"
            )
        return Firewall(self.bridge_name, subnets[0], routing=self.private(), host=self.host)

    # containers

    def ensure_container(self, spec: ContainerSpec) -> ContainerInfo:
        """Create the container, not started, unless one of that name exists. NotFound when the image does not."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            found = self.container(spec.name)
            if found is not None and found.state != "removing":
                return found
            try:
                if found is None:
                    self._create(spec)
                    continue
            except Conflict:
                pass  # of twenty first logins at once one makes it; its name is taken a while before it can be seen
            if time.monotonic() > deadline:
                raise EngineTimeout(f"The container engine took too long: {spec.name} can neither be seen nor made.")
            time.sleep(guestsocket.LONGEST)

    def _create(self, spec: ContainerSpec) -> None:
        mounts = [*self._guest_mounts(spec.name), *(self._bind(m.source, m.target) for m in spec.mounts)]
        limits = spec.limits
        with docker_errors(f"make the container {spec.name}"):
            api = self.quick()
            api.create_container(
                imagetar.tagged(spec.image),
                name=spec.name,
                hostname=spec.hostname,
                entrypoint=list(AGENT_COMMAND),
                user="0:0",
                working_dir="/",
                labels={LABEL_INSTANCE: self.instance, **spec.labels},
                stop_signal="SIGTERM",
                healthcheck={"test": ["NONE"]},
                use_config_proxy=False,
                host_config=api.create_host_config(
                    mounts=mounts,
                    network_mode="none" if spec.network is Network.NONE else self.network_name,
                    mem_limit=limits.memory,
                    memswap_limit=limits.memory,
                    nano_cpus=round(limits.cpus * 1e9),
                    pids_limit=limits.pids,
                    read_only=spec.read_only,
                    tmpfs=dict(SCRATCH) if spec.read_only else None,
                    **_hardening(),
                ),
            )

    def _guest_mounts(self, name: str) -> list[Mount]:
        uid, gid = self.mapped_root()
        size = f"size=64k,nr_inodes=16,mode=0755,uid={uid},gid={gid}"
        run = DriverConfig("local", {"type": "tmpfs", "device": "tmpfs", "o": size})
        labels = {LABEL_INSTANCE: self.instance}
        return [
            self._bind(str(self.guest_dir), GUEST_MOUNT),
            Mount(RUN_MOUNT, _volume(name), "volume", no_copy=True, labels=labels, driver_config=run),
        ]

    def _bind(self, source: str, target: str) -> Mount:
        """A read-only mount. Before Docker 25 only its top is, so that what is mounted below it is left out there."""
        mount = Mount(target, source, "bind", read_only=True)
        if version_lt(self.quick().api_version, RECURSIVE_READ_ONLY):
            mount["BindOptions"] = {"NonRecursive": True}
        return mount

    def start(self, name: str) -> ContainerInfo:
        """Start it, or do nothing when it runs. Returns when the agent's socket accepts, EngineTimeout else."""
        what = f"start the container {name}"
        with docker_errors(what):
            found = self.quick().inspect_container(name)
        state = found["State"]
        if state.get("Paused"):  # a daemon that died in the middle of a commit left it frozen
            with docker_errors(what):
                self.quick().unpause(name)
        elif not state.get("Running"):
            joined = found["NetworkSettings"]["Networks"].get(self.network_name)
            self._start_filtered(name, joined and str(joined["NetworkID"]))
        if not guestsocket.wait(self.guest_socket(name), START_SECONDS, lambda: self._runs(name)):
            self._explain(name)
        return self._container(name)

    def _start_filtered(self, name: str, joined: str | None) -> None:
        """`joined` is the id of the network that the container belongs to, None when it has none."""
        filtered = joined is not None
        if filtered:
            self._firewall().ensure()
            self._join_again(name, joined)
        guestsocket.clear(self.guest_socket(name).parent)
        with docker_errors(f"start the container {name}"):
            self.quick().start(name)
        if filtered:
            try:
                isolate_ports(self.bridge_name)
            except EngineError:
                self.stop(name, 0)
                raise

    def _join_again(self, name: str, joined: str | None) -> None:
        """A network that was pruned while nobody ran is made anew, but containers know theirs by its id."""
        with docker_errors(f"start the container {name}"):
            api = self.quick()
            if joined and joined != api.inspect_network(self.network_name)["Id"]:
                api.disconnect_container_from_network(name, self.network_name, force=True)
                api.connect_container_to_network(name, self.network_name)

    def _runs(self, name: str) -> bool:
        found = self.container(name)
        return found is not None and found.running

    def _explain(self, name: str) -> None:
        """Raise for a container whose agent does not answer."""
        found = self._container(name)
        if found.running:
            raise EngineTimeout(f"The agent in {name} did not answer within {START_SECONDS:.0f} s.")
        with docker_errors(f"read the log of {name}"):
            lines = self.quick().logs(name, tail=5).decode(errors="replace").strip()
        reason = "out of memory" if found.oom_killed else f"exit status {found.exit_code}"
        raise EngineError(f"{name} ended right after its start ({reason}).", lines)

    def limit(self, name: str, limits: Limits) -> Limits | None:
        """Give a container other limits, from now on if it runs; what it has then, None when there is no such one.

        docker's own `update_container` knows neither NanoCpus nor PidsLimit. Both sizes at once: memory may not be
        more than memory and swap, whichever way they change.
        """
        wanted = {
            "NanoCpus": round(limits.cpus * 1e9),
            "Memory": limits.memory,
            "MemorySwap": limits.memory,
            "PidsLimit": limits.pids,
        }
        try:
            with docker_errors(f"change the limits of {name}"):
                self.posted(f"/containers/{quote(name)}/update", wanted)
                found = self.quick().inspect_container(name)["HostConfig"]
        except NotFound:
            return None
        return Limits(int(found["NanoCpus"]) / 1e9, int(found["Memory"]), int(found["PidsLimit"]))

    def stop(self, name: str, timeout: float = 10) -> None:
        """SIGTERM to the agent, SIGKILL after `timeout`. Nothing happens when it is stopped or gone."""
        try:
            with docker_errors(f"stop the container {name}"):
                if self.quick().inspect_container(name)["State"].get("Paused"):
                    self.quick().unpause(name)
                self.quick().stop(name, timeout=math.ceil(timeout))
        except NotFound:
            return

    def remove(self, name: str) -> None:
        """Kill and delete container and volume. Nothing happens when they are gone."""
        deadline = time.monotonic() + BULK_SECONDS  # millions of files may have to be deleted
        while True:
            try:
                with docker_errors(f"remove the container {name}"):
                    self.bulk().remove_container(name, v=True, force=True)
            except NotFound:
                break
            except Conflict:
                pass  # somebody else is removing it, perhaps an attempt of ours that was given up
            if self.container(name) is None:
                break
            if time.monotonic() > deadline:
                raise EngineTimeout(f"The container engine took too long: {name} is still being removed.")
            time.sleep(guestsocket.LONGEST)
        try:
            with docker_errors(f"remove the volume of {name}"):
                self.quick().remove_volume(_volume(name), force=True)
        except NotFound:
            return
        except EngineError as exc:
            # A daemon that was restarted beneath its containers miscounts; `private` prunes them at the next start.
            if "active mounts" not in exc.message:
                raise

    def container(self, name: str) -> ContainerInfo | None:
        try:
            with docker_errors(f"look at the container {name}"):
                found = self.quick().inspect_container(name)
        except NotFound:
            return None
        return _container_info(found)

    def _container(self, name: str) -> ContainerInfo:
        found = self.container(name)
        if found is None:
            raise NotFound(f"The engine has no container {name}.")
        return found

    def containers(self, labels: Mapping[str, str]) -> list[ContainerInfo]:
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with docker_errors("list the containers"):
            found = self.quick().containers(all=True, filters=filters)
        # The list lacks exit statuses, and asking for each running container's would cost a call for nothing.
        known = [
            _from_list(item) if item["State"] in ("running", "paused") else self.container(item["Id"]) for item in found
        ]
        return [container for container in known if container is not None]

    def guest_socket(self, name: str) -> Path:
        """Where the host sees the agent's socket. Untrusted: the container may have put anything there."""
        return self.data_root() / "volumes" / _volume(name) / "_data" / AGENT_SOCKET

    def changes(self, name: str, earlier: Mapping[str, Earlier] | None = None) -> ChangeReport:
        """What differs from the image it was made from, or from an earlier version of it; links are not followed."""
        with docker_errors(f"list what {name} changed"):
            api = self.bulk()
            with self.streamed(f"/containers/{quote(name)}/changes") as answer:
                found = changes.read(answer.iter_content(imagetar.CHUNK))
            details = api.inspect_container(name)
        written = self._written(details["Id"])
        upper = ((details.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
        try:
            image, root = str(details["Config"]["Image"]), self.mapped_root()
            return changes.report(found, Path(upper) if upper else None, image, written, earlier, root)
        except FileNotFoundError as exc:
            raise NotFound(f"The container {name} was removed meanwhile.") from exc
        except OSError as exc:
            raise EngineError(f"What {name} changed cannot be read: {exc.strerror}.") from exc

    def written(self, name: str) -> WrittenFiles | None:
        """What it wrote and what its image has, for reading; None where the storage driver shows no directories."""
        with docker_errors(f"look at the container {name}"):
            data = (self.quick().inspect_container(name).get("GraphDriver") or {}).get("Data") or {}
        if not data.get("UpperDir") or not data.get("LowerDir"):
            return None
        try:
            return WrittenFiles(Path(data["UpperDir"]), [Path(part) for part in str(data["LowerDir"]).split(":")])
        except OSError:
            return None  # an engine whose files are not to be seen from here

    def disk_use(self, name: str) -> int:
        """Bytes that the container has written over its image. The engine walks its files: many take long."""
        written = self._written(self._container(name).id)
        if written < 0:
            raise NotFound(f"The container {name} was removed meanwhile.")
        return written

    def _written(self, container_id: str) -> int:
        """As Docker measures it, -1 when there is no such container."""
        with docker_errors("measure a container"):
            sizes = self.bulk().containers(all=True, size=True, filters={"id": container_id})
        return int(sizes[0].get("SizeRw") or 0) if sizes else -1

    def usage(self, name: str) -> Use | None:
        """What it uses; None when it does not run, or its counters are not on this host."""
        known = self._first_processes.get(name)
        found = usage.read(*known) if known else None
        if found is None:  # not looked at before, or started again
            self._first_processes.pop(name, None)
            with docker_errors(f"look at the container {name}"):
                details = self.quick().inspect_container(name)
            if pid := int(details["State"].get("Pid") or 0):
                known = str(details["Id"]), pid
                found = usage.read(*known)
        if known and found:
            self._first_processes[name] = known
        return found

    def commit(self, name: str, reference: str, labels: Mapping[str, str]) -> ImageInfo:
        """Commit as `reference`, paused meanwhile, with `labels` added. Its configuration is still the container's."""
        repository, tag = parse_repository_tag(reference)
        with docker_errors(f"commit {name}"):
            made = self.bulk().commit(name, repository, tag or "latest", pause=True, conf={"Labels": dict(labels)})
        return self._image(str(made["Id"]))

    def run(self, image: str, argv: tuple[str, ...], timeout: float = 60) -> RunResult:
        """Run `argv` in a throw-away container without network that sees `guest_dir`, and remove it."""
        what = f"run {argv[0]} in {image}"
        with docker_errors(what):
            api = self.bulk()
            made = api.create_container(
                image,
                entrypoint=list(argv),
                user="0:0",
                labels={LABEL_INSTANCE: self.instance},
                healthcheck={"test": ["NONE"]},
                use_config_proxy=False,
                host_config=api.create_host_config(
                    mounts=[self._bind(str(self.guest_dir), GUEST_MOUNT)],
                    network_mode="none",
                    mem_limit=512 << 20,
                    pids_limit=256,
                    **_hardening(),
                ),
            )["Id"]
        try:
            with docker_errors(what):
                api.start(made)
                code = int(api.wait(made, timeout=max(1, math.ceil(timeout)))["StatusCode"])
                out, err = (
                    api.logs(made, stdout=not wants_err, stderr=wants_err)[:OUTPUT_MAX] for wants_err in (False, True)
                )
            return RunResult(code, out, err)
        finally:
            self.remove(made)


def _hardening() -> dict[str, Any]:
    """What every container gets: few capabilities, no way to gain more, bounded logs; seccomp stays the default."""
    return {
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": ["no-new-privileges"],
        "log_config": LogConfig(type=LogConfig.types.JSON, config=LOG_LIMITS),
        "restart_policy": {"Name": "no"},
        "init": False,
    }


def _volume(name: str) -> str:
    return f"{name}.run"


def _container_info(found: Mapping[str, Any]) -> ContainerInfo:
    state = found["State"]
    return ContainerInfo(
        id=str(found["Id"]),
        name=str(found["Name"]).lstrip("/"),
        state=str(state["Status"]),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        image_id=str(found["Image"]),
        labels=dict(found["Config"].get("Labels") or {}),
    )


def _from_list(item: Mapping[str, Any]) -> ContainerInfo:
    status = re.match(r"Exited \((\d+)\)", str(item["Status"]))
    return ContainerInfo(
        id=str(item["Id"]),
        name=str(item["Names"][0]).lstrip("/"),
        state=str(item["State"]),
        exit_code=int(status[1]) if status else 0,
        oom_killed=False,
        image_id=str(item["ImageID"]),
        labels=dict(item.get("Labels") or {}),
    )
