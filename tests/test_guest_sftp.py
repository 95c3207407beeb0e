"""The sftp-server that is lent to images without one: what is put beside the agent, and that it runs anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workspaces import guest
from workspaces.guest import sftpserver

NEEDED = pytest.mark.skipif(sftpserver.host_server() is None, reason="this host has no sftp-server")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system with the guest's directory in it, and not one other file: no libc, no shell, no passwd."""
    made = tmp_path / "root"
    for directory in ("proc", "tmp", "dev"):
        (made / directory).mkdir(parents=True)
    (made / "dev" / "null").touch()
    guest.install(made / "guest")
    return made


def sftp(root: Path, program: str, commands: str) -> subprocess.CompletedProcess[str]:
    """OpenSSH's client with `program` in `root` as its server."""
    inside = f"unshare --map-root-user --mount --pid --fork --mount-proc=/proc --root={root} {program}"
    return subprocess.run(
        ["sftp", "-q", "-b", "-", "-D", inside], input=commands, capture_output=True, text=True, timeout=30
    )


@NEEDED
@pytest.mark.parametrize("passwd", ["", "bobby:x:1000:1000::/:/bin/sh\n", None], ids=["empty", "others", "none"])
def test_it_runs_without_libc_shell_and_account(root: Path, tmp_path: Path, passwd: str | None) -> None:
    if passwd is not None:
        (root / "etc").mkdir()
        (root / "etc" / "passwd").write_text(passwd)
    (tmp_path / "up").write_bytes(os.urandom(300_000))
    done = sftp(
        root,
        "/guest/bin/workspaces-sftp none",
        f"put {tmp_path}/up /tmp/there\nls -l /tmp\nget /tmp/there {tmp_path}/down\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "300000" in done.stdout
    assert (tmp_path / "down").read_bytes() == (root / "tmp/there").read_bytes() == (tmp_path / "up").read_bytes()


@NEEDED
def test_the_image_s_own_comes_first_and_one_that_cannot_run_is_passed_over(root: Path, tmp_path: Path) -> None:
    own = root / "usr/libexec/sftp-server"
    own.parent.mkdir(parents=True)
    shutil.copy(guest.agent_path(), own)  # a static program that prints its usage
    assert "usage: agent" in sftp(root, "/guest/bin/workspaces-sftp none", "").stderr
    own.write_bytes(Path("/bin/ls").read_bytes())  # whose loader is not there
    assert sftp(root, "/guest/bin/workspaces-sftp none", "ls /tmp\n").returncode == 0


def test_without_any_the_sentence_is_said(root: Path) -> None:
    (root / "guest/sftp").unlink(missing_ok=True)
    done = sftp(root, "/guest/bin/workspaces-sftp There_is_none.", "ls\n")
    assert done.returncode != 0
    assert "There_is_none.\n" in done.stderr


@NEEDED
def test_what_is_put_beside_the_agent(tmp_path: Path) -> None:
    guest.install(tmp_path)
    made = tmp_path / os.readlink(tmp_path / "sftp")
    modes = {path.name: oct(path.stat().st_mode & 0o7777) for path in made.iterdir()}
    assert modes.pop("sources") == "0o600"
    assert {"ld.so", "libc.so.6", "passwd.so", "sftp-server"} <= modes.keys()
    assert set(modes.values()) == {"0o755"}
    assert made.stat().st_mode & 0o7777 == 0o755
    server = sftpserver.host_server()
    assert server is not None
    assert (made / "sftp-server").read_bytes() == server.read_bytes()


@NEEDED
def test_it_is_made_anew_in_one_step_only_when_the_host_s_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "host" / "sftp-server"
    fake.parent.mkdir()
    server = sftpserver.host_server()
    assert server is not None
    shutil.copy(server, fake)
    monkeypatch.setattr(sftpserver, "SFTP_SERVERS", (fake,))
    target = tmp_path / "guest"
    guest.install(target)
    first = os.readlink(target / "sftp")
    inode = (target / "sftp" / "sftp-server").stat().st_ino
    guest.install(target)
    assert (target / "sftp" / "sftp-server").stat().st_ino == inode
    os.utime(fake, (1, 1))
    guest.install(target)
    assert os.readlink(target / "sftp") != first
    assert not (target / first).exists()
    assert str(fake) in [path for path, *_ in json.loads((target / "sftp/sources").read_text())]
    fake.unlink()
    guest.install(target)
    assert (target / "sftp" / "sftp-server").exists()  # what was lent once stays


@pytest.mark.parametrize("content", ["#!/bin/sh\n", ""], ids=["script", "empty"])
def test_a_host_whose_server_needs_no_loader_lends_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    fake = tmp_path / "sftp-server"
    fake.write_text(content)
    monkeypatch.setattr(sftpserver, "SFTP_SERVERS", (fake,))
    guest.install(tmp_path / "guest")
    assert sorted(path.name for path in (tmp_path / "guest").iterdir()) == ["agent", "bin", "env.sh"]


@pytest.mark.slow
def test_many_may_do_it_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from workspaces import guest; guest.install(Path(sys.argv[1]))"
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(6)]
    assert [(p.communicate(timeout=60)[1], p.returncode) for p in running] == [(b"", 0)] * 6
    left = {path.name for path in tmp_path.iterdir()} - {"agent", "bin", "env.sh", "sftp"}
    assert left <= ({os.readlink(tmp_path / "sftp")} if (tmp_path / "sftp").exists() else set())
