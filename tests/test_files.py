"""Files that are put whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from workspaces.files import put, sync_directory


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.mark.usefixtures("umask")
def test_a_file_has_its_content_and_exactly_its_mode(tmp_path: Path) -> None:
    for mode in (0o600, 0o644, 0o755):
        path = tmp_path / f"{mode:o}"
        put(path, b"content", mode)
        assert path.read_bytes() == b"content"
        assert path.stat().st_mode & 0o7777 == mode
        assert path.stat().st_nlink == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_there_stays_unless_it_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key"
    put(path, b"first", 0o600)
    put(path, b"second", 0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o600)
    put(path, b"third", 0o644, over=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"third", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_is_replaced_not_followed(tmp_path: Path) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "key"
    elsewhere.write_bytes(b"kept")
    path.symlink_to(elsewhere)
    put(path, b"new", 0o600)
    assert path.is_symlink()
    put(path, b"new", 0o600, over=True)
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == b"kept"


def test_all_who_put_one_at_the_same_time_find_the_same(tmp_path: Path) -> None:
    path, together = tmp_path / "key", Barrier(8)

    def run(number: int) -> bytes:
        together.wait()
        put(path, bytes([number]) * 1000, 0o600)
        return path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(run, range(8)))
    assert len(found) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["fsync", "fchmod"])
def test_what_fails_leaves_what_was_there_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "key"
    put(path, b"first", 0o600)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, fails, full)
    for over in (False, True):
        with pytest.raises(OSError, match="no space"):
            put(path, b"second", 0o600, over=over)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_durable_before_its_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen, fsync = tmp_path / "key", [], os.fsync

    def watched(handle: int) -> None:
        seen.append((Path(os.readlink(f"/proc/self/fd/{handle}")).is_dir(), path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    put(path, b"content", 0o600)
    assert seen == [(False, False), (True, True)]


def test_only_a_directory_is_synced(tmp_path: Path) -> None:
    sync_directory(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")
