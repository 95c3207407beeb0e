"""What a process gets besides its command: environment as from sshd, a terminal's name, and what runs as sftp."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sshgate import texts

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SIGNALS = frozenset(  # RFC 4254, section 6.10
    ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")
)


def terminal_name(asked: str) -> str:
    """What becomes TERM: the client's word for its terminal, when it can be one."""
    return asked if _TERM.fullmatch(asked) else "dumb"


def environment(
    asked: Mapping[bytes, bytes], term: str, peer: tuple[object, ...], own: tuple[object, ...]
) -> dict[bytes, bytes]:
    """The client's variables (the channel let only harmless ones in), and sshd's; `term` is empty without terminal.

    TERM is then what the client sent as a variable, if that can be one. `peer` and `own` are the addresses and ports of
    the connection's two ends.
    """
    env = dict(asked)
    sent = env.pop(b"TERM", b"").decode("ascii", "replace")
    if term or _TERM.fullmatch(sent):
        env[b"TERM"] = (term or sent).encode()
    env[b"SSH_CONNECTION"] = f"{peer[0]} {peer[1]} {own[0]} {own[1]}".encode()
    env[b"SSH_CLIENT"] = f"{peer[0]} {peer[1]} {own[1]}".encode()
    return env


def signal_name(name: str) -> str:
    """What ended a process, as an exit-signal message names it: signals that SSH does not know carry whose they are."""
    return name if name in _SIGNALS else f"{name}@openssh.com"


def sftp_argv() -> tuple[bytes, ...]:
    """Runs the image's sftp-server wherever its distribution puts it, else the guest's; else says that there is none.

    It is found in the guest's own directory, which comes first in PATH; no shell is needed.
    """
    return (b"workspaces-sftp", f"{texts.NO_SFTP}\n{texts.NO_SFTP_HINT}".encode())
