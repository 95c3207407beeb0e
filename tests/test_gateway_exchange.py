"""Clients that begin a key exchange and never go on, before and after authentication."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_OPEN, MSG_KEXINIT, MSG_SERVICE_ACCEPT, MSG_SERVICE_REQUEST
from asyncssh.packet import SSHPacket, String, UInt32

from sshgate import connection
from tests.support.forwards import alice, all_gone, stage
from tests.support.gateway import Person

__all__ = ["alice", "all_gone", "stage"]


class Asking(asyncssh.SSHClientConnection):
    """Asks for the authentication service again and again, without a login, `exchanging` keys or not."""

    exchanging = False

    def _kexinit(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        return None if self._session_id else super()._process_kexinit(pkttype, pktid, packet)

    def _accept(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        del pkttype, pktid, packet
        if self.exchanging:
            self._send_kexinit()
            self._kex_complete = True  # so it goes on although it must not
        self.send_packet(MSG_SERVICE_REQUEST, String("ssh-userauth"))

    _packet_handlers = {  # noqa: RUF012
        **asyncssh.SSHClientConnection._packet_handlers,
        MSG_KEXINIT: _kexinit,
        MSG_SERVICE_ACCEPT: _accept,
    }


@pytest.mark.parametrize("exchanging", [False, True])
def test_the_authentication_service_is_asked_for_without_end(
    alice: Person, exchanging: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an exchange the answers would be put off, and all of them looked at again with each."""
    monkeypatch.setattr(asyncssh.connection, "SSHClientConnection", Asking)
    monkeypatch.setattr(Asking, "exchanging", exchanging)

    async def run() -> None:
        with pytest.raises(asyncssh.ProtocolError, match="key exchange" if exchanging else "too often"):
            await asyncio.wait_for(alice.connect(), 10)

    asyncio.run(run())


def test_answers_put_off_by_a_key_exchange_are_bounded(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "DEFERRED_MAX", 100)

    async def run() -> None:
        client = await alice.connect()
        client._packet_handlers = {**client._packet_handlers, MSG_KEXINIT: lambda *_: True}
        client._send_kexinit()
        client._kex_complete = True  # so it goes on although it must not
        for number in range(200):
            client.send_packet(MSG_CHANNEL_OPEN, String("no-such-type"), UInt32(number), UInt32(1), UInt32(1))
        await asyncio.wait_for(client.wait_closed(), 10)

    asyncio.run(run())
