"""What containers on the network `open` may reach: the internet's public addresses, and nothing else.

    iptables-save ─► is every chain as it should be? ─no─► iptables-restore (one transaction for each table)

The rules of one bridge B, in chains of their own, so that nothing of anybody else's is touched:
    mangle FORWARD  -i B ─► B-out   private destinations and B itself are dropped; DNS servers of this host excepted
                    -o B ─► B-in    only answers come back
    mangle INPUT    -i B ─► B-host  nothing reaches this host itself, DNS excepted
    filter FORWARD      ─► B-pass   for a daemon that makes no rules: lets through what mangle left
    nat POSTROUTING     ─► B-nat    likewise: masquerade
mangle is traversed before filter, where Docker puts its own rules on top again and again. Containers on one bridge
are kept apart below IP, by isolated bridge ports; the rule in B-out is the second line.

Docker's embedded DNS asks the host's name servers from inside the container's network namespace, hence the exception.

/run/workspaces/net-<namespace>/ remembers, until the next boot, whose rules there are and what was changed for them.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from workspaces.errors import EngineError, HostError

RUN_DIR = Path("/run/workspaces")
# RFC 6890's private, shared, link-local (metadata services), loopback and benchmarking space, multicast and reserved,
# and the one public address of a cloud's own services: Azure's (https://learn.microsoft.com/azure/virtual-network/
# what-is-ip-address-168-63-129-16), where the host's agent answers.
# The blocks for documentation are left out: they are nobody's private network, and test sites use them as public.
PRIVATE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "168.63.129.16/32",
    "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED"
RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
SECONDS = 20
WAIT = ("--wait", "10")  # for another program that holds iptables' lock

Rules = dict[str, dict[str, list[str]]]  # table → chain → rules


@dataclass(frozen=True, slots=True)
class Firewall:
    """The rules of one bridge. `routing`: the engine does not masquerade and accept by itself. `host`: whose it is."""

    bridge: str
    subnet: str = ""
    routing: bool = False
    host: str = ""

    def ensure(self) -> None:
        """Make sure that all rules are there as they should be. Raises EngineError or HostError otherwise."""
        with _locked() as state:
            marker = state / f"{self.bridge}.json"
            known = {"host": self.host, "routing": self.routing}
            if _read(marker) != known:  # first, so that what is made in part can be found and removed
                marker.write_text(json.dumps(known), encoding="utf-8")
            rules = self.rules(name_servers())
            jumps = self._jumps()
            saved = _save()
            script = []
            for table in ("mangle", "filter", "nat"):
                chains = rules.get(table, {})
                missing = [line for line in jumps.get(table, []) if f"-A {line}" not in saved.get(table, [])]
                if missing or any(not _same(saved.get(table, []), chain, wanted) for chain, wanted in chains.items()):
                    inserts = [re.sub(r"^(\S+)", r"-I \1 1", line) for line in missing]
                    appends = [f"-A {chain} {rule}" for chain, wanted in chains.items() for rule in wanted]
                    script += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains), *appends, *inserts, "COMMIT"]
            if script:
                run("iptables-restore", "--noflush", *WAIT, text="\n".join([*script, ""]))
            if self.routing:
                _forward(state)
            set_value(Path(f"/proc/sys/net/ipv6/conf/{self.bridge}/disable_ipv6"), "1")
            isolate_ports(self.bridge)

    def remove(self) -> None:
        """Remove all rules of this bridge. Nothing happens when there are none."""
        with _locked() as state:
            script: list[str] = []
            own = re.compile(rf"-j {re.escape(self.bridge)}-(out|in|host|pass|nat)$")
            for table, lines in _save().items():
                chains = [name for name in self._chains(table) if f":{name}" in lines]
                jumps = [line.replace("-A ", "-D ", 1) for line in lines if own.search(line)]
                if chains or jumps:
                    flushes = [f"-F {chain}" for chain in chains]
                    deletes = [f"-X {chain}" for chain in chains]
                    script += [f"*{table}", *jumps, *flushes, *deletes, "COMMIT"]
            if script:
                run("iptables-restore", "--noflush", *WAIT, text="\n".join([*script, ""]))
            (state / f"{self.bridge}.json").unlink(missing_ok=True)

    def _chains(self, table: str) -> tuple[str, ...]:
        parts = {"mangle": ("out", "in", "host"), "filter": ("pass",), "nat": ("nat",)}.get(table, ())
        return tuple(f"{self.bridge}-{part}" for part in parts)

    def _jumps(self) -> dict[str, list[str]]:
        bridge = self.bridge
        jumps = {
            "mangle": [
                f"FORWARD -i {bridge} -j {bridge}-out",
                f"FORWARD -o {bridge} -j {bridge}-in",
                f"INPUT -i {bridge} -j {bridge}-host",
            ]
        }
        if self.routing:
            jumps |= {"filter": [f"FORWARD -j {bridge}-pass"], "nat": [f"POSTROUTING -j {bridge}-nat"]}
        return jumps

    def rules(self, servers: list[str]) -> Rules:
        """Every rule but the jumps, where `servers` are this host's name servers."""
        bridge = self.bridge
        dns = [
            f"-d {server}/32 -p {kind} -m {kind} --dport 53 -j RETURN" for server in servers for kind in ("udp", "tcp")
        ]
        rules = {
            "mangle": {
                f"{bridge}-out": [
                    f"! -s {self.subnet} -j DROP",
                    f"-o {bridge} -j DROP",
                    *dns,
                    *(f"-d {block} -j DROP" for block in PRIVATE),
                ],
                f"{bridge}-in": [f"{ANSWERS} -j RETURN", "-j DROP"],
                f"{bridge}-host": [f"{ANSWERS} -j RETURN", *dns, "-j DROP"],
            }
        }
        if self.routing:
            rules |= {
                "filter": {f"{bridge}-pass": [f"-i {bridge} -j ACCEPT", f"-o {bridge} -j ACCEPT"]},
                "nat": {f"{bridge}-nat": [f"-s {self.subnet} ! -o {bridge} -j MASQUERADE"]},
            }
        # A first rule that does nothing names the content, so that the next look need not compare spellings.
        for chains in rules.values():
            for chain, wanted in chains.items():
                mark = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:16]
                chains[chain] = [f"-m comment --comment workspaces-{mark}", *wanted]
        return rules


def _same(saved: list[str], chain: str, wanted: list[str]) -> bool:
    found = [line for line in saved if line.startswith(f"-A {chain} ")]
    return len(found) == len(wanted) and found[0] == f"-A {chain} {wanted[0]}"


def name_servers() -> list[str]:
    """This host's configured IPv4 name servers that are not on loopback, sorted."""
    found = set()
    for path in RESOLV_CONF:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for match in re.finditer(r"^[ \t]*nameserver[ \t]+([0-9.]+)(?=\s|$)", text, re.MULTILINE):
            try:
                address = ipaddress.IPv4Address(match[1])
            except ValueError:
                continue
            if not address.is_loopback:
                found.add(str(address))
    return sorted(found)


def isolate_ports(bridge: str) -> None:
    """Keep all containers on `bridge` from reaching each other, below IP. Raises EngineError."""
    try:
        ports = json.loads(run("ip", "-json", "-details", "link", "show", "master", bridge) or "[]")
    except ValueError as exc:
        raise EngineError(f"`ip` did not say what is on the bridge {bridge}.") from exc
    for port in ports:
        data = (port.get("linkinfo") or {}).get("info_slave_data") or {}
        if not data.get("isolated"):
            name = str(port["ifname"])
            try:
                run("ip", "link", "set", "dev", name, "type", "bridge_slave", "isolated", "on")
            except EngineError:
                if f"/{name}" in _links():  # else the container ended meanwhile
                    raise


def _links() -> str:
    return "".join(f"/{link['ifname']}" for link in json.loads(run("ip", "-json", "link", "show")))


def bridges_of(host: str) -> list[str]:
    """The bridges that have rules for the engine at `host`."""
    with _locked() as state:
        found = []
        for path in state.glob("*.json"):
            if path.name != "forwarding.json" and _read(path).get("host") == host:
                found.append(path.stem)
        return found


def restore_forwarding(others: bool) -> None:
    """Put back the host's forwarding as it was, unless other rules of ours, `others`, or who came since, need it."""
    with _locked() as state:
        before = _read(state / "forwarding.json")
        needed = any(_read(path).get("routing") for path in state.glob("*.json") if path.name != "forwarding.json")
        known = before.get("rules")
        came = set(_forwarded()).difference(known if isinstance(known, list) else ())
        if not before or needed or others or came:
            return
        if before.get("policy") == "ACCEPT":
            run("iptables", *WAIT, "-P", "FORWARD", "ACCEPT")
        set_value(Path("/proc/sys/net/ipv4/ip_forward"), "0")
        (state / "forwarding.json").unlink()


def _forward(state: Path) -> None:
    """Let this host route. If it did not before, keep it from routing anything but what a rule accepts.

    Nothing passes then without a rule, so whoever else needs it later has rules that were not there before.
    """
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    if switch.read_text(encoding="ascii").strip() != "0":
        return
    note = state / "forwarding.json"
    if not _read(note):  # else the policy may be that of an earlier attempt, killed before the switch
        policy = "ACCEPT" if "-P FORWARD ACCEPT" in run("iptables", *WAIT, "-S", "FORWARD") else "DROP"
        note.write_text(json.dumps({"policy": policy, "rules": _forwarded()}), encoding="utf-8")
    run("iptables", *WAIT, "-P", "FORWARD", "DROP")
    set_value(switch, "1")


def _forwarded() -> list[str]:
    """The rules by which packets are let through or not."""
    return [line for line in _save().get("filter", []) if line.startswith("-A FORWARD ")]


def set_value(path: Path, value: str) -> None:
    """Write a sysctl unless it is so already; one that this kernel lacks is nothing."""
    try:
        if path.read_text(encoding="ascii").strip() != value:
            path.write_text(value, encoding="ascii")
    except FileNotFoundError:
        return  # a kernel without IPv6
    except OSError as exc:
        raise HostError(
            f"{path} cannot be set to {value}: {exc.strerror}.", "Is this root, and /proc/sys writable?"
        ) from exc


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _locked() -> Iterator[Path]:
    """The directory that remembers, for this network namespace, held by one process at a time on this host.

    It goes with the last thing that is remembered in it; the lock lies beside it and stays.
    """
    state = RUN_DIR / f"net-{Path('/proc/thread-self/ns/net').stat().st_ino}"
    with ExitStack() as stack:
        try:
            RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context((RUN_DIR / "lock").open("w", encoding="ascii"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            state.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise HostError(f"{state} cannot be used: {exc.strerror}.", "Is this root?") from exc
        try:
            yield state
        finally:
            if not any(state.iterdir()):
                state.rmdir()


def _save() -> dict[str, list[str]]:
    """Every table's rules as `-A …` lines, and its chains as `:NAME`."""
    tables: dict[str, list[str]] = {}
    current: list[str] = []
    for line in run("iptables-save").splitlines():
        if line.startswith("*"):
            current = tables.setdefault(line[1:], [])
        elif line.startswith(":"):
            current.append(line.split()[0])
        elif line.startswith("-A"):
            current.append(line.rstrip())
    return tables


def run(*command: str, text: str | None = None) -> str:
    """Run one of the host's network programs; returns its output. EngineError when it fails, HostError if absent."""
    environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
        )
    except FileNotFoundError as exc:
        raise HostError(f"{command[0]} is not installed.", "apt-get install iptables iproute2") from exc
    except subprocess.TimeoutExpired as exc:
        raise EngineError(f"{' '.join(command)} did not end within {SECONDS} s.") from exc
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command)} failed: {done.stderr.strip()}", "The network needs root and netfilter.")
    return done.stdout
