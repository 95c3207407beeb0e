"""The host's sftp-server where containers find it, for images that have none.

    the host's sftp-server + what ldd names ─► guest/sftp-<digest>/ ─► guest/sftp (a link, put there in one step)

It runs by its own loader with its own libraries, so the image may have another libc, or none. `sources` lists what
the copies were made from: a few calls of stat tell whether they are still those.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from workspaces.prerequisites import SFTP_SERVERS

SECONDS = 10.0  # for ldd

Place = Callable[[Path, bytes, int], None]
Link = Callable[[Path, str], None]


def host_server() -> Path | None:
    """The host's sftp-server, if it has one."""
    return next((path for path in SFTP_SERVERS if path.is_file()), None)


def install_server(target: Path, preload: Path, place: Place, link: Link) -> None:
    """Put sftp-server, loader, libraries and `preload` into `target`/sftp. Nothing happens on a host that has none.

    Raises OSError when that cannot be written.
    """
    server = host_server()
    if server is None or _current(target / "sftp" / "sources", server):
        return
    files = _files(server)
    if "ld.so" not in files:
        return  # linked statically or for another loader: nothing that is known to run in any image
    files |= {"sftp-server": server, "passwd.so": preload}
    sources = json.dumps([_stamp(path) for path in files.values()])
    name = f"sftp-{hashlib.sha256(sources.encode()).hexdigest()[:12]}"
    if not (target / name / "sources").exists():
        unfinished = target / f".{name}.{secrets.token_hex(4)}"
        unfinished.mkdir()
        unfinished.chmod(0o755)
        try:
            for file, source in files.items():
                place(unfinished / file, source.read_bytes(), 0o755)
            place(unfinished / "sources", sources.encode(), 0o600)
            try:
                unfinished.rename(target / name)
            except OSError:
                if not (target / name / "sources").exists():  # another process has done the same meanwhile
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    link(target / "sftp", name)
    for old in target.glob("sftp-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def _current(sources: Path, server: Path) -> bool:
    try:
        stamps = json.loads(sources.read_bytes())
        paths = [path for path, *_ in stamps]
        return str(server) in paths and [_stamp(Path(path)) for path in paths] == stamps
    except (OSError, ValueError, TypeError):
        return False


def _stamp(path: Path) -> list[str | int]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def _files(server: Path) -> dict[str, Path]:
    """The loader as `ld.so` and the libraries by the names that it looks for."""
    try:
        said = subprocess.run(["ldd", server], capture_output=True, text=True, timeout=SECONDS, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    files = {name: Path(path) for name, path in re.findall(r"^\s*([\w.+-]+) => (/\S+) \(", said, re.MULTILINE)}
    loader = re.search(r"^\s*(/\S+) \(", said, re.MULTILINE)
    return files | ({"ld.so": Path(loader[1])} if loader else {})
