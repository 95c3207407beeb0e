"""Forwarding through a gateway process into real containers: their loopback, their network, and what an editor does."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.support.engines import CONFIG, TINY, base_image, guest_dir, new_instance, private_engine, tiny_tar
from tests.support.forwards import BIG, ask, free_port, listens, own_agent, socks, tcp_service
from tests.support.gateway import Person, until
from tests.support.gatewayprocess import ProcessStage, docker_stage
from tests.support.netns import Namespace, Servers, host_and_world
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine

__all__ = ["base_image", "guest_dir", "private_engine", "tiny_tar"]

pytestmark = pytest.mark.docker

# An echo server inside, which says its port and then answers once the other half has ended.
ECHO = """\
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 128) or die;
$| = 1; print "listening on ", $server->sockport, "\\n"; $SIG{CHLD} = "IGNORE";
while (my $link = $server->accept) {
    next if fork; my $all = ""; $all .= $_ while <$link>; print $link "got ", $all; exit;
}
"""


ASK = """\
use IO::Socket::INET;
my $link = IO::Socket::INET->new("127.0.0.1:80") or die;
print $link "x"; shutdown $link, 1; print <$link>;
"""


@pytest.fixture(scope="module")
def stage(
    private_engine: PrivateEngine, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessStage]:
    with docker_stage(tmp_path_factory.mktemp("gateway"), private_engine.host, base_image) as made:
        yield made


@pytest.fixture(scope="module")
def alice(stage: ProcessStage) -> Person:
    person = stage.person("alice")
    done = person.run("true")
    assert (done.returncode, done.stderr) == (0, b""), done.stderr + stage.log().encode()
    return person


def gateway_files(stage: ProcessStage) -> int:
    """Its sockets and pipes. A store opens files for each thread that uses it."""
    links = [str(link.readlink()) for link in Path(f"/proc/{stage.process.pid}/fd").iterdir()]
    return sum(link.startswith(("socket:", "pipe:")) for link in links)


@contextmanager
def editor(alice: Person, proxy: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`ssh -T -D PORT gate sh` with a long script on its standard input, which starts a server; the server's port."""
    padding = "".join(f"# a line of a bootstrap script, number {n}\n" for n in range(2000))
    script = f"{padding}cat > /tmp/server.pl <<'END'\n{ECHO}END\nperl /tmp/server.pl &\n"
    command = alice.line("-T", "-D", str(proxy))
    with subprocess.Popen([*command, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin
        assert client.stdout
        try:
            client.stdin.write(script.encode())
            client.stdin.flush()
            said = client.stdout.readline()
            assert said.startswith(b"listening on "), said
            yield client, int(said.split()[-1])
        finally:
            client.kill()


def test_what_an_editor_does(stage: ProcessStage, alice: Person) -> None:
    """As VS Code's Remote-SSH: one session that bootstraps, and many connections through its SOCKS port."""
    proxy = free_port()
    before = gateway_files(stage)

    async def many(port: int) -> list[bytes]:
        async def one(n: int) -> bytes:
            return await ask(await socks(proxy, "127.0.0.1", port), b"%d " % n + BIG[:60_000])

        return await asyncio.gather(*(one(n) for n in range(100)))

    with editor(alice, proxy) as (client, port):
        assert asyncio.run(many(port)) == [b"got %d " % n + BIG[:60_000] for n in range(100)]
        assert not listens(port)  # here
        assert client.stdin
        assert client.stdout
        client.stdin.write(b"echo still; pkill perl\n")
        client.stdin.close()
        assert client.stdout.read().endswith(b"still\n")
    until(lambda: gateway_files(stage) <= before, what="descriptors of the gateway to be closed")


def test_loopback_is_the_containers(alice: Person) -> None:
    """What listens on the gateway's own loopback is not there."""

    async def run() -> None:
        async with tcp_service() as port, alice.connect() as client:
            with pytest.raises(asyncssh.ChannelOpenError, match="Connection refused"):
                await client.open_connection("127.0.0.1", port)
            with pytest.raises(asyncssh.ChannelOpenError, match="No such file"):
                await client.open_unix_connection("/var/run/docker.sock")

    asyncio.run(run())


def own_listeners(stage: ProcessStage) -> list[str]:
    """Lines of /proc/net/tcp for what the gateway's process listens on."""
    links = [link.readlink() for link in Path(f"/proc/{stage.process.pid}/fd").iterdir()]
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [row for row in rows if row.split()[3] == "0A" and Path(f"socket:[{row.split()[9]}]") in links]


def test_a_port_of_root_in_the_container_alone(stage: ProcessStage, alice: Person) -> None:
    async def run() -> None:
        async with tcp_service() as port, alice.connect() as client:
            await client.forward_remote_port("127.0.0.1", 80, "127.0.0.1", port)
            assert not any(row.split()[1].endswith(":0050") for row in own_listeners(stage))
            done = await client.run("perl -", input=ASK)
            assert (done.stdout, done.stderr) == ("got x", "")

    asyncio.run(run())


def test_the_agent_is_lent_to_the_login_user_and_leaves_nothing(alice: Person) -> None:
    look = 'ssh-add -L; stat -c "%a %U" "$SSH_AUTH_SOCK" "${SSH_AUTH_SOCK%/*}"'
    with own_agent(alice) as env:
        done = subprocess.run([*alice.line("-A"), look], env=env, capture_output=True, timeout=30)
    key, *modes = done.stdout.decode().splitlines()
    assert key.startswith("ssh-ed25519 ")
    assert modes == ["600 root", "700 root"]
    until(lambda: alice.run("ls -d /dev/shm/ssh-*").returncode != 0)


def test_an_image_without_xauth_says_so(alice: Person) -> None:
    env = {**os.environ, "DISPLAY": "127.0.0.1:77"}
    done = subprocess.run([*alice.line("-Y"), "echo [$DISPLAY]"], env=env, capture_output=True, timeout=30)
    assert done.stdout == b"[]\n"
    assert b"apt-get install xauth" in done.stderr


# Says a cookie to the display, as any program does that draws, and prints what comes back.
DRAW = """\
use IO::Socket::INET;
my ($display) = $ENV{DISPLAY} =~ /:(\\d+)/;
my ($cookie) = `xauth list` =~ m{/unix:$display .* ([0-9a-f]+)$}m or die "no cookie";
my $link = IO::Socket::INET->new("127.0.0.1:" . (6000 + $display)) or die;
print $link "l\\0\\x0b\\0\\0\\0\\x12\\0\\x10\\0\\0\\0MIT-MAGIC-COOKIE-1\\0\\0", pack("H*", $cookie);
read $link, my $answer, 7; print $answer;
"""


def give_xauth(person: Person) -> None:
    """Put this host's xauth, with the libraries it needs, into the person's container."""
    said = subprocess.run(["ldd", "/usr/bin/xauth"], capture_output=True, text=True, check=True).stdout
    files = ["/usr/bin/xauth", *re.findall(r"=> (/\S+)", said)]
    tar = subprocess.run(["tar", "-chP", *files], capture_output=True, check=True).stdout
    done = person.run("tar -xP --skip-old-files", stdin=tar)
    assert done.returncode == 0, done.stderr


def test_a_display_with_the_images_own_xauth(stage: ProcessStage) -> None:
    """`ssh -Y`: what draws in the container reaches the display with its own cookie; only an invented one was sent."""
    xena, real = stage.person("xena"), "00112233445566778899aabbccddeeff"
    give_xauth(xena)
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as server:
        display = f"127.0.0.1:{server.getsockname()[1] - 6000}"
        env = {**os.environ, "DISPLAY": display, "XAUTHORITY": f"{place}/xauthority"}
        subprocess.run(["xauth", "add", display, "MIT-MAGIC-COOKIE-1", real], env=env, check=True, capture_output=True)
        server.settimeout(20)
        with subprocess.Popen(
            [*xena.line("-Y"), "perl -"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            assert client.stdin
            assert client.stdout
            client.stdin.write(DRAW.encode())
            client.stdin.close()
            link, _ = server.accept()
            with link:
                said = link.recv(100)
                link.sendall(b"welcome")
            assert client.stdout.read() == b"welcome"
    assert said.endswith(bytes.fromhex(real))
    until(lambda: xena.run("ls /tmp/.X11-unix /dev/shm/ssh-*").stdout == b"")


# --- the network "open" ---

PUBLIC = "203.0.113.10"
FORBIDDEN = ("10.99.0.1", "172.16.5.5", "192.168.7.7", "169.254.169.254", "100.64.0.9")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, tiny_tar: Path) -> Iterator[tuple[Namespace, ProcessStage, Person]]:
    """A gateway and an engine on a host of the test's own, before a world that has all of the addresses."""
    with ExitStack() as stack:
        host, world = stack.enter_context(host_and_world((PUBLIC, *FORBIDDEN)))
        private = PrivateEngine(tmp_path_factory.mktemp("apart") / "engine")
        stack.callback(lambda: host.run(private.stop))
        host.run(private.start)
        home = tmp_path_factory.mktemp("gateway")
        with closing(DockerEngine(private.host, home, new_instance())) as engine:
            engine.import_rootfs(tiny_tar, TINY, CONFIG)
        stage = docker_stage(home, private.host, TINY)
        made = host.run(stage.__enter__)
        stack.callback(lambda: host.run(lambda: stage.__exit__(None, None, None)))
        for path in (world.path, host.path):
            stack.callback(Servers(path, (8080,)).close)
        yield host, made, made.person("alice")


def test_a_forward_reaches_what_the_container_may_reach(apart: tuple[Namespace, ProcessStage, Person]) -> None:
    host, _, alice = apart

    async def run() -> tuple[bytes, list[object]]:
        async with alice.connect() as client:
            reader, writer = await client.open_connection(PUBLIC, 8080)
            said: bytes = await reader.read()
            writer.close()
            opening = (
                client.open_connection(address, 8080)
                for address in (*FORBIDDEN, "::ffff:169.254.169.254", "198.51.100.2", "127.0.0.1")
            )
            return said, await asyncio.gather(*opening, return_exceptions=True)

    said, found = host.run(lambda: asyncio.run(run()))
    assert said == b"198.51.100.2"
    assert [type(one) for one in found] == [asyncssh.ChannelOpenError] * len(found)
