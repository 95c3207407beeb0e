"""Options in front of a key: what is read, what is refused, and whom the rest lets in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.accounts import parse_key_line, parse_public_key
from workspaces.errors import InvalidInput
from workspaces.keyoptions import Options, matches, parse, split

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGzK5E0rCkRY5fM2bYxG8M2xqvIWHfvwTQ0bO4nq0qk alice@laptop"
SK = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t"
    "AAAAIBGzK5E0rCkRY5fM2bYxG8M2xqvIWHfvwTQ0bO4nq0qkAAAABHNzaDo="
)
NOTHING = Options(pty=False, port_forwarding=False, agent_forwarding=False, x11_forwarding=False)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", Options()),
        ("restrict", NOTHING),
        ("RESTRICT", NOTHING),
        ("restrict,pty", Options(port_forwarding=False, agent_forwarding=False, x11_forwarding=False)),
        ("pty,restrict", NOTHING),
        ("no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc", NOTHING),
        ('command="rsync --server"', Options(command="rsync --server")),
        (r'command="echo \"a,b\" \\ c"', Options(command=r'echo "a,b" \\ c')),
        ('from="192.0.2.0/24,!192.0.2.7"', Options(sources="192.0.2.0/24,!192.0.2.7")),
        (
            'permitopen="db:5432",permitopen="[2001:DB8::1]:*"',
            Options(permit_open=(("db", 5432), ("2001:db8::1", None))),
        ),
        ('permitlisten="8080",permitlisten="localhost:*"', Options(permit_listen=(("*", 8080), ("localhost", None)))),
        ('expiry-time="20261231"', Options(expires_at=datetime(2026, 12, 31, tzinfo=UTC).timestamp())),
        ('expiry-time="202612311830Z"', Options(expires_at=datetime(2026, 12, 31, 18, 30, tzinfo=UTC).timestamp())),
        (
            'expiry-time="20270101",expiry-time="20261231183005"',
            Options(expires_at=datetime(2026, 12, 31, 18, 30, 5, tzinfo=UTC).timestamp()),
        ),
        ("no-touch-required,verify-required", Options(touch_required=False, verify_required=True)),
    ],
)
def test_what_is_read(text: str, meant: Options) -> None:
    assert parse(text) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no-such-thing", "no option of a key"),
        ("no-pty,", "comma"),
        (",no-pty", "no option"),
        ("no-pty no-pty", "comma is missing"),
        ("pty=yes", "quotes"),
        ('pty="yes"', "no value"),
        ('command="a"b', "comma is missing"),
        ("command=ls", "quotes"),
        ("command", "needs a value"),
        ('command=""', "needs a value"),
        ('command="a', "quotes"),
        ('command="a",command="b"', "twice"),
        ('from="192.0.2.1",from="192.0.2.2"', "twice"),
        ('command="internal-sftp -R"', "no arguments"),
        ('environment="LD_PRELOAD=x"', "not taken"),
        ("cert-authority", "not taken"),
        ('principals="root"', "not taken"),
        ('tunnel="1"', "not taken"),
        ('from="gate.example"', "no address"),
        ('from="192.0.2.1/24"', "beyond its mask"),
        ('from="192.0.2.0/33"', "no address"),
        ('from="!192.0.2.1"', "only excludes"),
        ('from="::ffff:192.0.2.1"', "IPv4"),
        ('from="192.0.2.1,,192.0.2.2"', "no address"),
        ('from="[0-9]*"', "no address"),
        ('permitopen="5432"', "HOST:PORT"),
        ('permitopen="db:0"', "HOST:PORT"),
        ('permitopen="db:65536"', "HOST:PORT"),
        ('permitopen="2001:db8::1:80"', "HOST:PORT"),
        ('permitopen="d b:80"', "HOST:PORT"),
        ('permitlisten="0"', "PORT or"),
        ('expiry-time="tomorrow"', "no time"),
        ('expiry-time="20261341"', "no time"),
        ("a" * 9000, "at most"),
        ('command="\x1b[2J"', "control"),
        ('command="\u202e"', "control"),
        (",".join(f'permitopen="h:{port}"' for port in range(1, 200)), "at most 100"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("patterns", "address", "meant"),
    [
        ("192.0.2.0/24", "192.0.2.9", True),
        ("192.0.2.0/24", "::ffff:192.0.2.9", True),
        ("192.0.2.0/24", "192.0.3.9", False),
        ("192.0.2.0/24,!192.0.2.7", "192.0.2.7", False),
        ("!192.0.2.7,192.0.2.0/24", "192.0.2.7", False),
        ("!192.0.2.7,192.0.2.0/24", "192.0.2.8", True),
        ("192.0.2.*", "192.0.2.8", True),
        ("192.0.2.?", "192.0.2.88", False),
        ("*,!10.0.0.0/8", "2001:db8::1", True),
        ("*,!10.0.0.0/8", "::ffff:10.1.2.3", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("2001:DB8:*", "2001:db8:1::1", True),
        ("*", "", False),
        ("*1" * 400 + "2", "1" * 3 + ".1.1.1", False),
    ],
)
def test_addresses(patterns: str, address: str, meant: bool) -> None:
    assert matches(patterns, address) is meant


def test_places() -> None:
    options = parse('permitopen="db:5432",permitopen="*:80",permitlisten="localhost:8080"')
    assert options.may_open("DB", 5432)
    assert options.may_open("anything", 80)
    assert not options.may_open("db", 22)
    assert not options.may_open("/run/socket", None)
    assert options.may_listen("localhost", 8080)
    assert not options.may_listen("", 8080)
    assert parse('permitopen="*:*"').may_open("/run/socket", None)
    assert not parse("restrict").may_open("db", 80)
    assert not parse("no-port-forwarding").may_listen("localhost", 8080)


def test_a_line_with_options() -> None:
    fingerprint, line, options = parse_key_line(f'restrict,command="echo ssh-ed25519 \\"x y\\"" {ED}\n')
    assert (fingerprint, line) == parse_public_key(ED)
    assert options == 'restrict,command="echo ssh-ed25519 \\"x y\\""'
    assert parse_key_line(ED) == (*parse_public_key(ED), "")
    assert parse_key_line(f"no-pty\t{ED}")[2] == "no-pty"
    assert parse_key_line(f"no-touch-required {SK}")[2] == "no-touch-required"


@pytest.mark.parametrize(
    "line",
    [
        f"no-touch-required {ED}",
        f"verify-required {ED}",
        f'command="a {ED}',
        f"restrict, pty {ED}",
        f"ssh-ed25519 {ED}",
        f"restrict {ED.split()[1]}",
        "restrict",
        f"restrict {ED}\nrestrict {ED}",
    ],
)
def test_a_line_in_a_wrong_form(line: str) -> None:
    with pytest.raises(InvalidInput):
        parse_key_line(line)


@given(st.text(alphabet='"\\,= \t*!/.:abcdefilmnoprstuwy-019[]', max_size=80))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        options, _ = split(text)
        parse(options).objection("192.0.2.1", 0)
    except InvalidInput:
        pass
