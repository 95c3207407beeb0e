"""Sessions through the gateway, with real clients: bytes, exit statuses, signals, terminals, environment."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from sshgate import session as session_module
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.terminal import Terminal


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    return person


BINARY = bytes(range(256)) * 64 + b"\xff\xfe\xc3\x28\r\n\0" + os.urandom(1 << 20)


def test_bytes_both_ways_are_exact(alice: Person) -> None:
    done = alice.run("cat", stdin=BINARY)
    assert done.stdout == BINARY
    assert (done.returncode, done.stderr) == (0, b"")


def test_standard_error_is_apart(alice: Person) -> None:
    done = alice.run("cat >&2; echo out", stdin=BINARY)
    assert (done.stdout, done.stderr) == (b"out\n", BINARY)


def test_output_that_follows_the_end_of_input_is_whole(alice: Person) -> None:
    done = alice.run("sha256sum; head -c 3000000 /dev/zero | tr '\\0' x", stdin=BINARY)
    digest, rest = done.stdout.split(b"\n", 1)
    assert digest.split()[0].decode() == hashlib.sha256(BINARY).hexdigest()
    assert rest == b"x" * 3_000_000


@pytest.mark.parametrize("status", [0, 1, 255])
def test_exit_status(alice: Person, status: int) -> None:
    assert alice.run(f"exit {status}").returncode == status


def test_exit_signal(alice: Person) -> None:
    async def run() -> Any:
        async with alice.connect() as connection:
            return await connection.run("echo before; kill -KILL $$")

    done = asyncio.run(run())
    assert done.stdout == "before\n"
    assert done.exit_signal is not None
    assert done.exit_signal[:2] == ("KILL", False)
    assert alice.run("kill -KILL $$").returncode == 255


def test_a_command_is_bytes(alice: Person) -> None:
    odd = b"printf %s '\xff\xfe\xe4 \xc3\xa4' | od -An -tx1"
    done = subprocess.run([*map(os.fsencode, alice.line()), odd], capture_output=True, timeout=30)
    assert done.stdout.split() == [b"ff", b"fe", b"e4", b"20", b"c3", b"a4"]


def test_signals_reach_the_process_and_unknown_ones_nothing(alice: Person) -> None:
    async def run() -> list[str]:
        async with alice.connect() as connection:
            process = await connection.create_process(
                "trap 'echo int' INT; trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.05; done"
            )
            said = [await process.stdout.readline()]
            process.send_signal("NONSENSE")
            process.send_signal("INT")
            said.append(await process.stdout.readline())
            process.send_signal("TERM")
            said.append(await process.stdout.readline())
            said.append(str((await process.wait()).exit_status))
            return said

    assert asyncio.run(run()) == ["up\n", "int\n", "term\n", "7"]


def test_several_sessions_on_one_connection(alice: Person) -> None:
    async def run() -> list[object]:
        async with alice.connect() as connection:
            results = await asyncio.gather(*(connection.run(f"cat; echo {i}", input="x" * 100_000) for i in range(10)))
            return [done.stdout for done in results]

    assert asyncio.run(run()) == ["x" * 100_000 + f"{i}\n" for i in range(10)]


def test_too_many_sessions_on_one_connection_are_refused_one_by_one(alice: Person) -> None:
    async def run() -> tuple[int, int, bool]:
        async with alice.connect() as connection:
            opened = await asyncio.gather(
                *(connection.create_process("cat") for _ in range(40)), return_exceptions=True
            )
            good = [process for process in opened if isinstance(process, asyncssh.SSHClientProcess)]
            refused = [error for error in opened if isinstance(error, asyncssh.ChannelOpenError)]
            for process in good:
                process.stdin.write_eof()
            await asyncio.gather(*(process.wait() for process in good))
            again = await connection.run("echo yes")
            return len(good), len(refused), again.stdout == "yes\n"

    assert asyncio.run(run()) == (20, 20, True)


def test_sessions_that_a_client_closes_make_room_for_one_it_opens_in_the_same_breath(alice: Person) -> None:
    async def run() -> str | None:
        async with alice.connect() as connection:
            opened = await asyncio.gather(*(connection.create_process("cat") for _ in range(20)))
            for process in opened:
                process.channel.abort()
            return str((await connection.run("echo yes")).stdout)

    assert asyncio.run(run()) == "yes\n"


# --- environment ---


def environment_of(person: Person, *options: str) -> dict[str, str]:
    done = person.run("env -0", options=options)
    pairs = [entry.split("=", 1) for entry in done.stdout.decode(errors="replace").split("\0") if "=" in entry]
    return {name: value for name, value in pairs}


def test_harmless_variables_come_through_and_others_do_not(alice: Person) -> None:
    wanted = {"LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "LC_ODD": "ä b", "COLORTERM": "truecolor", "TZ": "UTC"}
    bad = {"LD_PRELOAD": "/evil.so", "PATH": "/evil", "BASH_ENV": "/evil", "LCX": "/evil", "ENV": "/evil"}
    joined = " ".join(f'{name}="{value}"' for name, value in (wanted | bad).items())
    seen = environment_of(alice, "-o", f"SetEnv={joined}")
    assert wanted.items() <= seen.items()
    assert not [name for name, value in seen.items() if "/evil" in value]


def test_what_sshd_sets_is_set(alice: Person) -> None:
    seen = environment_of(alice)
    assert re.fullmatch(rf"127\.0\.0\.1 \d+ 127\.0\.0\.1 {alice.stage.port}", seen["SSH_CONNECTION"])
    assert re.fullmatch(rf"127\.0\.0\.1 \d+ {alice.stage.port}", seen["SSH_CLIENT"])
    assert seen["WORKSPACE"] == "als/alice"
    assert seen["WORKSPACE_USER"] == "alice"
    assert "SSH_TTY" not in seen


def test_a_flood_of_variables_is_bounded(alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as connection:
            many = {f"LC_{i}": "x" * 10 for i in range(500)} | {"LC_LONG": "x" * 5000}
            return str((await connection.run("env", env=many)).stdout)

    seen = asyncio.run(run())
    assert len(re.findall(r"^LC_\d+=", seen, re.MULTILINE)) <= 32
    assert "LC_LONG" not in seen


# --- terminals ---


def test_a_terminal_has_the_client_s_size_and_follows_it(alice: Person) -> None:
    with Terminal(alice.line("-tt"), columns=91, rows=33) as terminal:
        terminal.expect(rb"[#$] $")
        terminal.send("stty size; tty; echo $TERM $SSH_TTY\n")
        assert re.search(rb"33 91\r\n(/dev/pts/\d+)\r\n(\S+) \1\r\n", terminal.expect(rb"\r\n\S+ /dev/pts/\d+\r\n"))
        terminal.resize(columns=132, rows=50)
        terminal.send("until stty size | grep -q 132; do sleep 0.01; done; stty size\n")
        terminal.expect(rb"50 132\r\n")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_a_shell_greets_and_a_command_does_not(alice: Person) -> None:
    with Terminal(alice.line("-tt")) as terminal:
        assert b"als/alice\r\n" in terminal.expect(rb"[#$] $")
        terminal.send("exit\n")
        terminal.wait()
    with Terminal(alice.line("-tt"), "echo only") as terminal:
        assert terminal.wait() == 0
        assert terminal.seen == b"only\r\n"


def test_control_c_interrupts(alice: Person) -> None:
    with Terminal(
        alice.line("-tt"), "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done"
    ) as terminal:
        terminal.expect(rb"up\r\n")
        terminal.send("\x03")
        terminal.expect(rb"caught\r\n")
        assert terminal.wait() == 9


def test_terminal_modes_are_taken(alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as connection:
            modes = {asyncssh.PTY_ECHO: 0, asyncssh.PTY_VERASE: 8}
            done = await connection.run("stty -a", term_type="xterm", term_modes=modes)
            return str(done.stdout)

    said = asyncio.run(run())
    assert re.search(r"(?<!\S)-echo(?!\S)", said)
    assert "erase = ^H" in said


@pytest.mark.parametrize(
    ("asked", "rows_columns"),
    [((0, 0), "0 0"), ((2**32 - 1, 2**32 - 1), "65535 65535"), ((1, 70_000), "65535 1")],
)
def test_impossible_sizes_are_clamped(alice: Person, asked: tuple[int, int], rows_columns: str) -> None:
    async def run() -> str:
        async with alice.connect() as connection:
            return str((await connection.run("stty size", term_type="xterm", term_size=asked)).stdout)

    assert asyncio.run(run()) == f"{rows_columns}\r\n"


@pytest.mark.slow
def test_ten_thousand_resizes_are_few_and_the_last_one_counts(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    original = session_module.Session._send_size

    def counting(self: session_module.Session) -> None:
        sent.append(self)
        original(self)

    monkeypatch.setattr(session_module.Session, "_send_size", counting)

    async def run() -> str:
        async with alice.connect() as connection:
            process = await connection.create_process(
                "until stty size | grep -q 123; do sleep 0.01; done; stty size", term_type="xterm", term_size=(80, 24)
            )
            for i in range(10_000):
                process.change_terminal_size(200 + i % 100, 50)
            process.change_terminal_size(123, 45)
            return str((await process.wait()).stdout)

    assert asyncio.run(run()) == "45 123\r\n"
    assert len(sent) < 500


@pytest.mark.parametrize("term", ["", "\x1b[31m", "x" * 65, "../../etc"])
def test_a_terminal_s_name_that_cannot_be_one(alice: Person, term: str) -> None:
    async def run() -> str:
        async with alice.connect() as connection:
            return str((await connection.run("echo $TERM", term_type=term or "\t")).stdout)

    assert asyncio.run(run()) == "dumb\r\n"


def test_hang_up_of_a_client_that_is_killed(alice: Person, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # what nohup does, done before the fork: the signal may come before nohup has begun
    command = f"echo $$ > {pids}; (trap '' HUP; sleep 300 >/dev/null 2>&1 & echo $! >> {pids}); exec yes"
    client = subprocess.Popen([*alice.line("-tt"), command], stdout=subprocess.DEVNULL, stdin=subprocess.PIPE)
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    process, kept = map(int, pids.read_text().split())
    try:
        client.kill()
        client.wait()
        until(lambda: not Path(f"/proc/{process}").exists(), what="the process to be hung up")
        assert Path(f"/proc/{kept}").exists()
    finally:
        os.kill(kept, signal.SIGKILL)


# --- what is refused ---


def test_no_second_terminal_and_no_second_shell(alice: Person) -> None:
    async def run() -> list[object]:
        async with alice.connect() as connection:
            process = await connection.create_process("cat", term_type="xterm")
            channel = process.channel
            answers: list[object] = [
                await channel._make_request(b"pty-req", *pty_request()),
                await channel._make_request(b"shell"),
                await channel._make_request(b"exec", asyncssh.packet.String("id")),
                await channel._make_request(b"subsystem", asyncssh.packet.String("sftp")),
            ]
            process.stdin.write("still here\n")
            answers.append((await process.stdout.readline()).strip())
            return answers

    assert asyncio.run(run()) == [False, False, False, False, "still here"]


def pty_request() -> list[bytes]:
    packet = asyncssh.packet
    return [packet.String("xterm"), *(packet.UInt32(1) for _ in range(4)), packet.String(b"\0")]


@pytest.mark.parametrize("request_name", ["x11-req", "auth-agent-req@openssh.com", "nonsense", "break"])
def test_requests_that_are_not_granted_once_the_process_runs(alice: Person, request_name: str) -> None:
    packet = asyncssh.packet
    bodies = {
        "x11-req": [packet.Boolean(False), packet.String("MIT-MAGIC-COOKIE-1"), packet.String("00"), packet.UInt32(0)],
        "break": [packet.UInt32(500)],
    }

    async def run() -> object:
        async with alice.connect() as connection:
            process = await connection.create_process("cat")
            return await process.channel._make_request(request_name.encode(), *bodies.get(request_name, []))

    assert asyncio.run(run()) is False


def test_a_nul_in_a_command_is_refused(alice: Person) -> None:
    async def run() -> None:
        async with alice.connect() as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("echo a\0b")

    asyncio.run(run())


# --- sftp ---


def test_sftp_or_a_clear_sentence(alice: Person, tmp_path: Path) -> None:
    """The fast tests run in this host's own file system, which may have no sftp-server."""
    source = tmp_path / "source"
    source.write_bytes(BINARY)
    command = alice.line()
    scp = ["scp", "-q", *command[1 : command.index("-p")], "-P", str(alice.stage.port)]
    done = subprocess.run([*scp, str(source), f"alice@127.0.0.1:{tmp_path}/target"], capture_output=True, timeout=30)
    if Path("/usr/lib/openssh/sftp-server").exists():
        assert (done.returncode, (tmp_path / "target").read_bytes()) == (0, BINARY)
    else:
        assert b"nor its host has an sftp-server" in done.stderr
        assert done.returncode != 0


# --- rekeying ---


def test_a_new_key_each_megabyte_loses_nothing(alice: Person) -> None:
    done = alice.run("cat", stdin=BINARY * 8, options=("-o", "RekeyLimit=1M"))
    assert done.stdout == BINARY * 8


def test_nobody_waits_for_a_client_that_reads_slowly(alice: Person) -> None:
    async def run() -> float:
        async with alice.connect() as slow, alice.connect() as other:
            process = await slow.create_process("head -c 5000000 /dev/zero", encoding=None)
            process.stdout.channel.pause_reading()
            begun = time.monotonic()
            assert (await other.run("echo quick")).stdout == "quick\n"
            taken = time.monotonic() - begun
            process.stdout.channel.resume_reading()
            assert len(await process.stdout.read()) == 5_000_000
            return taken

    assert asyncio.run(run()) < 5
