"""The archive: an OCI image layout whose images are the committed versions.

    put:  engine's save tar ─► layers, configuration, manifest as blobs ─► one entry more in index.json
    out:  index.json ─► manifest ─► configuration and layers ─► a tar that engines load (tarball.py)
    attach: a document about an image ─► one entry more, which names the image as its subject (documents.py)

    oci-layout · index.json · blobs/sha256/<hex>      the layout, in a directory (storage.py) or a bucket (s3.py)
    .lock · .tmp/                                     on this host: writers one at a time, and their unfinished files

index.json is replaced in one step and only after everything that it names is durable, so that a crash leaves an image
whole or not at all. An entry never changes. Verifying and collecting garbage are in upkeep.py.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from workspaces.archive import documents, savetar, tarball, upkeep
from workspaces.archive.artifacts import EMPTY
from workspaces.archive.blobs import Descriptor
from workspaces.archive.deflate import deflate_pool, inflate
from workspaces.archive.images import ArchivedImage, Image, Images, Layer, OneImage, archived, known_layers
from workspaces.archive.manifest import INDEX, LAYOUT_FILE, Index, Manifest, config_diff_ids, parse_index
from workspaces.archive.sealing import NoIdentity, Seal
from workspaces.archive.storage import MAX_DOCUMENT, Changed, Directory, Storage, disk_errors
from workspaces.archive.tarball import Form
from workspaces.archive.upkeep import Garbage, Problem
from workspaces.errors import ArchiveError, ArchiveUnavailable, Conflict, Corrupt, NotFound

T = TypeVar("T")

TRIES = 5  # to add an entry while other hosts add theirs


class Archive:
    """The layout in `place`, a directory or other storage; made at the first `put`. Safe for threads and processes."""

    def __init__(self, place: Path | Storage, seal: Seal | None = None) -> None:
        self._storage = Directory(place) if isinstance(place, Path) else place
        self._images = Images(self._storage, seal or Seal())

    @property
    def root(self) -> Path:
        """The directory of this host in which what is being archived needs room."""
        return self._storage.local

    @property
    def where(self) -> str:
        """The directory, or the bucket's address, for people."""
        return self._storage.where

    # reading
    def list(self, prefix: str = "") -> list[ArchivedImage]:
        """All images, in the order in which they came, or those whose names begin so; the others are not read.

        Raises Corrupt when a manifest is damaged.
        """
        index, found = self._index(), []
        for ref, lies in index.images.items():
            if not ref.startswith(prefix):
                continue
            try:
                found.append(archived(ref, self._images.image(lies)))
            except NoIdentity:  # such as another host's
                own = index.own_digests.get(ref, lies.digest)
                found.append(ArchivedImage(ref, own, "", (), 0, {}, encrypted=True, opened=False))
        return found

    def find(self, image: str) -> ArchivedImage:
        """By name such as als/alice:v1, or by manifest digest. Raises NotFound, NoIdentity."""
        index = self._index()
        found = (image, index.images[image]) if image in index.images else index.named(image)
        if found is None:
            raise NotFound(f"The archive has no image {image}.", "See: workspaces archive list")
        return archived(found[0], self._images.image(found[1]))

    def digests(self) -> set[str]:
        """The manifest digests of all images. Raises Corrupt when the index is damaged."""
        index = self._index()
        return {index.own_digests.get(ref, lies.digest) for ref, lies in index.images.items()}

    def has(self, digest: str) -> bool:
        """Whether an image of that manifest digest is there, with all its blobs, and is not closed to this host."""
        found = self._index().named(digest)
        try:
            return found is not None and self._is_whole(found[1])
        except NoIdentity:
            return False

    def manifest_bytes(self, digest: str) -> bytes:
        """The manifest of that digest, of an image or of a document about one. Raises NotFound, Corrupt, NoIdentity."""
        document = documents.find(self._index(), digest)
        if document is not None:
            return documents.manifest_bytes(self._images, document)
        return self._images.manifest_bytes(self._image(digest))

    def blobs_of(self, digest: str) -> tuple[Descriptor, ...]:
        """What a manifest names: configuration, then layers, lowest first. Raises as `manifest_bytes`."""
        document = documents.find(self._index(), digest)
        if document is not None:
            return documents.blobs_of(self._images, document)
        manifest = self._image(digest).manifest
        return (manifest.config, *manifest.layers)

    def read_blob(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob that `blobs_of` names, decrypted, in chunks. NotFound, NoIdentity; Corrupt by its end."""
        if self._images.blobs.has(blob):
            return self._images.blobs.read(blob)
        for lies in self._index().images.values():
            with suppress(Corrupt, NoIdentity):  # of another image; the one that has the blob was read by `blobs_of`
                image = self._images.image(lies)
                if blob in (image.manifest.config, *image.manifest.layers):
                    return self._images.read(image, blob)
        for document in documents.attached(self._index()):
            with suppress(Corrupt, NoIdentity):
                empty, own = documents.blobs_of(self._images, document)
                if blob in (empty, own):
                    return iter([EMPTY if blob == empty else documents.read(self._images, document)])
        raise NotFound(f"The archive has no image with the blob {blob.digest}.")

    def check_readable(self, digest: str) -> None:
        """Raise NoIdentity when its layers are encrypted and there is no identity to try; else as `blobs_of`."""
        if any(layer.tag for layer in self._image(digest).layers):
            self._images.seal.check_identity()

    def attached(self, digest: str) -> dict[str, str]:
        """The documents about the image of that manifest digest: name → digest of their manifest. Raises Corrupt."""
        return {found.name: found.digest for found in documents.attached(self._index()) if found.subject == digest}

    def document(self, digest: str) -> bytes:
        """The document whose manifest has that digest. Raises NotFound, Corrupt, NoIdentity."""
        found = documents.find(self._index(), digest)
        if found is None:
            raise NotFound(f"The archive has no manifest {digest}.", "See: workspaces archive list")
        return documents.read(self._images, found)

    def layer(self, diff_id: str) -> Iterator[bytes] | None:
        """The unpacked tar of a layer, in chunks, from any image that has it whole; None when none has.

        Corrupt at its end at the latest when it is damaged. Raises NoIdentity when only encrypted images have it.
        """
        found: Layer | None = None
        for lies in self._index().images.values():
            with suppress(ArchiveError):
                image = self._images.image(lies)
                for own, layer in zip(image.diff_ids, image.layers, strict=True):
                    if own == diff_id and self._images.blobs.has(layer.stored) and (found is None or found.tag):
                        found = layer
        return None if found is None else tarball.as_digest(inflate(self._images.layer(found)), diff_id)

    def docker_tar(self, digest: str, tag: str | None = None, form: Form = "both") -> Iterator[bytes]:
        """The image as a tar for engines and OCI tools, loaded under `tag` if given.

        Every blob's digest is checked on the way: Corrupt is raised before the tar is complete. NotFound when
        there is no such image, NoIdentity.
        """
        self.check_readable(digest)  # before the first byte is out
        image = self._image(digest)
        own = Descriptor(image.digest, len(self._images.manifest_bytes(image)))
        return tarball.write(OneImage(self._images, image), own, image.manifest, tag, form)

    def export(self, image: str, path: Path, form: Form = "both") -> None:
        """Write one image, by name or digest, as a tar to `path`; the file appears when it is whole."""
        found = self.find(image)
        with disk_errors(path, "file"):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    for chunk in self.docker_tar(found.digest, found.ref, form):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def verify(self, progress: Callable[[int, int], None] = lambda _, __: None) -> upkeep.Verdict:
        """Read every blob that an image names, and unpack every layer that can be read here.

        `progress` is called with the bytes read so far and of all.
        """
        try:
            index = self._index()
        except Corrupt as exc:
            return upkeep.Verdict((Problem(INDEX, exc.message, ()),), 0, 0)
        return upkeep.verify(self._images, index, progress)

    def usage(self, progress: Callable[[int, int], None] = lambda _, __: None) -> upkeep.Usage:
        """What it holds, and for which challenges. `progress`: images looked at, and all. Raises Corrupt."""
        with disk_errors(self.root):
            return upkeep.usage(self._images, self._index(), progress)

    # writing
    def put(
        self,
        save: Callable[[], Iterable[bytes]],
        *,
        ref: str,
        config_digest: str,
        diff_ids: tuple[str, ...],
        config: bytes | None = None,
        annotations: Mapping[str, str] | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> str:
        """Archive the image that `save` streams as a `docker save` tar; return its manifest's digest.

        `config_digest` (the image's id) and `diff_ids` are what it must have; `config` is the configuration if the
        caller has its bytes. Layers that the archive has are not packed again, and nothing is read when it has them
        all and the configuration is known. Nothing happens when `ref` is that image already. `progress` is called
        with the number of bytes read. Raises Conflict when `ref` is another image, Corrupt when the stream is not the
        image, ArchiveError.
        """
        made: tuple[str, Descriptor] | None = None
        given = config if config is not None and _is(config, config_digest, diff_ids) else None

        def change(index: Index) -> str:
            nonlocal made
            if ref in index.images and self._is_same(index, ref, config_digest):
                return index.own_digests.get(ref, index.images[ref].digest)
            if made is None or not self._is_whole(made[1]):  # another host may have deleted what it shares
                self._write_layout_file()
                whole, layers = self._store(index, save, config_digest, diff_ids, given, progress)
                own = tuple(layer.own for layer in layers)
                manifest = Manifest(Descriptor(config_digest, len(whole)), own, dict(annotations or {}))
                made = self._images.add(manifest, whole, layers)
            digest, lies = made
            index.add(ref, lies, digest)
            return digest

        with disk_errors(self.root), self._locked():
            for _ in range(TRIES):
                digest = self._changed(change)
                if not self._storage.shared or made is None or self._is_whole(made[1]):
                    return digest  # else another host's `collect` was at it, and had not seen the entry
        raise ArchiveUnavailable(f"Other hosts keep deleting what is written to {self._storage.where}.")

    def attach(self, digest: str, name: str, document: bytes) -> str:
        """Keep a document about the image of that manifest digest, in place of an earlier one of that name.

        Returns the digest of the document's manifest. NotFound when there is no such image, ArchiveError.
        """
        subject = Descriptor(digest, len(self.manifest_bytes(digest)))

        def change(index: Index) -> str:
            if index.named(digest) is None:
                raise NotFound(f"The archive has no image {digest}.", "See: workspaces archive list")
            made = documents.add(self._images, subject, name, document)
            index.drop(digest, name)
            index.others.append(made.entry())
            return made.digest

        with disk_errors(self.root), self._locked():
            return self._changed(change)

    def remove(self, digest: str) -> bool:
        """Take an image and its documents out of the index; whether it was there. Blobs stay until `collect`."""

        def change(index: Index) -> bool:
            found = index.named(digest)
            if found is None:
                return False
            index.remove(found[0])
            index.drop(digest)
            return True

        with disk_errors(self.root), self._locked():
            return self._changed(change)

    def _changed(self, change: Callable[[Index], T]) -> T:
        """Write index.json as `change` makes it, again when another host was quicker; the caller holds the lock."""
        for _ in range(TRIES):
            index = self._index()
            before = index.to_bytes()
            result = change(index)
            with suppress(Changed):
                if index.to_bytes() != before:
                    self._storage.replace(INDEX, index.to_bytes(), index.version)
                return result
        raise ArchiveUnavailable(f"Other hosts keep changing {INDEX} in {self._storage.where}.")

    def garbage(self) -> Garbage:
        """What no image refers to, and unfinished uploads. Raises Corrupt when that cannot be told for sure."""
        with disk_errors(self.root):
            return upkeep.garbage(self._images, self._index())

    def collect(self, told: Callable[[str, int], None] = lambda _, __: None) -> Garbage:
        """Delete `garbage`, and return what that was. `told` is called with each one's name and size, just before.

        No writer of this host is active meanwhile, and other hosts' new blobs are left alone; so is one that another
        host has written again, or named, since it was found.
        """
        with disk_errors(self.root), self._locked():
            return upkeep.collect(self._images, self._index, told)

    def clean(self) -> None:
        """Delete unfinished files of writers that died. A writer that lives has done so itself."""
        if self.root.exists():
            with disk_errors(self.root), suppress(BlockingIOError), self._locked(fcntl.LOCK_NB):
                pass

    def _store(
        self,
        index: Index,
        save: Callable[[], Iterable[bytes]],
        config_digest: str,
        diff_ids: tuple[str, ...],
        given: bytes | None,
        progress: Callable[[int], None],
    ) -> tuple[bytes, tuple[Layer, ...]]:
        known = known_layers(self._images, dict.fromkeys(diff_ids), [*index.images.values()])
        config = (given or self._config(index, config_digest)) if known.keys() >= {*diff_ids} else None
        if config is not None:
            return config, tuple(known[diff_id] for diff_id in diff_ids)
        with deflate_pool() as pool:
            for guess in (True, False):
                try:
                    saved = savetar.read(
                        save(),
                        self._images,
                        pool,
                        config_digest=config_digest,
                        diff_ids=diff_ids,
                        known=known,
                        guess=guess,
                        progress=progress,
                    )
                    return saved.config, tuple(saved.layers)
                except savetar.MissedLayer:
                    continue
        raise Corrupt("The engine gave another image at each reading.")

    def _config(self, index: Index, digest: str) -> bytes | None:
        """A configuration that some image has, e.g. the same one under another name."""
        for lies in index.images.values():
            with suppress(ArchiveError):
                image = self._images.image(lies)
                if image.manifest.config.digest == digest:
                    return self._images.config_bytes(image)
        return None

    def _image(self, digest: str) -> Image:
        found = self._index().named(digest)
        if found is None:
            raise NotFound(f"The archive has no image {digest}.", "See: workspaces archive list")
        return self._images.image(found[1])

    def _is_same(self, index: Index, ref: str, config_digest: str) -> bool:
        """Whether the archived `ref` is this image and whole. Raises Conflict when it is another one, NoIdentity."""
        try:
            image = self._images.image(index.images[ref])
        except Corrupt:
            return False  # damaged: written again
        if image.manifest.config.digest != config_digest:
            raise Conflict(
                f"The archive has another image under the name {ref}.",
                "Two state directories must not share an archive; archived versions are never replaced.",
            )
        return self._is_whole(index.images[ref])

    def _is_whole(self, lies: Descriptor) -> bool:
        try:
            image = self._images.image(lies)
        except Corrupt:
            return False
        return all(self._images.blobs.has(blob) for blob in dict.fromkeys(image.stored()))

    def _index(self) -> Index:
        """Raises Corrupt when index.json is damaged."""
        where = f"{self._storage.where}/{INDEX}"
        try:
            found = self._storage.document(INDEX)
        except OSError as exc:
            raise Corrupt(f"{where} cannot be read: {exc.strerror}.") from exc
        if found is None:
            return Index()
        data, version = found
        if len(data) > MAX_DOCUMENT:
            raise Corrupt(f"{where} is too large.")
        return parse_index(data, version, where)

    def _write_layout_file(self) -> None:
        if self._storage.size("oci-layout") is None:
            with suppress(Changed):  # another host was first
                self._storage.replace("oci-layout", LAYOUT_FILE, None)

    @contextmanager
    def _locked(self, flags: int = 0) -> Iterator[None]:
        """One writer at a time, of all threads and processes; what an earlier one left unfinished is deleted."""
        self._storage.prepare()
        with (self.root / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | flags)
            self._storage.clean()
            yield


def _is(config: bytes, digest: str, diff_ids: tuple[str, ...]) -> bool:
    """Whether those are the bytes of that configuration, and it lists these layers."""
    return tarball.digest_of([config]) == digest and config_diff_ids(config) == diff_ids
