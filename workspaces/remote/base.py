"""What the parts of RemoteStore share: the client, conditions as searches, and what there is on the host alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import quote

from workspaces.errors import UsageError
from workspaces.queries import quoted
from workspaces.remote.client import Client


def on_host(what: str = "This") -> UsageError:
    return UsageError(f"{what} needs the host itself.", "Run it there, without --server.")


class Remote:
    """What the store's methods of the same names say and do, by the rights of the token. Who acts is its owner."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise on_host()


def search(**conditions: str | None) -> str | None:
    """`q` for a list: those conditions that are given, each with its values between commas."""
    found = [
        f"{name}:{','.join(quoted(value) for value in said.split(','))}" for name, said in conditions.items() if said
    ]
    return " ".join(found) or None


def part(name: str) -> str:
    """A name as one part of an address, whatever it is."""
    return quote(name, safe="").replace(".", "%2E")


def given(**fields: object) -> Mapping[str, object]:
    """A body of those fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def moment(at: float | None) -> str | None:
    """A time as the API takes it."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
