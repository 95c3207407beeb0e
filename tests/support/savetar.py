"""Images made by hand, as the tars that `docker save` of old and new engines writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: dict[str, bytes]) -> bytes:
    """A layer: the tar of these files."""
    return pack([(tarfile.TarInfo(name), data) for name, data in files.items()])


def pack(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of these members; each one's size is that of its data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def members(tar: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What `pack` takes."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return [(m, opened.extractfile(m).read() if m.isreg() else b"") for m in opened]  # type: ignore[union-attr]


def changed(tar: bytes, change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    """The tar of an image with another manifest."""
    result = []
    for member, data in members(tar):
        if member.name == "manifest.json":
            found = json.loads(data)
            change(found)
            data = json.dumps(found).encode()
        result.append((member, data))
    return pack(result)


def named(tar: bytes, *references: str) -> bytes:
    """The tar of an image that gives it these names."""
    return changed(tar, lambda manifest: manifest[0].update(RepoTags=list(references)))


@dataclass
class FakeImage:
    """An image of these layers (uncompressed tars); `saves` counts how often it was read."""

    layers: list[bytes]
    label: str = "x"
    saves: int = field(default=0)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(map(sha256, self.layers))

    @property
    def config(self) -> bytes:
        rootfs = {"type": "layers", "diff_ids": list(self.diff_ids)}
        value = {"architecture": "amd64", "os": "linux", "config": {"Labels": {"l": self.label}}, "rootfs": rootfs}
        return json.dumps(value).encode()

    @property
    def id(self) -> str:
        return sha256(self.config)

    def old(self) -> bytes:
        """Docker before 25; a layer that occurs twice is a symbolic link the second time."""
        members: list[tuple[tarfile.TarInfo, bytes]] = [(_file(f"{self.id[7:]}.json"), self.config)]
        names: list[str] = []
        first: dict[str, str] = {}
        for number, data in enumerate(self.layers):
            directory = sha256(b"%d" % number)[7:]
            name = f"{directory}/layer.tar"
            members += [(_directory(directory), b""), (_file(f"{directory}/VERSION"), b"1.0")]
            members.append((_file(f"{directory}/json"), b"{}"))
            if (diff_id := sha256(data)) in first:
                members.append((_link(name, f"../{first[diff_id]}"), b""))
            else:
                first[diff_id] = name
                members.append((_file(name), data))
            names.append(name)
        return pack([*members, (_file("manifest.json"), _manifest(f"{self.id[7:]}.json", names))])

    def new(self, compress: Callable[[bytes], bytes] = lambda data: data) -> bytes:
        """Docker from 25 on; with its containerd store, layers are compressed."""
        blobs = [compress(data) for data in self.layers]
        names = [f"blobs/sha256/{sha256(blob)[7:]}" for blob in blobs]
        config = f"blobs/sha256/{self.id[7:]}"
        members = [(_file(config), self.config), (_file("oci-layout"), b"{}"), (_file("index.json"), b"{}")]
        members += [(_file(name), blob) for name, blob in dict(zip(names, blobs, strict=True)).items()]
        return pack([*members, (_file("manifest.json"), _manifest(config, names))])

    def save(self, tar: bytes | None = None, chunk: int = 4000) -> Callable[[], Iterator[bytes]]:
        """What `Archive.put` calls: the tar (the old form unless given) in chunks of an odd size."""

        def chunks() -> Iterator[bytes]:
            self.saves += 1
            data = self.old() if tar is None else tar
            return (data[start : start + chunk] for start in range(0, len(data), chunk))

        return chunks


def gzipped(data: bytes) -> bytes:
    """In two gzip streams one after the other, as some tools write them."""
    return gzip.compress(data[:1000]) + gzip.compress(data[1000:])


def _manifest(config: str, layers: list[str]) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": None, "Layers": layers}]).encode()


def _file(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _directory(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member


def _link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member
