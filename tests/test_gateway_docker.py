"""The gateway with OpenSSH's program and real Docker: bytes, ends, terminals, first logins, and gateways that die."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.engines import base_image, guest_dir, private_engine
from tests.support.gateway import Person, until
from tests.support.gatewayprocess import ProcessStage, docker_stage
from tests.support.terminal import Terminal
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine

__all__ = ["base_image", "guest_dir", "private_engine"]

pytestmark = pytest.mark.docker

LARGE = 200 << 20  # bytes
GROWTH = 64 << 20  # bytes of memory that carrying LARGE may take


@pytest.fixture(scope="module")
def stage(
    private_engine: PrivateEngine, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessStage]:
    with docker_stage(tmp_path_factory.mktemp("gateway"), private_engine.host, base_image) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: ProcessStage) -> Person:
    person = stage.person("alice")
    done = person.run("true")
    assert (done.returncode, done.stderr) == (0, b""), done.stderr + stage.log().encode()
    return person


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file that no cipher or cache makes smaller, and its hash."""
    path = tmp_path_factory.mktemp("large") / "large"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(LARGE >> 20):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    return path, digest.hexdigest()


def engine_of(stage: ProcessStage) -> DockerEngine:
    assert isinstance(stage.engine, DockerEngine)
    return stage.engine


def container(stage: ProcessStage, person: Person) -> str:
    return stage.containers(person)[0].name


def test_200_megabytes_up_and_down(stage: ProcessStage, alice: Person, large: tuple[Path, str]) -> None:
    path, digest = large
    before = stage.most_memory()
    with path.open("rb") as file:
        up = subprocess.run([*alice.line(), "tee copy | sha256sum"], stdin=file, capture_output=True, timeout=60)
    assert up.stdout.split()[0].decode() == digest
    seen = hashlib.sha256()
    with subprocess.Popen([*alice.line(), "cat copy; rm copy"], stdout=subprocess.PIPE) as down:
        assert down.stdout
        while block := down.stdout.read(1 << 20):
            seen.update(block)
    assert (down.returncode, seen.hexdigest()) == (0, digest)
    assert stage.most_memory() - before < GROWTH


def test_200_megabytes_both_ways_at_once(stage: ProcessStage, alice: Person, large: tuple[Path, str]) -> None:
    path, digest = large
    before = stage.most_memory()
    seen = hashlib.sha256()
    with (
        path.open("rb") as file,
        subprocess.Popen([*alice.line(), "cat"], stdin=file, stdout=subprocess.PIPE) as both,
    ):
        assert both.stdout
        while block := both.stdout.read(1 << 20):
            seen.update(block)
    assert (both.returncode, seen.hexdigest()) == (0, digest)
    assert stage.most_memory() - before < GROWTH


def test_files_by_scp_and_sftp(stage: ProcessStage, alice: Person, large: tuple[Path, str], tmp_path: Path) -> None:
    path, digest = large
    command = alice.line()
    options = [*command[1 : command.index("-p")], "-P", str(stage.port)]
    subprocess.run(["scp", "-q", *options, str(path), "alice@127.0.0.1:by-scp"], check=True, timeout=60)
    batch = tmp_path / "batch"
    batch.write_text(f"rename by-scp by-sftp\nget by-sftp {tmp_path}/back\nrm by-sftp\n")
    subprocess.run(["sftp", "-q", *options, "-b", str(batch), "alice@127.0.0.1"], check=True, timeout=60)
    with (tmp_path / "back").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest


def test_what_follows_the_end_of_input_arrives(alice: Person) -> None:
    assert alice.run("wc -c", stdin=b"x" * 1_234_567).stdout == b"1234567\n"
    assert alice.run("cat; echo end", stdin=b"in\n").stdout == b"in\nend\n"
    assert alice.run("wc -c", options=("-n",)).stdout == b"0\n"


@pytest.mark.parametrize("status", [0, 1, 255])
def test_exit_status(alice: Person, status: int) -> None:
    done = alice.run(f"echo out; echo err >&2; exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, b"out\n", b"err\n")


def test_exit_signal(alice: Person) -> None:
    assert alice.run("kill -9 $$").returncode == 255  # what OpenSSH makes of any signal

    async def run() -> list[Any]:
        async with alice.connect() as connection:
            killed = await connection.run("echo before; kill -9 $$")
            process = await connection.create_process("echo up; exec sleep 100")
            await process.stdout.readline()
            process.send_signal("TERM")
            return [killed.stdout, killed.exit_signal[0], (await process.wait()).exit_signal[0]]

    assert asyncio.run(run()) == ["before\n", "KILL", "TERM"]


def test_a_shell_on_a_terminal_that_changes_its_size(alice: Person) -> None:
    with Terminal(alice.line("-tt"), columns=91, rows=33) as terminal:
        terminal.expect(rb"[#$] $")
        terminal.send("stty size; tty; id -un; hostname\n")
        terminal.expect(rb"33 91\r\n/dev/pts/\d+\r\nroot\r\nalice\r\n")
        terminal.resize(columns=132, rows=50)
        terminal.send("until stty size | grep -q 132; do sleep 0.01; done; stty size\n")
        terminal.expect(rb"50 132\r\n")
        terminal.send("sh -c \"echo u''p; exec sleep 100\"\n")
        terminal.expect(rb"\r\n.*up\r\n")
        terminal.send("\x03")
        terminal.expect(rb"\^C\r\n(.*\r\n)*.*[#$] $")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_a_snapshot_is_asked_for_inside(stage: ProcessStage, alice: Person) -> None:
    assert alice.workspace
    done = alice.run("snapshot -m 'the \"first\"'")
    assert done.returncode == 0, done.stderr
    rows = stage.store.snapshots(alice.workspace.id)
    assert [(row.message, row.requested_by) for row in rows] == [('the "first"', "alice")]


def test_twenty_first_logins_at_once_make_one_container(stage: ProcessStage) -> None:
    bob = stage.person("bob")
    clients = [
        subprocess.Popen([*bob.line(), f"echo {i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(20)
    ]
    for i, client in enumerate(clients):
        out, err = client.communicate(timeout=60)
        assert (client.returncode, out, err) == (0, f"{i}\n".encode(), b"")
    assert len(stage.containers(bob)) == 1
    assert len(set(stage.logged_in("bob"))) == 2, "both workers had some of them"


def test_a_first_login_on_a_terminal_says_what_goes_on(stage: ProcessStage) -> None:
    carol = stage.person("carol")
    with Terminal(carol.line("-tt")) as terminal:
        assert b"Creating your workspace als/carol" in terminal.expect(rb"[#$] $", 30)
        terminal.send("exit\n")
        assert terminal.wait() == 0


@pytest.mark.parametrize("how", ["stop", "remove"])
def test_a_stopped_or_removed_container_comes_back(stage: ProcessStage, how: str) -> None:
    person = stage.person(f"dave-{how}")
    assert person.run("echo kept > file").returncode == 0
    if how == "stop":
        engine_of(stage).stop(container(stage, person))
    else:
        engine_of(stage).remove(container(stage, person))
    done = person.run("cat file; echo in")
    assert done.stdout == (b"kept\nin\n" if how == "stop" else b"in\n"), done.stderr


def test_a_container_that_is_stopped_mid_session(stage: ProcessStage) -> None:
    person = stage.person("erin")
    assert person.workspace
    with subprocess.Popen(
        [*person.line(), "echo up; exec sleep 100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        assert client.stdout
        assert client.stdout.readline() == b"up\n"
        stage.lifecycle.stop(person.workspace.id)
        _, said = client.communicate(timeout=20)
    assert client.returncode == 254
    assert said == b"The workspace als/erin ended: stopped by an administrator. Log in again to start it.\n"
    assert person.run("echo again").stdout == b"again\n"


def test_a_login_while_the_container_is_paused(stage: ProcessStage, alice: Person) -> None:
    """As a commit does it: the person is told, and waits no longer than it takes."""
    client = docker.APIClient(base_url=engine_of(stage).host)
    client.pause(container(stage, alice))
    try:
        with Terminal(alice.line("-tt"), "echo hello") as terminal:
            terminal.expect(rb"does not answer")
            client.unpause(container(stage, alice))
            assert terminal.wait() == 0
            assert terminal.seen.endswith(b"hello\r\n")
    finally:
        client.close()


def test_a_killed_gateway_leaves_containers_and_what_runs_in_them(stage: ProcessStage) -> None:
    person = stage.person("frank")
    kept = person.run("nohup sleep 1000 > /dev/null 2>&1 & echo $!; echo kept > file").stdout.decode().strip()
    before = stage.containers(person)[0]
    with subprocess.Popen([*person.line(), "echo $$; exec sleep 1001"], stdout=subprocess.PIPE) as session:
        assert session.stdout
        in_session = session.stdout.readline().decode().strip()
        stage.kill()
        assert session.wait(20) == 255
    after = stage.containers(person)[0]
    assert (after.id, after.state) == (before.id, "running")
    stage.start()
    done = person.run(f"cat file; kill -0 {kept} && echo runs; while kill -0 {in_session}; do sleep 0.1; done 2>&-")
    assert (done.stdout, done.returncode) == (b"kept\nruns\n", 0), done.stderr
    assert stage.containers(person)[0].id == before.id
    assert person.run("snapshot list").returncode == 0


def test_sigterm_lets_sessions_end_and_takes_no_new_ones(stage: ProcessStage, alice: Person) -> None:
    with (
        subprocess.Popen(
            [*alice.line(), "echo up; cat; exit 7"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as session,
        Terminal(alice.line("-tt")) as terminal,
    ):
        assert session.stdin
        assert session.stdout
        assert session.stdout.readline() == b"up\n"
        terminal.expect(rb"[#$] $")
        stage.process.send_signal(signal.SIGTERM)
        assert re.search(rb"closes this connection in \d+ s", terminal.expect(rb"again in a minute"))
        until(lambda: not listens(stage.port), what="the port to be closed")
        terminal.send("exit 3\n")
        assert terminal.wait() == 3
        out, _ = session.communicate(b"the last words\n", timeout=20)
        assert (out, session.returncode) == (b"the last words\n", 7)
    assert stage.process.wait(20) == 0
    stage.start()
    assert alice.run("echo back").stdout == b"back\n"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
