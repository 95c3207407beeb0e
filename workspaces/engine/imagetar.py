"""The tar of `docker save` and `docker load`: manifest.json, configurations, layers. Pure but for reading files.

    rootfs tar ─► measure() ─► Layer ─► write_tar(configuration bytes, reference, layers) ─► chunks for `load`

An image's id is the SHA-256 of its configuration's bytes, so the same configuration always gives the same id.
"""

from __future__ import annotations

import bz2
import datetime
import gzip
import hashlib
import io
import itertools
import json
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from workspaces.errors import EngineError
from workspaces.streams import Chunks

CHUNK = 1 << 20
KEYS = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "Labels", "Volumes", "ExposedPorts", "StopSignal")


@dataclass(frozen=True, slots=True)
class Layer:
    """One uncompressed layer: its digest, its size in bytes, and a way to read it from the start."""

    diff_id: str
    size: int
    chunks: Callable[[], Iterator[bytes]]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """The one form in which a configuration is written, so that equal ones have equal ids."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def known_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a `config` object only the keys of KEYS that are set to something."""
    return {key: config[key] for key in KEYS if config.get(key)}


def open_rootfs(path: Path) -> IO[bytes]:
    """The tar at `path`, decompressed while it is read. Raises EngineError for a compression that is not known."""
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(path))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.open(path))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise EngineError(f"{path} is compressed with zstd, which the engine does not read.", f"Run: unzstd {path}")
    return path.open("rb")


def measure(path: Path) -> Layer:
    """A root file system's tar as a layer; reads it once."""

    def chunks() -> Iterator[bytes]:
        with open_rootfs(path) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    total = hashlib.sha256()
    size = 0
    try:
        for chunk in chunks():
            total.update(chunk)
            size += len(chunk)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as exc:
        raise EngineError(f"{path} cannot be read: {exc}.") from exc
    return Layer(f"sha256:{total.hexdigest()}", size, chunks)


def layer_path(diff_id: str) -> str:
    return f"{diff_id.removeprefix('sha256:')}/layer.tar"


def write_tar(
    config: bytes, references: Sequence[str], diff_ids: Sequence[str], layers: Iterable[Layer]
) -> Iterator[bytes]:
    """A `docker save` tar of one image. `layers` may lack those that the reader has already."""
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": list(references) or None, "Layers": [layer_path(d) for d in diff_ids]}]
    yield from _member(name, len(config), [config])
    written = set()
    for layer in layers:
        if layer.diff_id not in written:
            written.add(layer.diff_id)
            yield _header(f"{layer.diff_id.removeprefix('sha256:')}/", 0, tarfile.DIRTYPE, 0o755)
            yield from _member(layer_path(layer.diff_id), layer.size, layer.chunks())
    text = json.dumps(manifest).encode()
    yield from _member("manifest.json", len(text), [text])
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int, kind: bytes, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, mode
    return info.tobuf(tarfile.GNU_FORMAT)


def _member(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield _header(name, size, tarfile.REGTYPE, 0o644)
    total = 0
    for chunk in chunks:
        total += len(chunk)
        yield chunk
    if total != size:
        raise EngineError(f"{name} changed while it was read: {total} bytes instead of {size}.")
    yield bytes(-size % tarfile.BLOCKSIZE)


def read_layer(save: Callable[[], Iterable[bytes]], number: int) -> Iterator[bytes]:
    """Layer `number`, from 0, of the only image in the tar that `save` gives, uncompressed. `save` is called twice.

    The name of the layer's file is only known at the end of the tar. Raises EngineError when there is none.
    """
    try:
        name, links = _layer_name(save(), number)
        name = links.get(name, name)
        with tarfile.open(fileobj=cast(IO[bytes], Chunks(save())), mode="r|", bufsize=CHUNK) as tar:
            for member in tar:
                file = tar.extractfile(member) if posixpath.normpath(member.name) == name and member.isreg() else None
                if file is not None:
                    yield from _plain(file)
                    return
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zlib.error) as exc:
        raise EngineError(f"The engine's tar of an image cannot be read: {exc}.") from exc
    raise EngineError(f"The engine's tar of an image has no layer {number}.")


def _layer_name(chunks: Iterable[bytes], number: int) -> tuple[str, dict[str, str]]:
    """The name in the tar of a layer, and what the tar's symbolic links mean."""
    links, manifest = {}, b""
    with tarfile.open(fileobj=cast(IO[bytes], Chunks(chunks)), mode="r|", bufsize=CHUNK) as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            if member.issym():
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            elif name == "manifest.json" and member.size <= CHUNK and (file := tar.extractfile(member)):
                manifest = file.read()
    return posixpath.normpath(json.loads(manifest)[0]["Layers"][number]), links


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    head = file.read(CHUNK)
    chunks = itertools.chain([head], iter(lambda: file.read(CHUNK), b""))
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(io.BufferedReader(Chunks(chunks))) as unpacked:
            while chunk := unpacked.read(CHUNK):
                yield chunk
    else:
        yield from chunks


def tagged(reference: str) -> str:
    """`reference` with its tag, which is `latest` when none is given; an image's id (`sha256:…`) as it is.

    Without a tag Docker would take a name such as `cafe` for the beginning of an id, too.
    """
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


def timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time with up to nine digits of fraction; 0 for Docker's "never"."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not match or match[1].startswith("0001"):
        return 0.0
    whole = datetime.datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return whole.timestamp() + float(match[2] or 0)
