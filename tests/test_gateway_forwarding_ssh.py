"""Forwarding with OpenSSH's own program, as people type it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sshgate.forwarding import Forwarding
from tests.support.forwards import (
    BIG,
    alice,
    all_gone,
    answer_at_end,
    ask,
    free_port,
    listens,
    newcomer,
    socks,
    stage,
    tcp_service,
    through,
)
from tests.support.gateway import Person, until
from workspaces.errors import Refused

pytestmark = pytest.mark.slow

__all__ = ["alice", "all_gone", "newcomer", "stage"]


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A client that stays, ended at the end."""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()  # its handler of SIGTERM loses the signal now and then


@pytest.mark.parametrize("options", [(), ("-o", "RekeyLimit=1M")], ids=["", "rekeying"])
def test_dash_w_with_half_close(alice: Person, options: tuple[str, ...]) -> None:
    async def run() -> bytes:
        async with tcp_service() as port:
            command = alice.line("-W", f"127.0.0.1:{port}", *options)
            done = await asyncio.to_thread(subprocess.run, command, input=BIG, capture_output=True, timeout=30)
            assert (done.returncode, done.stderr) == (0, b"")
            return done.stdout

    assert asyncio.run(run()) == b"got " + BIG


def test_dash_l_tcp_and_unix_without_a_session(alice: Person, tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"

    async def run() -> None:
        async with tcp_service() as port, await asyncio.start_unix_server(answer_at_end, far):
            first = free_port()
            options = ("-N", "-L", f"{first}:localhost:{port}", "-L", f"{near}:{far}", "-o", "ExitOnForwardFailure=yes")
            with running(alice.line(*options)):
                await asyncio.to_thread(until, near.exists)
                assert await through(first, BIG) == b"got " + BIG
                assert await ask(await asyncio.open_unix_connection(near), BIG) == b"got " + BIG

    asyncio.run(run())


def test_dash_r_tcp_and_unix(alice: Person, tmp_path: Path) -> None:
    far = tmp_path / "far"

    async def run() -> None:
        async with tcp_service() as port:
            options = ("-R", f"0:127.0.0.1:{port}", "-R", f"{far}:127.0.0.1:{port}")
            line = ["LogLevel=INFO" if part == "LogLevel=ERROR" else part for part in alice.line("-N", *options)]
            with running(line) as client:
                assert client.stderr
                said = await asyncio.to_thread(client.stderr.readline)
                assert said.startswith(b"Allocated port "), said
                assert await through(int(said.split()[2]), BIG) == b"got " + BIG
                await asyncio.to_thread(until, far.exists)
                assert await ask(await asyncio.open_unix_connection(far), b"x") == b"got x"

    asyncio.run(run())
    until(lambda: not far.exists())


def test_dash_r_that_is_refused_ends_the_client_that_wants_that(alice: Person) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = alice.run("true", options=("-v", "-R", f"{port}:localhost:1", "-o", "ExitOnForwardFailure=yes"))
    assert done.returncode == 255


def test_a_command_waits_for_the_answer_to_a_dash_r(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> None:
        await asyncio.sleep(0.3)
        raise Refused("The port is taken.")

    monkeypatch.setattr(Forwarding, "_listen", slow)
    assert alice.run("true", options=("-R", "0:localhost:1", "-o", "ExitOnForwardFailure=yes")).returncode == 255


def test_dash_d_resolves_names_in_the_container(alice: Person) -> None:
    async def run() -> None:
        async with tcp_service() as port:
            proxy = free_port()
            with running(alice.line("-N", "-D", str(proxy))):
                await asyncio.to_thread(until, lambda: listens(proxy))
                assert await ask(await socks(proxy, "localhost", port), BIG) == b"got " + BIG
                with pytest.raises(asyncio.IncompleteReadError):
                    await socks(proxy, "no.such.host.invalid", port)

    asyncio.run(run())


def test_proxyjump_through_a_workspace(alice: Person, newcomer: Person) -> None:
    """The host behind is the gateway again, as seen from the workspace."""
    proxy = " ".join(alice.line("-W", "[%h]:%p"))
    done = newcomer.run("echo $WORKSPACE", options=("-o", f"ProxyCommand={proxy}"))
    assert (done.stdout, done.returncode) == (f"als/{newcomer.name}\n".encode(), 0), done.stderr


def test_control_master_shares_its_forwards(alice: Person) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own is too deep for a socket's path
        asyncio.run(share(alice, Path(place) / "mux"))


async def share(alice: Person, path: Path) -> None:
    control = ("-o", f"ControlPath={path}")
    async with tcp_service() as port:
        with running(alice.line("-M", "-N", *control)):
            await asyncio.to_thread(until, path.exists)
            first = free_port()
            await asyncio.to_thread(tell_master, alice, control, "forward", "-L", f"{first}:localhost:{port}")
            assert await through(first, BIG) == b"got " + BIG
            told = await asyncio.to_thread(tell_master, alice, control, "forward", "-R", f"0:localhost:{port}")
            assert await through(int(told), b"x") == b"got x"
            await asyncio.to_thread(tell_master, alice, control, "cancel", "-R", f"0:localhost:{port}")
            await asyncio.to_thread(until, lambda: not listens(int(told)))


def tell_master(alice: Person, control: tuple[str, ...], command: str, *what: str) -> bytes:
    done = subprocess.run(alice.line(*control, "-O", command, *what), capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout
