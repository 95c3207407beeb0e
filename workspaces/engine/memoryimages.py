"""Images of the in-memory engine: configurations and layer tars in a directory, in Docker's format."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workspaces.engine import imagetar, layers
from workspaces.engine.base import ImageConfig, ImageInfo, Progress
from workspaces.errors import Conflict, EngineError, NotFound


class MemoryImages:
    """The image half of MemoryEngine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._layers = root / "layers"
        self._layers.mkdir(parents=True, exist_ok=True)
        self._configs: dict[str, bytes] = {}
        self._refs: dict[str, str] = {}  # reference → image id
        self._lock = threading.RLock()

    def _used(self, image_id: str) -> list[str]:
        """Names of the containers made from an image."""
        raise NotImplementedError

    def image(self, reference: str) -> ImageInfo | None:
        with self._lock:
            image_id = self._refs.get(imagetar.tagged(reference), reference)
            data = self._configs.get(image_id)
            refs = tuple(sorted(ref for ref, owner in self._refs.items() if owner == image_id))
        if data is None:
            return None
        document = json.loads(data)
        diff_ids = tuple(document["rootfs"]["diff_ids"])
        return ImageInfo(
            id=image_id,
            refs=refs,
            size=sum(self._layer(diff_id).stat().st_size for diff_id in diff_ids),
            created_at=imagetar.timestamp(str(document.get("created") or "")),
            diff_ids=diff_ids,
            config=ImageConfig(imagetar.known_values(document.get("config") or {})),
        )

    def images(self, labels: Mapping[str, str] | None = None, without: str = "") -> list[ImageInfo]:
        with self._lock:
            found = [self._image(image_id) for image_id in self._configs]
        wanted = (image for image in found if (labels or {}).items() <= image.config.labels.items())
        return [image for image in wanted if not without or without not in image.config.labels]

    def import_rootfs(self, rootfs: Path, reference: str, config: ImageConfig) -> ImageInfo:
        layer = imagetar.measure(rootfs)
        with self._lock:
            self._add_layer(b"".join(layer.chunks()))
            return self._create(config.values, (layer.diff_id,), reference, rootfs.stat().st_mtime)

    def pull(self, reference: str, progress: Progress) -> ImageInfo:
        progress(f"pulling {reference}", None)
        raise NotFound(f"Could not pull {reference}: this engine has no registry.")

    def load(self, chunks: Iterable[bytes]) -> list[ImageInfo]:
        try:
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
                entries = json.loads(_part(tar, "manifest.json"))
                with self._lock:
                    return [self._load_one(tar, entry) for entry in entries]
        except (tarfile.TarError, KeyError, ValueError) as exc:
            raise EngineError("The engine refused the image.", "Is it a tar from `docker save`?") from exc

    def _load_one(self, tar: tarfile.TarFile, entry: Mapping[str, Any]) -> ImageInfo:
        data = _part(tar, entry["Config"])
        diff_ids = json.loads(data)["rootfs"]["diff_ids"]
        for diff_id, path in zip(diff_ids, entry["Layers"], strict=True):
            if not self._layer(diff_id).exists() and self._add_layer(_inflated(_part(tar, path))) != diff_id:
                raise EngineError(f"The layer {path} does not have the digest {diff_id}.")
        image_id = imagetar.digest(data)
        self._configs[image_id] = data
        for reference in entry.get("RepoTags") or ():
            self._refs[reference] = image_id
        return self._image(image_id)

    def save(self, reference: str) -> Iterator[bytes]:
        image = self._image(reference)
        with self._lock:
            data = self._configs[image.id]
        found = []
        for diff_id in image.diff_ids:
            content = self._layer(diff_id).read_bytes()
            found.append(imagetar.Layer(diff_id, len(content), lambda content=content: iter([content])))  # type: ignore[misc]
        # Docker names only the reference that was asked for, and none when it was an id.
        refs = [imagetar.tagged(reference)] if imagetar.tagged(reference) in image.refs else []
        yield from imagetar.write_tar(data, refs, image.diff_ids, found)

    def reconfigure(self, image_id: str, config: Mapping[str, Any], reference: str) -> ImageInfo:
        source = self._image(image_id)
        if tuple((config.get("rootfs") or {}).get("diff_ids") or ()) != source.diff_ids:
            raise EngineError(f"The new configuration does not list the layers of {image_id}.")
        data = imagetar.config_bytes(config)
        return self.load(imagetar.write_tar(data, [imagetar.tagged(reference)], source.diff_ids, []))[0]

    def assemble(self, config: Mapping[str, Any], layers: Iterable[imagetar.Layer], reference: str) -> ImageInfo:
        data = imagetar.config_bytes(config)
        diff_ids = list(config["rootfs"]["diff_ids"])
        return self.load(imagetar.write_tar(data, [imagetar.tagged(reference)], diff_ids, layers))[0]

    def layer(self, reference: str, number: int) -> Iterator[bytes]:
        yield self._layer(self._image(reference).diff_ids[number]).read_bytes()

    def tag(self, image_id: str, reference: str) -> None:
        with self._lock:
            self._refs[imagetar.tagged(reference)] = self._image(image_id).id

    def untag(self, reference: str) -> None:
        with self._lock:
            image_id = self._refs.pop(imagetar.tagged(reference), None)
            if image_id and image_id not in self._refs.values():
                with contextlib.suppress(Conflict):
                    self.remove_image(image_id)

    def remove_image(self, image_id: str) -> None:
        with self._lock:
            found = self.image(image_id)
            if found is None:
                return
            users = self._used(found.id)
            if users:
                raise Conflict(f"The image {image_id} is used by {', '.join(sorted(users))}.")
            for reference in found.refs:
                del self._refs[reference]
            del self._configs[found.id]
            kept = {diff_id for image in self.images() for diff_id in image.diff_ids}
            for diff_id in set(found.diff_ids) - kept:
                self._layer(diff_id).unlink(missing_ok=True)

    # parts

    def _image(self, reference: str) -> ImageInfo:
        found = self.image(reference)
        if found is None:
            raise NotFound(f"The engine has no image {reference}.", "See: workspaces image list")
        return found

    def _layer(self, diff_id: str) -> Path:
        return self._layers / f"{diff_id.removeprefix('sha256:')}.tar"

    def _add_layer(self, content: bytes) -> str:
        diff_id = imagetar.digest(content)
        self._layer(diff_id).write_bytes(content)
        return diff_id

    def _unpack(self, image: ImageInfo, place: Path) -> None:
        for diff_id in image.diff_ids:
            layers.unpack(self._layer(diff_id), place)

    def _create(
        self, values: Mapping[str, Any], diff_ids: tuple[str, ...], reference: str, created: float | None = None
    ) -> ImageInfo:
        moment = time.time() if created is None else created
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(),
            "config": dict(values),
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created_by": "workspaces"} for _ in diff_ids],
        }
        data = imagetar.config_bytes(document)
        image_id = imagetar.digest(data)
        self._configs[image_id] = data
        self._refs[imagetar.tagged(reference)] = image_id
        return self._image(image_id)


def _part(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise EngineError(f"The tar has no {name}.")
    return stream.read()


def _inflated(data: bytes) -> bytes:
    """A layer unpacked, as Docker takes it plain or in gzip."""
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
