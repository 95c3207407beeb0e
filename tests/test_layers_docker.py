"""Versions that share layers, on a real engine: their bytes in the archive, and all of them on a fresh engine."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.engines import guest_dir, private_engine, shell, tiny_tar
from tests.support.worlds import NoScanner, World
from workspaces.engine.base import ImageConfig
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine
from workspaces.layers import compare, read, stack
from workspaces.model import JobKind, JobState, Snapshot, SnapshotState
from workspaces.snapshots import examining
from workspaces.store import Store

__all__ = ["guest_dir", "private_engine", "tiny_tar"]

pytestmark = pytest.mark.docker

IMAGE = "layers-test/base:1"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
Listing = dict[str, tuple[object, ...]]


@pytest.fixture
def world(
    tmp_path: Path, private_engine: PrivateEngine, guest_dir: Path, tiny_tar: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(examining, "Scanner", NoScanner)
    store = Store.open(tmp_path / "workspaces.db")
    engine = DockerEngine(private_engine.host, guest_dir, store.instance)
    engine.import_rootfs(tiny_tar, IMAGE, ImageConfig({"Cmd": ["/bin/sh"]}))
    world = World(tmp_path, store, engine, "layertest", IMAGE)
    yield world
    clear(world, engine)
    store.close()


def clear(world: World, engine: DockerEngine) -> None:
    engine.remove(world.container)
    for image in {i.id for i in engine.images() if any(ref.startswith("layertest/") for ref in i.refs)}:
        engine.remove_image(image)
    engine.untag(IMAGE)
    engine.retire()
    engine.close()


def sh(world: World, script: str) -> str:
    status, said = shell(world.engine, world.container, f"set -e\n{script}")
    assert status == 0, said
    return said


def commit(world: World) -> Snapshot:
    snapshot = world.approved()
    world.work()
    done = world.store.snapshot(snapshot.id)
    assert done.state is SnapshotState.ARCHIVED, world.describe()
    return done


def place(world: World, which: str) -> Path:
    """A directory of the container as the host sees it: UpperDir or MergedDir."""
    assert isinstance(world.engine, DockerEngine)
    client = docker.APIClient(base_url=world.engine.host)
    found = Path(client.inspect_container(world.container)["GraphDriver"]["Data"][which])
    client.close()
    return found


def listing(world: World) -> Listing:
    """Every path of the running container: mode, owner, size, time to the second, attributes, links, content."""
    top = place(world, "MergedDir")
    found: Listing = {}
    inodes: dict[int, str] = {}
    made = {"hosts", "hostname", "resolv.conf", "mtab", ".dockerenv"}  # by the engine, for each container
    for directory, names, files in os.walk(top):
        for path in (Path(directory, name) for name in (*names, *files)):
            name = str(path.relative_to(top))
            if name.split("/")[0] in ("dev", "proc", "sys", "run") or path.name in made or name == "etc":
                continue
            status = path.lstat()
            first = inodes.setdefault(status.st_ino, name) if not stat.S_ISDIR(status.st_mode) else name
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
            names_of = os.listxattr(path, follow_symlinks=False)
            xattrs = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in names_of if "overlay" not in key]
            found[name] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_size if content else 0,
                int(status.st_mtime),
                tuple(xattrs),
                str(path.readlink()) if path.is_symlink() else "",
                first,
                content,
            )
    return found


FIRST = """
echo one > /root/file; chmod 600 /root/file; ln /root/file /root/hardlink; ln -s /etc/passwd /root/link
mkdir -p /home/bobby/d; echo two > /home/bobby/d/two; chown -R 1000:1000 /home/bobby/d; chmod 2750 /home/bobby/d
echo three > /root/setuid; chmod 4711 /root/setuid; mkfifo /root/fifo; rm /etc/motd
mkdir /root/full /root/full/sub; echo x > /root/full/sub/x; echo y > /root/becomes; echo c > /root/cap
echo old > /root/old; touch -d '2001-02-03 04:05:06' /root/old; echo > "/root/$(printf 'b\\377 "q"')"
"""
SECOND = """
echo more >> /root/hardlink; rm -r /root/full; mkdir /root/full; echo z > /root/full/z
rm /root/becomes; mkdir -m 700 /root/becomes; echo in > /root/becomes/in; chown 1000 /home/bobby/d
mv /bin/chown /bin/renamed; echo back > /etc/motd; ln /root/old /root/again
"""


def test_round_trip_over_a_fresh_engine(world: World, guest_dir: Path, tmp_path: Path) -> None:
    """Only the archive and the database are left: each version comes back with its layers and all of its files."""
    world.lifecycle.ensure_running(world.id)
    sh(world, FIRST)
    os.setxattr(place(world, "MergedDir") / "root" / "cap", "security.capability", CAPABILITY)
    expected = [listing(world)]
    versions = [commit(world)]
    sh(world, SECOND)
    expected.append(listing(world))
    versions.append(commit(world))
    assert versions[1].diff_ids[:-1] == versions[0].diff_ids
    assert expected[0]["root/cap"][5] == (("security.capability", CAPABILITY),)
    assert expected[1]["root/hardlink"][7] == expected[1]["root/file"][7]
    assert isinstance(world.engine, DockerEngine)
    clear(world, world.engine)
    shutil.rmtree(tmp_path / "layers")

    fresh = PrivateEngine(tmp_path / "fresh")
    fresh.start()
    try:
        engine = DockerEngine(fresh.host, guest_dir, world.store.instance)
        world.engine = engine
        for version, files in zip(versions, expected, strict=True):
            world.add_job(JobKind.RESTORE, version.id)
            world.work()
            assert world.store.jobs(states=[JobState.FAILED]) == [], world.describe()
            image = engine.image(version.image_id or "")
            assert image is not None
            assert image.diff_ids == version.diff_ids
            assert listing(world) == files
        engine.remove(world.container)
        engine.retire()
        engine.close()
    finally:
        fresh.stop()
        shutil.rmtree(tmp_path / "fresh")


@pytest.mark.parametrize("count", [4, pytest.param(10, marks=pytest.mark.long)])
def test_versions_hold_each_change_once(world: World, count: int) -> None:
    """Bytes in the archive: at most 1.1 times the base and the changes, compressed."""
    world.lifecycle.ensure_running(world.id)
    base = b"".join(world.engine.layer(IMAGE, 0))
    expected = len(gzip.compress(base, 4))
    for number in range(count):
        sh(world, f"dd if=/dev/urandom of=/root/file{number} bs=1000 count=3000 2>/dev/null")
        sh(world, f"i=0; while [ $i -lt 20000 ]; do echo $i line; i=$((i+1)); done > /root/text{number}")
        for name in (f"file{number}", f"text{number}"):
            expected += len(gzip.compress((place(world, "UpperDir") / "root" / name).read_bytes(), 4))
        version = commit(world)
        assert len(version.diff_ids) == number + 2
    archived = sum(path.stat().st_size for path in world.archive.root.rglob("*") if path.is_file())
    assert archived <= 1.1 * expected, (archived, expected)
    assert world.our_images().keys() == {s.image_id for s in world.store.snapshots()}


def test_the_layer_of_a_directory_is_that_of_the_saved_image(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine on another host would give, and a storage driver without such directories."""
    world.lifecycle.ensure_running(world.id)
    sh(world, FIRST + "rm -r /home/bobby; mkdir -p /home/bobby/anew; rm -r /tmp; mkdir -m 1777 /tmp")
    os.setxattr(place(world, "MergedDir") / "root" / "cap", "security.capability", CAPABILITY)
    made = world.engine.commit(world.container, "layertest/alice:check", {})
    near = [read(world.engine.layer(made.id, number)) for number in (0, 1)]
    monkeypatch.setattr("workspaces.engine.dockerimages._layer_directory", lambda found, number: None)
    far = [read(world.engine.layer(made.id, number)) for number in (0, 1)]
    for one, other in zip(near, far, strict=True):
        # An engine that unpacks a layer makes directories that its tar lacks; the listing has them either way.
        assert {p: n._replace(mtime=n.seconds) for p, n in one.entries.items()} == {
            p: n._replace(mtime=n.seconds) for p, n in other.entries.items()
        }
        assert (one.groups, one.whiteouts, one.opaque) == (other.groups, other.whiteouts, other.opaque)
    assert near[1].opaque
    assert near[1].whiteouts
    assert compare(stack(near), stack(far)) == []


@pytest.mark.parametrize(
    ("act", "layers", "said"),
    [
        ("chmod 700 /root; chmod 755 /root", 0, "Nothing has changed since v1."),
        ("touch /root/x; rm /root/x", 1, "Only times or modes of directories have changed since v1."),
    ],
)
def test_a_restored_version_in_which_no_file_changed_says_so(world: World, act: str, layers: int, said: str) -> None:
    world.lifecycle.ensure_running(world.id)
    sh(world, FIRST + "chmod 755 /root")
    first = commit(world)
    world.add_job(JobKind.RESTORE, first.id, {"discard": "yes"})
    world.work()
    sh(world, act)
    second = commit(world)
    assert (second.version, second.parent_id) == (2, first.id)
    assert len(second.diff_ids) == len(first.diff_ids) + layers
    done = next(job for job in world.store.jobs() if job.kind is JobKind.COMMIT)
    assert done.message.endswith(said)


def test_a_version_of_many_layers_is_merged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workspaces.snapshots.layering.FLATTEN_LAYERS", 3)
    world.lifecycle.ensure_running(world.id)
    sh(world, FIRST)
    commit(world)
    sh(world, SECOND)
    files = listing(world)
    second = commit(world)
    base = world.engine.image(IMAGE)
    assert base is not None
    assert second.diff_ids[:-1] == base.diff_ids
    world.add_job(JobKind.RESTORE, second.id)
    world.work()
    assert world.store.jobs(states=[JobState.FAILED]) == [], world.describe()
    assert listing(world) == files
