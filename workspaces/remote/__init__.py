"""A workspaces server elsewhere, driven through its API: what the command line uses with `--server URL`.

    command ─► RemoteStore, RemoteLifecycle (the same calls as of the store and the lifecycle here) ─► Client ─► /api/v1

So a command is one piece of code, whichever it works on. Calls that the API does not have say that the command must be
run on the host.
"""

from __future__ import annotations

from workspaces.remote.base import on_host
from workspaces.remote.client import Client
from workspaces.remote.lifecycle import RemoteLifecycle
from workspaces.remote.store import RemoteStore

__all__ = ["Client", "RemoteLifecycle", "RemoteStore", "on_host"]
