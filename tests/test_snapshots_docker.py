"""Snapshots on a real engine: what was in the container is in the version, and comes back from the archive alone."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.engines import guest_dir, private_engine, tiny_tar
from tests.support.worlds import NoScanner, World
from workspaces.engine.base import ImageConfig
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.private import PrivateEngine
from workspaces.errors import ArchiveError
from workspaces.model import Finding, JobKind, JobState, Mount, PackageChange, SnapshotState
from workspaces.snapshots import examining
from workspaces.snapshots.secrets import Scanner
from workspaces.store import Store

__all__ = ["guest_dir", "private_engine", "tiny_tar"]

pytestmark = pytest.mark.docker

IMAGE = "snapshot-test/base:1"
RUNS = {
    "Env": ["PATH=/bin", "GREETING=hello"],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["id -un"],
    "User": "bobby",
    "WorkingDir": "/home/bobby",
    "Labels": {"maintainer": "somebody"},
}
FILL = """
set -e
echo one > /root/file; chmod 600 /root/file; ln /root/file /root/hardlink; ln -s /etc/passwd /root/link
mkdir -p /home/bobby/d; echo two > /home/bobby/d/two; chown -R 1000:1000 /home/bobby/d; chmod 2750 /home/bobby/d
echo three > /root/setuid; chmod 4711 /root/setuid; mkfifo /root/fifo; rm /etc/motd
dd if=/dev/zero of=/root/zeros bs=1000 count=100 2>/dev/null; touch '/root/a b"c'; echo x > /bin/new; chmod 755 /bin/new
"""
LIST = """
cd /; find etc root home bin -xdev ! -path etc ! -name hosts ! -name hostname ! -name resolv.conf ! -name mtab \
  -printf '%p %M %U:%G %s %l %n %T@\\n' | sort
find etc root home bin -xdev -type f ! -name hosts ! -name hostname ! -name resolv.conf -exec sha256sum {} + | sort
"""


@pytest.fixture
def host(private_engine: PrivateEngine) -> str:
    return private_engine.host


@pytest.fixture
def world(
    tmp_path: Path, host: str, guest_dir: Path, tiny_tar: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(examining, "Scanner", NoScanner)
    store = Store.open(tmp_path / "workspaces.db")
    engine = DockerEngine(host, guest_dir, store.instance)
    engine.import_rootfs(tiny_tar, IMAGE, ImageConfig(RUNS))
    world = World(tmp_path, store, engine, "snaptest", IMAGE)
    yield world
    engine.remove(world.container)
    for image in world.our_images():
        engine.remove_image(image)
    engine.untag(IMAGE)
    engine.retire()
    engine.close()
    store.close()


def sh(world: World, host: str, script: str) -> str:
    """Run a script in the container, as root."""
    client = docker.APIClient(base_url=host)
    made = client.exec_create(world.container, ["/bin/sh", "-c", script], user="0:0")
    output = client.exec_start(made["Id"])
    assert client.exec_inspect(made["Id"])["ExitCode"] == 0, output.decode()
    client.close()
    return str(output.decode())


def whole_seconds(listing: str) -> str:
    """Without the fractions of times, which engines' layers do not keep."""
    return re.sub(r"\.\d{10}$", "", listing, flags=re.MULTILINE)


def test_round_trip(world: World, host: str) -> None:
    world.lifecycle.ensure_running(world.id)
    sh(world, host, FILL)
    listing = whole_seconds(sh(world, host, LIST))
    snapshot = world.approved("the first")
    world.work()
    version = world.store.snapshot(snapshot.id)
    assert version.state is SnapshotState.ARCHIVED, world.describe()
    assert version.image_ref == "snaptest/alice:v1"
    assert world.our_images() == {version.image_id: ("snaptest/alice:v1",)}

    # its configuration is the base image's; it runs anywhere, and the agent left nothing in it
    image = world.engine.image("snaptest/alice:v1")
    assert image is not None
    assert {key: value for key, value in image.config.values.items() if key != "Labels"} == {
        key: value for key, value in RUNS.items() if key != "Labels"
    }
    assert image.config.labels["maintainer"] == "somebody"
    found = world.engine.run("snaptest/alice:v1", ("/bin/sh", "-c", "ls -a /dev; cat /root/file"))
    assert found.stdout.decode().endswith("one\n"), found
    client = docker.APIClient(base_url=host)
    made = client.create_container("snaptest/alice:v1", network_disabled=True)["Id"]
    client.start(made)
    assert client.wait(made)["StatusCode"] == 0
    assert client.logs(made) == b"bobby\n"
    client.remove_container(made)
    client.close()

    # container and image gone: the archive alone brings all of it back
    world.engine.remove(world.container)
    world.engine.remove_image(image.id)
    assert world.engine.image("snaptest/alice:v1") is None
    world.add_job(JobKind.RESTORE, snapshot.id)
    world.work()
    assert world.store.jobs(states=[JobState.FAILED]) == [], world.describe()
    assert whole_seconds(sh(world, host, LIST)) == listing
    assert sh(world, host, "cat /proc/self/mountinfo").count("/dev/workspaces/") == 2
    assert world.our_images() == {version.image_id: ("snaptest/alice:v1",)}

    # committed again without a change: the same layers, told so
    again = world.approved("the same")
    world.work()
    assert world.store.snapshot(again.id).diff_ids == version.diff_ids
    report = world.store.changes(again.id)
    assert report is not None
    assert report.warnings == ("Nothing has changed since snaptest/alice:v1.",)
    assert world.archive.verify().problems == ()


def test_a_stopped_container_is_committed(world: World, host: str) -> None:
    world.lifecycle.ensure_running(world.id)
    sh(world, host, "echo kept > /root/kept")
    world.lifecycle.stop(world.id)
    snapshot = world.approved()
    world.work()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED, world.describe()
    found = world.engine.run("snaptest/alice:v1", ("/bin/cat", "/root/kept"))
    assert found.stdout == b"kept\n"


WORKER = """
import sys
from pathlib import Path
from workspaces import jobs
from workspaces.archive import Archive
from workspaces.engine.dockerd import DockerEngine
from workspaces.lifecycle import Lifecycle
from workspaces.provenance import Signer
from workspaces.snapshots import examining
from workspaces.store import Store
from tests.support.worlds import NoScanner
examining.Scanner = NoScanner
root, host, guest_dir = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
store = Store.open(root / "workspaces.db")
engine = DockerEngine(host, guest_dir, store.instance)
lifecycle = Lifecycle(store, engine, root / "locks")
archive, signer = Archive(root / "archive"), Signer(root / "keys")
jobs.main(jobs.Worker(store, engine, lifecycle, archive, root / "locks", signer=signer))
"""


def test_worker_killed_in_the_middle_of_a_commit(world: World, host: str) -> None:
    assert isinstance(world.engine, DockerEngine)
    world.lifecycle.ensure_running(world.id)
    sh(
        world,
        host,
        "dd if=/dev/zero of=/root/big bs=1M count=150; echo end >> /root/big; sha256sum /root/big > /root/sum",
    )
    command = [sys.executable, "-c", WORKER, str(world.root), host, str(world.engine.guest_dir)]
    worker = subprocess.Popen(command)
    try:
        snapshot = world.approved()
        world.wait(lambda: _state(world) == "paused")
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert world.store.snapshot(snapshot.id).state is SnapshotState.COMMITTING
    assert world.our_images() == {}, "killed too late for this test"
    world.work()
    version = world.store.snapshot(snapshot.id)
    assert (version.state, version.version) == (SnapshotState.ARCHIVED, 1), world.describe()
    assert world.our_images() == {version.image_id: ("snaptest/alice:v1",)}
    assert len(world.archive.list()) == 1
    assert _state(world) == "running"
    found = world.engine.run("snaptest/alice:v1", ("/bin/sh", "-c", "sha256sum /root/big; cat /root/sum"))
    assert len(set(found.stdout.splitlines())) == 1


def _state(world: World) -> str:
    info = world.engine.container(world.container)
    return info.state if info else "absent"


def test_a_damaged_archive_leaves_the_workspace_as_it_is(world: World, host: str) -> None:
    world.lifecycle.ensure_running(world.id)
    sh(world, host, "echo new > /root/file")
    snapshot = world.approved()
    world.work()
    version = world.store.snapshot(snapshot.id)
    [archived] = world.archive.list()
    manifest = json.loads((world.archive.root / "blobs" / "sha256" / archived.digest[7:]).read_bytes())
    blob = world.archive.root / "blobs" / "sha256" / manifest["layers"][-1]["digest"][7:]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 255
    blob.write_bytes(data)
    world.engine.remove_image(version.image_id or "")
    job = world.add_job(JobKind.RESTORE, snapshot.id)
    world.work()
    failed = world.store.job(job.id)
    assert failed.state is JobState.FAILED
    assert "damaged" in str(failed.error), failed
    assert sh(world, host, "cat /root/file") == "new\n"
    with pytest.raises(ArchiveError):
        b"".join(world.archive.docker_tar(archived.digest))


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_other_tools_read_the_archive(world: World, host: str, tmp_path: Path) -> None:
    world.lifecycle.ensure_running(world.id)
    snapshot = world.approved()
    world.work()
    reference = f"oci:{world.archive.root}:snaptest/alice:v1"
    said = json.loads(subprocess.run(["skopeo", "inspect", reference], check=True, capture_output=True).stdout)
    version = world.store.snapshot(snapshot.id)
    assert said["Digest"] == version.manifest_digest
    assert said["Labels"]["org.opencontainers.image.version"] == "v1"
    assert len(said["Layers"]) == len(version.diff_ids)
    world.archive.export("snaptest/alice:v1", tmp_path / "out.tar")
    copy = ["skopeo", "copy", f"oci-archive:{tmp_path / 'out.tar'}", f"oci:{tmp_path / 'copy'}:x"]
    subprocess.run(copy, check=True, capture_output=True)


def test_a_commit_that_is_cancelled_while_the_engine_does_it(world: World, host: str) -> None:
    """The engine ends it, nothing of it stays, the container runs on, and a retry makes the version."""
    world.lifecycle.ensure_running(world.id)
    sh(world, host, "dd if=/dev/urandom of=/root/random bs=1000000 count=200 2>/dev/null")
    with world.working():
        snapshot = world.approved("the first")
        [job] = [job for job in world.store.jobs() if job.kind is JobKind.COMMIT]

        def paused() -> bool:
            container = world.engine.container(world.container)
            return container is not None and container.state == "paused"

        world.wait(paused, 60)
        told = world.store.cancel_job(job.id, actor="chief")
        assert told.state is JobState.RUNNING
        world.wait(lambda: world.store.job(job.id).state is not JobState.RUNNING, 60)
        assert world.store.job(job.id).state is JobState.CANCELLED, world.describe()
        assert world.our_images() == {}
        container = world.engine.container(world.container)
        assert container is not None
        assert container.state == "running"
        failed = world.store.snapshot(snapshot.id)
        assert (failed.state, failed.reason) == (SnapshotState.FAILED, "Cancelled by chief.")
        world.store.retry_job(job.id, actor="chief")
        world.wait(lambda: world.store.snapshot(snapshot.id).state is SnapshotState.ARCHIVED, 110)
    done = world.store.snapshot(snapshot.id)
    assert world.our_images() == {done.image_id: ("snaptest/alice:v1",)}
    [archived] = [job for job in world.store.jobs() if job.kind is JobKind.ARCHIVE]
    assert archived.bytes_total is not None
    assert archived.bytes_total > 200_000_000


def test_what_is_in_the_files_is_looked_at(
    world: World, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "Scanner", Scanner)
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.csv").write_bytes(b"patient,diagnosis\n" * 9000)
    world.store.set_challenge(world.slug, mounts=(Mount(str(data), "/data"),), actor="chief")
    world.lifecycle.ensure_running(world.id)
    token = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"
    sh(
        world,
        host,
        f"""
        set -e; dd if=/data/train.csv of=/root/mine.csv
        echo 'token = "{token}"' > /home/bobby/run.py; ln -s /data/train.csv /root/link
        echo 'token = "{token}"' > "/root/$(printf 'a\\377b')"; mkfifo /root/fifo
        mkdir -p /lib/apk/db; printf 'P:musl\\nV:1.2\\n\\n' > /lib/apk/db/installed
        """,
    )
    snapshot = world.request()
    world.work()
    report = world.store.changes(snapshot.id)
    assert report is not None
    assert report.secrets == (Finding("/home/bobby/run.py", "github-pat"),)
    assert report.copies == (Finding("/root/mine.csv", "/data/train.csv"),)
    assert report.packages == (PackageChange("apk", "musl", None, "1.2"),)
    assert report.packages_since == IMAGE
    assert "1 file (0 B) was not searched for secrets: a name that is not UTF-8" in report.warnings[-1]
    assert report.examined_at is not None
