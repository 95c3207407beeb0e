"""The guest agent: process 1 of every container, and how the host talks to it.

`agent/` is its C source, `bin/agent` the program that setup.py makes of it, `protocol` the messages between it
and the gateway, `client` the gateway's side. `install` puts the program where containers see it, and beside it the
host's sftp-server (`sftpserver`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from workspaces.errors import HostError
from workspaces.files import put
from workspaces.guest.sftpserver import install_server

_HERE = Path(__file__).parent


def agent_path() -> Path:
    """The agent's program; passwd.so is beside it. Raises HostError when they have not been built."""
    path = _HERE / "bin" / "agent"
    if not os.access(path, os.X_OK) or not path.with_name("passwd.so").exists():
        raise HostError("The guest agent has not been built.", "Run `make install`, or `pip install .` again.")
    return path


def install(target: Path) -> None:
    """Put into `target` what containers see at /dev/workspaces/guest: agent, bin/, env.sh, and sftp/ if the host can.

    Each file is replaced in one step and only when it differs, so it may be done while containers run.
    Raises HostError when the agent has not been built or `target` cannot be written.
    """
    agent = agent_path()
    try:
        for directory in (target, target / "bin"):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o755)
        _place(target / "agent", agent.read_bytes(), 0o755)
        _place(target / "env.sh", (_HERE / "env.sh").read_bytes(), 0o644)
        _link(target / "bin" / "snapshot", "../agent")
        _link(target / "bin" / "workspaces-sftp", "../agent")
        install_server(target, agent.with_name("passwd.so"), _place, _link)
    except OSError as exc:
        raise HostError(f"{exc.filename or target} cannot be written: {exc.strerror}.") from exc


def _place(path: Path, content: bytes, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not path.is_symlink() and path.read_bytes() == content and path.stat().st_mode & 0o7777 == mode:
            return
    put(path, content, mode, over=True)


def _link(path: Path, to: str) -> None:
    if path.is_symlink() and os.readlink(path) == to:  # noqa: PTH115 - the text itself, not a path made of it
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(to)
    temporary.replace(path)
