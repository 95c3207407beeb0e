"""Building the agent, and putting it where containers see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.guest import ROOT
from workspaces import guest
from workspaces.errors import HostError


def test_what_containers_see(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        guest.install(tmp_path / "state" / "guest")
    finally:
        os.umask(old)
    target = tmp_path / "state" / "guest"
    seen = [path for path in target.rglob("*") if not str(path.relative_to(target)).startswith("sftp")]
    modes = {str(path.relative_to(target)): oct(path.stat().st_mode & 0o7777) for path in seen}
    links = dict.fromkeys(("bin/snapshot", "bin/workspaces-sftp"), "0o755")
    assert modes == {"agent": "0o755", "bin": "0o755", **links, "env.sh": "0o644"}
    assert target.stat().st_mode & 0o7777 == 0o755
    assert os.readlink(target / "bin" / "snapshot") == "../agent"
    assert (target / "agent").read_bytes() == guest.agent_path().read_bytes()


def test_repeating_changes_nothing_and_repairs_what_differs(tmp_path: Path) -> None:
    guest.install(tmp_path)
    before = (tmp_path / "agent").stat().st_ino
    guest.install(tmp_path)
    assert (tmp_path / "agent").stat().st_ino == before
    (tmp_path / "agent").chmod(0o700)
    (tmp_path / "env.sh").write_text("old")
    (tmp_path / "bin" / "snapshot").unlink()
    (tmp_path / "bin" / "snapshot").write_text("old")
    guest.install(tmp_path)
    assert (tmp_path / "agent").stat().st_mode & 0o7777 == 0o755
    assert "snapshot" in (tmp_path / "env.sh").read_text()
    assert (tmp_path / "bin" / "snapshot").is_symlink()
    left = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("sftp"))
    assert left == ["agent", "bin", "env.sh"]


def test_a_running_agent_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(Path("/bin/sleep").read_bytes())
    (tmp_path / "agent").chmod(0o755)
    with subprocess.Popen([tmp_path / "agent", "100"]) as running:
        guest.install(tmp_path)
        running.kill()
    assert (tmp_path / "agent").read_bytes() == guest.agent_path().read_bytes()


@pytest.mark.parametrize("built", [(), ("agent",), ("passwd.so",)])
def test_a_missing_agent_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: tuple[str, ...]) -> None:
    (tmp_path / "bin").mkdir()
    for name in built:
        (tmp_path / "bin" / name).write_text("")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setattr(guest, "_HERE", tmp_path)
    with pytest.raises(HostError, match="The guest agent has not been built") as caught:
        guest.install(tmp_path / "guest")
    assert "make install" in caught.value.hint


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot be written"):
        guest.install(tmp_path / "file")


@pytest.mark.parametrize(
    ("compiler", "sentence"),
    [
        ("no-such-compiler", "needs a C compiler and no-such-compiler is not installed: apt install gcc."),
        ("{tmp}/cc", "needs the C library's headers and static libraries: apt install libc6-dev."),
    ],
    ids=["compiler", "library"],
)
def test_what_the_build_lacks_is_said_in_a_sentence(tmp_path: Path, compiler: str, sentence: str) -> None:
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho '/usr/bin/ld: cannot find -lc: No such file' >&2\nexit 1\n")
    fake.chmod(0o755)
    before = guest.agent_path().stat()
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_agent"],
        cwd=ROOT,
        env=os.environ | {"CC": compiler.format(tmp=tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert guest.agent_path().stat().st_mtime == before.st_mtime
