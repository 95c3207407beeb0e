"""Base images in a file that somebody else made with `docker save`, who gets no say in what is called how here.

    file ─► manifest.json, configurations ─► are the names free? ─► a tar of this program's making ─► engine.load

An engine gives the images of a tar all names that its manifest lists, and takes them from those who had them: from the
base of every later workspace, or from a version. So no manifest but our own reaches it. Of the file, only
configurations and layers are passed on; that layers are what the configuration says, the engine checks.
"""

from __future__ import annotations

import json
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workspaces.engine import imagetar
from workspaces.engine.base import Engine, ImageInfo
from workspaces.errors import Conflict, InvalidInput
from workspaces.names import check_image, is_reserved_image, printable

MAX_JSON = 8 << 20  # bytes of a manifest or configuration
MAX_MEMBERS = 10_000  # of an image with the most layers that an engine takes, there are not a thousand
_DIFF_ID = re.compile(r"sha256:[0-9a-f]{64}")
_HINT = "Make one with: docker save -o FILE IMAGE"


@dataclass(frozen=True, slots=True)
class _Found:
    """One image of the file; `layers` has the member of each of `diff_ids`."""

    config: bytes
    references: tuple[str, ...]
    diff_ids: tuple[str, ...]
    layers: tuple[tarfile.TarInfo, ...]


def add(engine: Engine, path: Path, name: str | None) -> list[ImageInfo]:
    """Load the images of a `docker save` tar: the only one as `name`, or each under the names that the file gives it.

    Nothing is loaded unless every name of the file is free or the image's already; `name` may be another's. Raises
    InvalidInput for the file, Conflict for a name, EngineError.
    """
    with _opened(path) as tar:
        found = _images(tar)
        if name is not None:
            if len(found) != 1:
                raise InvalidInput(f"{path} has {len(found)} images; only one can be named {name}.")
            _check_form(name)
            found = [replace(found[0], references=(imagetar.tagged(name),))]
        else:
            for image in found:
                for reference in image.references:
                    _check_free(engine, reference, imagetar.digest(image.config))
        loaded = {}
        for image in found:
            layers = _layers(tar, image)
            for info in engine.load(imagetar.write_tar(image.config, image.references, image.diff_ids, layers)):
                loaded[info.id] = info
        return list(loaded.values())


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as tar:
            yield tar
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as exc:
        raise InvalidInput(f"{path} is not a tar file, or a damaged one.", _HINT) from exc


def _images(tar: tarfile.TarFile) -> list[_Found]:
    """What manifest.json lists. Raises InvalidInput unless all of it is there."""
    for number, _ in enumerate(tar):
        if number >= MAX_MEMBERS:
            raise InvalidInput(f"{tar.name!s} has more than {MAX_MEMBERS} files, so it is not of `docker save`.", _HINT)
    try:
        return [_image(tar, entry) for entry in json.loads(_small(tar, "manifest.json"))]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise InvalidInput(f"{tar.name!s} is not a whole tar of `docker save`.", _HINT) from exc


def _image(tar: tarfile.TarFile, entry: dict[str, Any]) -> _Found:
    config = _small(tar, entry["Config"])
    diff_ids = tuple(json.loads(config)["rootfs"]["diff_ids"] or ())
    layers = tuple(_member(tar, name) for name in entry["Layers"] or ())
    if len(layers) != len(diff_ids) or not all(_DIFF_ID.fullmatch(diff_id) for diff_id in diff_ids):
        raise ValueError("layers")
    return _Found(config, tuple(imagetar.tagged(name) for name in entry["RepoTags"] or ()), diff_ids, layers)


def _member(tar: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    """The file of that name, or that a link of that name means; KeyError when there is none."""
    member = tar.getmember(name)
    if member.issym():  # older engines save a layer once, however often it occurs
        member = tar.getmember(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname)))
    if not member.isreg():
        raise KeyError(name)
    return member


def _small(tar: tarfile.TarFile, name: str) -> bytes:
    member = _member(tar, name)
    if member.size > MAX_JSON:
        raise ValueError(name)
    return b"".join(_chunks(tar, member))


def _layers(tar: tarfile.TarFile, image: _Found) -> Sequence[imagetar.Layer]:
    """In the order in which they lie in the file, for a compressed one is read from its start to go back."""
    pairs = sorted(zip(image.diff_ids, image.layers, strict=True), key=lambda pair: pair[1].offset)
    return [
        imagetar.Layer(diff_id, member.size, lambda member=member: _chunks(tar, member))  # type: ignore[misc]
        for diff_id, member in pairs
    ]


def _chunks(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = tar.extractfile(member)
    while stream is not None and (chunk := stream.read(imagetar.CHUNK)):
        yield chunk


def _check_form(reference: str) -> None:
    if is_reserved_image(check_image(reference)):
        raise Conflict(
            f"{printable(reference)} has the form of a version's name, which only a snapshot gets.",
            "Choose another one with --name.",
        )


def _check_free(engine: Engine, reference: str, image_id: str) -> None:
    check_image(reference)
    holder = engine.image(reference)
    if holder is None:
        _check_form(reference)
    elif holder.id != image_id:
        raise Conflict(
            f"The file calls its image {reference}, and there is another one of that name. Nothing was loaded.",
            "Choose a name with --name; that of the one there is replaces it.",
        )
