"""What a process gets besides its command: environment as from sshd, a terminal's name, and what runs as sftp."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sshgate import texts

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SFTP_SCRIPT = b"""\
for server in /usr/lib/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/openssh/sftp-server \
/usr/libexec/sftp-server; do
    if [ -x "$server" ]; then exec "$server"; fi
done
printf '%s\\n' "$1" >&2
exit 127
"""


def terminal_name(asked: str) -> str:
    """What becomes TERM: the client's word for its terminal, when it can be one."""
    return asked if _TERM.fullmatch(asked) else "dumb"


def environment(
    asked: Mapping[bytes, bytes], term: str, peer: tuple[object, ...], own: tuple[object, ...]
) -> dict[bytes, bytes]:
    """The client's variables (the channel let only harmless ones in), and sshd's; `term` is empty without terminal.

    `peer` and `own` are the addresses and ports of the connection's two ends.
    """
    env = dict(asked)
    env.pop(b"TERM", None)
    if term:
        env[b"TERM"] = term.encode()
    env[b"SSH_CONNECTION"] = f"{peer[0]} {peer[1]} {own[0]} {own[1]}".encode()
    env[b"SSH_CLIENT"] = f"{peer[0]} {peer[1]} {own[1]}".encode()
    return env


def sftp_argv() -> tuple[bytes, ...]:
    """Runs the image's sftp-server wherever its distribution puts it, else says that there is none."""
    said = f"{texts.NO_SFTP}\n{texts.NO_SFTP_HINT}".encode()
    return (b"/bin/sh", b"-c", _SFTP_SCRIPT, b"sh", said)
