"""The messages of the guest agent: Python and C agree on every example, and both refuse what is not one."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.guest import ENVIRONMENT, ROOT, SANITIZED, SOURCES, build
from tests.support.guest_text import describe, vectors
from workspaces.errors import GuestProtocolError, InvalidInput
from workspaces.guest import protocol, wire
from workspaces.guest.protocol import decode, encode
from workspaces.guest.wire import Terminal, TermSize


def _ids(row: tuple[str, bytes, str]) -> str:
    return f"{row[2][:30]}-{row[1].hex()[:24]}"


@pytest.mark.parametrize("row", vectors(), ids=_ids)
def test_python_agrees_with_the_vectors(row: tuple[str, bytes, str]) -> None:
    _, packet, text = row
    if text == "invalid":
        with pytest.raises(GuestProtocolError):
            decode(packet)
    else:
        assert describe(decode(packet)) == text
        assert encode(decode(packet)) == packet


def test_c_agrees_with_the_vectors(request: pytest.FixtureRequest) -> None:
    sources = [SOURCES / "codec.c", ROOT / "tests" / "agent_vectors.c"]
    program = build(request.config, "vectors", "gcc", SANITIZED, sources)
    rows = [(packet, text) for direction, packet, text in vectors() if direction == ">"]
    long = b"\x01\x06" + (wire.STRING_MAX + 1).to_bytes(4, "big") + b"x" * (wire.STRING_MAX + 1) + b"\0"
    rows += [(long, "invalid"), (b"\x01\x06" + b"\0" * protocol.MESSAGE_MAX, "invalid"), (b"", "invalid")]
    result = subprocess.run(
        [program],
        input="".join(packet.hex() + "\n" for packet, _ in rows),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [text for _, text in rows]


def test_every_message_has_a_vector() -> None:
    names = {text.split()[0] for _, _, text in vectors()}
    assert names == {kind.__name__.lower() for kind in protocol.MESSAGES.values()} | {"invalid"}


def test_every_cut_and_every_addition_is_refused() -> None:
    for _, packet, text in vectors():
        if text == "invalid":
            continue
        for length in range(len(packet)):
            with pytest.raises(GuestProtocolError):
                decode(packet[:length])
        with pytest.raises(GuestProtocolError):
            decode(packet + b"\0")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for packet in (data, b"\x01" + data, b"\x01\x01" + data):
        try:
            message = decode(packet)
        except GuestProtocolError:
            continue
        assert encode(message) == packet


_bytes = st.binary(max_size=40).map(lambda b: b.replace(b"\0", b""))
_terminals = st.builds(
    Terminal,
    st.builds(TermSize, *[st.integers(0, 65535)] * 4),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1)), max_size=5).map(tuple),
)


@given(st.lists(_bytes, min_size=1, max_size=6), st.lists(_bytes, max_size=6), st.none() | _terminals)
def test_what_is_encoded_is_decoded(args: list[bytes], env: list[bytes], terminal: Terminal | None) -> None:
    message = protocol.Spawn(2, "röot", "", tuple(args), tuple(b"A=" + value for value in env), terminal)
    assert decode(encode(message)) == message


def test_sizes_are_clamped() -> None:
    packet = encode(protocol.Resize(TermSize(2**32 - 1, -1, 65536, 0)))
    assert decode(packet) == protocol.Resize(TermSize(65535, 0, 65535, 0))


@pytest.mark.parametrize(
    "message",
    [
        protocol.Spawn(1, "root", "", (b"a\0b",)),
        protocol.Spawn(1, "root\0", "", (b"a",)),
        protocol.Spawn(1, "root", "", (b"x" * (wire.STRING_MAX + 1),)),
        protocol.Spawn(2, "root", "", (b"x" * 100_000, b"x" * 100_000)),
        protocol.Spawn(2, "root", "", (b"x",) * (wire.ARGS_MAX + 1)),
        protocol.Spawn(0, "root", "", (), (b"A=",) * (wire.ENV_MAX + 1)),
        protocol.Spawn(0, "root", "", (), (b"=A",)),
        protocol.Spawn(0, "root", "", (), (), Terminal(TermSize(1, 1), ((0, 0),) * (wire.MODES_MAX + 1))),
        protocol.Spawn(0, "root", "", (), (), Terminal(TermSize(1, 1), ((256, 0),))),
        protocol.Connect(0, "root", "h", 65536),
        protocol.Answer(1, 0, "x" * (protocol.ASK_BYTES_MAX + 1)),
        protocol.Answer(1, 256, ""),
        protocol.Ask("snapshot", (b"x" * 9000, b"y" * 9000)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_impossible_messages_are_refused_before_they_are_sent(message: protocol.Message) -> None:
    with pytest.raises(InvalidInput):
        encode(message)
