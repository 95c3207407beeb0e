"""OpenSSH's own programs as people and scripts use them: ssh, scp, sftp, tar pipes, one connection for many."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.clients import (
    Laptop,
    alice,
    base_image,
    digest,
    guest_dir,
    laptop,
    nothing_left,
    plant,
    private_engine,
    quiet,
    random_file,
    stage,
    tree,
)
from tests.support.gateway import until
from tests.support.terminal import Terminal

__all__ = ["alice", "base_image", "guest_dir", "laptop", "nothing_left", "private_engine", "quiet", "stage"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("nothing_left")]

BOTH_PROTOCOLS = pytest.mark.parametrize("protocol", ["-s", "-O"], ids=["sftp", "old"])


def scp(laptop: Laptop, *arguments: str) -> None:
    laptop.run("scp", "-F", str(laptop.config), "-q", *arguments)


def sftp(laptop: Laptop, batch: str) -> str:
    """Run a batch, which ends at the first command that fails; returns what it printed."""
    return laptop.run("sftp", "-F", str(laptop.config), "-b", "-", "gate", stdin=batch.encode()).stdout.decode()


# --- files ---


@BOTH_PROTOCOLS
def test_scp_copies_a_tree_up_and_down(laptop: Laptop, protocol: str) -> None:
    sent = plant(laptop.home / "tree")
    scp(laptop, protocol, "-rp", "tree", "gate:")
    assert tree(laptop.there("tree")) == sent
    scp(laptop, protocol, "-rp", "gate:tree", "back")
    assert tree(laptop.home / "back") == sent


@BOTH_PROTOCOLS
def test_scp_takes_wildcards_and_names_with_blanks(laptop: Laptop, protocol: str) -> None:
    for name in ("one.dat", "two.dat", "other.txt", "with blank.dat"):
        laptop.put(name, name.encode())
    (laptop.home / "here").mkdir()
    scp(laptop, protocol, "gate:*.dat", "here")
    assert sorted(os.listdir(laptop.home / "here")) == ["one.dat", "two.dat", "with blank.dat"]
    quoted = "'up here'" if protocol == "-O" else "up here"  # the old protocol's name goes through a shell
    scp(laptop, protocol, "here/with blank.dat", f"gate:{quoted}")
    assert laptop.there("up here").read_text() == "with blank.dat"


@BOTH_PROTOCOLS
def test_scp_of_a_file_that_is_not_there(laptop: Laptop, protocol: str) -> None:
    done = laptop.run("scp", "-F", str(laptop.config), protocol, "gate:absent", ".", status=1)
    assert b"No such file or directory" in done.stderr


def test_scp_from_the_workspace_to_the_workspace(laptop: Laptop) -> None:
    laptop.put("a", os.urandom(1_000_000))
    scp(laptop, "-3", "gate:a", "gate:b")
    assert digest(laptop.there("b")) == digest(laptop.there("a"))


def test_sftp_does_what_a_batch_says(laptop: Laptop) -> None:
    source = random_file(laptop.home / "source", 2_000_000)
    said = sftp(
        laptop,
        f"""mkdir d
        cd d
        put {source} first
        rename first second
        chmod 640 second
        symlink second link
        ln second hard
        ls -l
        get link {laptop.home}/back
        put {source} *.dat
        put {source} x.dat
        lcd {laptop.home}
        mget *.dat
        df -h .
        rm hard
        rm *.dat
        -rmdir absent
        pwd
        """,
    )
    there = laptop.there("d")
    assert sorted(os.listdir(there)) == ["link", "second"]
    assert (there / "link").readlink() == Path("second")
    assert oct((there / "second").stat().st_mode)[-3:] == "640"
    assert "Remote working directory: /root/d" in said
    assert [digest(laptop.home / name) for name in ("back", "x.dat", "*.dat")] == [digest(source)] * 3


def test_sftp_resumes_in_both_directions(laptop: Laptop) -> None:
    source = random_file(laptop.home / "source", 5_000_000)
    laptop.put("half", source.read_bytes()[:2_345_678])
    (laptop.home / "back").write_bytes(source.read_bytes()[:1_234_567])
    sftp(laptop, f"reput {source} half\nreget half {laptop.home}/back\n")
    assert [digest(laptop.there("half")), digest(laptop.home / "back")] == [digest(source)] * 2


def test_sftp_names_that_are_no_text(laptop: Laptop) -> None:
    odd = b"odd-\xff\xfe\xc3\x28"
    Path(os.fsdecode(bytes(laptop.there("")) + b"/" + odd)).write_text("content")
    (laptop.home / "down").mkdir()
    sftp(laptop, f"get odd-* {laptop.home}/down/\n")
    assert os.listdir(bytes(laptop.home / "down")) == [odd]


def test_tar_through_a_pipe_up_and_down(laptop: Laptop) -> None:
    sent = plant(laptop.home / "tree")
    os.symlink("deep/er/file", laptop.home / "tree/link")
    sent = tree(laptop.home / "tree")
    laptop.run("sh", "-c", f"tar c tree | ssh -F {laptop.config} gate tar x")
    assert tree(laptop.there("tree")) == sent
    (laptop.home / "back").mkdir()
    laptop.run("sh", "-c", f"ssh -F {laptop.config} gate tar cz tree | tar xz -C back")
    assert tree(laptop.home / "back/tree") == sent


@pytest.fixture
def no_sftp_server(laptop: Laptop) -> Iterator[None]:
    server = laptop.root / "usr/lib/openssh/sftp-server"
    server.rename(server.with_name("aside"))
    yield
    server.with_name("aside").rename(server)


@pytest.mark.usefixtures("no_sftp_server")
def test_an_image_without_sftp_server_has_sftp_and_scp(laptop: Laptop) -> None:
    source = random_file(laptop.home / "source", 100_000)
    sftp(laptop, f"put {source} by-sftp\n")
    scp(laptop, "-s", "source", "gate:by-scp")
    scp(laptop, "-O", "source", "gate:by-old-scp")
    for name in ("by-sftp", "by-scp", "by-old-scp"):
        assert digest(laptop.there(name)) == digest(source)


# --- commands ---


def test_a_script_of_many_lines_comes_through_standard_input(laptop: Laptop) -> None:
    """As editors start their servers: the shell must take of its input no more than it needs."""
    lines = "".join(f": {'x' * 90} {i}\n" for i in range(5_000))
    done = laptop.run(
        *laptop.ssh("-T", "gate", "bash"), stdin=f"read first\nword\n{lines}echo $first\nexit 4\n".encode(), status=4
    )
    assert done.stdout == b"word\n"


def test_a_loop_with_dash_n_keeps_its_input(laptop: Laptop) -> None:
    done = laptop.run("sh", "-c", f"while read x; do ssh -n -F {laptop.config} gate echo $x; done", stdin=b"a\nb\nc\n")
    assert done.stdout == b"a\nb\nc\n"


def test_dash_f_goes_to_the_background_and_the_command_runs_on(laptop: Laptop) -> None:
    laptop.run(*laptop.ssh("gate", "mkfifo go"))
    log = laptop.home / "log"
    with log.open("wb") as out:
        command = laptop.ssh("-f", "gate", "echo up; cat go; echo done")
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, timeout=20)
    until(lambda: log.read_bytes() == b"up\n", what="the command to start")
    laptop.run(*laptop.ssh("gate", "echo went > go"))
    until(lambda: log.read_bytes() == b"up\nwent\ndone\n", what="the rest of its output")


def test_a_terminal_although_standard_input_is_a_pipe(laptop: Laptop) -> None:
    done = laptop.run(*laptop.ssh("-tt", "gate"), stdin=b"tty; stty -echo\necho $((6*7))\nexit 3\n", status=3)
    assert b"/dev/pts/" in done.stdout
    assert b"42\r\n" in done.stdout
    assert laptop.run(*laptop.ssh("-tt", "gate", "tty; echo end"), stdin=b"").stdout.endswith(b"end\r\n")


def test_the_escape_that_hangs_up(laptop: Laptop) -> None:
    with Terminal(laptop.ssh("gate")) as terminal:
        terminal.expect(rb"[#$] $")
        terminal.send("~?")  # not after a newline: typed to the shell
        terminal.expect(rb"~\?")
        terminal.send("\x15sleep 1000\n~#")
        terminal.expect(rb"following connections are open:\r\n\s+#0")
        terminal.send("\n~.")
        assert terminal.wait() == 255
        assert b"closed" in terminal.seen


def test_script_records_inside(laptop: Laptop) -> None:
    with Terminal(laptop.ssh("-t", "gate", "script -q -c 'tty; exit 6' -e typescript")) as terminal:
        assert terminal.wait() == 6
    assert b"/dev/pts/" in laptop.there("typescript").read_bytes()


def test_tmux_outlives_its_session_and_is_found_again(laptop: Laptop) -> None:
    with Terminal(laptop.ssh("-t", "gate", "tmux new -s work"), columns=90, rows=30) as terminal:
        terminal.expect(rb"\[work\]")
        terminal.send("echo $((20+3)) columns $(tput cols)\r")
        terminal.expect(rb"23 columns 90")
        terminal.send("\x02d")
        assert terminal.wait() == 0
    assert laptop.run(*laptop.ssh("gate", "tmux ls")).stdout.startswith(b"work: 1 windows")
    with Terminal(laptop.ssh("-t", "gate", "tmux attach"), columns=70, rows=20) as terminal:
        terminal.expect(rb"23 columns 90")
    assert laptop.run(*laptop.ssh("gate", "tmux kill-server; rm -rf /tmp/tmux-*")).stderr == b""


# --- one connection for many ---


def test_ten_sessions_over_one_connection(laptop: Laptop) -> None:
    shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={laptop.home}/m"]
    source = random_file(laptop.home / "source", 500_000)
    laptop.run(*laptop.ssh(*shared, "gate", "true"))

    def one(number: int) -> tuple[bytes, int]:
        done = laptop.run(*laptop.ssh(*shared, "gate", f"cat; exit {number}"), stdin=source.read_bytes(), status=number)
        return done.stdout, done.returncode

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(one, range(10))) == [(source.read_bytes(), number) for number in range(10)]
    with Terminal(laptop.ssh(*shared, "gate")) as terminal:
        terminal.expect(rb"[#$] $")
        scp(laptop, *shared, "source", "gate:by-scp")
        assert digest(laptop.there("by-scp")) == digest(source)
        terminal.send("exit 7\n")
        assert terminal.wait() == 7
    addresses = {laptop.run(*laptop.ssh(*shared, "gate", "echo $SSH_CLIENT")).stdout for _ in range(3)}
    assert len(addresses) == 1
    laptop.run(*laptop.ssh(*shared, "-O", "exit", "gate"))
