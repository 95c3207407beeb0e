"""What a throw-away host could leave behind on this one."""

from __future__ import annotations

import subprocess
from pathlib import Path


def traces(home: str) -> list[str]:
    """What still speaks of a state directory: processes, mounts, the directory itself."""
    found = [home] if Path(home).exists() else []
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if home in line]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [words] if home in words else []
    return found


def host() -> tuple[list[str], list[str]]:
    """Links and filters of this host, which must be afterwards what they were."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    ours = [line.split(" [")[0] for line in rules.splitlines() if line.startswith((":ws", "-A"))]
    return sorted(line.split()[0] for line in links.splitlines()), sorted(ours)
