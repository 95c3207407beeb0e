"""The parts that every view needs, kept with the Flask application that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from webadmin.taking import Downloads
from webadmin.terminal.relay import Terminals
from webadmin.throttle import Throttle
from webadmin.watching import Watching
from workspaces.settings import Settings
from workspaces.store import Store

_KEY = "workspaces"


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    store: Store
    throttle: Throttle = field(default_factory=Throttle)
    downloads: Downloads = field(default_factory=Downloads)
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


def ssh_line(user: str, workspace: str | None = None) -> str:
    """What a person types to get in; `workspace` picks one when the user has several.

    Without a configured host name it is the name by which the browser reached this page.
    """
    settings = parts().settings
    host = settings.gateway_host or urlsplit(f"//{request.host}").hostname or "localhost"
    port = settings.gateway_listen[1]
    login = f"{user}+{workspace}" if workspace else user
    return f"ssh {login}@{host}" if port == 22 else f"ssh -p {port} {login}@{host}"
