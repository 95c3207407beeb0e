"""Starts a worker process of the gateway.

    spawn ──► setpriv ──► python -m sshgate.worker HOME 3 4
                          3: its end of a socket pair (link.py)
                          4: the host keys, a file in memory

It is killed with the process that started it, whatever it is doing.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from sshgate.link import pair


def spawn(home: Path, keys: bytes) -> tuple[int, int, socket.socket]:
    """A new worker of state directory `home`: process id, pidfd, this end of its socket pair. Raises OSError.

    `keys` are packed ones (hostkey.py). Nothing is left of one that could not be started.
    """
    ours, theirs = pair()
    try:
        with theirs, os.fdopen(os.memfd_create("keys"), "w+b") as file:
            file.write(keys)
            file.seek(0)
            pid = os.posix_spawnp(
                "setpriv",
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "sshgate.worker", str(home), "3", "4"],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                    (os.POSIX_SPAWN_DUP2, file.fileno(), 4),
                ],
            )
        try:
            return pid, os.pidfd_open(pid), ours
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError:
        ours.close()
        raise
