"""A store to test with: `store` has chief (admin), alice and bob, each of the two with a workspace in challenge als."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from workspaces.model import Limits, Network, Role
from workspaces.store import Store


def fill(store: Store) -> Store:
    store.add_user("chief", Role.ADMIN, actor="test")
    store.add_challenge("als", "base:1", Limits(), Network.OPEN, actor="test")
    for name in ("alice", "bob"):
        store.add_user(name, actor="test")
        store.add_workspace("als", name, [name], actor="test")
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspaces.db"


@pytest.fixture
def empty(path: Path) -> Iterator[Store]:
    opened = Store.open(path)
    yield opened
    opened.close()


@pytest.fixture
def store(empty: Store) -> Store:
    return fill(empty)


@pytest.fixture
def alice(store: Store) -> int:
    """The id of her workspace."""
    return store.workspace("als/alice").id


def commit(store: Store, workspace_id: int, image_id: str = "sha256:aa") -> int:
    """Take a snapshot through to COMMITTED; its id."""
    snapshot = store.request_snapshot(workspace_id, "m", actor="alice", via="cli")
    store.approve_snapshot(snapshot.id, actor="chief")
    version = store.begin_commit(snapshot.id).version
    store.finish_commit(snapshot.id, f"als/x:v{version}", image_id, ["sha256:01"], 7)
    return snapshot.id
