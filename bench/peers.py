"""How each peer is reached: the same questions, answered with another command line.

gateway   ssh ─► this program's gateway ─► agent ─► process in the container
forced    ssh ─► OpenSSH's sshd ─► ForceCommand ─► docker exec ─► process in the same container
exec      docker exec ─► process in the same container            a limit: no ssh, no login
bare      ssh ─► OpenSSH's sshd ─► process on the host            a limit: no container
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GATEWAY, FORCED, EXEC, BARE = "gateway", "sshd + docker exec", "docker exec", "bare sshd"
COLUMNS = (GATEWAY, FORCED, EXEC, BARE)
PAGES, SLOWEST, BARE_PAGE = "median", "99th percentile", "bare Flask"
VERSIONS, HAND = "workspaces", "by hand"  # docker commit, docker save | gzip -1
CHACHA = "chacha20-poly1305@openssh.com"
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", CHACHA)
LEFT_OUT = {
    "jupyterhub-ssh": (
        "the project publishes no package; the one of that name in the Python package index (0.1.6) is another "
        "program, which adds a container with an sshd to the pods of a Kubernetes cluster"
    )
}


@dataclass(frozen=True, slots=True)
class Way:
    """What the ssh client is told about algorithms."""

    name: str
    options: tuple[str, ...] = ()


DEFAULTS = Way("client's defaults")
PINNED = Way("pinned", ("-o", "KexAlgorithms=curve25519-sha256", "-c", CIPHERS[0]))


def ciphered(cipher: str) -> Way:
    """The pinned key exchange with another cipher."""
    return Way(cipher.partition("@")[0], (*PINNED.options[:2], "-c", cipher))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account at the gateway, a key, and a container that runs."""

    name: str
    key: Path
    container: str


@dataclass(frozen=True, slots=True)
class SshPeer:
    """A server that the OpenSSH client reaches. `user` is None where each person has an account of their own."""

    name: str
    port: int
    known_hosts: Path
    people: list[Person]
    directory: str  # where files may be put
    user: str | None = None
    ciphers: tuple[str, ...] = CIPHERS

    def _options(self, way: Way, person: int) -> list[str]:
        settings = {
            "UserKnownHostsFile": self.known_hosts,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return ["-F", "/dev/null", *options, "-i", str(self.people[person].key), *way.options]

    def _destination(self, person: int) -> str:
        return f"{self.user or self.people[person].name}@127.0.0.1"

    def line(
        self, command: str | None, way: Way = DEFAULTS, *, person: int = 0, tty: bool = False, source: int = 1
    ) -> list[str]:
        """The command line that runs `command`, or a login shell, from the loopback address 127.0.0.`source`."""
        words = ["ssh", *self._options(way, person), "-b", f"127.0.0.{source}", "-p", str(self.port)]
        return [*words, *(["-tt"] if tty else []), self._destination(person), *([command] if command else [])]

    def sftp(self, way: Way) -> list[str]:
        """The sftp client, which reads its commands from standard input."""
        return ["sftp", "-q", "-b", "-", *self._options(way, 0), "-P", str(self.port), self._destination(0)]

    def rsync(self, way: Way, source: str, target: str) -> list[str]:
        """The rsync client, copying a directory of this host to `target` below the peer's directory."""
        shell = " ".join(["ssh", *self._options(way, 0), "-p", str(self.port)])
        return ["rsync", "-a", "-e", shell, source, f"{self._destination(0)}:{self.directory}/{target}"]


@dataclass(frozen=True, slots=True)
class ExecPeer:
    """`docker exec` on the host, as an administrator would use it."""

    name: str
    engine: str  # unix://…
    people: list[Person]
    directory: str
    ciphers: tuple[str, ...] = ()

    def line(
        self, command: str | None, way: Way = DEFAULTS, *, person: int = 0, tty: bool = False, source: int = 1
    ) -> list[str]:
        """The same command in the same container."""
        del way, source
        inside = ["sh", "-c", command] if command else ["bash", "-l"]
        flags = "-it" if tty else "-i"
        return ["docker", "-H", self.engine, "exec", flags, self.people[person].container, *inside]

    def rsync(self, way: Way, source: str, target: str) -> list[str]:
        """rsync over `docker exec` instead of a remote shell."""
        del way
        shell = f"docker -H {self.engine} exec -i"
        destination = f"{self.people[0].container}:{self.directory}/{target}"
        return ["rsync", "-a", "--blocking-io", "-e", shell, source, destination]


Peer = SshPeer | ExecPeer
