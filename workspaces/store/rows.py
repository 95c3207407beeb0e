"""Rows of the database as the model's dataclasses, and back where a value is kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, astuple, fields

from workspaces.model import (
    Challenge,
    Change,
    ChangeReport,
    Command,
    Event,
    Finding,
    Forwarding,
    Freeze,
    FreezeMode,
    Frozen,
    FrozenState,
    Job,
    JobKind,
    JobState,
    Key,
    Limits,
    Mount,
    Network,
    OwnLimits,
    PackageChange,
    Recorded,
    Role,
    Sbom,
    Snapshot,
    SnapshotState,
    Unlisted,
    User,
    Workspace,
    WorkspaceState,
)
from workspaces.store.connection import Row


def to_user(row: Row) -> User:
    return User(
        id=row["id"],
        name=row["name"],
        role=Role(row["role"]),
        has_password=bool(row["has_password"]),
        disabled=bool(row["disabled"]),
        created_at=row["created_at"],
        has_totp=bool(row["has_totp"]),
        email=row["email"],
    )


def to_key(row: Row) -> Key:
    return Key(**row)


def to_challenge(row: Row) -> Challenge:
    return Challenge(
        id=row["id"],
        slug=row["slug"],
        image=row["image"],
        limits=Limits(row["cpus"], row["memory"], row["pids"]),
        network=Network(row["network"]),
        mounts=tuple(Mount(source, target) for source, target in json.loads(row["mounts"])),
        login_user=row["login_user"],
        opens_at=row["opens_at"],
        closes_at=row["closes_at"],
        created_at=row["created_at"],
        forwarding=tuple(Forwarding(kind) for kind in json.loads(row["forwarding"])),
        idle_seconds=row["idle_seconds"],
        session_seconds=row["session_seconds"],
        keep_last=row["keep_last"],
        keep_submitted=bool(row["keep_submitted"]),
        auto_approve=row["auto_approve"],
        at_close=FreezeMode(row["at_close"]) if row["at_close"] else None,
        downloads=bool(row["downloads"]),
        frozen=FreezeMode(row["frozen"]) if row["frozen"] else None,
        sbom=Sbom(row["sbom"]),
        record=Recorded(row["record"]),
    )


def mounts_json(mounts: Iterable[Mount]) -> str:
    return json.dumps([[mount.source, mount.target] for mount in mounts])


def to_workspace(row: Row) -> Workspace:
    own = OwnLimits(row["own_cpus"], row["own_memory"], row["own_pids"])
    return Workspace(
        **{
            **{name: value for name, value in row.items() if not name.startswith("own_")},
            "own_limits": own,
            "members": tuple(json.loads(row["members"])),
            "state": WorkspaceState(row["state"]),
            "read_only": bool(row["read_only"]),
        },
    )


def to_snapshot(row: Row) -> Snapshot:
    return Snapshot(
        **{
            **row,
            "state": SnapshotState(row["state"]),
            "diff_ids": tuple(json.loads(row["diff_ids"])),
            "pinned": bool(row["pinned"]),
            "command": to_command(row["command"]),
        },
    )


def to_command(text: str | None) -> Command | None:
    if text is None:
        return None
    return Command(**{name: tuple(arguments) for name, arguments in json.loads(text).items()})


def command_json(command: Command | None) -> str | None:
    return None if command is None or command == Command() else json.dumps(asdict(command))


def to_freeze(row: Row) -> Freeze:
    return Freeze(**{**row, "mode": FreezeMode(row["mode"])})


def to_frozen(row: Row) -> Frozen:
    return Frozen(**{**row, "state": FrozenState(row["state"])})


def to_job(row: Row) -> Job:
    arguments = json.loads(row["arguments"])
    state = JobState(row["state"])
    waits = state is JobState.QUEUED and row["retry_at"] > 0
    known = {"kind": JobKind(row["kind"]), "state": state, "arguments": arguments}
    return Job(**{**row, **known, "retry_at": row["retry_at"] if waits else None})


def to_event(row: Row) -> Event:
    return Event(**{**row, "data": json.loads(row["data"])})


# Fields of a report that are kept as short lists, since there may be thousands, and what each list holds.
_LISTED: dict[str, type[Change | Unlisted | Finding | PackageChange]] = {
    "entries": Change,
    "unlisted": Unlisted,
    "secrets": Finding,
    "copies": Finding,
    "packages": PackageChange,
}

_WIDTH = 4  # what differs is known of a comparison of versions only, which is not kept


def changes_json(report: ChangeReport) -> str:
    """`report` as JSON."""
    data = {field.name: getattr(report, field.name) for field in fields(report)}
    for name in _LISTED:
        data[name] = [astuple(item)[:_WIDTH] for item in data[name]]
    return json.dumps(data, separators=(",", ":"))


def to_changes(text: str) -> ChangeReport:
    """The report; one of an earlier release lacks fields, which then are empty."""
    data = json.loads(text)
    for name, kind in _LISTED.items():
        data[name] = tuple(kind(*item) for item in data.get(name, ()))
    return ChangeReport(**{**data, "warnings": tuple(data["warnings"]), "not_captured": tuple(data["not_captured"])})
