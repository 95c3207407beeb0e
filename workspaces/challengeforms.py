"""What people type about challenges and limits, as values: the same for the command line and the pages.

Nothing but text comes in, whatever is wrong with it is told in a sentence, and nothing is written. What the store
checks of the values themselves is checked there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workspaces.errors import InvalidInput
from workspaces.model import Forwarding, FreezeMode, Limits, Mount, Network, OwnLimits, Recorded, Sbom
from workspaces.names import check_image, check_moment, parse_size, printable


def parse_cores(text: str) -> float:
    """`2` or `0.5`. Raises InvalidInput."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0.01 <= found <= 1024:
        raise InvalidInput(f"{printable(text, 40)!r} is no number of cores.", "From 0.01 to 1024, e.g. 2 or 0.5.")
    return found


def parse_number(text: str, low: int, high: int, what: str) -> int:
    """A whole number from `low` to `high`. Raises InvalidInput that names `what` it is."""
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or not low <= int(text) <= high:
        raise InvalidInput(f"{printable(text, 40)!r} is no number of {what}.", f"From {low} to {high}.")
    return int(text)


def parse_time(text: str | None) -> float | None:
    """ISO 8601, e.g. `2026-05-01` or `2026-05-01T18:00+02:00` (without zone: UTC), as seconds since the epoch.

    Raises InvalidInput for something else, and outside of the years 1970 to 9998.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(f"{printable(text)!r} is not a date or time.", "Write it as 2026-05-01T18:00.") from exc
    return check_moment(at)


def parse_duration(text: str | None) -> float | None:
    """`90s`, `30m`, `2h` or `1d` as seconds; None for `never` and for None. Raises InvalidInput."""
    if text is None or text.strip().lower() == "never":
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smhd])", text.strip().lower())
    if not found:
        raise InvalidInput(f"{printable(text)!r} is not a length of time.", "Write it as 30m, 2h, 1d or never.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def parse_mount(text: str, *, here: bool = True) -> Mount:
    """`/data/als:/data` (host directory, path inside), always read-only. Raises InvalidInput.

    Without `here` the directory is one of another host, and is not looked for.
    """
    source, colon, target = text.partition(":")
    if not colon or not source.startswith("/") or not target.startswith("/") or ":" in target or "\0" in text:
        raise InvalidInput(f"{printable(text)!r} is not a mount.", "Write it as /directory/on/host:/path/inside.")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or parts[0] in ("dev", "proc", "sys"):
        raise InvalidInput(f"Nothing can be mounted at {printable(target)}.")
    if here and not Path(source).is_dir():
        raise InvalidInput(f"{printable(source)} is not a directory on this host.")
    return Mount(source, target)


def parse_forwarding(text: str) -> tuple[Forwarding, ...]:
    """`local,agent` or `none` as the kinds that are allowed. Raises InvalidInput."""
    words = [word.strip() for word in text.lower().split(",") if word.strip()]
    kinds = {kind.value: kind for kind in Forwarding}
    if words == ["none"]:
        return ()
    wrong = next((word for word in words if word not in kinds), None)
    if wrong is not None or not words:
        shown = printable(text if wrong is None else wrong, 64)
        raise InvalidInput(f"{shown!r} is no kind of forwarding.", f"Write some of {','.join(kinds)}, or none.")
    return tuple(kinds[word] for word in dict.fromkeys(words))


def parse_keep(text: str | None) -> int | None:
    """`10` as a number of versions; None for `all` and for None. Raises InvalidInput."""
    if text is None or text.strip().lower() == "all":
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 7:
        raise InvalidInput(f"{printable(text, 20)!r} is not a number of versions.", "Write it as 10, or all.")
    return int(text)


def parse_choice(text: str, choices: Mapping[str, Any], what: str) -> Any:
    """One of the words that `choices` has. Raises InvalidInput that names `what` it is, and the words."""
    if text not in choices:
        raise InvalidInput(f"{printable(text, 40)!r} is no {what}.", f"One of: {', '.join(choices)}.")
    return choices[text]


_YES_NO = {"yes": True, "no": False}
_AT_CLOSE: dict[str, FreezeMode | None] = {"nothing": None, **{mode.value: mode for mode in FreezeMode}}

# what is named → the store's name for it, and how its text is read
MEANINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "image": ("image", check_image),
    "network": ("network", lambda text: parse_choice(text, {n.value: n for n in Network}, "network")),
    "mounts": ("mounts", lambda texts: tuple(parse_mount(text) for text in texts)),
    "login_user": ("login_user", str),
    "forwarding": ("forwarding", parse_forwarding),
    "opens": ("opens_at", parse_time),
    "closes": ("closes_at", parse_time),
    "idle": ("idle_seconds", parse_duration),
    "session": ("session_seconds", parse_duration),
    "auto_approve": ("auto_approve", lambda text: parse_number(str(text), 0, 1000, "requests a day")),
    "at_close": ("at_close", lambda text: parse_choice(text, _AT_CLOSE, "end of a challenge")),
    "downloads": ("downloads", lambda text: parse_choice(text, _YES_NO, "answer")),
    "sbom": ("sbom", lambda text: parse_choice(text, {s.value: s for s in Sbom}, "form of a list of packages")),
    "record": ("record", lambda text: parse_choice(text, {r.value: r for r in Recorded}, "kind of recording")),
    "keep_last": ("keep_last", parse_keep),
    "keep_submitted": ("keep_submitted", lambda text: parse_choice(text, _YES_NO, "answer")),
}


def chosen(base: Limits, options: Mapping[str, Any], *, here: bool = True) -> dict[str, Any]:
    """What `options` say of a challenge, by the store's names; what is None or empty is absent. Raises InvalidInput.

    `base` are the limits of which those that are not named stay. Without `here` the challenge is on another host.
    """
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    mounts = {"mounts": tuple(parse_mount(text, here=here) for text in given.pop("mounts", ()))}
    found = {name: read(given[option]) for option, (name, read) in MEANINGS.items() if option in given}
    found |= mounts if mounts["mounts"] else {}
    own = own_limits(given)
    if own != OwnLimits():
        found["limits"] = own.over(base)
    return found


def own_limits(given: Mapping[str, Any]) -> OwnLimits:
    """`cpus`, `memory` and `pids`, as far as they are given. Raises InvalidInput."""
    cpus, memory, pids = (given.get(name) for name in ("cpus", "memory", "pids"))
    return OwnLimits(
        None if cpus is None else parse_cores(str(cpus)),
        None if memory is None else parse_size(str(memory)),
        None if pids is None else parse_number(str(pids), 32, 1 << 22, "processes"),
    )
