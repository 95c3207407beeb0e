"""`workspaces demo` as an organiser runs it: the whole story on a real engine, and nothing left behind."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines import base_image, cache_directory, guest_dir, private_engine  # noqa: F401
from tests.support.traces import host, traces

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]


def demo(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "workspaces.cli", "demo", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=390,
        check=False,
    )


def test_the_whole_story_kept_and_ended(base_image: str, tmp_path: Path) -> None:  # noqa: F811 - it fills the cache
    """With the tests' cache of base images, so that none is built anew."""
    (tmp_path / "workspaces").symlink_to(cache_directory())
    before = host()
    played = demo("--keep", cache=tmp_path)
    assert played.returncode == 0, played.stdout + played.stderr
    home = re.search(r"in (/var/tmp/workspaces-demo-\S+)", played.stdout)
    assert home is not None, played.stdout
    try:
        assert len(re.findall(r"^\[ *\d+\.\d s\]", played.stdout, re.MULTILINE)) == 15
        line = re.search(r"^  alice +(ssh .*)$", played.stdout, re.MULTILINE)
        assert line is not None, played.stdout
        kept = subprocess.run([*shlex.split(line[1]), "cat als/model.txt"], capture_output=True, text=True, check=False)
        assert kept.stdout == "slope = 0.42\n", kept.stderr
    finally:
        ended = demo("--end", home[1], cache=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert traces(home[1]) == []
    assert host() == before
    again = demo("--end", home[1], cache=tmp_path)
    assert again.returncode == 1
    assert "is not the directory of a demonstration" in again.stderr


def test_a_step_that_fails_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    before = host()
    (tmp_path / "workspaces").write_text("a file where the cache directory should be")
    played = demo(cache=tmp_path)
    assert played.returncode == 1
    assert "FAILED: a base image from the distribution's mirror" in played.stdout
    assert "Traceback" not in played.stdout + played.stderr
    logs = re.search(r"The logs are in (/var/tmp/workspaces-demo-logs-\S+)", played.stdout)
    assert logs is not None, played.stdout
    assert sorted(path.name for path in Path(logs[1]).iterdir())
    for path in Path(logs[1]).iterdir():
        path.unlink()
    Path(logs[1]).rmdir()
    home = re.search(r"in (/var/tmp/workspaces-demo-(?!logs)\S+)", played.stdout)
    assert home is not None
    assert traces(home[1]) == []
    assert host() == before
