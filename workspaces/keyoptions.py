"""The options in front of a key, as in authorized_keys(5): read strictly, and asked what they allow.

    restrict,from="192.0.2.0/24" ssh-ed25519 AAAA… ─► split() ─► options text, key ─► parse() ─► Options

What sshd would read and this program cannot honour is refused when the key is added, with a reason, so that nobody
relies on a restriction that is not there. As in sshd, a later switch overrides an earlier one (`restrict,pty`), and the
earliest of several expiry times counts. A time is UTC, with or without a Z.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from workspaces.errors import InvalidInput
from workspaces.names import printable

OPTIONS_MAX = 8192  # characters of all options together
PLACES_MAX = 100  # of one kind in one key

TERMINAL_KEY_ID = "web terminal from "  # and an address: key ids of the web application's certificates begin with it

Place = tuple[str, int | None]  # host or `*`, port or any


@dataclass(frozen=True, slots=True)
class Options:
    """What a key or certificate allows. `sources` is a list of patterns as in `from=`; empty: from anywhere."""

    sources: str = ""
    command: str | None = None  # instead of what the client asks for
    pty: bool = True
    port_forwarding: bool = True
    agent_forwarding: bool = True
    x11_forwarding: bool = True
    permit_open: tuple[Place, ...] = ()  # empty: all
    permit_listen: tuple[Place, ...] = ()
    expires_at: float | None = None  # seconds since the epoch
    touch_required: bool = True  # of a security key
    verify_required: bool = False  # the security key's PIN or the like

    def objection(self, address: str, now: float) -> str | None:
        """Why somebody at `address` may not log in at `now`; None when they may."""
        if self.expires_at is not None and now >= self.expires_at:
            return "it has expired"
        if self.sources and not matches(self.sources, address):
            return "it is not for this address"
        return None

    def may_open(self, host: str, port: int | None) -> bool:
        """Whether a connection to `host` and `port` may be made; None is a unix socket, and `host` its path."""
        return self.port_forwarding and _permits(self.permit_open, host, port)

    def may_listen(self, host: str, port: int | None) -> bool:
        """Whether the client may have `port` of the address `host` listened on; the same for None."""
        return self.port_forwarding and _permits(self.permit_listen, host, port)


def split(line: str) -> tuple[str, str]:
    """The options' text of a line, which may be empty, and the rest of it: a space outside quotes ends them.

    Call it for a line that does not begin with the type of a key. Raises InvalidInput when a quote is not closed.
    """
    quoted, at = False, 0
    while at < len(line) and (quoted or line[at] not in " \t"):
        if line.startswith('\\"', at):
            at += 1
        elif line[at] == '"':
            quoted = not quoted
        at += 1
    if quoted:
        raise InvalidInput("A quote in the options is not closed.")
    return line[:at], line[at:].strip()


def parse(text: str) -> Options:
    """The options of one key. Raises InvalidInput for what is unknown, cannot be honoured, or is in a wrong form."""
    if len(text) > OPTIONS_MAX:
        raise InvalidInput(f"The options of a key have at most {OPTIONS_MAX} characters.")
    if printable(text, OPTIONS_MAX) != text:
        raise InvalidInput("The options have control characters.")
    options, rest = Options(), text
    while rest:
        name, rest = _name(rest)
        value, rest = _value(name, rest) if rest.startswith("=") else (None, rest)
        options = _with(options, name.lower(), value)
        if rest and not rest.startswith(","):
            raise InvalidInput(f"After the option {name} a comma is missing.")
        if rest == ",":
            raise InvalidInput("The options end with a comma.")
        rest = rest[1:]
    return options


def matches(patterns: str, address: str) -> bool:
    """Whether `address` is meant by a list such as `192.0.2.0/24,!192.0.2.7`: one may say no to all others' yes."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    meant = False
    for pattern in patterns.split(","):
        if _meets(pattern.removeprefix("!"), ip):
            if pattern.startswith("!"):
                return False
            meant = True
    return meant


def _meets(pattern: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if "*" in pattern or "?" in pattern:
        return fnmatchcase(str(ip), pattern.lower())  # never slow, whatever the pattern
    return ip in ipaddress.ip_network(pattern)


def _permits(places: tuple[Place, ...], host: str, port: int | None) -> bool:
    return not places or any(
        allowed in ("*", host.lower()) and (any_or_one is None or any_or_one == port) for allowed, any_or_one in places
    )


def _name(text: str) -> tuple[str, str]:
    found = re.match(r"[A-Za-z0-9-]+", text)
    if not found:
        raise InvalidInput(f"{printable(text, 40)!r} is no option of a key.")
    return found[0], text[found.end() :]


def _value(name: str, text: str) -> tuple[str, str]:
    """The quoted value after `=`, and what follows it; `\\"` in it is a quote, any other backslash itself."""
    found = re.match(r'="((?:\\"|[^"])*)"', text)
    if not found:
        raise InvalidInput(f"The value of {name} must stand in quotes.", f'Write it as {name}="…".')
    return found[1].replace('\\"', '"'), text[found.end() :]


_SWITCHES: dict[str, dict[str, bool]] = {
    "pty": {"pty": True},
    "port-forwarding": {"port_forwarding": True},
    "agent-forwarding": {"agent_forwarding": True},
    "x11-forwarding": {"x11_forwarding": True},
    "no-touch-required": {"touch_required": False},
    "verify-required": {"verify_required": True},
    "no-user-rc": {},  # none is ever run
    "no-pty": {"pty": False},
    "no-port-forwarding": {"port_forwarding": False},
    "no-agent-forwarding": {"agent_forwarding": False},
    "no-x11-forwarding": {"x11_forwarding": False},
    "restrict": {"pty": False, "port_forwarding": False, "agent_forwarding": False, "x11_forwarding": False},
}
_REFUSED = {
    "environment": "Leave it out; variables can be set in the workspace's own ~/.profile.",
    "cert-authority": "Certificate authorities are trusted with: workspaces authority add FILE",
    "principals": "A certificate's principals are the names of the accounts that it is for.",
    "tunnel": "There are no tunnel devices; leave it out.",
    "user-rc": "No ~/.ssh/rc is run; leave it out.",
}
assert {name for switch in _SWITCHES.values() for name in switch} <= {field.name for field in fields(Options)}


def _with(options: Options, name: str, value: str | None) -> Options:
    if name in _REFUSED:
        raise InvalidInput(f"The option {name} is not taken here.", _REFUSED[name])
    if name in _SWITCHES:
        if value is not None:
            raise InvalidInput(f"The option {name} takes no value.")
        return replace(options, **_SWITCHES[name])  # type: ignore[arg-type]
    if name not in ("from", "command", "expiry-time", "permitopen", "permitlisten"):
        raise InvalidInput(f"{printable(name, 40)!r} is no option of a key that is known here.")
    if not value:
        raise InvalidInput(f"The option {name} needs a value.", f'Write it as {name}="…".')
    if (name == "from" and options.sources) or (name == "command" and options.command is not None):
        raise InvalidInput(f"The option {name} comes twice.")
    if name == "from":
        return replace(options, sources=_patterns(value))
    if name == "command":
        return replace(options, command=_command(value))
    if name == "expiry-time":
        moments = [_moment(value)] if options.expires_at is None else [_moment(value), options.expires_at]
        return replace(options, expires_at=min(moments))
    if name == "permitopen":
        return replace(options, permit_open=_places(name, value, options.permit_open))
    return replace(options, permit_listen=_places(name, value, options.permit_listen))


def _command(value: str) -> str:
    if value.split()[:1] == ["internal-sftp"] and value != "internal-sftp":
        raise InvalidInput("internal-sftp takes no arguments here.", 'Write it as command="internal-sftp".')
    return value


def _patterns(value: str) -> str:
    patterns = value.split(",")
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        if re.fullmatch(r"[0-9A-Fa-f.:*?]*[*?][0-9A-Fa-f.:*?]*", plain):
            continue
        try:
            network = ipaddress.ip_network(plain, strict=False)
        except ValueError:
            shown = printable(plain, 60)
            raise InvalidInput(
                f"{shown!r} in from= is no address.",
                "Give addresses as 192.0.2.7, 192.0.2.0/24, 192.0.2.* or 2001:db8::/32; names are not looked up.",
            ) from None
        if "/" in plain and str(network.network_address) != str(ipaddress.ip_address(plain.partition("/")[0])):
            raise InvalidInput(f"{plain} has bits beyond its mask.", f"Did you mean {network}?")
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
            raise InvalidInput(f"{plain} is an IPv4 address.", "Write it as 192.0.2.7.")
    if all(pattern.startswith("!") for pattern in patterns):
        raise InvalidInput("from= only excludes addresses, so none is left.", 'Put the others in front: from="*,!…"')
    return value


def _places(name: str, value: str, others: tuple[Place, ...]) -> tuple[Place, ...]:
    host, colon, port = value.rpartition(":")
    if name == "permitlisten" and not colon:
        host = "*"
    found = re.fullmatch(r"\[([0-9A-Fa-f:.%]+)\]|([^\[\]:\s]+)", host)
    right_port = port == "*" or (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 1 << 16)
    if not found or not right_port:
        form = "HOST:PORT" if name == "permitopen" else "PORT or HOST:PORT"
        raise InvalidInput(
            f"{printable(value, 80)!r} is nothing that {name} takes.", f"Write it as {form}; * stands for any."
        )
    if len(others) >= PLACES_MAX:
        raise InvalidInput(f"A key has at most {PLACES_MAX} times {name}.")
    return *others, ((found[1] or found[2]).lower(), None if port == "*" else int(port))


def _moment(value: str) -> float:
    found = re.fullmatch(r"([0-9]{8})(?:([0-9]{4})([0-9]{2})?)?[Zz]?", value)
    if found:
        try:
            text = f"{found[1]}{found[2] or '0000'}{found[3] or '00'}"
            return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
        except ValueError:
            pass
    raise InvalidInput(
        f"{printable(value, 40)!r} is no time for expiry-time.", "Write it as 20261231 or 202612311800 (UTC)."
    )
