"""Options of a key, held to by the gateway: with OpenSSH's client and asyncssh's."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import asyncssh
import pytest

from sshgate.auth import Server
from sshgate.grant import judge_key
from tests.support.gateway import GatewayStage, Person, memory_stage, until, whoami
from workspaces.accounts import parse_key_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStage]:
    with memory_stage(tmp_path_factory.mktemp("gateway")) as made:
        made.person("alice")
        yield made


@pytest.fixture(autouse=True)
def fresh_limits(stage: GatewayStage) -> None:
    stage.gateway.forget_limits()


def with_options(stage: GatewayStage, options: str) -> Person:
    """alice, with a key of hers that has these options."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = stage.home / f"id-{key.get_fingerprint()[7:17].replace('/', '_')}"
    key.write_private_key(path)
    path.chmod(0o600)
    stage.store.add_key("alice", *parse_key_line(f"{options} {key.export_public_key().decode()}"), actor="chief")
    return Person("alice", stage, path)


def said(person: Person, *command: str, options: tuple[str, ...] = (), stdin: str = "") -> str:
    line = person.line(*options)
    return subprocess.run([*line, *command], input=stdin, capture_output=True, timeout=30, text=True).stdout


@pytest.mark.parametrize(
    "options",
    [
        'from="192.0.2.0/24"',
        'from="*,!127.0.0.0/8"',
        'from="!127.0.0.1,127.0.0.*"',
        'expiry-time="20200101"',
    ],
)
def test_who_is_refused(stage: GatewayStage, options: str) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(with_options(stage, options))


@pytest.mark.parametrize("options", ['from="127.0.0.0/8,!127.0.0.2"', 'from="127.?.0.1"', 'expiry-time="20991231"'])
def test_who_is_let_in(stage: GatewayStage, options: str) -> None:
    assert whoami(with_options(stage, options)) == "als/alice alice"


def test_the_moment_of_expiry(stage: GatewayStage) -> None:
    with_options(stage, 'expiry-time="20300101",from="192.0.2.0/24"')
    key = stage.store.keys("alice")[-1]
    expiry = 1893456000

    def judged(address: str, now: float) -> bool:
        return judge_key(stage.store, "alice", key.fingerprint, address, now) is not None

    assert judged("192.0.2.1", expiry - 1)
    assert judged("::ffff:192.0.2.1", expiry - 1)
    assert not judged("192.0.2.1", expiry)
    assert not judged("2001:db8::1", expiry - 1)
    assert judge_key(stage.store, "bob", key.fingerprint, "192.0.2.1", expiry - 1) is None


def test_options_that_cannot_be_read_let_nobody_in(stage: GatewayStage) -> None:
    """Written by a newer version, say."""
    person = with_options(stage, "no-pty")
    key = stage.store.keys("alice")[-1]
    with stage.store._write() as db:
        db.execute("UPDATE keys SET options = 'no-such-thing' WHERE id = ?", [key.id])
    with pytest.raises(asyncssh.PermissionDenied):
        whoami(person)


def test_command(stage: GatewayStage) -> None:
    person = with_options(stage, r'command="printf \"%s|\" forced \"$SSH_ORIGINAL_COMMAND\" $WORKSPACE_USER"')
    assert said(person, "rm", "-rf", "/;", "echo 'a  b' \"$(id)\"") == "forced|rm -rf /; echo 'a  b' \"$(id)\"|alice|"
    assert said(person) == "forced||alice|"
    assert said(person, "sftp", options=("-s",)) == "forced|/usr/lib/openssh/sftp-server|alice|"
    assert said(person, "id", options=("-tt",)) == "forced|id|alice|"  # and no welcome


def test_a_forced_command_reads_and_its_status_comes_back(stage: GatewayStage) -> None:
    person = with_options(stage, 'command="cat; exit 7"')
    done = subprocess.run([*person.line(), "true"], input=b"in", capture_output=True, timeout=30)
    assert (done.stdout, done.returncode) == (b"in", 7)


def test_the_client_cannot_say_what_it_asked_for(stage: GatewayStage) -> None:
    """SSH_ORIGINAL_COMMAND of its own, as an environment request, is not heard."""
    person = with_options(stage, 'command="echo $SSH_ORIGINAL_COMMAND"')
    assert said(person, options=("-oSetEnv=SSH_ORIGINAL_COMMAND=x",)) == "\n"
    free = with_options(stage, "no-pty")
    assert said(free, "echo $SSH_ORIGINAL_COMMAND", options=("-oSetEnv=SSH_ORIGINAL_COMMAND=x",)) == "\n"


def test_forced_sftp_is_sftp_for_whatever_is_asked(stage: GatewayStage) -> None:
    person = with_options(stage, 'restrict,command="internal-sftp"')
    for command in (["id"], [], ["-s", "sftp"]):
        line = person.line()
        given = [*line[:-1], command[0], line[-1], command[1]] if "-s" in command else [*line, *command]
        with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            assert client.stdin
            assert client.stdout
            client.stdin.write(b"\0\0\0\5\1\0\0\0\3")
            client.stdin.flush()
            assert client.stdout.read(9)[4:] == b"\2\0\0\0\3", client.communicate()
            client.kill()


@pytest.mark.parametrize("options", ["no-pty", "restrict"])
def test_no_pty(stage: GatewayStage, options: str) -> None:
    person = with_options(stage, options)
    done = subprocess.run(
        [*person.line("-tt"), "tty"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, text=True
    )
    assert "PTY allocation request failed" in done.stderr
    assert done.stdout == ""
    assert said(person, "tty") == "not a tty\n"
    assert said(with_options(stage, f"{options},pty"), "tty", options=("-tt",)).startswith("/dev/pts/")


def opened(person: Person, host: str, port: int) -> int:
    """The code with which a forwarded connection is refused."""

    async def run() -> int:
        async with person.connect() as connection:
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await connection.open_connection(host, port)
            return int(caught.value.code)

    return asyncio.run(run())


def opened_path(person: Person, path: str) -> int:
    async def run() -> int:
        async with person.connect() as connection:
            with pytest.raises(asyncssh.ChannelOpenError) as caught:
                await connection.open_unix_connection(path)
            return int(caught.value.code)

    return asyncio.run(run())


PROHIBITED = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED


def test_where_connections_may_go(stage: GatewayStage) -> None:
    """Nothing listens at those ports: what is permitted is refused for another reason."""
    limited = with_options(stage, 'permitopen="localhost:1",permitopen="*:2"')
    assert opened(limited, "localhost", 1) != PROHIBITED
    assert opened(limited, "127.0.0.1", 2) != PROHIBITED
    assert opened(limited, "127.0.0.1", 1) == PROHIBITED
    assert opened(limited, "localhost", 3) == PROHIBITED
    assert opened_path(limited, "/nonexistent") == PROHIBITED
    for options in ("restrict", "no-port-forwarding", 'no-port-forwarding,permitopen="localhost:1"'):
        assert opened(with_options(stage, options), "localhost", 1) == PROHIBITED
    free = with_options(stage, "restrict,port-forwarding")
    assert opened(free, "localhost", 1) != PROHIBITED
    assert opened_path(free, "/nonexistent") != PROHIBITED


def test_where_one_may_listen(stage: GatewayStage, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, int]] = []

    def server_requested(self: Server, host: str, port: int) -> bool:
        heard.append((host, port))
        return False

    def unix_server_requested(self: Server, path: str) -> bool:
        heard.append((path, 0))
        return False

    monkeypatch.setattr(Server, "server_requested", server_requested)
    monkeypatch.setattr(Server, "unix_server_requested", unix_server_requested)

    async def run(options: str) -> None:
        async with with_options(stage, options).connect() as connection:
            for host, port in (("localhost", 8080), ("", 8080), ("localhost", 9090), ("localhost", 0)):
                with pytest.raises(asyncssh.ChannelListenError):
                    await connection.forward_remote_port(host, port, "localhost", 1)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_path("/tmp/x", "/tmp/y")

    asyncio.run(run('permitlisten="localhost:8080",permitlisten="9090"'))
    assert heard == [("localhost", 8080), ("localhost", 9090)]
    heard.clear()
    asyncio.run(run("restrict"))
    assert heard == []
    asyncio.run(run("no-pty"))
    assert [port for _, port in heard] == [8080, 8080, 9090, 0, 0]


def test_what_other_code_asks(stage: GatewayStage) -> None:
    """asyncssh's own questions have the answers of the key that logged in."""

    def answers() -> set[str]:
        names = ("pty", "port-forwarding", "agent-forwarding", "X11-forwarding")
        (server,) = [server for server in stage.gateway.gate.servers if server.user]
        return {name for name in names if not server.connection.check_key_permission(name)}

    async def run(options: str) -> set[str]:
        async with with_options(stage, options).connect():
            return await asyncio.to_thread(stage.gateway.call, answers)

    assert asyncio.run(run("no-agent-forwarding")) == {"agent-forwarding"}
    until(lambda: not stage.gateway.gate.servers)
    assert asyncio.run(run("restrict,pty")) == {"port-forwarding", "agent-forwarding", "X11-forwarding"}
