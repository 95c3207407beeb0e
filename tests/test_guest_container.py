"""The agent as process 1 of a real container: who may command it, what it leaves, how it ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.engines import docker_engine, guest_dir, private_engine, spec, tiny_image, tiny_tar
from tests.support.guest import Started, run, start, wait_for
from workspaces.engine.dockerd import DockerEngine
from workspaces.errors import GuestError
from workspaces.guest import protocol
from workspaces.guest.client import ExitStatus, GuestClient, SpawnRequest, TermSize
from workspaces.guest.protocol import decode, encode

pytestmark = pytest.mark.docker
__all__ = ["docker_engine", "guest_dir", "private_engine", "tiny_image", "tiny_tar"]

NAME = "guest"
# Runs with the host's files and rights but inside the container's pid namespace: more than its root ever has.
FROM_INSIDE = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if sys.argv[2] == "child":  # which connects, and is gone when the agent looks
    if (pid := os.fork()) == 0:
        sock.connect(sys.argv[1])
        os._exit(0)
    os.waitpid(pid, 0)
else:
    sock.connect(sys.argv[1])
socket.send_fds(sock, [bytes.fromhex(sys.argv[3])], [0, 1, 2][: int(sys.argv[4])])
print(sock.recv(1 << 16).hex())
"""


class Container(Started):
    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.started = []

    def client(self) -> GuestClient:
        return GuestClient(self.engine.guest_socket(NAME))

    @property
    def pid(self) -> int:
        return int(self.engine.quick().inspect_container(NAME)["State"]["Pid"])


@pytest.fixture
def container(docker_engine: DockerEngine, tiny_image: str) -> Container:
    docker_engine.ensure_container(spec(NAME, tiny_image))
    docker_engine.start(NAME)
    return Container(docker_engine)


def sh(container: Container, command: str, user: str = "root") -> tuple[int | None, str]:
    status, out, err = asyncio.run(run(container, SpawnRequest(command=command.encode(), user=user)))
    return status.code, (out + err).decode()


def test_the_gateway_starts_processes_as_any_user(container: Container) -> None:
    assert sh(container, "id -u; echo $HOME $USER $LANG; cd /root && echo in") == (0, "0\n/root root C.UTF-8\nin\n")
    code, out = sh(container, "id -u; id -G; echo $HOME $PATH; touch /root/x", user="bobby")
    assert out.splitlines()[:3] == ["1000", "1000", "/home/bobby /dev/workspaces/guest/bin:/bin:/usr/bin"]
    assert code != 0
    with pytest.raises(GuestError, match="The image has no user mallory"):
        sh(container, "id", user="mallory")


def test_the_terminal_belongs_to_its_user(container: Container) -> None:
    request = SpawnRequest(command=b"ls -ln $SSH_TTY; echo hello >$SSH_TTY", user="bobby", pty=TermSize(80, 24))
    status, out, _ = asyncio.run(run(container, request))
    assert status == ExitStatus(code=0)
    assert b" 1000 " in out.splitlines()[0]
    assert out.endswith(b"hello\r\n")


@pytest.mark.parametrize("who", ["itself", "child"])
@pytest.mark.parametrize(
    ("message", "descriptors"),
    [
        (protocol.Spawn(protocol.SpawnKind.COMMAND, "root", "", (b"id",)), 3),
        (protocol.Attend(), 0),
        (protocol.Listen(protocol.TargetKind.TCP, "root", "", 0), 0),
    ],
    ids=["spawn", "attend", "listen"],
)
def test_nobody_inside_commands_the_agent(
    container: Container, message: protocol.Message, descriptors: int, who: str
) -> None:
    socket = str(container.engine.guest_socket(NAME))
    command = ["nsenter", "-t", str(container.pid), "--pid", sys.executable, "-c", FROM_INSIDE]
    said = subprocess.run(
        [*command, socket, who, encode(message).hex(), str(descriptors)], capture_output=True, text=True, check=True
    )
    answer = decode(bytes.fromhex(said.stdout))
    assert isinstance(answer, protocol.Failed)
    assert answer.text == "Only the gateway may ask the agent for that."


@pytest.mark.parametrize(("user", "uid"), [("root", 0), ("bobby", 1000)])
def test_anyone_inside_may_ask(container: Container, user: str, uid: int) -> None:
    async def story() -> None:
        attendance = await container.client().attend()
        asking = asyncio.create_task(run(container, SpawnRequest(command=b"snapshot -m first", user=user)))
        ask = await anext(aiter(attendance))
        assert (ask.kind, ask.args, ask.uid) == ("snapshot", ("-m", "first"), uid)
        await attendance.answer(ask.id, 0, "Requested.")
        assert (await asking)[1] == b"Requested.\n"
        attendance.close()

    asyncio.run(story())


def test_nothing_is_left_in_the_container(container: Container) -> None:
    assert sh(container, "snapshot; cat /proc/1/comm") == (
        0,
        "agent\nsnapshot: No gateway attends this workspace just now; log in again and retry.\n",
    )
    report = container.engine.changes(NAME)
    assert (report.added, report.changed, report.removed) == (0, 0, 0)


def test_the_socket_survives_its_removal_and_the_program_cannot_be_removed(container: Container) -> None:
    code, said = sh(container, "rm -rf /dev/workspaces")
    assert code != 0
    assert "Read-only file system" in said
    socket = container.engine.guest_socket(NAME)
    wait_for(socket.is_socket, "no new socket")
    assert sh(container, "echo in") == (0, "in\n")


def test_an_image_without_anything_says_so(container: Container) -> None:
    sh(container, "rm -rf /bin /lib /lib64 /usr /etc")
    with pytest.raises(GuestError, match=r"The image has no /bin/sh\."):
        sh(container, "echo in")


def test_stopping_is_prompt_and_polite(container: Container) -> None:
    async def story() -> ExitStatus:
        command = b"trap '' HUP; trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        running = await start(container, SpawnRequest(command=command))
        await running.read_until(b"ready")
        stopping = asyncio.create_task(asyncio.to_thread(container.engine.stop, NAME))
        assert (await running.read_all()).endswith(b"bye\n")
        status = await running.process.wait()
        running.close()
        await stopping
        return status

    sh(container, "sleep 1000 >/dev/null 2>&1 &")
    began = time.monotonic()
    assert asyncio.run(story()) == ExitStatus(code=3)
    assert time.monotonic() - began < 8
    found = container.engine.container(NAME)
    assert found is not None
    assert (found.state, found.exit_code) == ("exited", 0)


def test_the_agent_stays_small(container: Container) -> None:
    for _ in range(50):
        sh(container, ":")
    status = Path(f"/proc/{container.pid}/status").read_text()
    size = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    assert int(size.split()[1]) < 1024, size
