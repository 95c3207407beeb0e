"""What a client may ask of a channel at the edges of the protocol: windows, doubles, bytes that are no text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncssh
import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST

from sshgate.connection import WINDOW
from tests.support.gateway import GatewayStage, Person, memory_stage

SIZE = 1_000_000


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    return person


@contextmanager
def transport_of(person: Person) -> Iterator[paramiko.Transport]:
    link = paramiko.Transport(("127.0.0.1", person.stage.port))
    try:
        link.connect(username=person.name, pkey=paramiko.Ed25519Key.from_private_key_file(str(person.key)))
        yield link
    finally:
        link.close()


def open_window(channel: paramiko.Channel, size: int) -> None:
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
    message.add_int(channel.remote_chanid)
    message.add_int(size)
    channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]


def test_a_window_of_nothing_gets_nothing_until_it_opens(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    with transport_of(alice) as link:
        with monkeypatch.context() as patch:
            patch.setattr(link, "_sanitize_window_size", lambda size: 0)
            closed = link.open_session()
        closed.exec_command(f"head -c {SIZE} /dev/zero; exit 3")
        other = link.open_session()
        other.exec_command("echo quick")
        assert other.makefile().read() == b"quick\n"
        assert not closed.recv_ready()
        open_window(closed, 10)
        seen = closed.recv(100)
        while len(seen) < 10:
            seen += closed.recv(100)
        assert seen == bytes(10)
        assert not closed.recv_ready()
        open_window(closed, SIZE)
        while more := closed.recv(65536):
            seen += more
        assert seen == bytes(SIZE)
        assert closed.recv_exit_status() == 3


def test_more_than_the_window_allows_ends_that_connection_only(alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as other:
            client = await alice.connect()
            process = await client.create_process("exec sleep 1000", encoding=None)
            process.channel._send_window = 100 * WINDOW
            process.stdin.write(bytes(20 * WINDOW))
            await client.wait_closed()
            return str((await other.run("echo fine")).stdout)

    assert asyncio.run(run()) == "fine\n"


def test_a_second_terminal_is_refused_before_the_shell_too(alice: Person) -> None:
    with transport_of(alice) as link:
        channel = link.open_session()
        channel.get_pty("xterm", 80, 24)
        with pytest.raises(paramiko.SSHException):
            channel.get_pty("xterm", 132, 50)
        other = link.open_session()
        other.exec_command("echo fine")
        assert other.makefile().read() == b"fine\n"


def test_a_terminal_carries_every_byte(alice: Person) -> None:
    every = bytes(range(256)) + b"\xff\xfe\xc3\x28"

    async def run() -> bytes:
        async with alice.connect() as client:
            process = await client.create_process("stty raw -echo; echo up; exec cat", term_type="xterm", encoding=None)
            assert await process.stdout.readuntil(b"up\n") == b"up\n"
            process.stdin.write(every)
            back = await process.stdout.readexactly(len(every))
            process.channel.abort()
            return bytes(back)

    assert asyncio.run(run()) == every


def test_variables_with_odd_names_and_values(alice: Person) -> None:
    given = {b"LD_PRELOAD": b"/evil", b"LANG\0LD_PRELOAD": b"/evil", b"LC_A": b"a\0LD_PRELOAD=/evil", b"\xff": b"/evil"}
    with transport_of(alice) as link:
        channel = link.open_session()
        for name, value in {**given, b"LC_B=LD_PRELOAD": b"/evil", b"LC_BYTES": b"\xff\xfe"}.items():
            channel.set_environment_variable(name, value)
        channel.exec_command("env -0")
        seen = channel.makefile("rb").read().split(b"\0")
    assert b"LC_BYTES=\xff\xfe" in seen
    assert not [entry for entry in seen if entry.startswith((b"LD_", b"\xff", b"LC_A"))]


def test_what_is_sent_after_the_end_of_input_ends_that_connection_only(alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as other:
            client = await alice.connect()
            process = await client.create_process("exec sleep 1000", encoding=None)
            process.stdin.write_eof()
            process.channel._send_state = "open"
            process.stdin.write(b"more")
            await client.wait_closed()
            return str((await other.run("echo fine")).stdout)

    assert asyncio.run(run()) == "fine\n"


def test_a_rekey_each_megabyte_while_both_sides_send(alice: Person) -> None:
    data = bytes(range(256)) * 4096 * 4

    async def run() -> bytes:
        async with alice.connect(rekey_bytes=1 << 20) as client:
            done = await client.run("cat", input=data, encoding=None)
            assert isinstance(done.stdout, bytes)
            return done.stdout

    assert asyncio.run(run()) == data


def test_signals_with_names_that_are_none(alice: Person) -> None:
    packet = asyncssh.packet

    async def run() -> str:
        async with alice.connect() as client:
            process = await client.create_process("echo up; cat")
            await process.stdout.readline()
            for name in (b"", b"SIGKILL", b"KILL\0", b"\xc3\xa9", b"x" * 10_000):
                process.channel._send_request(b"signal", packet.String(name))
            process.stdin.write("still here\n")
            process.stdin.write_eof()
            return str((await process.wait()).stdout)

    assert asyncio.run(run()) == "still here\n"
