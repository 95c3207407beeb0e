"""Room for the kernel's keyrings: runc makes one for each container, and counts them for the user that root in it is.

    start ─► limits as they were, noted ─► raised        stop, with no other daemon here ─► as they were

With user namespaces all containers' roots are one unprivileged user, of whom the kernel takes 200 keys
(/proc/sys/kernel/keys/maxkeys, see keyrings(7)): container 201 does not start.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from workspaces.engine.firewall import RUN_DIR, set_value

LIMITS = Path("/proc/sys/kernel/keys")
WANTED = {"maxkeys": 20_000, "maxbytes": 2_000_000}  # a keyring's name counts, about 70 bytes
NOTE = "keyrings"  # no .json: those are the bridges'


def allowed() -> int | None:
    """How many keyrings an unprivileged user may have; None when this kernel does not say."""
    return _limits().get("maxkeys")


def make_room() -> None:
    """Raise what is too low. Raises HostError when it cannot be."""
    before = _limits()
    low = {name: value for name, value in before.items() if value < WANTED[name]}
    note = RUN_DIR / NOTE
    if low and not note.exists():
        RUN_DIR.mkdir(mode=0o755, exist_ok=True)
        note.write_text(json.dumps(low), encoding="ascii")
    for name in low:
        set_value(LIMITS / name, str(WANTED[name]))


def restore() -> None:
    """Put back what was raised, unless somebody has changed it since."""
    note = RUN_DIR / NOTE
    with suppress(FileNotFoundError):
        before, now = json.loads(note.read_text(encoding="ascii")), _limits()
        for name, value in before.items():
            if now.get(name) == WANTED.get(name):
                set_value(LIMITS / name, str(value))
        note.unlink()


def _limits() -> dict[str, int]:
    found = {}
    for name in WANTED:
        with suppress(OSError, ValueError):
            found[name] = int((LIMITS / name).read_text(encoding="ascii"))
    return found
