"""A new version of the gateway takes over: sessions go on, limits hold, and what does not start changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.support.gateway import until, whoami
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


def test_a_new_version_takes_over_and_nothing_is_cut(stage: ProcessStage) -> None:
    alice, bob = running_person(stage, "alice"), running_person(stage, "bob")
    coordinator, before = stage.process.pid, set(stage.children())
    assert [whoami(alice), whoami(bob)] == ["als/alice alice", "als/bob bob"]  # both workspaces are attended then
    open_before = descriptors(coordinator)
    sent = os.urandom(3 << 20)
    with subprocess.Popen([*alice.line(), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write(sent[:1000])
        session.stdin.flush()
        got = session.stdout.read(1000)
        old = stage.logged_in("alice")[-1]
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
    until(lambda: descriptors(coordinator) == open_before, what="what belonged to the old workers to be closed")


def test_limits_count_what_workers_of_before_hold(few: ProcessStage) -> None:
    alice = running_person(few, "alice")

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
                held.append(await when_free(old, "cat"))
                for process in held:
                    process.stdin.write("still here\n")
                    assert await process.stdout.readline() == "still here\n"

    asyncio.run(run())


@pytest.mark.parametrize("what", ["code", "setting"])
def test_a_version_that_does_not_start_changes_nothing(stage: ProcessStage, what: str) -> None:
    alice = running_person(stage, "alice")
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
    alice = running_person(stage, "alice")
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
    alice = running_person(stage, "alice")
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
    alice = running_person(stage, "alice")
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


def test_no_process_is_left_by_a_killed_coordinator(stage: ProcessStage) -> None:
    alice = running_person(stage, "alice")
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


def test_who_asks_for_a_snapshot_is_known_after_a_takeover(stage: ProcessStage) -> None:
    engine = stage.engine
    assert isinstance(engine, MemoryEngine)
    alice, bob = running_person(stage, "alice"), stage.person("bob")
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


AWAY = """
if "gateway" in sys.orig_argv and "--check" not in sys.orig_argv:
    def away(*args, **kwargs):
        raise EngineUnavailable("The engine is away.")
    Away.prepare = workspaces.engine.open_engine = away
"""


def test_who_logs_in_while_a_new_version_finds_no_engine_waits_for_nothing(tmp_path: Path) -> None:
    with memory_process_stage(tmp_path, "from sshgate import remote\nremote.ANSWER_SECONDS = 1000.0", 1) as stage:
        alice = running_person(stage, "alice")
        stage.write_code(AWAY)
        stage.process.send_signal(signal.SIGHUP)
        until(lambda: "the workers of before go on" in stage.log(), 60, "a takeover without an engine")
        assert whoami(alice) == "als/alice alice"


ENDS = """
if "gateway" in sys.orig_argv and "--check" not in sys.orig_argv:
    import asyncio
    from sshgate.link import Link
    async def flushed(self, real=Link.flushed, ended=[]):
        await real(self)
        if not ended:
            ended.append(self)
            self._socket.shutdown(2)
            while not self.closed:
                await asyncio.sleep(0)
    Link.flushed = flushed
"""


def test_a_worker_that_ends_while_a_new_version_takes_over(tmp_path: Path) -> None:
    with memory_process_stage(tmp_path, ENDS) as stage:
        alice = running_person(stage, "alice")
        stage.renew()
        assert stage.process.poll() is None
        assert whoami(alice) == "als/alice alice"
