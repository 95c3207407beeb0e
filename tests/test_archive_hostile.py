"""The tar of an engine is not trusted: what is not the image asked for is refused, and nothing of it stays."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.savetar import FakeImage, layer, pack, sha256
from workspaces.archive import Archive
from workspaces.archive.deflate import inflate
from workspaces.archive.storage import CHUNK
from workspaces.errors import ArchiveError, Corrupt

pytestmark = pytest.mark.slow

WORK = layer({"root/result.txt": b"42\n" * 1000})
IMAGE = FakeImage([WORK])


def members(tar: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return [(m, f.read() if (f := opened.extractfile(m)) else b"") for m in opened]


def changed(name: str, data: bytes) -> bytes:
    """The new form of the image with one member's data replaced."""
    return pack([(m, data if m.name == name else old) for m, old in members(IMAGE.new())])


def manifest_with(**values: object) -> bytes:
    [entry] = json.loads(next(data for m, data in members(IMAGE.new()) if m.name == "manifest.json"))
    return changed("manifest.json", json.dumps([{**entry, **values}]).encode())


def extra(kind: bytes, name: str, target: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return pack([(member, b""), *members(IMAGE.new())])


LAYER_NAME = f"blobs/sha256/{sha256(WORK)[7:]}"
REFUSED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no tar": lambda: b"x" * 5000,
    "cut off": lambda: IMAGE.old()[:3000],
    "another layer": lambda: changed(LAYER_NAME, bytes(reversed(WORK))),
    "another configuration": lambda: changed(f"blobs/sha256/{IMAGE.id[7:]}", b'{"rootfs": {"diff_ids": []}}'),
    "configuration that is no JSON": lambda: manifest_with(Config=LAYER_NAME),
    "no manifest": lambda: pack([m for m in members(IMAGE.new()) if m[0].name != "manifest.json"]),
    "manifest twice": lambda: pack([*members(IMAGE.new()), members(IMAGE.new())[-1]]),
    "manifest of nonsense": lambda: changed("manifest.json", b"[" * 100_000),
    "two images": lambda: changed("manifest.json", b"[{}, {}]"),
    "layers missing": lambda: manifest_with(Layers=[]),
    "layer of a number": lambda: manifest_with(Layers=[1]),
    "layer outside": lambda: manifest_with(Layers=["../../../etc/passwd"]),
    "links in a circle": lambda: pack(
        [(_link("a", "b"), b""), (_link("b", "a"), b""), *members(manifest_with(Layers=["a"]))]
    ),
    "gzip cut off": lambda: changed(LAYER_NAME, gzip.compress(WORK)[:-20]),
    "too many members": lambda: pack([*((tarfile.TarInfo(f"f{n}"), b"") for n in range(5000)), *members(IMAGE.new())]),
}


def _link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize("what", REFUSED)
def test_refused(tmp_path: Path, what: str) -> None:
    archive = Archive(tmp_path / "archive")
    tar = REFUSED[what]()
    with pytest.raises(Corrupt):
        archive.put(IMAGE.save(tar), ref="als/a:v1", config_digest=IMAGE.id, diff_ids=IMAGE.diff_ids)
    assert archive.list() == []
    assert not list((archive.root / ".tmp").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a" * 300])
def test_names_in_the_tar_touch_no_file(tmp_path: Path, kind: bytes, name: str) -> None:
    archive = Archive(tmp_path / "archive")
    archive.put(
        IMAGE.save(extra(kind, name, "/etc/passwd")), ref="als/a:v1", config_digest=IMAGE.id, diff_ids=IMAGE.diff_ids
    )
    assert archive.verify().problems == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]


def test_zstd_is_refused_with_the_reason(tmp_path: Path) -> None:
    tar = IMAGE.new(lambda data: b"\x28\xb5\x2f\xfd" + data)
    with pytest.raises(ArchiveError, match="zstd"):
        Archive(tmp_path).put(IMAGE.save(tar), ref="als/a:v1", config_digest=IMAGE.id, diff_ids=IMAGE.diff_ids)


def test_a_gzip_bomb_passes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    pieces = [len(piece) for piece in inflate(iter([bomb]))]
    assert sum(pieces) == 50_000_000
    assert max(pieces) <= CHUNK


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bytes_are_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tar = bytearray(IMAGE.old())
    for position in data.draw(st.lists(st.integers(0, len(tar) - 1), min_size=1, max_size=3)):
        tar[position] ^= data.draw(st.integers(1, 255))
    archive = Archive(tmp_path_factory.mktemp("a"))
    try:
        digest = archive.put(IMAGE.save(bytes(tar)), ref="als/a:v1", config_digest=IMAGE.id, diff_ids=IMAGE.diff_ids)
    except ArchiveError:
        assert archive.list() == []
    else:
        assert archive.has(digest)
        assert archive.verify().problems == ()


def test_killed_at_any_write_it_is_whole_or_absent_and_a_repeat_mends_it(tmp_path: Path) -> None:
    steps = 0
    while True:
        root = tmp_path / str(steps)
        child = os.fork()
        if child == 0:
            _put_until_killed(root, steps)
        _, status = os.waitpid(child, 0)
        archive = Archive(root)
        assert archive.verify().problems == ()
        assert len(archive.list()) in (0, 1)
        digest = archive.put(IMAGE.save(), ref="als/a:v1", config_digest=IMAGE.id, diff_ids=IMAGE.diff_ids)
        assert archive.has(digest)
        assert Archive(root).verify().problems == ()
        assert not list((root / ".tmp").iterdir())
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        steps += 1
    assert steps >= 10  # layer, configuration, manifest, oci-layout, index.json: each synced and renamed


def _put_until_killed(root: Path, steps: int) -> None:
    """In a child: archive the image, killed before write number `steps` reaches the disk."""
    left = steps

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(Path, "replace", counted(Path.replace))
        status = 1
        try:
            Archive(root).put(IMAGE.save(), ref="als/a:v1", config_digest=IMAGE.id, diff_ids=IMAGE.diff_ids)
            status = 0
        finally:
            os._exit(status)
