"""The configuration of a version: the base image's own way to run, and labels that say what it is. Pure.

An engine's commit carries the container's configuration: the agent as entry point, this program's labels, the
container's environment. A version has none of that: it runs anywhere as its base image does.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workspaces.engine.base import LABEL_INSTANCE, LABEL_SNAPSHOT, LABEL_WORKSPACE, ImageInfo
from workspaces.model import Command, Snapshot
from workspaces.snapshots.common import LABEL_DECIDED_BY, LABEL_PARENT, LABEL_REQUESTED_BY, OURS

OCI = "org.opencontainers.image."
BASE_DIGEST = OCI + "base.digest"
BASE_NAME = OCI + "base.name"

# uname's names → those of the OCI image configuration (Go's); the same where not listed
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "loongarch64": "loong64"}


def version_labels(
    snapshot: Snapshot, key: str, instance: str, source: ImageInfo, base_name: str, parent: str
) -> dict[str, str]:
    """Labels of a version: OCI's own keys first, then ours. `parent` is the version before, or empty."""
    inherited = source.config.labels
    labels = {
        OCI + "created": timestamp(snapshot.decided_at or snapshot.requested_at),
        OCI + "version": f"v{snapshot.version}",
        OCI + "title": snapshot.workspace,
        OCI + "description": snapshot.message,
        OCI + "authors": snapshot.requested_by,
        BASE_DIGEST: inherited.get(BASE_DIGEST, source.id) if LABEL_SNAPSHOT in inherited else source.id,
        BASE_NAME: inherited.get(BASE_NAME, base_name) if LABEL_SNAPSHOT in inherited else base_name,
        LABEL_INSTANCE: instance,
        LABEL_WORKSPACE: snapshot.workspace,
        LABEL_SNAPSHOT: key,
        LABEL_PARENT: parent,
        LABEL_REQUESTED_BY: snapshot.requested_by,
        LABEL_DECIDED_BY: snapshot.decided_by or "",
    }
    return {name: value for name, value in labels.items() if value}


def version_config(
    snapshot: Snapshot, source: ImageInfo, diff_ids: tuple[str, ...], labels: Mapping[str, str], base_name: str
) -> dict[str, Any]:
    """The whole OCI image configuration: `source`'s way to run, the committed layers, `labels`.

    Equal input gives an equal configuration, so that a repeated attempt makes the same image.
    """
    created = labels[OCI + "created"]
    own = {name: value for name, value in source.config.labels.items() if not name.startswith(OURS)}
    config = {name: value for name, value in source.config.values.items() if value not in (None, [], {}, "")}
    history = [
        {"created": created, "created_by": base_name if index < len(source.diff_ids) else "workspaces snapshot"}
        for index in range(len(diff_ids))
    ]
    if len(diff_ids) > len(source.diff_ids):
        history[-1]["comment"] = snapshot.message
    return {
        "created": created,
        "author": snapshot.requested_by,
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {**_run(config, snapshot.command), "Labels": {**own, **labels}},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": history,
    }


def _run(config: dict[str, Any], command: Command | None) -> dict[str, Any]:
    """`config` with the version's own way to run; as in a Dockerfile, an entry point drops the base's Cmd."""
    if command is None:
        return config
    named = {"Entrypoint": list(command.entrypoint), "Cmd": list(command.cmd)}
    kept = {name: value for name, value in config.items() if name != "Cmd" or not command.entrypoint}
    return {**kept, **{name: value for name, value in named.items() if value}}


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
