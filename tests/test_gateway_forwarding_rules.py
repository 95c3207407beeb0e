"""What may be forwarded: by challenge and key, while a person is a member, and until the gateway drains."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED

from sshgate.sparing import Sparing
from tests.support.forwards import (
    BIG,
    alice,
    all_gone,
    answer_at_end,
    ask,
    free_port,
    listens,
    newcomer,
    only,
    refused_with,
    stage,
    tcp_service,
    through,
)
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from workspaces.guest.client import GuestClient
from workspaces.model import Forwarding

pytestmark = pytest.mark.slow

__all__ = ["alice", "all_gone", "newcomer", "only", "stage"]


# --- what is allowed ---


def test_a_challenge_without_local_forwarding(alice: Person, only: Any) -> None:
    only(Forwarding.REMOTE)
    reason = "The challenge als does not allow -L, -D and -W."

    async def run() -> None:
        async with alice.connect() as client:
            for opening in (client.open_connection("127.0.0.1", 1), client.open_unix_connection("/x")):
                with pytest.raises(asyncssh.ChannelOpenError) as error:
                    await opening
                refused_with(error, OPEN_ADMINISTRATIVELY_PROHIBITED, reason)
            assert await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)

    asyncio.run(run())


def test_a_port_takes_nobody_once_the_challenge_forbids_it(alice: Person, only: Any) -> None:
    async def run() -> None:
        async with alice.connect() as client:
            listener = await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
            port = listener.get_port()
            assert await through(port, b"x") == b"got x"
            open_already = await asyncio.open_connection("127.0.0.1", port)
            open_already[1].write(b"a")
            await asyncio.to_thread(only, Forwarding.LOCAL)
            async with asyncio.timeout(10):
                while await taken(port):
                    pass
            assert await ask(open_already, b"b") == b"got ab"

    asyncio.run(run())


async def taken(port: int) -> bool:
    """Whether a connection to it is served."""
    try:
        return await through(port, b"x") == b"got x"
    except OSError:  # the end of one's half, too, where nobody is there any more
        return False


def test_a_challenge_without_remote_forwarding(alice: Person, only: Any, tmp_path: Path) -> None:
    only(Forwarding.LOCAL)

    async def run() -> None:
        async with tcp_service() as port, alice.connect() as client:
            with pytest.raises(asyncssh.ChannelListenError):
                await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
            with pytest.raises(asyncssh.ChannelListenError):
                await client.start_unix_server(lambda: answer_at_end, str(tmp_path / "s"), encoding=None)
            assert await ask(await client.open_connection("127.0.0.1", port), b"x") == b"got x"

    asyncio.run(run())
    assert not (tmp_path / "s").exists()


# --- the end ---


@pytest.mark.parametrize("with_session", [False, True])
def test_a_membership_that_ends_ends_its_forwards(stage: GatewayStage, newcomer: Person, with_session: bool) -> None:
    workspace = newcomer.workspace
    assert workspace

    async def run() -> None:
        async with tcp_service() as port:
            client = await newcomer.connect()
            process = await client.create_process("cat") if with_session else None
            reader, _ = await client.open_connection("127.0.0.1", port)
            listener = await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0, encoding=None)
            await asyncio.to_thread(stage.store.remove_member, workspace.id, newcomer.name, actor="chief")
            assert await reader.read() == b""
            await asyncio.to_thread(until, lambda: not listens(listener.get_port()))
            if process:
                assert (await process.wait()).stderr.startswith("You are no longer a member of als/")
                client.close()
            await client.wait_closed()

    asyncio.run(run())


def test_nothing_that_was_found_before_a_membership_ended_is_used_after_it(
    stage: GatewayStage, newcomer: Person
) -> None:
    workspace = newcomer.workspace
    assert workspace

    async def run() -> None:
        async with tcp_service() as port, newcomer.connect() as client:
            holder = await newcomer.connect()
            reader, _ = await holder.open_connection("127.0.0.1", port)
            assert await ask(await client.open_connection("127.0.0.1", port), b"x") == b"got x"
            await asyncio.to_thread(stage.store.remove_member, workspace.id, newcomer.name, actor="chief")
            assert await reader.read() == b""
            with pytest.raises(asyncssh.ChannelOpenError):
                await client.open_connection("127.0.0.1", port)
            await holder.wait_closed()

    asyncio.run(run())


def test_a_port_that_comes_to_listen_after_the_membership_ended_is_closed(
    stage: GatewayStage, newcomer: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, listened, ended = newcomer.workspace, threading.Event(), threading.Event()
    assert workspace
    real = GuestClient.listen

    async def listen(*args: Any, **kwargs: Any) -> Any:
        listener = await real(*args, **kwargs)
        listened.set()
        assert await asyncio.to_thread(ended.wait, 10)
        return listener

    monkeypatch.setattr(GuestClient, "listen", listen)
    free = free_port()

    async def run() -> None:
        async with tcp_service() as port, newcomer.connect() as client:
            holder = await newcomer.connect()
            reader, _ = await holder.open_connection("127.0.0.1", port)
            listening = asyncio.ensure_future(client.start_server(lambda *_: answer_at_end, "127.0.0.1", free))
            assert await asyncio.to_thread(listened.wait, 10)
            await asyncio.to_thread(stage.store.remove_member, workspace.id, newcomer.name, actor="chief")
            assert await reader.read() == b""
            ended.set()
            with pytest.raises(asyncssh.ChannelListenError):
                await listening
            await asyncio.to_thread(until, lambda: not listens(free))
            await holder.wait_closed()

    asyncio.run(run())


def test_a_disabled_account_loses_its_forwards(stage: GatewayStage, newcomer: Person) -> None:
    async def run() -> None:
        async with tcp_service() as port:
            client = await newcomer.connect()
            reader, _ = await client.open_connection("127.0.0.1", port)
            await asyncio.to_thread(stage.store.set_disabled, newcomer.name, True, actor="chief")
            with suppress(asyncssh.Error):
                assert await reader.read() == b""
            await client.wait_closed()

    asyncio.run(run())


# --- the log ---


def test_refusals_do_not_fill_the_log(alice: Person, only: Any, caplog: pytest.LogCaptureFixture) -> None:
    only()
    caplog.set_level(logging.INFO, "sshgate")

    async def run() -> None:
        async with alice.connect() as client:
            for _ in range(60):
                with pytest.raises(asyncssh.ChannelListenError):
                    await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0)

    asyncio.run(run())
    until(lambda: "… and 40 more lines like the last of this connection's" in caplog.messages)
    assert sum("does not allow -R" in message for message in caplog.messages) == 20


def test_lines_come_again_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "few")
    now = 0.0
    few = Sparing(logging.getLogger("few"), lambda: now)
    for number in range(30):
        few.info("line %d", number)
    now = 61.0
    few.info("later")
    few.close()
    assert caplog.messages[19:] == ["line 19", "… and 10 more lines like the last of this connection's", "later"]


def test_draining_waits_for_open_forwards_and_takes_no_new_one(tmp_path: Path) -> None:
    with memory_stage(tmp_path) as stage:
        alice = stage.person("alice")

        async def run() -> None:
            async with tcp_service() as port:
                client, idler = await alice.connect(), await alice.connect()
                pair = await client.open_connection("127.0.0.1", port)
                ending = asyncio.create_task(asyncio.to_thread(stage.gateway.wait, stage.gateway.gate.drain(10), 20))
                await idler.wait_closed()
                with pytest.raises(asyncssh.ChannelOpenError) as error:
                    await client.open_connection("127.0.0.1", port)
                assert error.value.code == OPEN_ADMINISTRATIVELY_PROHIBITED
                with pytest.raises(asyncssh.ChannelListenError):
                    await client.start_server(lambda *_: answer_at_end, "127.0.0.1", 0)
                assert not ending.done()
                assert await ask(pair, BIG) == b"got " + BIG
                await client.wait_closed()
                await ending

        asyncio.run(run())
