"""What is measured on: a throw-away state directory with an engine of its own, people with containers, the peers.

world() ─► the demonstration's stage up to a first login ─► two sshd ─► World
        ◄─ whatever happens: sshd, gateway, containers, engine and directory are removed again
"""

from __future__ import annotations

import resource
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers import BARE, CIPHERS, EXEC, FORCED, GATEWAY, ExecPeer, Peer, Person, SshPeer
from bench.servers import Servers
from bench.sshd import Sshd, separation
from bench.turns import timed
from workspaces.demo import story
from workspaces.demo.stage import MARK, Stage, free_port, tear_down
from workspaces.engine.base import LABEL_WORKSPACE
from workspaces.engine.private import PrivateEngine

CONTAINERS = 10  # as many people share what the figures with many sessions open, since an account may open 64
FILES = 8192  # descriptors: three for each session
KEYS = {"maxkeys": 20_000, "maxbytes": 2_000_000}
INSIDE = "/root"  # a directory of the container
STEPS = 6  # of the demonstration: up to a first login


@dataclass
class World:
    """The peers, by name, and what their servers take. `scratch` is a directory of this host for files."""

    stage: Stage
    peers: dict[str, Peer]
    servers: Servers
    scratch: Path
    people: list[Person]
    sshd: tuple[Sshd, ...]
    engine: str  # unix://…, of all containers

    @property
    def gateway(self) -> Peer:
        return self.peers[GATEWAY]

    def everybody(self) -> int:
        """Let more people in, each with a running container. Returns how many there are, alice with them."""
        while len(self.people) < CONTAINERS:
            name = f"person{len(self.people)}"
            key = self.stage.home / f"{name}_ed25519"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
            self.stage.command("user", "add", name, "--challenge", "als", "--key", f"{key}.pub")
            person = Person(name, key, self.people[0].container.removesuffix("alice") + name)
            for server in self.sshd:
                server.admit(person)
            self.people.append(person)
            timed(self.gateway.line("true", person=len(self.people) - 1))
        return len(self.people)

    def inside(self, script: str) -> None:
        """Run a script in the first person's container; nobody measures it."""
        timed(self.peers[EXEC].line(script))


@contextmanager
def _keys() -> Iterator[None]:
    """Let an unprivileged user of this host own keyrings for a few hundred `docker exec`, each of which makes one.

    Where root in containers is such a user, the kernel's usual 200 are the end. The gateway needs none.
    """
    limits = {Path("/proc/sys/kernel/keys") / name: value for name, value in KEYS.items()}
    before = {path: path.read_text(encoding="ascii") for path in limits}
    try:
        for path, value in limits.items():
            path.write_text(str(max(value, int(before[path]))), encoding="ascii")
        yield
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="ascii")


@contextmanager
def world(say: Callable[[str], None]) -> Iterator[World]:
    """Everything that is measured, started; removed at the end. Raises WorkspacesError or StepFailed when it cannot."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard), hard))
    with ExitStack() as ends:
        home = Path(tempfile.mkdtemp(prefix="workspaces-bench-", dir="/var/tmp"))
        (home / MARK).write_text("{}", encoding="ascii")
        ends.callback(tear_down, home)
        say(f"A throw-away workspace host in {home}")
        stage = Stage(home, say, lambda: secrets.token_urlsafe(12))
        private = PrivateEngine(home / "engine")  # never the host's own: what it takes could not be told apart
        private.start()
        for name, step in story.STEPS[:STEPS]:
            begun = time.monotonic()
            step(stage)
            say(f"[{time.monotonic() - begun:6.1f} s] {name}")
        with stage.engine() as engine:
            container = engine.containers({LABEL_WORKSPACE: "als/alice"})[0].name
        people = [Person("alice", home / "alice_ed25519", container)]
        ends.enter_context(separation())
        ends.enter_context(_keys())
        servers = {
            FORCED: Sshd(home / "forced", free_port(), private.host),
            BARE: Sshd(home / "bare", free_port()),
        }
        known = home / "known_hosts"
        for server in servers.values():
            with known.open("a", encoding="ascii") as file:
                file.write(f"[127.0.0.1]:{server.port} {server.host_key}")
            server.admit(people[0])
            ends.callback(server.stop)
            server.start()
        scratch = home / "scratch"
        scratch.mkdir()
        peers: dict[str, Peer] = {
            GATEWAY: SshPeer(GATEWAY, stage.ssh_port, known, people, INSIDE, ciphers=CIPHERS[:3]),
            FORCED: SshPeer(FORCED, servers[FORCED].port, known, people, INSIDE, user="root"),
            EXEC: ExecPeer(EXEC, private.host, people, INSIDE),
            BARE: SshPeer(BARE, servers[BARE].port, known, people, str(scratch), user="root"),
        }
        roots = {int((home / "serve.pid").read_text(encoding="ascii")), *(server.pid for server in servers.values())}
        servers_of_all = Servers(lambda: roots, str(private.run_dir))
        yield World(stage, peers, servers_of_all, scratch, people, tuple(servers.values()), private.host)
