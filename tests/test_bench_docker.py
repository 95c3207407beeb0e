"""`python -m bench`: a slice of it measures and leaves nothing; interrupted it leaves nothing either."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines import base_image, cache_directory, guest_dir, private_engine  # noqa: F401
from tests.support.traces import host, traces

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]
# A job in the background of a shell ignores the signals of its keyboard, and so does all that it starts.
COMMAND = ["env", "--default-signal", sys.executable, "-m", "bench", "--quick", "--only", "true"]


@pytest.fixture
def environment(base_image: str, tmp_path: Path) -> dict[str, str]:  # noqa: F811 - it fills the cache
    """With the tests' cache of base images, so that none is built anew."""
    (tmp_path / "workspaces").symlink_to(cache_directory())
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}


def home(said: str) -> str:
    found = re.search(r"in (/var/tmp/workspaces-bench-\S+)", said)
    assert found is not None, said
    return found[1]


def test_a_slice_measures_every_peer_and_leaves_nothing(environment: dict[str, str]) -> None:
    before = host()
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for way in ("client's defaults", "pinned"):
        row = re.search(rf"^  ssh … true, {way}: (.*)$", done.stdout, re.MULTILINE)
        assert row is not None, done.stdout
        peers = [re.sub(r" [\d.]+ ms.*", "", cell) for cell in row[1].split(" · ")]
        assert peers == ["gateway", "sshd + docker exec", "docker exec", "bare sshd"]
    assert traces(home(done.stdout)) == []
    assert host() == before


def test_interrupted_it_leaves_nothing(environment: dict[str, str]) -> None:
    before = host()
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "alice's first login" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(200) == 1, said
    assert "Traceback" not in said
    assert traces(home(said)) == []
    assert host() == before
