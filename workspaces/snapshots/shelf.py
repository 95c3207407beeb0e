"""The layers of versions, wherever they are: their indexes, and the contents of single files.

    index of a layer:  <state directory>/layers/<diffID>.index, else made from the engine's layer or the archive's
    tree of an image:  its layers' indexes, stacked

What is kept may be deleted at any time. A layer that is nowhere any more has no index, and whoever asks does without.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from workspaces.archive import Archive
from workspaces.engine.base import Engine
from workspaces.errors import ArchiveError, EngineError, EngineTimeout, EngineUnavailable
from workspaces.layers import Layer, Spool, Take, Tree, indexfile, read, stack
from workspaces.store import Store

log = logging.getLogger(__name__)


class _Nowhere(Exception):
    """A layer, named by its diffID, can be read neither from the engine nor from the archive."""


class Shelf:
    """Thread-safe. `directory` is where indexes are kept, and made when there is one."""

    def __init__(self, engine: Engine, archive: Archive, directory: Path) -> None:
        self.engine = engine
        self.archive = archive
        self.directory = directory

    def trees(self, stacks: Sequence[tuple[str, ...]], images: Sequence[str]) -> list[Tree] | None:
        """The tree of each stack of layers, given by diffIDs; None when one of the layers is nowhere.

        `images` are ids of images that may have them in the engine. What stacks have in common is read once. Raises
        Conflict when they have too many paths, EngineUnavailable, EngineTimeout.
        """
        first = stacks[0]
        common = max(n for n in range(len(first) + 1) if all(found[:n] == first[:n] for found in stacks))
        try:
            base = self._stack(first[:common], images, Tree())
            return [self._stack(diff_ids[common:], images, base) for diff_ids in stacks]
        except _Nowhere as exc:
            log.warning("the layer %s can be read neither from the engine nor from the archive", exc)
            return None

    def _stack(self, diff_ids: tuple[str, ...], images: Sequence[str], below: Tree) -> Tree:
        return stack(self._indexes(diff_ids, images), below) if diff_ids else below

    def _indexes(self, diff_ids: tuple[str, ...], images: Sequence[str]) -> Iterator[Layer]:
        for diff_id in diff_ids:
            layer = self.index(diff_id, images)
            if layer is None:
                raise _Nowhere(diff_id)
            yield layer

    def index(self, diff_id: str, images: Sequence[str]) -> Layer | None:
        """The index of a layer; None when it is nowhere. Raises as `trees`."""
        found = indexfile.load(self.directory, diff_id)
        if found is not None:
            return found
        away: EngineError | None = None
        try:
            chunks = self._in_engine(diff_id, images)
            if chunks is not None:
                return self.keep(diff_id, read(chunks))
        except (EngineTimeout, EngineUnavailable) as exc:
            away = exc
        except (EngineError, ArchiveError) as exc:
            log.warning("the engine's layer %s cannot be read: %s", diff_id, exc.message)
        try:
            chunks = self.archive.layer(diff_id)
            if chunks is not None:
                return self.keep(diff_id, read(chunks))
        except ArchiveError as exc:
            log.warning("the archive's layer %s cannot be read: %s", diff_id, exc.message)
        if away is not None:
            raise away
        return None

    def keep(self, diff_id: str, layer: Layer) -> Layer:
        """Keep an index, as far as the disk allows; the same index."""
        try:
            indexfile.save(self.directory, diff_id, layer)
        except OSError as exc:
            log.warning("the index of the layer %s is not kept: %s", diff_id, exc.strerror)
        return layer

    def spool(self) -> Spool:
        """A spool on the disk of the state directory. Raises NoSpace."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Spool(self.directory)

    def fill(self, spool: Spool, wanted: set[bytes], image: str, indexes: Sequence[Layer]) -> None:
        """Put the contents with these SHA-256 into `spool`, from an image in the engine, the topmost layer first.

        `indexes` are those of its layers, lowest first. What it does not have stays out.
        """
        for number in reversed(range(len(indexes))):
            left = {digest for digest in wanted if digest not in spool}
            entries = indexes[number].entries
            here = {path for path, node in entries.items() if node.digest in left}
            if here:
                take = _only(here, spool)
                read(self.engine.layer(image, number), take, spool.keep)

    def clean(self, store: Store) -> None:
        """Delete indexes of layers that no version has, and what a killed writer left unfinished."""
        known = {diff_id for snapshot in store.snapshots() for diff_id in snapshot.diff_ids}
        indexfile.clean(self.directory, known)

    def _in_engine(self, diff_id: str, images: Sequence[str]) -> Iterator[bytes] | None:
        for image_id in images:
            image = self.engine.image(image_id)
            if image is not None and diff_id in image.diff_ids:
                return self.engine.layer(image.id, image.diff_ids.index(diff_id))
        return None


def _only(paths: set[str], spool: Spool) -> Take:
    return lambda path, _: spool.write if path in paths else None
