"""The gateway's processes: limits that hold over all workers, workers that die, drain, and no process left."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncssh
import pytest

from tests.support.gateway import Person, by_password, until, whoami
from tests.support.gatewayprocess import ProcessStage, memory_process_stage
from tests.support.terminal import Terminal
from workspaces.engine.memory import MemoryEngine

pytestmark = pytest.mark.slow

FEW = """
from sshgate import limits
limits.MAX_UNAUTHENTICATED_ADDRESS = 6
limits.MAX_ACCOUNT_CONNECTIONS = 4
limits.MAX_ACCOUNT_SESSIONS = 3
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[ProcessStage]:
    with memory_process_stage(tmp_path) as made:
        yield made


@pytest.fixture
def few(tmp_path: Path) -> Iterator[ProcessStage]:
    with memory_process_stage(tmp_path, FEW) as made:
        yield made


def person(stage: ProcessStage, name: str, *, password: bool = False) -> Person:
    """Somebody whose workspace runs."""
    made = stage.person(name, password=password)
    assert made.workspace
    stage.lifecycle.ensure_running(made.workspace.id)
    return made


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


def ended(pids: list[int]) -> list[int]:
    """Handles that are readable when the process has ended."""
    return [os.pidfd_open(pid) for pid in pids]


def wait_for(handles: list[int]) -> None:
    for handle in handles:
        assert select.select([handle], [], [], 15)[0], "a process did not end"
        os.close(handle)


def test_connections_go_to_the_worker_with_the_fewest(stage: ProcessStage) -> None:
    alice = person(stage, "alice")

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


class Told(asyncssh.SSHClient):
    """Why the connection ended."""

    ended: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        Told.ended = exc


def test_connections_and_sessions_of_an_account_over_all_workers(few: ProcessStage) -> None:
    alice, bob = person(few, "alice"), person(few, "bob")

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
            assert (await two.run("echo again")).stdout == "again\n"
            async with alice.connect(), alice.connect(), alice.connect(client_factory=Told) as extra:
                await extra.wait_closed()

    asyncio.run(run())
    assert "Too many connections of this account" in str(Told.ended)
    assert len(set(few.logged_in("alice"))) == 2


def test_guesses_are_counted_over_all_workers(stage: ProcessStage) -> None:
    alice = person(stage, "alice", password=True)
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
    alice = person(stage, "alice")
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
        alice = person(stage, "alice")
        (first,) = stage.children()
        (handle,) = ended([first])
        os.kill(first, signal.SIGKILL)
        wait_for([handle])
        assert whoami(alice) == "als/alice alice"
        assert stage.logged_in("alice") != [first]


def test_a_worker_that_is_stuck_holds_up_only_whom_it_has(stage: ProcessStage) -> None:
    alice = person(stage, "alice")
    stopped, _ = stage.children()
    os.kill(stopped, signal.SIGSTOP)
    try:
        with silent(stage, 2):
            assert [whoami(alice) for _ in range(3)] == ["als/alice alice"] * 3
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_a_new_version_takes_over_and_nothing_is_cut(stage: ProcessStage) -> None:
    alice, bob = person(stage, "alice"), person(stage, "bob")
    coordinator, before = stage.process.pid, set(stage.children())
    sent = os.urandom(3 << 20)
    with subprocess.Popen([*alice.line(), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write(sent[:1000])
        session.stdin.flush()
        got = session.stdout.read(1000)
        (old,) = stage.logged_in("alice")
        logins = subprocess.Popen(
            ["sh", "-c", 'for i in 1 2 3 4 5 6 7 8 9 10; do "$@" || exit 1; done', "sh", *bob.line(), "true"]
        )
        stage.renew()
        assert logins.wait(60) == 0
        assert whoami(bob) == "als/bob bob"
        after = set(stage.children()) - before
        assert len(after) == 2
        assert stage.logged_in("bob")[-1] in after
        until(lambda: set(stage.children()) == {old, *after}, what="the end of the old worker that has nobody")
        assert set(stage.children().values()) == {coordinator}
        handles = ended([old])
        rest, _ = session.communicate(sent[1000:], timeout=30)
        assert got + rest == sent
        assert session.returncode == 0
        wait_for(handles)
    assert stage.process.poll() is None


def test_limits_count_what_workers_of_before_hold(few: ProcessStage) -> None:
    alice = person(few, "alice")

    async def run() -> None:
        async with alice.connect() as old:
            held = [await old.create_process("cat") for _ in range(2)]
            await asyncio.to_thread(few.renew)
            async with alice.connect() as new:
                last = await new.create_process("cat")
                with pytest.raises(asyncssh.ChannelOpenError, match="Too many sessions of this account"):
                    await new.create_process("cat")
                with pytest.raises(asyncssh.ChannelOpenError, match="Too many sessions of this account"):
                    await old.create_process("cat")
                last.stdin.write_eof()
                await last.wait_closed()
                held.append(await old.create_process("cat"))
                for process in held:
                    process.stdin.write("still here\n")
                    assert await process.stdout.readline() == "still here\n"

    asyncio.run(run())


@pytest.mark.parametrize("what", ["code", "setting"])
def test_a_version_that_does_not_start_changes_nothing(stage: ProcessStage, what: str) -> None:
    alice = person(stage, "alice")
    before = stage.children()
    settings = stage.home / "workspaces.toml"
    good = settings.read_text()
    if what == "code":
        stage.write_code("sys.modules['sshgate.session'] = None")
    else:
        settings.write_text(good + "[gateway\n")
    stage.renew()
    assert "does not start" in stage.log()
    assert whoami(alice) == "als/alice alice"
    assert stage.children() == before
    stage.write_code("")
    settings.write_text(good)
    stage.renew()
    assert whoami(alice) == "als/alice alice"
    assert stage.logged_in("alice")[-1] not in before


def test_a_version_whose_workers_do_not_start_leaves_it_to_those_of_before(stage: ProcessStage) -> None:
    alice = person(stage, "alice")
    before = set(stage.children())
    stage.write_code("import os\nif 'sshgate.worker' in sys.orig_argv: os._exit(3)")
    stage.process.send_signal(signal.SIGHUP)
    until(lambda: "ended with status 3" in stage.log(), 30, "a worker that does not start")
    assert whoami(alice) == "als/alice alice"
    assert stage.logged_in("alice")[-1] in before
    stage.write_code("")
    stage.renew()
    assert whoami(alice) == "als/alice alice"
    assert stage.logged_in("alice")[-1] not in before
    until(lambda: not before & set(stage.children()), what="the end of the old workers")


def test_an_address_that_changed(stage: ProcessStage) -> None:
    alice = person(stage, "alice")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = stage.home / "workspaces.toml"
        settings.write_text(settings.read_text().replace(str(stage.port), str(taken.getsockname()[1])))
        stage.renew()
    assert "Still listening on" in stage.log()
    assert whoami(alice) == "als/alice alice"
    stage.renew()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", stage.port), timeout=10)


def test_sigterm_drains_workers_of_both_versions(stage: ProcessStage) -> None:
    alice = person(stage, "alice")
    with Terminal(alice.line("-tt"), "echo up; read line") as old:
        old.expect(rb"up")
        stage.renew()
        with Terminal(alice.line("-tt"), "echo up; read line") as new:
            new.expect(rb"up")
            handles = ended(list(stage.children()))
            stage.process.send_signal(signal.SIGTERM)
            for terminal in (old, new):
                terminal.expect(rb"closes this connection in 30 s")
                terminal.send("\n")
                assert terminal.wait() == 0
    assert stage.process.wait(20) == 0
    wait_for(handles)


def test_a_second_sigterm_waits_for_nobody(stage: ProcessStage) -> None:
    alice = person(stage, "alice")
    with Terminal(alice.line("-tt"), "echo up; read line") as terminal:
        terminal.expect(rb"up")
        handles = ended(list(stage.children()))
        stage.process.send_signal(signal.SIGTERM)
        terminal.expect(rb"closes this connection")
        stage.process.send_signal(signal.SIGTERM)
        assert stage.process.wait(20) == 0
    wait_for(handles)


def test_no_process_is_left_by_a_killed_coordinator(stage: ProcessStage) -> None:
    alice = person(stage, "alice")
    with subprocess.Popen([*alice.line(), "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdout
        session.stdout.readline()
        stage.renew()
        until(lambda: len(stage.children()) == 3, what="the end of the old worker that has nobody")
        handles = ended(list(stage.children()))
        stage.kill()
        wait_for(handles)
        assert session.wait(10) == 255
    stage.start()
    assert whoami(alice) == "als/alice alice"


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


def test_a_snapshot_is_asked_for_in_the_first_session_whichever_worker_has_it(stage: ProcessStage) -> None:
    engine = stage.engine
    assert isinstance(engine, MemoryEngine)
    for name in ("alice", "bob"):
        somebody = person(stage, name)
        assert somebody.workspace
        place = engine.rootfs(stage.lifecycle.container_name(somebody.workspace))
        done = somebody.run(f"cd {place} && snapshot -m 'by {name}'")
        assert done.returncode == 0, done.stderr
        (asked,) = stage.store.snapshots(somebody.workspace.id)
        assert (asked.message, asked.requested_by) == (f"by {name}", name)


def test_who_asks_for_a_snapshot_is_known_after_a_takeover(stage: ProcessStage) -> None:
    engine = stage.engine
    assert isinstance(engine, MemoryEngine)
    alice, bob = person(stage, "alice"), stage.person("bob")
    assert alice.workspace
    number, place = alice.workspace.id, engine.rootfs(stage.lifecycle.container_name(alice.workspace))
    stage.store.add_member(number, "bob", actor="chief")

    async def run() -> object:
        async with bob.connect(username="bob+alice") as connection:
            process = await connection.create_process(f"cd {place} && echo up && read line && snapshot -m shared")
            assert await process.stdout.readline() == "up\n"
            await asyncio.to_thread(stage.renew)
            process.stdin.write("\n")
            return (await process.wait()).stderr

    assert asyncio.run(run()) == ""
    assert [row.requested_by for row in stage.store.snapshots(number)] == ["bob"]
