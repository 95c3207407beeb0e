"""Addresses and bridges of this host: find a range that nothing uses, make and delete a bridge."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from workspaces.engine import firewall
from workspaces.errors import EngineError, HostError

SPACES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
WIDEST = 8  # a route that takes in more is one for everything, as 0.0.0.0/1 and 128.0.0.0/1 of a VPN
RANGE_BITS = 20  # a network of 4093 containers, or a few smaller ones


def used() -> list[ipaddress.IPv4Network]:
    """Every IPv4 range that this host has an address in, a route to, or a name server in."""
    found = [ipaddress.IPv4Network(server) for server in firewall.name_servers()]
    for route in json.loads(firewall.run("ip", "-json", "-4", "route", "show", "table", "all") or "[]"):
        if route.get("dst") not in (None, "default"):
            to = ipaddress.IPv4Network(str(route["dst"]), strict=False)
            if to.prefixlen >= WIDEST:
                found.append(to)
    for link in json.loads(firewall.run("ip", "-json", "-4", "address", "show") or "[]"):
        for address in link.get("addr_info") or ():
            if "local" in address:
                found.append(ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False))
    return found


def free_range(seed: int) -> ipaddress.IPv4Network:
    """A private /20 that nothing on this host uses; `seed` says where to look first. HostError when there is none."""
    taken = used()
    for space in map(ipaddress.IPv4Network, SPACES):
        count = 1 << (RANGE_BITS - space.prefixlen)
        for step in range(count):
            first = int(space.network_address) + ((seed + step) % count << (32 - RANGE_BITS))
            candidate = ipaddress.IPv4Network((first, RANGE_BITS))
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
    raise HostError("Every private address range is in use on this host.", "Give [engine] host an engine that runs.")


def exists(name: str) -> bool:
    """Whether there is a network interface of that name."""
    return any(link["ifname"] == name for link in json.loads(firewall.run("ip", "-json", "link", "show")))


def ensure_bridge(name: str, address: str) -> None:
    """A bridge, up, with `address` (a.b.c.d/n). Nothing happens when it is there."""
    if not exists(name):
        firewall.run("ip", "link", "add", "name", name, "type", "bridge")
    firewall.set_value(Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")
    firewall.run("ip", "address", "replace", address, "dev", name)
    firewall.run("ip", "link", "set", "dev", name, "up")


def delete_bridge(name: str) -> None:
    """Nothing happens when it is gone."""
    try:
        firewall.run("ip", "link", "delete", "dev", name, "type", "bridge")
    except EngineError:
        if exists(name):
            raise
