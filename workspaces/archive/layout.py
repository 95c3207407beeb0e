"""The archive: an OCI image layout whose images are the committed versions.

    put:  engine's save tar ─► layers, configuration, manifest as blobs ─► one entry more in index.json
    out:  index.json ─► manifest ─► configuration and layers ─► a tar that engines load (tarball.py)

    attach: a document about an image (artifacts.py) ─► its manifest, with the image as subject ─► one entry more

    oci-layout · index.json · blobs/sha256/<hex>      the layout, as the OCI image specification has it
    .lock · .tmp/                                     writers one at a time, and their unfinished files

index.json is replaced in one step and only after everything that it names is on disk, so that a crash leaves an image
whole or not at all; blobs that nothing names yet are used again by the next attempt. An entry never changes.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspaces.archive import savetar, tarball
from workspaces.archive.artifacts import EMPTY, Artifact, Attached, is_artifact, parse_artifact, parse_entries
from workspaces.archive.blobs import (
    Blobs,
    Descriptor,
    deflate_pool,
    disk_errors,
    inflate,
    is_digest,
    sync_directory,
)
from workspaces.archive.manifest import (
    INDEX_TYPE,
    LAYOUT_FILE,
    MANIFEST_TYPE,
    REF_NAME,
    Manifest,
    compact,
    parse_manifest,
)
from workspaces.errors import Conflict, Corrupt, NotFound

MAX_INDEX = 64 << 20  # bytes of index.json: room for 100,000 versions
MAX_DOCUMENT = 64 << 20  # bytes of a document about an image; a list of its packages has a few million


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image: `size` is the compressed bytes of its layers, shared ones included."""

    ref: str
    digest: str
    config_digest: str
    diff_ids: tuple[str, ...]
    size: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `verify` found wrong; as text, a sentence."""

    ref: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.ref}: {self.sentence}" if self.ref else self.sentence


class Archive:
    """The layout in `root`, made at the first `put`. Safe for many threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = Blobs(root)
        self._parsed: dict[str, tuple[Manifest, tuple[str, ...]]] = {}  # by manifest digest; they never change

    # reading
    def list(self) -> list[ArchivedImage]:
        """All images, in the order in which they came. Raises Corrupt when a manifest is damaged."""
        images = []
        for ref, descriptor in self._index().items():
            manifest, diff_ids = self._manifest(descriptor)
            size = sum(layer.size for layer in manifest.layers)
            config = manifest.config.digest
            images.append(ArchivedImage(ref, descriptor.digest, config, diff_ids, size, manifest.annotations))
        return images

    def find(self, image: str) -> ArchivedImage:
        """By name such as als/alice:v1, or by manifest digest. Raises NotFound."""
        for found in self.list():
            if image in (found.ref, found.digest):
                return found
        raise NotFound(f"The archive has no image {image}.", "See: workspaces archive list")

    def has(self, digest: str) -> bool:
        """Whether an image of that manifest digest is there, with all its blobs."""
        for descriptor in self._index().values():
            if descriptor.digest == digest:
                return self._is_whole(descriptor)
        return False

    def manifest_bytes(self, digest: str) -> bytes:
        """The manifest of that digest, of an image or of a document about one. Raises NotFound, Corrupt."""
        return self._blobs.read_json(self._descriptor(digest))

    def blobs_of(self, digest: str) -> tuple[Descriptor, ...]:
        """What an image's or a document's manifest refers to: configuration, then layers. Raises NotFound, Corrupt."""
        descriptor = self._descriptor(digest)
        if descriptor in (attached.manifest for attached in self._attached()):
            artifact = parse_artifact(self._blobs.read_json(descriptor))
            return (artifact.empty, artifact.document)
        manifest, _ = self._manifest(descriptor)
        return (manifest.config, *manifest.layers)

    def read_blob(self, blob: Descriptor) -> Iterator[bytes]:
        """One blob in chunks. Raises Corrupt, after the last chunk at the latest, unless it is whole."""
        return self._blobs.read(blob)

    def attached(self, digest: str) -> dict[str, str]:
        """The documents about the image of that manifest digest: name → digest of their manifest. Raises Corrupt."""
        return {found.name: found.manifest.digest for found in self._attached() if found.subject == digest}

    def document(self, digest: str) -> bytes:
        """The document whose manifest has that digest. Raises NotFound, Corrupt."""
        artifact = parse_artifact(self.manifest_bytes(digest))
        if artifact.document.size > MAX_DOCUMENT:
            raise Corrupt(f"{artifact.document.digest} has {artifact.document.size} bytes, too many for a document.")
        return b"".join(self._blobs.read(artifact.document))

    def docker_tar(self, digest: str, tag: str | None = None) -> Iterator[bytes]:
        """The image as a tar for engines and OCI tools, loaded under `tag` if given.

        Every blob's digest is checked on the way: Corrupt is raised before the tar is complete. NotFound when
        there is no such image.
        """
        for descriptor in self._index().values():
            if descriptor.digest == digest:
                manifest, _ = self._manifest(descriptor)
                return tarball.write(self._blobs, descriptor, manifest, tag)
        raise NotFound(f"The archive has no image {digest}.", "See: workspaces archive list")

    def export(self, image: str, path: Path) -> None:
        """Write one image, by name or digest, as a tar to `path`; the file appears when it is whole."""
        found = self.find(image)
        with disk_errors(path.parent):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    for chunk in self.docker_tar(found.digest, found.ref):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def verify(self) -> tuple[Problem, ...]:
        """Read every blob that an image names and unpack every layer; what is wrong, nothing when all is well."""
        try:
            index = self._index()
        except Corrupt as exc:
            return (Problem("", exc.message),)
        problems = []
        checked: dict[str, str] = {}  # layer's blob → its diffID, as read, or what is wrong with it
        for ref, descriptor in index.items():
            try:
                self._parsed.pop(descriptor.digest, None)
                manifest, diff_ids = self._manifest(descriptor)
            except Corrupt as exc:
                problems.append(Problem(ref, exc.message))
                continue
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
                if layer.digest not in checked:
                    checked[layer.digest] = self._diff_id(layer)
                found = checked[layer.digest]
                if found != diff_id:
                    wrong = f"{layer.digest} holds another layer." if is_digest(found) else found
                    problems.append(Problem(ref, wrong))
        for attached in self._attached():
            try:
                for blob in self.blobs_of(attached.manifest.digest):
                    tarball.digest_of(self._blobs.read(blob))
            except Corrupt as exc:
                refs = [ref for ref, descriptor in index.items() if descriptor.digest == attached.subject]
                problems.append(Problem(", ".join(refs), f"{exc.message} It belongs to {attached.name}."))
        return tuple(problems)

    # writing
    def put(
        self,
        save: Callable[[], Iterable[bytes]],
        *,
        ref: str,
        config_digest: str,
        diff_ids: tuple[str, ...],
        annotations: Mapping[str, str] | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> str:
        """Archive the image that `save` streams as a `docker save` tar; return its manifest's digest.

        `config_digest` (the image's id) and `diff_ids` are what it must have. Layers that the archive has are not
        packed again. Nothing happens when `ref` is that image already. `progress` is called with the number of bytes
        read. Raises Conflict when `ref` is another image, Corrupt when the stream is not the image, ArchiveError.
        """
        with disk_errors(self.root), self._locked():
            index = self._index()
            if ref in index and self._is_same(index[ref], ref, config_digest):
                return index[ref].digest
            self._write_layout_file()
            saved = self._store(save, config_digest, diff_ids, progress)
            manifest = Manifest(self._blobs.add(saved.config), tuple(saved.layers), dict(annotations or {}))
            descriptor = self._blobs.add(manifest.to_bytes())
            index[ref] = descriptor
            self._write_index(index, self._attached())
            return descriptor.digest

    def attach(self, digest: str, name: str, document: bytes) -> str:
        """Keep a document about the image of that manifest digest, in place of an earlier one of that name.

        Returns the digest of the document's manifest. NotFound when there is no such image, ArchiveError.
        """
        with disk_errors(self.root), self._locked():
            index = self._index()
            subject = next((found for found in index.values() if found.digest == digest), None)
            if subject is None:
                raise NotFound(f"The archive has no image {digest}.", "See: workspaces archive list")
            artifact = Artifact(name, subject, self._blobs.add(EMPTY), self._blobs.add(document))
            attached = Attached(name, digest, self._blobs.add(artifact.to_bytes()))
            others = [found for found in self._attached() if (found.name, found.subject) != (name, digest)]
            self._write_index(index, [*others, attached])
            return attached.manifest.digest

    def clean(self) -> None:
        """Delete unfinished files of writers that died. A writer that lives has done so itself."""
        if self.root.exists():
            with disk_errors(self.root), suppress(BlockingIOError), self._locked(fcntl.LOCK_NB):
                pass

    def _store(
        self,
        save: Callable[[], Iterable[bytes]],
        config_digest: str,
        diff_ids: tuple[str, ...],
        progress: Callable[[int], None],
    ) -> savetar.SavedImage:
        known = self._known_layers()
        with deflate_pool() as pool:
            for guess in (True, False):
                try:
                    return savetar.read(
                        save(),
                        self._blobs,
                        pool,
                        config_digest=config_digest,
                        diff_ids=diff_ids,
                        known=known,
                        guess=guess,
                        progress=progress,
                    )
                except savetar.MissedLayer:
                    continue
        raise Corrupt("The engine gave another image at each reading.")

    def _known_layers(self) -> dict[str, Descriptor]:
        """diffID → blob, of all images whose files are readable."""
        known: dict[str, Descriptor] = {}
        for descriptor in self._index().values():
            try:
                manifest, diff_ids = self._manifest(descriptor)
            except Corrupt:
                continue  # `verify` tells; its layers are packed again
            known.update(zip(diff_ids, manifest.layers, strict=True))
        return {diff_id: blob for diff_id, blob in known.items() if self._blobs.has(blob)}

    def _is_same(self, descriptor: Descriptor, ref: str, config_digest: str) -> bool:
        """Whether the archived `ref` is this image and whole. Raises Conflict when it is another one."""
        try:
            manifest, _ = self._manifest(descriptor)
        except Corrupt:
            return False  # damaged: written again
        if manifest.config.digest != config_digest:
            raise Conflict(
                f"The archive has another image under the name {ref}.",
                "Two state directories must not share an archive; archived versions are never replaced.",
            )
        return self._is_whole(descriptor)

    def _is_whole(self, descriptor: Descriptor) -> bool:
        try:
            manifest, _ = self._manifest(descriptor)
        except Corrupt:
            return False
        return all(self._blobs.has(blob) for blob in (descriptor, manifest.config, *manifest.layers))

    def _manifest(self, descriptor: Descriptor) -> tuple[Manifest, tuple[str, ...]]:
        """A manifest and the diffIDs of its layers. Raises Corrupt."""
        if descriptor.digest not in self._parsed:
            manifest = parse_manifest(self._blobs.read_json(descriptor))
            diff_ids = savetar.config_diff_ids(self._blobs.read_json(manifest.config))
            if len(diff_ids) != len(manifest.layers):
                raise Corrupt(
                    f"{descriptor.digest} has {len(manifest.layers)} layers, its configuration {len(diff_ids)}."
                )
            self._parsed[descriptor.digest] = manifest, diff_ids
        return self._parsed[descriptor.digest]

    def _diff_id(self, layer: Descriptor) -> str:
        """The SHA-256 of a layer's unpacked bytes, or the sentence why there is none."""
        try:
            return tarball.digest_of(inflate(self._blobs.read(layer)))
        except Corrupt as exc:
            return exc.message

    def _descriptor(self, digest: str) -> Descriptor:
        for found in (*self._index().values(), *(attached.manifest for attached in self._attached())):
            if found.digest == digest:
                return found
        raise NotFound(f"The archive has no manifest {digest}.", "See: workspaces archive list")

    def _index(self) -> dict[str, Descriptor]:
        """Reference → manifest. Raises Corrupt when index.json is damaged."""
        with self._damage():
            images = [m for m in self._entries() if not is_artifact(m)]
            found = {str(m["annotations"][REF_NAME]): Descriptor(m["digest"], m["size"]) for m in images}
        for ref, descriptor in found.items():
            if not is_digest(descriptor.digest) or not isinstance(descriptor.size, int):
                raise Corrupt(f"{self.root / 'index.json'} is damaged at {ref!r}.", "Restore it from a backup.")
        return found

    def _attached(self) -> tuple[Attached, ...]:
        """All documents about images. Raises Corrupt when index.json is damaged."""
        with self._damage():
            return tuple(parse_entries(self._entries()))

    def _entries(self) -> tuple[dict[str, Any], ...]:
        path = self.root / "index.json"
        try:
            if path.stat().st_size > MAX_INDEX:
                raise Corrupt(f"{path} is too large.")
            return tuple(json.loads(path.read_bytes())["manifests"])
        except FileNotFoundError:
            return ()
        except OSError as exc:
            raise Corrupt(f"{path} cannot be read: {exc.strerror}.") from exc

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """What goes wrong where index.json's JSON is not as it should be, as Corrupt."""
        try:
            yield
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            path = self.root / "index.json"
            raise Corrupt(f"{path} is damaged: {exc!r}.", "Restore it from a backup.") from exc

    def _write_index(self, index: Mapping[str, Descriptor], attached: Iterable[Attached]) -> None:
        entries: list[dict[str, Any]] = [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": descriptor.digest,
                "size": descriptor.size,
                "annotations": {REF_NAME: ref},
            }
            for ref, descriptor in index.items()
        ]
        entries += [found.entry() for found in attached]
        self._replace("index.json", compact({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))

    def _write_layout_file(self) -> None:
        if not (self.root / "oci-layout").exists():
            self._replace("oci-layout", LAYOUT_FILE)

    def _replace(self, name: str, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._blobs.temporary)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.root / name)
        sync_directory(self.root)

    @contextmanager
    def _locked(self, flags: int = 0) -> Iterator[None]:
        """One writer at a time, of all threads and processes; what an earlier one left unfinished is deleted."""
        self._blobs.prepare()
        with (self.root / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | flags)
            self._blobs.clean()
            yield
