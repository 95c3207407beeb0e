"""Sessions while real Docker is killed, stopped and started again, and while a container runs out of memory."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.engines import base_image, guest_dir, private_engine
from tests.support.gateway import CHALLENGE, until
from tests.support.gatewayprocess import ProcessStage, docker_stage
from workspaces.engine.private import PrivateEngine
from workspaces.model import Limits

__all__ = ["base_image", "guest_dir", "private_engine"]

pytestmark = pytest.mark.docker

MEMORY = 96 << 20


@pytest.fixture(scope="module")
def stage(
    private_engine: PrivateEngine, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessStage]:
    with docker_stage(tmp_path_factory.mktemp("gateway"), private_engine.host, base_image) as made:
        made.store.set_challenge(CHALLENGE, actor="chief", limits=Limits(memory=MEMORY))
        yield made


@pytest.fixture
def engine(private_engine: PrivateEngine) -> Iterator[PrivateEngine]:
    yield private_engine
    private_engine.start()


def test_sessions_and_logins_go_on_while_the_engine_is_killed(stage: ProcessStage, engine: PrivateEngine) -> None:
    alice, bob = stage.person("alice"), stage.person("bob")
    with subprocess.Popen([*alice.line(), "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdout
        assert session.stdout.readline() == b"up\n"
        pid = engine.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: engine.status().pid != pid, what="the engine to end")
        assert alice.run("echo in").stdout == b"in\n"  # nobody asks the engine for what runs
        refused = bob.run("echo in")
        assert refused.returncode == 254
        assert refused.stderr.startswith(b"als/bob cannot be started: the container engine does not answer.")
        engine.start()
        assert bob.run("echo in").stdout == b"in\n"
        out, _ = session.communicate(b"still here\n", timeout=20)
    assert (out, session.returncode) == (b"still here\n", 0)


def test_sessions_end_with_a_sentence_when_the_engine_stops_and_come_back(
    stage: ProcessStage, engine: PrivateEngine
) -> None:
    carol = stage.person("carol")
    command = [*carol.line(), "echo kept > file; echo up; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as session:
        assert session.stdout
        assert session.stdout.readline() == b"up\n"
        engine.stop()
        _, said = session.communicate(timeout=60)
    assert session.returncode == 254
    assert said.startswith(b"The workspace als/carol ended: ")
    assert said.endswith(b"Log in again to start it.\n")
    engine.start()
    assert carol.run("cat file").stdout == b"kept\n"


def test_a_container_that_runs_out_of_memory(stage: ProcessStage) -> None:
    dave = stage.person("dave")
    with subprocess.Popen([*dave.line(), "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bystander:
        assert bystander.stdout
        assert bystander.stdout.readline() == b"up\n"
        hog = dave.run("tail /dev/zero; echo $?")
        assert hog.stdout == b"137\n"  # the kernel takes the largest
        out, _ = bystander.communicate(b"still here\n", timeout=20)
    assert (out, bystander.returncode) == (b"still here\n", 0)
    assert dave.run("echo in").stdout == b"in\n"
