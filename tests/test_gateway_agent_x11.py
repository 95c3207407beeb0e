"""Forwarding of the person's agent and display: in the container, only when asked, and gone with the session."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest
from asyncssh.packet import Boolean, String, UInt32
from asyncssh.stream import SSHTCPStreamSession

from sshgate import doors
from tests.support.forwards import (
    alice,
    all_gone,
    answer_at_end,
    listens,
    only,
    own_agent,
    stage,
)
from tests.support.gateway import GatewayStage, Person, until
from tests.support.terminal import Terminal
from workspaces.model import Forwarding

pytestmark = pytest.mark.slow

COOKIE = "0123456789abcdef0123456789abcdef"


__all__ = ["alice", "all_gone", "only", "stage"]


def with_agent(alice: Person, command: str) -> subprocess.CompletedProcess[bytes]:
    with own_agent(alice) as env:
        return subprocess.run([*alice.line("-A"), command], env=env, capture_output=True, timeout=30)


# --- the agent ---


def test_the_agent_answers_in_the_workspace(alice: Person) -> None:
    done = with_agent(alice, "ssh-add -L")
    assert (done.returncode, done.stderr) == (0, b"")
    own = asyncssh.read_private_key(alice.key).export_public_key()
    assert done.stdout.split()[:2] == own.split()[:2]


def test_its_socket_is_private_and_only_there_when_asked(alice: Person) -> None:
    look = 'd=${SSH_AUTH_SOCK%/*}; stat -c "%a %U %F" "$SSH_AUTH_SOCK" "$d"; echo "$SSH_AUTH_SOCK"'
    with own_agent(alice) as env:
        done = subprocess.run([*alice.line("-A"), look], env=env, capture_output=True, timeout=30)
        without = subprocess.run([*alice.line("-a"), "env"], env=env, capture_output=True, timeout=30)
    socket_line, directory_line, path = done.stdout.decode().splitlines()
    owner = Path("/proc/self").owner()
    assert (socket_line, directory_line) == (f"600 {owner} socket", f"700 {owner} directory")
    assert not Path(path).parent.exists()
    assert b"SSH_AUTH_SOCK" not in without.stdout


def test_a_jump_to_the_next_host_with_the_lent_key(alice: Person) -> None:
    """The workspace holds no key: what the next host accepts is signed at the person's machine."""
    options = f"-F /dev/null -o StrictHostKeyChecking=yes -o UserKnownHostsFile={alice.stage.known_hosts}"
    done = with_agent(alice, f"ssh {options} -p {alice.stage.port} alice@127.0.0.1 echo there")
    assert (done.stdout, done.stderr) == (b"there\n", b"")


def test_each_session_has_its_own_which_ends_with_it(alice: Person) -> None:
    async def run() -> None:
        async with alice.connect(agent_forwarding=True, agent_path="/no/such/agent") as client:
            first = await client.create_process("echo $SSH_AUTH_SOCK; cat")
            second = await client.create_process("echo $SSH_AUTH_SOCK; cat")
            paths = [Path((await process.stdout.readline()).strip()) for process in (first, second)]
            assert paths[0] != paths[1]
            assert all(path.is_socket() for path in paths)
            first.stdin.write_eof()
            await first.wait()
            await asyncio.to_thread(until, lambda: not paths[0].parent.exists())
            assert paths[1].is_socket()

    asyncio.run(run())


def test_a_client_without_an_agent_has_the_connection_closed(alice: Person) -> None:
    async def run() -> None:
        async with alice.connect(agent_forwarding=True, agent_path="/no/such/agent") as client:
            done = await client.run("ssh-add -L")
            assert done.exit_status != 0
            assert (await client.run("echo still")).stdout == "still\n"

    asyncio.run(run())


@pytest.mark.parametrize("how", ["challenge", "key", "certificate"])
def test_an_agent_that_is_not_allowed(stage: GatewayStage, alice: Person, only: Any, how: str) -> None:
    if how == "challenge":
        only(Forwarding.LOCAL, Forwarding.REMOTE, Forwarding.X11)

    async def run() -> None:
        async with alice.connect() as client:
            (server,) = stage.gateway.gate.servers
            if how == "key":
                server.connection._key_options = {"no-agent-forwarding": True}
            if how == "certificate":
                server.connection._cert_options = {"permit-port-forwarding": True, "permit-pty": True}
            granted, env = await with_request(client, b"auth-agent-req@openssh.com")
            assert not granted
            assert "SSH_AUTH_SOCK" not in env

    asyncio.run(run())


async def with_request(client: Any, name: bytes, *body: bytes, command: str = "env") -> tuple[bool, str]:
    """Whether the request is granted before the process starts, and what `command` says then on both outputs."""
    channel = asyncssh.SSHClientChannel(client, asyncio.get_running_loop(), "strict", None, "strict", 1 << 20, 1 << 15)
    gathered = bytearray()
    ended = asyncio.Event()

    class Session(asyncssh.SSHClientSession[bytes]):
        def data_received(self, data: bytes, datatype: object) -> None:
            gathered.extend(data)

        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    packet = await channel._open(b"session")
    packet.check_end()
    channel._session = cast(Any, Session())
    granted = bool(await channel._make_request(name, *body))
    assert await channel._make_request(b"exec", String(command))
    channel.resume_reading()
    await ended.wait()
    return granted, gathered.decode()


def test_an_agent_whose_directory_cannot_be_made_is_said(
    alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "DIRECTORY", str(tmp_path / "absent"))
    done = with_agent(alice, "echo [$SSH_AUTH_SOCK]")
    assert done.stdout == b"[]\n"
    assert done.stderr.startswith(b"The agent is not forwarded: Listening on ")


# --- the display ---


def x11(
    single: bool = False, protocol: str = "MIT-MAGIC-COOKIE-1", cookie: str = COOKIE, screen: int = 0
) -> list[bytes]:
    return [Boolean(single), String(protocol), String(cookie), UInt32(screen)]


def test_a_display_with_its_cookie(alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as client:
            granted, said = await with_request(
                client,
                b"x11-req",
                *x11(screen=3),
                command="echo $DISPLAY; xauth list $DISPLAY; ls -l $HOME/.Xauthority",
            )
            assert granted
            return said

    display, entry, file = asyncio.run(run()).splitlines()
    assert display.startswith("localhost:")
    number = display.split(":")[1].split(".")[0]
    assert display == f"localhost:{number}.3"
    assert 10 <= int(number) < 60
    name, protocol, cookie = entry.split()
    assert name.endswith(f"unix:{number}")
    assert (protocol, cookie) == ("MIT-MAGIC-COOKIE-1", COOKIE)
    assert file.startswith("-rw-------")


class Asked(asyncssh.SSHClientConnection):
    """A client that serves what the gateway opens as x11 with `answer_at_end`."""

    def _process_x11_open(self, packet: Any) -> Any:
        origin = packet.get_string().decode(), packet.get_uint32()
        packet.check_end()
        assert origin[0] == "127.0.0.1"
        channel = self.create_tcp_channel()
        channel.set_inbound_peer_names("", 0, *origin)
        return channel, SSHTCPStreamSession[bytes](cast(Any, answer_at_end))


SEND = """python3 -c '
import os, socket, sys
number = int(os.environ["DISPLAY"].split(":")[1].split(".")[0])
for _ in range(int(sys.argv[1])):
    try:
        with socket.create_connection(("127.0.0.1", 6000 + number)) as display:
            display.sendall(b"x" * 300000)
            display.shutdown(socket.SHUT_WR)
            print(len(display.makefile("rb").read()))
    except OSError as error:
        print(type(error).__name__)
' """


@pytest.mark.parametrize(("single", "answers"), [(False, ["300004"] * 3), (True, ["300004", "ConnectionRefusedError"])])
def test_what_connects_to_it_reaches_the_client(
    alice: Person, single: bool, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncssh.connection, "SSHClientConnection", Asked)

    async def run() -> list[str]:
        async with alice.connect() as client:
            _, said = await with_request(client, b"x11-req", *x11(single=single), command=SEND + str(len(answers)))
            return said.split()

    assert asyncio.run(run()) == answers


def test_two_sessions_have_two_displays_and_the_number_is_free_again(alice: Person, tmp_path: Path) -> None:
    up, go = tmp_path / "up", tmp_path / "go"

    async def run() -> list[str]:
        async with alice.connect() as client:
            hold = f"echo $DISPLAY; touch {up}; until [ -e {go} ]; do sleep 0.01; done"
            first = asyncio.create_task(with_request(client, b"x11-req", *x11(), command=hold))
            await asyncio.to_thread(until, up.exists)
            _, second = await with_request(client, b"x11-req", *x11(), command=f"echo $DISPLAY; touch {go}")
            shown = [(await first)[1].strip(), second.strip()]
            number = int(shown[0].split(":")[1].split(".")[0])
            await asyncio.to_thread(until, lambda: not listens(6000 + number))
            return shown

    assert len(set(asyncio.run(run()))) == 2


@pytest.mark.parametrize(
    "body",
    [
        x11(cookie="a b"),
        x11(cookie="0\nadd x"),
        x11(protocol="MIT\n"),
        x11(cookie=""),
        x11(cookie="0" * 600),
    ],
    ids=["space", "newline", "protocol", "empty", "long"],
)
def test_words_that_are_none_are_refused(alice: Person, body: list[bytes]) -> None:
    """They would become commands to xauth."""

    async def run() -> None:
        async with alice.connect() as client:
            granted, env = await with_request(client, b"x11-req", *body)
            assert not granted
            assert "DISPLAY" not in env

    asyncio.run(run())


@pytest.mark.parametrize("how", ["challenge", "key", "certificate"])
def test_a_display_that_is_not_allowed(stage: GatewayStage, alice: Person, only: Any, how: str) -> None:
    if how == "challenge":
        only(Forwarding.LOCAL, Forwarding.REMOTE, Forwarding.AGENT)

    async def run() -> None:
        async with alice.connect() as client:
            (server,) = stage.gateway.gate.servers
            if how == "key":
                server.connection._key_options = {"no-X11-forwarding": True}
            if how == "certificate":
                server.connection._cert_options = {"permit-port-forwarding": True, "permit-pty": True}
            granted, env = await with_request(client, b"x11-req", *x11())
            assert not granted
            assert "DISPLAY" not in env

    asyncio.run(run())


def test_an_image_without_xauth_is_a_sentence(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "XAUTH", b"no-such-xauth")

    async def run() -> str:
        async with alice.connect() as client:
            return (await with_request(client, b"x11-req", *x11(), command="echo [$DISPLAY]"))[1]

    said = asyncio.run(run())
    assert said == ("X11 is not forwarded: the image has no xauth. Inside the workspace: apt-get install xauth\n[]\n")


def test_an_xauth_that_fails_is_a_sentence(alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "xauth"
    script.write_text("#!/bin/sh\nprintf 'no \\033[2Jspace'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(doors, "XAUTH", bytes(script))

    async def run() -> str:
        async with alice.connect() as client:
            return (await with_request(client, b"x11-req", *x11(), command="echo [$DISPLAY]"))[1]

    said = asyncio.run(run())
    assert said.startswith("X11 is not forwarded: no ")
    assert "\033" not in said
    assert said.endswith("\n[]\n")


def test_an_xauth_that_does_not_end_is_given_up(alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "xauth"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(0o755)
    monkeypatch.setattr(doors, "XAUTH", bytes(script))
    monkeypatch.setattr(doors, "XAUTH_SECONDS", 0.3)

    async def run() -> str:
        async with alice.connect() as client:
            return (await with_request(client, b"x11-req", *x11(), command="echo [$DISPLAY]"))[1]

    assert asyncio.run(run()) == "X11 is not forwarded: xauth does not end.\n[]\n"


def test_openssh_with_x11(alice: Person) -> None:
    """`ssh -X`: the client invents the cookie, and puts the real one in when something connects."""
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if port < 6000:
            pytest.skip("a display has a port from 6000 on")
        server.settimeout(20)
        env = {**os.environ, "DISPLAY": f"127.0.0.1:{port - 6000}", "XAUTHORITY": f"{place}/xauthority"}
        greet = (
            "python3 -c 'import os, socket, subprocess\n"
            'display = os.environ["DISPLAY"].split(":")[1].split(".")[0]\n'
            'listed = subprocess.run(["xauth", "list"], capture_output=True, text=True).stdout.splitlines()\n'
            'cookie = bytes.fromhex(next(line for line in listed if f"unix:{display} " in line).split()[-1])\n'
            'link = socket.create_connection(("127.0.0.1", 6000 + int(display)))\n'
            'link.sendall(b"l\\0\\x0b\\0\\0\\0\\x12\\0\\x10\\0\\0\\0MIT-MAGIC-COOKIE-1\\0\\0" + cookie)\n'
            "print(link.recv(100).decode())'"
        )
        with subprocess.Popen(
            [*alice.line("-Y"), greet], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as client:
            assert client.stdout
            assert client.stderr
            try:
                link, _ = server.accept()
            except TimeoutError:
                client.kill()
                raise AssertionError(client.stderr.read().decode()) from None
            with link:
                said = link.recv(100)
                link.sendall(b"welcome")
                assert client.stdout.read() == b"welcome\n", client.stderr.read()
    assert said.startswith(b"l\0\x0b\0\0\0\x12\0\x10\0\0\0MIT-MAGIC-COOKIE-1\0\0")
    assert len(said) == 48


def test_a_person_at_a_terminal_reads_why(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "XAUTH", b"no-such-xauth")
    monkeypatch.setenv("DISPLAY", "127.0.0.1:77")
    with Terminal(alice.line("-Y")) as terminal:
        terminal.expect(b"apt-get install xauth")
        terminal.send("exit\n")
        assert terminal.wait() == 0
