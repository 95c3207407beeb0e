"""Services for forwarded connections to reach, and what of them is left in gateway and agent."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import CHALLENGE, GatewayStage, Person, descriptors, memory_stage, until
from workspaces.model import Forwarding

BIG = bytes(range(256)) * 12_000  # 3 MB: more than all buffers between

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answer_at_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only when the other half has ended: half-close has to be carried."""
    writer.write(b"got " + await reader.read())
    writer.close()


@asynccontextmanager
async def tcp_service(handler: Handler = answer_at_end) -> AsyncIterator[int]:
    """A server on 127.0.0.1, which is the container's as well where the engine is in memory; its port.

    Its connections must have ended by themselves, or do so soon.
    """
    serving: set[asyncio.Task[object]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        try:
            with suppress(ConnectionError):
                await handler(reader, writer)
        finally:
            serving.discard(task)
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            while serving:
                await asyncio.wait(serving)


def listens(port: int) -> bool:
    """Whether somebody does on 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def socks(proxy: int, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect through the SOCKS port of `ssh -D`. Raises IncompleteReadError when that is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
    try:
        name = host.encode()
        writer.write(b"\5\1\0\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        assert (await reader.readexactly(12))[:4] == b"\5\0\5\0"
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def ask(streams: tuple[Any, Any], data: bytes) -> bytes:
    """Send all of `data`, end that half, and read the whole answer."""
    reader, writer = streams
    try:
        writer.write(data)
        writer.write_eof()
        answer: bytes = await reader.read()
    finally:
        writer.close()
    return answer


def refused_with(error: Any, code: int, reason: str) -> None:
    """`error` is what pytest.raises(ChannelOpenError) gave."""
    assert (error.value.code, error.value.reason) == (code, reason)


def agent_pid(person: Person) -> int:
    """Of the agent that an in-memory engine runs for a person's workspace."""
    assert person.workspace
    name = person.stage.lifecycle.container_name(person.workspace)
    return int(person.stage.engine._containers[name].process.pid)  # type: ignore[attr-defined]


def agent_files(person: Person) -> int:
    return len(os.listdir(f"/proc/{agent_pid(person)}/fd"))


def processes(person: Person) -> list[str]:
    """What runs in a person's workspace."""
    pid = agent_pid(person)
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def idle(stage: GatewayStage) -> None:
    until(lambda: stage.gateway.call(lambda: not stage.gateway.gate.servers), what="the connections to end")


@contextmanager
def nothing_left(stage: GatewayStage, person: Person) -> Iterator[None]:
    """After it: no connection, no descriptor in gateway or agent, no process, no private directory."""
    idle(stage)
    before, files, private = descriptors(), agent_files(person), set(Path("/dev/shm").glob("ssh-*"))
    yield
    idle(stage)
    until(lambda: descriptors() <= before, what="descriptors of the gateway to be closed")
    until(lambda: agent_files(person) <= files, what="descriptors of the agent to be closed")
    until(lambda: not processes(person), what="the processes to be gone")
    until(lambda: set(Path("/dev/shm").glob("ssh-*")) <= private, what="the private directories to be gone")


def streams(stage: GatewayStage) -> int:
    """How many forwarded connections the gateway carries."""
    return stage.gateway.call(lambda: sum(len(server.forwarding.streams) for server in stage.gateway.gate.servers))


async def through(port: int, data: bytes) -> bytes:
    """What a service behind 127.0.0.1:port says to `data`."""
    return await ask(await asyncio.open_connection("127.0.0.1", port), data)


@contextmanager
def own_agent(alice: Person) -> Iterator[dict[str, str]]:
    """A person's own ssh-agent with their key in it; the environment for its clients."""
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as agent:
            until(Path(path).exists)
            env = {**os.environ, "SSH_AUTH_SOCK": path}
            subprocess.run(["ssh-add", "-q", str(alice.key)], env=env, check=True, timeout=10)
            yield env
            agent.terminate()


# --- fixtures, for the modules that import them ---


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    return person


@pytest.fixture
def newcomer(stage: GatewayStage) -> Iterator[Person]:
    """Somebody new for one test, whose container is removed after it."""
    person = stage.person(f"p{len(stage.store.users())}")
    yield person
    idle(stage)
    assert person.workspace
    stage.engine.remove(stage.lifecycle.container_name(person.workspace))


@pytest.fixture(autouse=True)
def all_gone(stage: GatewayStage, alice: Person, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with nothing_left(stage, alice):
        yield
    assert not [
        r
        for r in caplog.get_records("call")
        if r.levelno >= logging.ERROR and r.name.startswith(("sshgate", "asyncio"))
    ]


@pytest.fixture
def only(stage: GatewayStage) -> Iterator[Any]:
    """Switches the challenge's forwarding to some kinds for one test."""

    def switch(*kinds: Forwarding) -> None:
        stage.store.set_challenge(CHALLENGE, actor="chief", forwarding=kinds)

    yield switch
    switch(*Forwarding)
