"""What is told when the other end of a half-closed socket goes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from sshgate.hangups import Hangups


async def story() -> None:
    loop = asyncio.get_running_loop()
    hangups = Hangups(loop)
    gone = asyncio.Event()
    ours, theirs = socket.socketpair()
    late, _kept = socket.socketpair()
    with ours, late, _kept:
        theirs.shutdown(socket.SHUT_WR)
        hangups.watch(ours.fileno(), gone.set)
        hangups.watch(late.fileno(), lambda: pytest.fail("its other end is there"))
        await asyncio.sleep(0)
        assert not gone.is_set()
        theirs.close()
        await gone.wait()
        hangups.forget(ours.fileno())
        hangups.forget(late.fileno())
        _kept.close()
    already, closed = socket.socketpair()
    with already:
        closed.close()
        gone.clear()
        hangups.watch(already.fileno(), gone.set)
        await gone.wait()
    hangups.close()
    hangups.watch(0, gone.set)  # at the gateway's end: nothing happens
    hangups.forget(0)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_hangups(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    run(story())
