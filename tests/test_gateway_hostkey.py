"""The gateway's host key: made once, private, the same for all who ask."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sshgate.hostkey import NAME, ensure_host_key, load_host_key
from workspaces.errors import HostError


def test_made_once_and_private(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    fingerprint = ensure_host_key(keys)
    assert fingerprint.startswith("SHA256:")
    assert ensure_host_key(keys) == fingerprint
    assert (keys / NAME).stat().st_mode & 0o777 == 0o600
    assert keys.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in keys.iterdir()) == [NAME, f"{NAME}.pub"]


def test_openssh_reads_both_halves(tmp_path: Path) -> None:
    fingerprint = ensure_host_key(tmp_path)
    for name in (NAME, f"{NAME}.pub"):
        said = subprocess.run(["ssh-keygen", "-lf", tmp_path / name], capture_output=True, text=True, check=True).stdout
        assert fingerprint in said
        assert "ED25519" in said


def test_those_who_start_together_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(ensure_host_key, [tmp_path] * 64))) == 1


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ensure_host_key(tmp_path)
    (tmp_path / NAME).chmod(0o644)
    with pytest.raises(HostError, match="chmod 600"):
        load_host_key(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises(HostError, match="damaged"):
        load_host_key(tmp_path)
    assert (tmp_path / NAME).read_bytes() == content


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="Not a directory"):
        ensure_host_key(tmp_path / "file" / "keys")
