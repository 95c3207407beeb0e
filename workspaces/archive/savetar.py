"""Reading what `docker save` writes: one image as a tar, in one pass and with bounded memory.

    tar ─► layers: hashed, packed into blobs unless the archive has them ─► blobs/sha256/…
        └► small JSON files, kept ─► manifest.json says which is the configuration and which are layers

Two forms are known. Docker before 25 writes <id>/layer.tar, <config>.json and manifest.json, and a symbolic link for a
layer that occurs twice; later ones write blobs/sha256/<hex> with manifest.json beside an OCI index, where layers may be
gzip already. The tar is not trusted: names are only compared, sizes and counts are bounded, and a layer counts
only when the SHA-256 of its unpacked bytes is the diffID that the configuration lists.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, cast

from workspaces.archive.deflate import inflate
from workspaces.archive.images import Images, Layer, PackedLayer
from workspaces.archive.manifest import config_diff_ids
from workspaces.archive.storage import CHUNK
from workspaces.errors import ArchiveError, Corrupt
from workspaces.streams import Chunks

MAX_MEMBERS = 4096  # 125 layers of at most four entries each, and room
MAX_LAYER = 1 << 40  # bytes, unpacked
MAX_KEPT = 32 << 20  # bytes of JSON held in memory

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_JSON_NAME = re.compile(r"manifest\.json|[0-9a-f]{64}\.json")
_LAYER_NAME = re.compile(r"[0-9a-f]{64}/layer\.tar|blobs/sha256/[0-9a-f]{64}")


class MissedLayer(Exception):
    """A layer was taken for one that the archive has, by its size, and was another: read again without guessing."""


@dataclass(slots=True)
class SavedImage:
    """What a tar had: the configuration's bytes and the packed layers, lowest first."""

    config: bytes
    layers: list[Layer]


@dataclass(slots=True)
class _Contents:
    kept: dict[str, bytes] = field(default_factory=dict)
    diff_ids: dict[str, str] = field(default_factory=dict)  # name in the tar → sha256 of the unpacked bytes
    links: dict[str, str] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)  # by diffID


def read(
    chunks: Iterable[bytes],
    images: Images,
    pool: ThreadPoolExecutor,
    *,
    config_digest: str,
    diff_ids: tuple[str, ...],
    known: Mapping[str, Layer],
    guess: bool,
    progress: Callable[[int], None],
) -> SavedImage:
    """Store the layers of the image with this configuration and these diffIDs.

    `known` are layers that need no packing. With `guess`, a layer as large as a known one is only hashed; MissedLayer
    when that was wrong. `progress` is called with the number of bytes read. Raises Corrupt when the tar is not
    that image, ArchiveError for a compression that Docker's older engines could not load again.
    """
    contents = _Contents(layers={diff_id: layer for diff_id, layer in known.items() if diff_id in diff_ids})
    sizes = set(_sizes(images, contents.layers.values())) if guess else set()
    stream = cast(IO[bytes], Chunks(_counted(chunks, progress)))
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    raise Corrupt(f"The engine's tar has more than {MAX_MEMBERS} entries.")
                _take(tar, member, contents, diff_ids, sizes, images, pool)
    except (tarfile.TarError, EOFError, OverflowError) as exc:
        raise Corrupt(f"The engine's tar cannot be read: {exc}.") from exc
    return _assemble(contents, config_digest, diff_ids)


def _sizes(images: Images, layers: Iterable[Layer]) -> Iterator[int]:
    for layer in layers:
        with suppress(Corrupt):  # another host has just deleted it; `put` will see
            yield images.unpacked_size(layer)


def _take(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    contents: _Contents,
    diff_ids: tuple[str, ...],
    sizes: set[int],
    images: Images,
    pool: ThreadPoolExecutor,
) -> None:
    name = posixpath.normpath(member.name)
    if member.issym():
        contents.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        return
    if member.islnk():
        contents.links[name] = posixpath.normpath(member.linkname)
        return
    if not member.isreg() or not (_JSON_NAME.fullmatch(name) or _LAYER_NAME.fullmatch(name)):
        return
    file = tar.extractfile(member)
    if file is None or member.issparse() or not 0 <= member.size <= MAX_LAYER:
        raise Corrupt(f"The engine's tar has an entry {name!r} of an impossible kind or size.")
    if name in contents.kept or name in contents.diff_ids:
        raise Corrupt(f"The engine's tar has {name!r} twice.")
    head = file.read(CHUNK)
    if member.size <= CHUNK and (_JSON_NAME.fullmatch(name) or head[:1] == b"{"):
        if sum(map(len, contents.kept.values())) + len(head) > MAX_KEPT:
            raise Corrupt("The engine's tar has too much JSON.")
        contents.kept[name] = head
    if _JSON_NAME.fullmatch(name):
        if member.size > CHUNK:
            raise Corrupt(f"The engine's tar has a {name!r} of {member.size} bytes.")
        return
    contents.diff_ids[name] = _store_layer(head, file, member.size, contents, diff_ids, sizes, images, pool)


def _store_layer(
    head: bytes,
    file: IO[bytes],
    size: int,
    contents: _Contents,
    diff_ids: tuple[str, ...],
    sizes: set[int],
    images: Images,
    pool: ThreadPoolExecutor,
) -> str:
    """Hash one entry and, if it is a layer of the image that the archive lacks, keep it; return its diffID."""
    if head.startswith(ZSTD_MAGIC):
        raise ArchiveError(
            "The engine keeps this image's layers in zstd, which not every engine can load.",
            "Pull or build the base image with gzip layers.",
        )
    pieces = _pieces(head, file)
    if head.startswith(GZIP_MAGIC):
        pieces = inflate(pieces)
        packs = True
    else:
        packs = size & 0xFFFFFFFF not in sizes
    sha, total = hashlib.sha256(), 0

    def hashed() -> Iterator[bytes]:
        nonlocal total
        for piece in pieces:
            total += len(piece)
            if total > MAX_LAYER:
                raise Corrupt("A layer unpacks to an impossible size.")
            sha.update(piece)
            yield piece

    if not packs:
        for _ in hashed():
            pass
        return f"sha256:{sha.hexdigest()}"
    with PackedLayer(images, pool) as layer:
        layer.fill(hashed())
        diff_id = f"sha256:{sha.hexdigest()}"
        if diff_id in diff_ids and diff_id not in contents.layers:
            contents.layers[diff_id] = layer.kept()
    return diff_id


def _pieces(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    while head:
        yield head
        head = file.read(CHUNK)


def _assemble(contents: _Contents, config_digest: str, diff_ids: tuple[str, ...]) -> SavedImage:
    """Check manifest.json, configuration and layers against what was asked for."""
    manifest = _json(contents.kept, "manifest.json")
    if not isinstance(manifest, list) or len(manifest) != 1 or not isinstance(manifest[0], dict):
        raise Corrupt("The engine's tar does not hold exactly one image.")
    config_name, names = manifest[0].get("Config"), manifest[0].get("Layers")
    if not isinstance(config_name, str) or not isinstance(names, list):
        raise Corrupt("The engine's manifest.json lacks Config or Layers.")
    config = contents.kept.get(_resolve(config_name, contents), b"")
    if f"sha256:{hashlib.sha256(config).hexdigest()}" != config_digest:
        raise Corrupt(f"The engine's tar has another configuration than {config_digest}.")
    listed = [contents.diff_ids.get(_resolve(name, contents)) for name in names if isinstance(name, str)]
    if tuple(listed) != diff_ids or config_diff_ids(config) != diff_ids:
        raise Corrupt("The layers in the engine's tar are not those of the image: their digests differ.")
    missed = [diff_id for diff_id in diff_ids if diff_id not in contents.layers]
    if missed:
        raise MissedLayer(missed[0])
    return SavedImage(config, [contents.layers[diff_id] for diff_id in diff_ids])


def _resolve(name: str, contents: _Contents) -> str:
    """Follow the links of the tar, as names only."""
    name = posixpath.normpath(name)
    for _ in range(4):
        if name not in contents.links:
            break
        name = contents.links[name]
    return name


def _json(kept: Mapping[str, bytes], name: str) -> Any:
    try:
        return json.loads(kept[name])
    except (KeyError, ValueError, RecursionError) as exc:
        raise Corrupt(f"The engine's tar has no readable {name}.") from exc


def _counted(chunks: Iterable[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        progress(seen)
        yield chunk
