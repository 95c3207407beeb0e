"""Which layers a version gets: its parent's and one with what changed since, rather than all since the base image.

    engine's commit = container's image + all that was ever written over it
      ─► of a container that was restored from the parent: that, unless it seems to have written nothing
      ─► its tree, the parent version's tree ─► delta ─► the parent's layers + one; just those when nothing changed
      ─► 100 layers or more: the base image's + one with all that differs from it

The engine's commit is deleted afterwards. Where the parent's layers can be read nowhere any more, or have too many
paths to compare, the version gets the commit's own layers: larger, and just as right. A repeated attempt makes the same
layers, so that a kill at any moment leaves nothing but what the next attempt finds or deletes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from workspaces.engine.base import Earlier, Engine, ImageInfo, Progress
from workspaces.engine.imagetar import Layer as EngineLayer
from workspaces.errors import ArchiveError, Conflict, EngineError, EngineTimeout, EngineUnavailable, NoSpace
from workspaces.layers import Delta, Layer, Node, Sink, Spool, Tree, plan, read, stack, tar
from workspaces.layers.node import same
from workspaces.model import Snapshot
from workspaces.names import amount
from workspaces.snapshots.common import check_room
from workspaces.snapshots.imageconfig import BASE_DIGEST
from workspaces.snapshots.review import FLATTEN_LAYERS
from workspaces.snapshots.shelf import Shelf

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A version's layers, lowest first, and those of them that the engine does not have."""

    diff_ids: tuple[str, ...]
    layers: tuple[EngineLayer, ...] = ()


def base_of(engine: Engine, source: ImageInfo) -> ImageInfo | None:
    """The base image that a container's image stands on, itself unless it is a version; None when it is gone."""
    base = source.config.labels.get(BASE_DIGEST)
    found = source if base is None else engine.image(base)
    return found if found is not None and source.diff_ids[: len(found.diff_ids)] == found.diff_ids else None


def continues(parent: Snapshot | None, source: ImageInfo, base: ImageInfo | None) -> bool:
    """Whether a version of a container made from `source` can stand on `parent`'s layers instead."""
    if parent is None or not parent.diff_ids or parent.diff_ids == source.diff_ids:
        return False
    below = base.diff_ids if base is not None else source.diff_ids
    return parent.diff_ids[: len(below)] == below


@contextmanager
def arranged(
    shelf: Shelf, temporary: ImageInfo, source: ImageInfo, parent: Snapshot | None, expected: int, progress: Progress
) -> Iterator[Arrangement]:
    """The layers of a version, of which the new ones can be read until the block ends.

    `temporary` is the engine's commit of a container made from `source`; `expected` are the bytes that changed since
    `parent`, as far as they are known. Raises NoSpace, EngineUnavailable, EngineTimeout.
    """
    base = base_of(shelf.engine, source)
    if temporary.diff_ids[: len(source.diff_ids)] != source.diff_ids:
        # Another image has the name by now of the one that the container was made from, and which is gone.
        yield Arrangement(temporary.diff_ids)
        return
    with shelf.spool() as spool:
        work = _Work(shelf, spool, temporary, source, base)
        try:
            restored = parent is not None and parent.diff_ids == source.diff_ids
            if parent is not None and (continues(parent, source, base) or (restored and not expected)):
                check_room(shelf.directory, expected, f"Comparing with v{parent.version}")
                progress(f"Comparing with v{parent.version}", 0.6)
                found = work.since(parent)
            else:
                found = Arrangement(temporary.diff_ids)
            if base is not None and len(found.diff_ids) >= FLATTEN_LAYERS > len(base.diff_ids) + 1:
                progress(f"Merging {len(found.diff_ids) - len(base.diff_ids)} layers into one", 0.7)
                found = work.flat(base)
        except (NoSpace, EngineUnavailable, EngineTimeout):
            raise
        except (ArchiveError, Conflict, EngineError) as exc:
            log.warning("%s gets all layers of its commit: %s", temporary.refs, exc.message)
            found = Arrangement(temporary.diff_ids)
        yield found


@dataclass(slots=True)
class _Work:
    """One version's layers. `base` is the image that `source` stands on."""

    shelf: Shelf
    spool: Spool
    temporary: ImageInfo
    source: ImageInfo
    base: ImageInfo | None

    def since(self, parent: Snapshot) -> Arrangement:
        """The parent's layers, and one more if anything has changed since."""
        old, below = self._trees(parent.diff_ids, self.source.diff_ids, str(parent.image_id))
        made = self._layer(old, below)
        return Arrangement((*parent.diff_ids, *(layer.diff_id for layer in made)), (*self._absent(parent), *made))

    def flat(self, base: ImageInfo) -> Arrangement:
        """The base image's layers, and one with all that differs from it."""
        old, below = self._trees(base.diff_ids, self.source.diff_ids, base.id)
        made = self._layer(old, below)
        return Arrangement((*base.diff_ids, *(layer.diff_id for layer in made)), made)

    def _trees(self, one: tuple[str, ...], other: tuple[str, ...], image: str) -> tuple[Tree, Tree]:
        found = self.shelf.trees((one, other), (image, self.source.id))
        if found is None:
            raise Conflict("A layer below it is neither in the engine nor in the archive.")
        return found[0], found[1]

    def _layer(self, old: Tree, below: Tree) -> tuple[EngineLayer, ...]:
        """What makes the committed files of `old`, as a layer; none when they are the same. `below`: the source's."""

        def take(path: str, node: Node) -> Sink | None:
            before = old.nodes.get(path)
            return None if before is not None and same(before._replace(digest=b""), node) else self.spool.write

        above = self.temporary.diff_ids[len(self.source.diff_ids) :]
        tops = [read(self._top(number), take, self.spool.keep) for number in range(len(above))]
        delta = plan(old, stack(tops, below))
        self._complete(delta, tops)
        if not delta:
            return ()
        sha, size = hashlib.sha256(), 0
        for chunk in tar(delta, self.spool.read):
            sha.update(chunk)
            size += len(chunk)
        made = EngineLayer(f"sha256:{sha.hexdigest()}", size, lambda: tar(delta, self.spool.read))
        # An engine unpacks a tar before it takes a layer from it.
        check_room(self.shelf.engine.info().data_root, 2 * size, f"Storing a layer of {amount(size)}")
        self.shelf.keep(made.diff_id, delta.layer())
        return (made,)

    def _top(self, number: int) -> Iterator[bytes]:
        return self.shelf.engine.layer(self.temporary.id, len(self.source.diff_ids) + number)

    def _complete(self, delta: Delta, tops: list[Layer]) -> None:
        """Spool what else the delta holds: files below the commit that the parent lacks, or that only look the same."""
        wanted = {digest for digest in delta.contents if digest not in self.spool}
        if not wanted:
            return
        indexes = [self.shelf.index(diff_id, (self.source.id,)) or Layer() for diff_id in self.source.diff_ids]
        self.shelf.fill(self.spool, wanted, self.temporary.id, [*indexes, *tops])
        if any(digest not in self.spool for digest in wanted):
            raise Conflict("A file of it is in none of its layers.")

    def _absent(self, parent: Snapshot) -> tuple[EngineLayer, ...]:
        """The parent's layers that the engine may have lost, from the archive."""
        if self.shelf.engine.image(str(parent.image_id)) is not None:
            return ()
        pairs = zip(parent.diff_ids, self.source.diff_ids, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return tuple(self._archived(diff_id) for diff_id in parent.diff_ids[common:])

    def _archived(self, diff_id: str) -> EngineLayer:
        def chunks() -> Iterator[bytes]:
            found = self.shelf.archive.layer(diff_id)
            if found is None:
                raise Conflict(f"The layer {diff_id} is neither in the engine nor in the archive.")
            return found

        return EngineLayer(diff_id, sum(map(len, chunks())), chunks)


def earlier(shelf: Shelf, source: ImageInfo, parent: Snapshot | None) -> dict[str, Earlier] | None:
    """Where `parent` differs from the image that a container was made from, by path as `/a/b`, and what it has there.

    None when the container's changes are not counted against it. Raises EngineUnavailable, EngineTimeout.
    """
    if parent is None or not continues(parent, source, base_of(shelf.engine, source)):
        return None
    try:
        found = shelf.trees((parent.diff_ids, source.diff_ids), (str(parent.image_id), source.id))
    except Conflict as exc:
        log.warning("%s cannot be compared: %s", parent.image_ref, exc.message)
        return None
    if found is None:
        return None
    old, below = found
    until = parent.captured_at or parent.decided_at or parent.requested_at
    result = {}
    for path, node in old.nodes.items():
        source_node = below.nodes.get(path)
        if source_node is None or (source_node is not node and not same(source_node, node)):
            facts = node.st_mode, node.uid, node.gid, node.size, node.seconds
            result[f"/{path}"] = Earlier(*facts, source_node is not None, until)
    for path in below.nodes.keys() - old.nodes.keys():
        result[f"/{path}"] = Earlier(0, in_source=True)
    return result
