"""A lifecycle to test with: `life` has the store of tests.support.stores, and an engine with two images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import store
from workspaces import guest
from workspaces.engine.base import ImageConfig
from workspaces.engine.memory import MemoryEngine
from workspaces.lifecycle import Lifecycle
from workspaces.store import Store

__all__ = ["store"]


def add_image(engine: MemoryEngine, reference: str, content: str) -> None:
    """An image of one file, /who, that tells which image it is."""
    rootfs = engine.root / "rootfs.tar"
    with tarfile.open(rootfs, "w") as tar:
        member = tarfile.TarInfo("who")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content.encode()))
    engine.import_rootfs(rootfs, reference, ImageConfig())


@pytest.fixture
def engine(tmp_path: Path, store: Store) -> Iterator[MemoryEngine]:
    guest.install(tmp_path / "guest")
    made = MemoryEngine(tmp_path / "engine", tmp_path / "guest", store.instance)
    add_image(made, "base:1", "base")
    add_image(made, "als/alice:v1", "version")
    yield made
    made.close()


@pytest.fixture
def life(store: Store, engine: MemoryEngine, tmp_path: Path) -> Lifecycle:
    return Lifecycle(store, engine, tmp_path / "locks")
