"""A root file system of a few megabytes, made of this host's own programs: images for tests without any download."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

PROGRAMS = (
    "sh", "cat", "chmod", "chown", "dd", "find", "id", "ln", "ls", "mkdir", "mkfifo", "mv", "rm", "sleep", "sort",
    "stat", "touch", "sha256sum",
)  # fmt: skip
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbobby:x:1000:1000::/home/bobby:/bin/sh\n"
GROUP = b"root:x:0:\nbobby:x:1000:\n"


def tiny_rootfs(target: Path) -> Path:
    """Write a tar with PROGRAMS, the libraries they need, and two accounts (root, bobby) to `target`."""
    files: dict[str, Path] = {}
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found is not None, program
        files[f"bin/{program}"] = Path(found).resolve()
        for library in _libraries(found):
            files[library.lstrip("/")] = Path(library).resolve()
    directories = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    with tarfile.open(target, "w") as tar:
        for directory in sorted({*directories, "dev", "etc", "home/bobby", "home", "proc", "root", "sys", "tmp"}):
            tar.addfile(_member(directory, 0o1777 if directory == "tmp" else 0o755, tarfile.DIRTYPE))
        for name, path in files.items():
            data = path.read_bytes()
            member = _member(name, 0o755, tarfile.REGTYPE)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, data in (("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/motd", b"welcome\n")):
            member = _member(name, 0o644, tarfile.REGTYPE)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target


def _libraries(program: str) -> list[str]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE)


def _member(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.type = mode, kind
    return member
