"""A layer's directory, or an image's tar, as the tar of one layer."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from tests.support.savetar import FakeImage, layer
from workspaces.engine import imagetar, layerdir
from workspaces.errors import EngineError
from workspaces.layers import Layer, Node, read

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_raw, revision 2


def index(top: Path, root: tuple[int, int] = (0, 0)) -> Layer:
    return read(layerdir.tar(top, root))


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    file = tmp_path / "d" / "file"
    file.write_bytes(b"content")
    file.chmod(0o4711)
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    os.link(file, tmp_path / "d" / "other")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / os.fsdecode(b"b\xff")).write_bytes(b"")
    found = index(tmp_path)
    node = found.entries["d/file"]
    assert (node.kind, node.mode, node.size, node.mtime) == ("file", 0o4711, 7, 1_700_000_000_123_456_789)
    assert found.entries["d/other"] == node
    assert found.groups == {"d/file": "d/file", "d/other": "d/file"}
    assert found.entries["d"].mode == 0o750
    assert found.entries["link"].target == "/etc/passwd"
    assert found.entries["fifo"].kind == "fifo"
    assert found.entries["b\udcff"].size == 0
    assert not found.whiteouts


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_whiteouts_owners_devices_and_attributes(tmp_path: Path) -> None:
    os.mknod(tmp_path / "gone", stat.S_IFCHR | 0o000, os.makedev(0, 0))
    os.mknod(tmp_path / "null", stat.S_IFCHR, os.makedev(1, 3))
    (tmp_path / "null").chmod(0o666)
    (tmp_path / "new").mkdir()
    os.setxattr(tmp_path / "new", "trusted.overlay.opaque", b"y")
    file = tmp_path / "new" / "ping"
    file.write_bytes(b"x")
    os.setxattr(file, "security.capability", CAPABILITY)
    for path in (tmp_path / "null", tmp_path / "new", file):
        os.chown(path, 100_000, 101_000, follow_symlinks=False)
    os.setxattr(file, "security.capability", CAPABILITY)
    found = index(tmp_path, (100_000, 100_000))
    assert found.whiteouts == {"gone"}
    assert found.opaque == {"new"}
    assert found.entries["null"] == Node("char", 0o666, 0, 1000, 0, found.entries["null"].mtime, "1:3")
    assert [key for key, _ in found.entries["new/ping"].xattrs] == ["security.capability"]
    assert found.entries["new/ping"].xattrs[0][1].encode("utf-8", "surrogateescape") == CAPABILITY
    with pytest.raises(EngineError, match="owner"):
        index(tmp_path, (200_000, 200_000))


def test_a_capability_of_another_user_namespace_is_as_docker_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    third = b"\x01\x00\x00\x03" + CAPABILITY[4:] + (100_000).to_bytes(4, "little")
    monkeypatch.setattr(layerdir, "_xattr", lambda handle, name: third)
    assert layerdir._capability(0) == CAPABILITY


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", ["trusted.overlay.redirect", "trusted.overlay.metacopy"])
def test_what_lies_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / "x"
    place.mkdir() if "redirect" in name else place.touch()
    os.setxattr(place, name, b"/y")
    with pytest.raises(EngineError, match="lies in another"):
        index(tmp_path)


def test_deep_directories_are_refused(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "/".join("d" * 300)).mkdir(parents=True)
    with pytest.raises(EngineError, match="deep"):
        index(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


IMAGE = FakeImage([layer({"a": b"1"}), layer({"b": b"2"}), layer({"a": b"1"})])


@pytest.mark.parametrize("tar", [IMAGE.old(), IMAGE.new(), IMAGE.new(gzip.compress)])
def test_a_layer_of_a_saved_image(tar: bytes) -> None:
    found = [b"".join(imagetar.read_layer(lambda: iter([tar[:700], tar[700:]]), number)) for number in range(3)]
    assert found == IMAGE.layers


@pytest.mark.parametrize("tar", [b"", b"no tar" * 300, IMAGE.old()[:4000], layer({"manifest.json": b"[]"})])
def test_what_is_no_saved_image(tar: bytes) -> None:
    with pytest.raises(EngineError):
        b"".join(imagetar.read_layer(lambda: iter([tar]), 1))
