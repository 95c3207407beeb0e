"""The clients that are not OpenSSH: PuTTY's programs, dropbear's, paramiko, libssh2, and how editors use them."""

from __future__ import annotations

import os
import random
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
import ssh2.session
import ssh2.sftp

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
from tests.support.gateway import PASSWORD, Person
from tests.support.terminal import Terminal

__all__ = ["alice", "base_image", "guest_dir", "laptop", "nothing_left", "private_engine", "quiet", "stage"]

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("nothing_left")]

BINARY = bytes(range(256)) * 64 + b"\xff\xfe\xc3\x28\r\n\0~."


# --- PuTTY ---


@pytest.fixture
def putty(laptop: Laptop) -> list[str]:
    """Options that stand for a saved session: key and known host key, no questions."""
    laptop.run("puttygen", str(laptop.person.key), "-O", "private", "-o", "id.ppk")
    return ["-batch", "-hostkey", laptop.host_key, "-i", "id.ppk", "-P", laptop.port]


def test_plink_carries_bytes_and_exit_status(laptop: Laptop, putty: list[str]) -> None:
    data = BINARY + os.urandom(3_000_000)
    done = laptop.run("plink", *putty, laptop.address, "cat; echo err >&2; exit 9", stdin=data, status=9)
    assert (done.stdout, done.stderr) == (data, b"err\n")


def test_plink_with_a_password(laptop: Laptop, putty: list[str]) -> None:
    key = putty.index("-i")
    line = [*putty[:key], *putty[key + 2 :], "-pw", PASSWORD]
    assert laptop.run("plink", *line, laptop.address, "echo in").stdout == b"in\n"


def test_plink_on_a_terminal(laptop: Laptop, putty: list[str]) -> None:
    putty[putty.index("-i") + 1] = str(laptop.home / "id.ppk")
    with Terminal(["plink", *putty, laptop.address], columns=91, rows=33) as terminal:
        terminal.expect(rb"[#$] $")
        terminal.send("stty size; tty\n")
        terminal.expect(rb"33 91\r\n/dev/pts/\d+")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


@pytest.mark.parametrize("protocol", ["-sftp", "-scp"])
def test_pscp_copies_a_tree_up_and_down(laptop: Laptop, putty: list[str], protocol: str) -> None:
    plant(laptop.home / "tree")
    (laptop.home / "tree/a name with 'quotes', ünïcödé and $(blanks)").rename(laptop.home / "tree/a name with blanks")
    sent = contents(laptop.home / "tree")
    laptop.run("pscp", *putty, protocol, "-q", "-r", "tree", f"{laptop.address}:")
    assert contents(laptop.there("tree")) == sent
    laptop.run("pscp", *putty, protocol, "-q", "-r", f"{laptop.address}:tree", "back")
    assert contents(laptop.home / "back") == sent
    laptop.run("pscp", *putty, protocol, "-q", "-unsafe", f"{laptop.address}:tree/pro*", ".")
    assert (laptop.home / "program").read_text().startswith("#!/bin/sh")


def contents(path: Path) -> dict[str, str]:
    return {name: content for name, (_, _, content) in tree(path).items()}


def test_psftp_does_what_a_batch_says(laptop: Laptop, putty: list[str]) -> None:
    source = random_file(laptop.home / "source", 3_000_000)
    laptop.put("half", source.read_bytes()[:1_000_000])
    (laptop.home / "batch").write_text(
        "mkdir d\ncd d\nput source first\nmv first second\nchmod 600 second\nls\nget second back\n"
        "cd ..\nreput source half\ndel d/second\nrmdir d\nquit\n"
    )
    laptop.run("psftp", *putty, "-b", "batch", laptop.address)
    assert digest(laptop.home / "back") == digest(laptop.there("half")) == digest(source)
    assert not laptop.there("d").exists()


# --- dropbear ---


@pytest.fixture
def dropbear(laptop: Laptop) -> list[str]:
    laptop.run("dropbearconvert", "openssh", "dropbear", str(laptop.person.key), str(laptop.home / "id_dropbear"))
    known = laptop.home / ".ssh/known_hosts"
    known.write_text(" ".join(["127.0.0.1", *laptop.person.stage.known_hosts.read_text().split()[1:3]]) + "\n")
    return ["dbclient", "-i", str(laptop.home / "id_dropbear"), "-p", laptop.port]


def test_dbclient_carries_bytes_and_exit_status(laptop: Laptop, dropbear: list[str]) -> None:
    data = BINARY + os.urandom(3_000_000)
    done = laptop.run(*dropbear, laptop.address, "cat; echo err >&2; exit 9", stdin=data, status=9)
    assert (done.stdout, done.stderr) == (data, b"err\n")


def test_dbclient_on_a_terminal(laptop: Laptop, dropbear: list[str]) -> None:
    home = f"HOME={laptop.home}"
    with Terminal(["env", home, *dropbear, laptop.address], columns=91, rows=33) as terminal:
        terminal.expect(rb"[#$] $")
        terminal.send("stty size; exit 5\n")
        terminal.expect(rb"33 91\r\n")
        assert terminal.wait() == 5


@pytest.mark.parametrize("command", ["yes", "echo up; exec cat > /dev/null", "echo up; exec sleep 1000"])
def test_clients_that_are_killed_in_the_midst(
    laptop: Laptop, putty: list[str], dropbear: list[str], command: str
) -> None:
    """What is left of them is looked at after the test."""
    putty[putty.index("-i") + 1] = str(laptop.home / "id.ppk")
    for line in (["plink", *putty, laptop.address], [*dropbear, laptop.address], laptop.ssh("gate")):
        with laptop.popen(*line, command) as client:
            assert client.stdin
            assert client.stdout
            assert client.stdout.read(1)
            os.set_blocking(client.stdin.fileno(), False)
            os.write(client.stdin.fileno(), bytes(60_000))
            client.kill()


# --- paramiko ---


@contextmanager
def by_paramiko(laptop: Laptop) -> Iterator[paramiko.SSHClient]:
    client = paramiko.SSHClient()
    client.load_host_keys(str(laptop.person.stage.known_hosts))
    client.connect(
        "127.0.0.1",
        int(laptop.port),
        laptop.person.name,
        key_filename=str(laptop.person.key),
        allow_agent=False,
        look_for_keys=False,
    )
    try:
        yield client
    finally:
        client.close()


def test_paramiko_runs_commands_on_many_channels(laptop: Laptop) -> None:
    with by_paramiko(laptop) as client, ThreadPoolExecutor(15) as pool:

        def one(number: int) -> tuple[bytes, bytes, int]:
            given, out, err = client.exec_command(f"cat; echo {number} >&2; exit {number}")
            given.write(BINARY * 20)
            given.channel.shutdown_write()
            return out.read(), err.read(), out.channel.recv_exit_status()

        found = list(pool.map(one, range(45)))
    assert found == [(BINARY * 20, f"{number}\n".encode(), number) for number in range(45)]


def test_paramiko_s_shell(laptop: Laptop) -> None:
    with by_paramiko(laptop) as client:
        channel = client.invoke_shell(width=100, height=40)
        channel.settimeout(10)
        channel.send(b"stty size\n")
        read_until(channel, b"40 100\r\n")
        channel.resize_pty(120, 50)
        channel.send(b"until stty size | grep -q 120; do sleep 0.01; done; stty size; exit 3\n")
        read_until(channel, b"50 120\r\n")
        assert channel.recv_exit_status() == 3


def read_until(channel: paramiko.Channel, what: bytes) -> None:
    seen = b""
    while what not in seen:
        more = channel.recv(4096)
        assert more, seen
        seen += more


def test_paramiko_s_sftp(laptop: Laptop) -> None:
    source = random_file(laptop.home / "source", 8_000_000)
    with by_paramiko(laptop) as client, client.open_sftp() as sftp:
        sftp.mkdir("d", 0o700)
        sftp.put(str(source), "d/first")
        sftp.posix_rename("d/first", "d/second")
        sftp.symlink("second", "d/link")
        sftp.truncate("d/second", 7_000_000)
        sftp.utime("d/second", (1_700_000_000, 1_700_000_001))
        found = {entry.filename: entry for entry in sftp.listdir_attr("d")}
        assert sftp.readlink("d/link") == "second"
        assert sftp.normalize(".") == "/root"
        sftp.get("d/link", str(laptop.home / "back"))
        with sftp.open("d/second", "r+b") as file:
            file.seek(-3, os.SEEK_END)
            file.write(b"end")
        with pytest.raises(FileNotFoundError):
            sftp.stat("d/absent")
        with pytest.raises(OSError, match="Failure"):
            sftp.rmdir("d")
    assert (found["second"].st_size, found["second"].st_mtime) == (7_000_000, 1_700_000_001)
    assert stat.S_ISLNK(found["link"].st_mode or 0)
    assert (laptop.home / "back").read_bytes() == source.read_bytes()[:7_000_000]
    assert laptop.there("d/second").read_bytes() == source.read_bytes()[:6_999_997] + b"end"


def test_files_and_commands_over_one_connection(laptop: Laptop) -> None:
    """As JetBrains' programs do it: look, upload a server, make it runnable, start it, look at its files meanwhile."""
    server = b'#!/bin/sh\necho ready > state; while read line; do echo "served $line"; done; echo bye\n'
    payload = random_file(laptop.home / "payload", 10_000_000)
    with by_paramiko(laptop) as client:
        assert client.exec_command("uname -sm; echo $SHELL")[1].read().startswith(b"Linux ")
        with client.open_sftp() as sftp, ThreadPoolExecutor(1) as pool:
            with sftp.open("server", "wb") as file:
                file.write(server)
            sftp.chmod("server", 0o755)
            given, out, _ = client.exec_command("./server")
            upload = pool.submit(sftp.put, str(payload), "payload")
            for number in range(200):
                given.write(f"{number}\n".encode())
                given.flush()
                assert out.readline() == f"served {number}\n"
            assert upload.result(30).st_size == 10_000_000
            with sftp.open("state") as file:
                assert file.read() == b"ready\n"
            given.channel.shutdown_write()
            assert out.read() == b"bye\n"
            assert out.channel.recv_exit_status() == 0
    assert digest(laptop.there("payload")) == digest(payload)


# --- a program at both ends of one long-lived command ---


def test_requests_and_answers_over_one_long_lived_command(laptop: Laptop) -> None:
    """As Mutagen and other synchronisers do it: scp an agent, run it, speak a binary protocol until one side ends."""
    (laptop.home / "agent").write_text("#!/bin/sh\nexec cat\n")
    (laptop.home / "agent").chmod(0o755)
    laptop.run("scp", "-F", str(laptop.config), "-C", "-p", "agent", "gate:.agent")
    options = ["-C", "-oConnectTimeout=5", "-oServerAliveInterval=10", "-oServerAliveCountMax=1"]
    numbers = random.Random(3)
    with laptop.popen(*laptop.ssh(*options, "gate", "./.agent synchronizer")) as client:
        assert client.stdin
        assert client.stdout
        for _ in range(300):
            frame = numbers.randbytes(numbers.choice((1, 7, 100, 5_000, 60_000)))
            client.stdin.write(frame)
            client.stdin.flush()
            assert client.stdout.read(len(frame)) == frame
        out, err = client.communicate(timeout=10)
    assert (client.returncode, out, err) == (0, b"", b"")
    laptop.there(".agent").unlink()


# --- libssh2 ---


@contextmanager
def by_libssh2(person: Person) -> Iterator[Any]:
    with socket.create_connection(("127.0.0.1", person.stage.port), 20) as link:
        session = ssh2.session.Session()
        session.handshake(link)
        session.userauth_publickey_fromfile(person.name, str(person.key))
        yield session
        session.disconnect()


def read_all(channel: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        size, data = channel.read(65536)
        if size == 0:
            return b"".join(parts)
        parts.append(data)


def test_libssh2_runs_commands(laptop: Laptop) -> None:
    data = BINARY * 3
    with by_libssh2(laptop.person) as session:
        for number in range(3):
            channel = session.open_session()
            channel.execute(f"cat; exit {number}")
            channel.write(data)
            channel.send_eof()
            assert read_all(channel) == data
            channel.wait_eof()
            channel.close()
            channel.wait_closed()
            assert channel.get_exit_status() == number


def test_libssh2_carries_files_by_sftp_and_scp(laptop: Laptop) -> None:
    data = os.urandom(3_000_000)
    with by_libssh2(laptop.person) as session:
        sftp = session.sftp_init()
        flags = ssh2.sftp.LIBSSH2_FXF_CREAT | ssh2.sftp.LIBSSH2_FXF_WRITE
        with sftp.open("by-sftp", flags, 0o644) as file:
            file.write(data)
        with sftp.open("by-sftp", ssh2.sftp.LIBSSH2_FXF_READ, 0) as file:
            assert b"".join(part for _, part in file) == data
        channel = session.scp_send64("by-scp", 0o600, len(data), 0, 0)
        channel.write(data)
        channel.send_eof()
        channel.wait_eof()
        channel.close()
        channel.wait_closed()
        channel, info = session.scp_recv2("by-scp")
        assert info.st_size == len(data)
        back = b""
        while len(back) < len(data):
            back += channel.read(min(65536, len(data) - len(back)))[1]
    assert back == data == laptop.there("by-sftp").read_bytes() == laptop.there("by-scp").read_bytes()


@pytest.mark.parametrize("protocol", ["sftp", "scp"])
def test_curl_carries_files(laptop: Laptop, protocol: str) -> None:
    """Debian's curl has a libssh2 from before encrypt-then-MAC."""
    source = random_file(laptop.home / "source", 3_000_000)
    public = laptop.home / "id.pub"
    public.write_bytes(laptop.run("ssh-keygen", "-y", "-f", str(laptop.person.key)).stdout)
    identity = ["--key", str(laptop.person.key), "--pubkey", str(public), "-u", f"{laptop.person.name}:"]
    trust = ["--hostpubsha256", laptop.host_key.removeprefix("SHA256:")]
    url = f"{protocol}://127.0.0.1:{laptop.port}/root/by-curl"
    laptop.run("curl", "-sS", *identity, *trust, "-T", "source", url)
    laptop.run("curl", "-sS", *identity, *trust, "-o", "back", url)
    assert digest(laptop.home / "back") == digest(laptop.there("by-curl")) == digest(source)
