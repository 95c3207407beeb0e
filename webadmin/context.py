"""The parts that every view needs, kept with the Flask application that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from webadmin.actions.own import Acts
from webadmin.api.limits import Limits
from webadmin.reports import Reports
from webadmin.taking import Downloads
from webadmin.terminal.door import HOST_KEY
from webadmin.terminal.relay import Terminals
from webadmin.throttle import Once, Throttle
from webadmin.watching import Watching
from workspaces import accounts
from workspaces.errors import InvalidInput
from workspaces.settings import Settings
from workspaces.store import Store

_KEY = "workspaces"


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    store: Store
    throttle: Throttle = field(default_factory=Throttle)
    once: Once = field(default_factory=Once)
    downloads: Downloads = field(default_factory=Downloads)
    limits: Limits = field(default_factory=Limits)
    acts: Acts = field(default_factory=Acts)
    reports: Reports = field(default_factory=Reports)
    terminals: Terminals = field(default_factory=Terminals)
    watching: Watching = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "watching", Watching(self.store))


def attach(app: Flask, parts: Parts) -> None:
    app.extensions[_KEY] = parts


def parts() -> Parts:
    return cast(Parts, current_app.extensions[_KEY])


def store() -> Store:
    return parts().store


@dataclass(frozen=True, slots=True)
class Door:
    """How one person gets into one workspace: a command, and what ~/.ssh/config needs for `ssh ALIAS`."""

    line: str
    alias: str
    config: str


def door(user: str, workspace: str, *, only: bool) -> Door:
    """`only`: the user has no other workspace, so that the name alone leads there."""
    host, port = _gateway()
    login = user if only else f"{user}+{workspace}"
    alias = workspace.replace("/", "-")
    lines = [f"HostName {host}", *([] if port == 22 else [f"Port {port}"]), f"User {login}"]
    return Door(ssh_line(user, None if only else workspace), alias, "\n    ".join([f"Host {alias}", *lines]))


def ssh_line(user: str, workspace: str | None = None) -> str:
    """What a person types to get in; `workspace` picks one when the user has several."""
    host, port = _gateway()
    login = f"{user}+{workspace}" if workspace else user
    return f"ssh {login}@{host}" if port == 22 else f"ssh -p {port} {login}@{host}"


def host_key() -> str | None:
    """The fingerprint of the gateway's key, which ssh asks about the first time; None before there is one."""
    try:
        fingerprint, _ = accounts.parse_public_key((parts().settings.keys / HOST_KEY).read_text())
    except (OSError, ValueError, InvalidInput):
        return None
    return fingerprint


def _gateway() -> tuple[str, int]:
    """Without a configured host name it is the name by which the browser reached this page."""
    settings = parts().settings
    host = settings.gateway_host or urlsplit(f"//{request.host}").hostname or "localhost"
    return host, settings.gateway_listen[1]
