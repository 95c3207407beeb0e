"""What a container on the network `open` reaches, in namespaces of the tests' own: a host, and a world behind it.

No packet leaves this machine: the engines are started inside the host's namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.engines import CONFIG, TINY, guest_dir, new_instance, plain_dockerd, spec, tiny_tar
from tests.support.netns import Namespace, Servers, host_and_world, reached, run_in, tcp, udp
from workspaces.engine import firewall
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine
from workspaces.errors import EngineError
from workspaces.model import Network

pytestmark = pytest.mark.docker
__all__ = ["guest_dir", "tiny_tar"]
T = TypeVar("T")

PUBLIC = "203.0.113.10"
PRIVATE = ("10.99.0.1", "172.16.5.5", "172.31.255.1", "192.168.7.7", "169.254.169.254", "100.64.0.9", "198.18.0.1")
QUESTION = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x04test\x07example\0\0\x01\0\x01"
ANSWER = bytes([192, 0, 2, 77])


@dataclass
class Site:
    host: Namespace
    world: Namespace
    engine: DockerEngine
    is_private: bool

    def start(self, name: str, network: Network = Network.OPEN) -> None:
        self.engine.ensure_container(spec(name, network=network))
        self.host.run(lambda: self.engine.start(name))

    def inside(self, name: str, function: Callable[[], T]) -> T:
        return run_in(self.path(name), function)

    def tcp(self, name: str, address: str) -> str | None:
        return self.inside(name, lambda: tcp(address, 8080))

    def reached(self, name: str, *targets: tuple[str, int], seconds: float = 0.5) -> set[str]:
        return self.inside(name, lambda: reached(targets, seconds))

    def path(self, name: str) -> Path:
        return Path(f"/proc/{self._inspect(name)['State']['Pid']}/ns/net")

    def address(self, name: str) -> str:
        return str(self._inspect(name)["NetworkSettings"]["Networks"][self.engine.network_name]["IPAddress"])

    def gateway(self, name: str) -> str:
        return str(self._inspect(name)["NetworkSettings"]["Networks"][self.engine.network_name]["Gateway"])

    def _inspect(self, name: str) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
        return dict(self.engine.quick().inspect_container(name))


@pytest.fixture(scope="module", params=["private", "system"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, guest_dir: Path, tiny_tar: Path
) -> Iterator[Site]:
    """Two containers on the network `open`, one without network; on the private engine and on an ordinary Docker."""
    servers = tuple(firewall.name_servers())
    with ExitStack() as stack:
        host, world = stack.enter_context(host_and_world((PUBLIC, *PRIVATE, *servers)))
        before = host.state()
        if request.param == "private":
            private = PrivateEngine(tmp_path_factory.mktemp("site") / "engine")
            stack.callback(lambda: host.run(private.stop))
            host.run(private.start)
            url = private.host
        else:
            url = stack.enter_context(plain_dockerd(host))
            before = host.state()
        engine = DockerEngine(url, guest_dir, new_instance())
        serving = [Servers(world.path, (53, 8080)), Servers(host.path, (53, 8080))]
        try:
            engine.import_rootfs(tiny_tar, TINY, CONFIG)
            host.run(engine.prepare)
            made = Site(host, world, engine, request.param == "private")
            for name, network in (("ann", Network.OPEN), ("ben", Network.OPEN), ("closed", Network.NONE)):
                made.start(name, network)
            serving += [Servers(made.path(name), (8080,)) for name in ("ann", "ben")]
            yield made
            for name in ("ann", "ben", "closed"):
                engine.remove(name)
            host.run(engine.retire)
        finally:
            engine.close()
            for part in serving:
                part.close()
            if request.param == "private":
                host.run(private.stop)
        assert host.state() == before
        assert not (firewall.RUN_DIR / f"net-{host.inode}").exists()


def both(*targets: tuple[str, int]) -> set[str]:
    return {f"{address}:{port} {kind}" for address, port in targets for kind in ("SOCK_STREAM", "SOCK_DGRAM")}


def test_public_addresses_are_reached_from_the_host_address(site: Site) -> None:
    assert site.tcp("ann", PUBLIC) == "198.51.100.2"
    assert site.reached("ann", (PUBLIC, 53), seconds=5) == both((PUBLIC, 53))


def test_private_and_metadata_addresses_are_not(site: Site) -> None:
    targets = [(address, port) for address in PRIVATE for port in (53, 8080)]
    assert site.host.run(lambda: reached(targets, 5)) == both(*targets)
    assert site.reached("ann", *targets) == set()


def test_the_host_is_not_reached(site: Site) -> None:
    targets = [(address, port) for address in (site.gateway("ann"), "198.51.100.2") for port in (53, 8080)]
    assert site.host.run(lambda: reached(targets, 5)) == both(*targets)
    assert site.reached("ann", *targets) == set()


def test_the_name_servers_are_reached_for_names_only(site: Site) -> None:
    servers = firewall.name_servers()
    if not servers:
        pytest.skip("this host has no name server to make an exception for")
    targets = [(server, port) for server in servers for port in (53, 8080)]
    assert site.reached("ann", *targets) == both(*((server, 53) for server in servers))
    told = site.inside("ann", lambda: udp("127.0.0.11", 53, QUESTION))
    assert told is not None
    assert told.endswith(ANSWER)


def test_nobody_opens_a_connection_to_a_container(site: Site) -> None:
    target = (site.address("ann"), 8080)
    assert site.inside("ann", lambda: reached([target], 5)) == both(target)
    assert site.world.run(lambda: reached([target])) == set()


@pytest.mark.parametrize("filtered", ["0", "1"])
def test_containers_do_not_reach_each_other(site: Site, filtered: str) -> None:
    """Neither when the kernel shows bridged packets to iptables, nor when it does not."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    with suppress(FileNotFoundError):
        site.host.run(lambda: switch.write_text(filtered, encoding="ascii"))
    assert site.reached("ann", (site.address("ben"), 8080)) == set()


def test_isolated_ports_are_what_keeps_them_apart(site: Site) -> None:
    """The test above would fail without: with the filter out of the way they see each other."""
    with suppress(FileNotFoundError):
        switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        site.host.run(lambda: switch.write_text("0", encoding="ascii"))
    ports = site.host.ip("-brief", "link", "show", "master", site.engine.bridge_name).split("\n")
    for port in filter(None, ports):
        name = port.split("@")[0]
        site.host.ip("link", "set", "dev", name, "type", "bridge_slave", "isolated", "off")
    target = (site.address("ben"), 8080)
    assert site.reached("ann", target, seconds=5) == both(target)  # a failed ARP request is repeated after a second
    site.host.run(site.engine.prepare)
    assert site.reached("ann", target) == set()


def test_ipv6_is_off(site: Site) -> None:
    assert site.host.ip("-6", "address", "show", "dev", site.engine.bridge_name) == ""
    table = Path("/proc/thread-self/net/if_inet6")
    assert "eth0" not in site.inside("ann", lambda: table.read_text(encoding="ascii"))


def test_no_network_has_loopback_only(site: Site) -> None:
    table = Path("/proc/thread-self/net/dev")
    assert "eth" not in site.inside("closed", lambda: table.read_text(encoding="ascii"))
    assert site.tcp("closed", PUBLIC) is None


def test_missing_rules_come_back(site: Site) -> None:
    wanted = site.host.state()["rules"]
    site.host.command("iptables", "-t", "mangle", "-F", f"{site.engine.bridge_name}-out")
    assert site.reached("ann", (PRIVATE[0], 8080), seconds=5) == both((PRIVATE[0], 8080))
    site.host.run(site.engine.prepare)
    assert site.reached("ann", (PRIVATE[0], 8080)) == set()
    for table in ("mangle", "nat", "filter") if site.is_private else ("mangle",):
        site.host.command("iptables", "-t", table, "-F")
    site.host.run(site.engine.prepare)
    assert sorted(site.host.state()["rules"].splitlines()) == sorted(wanted.splitlines())


def test_a_container_does_not_start_without_its_filters(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: firewall.Firewall) -> None:
        raise EngineError("no rules today")

    site.engine.ensure_container(spec("unfiltered", network=Network.OPEN))
    monkeypatch.setattr(firewall.Firewall, "ensure", refuse)
    with pytest.raises(EngineError, match="no rules"):
        site.host.run(lambda: site.engine.start("unfiltered"))
    assert site.engine.container("unfiltered").state == "created"  # type: ignore[union-attr]
    site.engine.remove("unfiltered")


def test_forwarding_lets_nothing_else_through(site: Site) -> None:
    assert site.host.state()["forwarding"] == "1"
    # Docker says so itself when it is the one that switches forwarding on
    assert "-P FORWARD DROP" in site.host.command("iptables", "-S", "FORWARD")
