"""Names that the agent connects to, with an /etc/hosts and a name server of the test's own."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.support.guest import Agent, in_loop, sanitized_agent
from workspaces.errors import GuestError

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can put another /etc/hosts in place")

SERVER = "127.0.0.77"
A, AAAA = 1, 28
RECORDS = {
    (b"\3web\4site\4test\0", A): [b"\x7f\0\0\1"],
    (b"\2v6\4site\4test\0", AAAA): [bytes(15) + b"\1"],
    (b"\4many\4site\4test\0", A): [b"\x7f\0\0" + bytes([n]) for n in range(200, 240)] + [b"\x7f\0\0\1"],
    (b"\3odd\4site\4test\0", A): [b"\x7f\0\0"],
}
SETUP = 'mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf && shift && exec "$@"'


def answer(question: bytes) -> bytes:
    """A name server's answer to one question: the records, or that there is no such name."""
    name, (kind,) = question[12:-4], struct.unpack("!H", question[-4:-2])
    records = RECORDS.get((name, kind), [])
    known = any(known == name for known, _ in RECORDS)
    head = question[:2] + struct.pack("!5H", 0x8180 if known else 0x8183, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for data in records)
    return head + question[12:] + body


def serve(server: socket.socket) -> None:
    while True:
        question, peer = server.recvfrom(512)
        if not question:
            return
        server.sendto(b"garbage" if b"\7garbage" in question else answer(question), peer)


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("agent")
    (directory / "hosts").write_text("# comment\n127.0.0.1 first alias # more\n::1\tsixth\nnonsense broken\n")
    options = "options timeout:1 attempts:1"
    (directory / "resolv.conf").write_text(f"nameserver {SERVER}\nsearch site.test\n{options}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SERVER, 53))
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        prefix = ("unshare", "--mount", "sh", "-c", SETUP, "sh", directory)
        agent = Agent(sanitized_agent(request.config), directory, prefix=prefix)
        yield agent
        said = agent.stop()
        server.sendto(b"", server.getsockname())
        thread.join()
    assert said == ""


@pytest.mark.parametrize("name", ["first", "ALIAS", "web.site.test", "web", "web.site.test."])
@in_loop
async def test_names_are_found(agent: Agent, name: str) -> None:
    await _reaches(agent, name, "127.0.0.1")


@pytest.mark.parametrize("name", ["sixth", "v6.site.test", "::1"])
@in_loop
async def test_names_of_ipv6_are_found(agent: Agent, name: str) -> None:
    await _reaches(agent, name, "::1")


async def _reaches(agent: Agent, name: str, address: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, address, 0) as server:
        sock = await agent.client().connect((name, server.sockets[0].getsockname()[1]))
        reader, writer = await asyncio.open_connection(sock=sock)
        assert await reader.read() == b"hello"
        writer.close()


@pytest.mark.parametrize("name", ["missing.site.test", "odd.site.test", "broken", "garbage", "x" * 64, "a..b"])
@in_loop
async def test_names_that_are_not_known(agent: Agent, name: str) -> None:
    with pytest.raises(GuestError, match=r"The host name .* is not known in the workspace\."):
        await agent.client().connect((name, 80))


@in_loop
async def test_of_many_addresses_only_some_are_tried(agent: Agent) -> None:
    with pytest.raises(GuestError, match="Connection refused"):
        await agent.client().connect(("many.site.test", 1))


@in_loop
async def test_a_name_server_that_is_slow_holds_up_nobody(agent: Agent) -> None:
    slow = asyncio.create_task(agent.client().connect(("garbage.site.test", 80)))
    await _reaches(agent, "first", "127.0.0.1")
    slow.cancel()
    await asyncio.wait([slow])
