"""Sessions in real containers whose images lack what the gateway's people use."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import guest_dir, private_engine
from tests.support.gateway import Person, until
from tests.support.gatewayprocess import ProcessStage, docker_stage
from workspaces.engine import images
from workspaces.engine.base import ImageConfig
from workspaces.engine.private import PrivateEngine

__all__ = ["guest_dir", "private_engine"]

pytestmark = pytest.mark.docker

EMPTY = "workspaces-test/empty:1"


@pytest.fixture(scope="module")
def stage(private_engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStage]:
    with docker_stage(tmp_path_factory.mktemp("gateway"), private_engine.host, EMPTY) as made:
        with tarfile.open(made.home / "empty.tar", "w") as tar:
            member = tarfile.TarInfo("root")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        made.engine.import_rootfs(made.home / "empty.tar", EMPTY, ImageConfig())
        yield made


@pytest.fixture(scope="module")
def alice(stage: ProcessStage) -> Person:
    return stage.person("alice")


def sftp(person: Person, batch: Path) -> subprocess.CompletedProcess[str]:
    command = person.line()
    options = [*command[1 : command.index("-p")], "-P", str(person.stage.port)]
    arguments = ["sftp", "-q", *options, "-b", str(batch), f"{person.name}@127.0.0.1"]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def test_sftp_in_an_image_without_one_file(stage: ProcessStage, alice: Person, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(os.urandom(3 << 20))
    batch = tmp_path / "batch"
    batch.write_text(f"put {tmp_path}/up there\nls -l\nget there {tmp_path}/down\n")
    done = sftp(alice, batch)
    assert (done.returncode, done.stderr) == (0, ""), stage.log()
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    assert [change.path for change in stage.engine.changes(stage.containers(alice)[0].name).entries] == ["/root/there"]


def test_a_command_in_an_image_without_a_shell_is_refused_in_a_sentence(alice: Person) -> None:
    done = alice.run("true")
    assert (done.returncode, done.stdout, done.stderr) == (254, b"", b"The image has no /bin/sh.\n")


def test_what_image_check_says_of_it(stage: ProcessStage) -> None:
    found = {finding.name: finding for finding in images.check(stage.engine, EMPTY)}
    assert str(found["sftp-server"]).endswith("/sftp/sftp-server; the image has none, so the host's is lent")
    assert not found["sh"].present
    assert not found["scp"].present


def test_sessions_of_a_killed_gateway_are_ended_at_the_next_start(stage: ProcessStage, alice: Person) -> None:
    command = [*alice.line("-s"), "sftp"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
        until(stage.store.sessions)
        stage.kill()
        assert client.wait(20) == 255
    assert [session.kind for session in stage.store.sessions()] == ["sftp"]
    stage.start()
    assert stage.store.sessions() == []
