"""What the agent must survive: nonsense, floods, the loss of its socket, and its own end."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import (
    ENVIRONMENT,
    Agent,
    Raw,
    in_loop,
    module_agent,
    run,
    sanitized_agent,
    shell,
    start,
    wait_for,
)
from tests.support.guest_text import vectors
from workspaces.errors import GuestError, InvalidInput
from workspaces.guest import protocol
from workspaces.guest.client import ExitStatus, SpawnRequest, TermSize
from workspaces.guest.protocol import encode
from workspaces.guest.wire import Terminal

SPAWN = protocol.Spawn(protocol.SpawnKind.ARGV, "root", "", (b"true",))


@pytest.fixture(scope="module")
def agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    yield from module_agent(request, tmp_path_factory)


def send(agent: Agent, packet: bytes | protocol.Message, descriptors: int = 0) -> str:
    """Send one packet with that many descriptors: the agent's complaint, empty when it only hung up."""
    files = [os.open("/dev/null", os.O_RDWR) for _ in range(descriptors)]
    with Raw(agent) as raw:
        raw.send(packet, files)
        for fd in files:
            os.close(fd)
        answer = raw.receive()
        if answer is None:
            return ""
        assert isinstance(answer, protocol.Failed)
        assert raw.receive() is None
        return answer.text


def test_every_invalid_message_is_refused(agent: Agent) -> None:
    for direction, packet, text in vectors():
        if text == "invalid" or direction == "<":
            assert send(agent, packet, 3).startswith("The agent cannot read a message")
    agent.settle()


def test_random_bytes(agent: Agent) -> None:
    source = random.Random(4)
    for _ in range(300):
        prefix = source.choice([b"", b"\x01", b"\x01\x01", b"\x01\x02", b"\x01\x0a"])
        assert send(agent, prefix + source.randbytes(source.randrange(1, 200)), source.randrange(4)) is not None
    agent.settle()


def test_messages_that_only_the_agent_sends_or_that_are_out_of_turn(agent: Agent) -> None:
    assert send(agent, protocol.Answered(0, "x")) == "The agent got a message that only it may send."
    for message in (
        protocol.Resize(TermSize(1, 1)),
        protocol.Signal("KILL"),
        protocol.Answer(1, 0, ""),
        protocol.Reject(1),
    ):
        assert send(agent, message) == "The agent got a message out of turn."
    agent.settle()


def test_too_long(agent: Agent) -> None:
    assert "too long" in send(agent, b"\x01\x06" + b"x" * protocol.MESSAGE_MAX)
    with Raw(agent) as raw:
        raw.send(encode(protocol.Signal("x")) + b"x" * 1000)
        assert isinstance(raw.receive(), protocol.Failed)
    agent.settle()


@pytest.mark.parametrize("count", [0, 1, 4, 5, 200])
def test_wrong_numbers_of_descriptors_do_not_leak(agent: Agent, count: int) -> None:
    for _ in range(5):
        assert "descriptors" in send(agent, SPAWN, count)
    for _ in range(5):
        assert send(agent, protocol.Attend(), max(count, 1)) != ""
    agent.settle()


def test_two_or_three_descriptors_must_fit_the_terminal(agent: Agent) -> None:
    on_terminal = protocol.Spawn(2, "root", "", (b"true",), (), Terminal(TermSize(80, 24)))
    for message, count in ((SPAWN, 2), (on_terminal, 3)):
        assert send(agent, message, count) == "A terminal takes two descriptors, pipes are three."
    agent.settle()


def test_files_as_the_ends_of_a_terminal_are_refused(agent: Agent) -> None:
    """epoll takes no regular files."""
    message = protocol.Spawn(2, "root", "", (b"cat",), (), Terminal(TermSize(80, 24)))
    with Path(__file__).open() as file, Raw(agent) as raw:
        raw.send(message, [file.fileno(), file.fileno()])
        answer = raw.receive()
    assert answer == protocol.Failed(errno.EPERM, "The workspace gives no terminal: Operation not permitted.")
    agent.settle()


@pytest.mark.slow
@in_loop
async def test_the_limit_of_sessions(agent: Agent) -> None:
    try:
        running = [await start(agent, SpawnRequest(argv=(b"cat",))) for _ in range(256)]
    except OSError:
        pytest.skip("this host allows too few open files")
    with pytest.raises(GuestError, match="256 sessions open"):
        await shell(agent, "true")
    running[0].end_input()
    assert await running[0].process.wait() == ExitStatus(code=0)
    running[0].close()
    while True:  # its place is free once the agent has seen the connection close
        try:
            assert (await shell(agent, "true"))[0] == ExitStatus(code=0)
            break
        except GuestError:
            await asyncio.sleep(0.01)


def test_connections_that_say_nothing_do_not_keep_others_out(agent: Agent) -> None:
    idle = [Raw(agent) for _ in range(200)]
    assert asyncio.run(shell(agent, "echo in"))[1] == b"in\n"
    for raw in idle:
        raw.close()
    agent.settle()


@pytest.mark.slow
@in_loop
async def test_the_socket_comes_back_when_it_was_removed(agent: Agent) -> None:
    agent.socket.unlink()
    wait_for(agent.socket.exists, "no new socket")
    wait_for(agent.answers, "nobody listens on the new socket")
    assert (await shell(agent, "true"))[0].code == 0


@in_loop
async def test_a_request_too_big_is_refused_before_it_is_sent(agent: Agent) -> None:
    with pytest.raises(InvalidInput):
        await run(agent, SpawnRequest(command=b"x" * 200_000))
    status, out, _ = await run(agent, SpawnRequest(command=b"echo ${#X}", env={b"X": b"x" * 130_000}))
    assert (status.code, out) == (0, b"130000\n")


# --- the agent's own life ---


def launch(program: Path, path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([program, "init", path], env=os.environ | ENVIRONMENT, stderr=subprocess.PIPE)

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            return probe.connect_ex(str(path)) == 0

    wait_for(lambda: listens() or process.poll() is not None, "it does not start")
    return process


def test_a_stale_socket_is_replaced_and_anyone_may_connect(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    path.parent.mkdir()
    path.write_text("stale")
    process = launch(sanitized_agent(request.config), path)
    assert path.stat().st_mode & 0o777 == 0o666
    assert path.parent.stat().st_mode & 0o777 == 0o755
    process.terminate()
    assert process.communicate(timeout=10)[1] == b""
    assert process.returncode == 0
    assert not path.exists()


def test_a_socket_that_cannot_be_made_is_said(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    result = subprocess.run(
        [sanitized_agent(request.config), "init", tmp_path / "no" / "where" / "s"], capture_output=True, env=ENVIRONMENT
    )
    assert result.returncode == 1
    assert b"No such file or directory" in result.stderr


def test_terminating_ends_all_processes(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    own = Agent(sanitized_agent(request.config), tmp_path, leaks=False)

    async def story() -> list[int]:
        running = await start(
            own, SpawnRequest(command=b"setsid sleep 109 & nohup sleep 110 >/dev/null 2>&1 & echo $$ $!; wait")
        )
        pids = [int(word) for word in (await running.read_until(b"\n")).split()]
        own.process.send_signal(signal.SIGTERM)
        assert (await running.process.wait()).signal in ("HUP", "TERM")
        running.close()
        return pids

    pids = asyncio.run(story())
    assert own.stop() == ""
    for pid in pids:
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "a process is left")  # type: ignore[misc]


def test_it_ends_when_its_parent_does(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    code = "import subprocess,sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    program = sanitized_agent(request.config)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, program, "init", tmp_path / "s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    wait_for((tmp_path / "s").is_socket, "it does not start")
    parent.stdin.close()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not (tmp_path / "s").exists(), f"agent {pid} outlived its parent")


def test_which(request: pytest.FixtureRequest) -> None:
    result = subprocess.run(
        [sanitized_agent(request.config), "which", "sh", "no-such"], capture_output=True, text=True, env=ENVIRONMENT
    )
    first, second = result.stdout.splitlines()
    assert first.split("\t")[0] == "sh"
    assert first.endswith("/sh")
    assert second == "no-such\t"
