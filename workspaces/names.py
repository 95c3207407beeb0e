"""Pure rules for the names that people choose, the names derived from them, and text made safe to print.

A user's and a workspace's name becomes a host name, a directory, and a part of an image's name, so the
rule is the strictest of the three: lower-case letters, digits and single hyphens, a letter first.
"""

from __future__ import annotations

import re
import unicodedata

from workspaces.errors import InvalidInput

NAME_MAX = 32
MESSAGE_MAX = 1000
MOMENT_MAX = 253_370_764_800.0  # seconds since the epoch: when the year 9999 begins
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_IMAGE = re.compile(
    r"(?:(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?)/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
)
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}){0,10}"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,20}"
)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_OURS = re.compile(r"(?:(?:index\.)?docker\.io/)?(?:[a-z0-9-]+/[a-z0-9-]+:v[0-9]+|workspaces-commit/.*)")


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it may name a user, challenge or workspace.

    Raises InvalidInput with the rule in its message otherwise; `what` names the thing in it.
    """
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{printable(name, 64)!r} cannot be a {what}.",
            f"Use 1 to {NAME_MAX} lower-case letters, digits and single hyphens, with a letter first.",
        )
    return name


def check_image(reference: str) -> str:
    """Return an image reference such as `debian-ds:12` if it is well formed, else raise InvalidInput."""
    if len(reference) > 255 or not _IMAGE.fullmatch(reference):
        raise InvalidInput(
            f"{printable(reference, 64)!r} cannot name an image.",
            "Use a form such as name:tag, project/name:tag or host:port/name:tag, in lower case.",
        )
    return reference


def check_address(address: str) -> str:
    """Return an e-mail address of the plain form `name@host` if it is one, else raise InvalidInput.

    Quoted names, comments and anything but printable ASCII are refused: what is kept goes into headers.
    """
    if len(address) > 254 or not _ADDRESS.fullmatch(address):
        raise InvalidInput(
            f"{printable(address, 64)!r} is not an e-mail address.", "Write it as name@host.example, nothing else."
        )
    return address


def check_message(message: str, what: str = "snapshot") -> str:
    """Return a one-paragraph message, without surrounding space, or raise InvalidInput.

    Control characters other than newline and tab, and surrogates from undecodable bytes, are refused. `what` it is of.
    """
    message = message.strip()
    if not message and what == "snapshot":
        raise InvalidInput("The message is empty.", "Say in a few words what this snapshot is.")
    if not message:
        raise InvalidInput(f"The {what} is empty.")
    if len(message) > MESSAGE_MAX:
        raise InvalidInput(f"The message has {len(message)} characters; {MESSAGE_MAX} are allowed.")
    if any(c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs") for c in message):
        raise InvalidInput("The message has control characters or bytes that are not UTF-8.")
    return message


def parse_size(text: str) -> int:
    """`512m`, `2g` or `1.5GiB` as bytes, in powers of 1024. Raises InvalidInput."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise InvalidInput(f"{text!r} is not a size.", "Write it as 512m or 2g.")
    return int(float(found[1]) * _UNITS[found[2]])


def check_moment(at: float, what: str = "time") -> float:
    """Return seconds since the epoch within the years 1970 to 9998, which every zone can tell, else InvalidInput."""
    if not 0 <= at < MOMENT_MAX:
        raise InvalidInput(f"The {what} must be within the years 1970 to 9998.")
    return float(at)


def image_name(challenge: str, workspace: str, version: int) -> str:
    """The name under which a version is found in the engine, e.g. `als/alice:v1`."""
    return f"{challenge}/{workspace}:v{version}"


def is_reserved_image(reference: str) -> bool:
    """Whether `reference` has a form that only versions and commits in progress have."""
    return _OURS.fullmatch(reference) is not None


def split_login(login: str) -> tuple[str, str | None]:
    """Split what the person typed before `@` into user and workspace: `alice+als/team` → (`alice`, `als/team`).

    Never raises: an impossible name simply matches no account.
    """
    user, plus, workspace = login.partition("+")
    return user, workspace if plus else None


def printable(text: str, limit: int = 200) -> str:
    """`text` made safe for a terminal or log line: control and format characters escaped, length bounded."""
    if len(text) <= limit and text.isascii() and text.isprintable():  # as most are, and pages show hundreds
        return text
    safe = "".join(
        c if c == " " or unicodedata.category(c)[0] not in "CZ" else c.encode("unicode_escape").decode()
        for c in text[:limit]
    )
    return safe + ("…" if len(text) > limit else "")


def amount(count: int | None) -> str:
    """Bytes for people to read, in powers of 1024: `48.2 MiB`; a dash for None."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def span(seconds: float) -> str:
    """A length of time for people to read, in its two largest units: `2 h`, `1 day 6 h`, `4 min 30 s`."""
    rest = max(0, round(seconds))
    parts = []
    for unit, one, many in ((86400, "day", "days"), (3600, "h", "h"), (60, "min", "min"), (1, "s", "s")):
        number, rest = divmod(rest, unit)
        if number:
            parts.append(f"{number} {one if number == 1 else many}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"
