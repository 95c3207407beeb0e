"""Files from others with images in them: loaded as they are, under no name that is somebody else's."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import docker_engine, guest_dir, private_engine
from tests.support.savetar import FakeImage, changed, gzipped, layer, members, named, pack
from workspaces.engine import imagefile
from workspaces.engine.base import ImageConfig
from workspaces.engine.dockerd import DockerEngine
from workspaces.engine.memory import MemoryEngine
from workspaces.errors import Conflict, InvalidInput
from workspaces.names import is_reserved_image

__all__ = ["docker_engine", "guest_dir", "private_engine"]

BOTTOM, TOP = layer({"etc/hostname": b"x"}), layer({"home/model": b"y" * 5000})
THEIRS = FakeImage([TOP, BOTTOM, TOP])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MemoryEngine]:
    """One that has debian-ds:12, the base of all."""
    made = MemoryEngine(tmp_path / "memory", tmp_path / "guest")
    (tmp_path / "base.tar").write_bytes(BOTTOM)
    made.import_rootfs(tmp_path / "base.tar", "debian-ds:12", ImageConfig({"Cmd": ["bash"]}))
    yield made
    made.close()


def refs(engine: MemoryEngine) -> dict[str, str]:
    return {reference: image.id for image in engine.images() for reference in image.refs}


@pytest.mark.parametrize(
    "tar",
    [THEIRS.old(), THEIRS.new(), THEIRS.new(gzipped), gzip.compress(THEIRS.old())],
    ids=["old", "new", "containerd", "compressed"],
)
def test_an_image_is_loaded_under_the_name_that_was_chosen(engine: MemoryEngine, tmp_path: Path, tar: bytes) -> None:
    before = refs(engine)
    (tmp_path / "x.tar").write_bytes(tar)
    (image,) = imagefile.add(engine, tmp_path / "x.tar", "theirs")
    assert (image.id, image.diff_ids) == (THEIRS.id, THEIRS.diff_ids)
    assert refs(engine) == before | {"theirs:latest": THEIRS.id}


@pytest.mark.docker
@pytest.mark.parametrize("tar", [THEIRS.old(), THEIRS.new(gzipped)], ids=["old", "containerd"])
def test_docker_takes_what_is_made_of_the_file(docker_engine: DockerEngine, tmp_path: Path, tar: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(named(tar, "theirs:1", "theirs:2"))
    for name, references in (("chosen:1", ["chosen:1"]), (None, ["chosen:1", "theirs:1", "theirs:2"])):
        (image,) = imagefile.add(docker_engine, tmp_path / "x.tar", name)
        assert (image.id, image.diff_ids, sorted(image.refs)) == (THEIRS.id, THEIRS.diff_ids, references)
    docker_engine.remove_image(THEIRS.id)


def test_only_the_chosen_name_is_given(engine: MemoryEngine, tmp_path: Path) -> None:
    before = refs(engine)
    tar = named(THEIRS.old(), "theirs:1", "debian-ds:12", "als/bob:v1")
    (tmp_path / "x.tar").write_bytes(tar)
    imagefile.add(engine, tmp_path / "x.tar", "theirs:2")
    assert refs(engine) == before | {"theirs:2": THEIRS.id}
    imagefile.add(engine, tmp_path / "x.tar", "debian-ds:12")  # who says so may replace it
    assert refs(engine)["debian-ds:12"] == THEIRS.id


def test_names_of_the_file_are_given_when_they_are_free(engine: MemoryEngine, tmp_path: Path) -> None:
    before = refs(engine)
    (tmp_path / "x.tar").write_bytes(named(THEIRS.old(), "theirs:1", "ghcr.example/team/other:v2"))
    for _ in range(2):  # the image's own names are no others'
        assert [image.id for image in imagefile.add(engine, tmp_path / "x.tar", None)] == [THEIRS.id]
        assert refs(engine) == before | {"theirs:1": THEIRS.id, "ghcr.example/team/other:v2": THEIRS.id}
    (tmp_path / "nameless.tar").write_bytes(FakeImage([TOP]).old())
    assert [image.refs for image in imagefile.add(engine, tmp_path / "nameless.tar", None)] == [()]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("debian-ds:12", "another one of that name"),
        ("als/bob:v1", "only a snapshot gets"),
        ("docker.io/als/bob:v1", "only a snapshot gets"),
        ("workspaces-commit/0123456789ab:s1", "only a snapshot gets"),
        ("a\x1b[2Jb", "cannot name an image"),
    ],
)
def test_names_of_others_are_refused_before_anything_is_loaded(
    engine: MemoryEngine, tmp_path: Path, reference: str, said: str
) -> None:
    before = engine.images()
    (tmp_path / "x.tar").write_bytes(named(THEIRS.old(), "theirs:1", reference))
    with pytest.raises((Conflict, InvalidInput), match=said) as caught:
        imagefile.add(engine, tmp_path / "x.tar", None)
    assert "\x1b" not in str(caught.value)
    assert engine.images() == before
    if reference != "debian-ds:12":
        with pytest.raises((Conflict, InvalidInput), match=said):
            imagefile.add(engine, tmp_path / "x.tar", reference)
        assert engine.images() == before


def test_a_second_image_needs_a_name_of_its_own(engine: MemoryEngine, tmp_path: Path) -> None:
    other = FakeImage([BOTTOM])
    both = {member.name: (member, data) for tar in (THEIRS.new(), other.new()) for member, data in members(tar)}
    manifest = [
        {
            "Config": f"blobs/sha256/{image.id[7:]}",
            "RepoTags": [name],
            "Layers": [f"blobs/sha256/{d[7:]}" for d in image.diff_ids],
        }
        for image, name in ((THEIRS, "theirs:1"), (other, "other:1"))
    ]
    both["manifest.json"] = (tarfile.TarInfo("manifest.json"), json.dumps(manifest).encode())
    (tmp_path / "x.tar").write_bytes(pack(both.values()))
    with pytest.raises(InvalidInput, match="has 2 images"):
        imagefile.add(engine, tmp_path / "x.tar", "one:1")
    assert [image.id for image in imagefile.add(engine, tmp_path / "x.tar", None)] == [THEIRS.id, other.id]
    assert {"theirs:1": THEIRS.id, "other:1": other.id}.items() <= refs(engine).items()


def linked(name: str, target: str) -> bytes:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    return pack([(link, b"")])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar at all" * 100,
        THEIRS.old()[:-20000],
        gzip.compress(THEIRS.old())[:-200],
        gzip.compress(THEIRS.old())[:40] + b"\xff" * 400,
        layer({"etc/hostname": b"x"}),
        layer({"manifest.json": b"[" * 100_000}),
        layer({"manifest.json": b"{}x"}),
        layer({"manifest.json": b'[{"Config": "manifest.json"}]'}),
        layer({"manifest.json": b'[1, "x", null]'}),
        linked("manifest.json", "manifest.json"),
        linked("manifest.json", "../../../../etc/passwd"),
        changed(THEIRS.old(), lambda manifest: manifest[0]["Layers"].pop()),
        changed(THEIRS.old(), lambda manifest: manifest[0].update(Layers=["../../etc/passwd"] * 3)),
        changed(THEIRS.old(), lambda manifest: manifest[0].update(RepoTags=[["a"]])),
        FakeImage([TOP]).old().replace(b'"sha256:', b'"sha255:'),
    ],
)
def test_what_is_not_of_docker_save(engine: MemoryEngine, tmp_path: Path, data: bytes) -> None:
    before = engine.images()
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"x\.tar"):
        imagefile.add(engine, tmp_path / "x.tar", None)
    assert engine.images() == before


def test_a_file_of_too_many_files(engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefile, "MAX_MEMBERS", 5)
    (tmp_path / "x.tar").write_bytes(THEIRS.old())
    with pytest.raises(InvalidInput, match="more than 5 files"):
        imagefile.add(engine, tmp_path / "x.tar", None)


def test_a_file_that_is_not_there(engine: MemoryEngine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        imagefile.add(engine, tmp_path / "x.tar", None)


def test_which_names_are_reserved() -> None:
    assert is_reserved_image("als/alice:v12")
    assert not any(
        map(is_reserved_image, ("debian-ds:12", "als/alice:12", "a.example/als/alice:v1", "nvidia/cuda:v1-x"))
    )
