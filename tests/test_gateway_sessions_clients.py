"""What a person's client does in a session besides carrying bytes: as sshd answers it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from sshgate.environment import signal_name
from tests.support.gateway import GatewayStage, Person, memory_stage, until
from tests.support.terminal import Terminal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: GatewayStage) -> Person:
    person = stage.person("alice")
    assert person.run("true").returncode == 0
    return person


# --- environment ---


def test_git_knows_who_commits(alice: Person) -> None:
    names = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    wanted = {name: f"Zoë {number} <z@example.org>" for number, name in enumerate(names)}
    bad = ("GIT_SSH_COMMAND", "GIT_EXEC_PATH", "GIT_CONFIG_COUNT", "GIT_AUTHOR_DATE", "LD_LIBRARY_PATH", "LD_AUDIT")
    sent = " ".join(f'{name}="{value}"' for name, value in {**wanted, **dict.fromkeys(bad, "/evil")}.items())
    done = alice.run("env -0", options=("-o", f"SetEnv={sent}"))
    seen = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if "=" in entry)
    assert wanted.items() <= seen.items()
    assert not [name for name in bad if name in seen]


def test_no_variable_that_a_loader_reads_gets_in_by_any_case(alice: Person) -> None:
    async def run() -> str:
        async with alice.connect() as connection:
            sent = {"LD_PRELOAD": "/evil", "ld_preload": "/evil", "LC_ALL\nLD_PRELOAD": "/evil", "": "/evil"}
            return str((await connection.run("env", env=sent)).stdout)

    seen = asyncio.run(run())
    assert "\nLD_" not in seen
    assert "ld_preload" not in seen


@pytest.mark.parametrize(("sent", "seen"), [("xterm-256color", "xterm-256color"), ("\x1b[31m", ""), ("../x", "")])
def test_term_as_a_variable_counts_without_a_terminal(alice: Person, sent: str, seen: str) -> None:
    async def run() -> list[str]:
        async with alice.connect() as connection:
            return [
                str((await connection.run("printenv TERM", env={"TERM": sent}, term_type=term)).stdout).strip()
                for term in (None, "vt100")
            ]

    assert asyncio.run(run()) == [seen, "vt100"]


# --- files ---


@pytest.mark.parametrize("protocol", ["-O", "-s"])
def test_both_protocols_of_scp(alice: Person, tmp_path: Path, protocol: str) -> None:
    (tmp_path / "up").write_bytes(bytes(range(256)) * 1000)
    command = alice.line()
    scp = ["scp", "-q", protocol, *command[1 : command.index("-p")], "-P", str(alice.stage.port)]
    subprocess.run([*scp, f"{tmp_path}/up", f"alice@127.0.0.1:{tmp_path}/there"], check=True, timeout=30)
    subprocess.run([*scp, f"alice@127.0.0.1:{tmp_path}/there", f"{tmp_path}/down"], check=True, timeout=30)
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()


# --- shells and commands ---


def test_a_shell_is_a_login_shell_and_a_command_the_shell_s_c(alice: Person) -> None:
    shell = alice.run(stdin=b"echo $0\n").stdout.decode().strip()
    command = alice.run("echo $0").stdout.decode().strip()
    assert shell == f"-{command}"
    assert "/" not in command


def test_a_command_is_one_line_for_the_shell(alice: Person) -> None:
    done = alice.run("for i in 1 2; do", "echo $i;", "done; echo '  two  spaces'")
    assert done.stdout == b"1\n2\n  two  spaces\n"


@pytest.mark.parametrize("program", ["rsync-that-is-not-there --server", "scp-that-is-not-there -t x"])
def test_a_missing_program_is_the_shell_s_sentence_and_nothing_else(alice: Person, program: str) -> None:
    done = alice.run(program)
    assert (done.returncode, done.stdout) == (127, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"not found" in done.stderr


# --- terminals ---


def test_a_terminal_in_a_pipe(alice: Person) -> None:
    done = alice.run(stdin=b"tty >/dev/null && echo on a terminal\nexit 3\n", options=("-tt",))
    assert done.returncode == 3
    assert b"on a terminal\r\n" in done.stdout
    assert done.stderr == b""


def test_a_command_on_a_terminal_in_a_pipe_reads_to_the_end(alice: Person) -> None:
    done = alice.run("cat; echo end", stdin=b"one\ntwo\n\x04", options=("-tt",))
    assert done.returncode == 0
    assert done.stdout.endswith(b"one\r\ntwo\r\nend\r\n")


def test_a_client_s_own_terminal_settings_come_along(alice: Person) -> None:
    with Terminal(["sh", "-c", 'stty intr ^K erase ^H -ixon; exec "$@"', "sh", *alice.line("-tt")], "stty -a") as done:
        assert done.wait() == 0
        assert b"intr = ^K" in done.seen
        assert b"erase = ^H" in done.seen
        assert b" -ixon" in done.seen


def test_tilde_dot_ends_the_session_and_hangs_the_process_up(alice: Person, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with Terminal(alice.line("-tt"), f"echo $$ > {pid}; echo up; sleep 100") as terminal:
        terminal.expect(rb"up\r\n")
        terminal.send("\r~.")
        assert terminal.wait() == 255
    process = Path("/proc") / pid.read_text().strip()
    until(lambda: not process.exists(), what="the process to be hung up")


def test_a_break_is_granted_on_a_terminal_as_sshd_does(alice: Person) -> None:
    async def run() -> list[Any]:
        async with alice.connect() as connection:
            answers = []
            for term in ("xterm", None):
                process = await connection.create_process("cat", term_type=term)
                answers.append(await process.channel._make_request(b"break", asyncssh.packet.UInt32(500)))
                process.stdin.write("after\n")
                answers.append((await process.stdout.readline()).strip())
                process.channel.abort()
            return answers

    assert asyncio.run(run()) == [True, "after", False, "after"]


# --- signals ---


@pytest.mark.parametrize("name", ["ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM"])
@pytest.mark.parametrize("term", [None, "xterm"], ids=["pipes", "terminal"])
def test_a_client_s_signal_is_told_back_as_what_ended_the_process(alice: Person, name: str, term: str | None) -> None:
    async def run() -> Any:
        async with alice.connect() as connection:
            process = await connection.create_process("ulimit -c 0; exec cat", term_type=term)
            process.stdin.write("up\n")
            for _ in range(2 if term else 1):  # a terminal says it first; the shell, which ignores QUIT, is gone then
                await process.stdout.readline()
            process.send_signal(name)
            return await process.wait()

    done = asyncio.run(run())
    assert done.exit_signal is not None
    assert done.exit_signal[0] == name


@pytest.mark.parametrize(("number", "name"), [("XCPU", "XCPU@openssh.com"), ("34", "RT@openssh.com"), ("USR1", "USR1")])
def test_signals_that_ssh_does_not_know_carry_whose_they_are(alice: Person, number: str, name: str) -> None:
    async def run() -> Any:
        async with alice.connect() as connection:
            return await connection.run(f"ulimit -c 0; kill -{number} $$")

    done = asyncio.run(run())
    assert done.exit_signal is not None
    assert done.exit_signal[0] == name
    assert signal_name(name.partition("@")[0]) == name


def test_control_backslash_and_control_z_are_the_terminal_s(alice: Person) -> None:
    with Terminal(alice.line("-tt"), "trap 'echo quit' QUIT; echo up; while :; do sleep 0.05; done") as terminal:
        terminal.expect(rb"up\r\n")
        terminal.send("\x1c")
        terminal.expect(rb"quit\r\n")


# --- several sessions over one connection ---


def test_sessions_over_one_master_connection(alice: Person, tmp_path: Path) -> None:
    control = ("-o", f"ControlPath={tmp_path}/m")
    master = subprocess.Popen(
        [*alice.line(*control, "-o", "ControlMaster=yes"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        until(lambda: (tmp_path / "m").exists())
        for number in range(3):
            done = alice.run(f"cat; exit {number}", stdin=b"in", options=(*control, "-o", "ControlMaster=no"))
            assert (done.returncode, done.stdout) == (number, b"in")
        assert len([s for s in alice.stage.gateway.gate.servers if s.user == "alice"]) == 1
        out, _ = master.communicate(b"master", timeout=20)
        assert (master.returncode, out) == (0, b"master")
    finally:
        master.kill()
        master.wait()
