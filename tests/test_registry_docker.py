"""A version of a real engine in a real registry, and back into the engine when everything else is gone."""

# ruff: noqa: F401, F811 - fixtures are imported, and then arguments

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.engines import guest_dir, private_engine, tiny_tar
from tests.support.registries import PROGRAM, real_registry
from tests.support.worlds import World
from tests.test_snapshots_docker import FILL, LIST, host, sh, whole_seconds, world
from workspaces import snapshots
from workspaces.archive import Archive
from workspaces.model import JobKind, JobState
from workspaces.registry import Registry

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed"),
]


def test_the_registry_alone_brings_a_version_back(world: World, host: str, tmp_path: Path) -> None:
    with real_registry(tmp_path / "registry") as real:
        world.registry = Registry(f"{real.url}/team", world.root / "keys")
        world.lifecycle.ensure_running(world.id)
        sh(world, host, FILL)
        listing = whole_seconds(sh(world, host, LIST))
        snapshot = world.approved()
        world.work()
        version = world.store.snapshot(snapshot.id)
        assert version.registry_ref == f"{real.host}/team/snaptest/alice:v1", world.describe()
        key = world.signer.public
        assert snapshots.check_version(world.store, world.archive, key, version, lambda *_: None).problems == ()

        world.engine.remove(world.container)
        world.engine.remove_image(str(version.image_id))
        shutil.rmtree(world.archive.root)
        world.archive = Archive(world.archive.root)
        world.add_job(JobKind.RESTORE, snapshot.id)
        world.work()
        assert world.store.jobs(states=[JobState.FAILED]) == [], world.describe()
        assert whole_seconds(sh(world, host, LIST)) == listing
        image = world.engine.image(str(version.image_id))
        assert image is not None
        assert image.diff_ids == version.diff_ids
