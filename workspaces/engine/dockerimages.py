"""Images of a Docker daemon: find, import, pull, load, save, reconfigure, tag, remove.

An image gets a new configuration without a byte of its layers being moved: the daemon looks a layer up by its
chain of digests before it opens the layer's file, so a tar with nothing but manifest and configuration loads.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docker.utils import parse_repository_tag

from workspaces.engine import imagetar, layerdir
from workspaces.engine.base import ImageConfig, ImageInfo, Progress
from workspaces.engine.connection import DockerConnection, docker_errors, stream_events
from workspaces.errors import Conflict, EngineError, EngineUnavailable, NotFound

CREATED_BY = "workspaces"


class DockerImages(DockerConnection):
    """The image half of the engine."""

    def image(self, reference: str) -> ImageInfo | None:
        """By reference or id."""
        try:
            with docker_errors(f"look at the image {reference}"):
                found = self.quick().inspect_image(imagetar.tagged(reference))  # type: ignore[no-untyped-call]
                return _image_info(found)
        except NotFound:
            return None

    def images(self, labels: Mapping[str, str] | None = None, without: str = "") -> list[ImageInfo]:
        """Tagged and untagged ones that carry all of `labels`, and none of the name `without`."""
        filters = {"label": [f"{key}={value}" for key, value in (labels or {}).items()]}
        with docker_errors("list the images"):
            found = self.quick().images(filters=filters)
        # The list has the labels: of thousands of versions, none is asked for that is not wanted.
        wanted = (item for item in found if not (without and without in (item.get("Labels") or {})))
        known = (self.image(str(item["Id"])) for item in wanted)
        return [image for image in known if image is not None]

    def _image(self, reference: str) -> ImageInfo:
        found = self.image(reference)
        if found is None:
            raise NotFound(f"The engine has no image {reference}.", "See: workspaces image list")
        return found

    def import_rootfs(self, rootfs: Path, reference: str, config: ImageConfig) -> ImageInfo:
        """Make a one-layer image from a tar of a root file system (plain or compressed)."""
        layer = imagetar.measure(rootfs)
        with docker_errors("ask the engine about itself"):
            architecture = str(self.quick().version()["Arch"])
        created = datetime.datetime.fromtimestamp(int(rootfs.stat().st_mtime), datetime.UTC).isoformat()
        document = {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": dict(config.values),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created": created, "created_by": CREATED_BY}],
        }
        data = imagetar.config_bytes(document)
        self.load(imagetar.write_tar(data, [imagetar.tagged(reference)], [layer.diff_id], [layer]))
        return self._image(imagetar.digest(data))

    def pull(self, reference: str, progress: Progress) -> ImageInfo:
        repository, tag = parse_repository_tag(imagetar.tagged(reference))
        what = f"pull {reference}"
        layers: dict[str, tuple[int, int]] = {}
        with docker_errors(what):
            for event in stream_events(self.bulk().pull(repository, tag=tag, stream=True, decode=True), what):
                detail = event.get("progressDetail") or {}
                if event.get("status") == "Downloading" and detail.get("total"):
                    layers[str(event.get("id"))] = (int(detail.get("current") or 0), int(detail["total"]))
                elif event.get("status") in ("Download complete", "Pull complete"):
                    total = layers.get(str(event.get("id")), (0, 0))[1]
                    layers[str(event.get("id"))] = (total, total)
                total = sum(size for _, size in layers.values())
                progress(f"pulling {reference}", sum(done for done, _ in layers.values()) / total if total else None)
        return self._image(reference)

    def load(self, chunks: Iterable[bytes]) -> list[ImageInfo]:
        """Load a `docker save` tar."""
        found: list[str] = []
        what = "load the image"
        try:
            with docker_errors(what):
                loading = self.bulk().load_image(chunks)  # type: ignore[no-untyped-call]
                for event in stream_events(loading, what):
                    match = re.match(r"Loaded image(?: ID)?: (\S+)", str(event.get("stream", "")))
                    if match:
                        found.append(match[1])
        except EngineUnavailable as exc:
            # A daemon that stops reading in the middle, because it does not like the tar, looks like one that is gone.
            self.info()
            raise EngineError("The engine refused the image.", "Is it a tar from `docker save`?") from exc
        if not found:
            raise EngineError("The engine found no image in that file.", "Make one with: docker save -o FILE IMAGE")
        return [self._image(name) for name in found]

    def save(self, reference: str) -> Iterator[bytes]:
        """The image as a `docker save` tar, in chunks."""
        path = f"/images/{quote(imagetar.tagged(reference), safe='/:')}/get"
        with docker_errors(f"save the image {reference}"), self.streamed(path) as answer:
            yield from answer.iter_content(imagetar.CHUNK)

    def reconfigure(self, image_id: str, config: Mapping[str, Any], reference: str) -> ImageInfo:
        """Make an image with the layers of `image_id` and `config` as its whole OCI configuration; tag it.

        Raises EngineError when `config["rootfs"]` does not list the layers of `image_id`.
        """
        source = self._image(image_id)
        diff_ids = tuple((config.get("rootfs") or {}).get("diff_ids") or ())
        if diff_ids != source.diff_ids:
            raise EngineError(f"The new configuration does not list the layers of {image_id}.")
        data = imagetar.config_bytes(config)
        references = [imagetar.tagged(reference)]
        self.load(imagetar.write_tar(data, references, diff_ids, []))
        return self._image(imagetar.digest(data))

    def assemble(self, config: Mapping[str, Any], layers: Iterable[imagetar.Layer], reference: str) -> ImageInfo:
        """Make an image of any layers with `config` as its whole OCI configuration; tag it.

        Docker looks a layer up by the chain of digests up to it before it opens its file in the tar.
        """
        data = imagetar.config_bytes(config)
        diff_ids = list(config["rootfs"]["diff_ids"])
        self.load(imagetar.write_tar(data, [imagetar.tagged(reference)], diff_ids, layers))
        return self._image(imagetar.digest(data))

    def layer(self, reference: str, number: int) -> Iterator[bytes]:
        """Layer `number` of an image as a tar: from where the storage driver keeps it, else from the image's tar."""
        with docker_errors(f"look at the image {reference}"):
            found = self.quick().inspect_image(imagetar.tagged(reference))  # type: ignore[no-untyped-call]
        top = _layer_directory(found, number)
        if top is None or not top.is_dir():
            yield from imagetar.read_layer(lambda: self.save(str(found["Id"])), number)
            return
        try:
            yield from layerdir.tar(top, self.mapped_root())
        except OSError as exc:
            raise EngineError(f"A layer of {reference} cannot be read: {exc.strerror}.") from exc

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image one more reference, taking it from another image that had it."""
        repository, tag = parse_repository_tag(imagetar.tagged(reference))
        with docker_errors(f"name the image {image_id} {reference}"):
            self.quick().tag(image_id, repository, tag)

    def untag(self, reference: str) -> None:
        """Nothing happens when there is no such reference. An image whose last one goes, goes, unless it is used."""
        found = self.image(reference)
        if found is None or found.id == reference:
            return
        try:
            with docker_errors(f"remove the name {reference}"):
                self.bulk().remove_image(imagetar.tagged(reference), noprune=True)
        except NotFound:
            return
        except Conflict:
            # The last name of an image that a container uses. Forcing it would delete the image under a stopped
            # container, which could then not be committed; a name that moves to an empty image only leaves it.
            created = "1970-01-01T00:00:00Z"
            empty = {"architecture": "amd64", "os": "linux", "created": created, "config": {}, "history": []}
            data = imagetar.config_bytes({**empty, "rootfs": {"type": "layers", "diff_ids": []}})
            self.load(imagetar.write_tar(data, [imagetar.tagged(reference)], [], []))
            with docker_errors(f"remove the name {reference}"):
                self.quick().remove_image(imagetar.tagged(reference))

    def remove_image(self, image_id: str) -> None:
        """Nothing happens when it is gone; Conflict when a container uses it."""
        found = self.image(image_id)
        if found is None:
            return
        with docker_errors(f"remove the image {image_id}"):
            users = self.quick().containers(all=True, filters={"ancestor": found.id})
        names = [str(user["Names"][0]).lstrip("/") for user in users if user["ImageID"] == found.id]
        if names:
            raise Conflict(f"The image {image_id} is used by {', '.join(sorted(names))}.")
        try:
            for reference in found.refs:
                with docker_errors(f"remove the image {image_id}"):
                    self.bulk().remove_image(reference, noprune=True)
            with docker_errors(f"remove the image {image_id}"):
                self.bulk().remove_image(found.id, noprune=True)
        except NotFound:
            return


def _layer_directory(found: Mapping[str, Any], number: int) -> Path | None:
    """Where an overlay driver keeps a layer of an inspected image; None when the engine does not say."""
    driver = found.get("GraphDriver") or {}
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay2" or not data.get("UpperDir"):
        return None
    directories = [data["UpperDir"], *filter(None, str(data.get("LowerDir") or "").split(":"))]  # topmost first
    count = len((found.get("RootFS") or {}).get("Layers") or ())
    return Path(directories[count - 1 - number]) if len(directories) == count > number >= 0 else None


def _image_info(found: Mapping[str, Any]) -> ImageInfo:
    return ImageInfo(
        id=str(found["Id"]),
        refs=tuple(found.get("RepoTags") or ()),
        size=int(found.get("Size") or 0),
        created_at=imagetar.timestamp(str(found.get("Created") or "")),
        diff_ids=tuple((found.get("RootFS") or {}).get("Layers") or ()),
        config=ImageConfig(imagetar.known_values(found.get("Config") or {})),
    )
