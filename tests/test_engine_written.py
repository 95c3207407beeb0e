"""Files of a container, opened on the host while its root may put anything in their place."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from workspaces.engine.written import Walker, WrittenFiles

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="sets attributes that only root may")


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    top = tmp_path / "upper"
    (top / "root" / "deep").mkdir(parents=True)
    (top / "root" / "note").write_text("mine")
    (top / "root" / "deep" / "er").write_text("deeper")
    (tmp_path / "secret").write_text("the host's")
    return top


@pytest.fixture
def walker(upper: Path) -> Iterator[Walker]:
    with closing(Walker(upper)) as found:
        yield found


def read(walker: Walker, path: str) -> bytes | None:
    file = walker.open(path)
    if file is None:
        return None
    with file:
        return file.read()


def test_regular_files_are_opened_in_any_order(walker: Walker) -> None:
    assert [read(walker, path) for path in ("/root/note", "/root/deep/er", "root/note")] == [
        b"mine",
        b"deeper",
        b"mine",
    ]


def test_nothing_else_is_opened(walker: Walker, upper: Path) -> None:
    os.mkfifo(upper / "fifo")
    (upper / "link").symlink_to("../secret")
    (upper / "out").symlink_to("..")
    (upper / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(os.path.relpath(upper / "socket"))
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/fifo", "/link", "/out/secret", "/loop", "/socket", "/root", "/", "", "/../secret", "/root/./note",
                 "/root/note/x", "/no/such", "/nul\0", "/" + "x" * 5000, "/\udcff"):  # fmt: skip
        assert walker.open(path) is None, path
    walker.lstat("/fifo")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lease_does_not_hold_the_reader_up(walker: Walker, upper: Path) -> None:
    """Who holds a lease on a file makes others who open it wait, for 45 s, unless they refuse to."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # by which the kernel tells the holder
    with (upper / "root" / "note").open("rb+") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        opened: list[object] = []
        thread = threading.Thread(target=lambda: opened.append(walker.open("/root/note")))
        thread.start()
        thread.join(5)
        assert opened == [None]
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    signal.signal(signal.SIGIO, before)


@needs_root
def test_a_file_whose_content_lies_elsewhere_is_not_opened(walker: Walker, upper: Path, tmp_path: Path) -> None:
    try:
        os.setxattr(upper / "root" / "note", "trusted.overlay.metacopy", b"")
    except OSError:
        pytest.skip("this file system has no such attributes")
    assert walker.open("/root/note") is None


def test_the_image_has_what_its_topmost_layer_has(tmp_path: Path, upper: Path) -> None:
    layers = [tmp_path / name for name in ("third", "second", "first")]
    for number, top in enumerate(layers):
        (top / "etc").mkdir(parents=True)
        (top / "etc" / "conf").write_text(str(number))
    (layers[0] / "etc" / "conf").unlink()
    (layers[0] / "etc" / "gone").symlink_to("conf")
    (layers[2] / "etc" / "gone").write_text("hidden")
    (layers[2] / "only").write_text("low")
    with closing(WrittenFiles(upper, layers)) as files:
        found = {}
        for path in ("/etc/conf", "/etc/gone", "/only", "/root/note"):
            file = files.open_base(path)
            found[path] = file.read() if file else None
        assert found == {"/etc/conf": b"1", "/etc/gone": None, "/only": b"low", "/root/note": None}


@needs_root
def test_whiteouts_and_opaque_directories_hide_what_is_below(tmp_path: Path, upper: Path) -> None:
    top, low = tmp_path / "top", tmp_path / "low"
    for name in ("a", "b", "c"):
        (low / name).mkdir(parents=True)
        (low / name / "file").write_text(name)
    (top / "a").mkdir(parents=True)
    (top / "b").mkdir()
    try:
        os.mknod(top / "a" / "file", 0o20000, os.makedev(0, 0))
        os.setxattr(top / "b", "trusted.overlay.opaque", b"y")
    except OSError:
        pytest.skip("this file system has no such files or attributes")
    with closing(WrittenFiles(upper, [top, low])) as files:
        assert [files.open_base(f"/{name}/file") is not None for name in ("a", "b", "c")] == [False, False, True]


def test_a_layer_that_is_not_there_leaves_nothing_open(tmp_path: Path, upper: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        WrittenFiles(upper, [tmp_path / "nowhere"])
    assert len(os.listdir("/proc/self/fd")) == before
