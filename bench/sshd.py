"""An OpenSSH server on a loopback port, with a configuration of its own, as a child of this process.

It is root who logs in, because the measurements make no accounts on this host; sshd then spares itself a process and
a change of user for each session, which is to its advantage. So are: no PAM, no look-up of host names, and as many
logins at once as come.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.peers import Person
from bench.servers import processes
from workspaces.demo.clients import StepFailed
from workspaces.engine.processes import last_lines

START_SECONDS = 10.0
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
SEPARATION = Path("/run/sshd")  # an empty directory that sshd wants; its service makes it elsewhere

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_ed25519
PidFile none
AuthorizedKeysFile {directory}/keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment yes
MaxStartups 1000
MaxSessions 100
UseDNS no
PrintMotd no
PrintLastLog no
AcceptEnv LANG LC_*
Subsystem sftp {sftp}
"""

# Whose container it is stands in their line of `keys`.
FORCED = """\
#!/bin/sh
flags=-i
[ -n "$SSH_TTY" ] && flags=-it
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then
    exec docker -H {engine} exec $flags -e TERM "$CONTAINER" sh -c "$SSH_ORIGINAL_COMMAND"
fi
exec docker -H {engine} exec $flags -e TERM "$CONTAINER" bash -l
"""


class Sshd:
    """One server: `engine` makes it run everything in people's containers, None on the host."""

    def __init__(self, directory: Path, port: int, engine: str | None = None) -> None:
        self.port = port
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(mode=0o700)
        key = directory / "host_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.host_key = key.with_suffix(".pub").read_text(encoding="ascii")
        config = CONFIG.format(port=port, directory=directory, sftp=SFTP_SERVER)
        if engine:
            script = directory / "enter"
            script.write_text(FORCED.format(engine=engine), encoding="ascii")
            script.chmod(0o700)
            config += f"ForceCommand {script}\n"
        (directory / "config").write_text(config, encoding="ascii")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def admit(self, person: Person) -> None:
        """Let one more person in, with their key."""
        home = self._directory / "home"  # empty: the start-up files of this host's root would be measured too
        home.mkdir(exist_ok=True)
        key = person.key.with_suffix(".pub").read_text(encoding="ascii")
        with (self._directory / "keys").open("a", encoding="ascii") as file:
            file.write(f'environment="HOME={home}",environment="CONTAINER={person.container}" {key}')

    def start(self) -> None:
        """Return when it answers. Raises StepFailed with its last words."""
        log = self._directory / "log"
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self._directory / "config")]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StepFailed(f"sshd does not answer: {last_lines(log)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and every session that it has."""
        if self._process is None:
            return
        every = processes()
        ours, more = {self.pid}, {self.pid}
        while more:
            more = {process.pid for process in every.values() if process.parent in more} - ours
            ours |= more
        self._process.terminate()
        self._process.wait()
        for pid in ours - {self.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process = None


@contextmanager
def separation() -> Iterator[None]:
    """Make the directory that sshd wants, and remove it again if it was made here."""
    made = not SEPARATION.exists()
    SEPARATION.mkdir(mode=0o755, exist_ok=True)
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                SEPARATION.rmdir()
