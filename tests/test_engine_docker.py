"""What a container of ours may do to the machine it runs on, and what Docker does with what we ask of it."""

from __future__ import annotations

import gzip
import io
import socket
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from tests.support.engines import (
    DEBIAN,
    base_image,
    docker_engine,
    guest_dir,
    private_engine,
    shell,
    spec,
    tiny_image,
    tiny_tar,
    until,
)
from workspaces.engine import guestsocket, images
from workspaces.engine.base import GUEST_MOUNT, LABEL_INSTANCE, RUN_MOUNT, ImageConfig
from workspaces.engine.containers import CAPABILITIES
from workspaces.engine.dockerd import DockerEngine
from workspaces.errors import EngineError, EngineTimeout, EngineUnavailable, NoSpace
from workspaces.model import Network

pytestmark = pytest.mark.docker
__all__ = ["base_image", "docker_engine", "guest_dir", "private_engine", "tiny_image", "tiny_tar"]

CAPABILITY_BITS = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18,
}  # fmt: skip


def run(engine: DockerEngine, script: str, name: str = "ann", user: str = "0") -> str:
    status, said = shell(engine, name, script, user)
    assert status == 0, said
    return said


@pytest.fixture
def ann(docker_engine: DockerEngine, tiny_image: str) -> DockerEngine:
    """A small container that runs."""
    docker_engine.ensure_container(spec("ann"))
    docker_engine.start("ann")
    return docker_engine


@pytest.fixture
def debian(docker_engine: DockerEngine, base_image: str) -> DockerEngine:
    """A container of a Debian that runs."""
    docker_engine.ensure_container(spec("ann", image=DEBIAN, memory=512 << 20, pids=200))
    docker_engine.start("ann")
    return docker_engine


def test_process_1_is_the_agent_without_privileges(ann: DockerEngine) -> None:
    status = dict(line.split(":\t", 1) for line in run(ann, "cat /proc/1/status").splitlines() if ":\t" in line)
    assert status["Name"] == "agent"
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    wanted = sum(1 << CAPABILITY_BITS[name] for name in CAPABILITIES)
    assert [int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        0,
        wanted,
        wanted,
        wanted,
        0,
    ]


def test_root_inside_is_nobody_outside(ann: DockerEngine) -> None:
    pid = ann.quick().inspect_container("ann")["State"]["Pid"]
    assert Path(f"/proc/{pid}").stat().st_uid == ann.mapped_root()[0] > 0
    assert ann.info().userns


def test_guest_files_cannot_be_written(ann: DockerEngine) -> None:
    for path in (f"{GUEST_MOUNT}/agent", f"{GUEST_MOUNT}/new", "/proc/sys/kernel/hostname", "/sys/new"):
        status, said = shell(ann, "ann", f"touch {path}; echo x > {path}")
        assert status != 0, said


def test_run_directory_holds_little(ann: DockerEngine) -> None:
    """Filled by its owner it takes 64 KiB of memory and 16 files, and the host sees nothing else."""
    status, said = shell(ann, "ann", f"cd {RUN_MOUNT}; dd if=/dev/zero of=fill bs=1024 count=1000; ls -l fill")
    assert "No space left" in said
    status, said = shell(
        ann, "ann", f"cd {RUN_MOUNT}; rm fill; for i in 1 2 3 4 5 6 7 8 9 a b c d e f g h; do touch $i; done"
    )
    assert status != 0
    place = ann.guest_socket("ann").parent
    assert sum(file.lstat().st_size for file in place.iterdir() if file.is_file()) <= 64 << 10
    assert guestsocket.accepts(ann.guest_socket("ann"))
    ann.stop("ann")
    ann.start("ann")
    assert [path.name for path in place.iterdir()] == ["agent.sock"]


@pytest.mark.parametrize(
    "what", ["ln -s /etc/passwd agent.sock", "mkfifo agent.sock", "echo > agent.sock", "mkdir agent.sock"]
)
def test_what_is_put_in_the_sockets_place_is_not_opened(ann: DockerEngine, what: str) -> None:
    run(ann, f"cd {RUN_MOUNT}; rm agent.sock; {what}")
    begun = time.monotonic()
    assert not guestsocket.accepts(ann.guest_socket("ann"))
    assert time.monotonic() - begun < 5


def test_mounts_are_read_only(docker_engine: DockerEngine, tiny_image: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table").write_text("1,2\n", encoding="ascii")
    (tmp_path / "data" / "table").chmod(0o666)
    docker_engine.ensure_container(spec("ann", mounts=((str(tmp_path / "data"), "/data"),)))
    docker_engine.start("ann")
    assert run(docker_engine, "cat /data/table") == "1,2\n"
    status, said = shell(docker_engine, "ann", "echo 3 >> /data/table")
    assert (status != 0, "Read-only" in said) == (True, True)
    run(docker_engine, "echo x > /root/x")
    made = docker_engine.commit("ann", "test/mounts:v1", {})
    assert "Volumes" not in made.config.values
    with tarfile.open(fileobj=io.BytesIO(b"".join(docker_engine.save("test/mounts:v1")))) as outer:
        names = [name for name in outer.getnames() if name.endswith("layer.tar")]
        layers = [outer.extractfile(name).read() for name in names]  # type: ignore[union-attr]
    top = min(layers, key=len)
    with tarfile.open(fileobj=io.BytesIO(top)) as layer:
        assert {name for name in layer.getnames() if not name.startswith("root")} <= {"data"}
    assert b"/dev/workspaces" not in top


def test_processes_are_limited(ann: DockerEngine) -> None:
    ann.remove("ann")
    ann.ensure_container(spec("ann", pids=20))
    ann.start("ann")
    status, said = shell(ann, "ann", "i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done; sleep 0")
    assert status != 0, said
    details = ann.quick().inspect_container("ann")
    assert details["State"]["Running"]
    top = ann.quick().top("ann")["Processes"]
    assert len(top) <= 20


def test_memory_is_limited_and_told(docker_engine: DockerEngine, tiny_image: str) -> None:
    docker_engine.ensure_container(spec("ann", memory=32 << 20))
    docker_engine.start("ann")
    status, _ = shell(docker_engine, "ann", "dd if=/dev/zero of=/dev/null bs=100M count=1")
    assert status != 0
    assert guestsocket.accepts(docker_engine.guest_socket("ann"))
    settings = docker_engine.quick().inspect_container("ann")["HostConfig"]
    assert (settings["Memory"], settings["MemorySwap"]) == (32 << 20, 32 << 20)
    docker_engine.quick().kill("ann")
    until(lambda: not docker_engine.container("ann").running)  # type: ignore[union-attr]
    (found,) = docker_engine.containers({"test": "ann"})
    assert (found.exit_code, found.oom_killed) == (137, True)


def test_settings_of_a_container(ann: DockerEngine) -> None:
    details: dict[str, Any] = ann.quick().inspect_container("ann")
    settings = details["HostConfig"]
    assert settings["NanoCpus"] == 1_000_000_000
    assert settings["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}
    assert settings["RestartPolicy"]["Name"] == "no"
    assert not settings["Privileged"]
    assert not settings["Init"]
    assert settings["UsernsMode"] == ""
    assert details["Config"]["Hostname"] == "box"
    assert details["Config"]["Labels"][LABEL_INSTANCE] == ann.instance
    assert details["Config"]["StopSignal"] == "SIGTERM"


PACKAGE = """set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin
echo '#!/bin/sh' > /tmp/p/usr/bin/hello; chmod 755 /tmp/p/usr/bin/hello
cat > /tmp/p/DEBIAN/control <<X
Package: hello-test
Version: 1
Architecture: all
Maintainer: x <x@example.org>
Description: x
X
printf '#!/bin/sh\nuseradd --system hello && chown hello /usr/bin/hello\n' > /tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
dpkg-deb -b /tmp/p /tmp/p.deb > /dev/null
apt-get install -y /tmp/p.deb > /dev/null
hello; dpkg -s hello-test | grep 'install ok'; stat -c %U /usr/bin/hello
"""


def test_packages_and_accounts_can_be_added(debian: DockerEngine) -> None:
    run(debian, "useradd --create-home --shell /bin/bash carol && echo carol:secret | chpasswd -c SHA512")
    assert run(debian, "su carol -c 'id -un; touch ~/mine'") == "carol\n"
    assert run(debian, PACKAGE).endswith("Status: install ok installed\nhello\n")


@pytest.mark.parametrize(
    "forbidden",
    [
        "mount -t tmpfs none /mnt",
        "mknod /tmp/disk b 8 0",
        "unshare --user true",
        "unshare --mount true",
        "chroot /proc/1/root mount -o remount,rw /proc/sys",
        "dmesg",
        "nice -n -5 true && test $(nice -n -5 nice) -lt 0",
        "hostname other",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "echo b > /proc/sysrq-trigger",
        "cat /proc/kcore | head -c 1 | grep -q .",
    ],
)
def test_root_may_not(debian: DockerEngine, forbidden: str) -> None:
    status, said = shell(debian, "ann", forbidden)
    assert status != 0, said


def test_base_image_lacks_nothing(docker_engine: DockerEngine, base_image: str) -> None:
    assert [str(finding) for finding in images.check(docker_engine, DEBIAN) if not finding.present] == []
    image = docker_engine.image(DEBIAN)
    assert image is not None
    assert image.size < 350 << 20
    assert image.config.values["Cmd"] == ["bash"]


def test_start_after_paused(ann: DockerEngine) -> None:
    """A daemon that dies in the middle of a commit leaves the container frozen."""
    ann.quick().pause("ann")
    ann.start("ann")
    # Docker sets the state once more when it hears of the pause, which may be after it was told to go on.
    until(lambda: (found := ann.container("ann")) is not None and found.state == "running")
    ann.quick().pause("ann")
    ann.stop("ann", timeout=5)
    assert ann.container("ann").state == "exited"  # type: ignore[union-attr]


def test_a_container_whose_agent_ends_tells_why(docker_engine: DockerEngine, tiny_image: str, tmp_path: Path) -> None:
    broken = tmp_path / "guest"
    broken.mkdir()
    (broken / "agent").write_text("#!/bin/sh\necho this agent is broken; exit 7\n", encoding="ascii")
    (broken / "agent").chmod(0o755)
    engine = DockerEngine(docker_engine.host, broken, docker_engine.instance)
    engine.ensure_container(spec("ann"))
    with pytest.raises(EngineError, match="exit status 7") as caught:
        engine.start("ann")
    assert "this agent is broken" in caught.value.hint
    engine.close()


def test_changes_are_read_without_following_links(ann: DockerEngine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(123456))
    run(
        ann,
        f"mkdir /root/d; echo x > /root/d/f; ln -s {secret} /root/link; ln -s {tmp_path} /root/dir; mkfifo /root/fifo",
    )
    sizes = {change.path: change.size for change in ann.changes("ann").entries}
    assert sizes == {"/root/d": 0, "/root/d/f": 2, "/root/link": 0, "/root/dir": 0, "/root/fifo": 0}


def test_what_is_not_utf8_is_counted(ann: DockerEngine) -> None:
    run(ann, "dd if=/dev/zero of=\"/root/$(printf 'a\\377b')\" bs=1000 count=50 2>/dev/null")
    report = ann.changes("ann")
    assert report.added == 1
    assert report.bytes == 50_000


def test_a_thousand_changes_are_quick(ann: DockerEngine) -> None:
    run(ann, "mkdir /root/many; cd /root/many; i=0; while [ $i -lt 6000 ]; do echo $i > $i; i=$((i+1)); done")
    report = ann.changes("ann")
    assert report.added == len(report.entries) == 6001


def test_reconfigure_moves_no_layer(ann: DockerEngine) -> None:
    """Fifty megabytes, and a tenth of a second is enough; a second one costs as much."""
    run(ann, "dd if=/dev/urandom of=/root/big bs=1M count=50 2>/dev/null")
    made = ann.commit("ann", "test/big:v1", {})
    whole = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers"}}
    whole["rootfs"]["diff_ids"] = list(made.diff_ids)  # type: ignore[index]
    begun = time.monotonic()
    image = ann.reconfigure(made.id, whole, "test/big:v1")
    assert time.monotonic() - begun < 1
    ann.remove_image(image.id)


def test_a_full_disk_is_told(ann: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise APIError("x", explanation="write /x/layer: no space left on device")

    monkeypatch.setattr(ann.bulk(), "commit", full)
    with pytest.raises(NoSpace, match="could not commit ann"):
        ann.commit("ann", "test/full:v1", {})


def test_an_engine_that_does_not_answer(tmp_path: Path, guest_dir: Path) -> None:
    nothing = DockerEngine(f"unix://{tmp_path}/none.sock", guest_dir, "0" * 12)
    for call in (nothing.info, lambda: nothing.container("ann"), nothing.prepare, lambda: nothing.image("x")):
        with pytest.raises(EngineUnavailable):
            call()
    with socket.socket(socket.AF_UNIX) as silent, pytest.MonkeyPatch.context() as patch:
        silent.bind(f"{tmp_path}/silent.sock")
        silent.listen()
        patch.setattr("workspaces.engine.connection.CALL_SECONDS", 0.2)
        hanging = DockerEngine(f"unix://{tmp_path}/silent.sock", guest_dir, "0" * 12)
        with pytest.raises(EngineTimeout):
            hanging.info()


def test_layers_that_are_compressed_load(docker_engine: DockerEngine, tiny_tar: Path, tmp_path: Path) -> None:
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(tiny_tar.read_bytes(), 1))
    made = docker_engine.import_rootfs(packed, "test/packed:1", ImageConfig({"Labels": {LABEL_INSTANCE: "x"}}))
    docker_engine.ensure_container(spec("ann", image="test/packed:1", network=Network.NONE))
    assert docker_engine.start("ann").image_id == made.id
    docker_engine.remove("ann")
    docker_engine.remove_image(made.id)


def test_a_container_outlives_the_pruning_of_its_network(docker_engine: DockerEngine, tiny_image: str) -> None:
    def joined() -> dict[str, str]:
        found: dict[str, str] = api.inspect_container("ann")["NetworkSettings"]["Networks"][docker_engine.network_name]
        return found

    api = docker_engine.quick()
    docker_engine.ensure_container(spec("ann", network=Network.OPEN))
    docker_engine.start("ann")
    before = joined()["NetworkID"]
    docker_engine.stop("ann")
    api.remove_network(docker_engine.network_name)
    docker_engine.prepare()
    docker_engine.start("ann")
    assert joined()["NetworkID"] != before
    assert joined()["IPAddress"] in run(docker_engine, "cat /proc/net/fib_trie")
