"""Rows of the database as the model's dataclasses, and back where a value is kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from workspaces.model import (
    Challenge,
    Change,
    ChangeReport,
    Event,
    Forwarding,
    Job,
    JobKind,
    JobState,
    Key,
    Limits,
    Mount,
    Network,
    Role,
    Sbom,
    Snapshot,
    SnapshotState,
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
        sbom=Sbom(row["sbom"]),
    )


def mounts_json(mounts: Iterable[Mount]) -> str:
    return json.dumps([[mount.source, mount.target] for mount in mounts])


def to_workspace(row: Row) -> Workspace:
    return Workspace(
        **{**row, "members": tuple(json.loads(row["members"])), "state": WorkspaceState(row["state"])},
    )


def to_snapshot(row: Row) -> Snapshot:
    return Snapshot(
        **{
            **row,
            "state": SnapshotState(row["state"]),
            "diff_ids": tuple(json.loads(row["diff_ids"])),
            "pinned": bool(row["pinned"]),
        },
    )


def to_job(row: Row) -> Job:
    arguments = json.loads(row["arguments"])
    return Job(**{**row, "kind": JobKind(row["kind"]), "state": JobState(row["state"]), "arguments": arguments})


def to_event(row: Row) -> Event:
    return Event(**{**row, "data": json.loads(row["data"])})


def changes_json(report: ChangeReport) -> str:
    """`report` as JSON; its entries as short lists, since there may be thousands."""
    entries = [[entry.kind, entry.path, entry.size, entry.mode] for entry in report.entries]
    return json.dumps({**asdict(report), "entries": entries}, separators=(",", ":"))


def to_changes(text: str) -> ChangeReport:
    data = json.loads(text)
    return ChangeReport(
        **{
            **data,
            "entries": tuple(Change(*entry) for entry in data["entries"]),
            "warnings": tuple(data["warnings"]),
            "not_captured": tuple(data["not_captured"]),
        }
    )
