"""The gateway's processes: limits that hold over all workers, workers that die, drain, and no process left."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncssh
import pytest

from sshgate import texts
from sshgate.hostkey import activate_host_key, prepare_host_key
from tests.support.forwards import ask, tcp_service
from tests.support.gateway import by_password, until, whoami
from tests.support.gatewayprocess import (
    FEW,
    ProcessStage,
    descriptors,
    ended,
    memory_process_stage,
    running_person,
    wait_for,
    when_free,
)
from tests.support.terminal import Terminal
from workspaces.engine.memory import MemoryEngine

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[ProcessStage]:
    with memory_process_stage(tmp_path) as made:
        yield made


@pytest.fixture
def few(tmp_path: Path) -> Iterator[ProcessStage]:
    with memory_process_stage(tmp_path, FEW) as made:
        yield made


@contextmanager
def silent(stage: ProcessStage, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    opened = [socket.create_connection(("127.0.0.1", stage.port), timeout=10) for _ in range(count)]
    try:
        yield opened
    finally:
        for sock in opened:
            sock.close()


def greeted(sock: socket.socket) -> bool:
    """Whether an SSH server is there, or else nobody at all."""
    with suppress(ConnectionResetError):
        return sock.recv(100).startswith(b"SSH-2.0-")
    return False


def test_connections_go_to_the_worker_with_the_fewest(stage: ProcessStage) -> None:
    alice = running_person(stage, "alice")

    async def run() -> None:
        async with alice.connect(), alice.connect(), alice.connect(), alice.connect():
            pass

    asyncio.run(run())
    landed = stage.logged_in("alice")
    assert sorted(landed.count(pid) for pid in set(landed)) == [2, 2]
    assert set(landed) == set(stage.children())


def test_an_address_has_few_unauthenticated_connections_over_all_workers(few: ProcessStage) -> None:
    with silent(few, 20) as opened:
        admitted = [sock for sock in opened if greeted(sock)]
        assert len(admitted) == 6
        killed = next(iter(few.children()))
        handles = ended([killed])
        os.kill(killed, signal.SIGKILL)
        wait_for(handles)
        gone = select.select(admitted, [], [], 0)[0]
        assert 0 < len(gone) < 6
        until(lambda: len(few.children()) == 2, what="another worker")
        with silent(few, 6) as more:
            assert sum(greeted(sock) for sock in more) == len(gone), "what the killed worker held is free, and no more"


def test_silence_from_many_addresses_keeps_nobody_out(few: ProcessStage) -> None:
    """All sixty places are held by ten addresses."""
    alice = running_person(few, "alice")
    opened = [socket.create_connection(("127.0.0.1", few.port), 10, (f"127.0.0.{2 + n % 10}", 0)) for n in range(60)]
    try:
        assert all(greeted(sock) for sock in opened)
        assert whoami(alice) == "als/alice alice"
        while opened[0].recv(4096):
            pass  # until the oldest is told that it ended
    finally:
        for sock in opened:
            sock.close()


def test_forwarded_connections_of_an_account_over_all_workers(tmp_path: Path) -> None:
    code = "from sshgate import limits\nlimits.MAX_ACCOUNT_STREAMS = 4\n"
    with memory_process_stage(tmp_path, code) as stage:
        alice = running_person(stage, "alice")

        async def run() -> None:
            async with tcp_service() as port, alice.connect() as one, alice.connect() as two:
                opened = [await client.open_connection("127.0.0.1", port) for client in (one, two, one, two)]
                assert len(set(stage.logged_in("alice"))) == 2
                for client in (one, two):
                    with pytest.raises(asyncssh.ChannelOpenError) as error:
                        await client.open_connection("127.0.0.1", port)
                    assert error.value.reason == texts.TOO_MANY_ACCOUNT_STREAMS
                for pair in opened:
                    assert await ask(pair, b"x") == b"got x"

        asyncio.run(run())


class Told(asyncssh.SSHClient):
    """Why the connection ended."""

    ended: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        Told.ended = exc


def test_connections_and_sessions_of_an_account_over_all_workers(few: ProcessStage) -> None:
    alice, bob = running_person(few, "alice"), running_person(few, "bob")

    async def run() -> None:
        async with alice.connect() as one, alice.connect() as two:
            first = await one.create_process("cat")
            await one.create_process("cat")
            await two.create_process("cat")
            for connection in (one, two):
                with pytest.raises(asyncssh.ChannelOpenError, match="Too many sessions of this account"):
                    await connection.create_process("cat")
            async with bob.connect() as other:
                assert (await other.run("echo fine")).stdout == "fine\n"
            first.stdin.write_eof()
            await first.wait_closed()
            await (await when_free(two)).wait_closed()
            async with alice.connect(), alice.connect(), alice.connect(client_factory=Told) as extra:
                await extra.wait_closed()

    asyncio.run(run())
    assert "Too many connections of this account" in str(Told.ended)
    assert len(set(few.logged_in("alice"))) == 2


def test_guesses_are_counted_over_all_workers(stage: ProcessStage) -> None:
    alice = running_person(stage, "alice", password=True)
    for _ in range(8):
        with pytest.raises(asyncssh.PermissionDenied):
            by_password(alice, "wrong")
    tried = [line.split("gateway-worker[")[1].split("]")[0] for line in stage.log().splitlines() if ": wrong " in line]
    assert len(tried) == 6
    assert len(set(tried)) == 2
    with pytest.raises(asyncssh.PermissionDenied):
        by_password(alice)
    assert whoami(alice) == "als/alice alice"


def test_what_a_killed_worker_had_not_taken_goes_to_another(stage: ProcessStage) -> None:
    alice = running_person(stage, "alice")
    stopped, _ = stage.children()
    os.kill(stopped, signal.SIGSTOP)
    with silent(stage, 2) as (one, two):
        waiting = two if select.select([one, two], [], [], 10)[0] == [one] else one
        os.kill(stopped, signal.SIGKILL)
        assert greeted(waiting)
    assert [whoami(alice) for _ in range(5)] == ["als/alice alice"] * 5
    until(lambda: len(stage.children()) == 2, what="another worker")
    assert stopped not in stage.children()


def test_with_one_worker_who_comes_while_it_is_replaced_waits(tmp_path: Path) -> None:
    with memory_process_stage(tmp_path, workers=1) as stage:
        alice = running_person(stage, "alice")
        (first,) = stage.children()
        handles = ended([first])
        os.kill(first, signal.SIGSTOP)
        before = descriptors(stage.process.pid)
        prepare_host_key(stage.home / "keys")
        activate_host_key(stage.home / "keys")  # for the next start of the whole gateway
        with silent(stage, 1) as (waiting,):
            until(lambda: descriptors(stage.process.pid) > before, what="the connection to be handed over")
            os.kill(first, signal.SIGKILL)
            wait_for(handles)
            assert greeted(waiting)
        assert whoami(alice) == "als/alice alice"
        assert stage.logged_in("alice") != [first]


def test_a_worker_that_is_stuck_holds_up_only_whom_it_has(stage: ProcessStage) -> None:
    """Alice's first connection makes its worker the one with the most, so the silent one goes to the other, stopped."""
    alice = running_person(stage, "alice")
    with Terminal(alice.line("-tt"), "echo up; read line; echo got $line") as terminal:
        terminal.expect(rb"up")
        (stopped,) = stage.children().keys() - stage.logged_in("alice")
        os.kill(stopped, signal.SIGSTOP)
        try:
            with silent(stage, 1) as waiting:
                assert [whoami(alice) for _ in range(3)] == ["als/alice alice"] * 3
                terminal.send("word\n")
                terminal.expect(rb"got word")
                assert not select.select(waiting, [], [], 0)[0], "the stopped worker has it"
                os.kill(stopped, signal.SIGCONT)
                assert greeted(waiting[0])
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_without_an_answering_coordinator_sessions_go_on_and_new_ones_are_refused(tmp_path: Path) -> None:
    with memory_process_stage(tmp_path, "from sshgate import remote\nremote.ANSWER_SECONDS = 1.0") as stage:
        alice = running_person(stage, "alice")

        async def run() -> None:
            async with alice.connect() as connection:
                process = await connection.create_process("cat")
                process.stdin.write("before\n")
                assert await process.stdout.readline() == "before\n"
                os.kill(stage.process.pid, signal.SIGSTOP)
                try:
                    process.stdin.write("meanwhile\n")
                    assert await process.stdout.readline() == "meanwhile\n"
                    with pytest.raises(asyncssh.ChannelOpenError, match="too busy"):
                        await connection.create_process("cat")
                finally:
                    os.kill(stage.process.pid, signal.SIGCONT)
                assert (await connection.run("echo after")).stdout == "after\n"

        asyncio.run(run())


def test_a_second_sigterm_waits_for_nobody(stage: ProcessStage) -> None:
    alice = running_person(stage, "alice")
    with Terminal(alice.line("-tt"), "echo up; read line") as terminal:
        terminal.expect(rb"up")
        handles = ended(list(stage.children()))
        stage.process.send_signal(signal.SIGTERM)
        terminal.expect(rb"closes this connection")
        stage.process.send_signal(signal.SIGTERM)
        assert stage.process.wait(20) == 0
    wait_for(handles)


def test_a_port_in_use_is_told(stage: ProcessStage) -> None:
    done = subprocess.run(
        [*stage.command(), "gateway"], env=stage.environment(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-2:] == [
        f"workspaces: The gateway cannot listen on 127.0.0.1:{stage.port}: Address already in use.",
        "Set another address: [gateway] listen in workspaces.toml",
    ]


def test_a_worker_that_cannot_start_is_told(stage: ProcessStage) -> None:
    stage.process.terminate()
    stage.process.wait()
    key = stage.home / "keys" / "ssh_host_ed25519_key"
    key.chmod(0o644)
    done = subprocess.run(
        [*stage.command(), "gateway"], env=stage.environment(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert f"workspaces: Others can read the host key {key}." in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_what_a_worker_has_no_descriptor_for_is_closed_and_counts_no_more(tmp_path: Path) -> None:
    with memory_process_stage(tmp_path, FEW, workers=1) as stage:
        alice = running_person(stage, "alice")
        (worker,) = stage.children()
        soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (4, hard))
        for _ in range(7):
            with silent(stage, 1) as (sock,):
                assert not greeted(sock)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
        assert whoami(alice) == "als/alice alice"


def test_a_gateway_that_starts_leaves_the_sessions_of_one_that_drains(stage: ProcessStage) -> None:
    alice = running_person(stage, "alice")
    with Terminal(alice.line("-tt"), "echo up; read line") as terminal:
        terminal.expect(rb"up")
        until(stage.store.sessions)
        draining = stage.process
        draining.send_signal(signal.SIGTERM)
        terminal.expect(rb"closes this connection")
        stage.start()
        assert len(stage.store.sessions()) == 1
        terminal.send("\n")
        assert terminal.wait() == 0
    assert draining.wait(20) == 0
    until(lambda: not stage.store.sessions())


NO_SPAWN = """
import os
if "gateway" in sys.orig_argv and "--check" not in sys.orig_argv:
    def spawn(*args, real=os.posix_spawnp, tries=[], **kwargs):
        tries.append(None)
        if len(tries) == {which}:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(*args, **kwargs)
    os.posix_spawnp = spawn
"""


def test_a_worker_that_cannot_be_started_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    with memory_process_stage(tmp_path, NO_SPAWN.format(which=2), workers=1) as stage:
        alice = running_person(stage, "alice")
        (first,) = stage.children()
        os.kill(first, signal.SIGKILL)
        assert whoami(alice) == "als/alice alice"
        assert "cannot be started: Resource temporarily unavailable." in stage.log()
        with Terminal(alice.line("-tt"), "echo up; read line") as terminal:
            terminal.expect(rb"up")
            stage.write_code(NO_SPAWN.format(which=1))
            stage.renew()
            assert stage.process.poll() is None
            terminal.send("\n")
            assert terminal.wait() == 0


def test_a_snapshot_is_asked_for_in_the_first_session_whichever_worker_has_it(stage: ProcessStage) -> None:
    engine = stage.engine
    assert isinstance(engine, MemoryEngine)
    for name in ("alice", "bob"):
        somebody = running_person(stage, name)
        assert somebody.workspace
        place = engine.rootfs(stage.lifecycle.container_name(somebody.workspace))
        done = somebody.run(f"cd {place} && snapshot -m 'by {name}'")
        assert done.returncode == 0, done.stderr
        (asked,) = stage.store.snapshots(somebody.workspace.id)
        assert (asked.message, asked.requested_by) == (f"by {name}", name)


def test_sessions_in_the_record_end_with_the_process_that_carried_them(stage: ProcessStage) -> None:
    def on() -> set[int]:
        return {session.id for session in stage.store.sessions()}

    alice = running_person(stage, "alice")
    with Terminal(alice.line("-tt")) as first, Terminal(alice.line("-tt")) as second:
        for terminal in (first, second):
            terminal.expect(rb"[#$] $")
        until(lambda: len(on()) == 2)
        before = on()
        stage.renew()
        assert on() == before, "a takeover ends nobody's session"
        one, other = stage.logged_in("alice")
        os.kill(one, signal.SIGKILL)
        until(lambda: len(on()) == 1)
        os.kill(other, signal.SIGSTOP)  # it may see the coordinator's end before its own, and write it down
        stage.kill()
        assert len(on()) == 1
        stage.start()
        assert on() == set()


def test_what_one_worker_found_running_needs_no_engine_in_another(stage: ProcessStage) -> None:
    """The engine of these gateways answers nobody: a workspace is reached only where it is known to listen."""
    alice = running_person(stage, "alice")
    for _ in range(4):
        assert alice.run("echo in").stdout == b"in\n"
    assert set(stage.logged_in("alice")) == set(stage.children())
