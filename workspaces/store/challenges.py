"""Challenges: what the workspaces in them are made from, and when they are open."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from workspaces.errors import Conflict, InvalidInput, NotFound
from workspaces.model import Challenge, Forwarding, FreezeMode, Limits, Mount, Network, Recorded, Sbom
from workspaces.names import check_image, check_moment, check_name, printable
from workspaces.store.connection import Connections, Row
from workspaces.store.rows import mounts_json, to_challenge

_CHALLENGES = (
    "SELECT id, slug, image, cpus, memory, pids, network, mounts, login_user, opens_at, closes_at, created_at, "
    "forwarding, idle_seconds, session_seconds, keep_last, keep_submitted, auto_approve, at_close, downloads, sbom, "
    "record, "
    "(SELECT f.mode FROM freezes f WHERE f.challenge_id = challenges.id AND f.thawed_at IS NULL "
    "ORDER BY f.id DESC LIMIT 1) AS frozen FROM challenges"
)
_LOGIN_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SESSION_MIN = 60.0
_KEEP_MAX = 1_000_000
_AUTO_MAX = 1000
_MEMORY_MIN = 6 << 20  # the engine takes no less


class Challenges(Connections):
    def add_challenge(
        self,
        slug: str,
        image: str,
        limits: Limits = Limits(),  # noqa: B008 -- frozen
        network: Network = Network.OPEN,
        mounts: Iterable[Mount] = (),
        login_user: str = "root",
        opens_at: float | None = None,
        closes_at: float | None = None,
        forwarding: Iterable[Forwarding] = tuple(Forwarding),
        idle_seconds: float | None = None,
        session_seconds: float | None = None,
        sbom: Sbom = Sbom.NONE,
        *,
        auto_approve: int = 0,
        at_close: FreezeMode | None = None,
        downloads: bool = False,
        actor: str,
        keep_last: int | None = None,
        keep_submitted: bool = True,
        record: Recorded = Recorded.NONE,
    ) -> Challenge:
        """Add a challenge. InvalidInput for what breaks a rule, Conflict when the slug is taken.

        Whether the engine has `image` is not looked at: it may come later. Times are seconds since the epoch, lengths
        of sessions seconds. `keep_last` and `keep_submitted` are the rules of retention (see model.Challenge).
        """
        check_name(slug, "challenge")
        row = _columns(
            image=image,
            limits=limits,
            network=network,
            mounts=tuple(mounts),
            login_user=login_user,
            opens_at=opens_at,
            closes_at=closes_at,
            forwarding=tuple(forwarding),
            idle_seconds=idle_seconds,
            session_seconds=session_seconds,
            keep_last=keep_last,
            keep_submitted=keep_submitted,
            auto_approve=auto_approve,
            at_close=at_close,
            downloads=downloads,
            sbom=sbom,
            record=record,
        )
        with self._write():
            if self._find("SELECT 1 FROM challenges WHERE slug = ?", [slug]):
                raise Conflict(f"The challenge {slug} exists already.")
            self._insert("challenges", {"slug": slug, **row, "created_at": time.time()})
            self._check_times(slug)
            self._record(actor, "challenge.added", data={"challenge": slug, "image": image})
            return self.challenge(slug)

    def challenge(self, slug: str) -> Challenge:
        """The challenge of that slug. Raises NotFound."""
        row = self._find(f"{_CHALLENGES} WHERE slug = ?", [slug]) if slug.isascii() else None
        if row is None:
            raise NotFound(f"There is no challenge {printable(slug, 64)!r}.")
        return to_challenge(row)

    def challenges(self) -> list[Challenge]:
        """All of them, by slug."""
        return [to_challenge(row) for row in self._rows(f"{_CHALLENGES} ORDER BY slug")]

    def set_challenge(self, slug: str, *, actor: str, **changes: Any) -> Challenge:
        """Change any of what `add_challenge` takes, by its names there; the others stay.

        Containers that exist keep what they were made with until they are made anew; what concerns sessions holds
        for those that begin later. NotFound, InvalidInput.
        """
        row = _columns(**changes)
        with self._write() as db:
            found = self.challenge(slug)
            if row:
                db.table("challenges").update(found.id, row)
                self._check_times(slug)
                said = {name: _said(name, value) for name, value in changes.items()}
                self._record(actor, "challenge.changed", data={"challenge": slug, **said})
            return self.challenge(slug)

    def _check_times(self, slug: str) -> None:
        found = self.challenge(slug)
        if found.opens_at is not None and found.closes_at is not None and found.closes_at <= found.opens_at:
            raise InvalidInput("A challenge closes after it opens.")


def _said(name: str, value: Any) -> object:
    if name == "at_close":
        return value or "nothing"
    if name == "forwarding":
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, Limits):
        return f"{value.cpus:g} cpus, {value.memory} bytes, {value.pids} processes"
    if isinstance(value, tuple | list):
        return ", ".join(f"{mount.source}:{mount.target}" for mount in value)
    if name == "keep_last":
        return "all" if value is None else value
    return "never" if value is None else value


def _columns(**values: Any) -> Row:
    """A challenge's attributes as columns, each checked. Raises InvalidInput."""
    row: Row = {}
    for name, value in values.items():
        if name == "image":
            row["image"] = check_image(value)
        elif name == "limits":
            row |= check_limits(value)
        elif name == "network":
            row["network"] = Network(value)
        elif name == "sbom":
            row["sbom"] = Sbom(value)
        elif name == "record":
            row["record"] = Recorded(value)
        elif name == "mounts":
            row["mounts"] = mounts_json(_mounts(value))
        elif name == "login_user":
            if not _LOGIN_USER.fullmatch(value):
                raise InvalidInput(f"{printable(value, 64)!r} cannot be an account in a container.")
            row["login_user"] = value
        elif name in ("opens_at", "closes_at"):
            row[name] = None if value is None else check_moment(value)
        elif name == "forwarding":
            row["forwarding"] = json.dumps(sorted({Forwarding(kind) for kind in value}))
        elif name in ("idle_seconds", "session_seconds"):
            if value is not None and not _SESSION_MIN <= value < math.inf:
                raise InvalidInput("A session may be limited to a minute or more, not to less.")
            row[name] = None if value is None else float(value)
        elif name == "keep_last":
            if value is not None and not 1 <= value <= _KEEP_MAX:
                raise InvalidInput("At least one version of each workspace is kept.")
            row[name] = value
        elif name == "keep_submitted":
            row[name] = int(bool(value))
        elif name == "auto_approve":
            if not 0 <= value <= _AUTO_MAX:
                raise InvalidInput(f"From 0 to {_AUTO_MAX} requests a day can be approved without a person.")
            row[name] = value
        elif name == "at_close":
            row[name] = None if value is None else FreezeMode(value)
        elif name == "downloads":
            row[name] = int(value)
        else:
            raise InvalidInput(f"A challenge has no {printable(name, 64)!r} that can be set.")
    return row


def check_limits(limits: Limits) -> Row:
    """Limits as columns. Raises InvalidInput."""
    if not 0 < limits.cpus <= 4096:
        raise InvalidInput("The limit of cores must be more than 0, e.g. 1 or 0.5.")
    if not _MEMORY_MIN <= limits.memory < 1 << 60:
        raise InvalidInput("The limit of memory must be at least 6 MiB.")
    if not 1 <= limits.pids <= 1 << 22:
        raise InvalidInput("The limit of processes must be from 1 to 4194304.")
    return {"cpus": float(limits.cpus), "memory": limits.memory, "pids": limits.pids}


def _mounts(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    found = tuple(mounts)
    for path in (path for mount in found for path in (mount.source, mount.target)):
        # ':' and control characters would be read as something else by the engine and by those who read lists.
        if not path.startswith("/") or ".." in PurePosixPath(path).parts or ":" in path or not path.isprintable():
            raise InvalidInput(f"{printable(path)!r} cannot be mounted: a plain absolute path is needed.")
    targets = [mount.target.rstrip("/") for mount in found]
    if len(set(targets)) != len(targets) or "" in targets:
        raise InvalidInput("Each mount needs a place of its own in the container, and not /.")
    return found
