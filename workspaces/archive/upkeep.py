"""Looking after an archive: is every byte what it was, and what does nothing refer to any more.

    index.json ─► manifests ─► blobs ─┬─ verify: each one read and re-hashed once; layers unpacked, if they can be read
                                      └─ garbage: what lies there and is named by none of them

A blob counts as referred to when any manifest of the index names it, whether this program knows its kind or not. What
cannot be told for sure (a damaged manifest, a lost index.json) is no garbage: nothing is deleted then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from workspaces.archive import documents, tarball
from workspaces.archive.blobs import Blobs, Descriptor, is_digest
from workspaces.archive.deflate import inflate
from workspaces.archive.images import Images, Layer
from workspaces.archive.manifest import INDEX, Index, references
from workspaces.archive.sealing import NoIdentity
from workspaces.errors import ArchiveError, Corrupt


@dataclass(frozen=True, slots=True)
class Problem:
    """A blob (or index.json) that is missing or damaged, and the images that it hurts; as text, a sentence."""

    blob: str
    sentence: str
    images: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.images)}: {self.sentence}" if self.images else self.sentence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: `blobs` read, of which `sealed` layers could not be opened here, only re-hashed."""

    problems: tuple[Problem, ...]
    blobs: int
    sealed: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """Blobs that nothing refers to, and names of unfinished uploads; `young` blobs may be another host's work."""

    blobs: tuple[Descriptor, ...]
    unfinished: tuple[str, ...] = ()
    young: int = 0

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs)


def verify(images: Images, index: Index, progress: Callable[[int, int], None]) -> Verdict:
    """Read every blob that the index names. `progress`: bytes read so far, and of all."""
    users, wrong = _named(images, index)
    hurt = {blob.digest: list(dict.fromkeys(refs)) for blob, refs in users.items()}
    found = [Problem(digest, sentence, tuple(hurt.get(digest, ()))) for digest, sentence in wrong.items()]
    layers: dict[str, Layer] = {}
    claims: dict[str, dict[str, list[str]]] = {}  # stored layer → diffID that it should have → images that say so
    for ref, lies in index.images.items():
        with suppress(ArchiveError):  # in `wrong`, or sealed
            image = images.image(lies)
            for layer, claimed in zip(image.layers, image.diff_ids, strict=True):
                layers[layer.stored.digest] = layer
                claims.setdefault(layer.stored.digest, {}).setdefault(claimed, []).append(ref)
    blobs = [blob for blob in users if blob.digest not in wrong]
    total, done, sealed = sum(blob.size for blob in blobs), 0, 0
    opens = images.seal.has_identity()
    for blob in blobs:
        try:
            diff_id: str | None = None
            if blob.digest in layers and (opens or not layers[blob.digest].tag):
                diff_id = _diff_id(images, layers[blob.digest])
            if diff_id is None:
                sealed += blob.digest in layers
                _rehash(images.blobs, blob)
            for claimed, refs in claims.get(blob.digest, {}).items():
                if diff_id not in (None, claimed):
                    found.append(Problem(blob.digest, f"{blob.digest} holds another layer.", tuple(refs)))
        except Corrupt as exc:
            said = exc.message if blob.digest in exc.message else f"{blob.digest}: {exc.message}"
            found.append(Problem(blob.digest, said, tuple(hurt[blob.digest])))
        done += blob.size
        progress(done, total)
    return Verdict(tuple(found), len(blobs), sealed)


@dataclass(frozen=True, slots=True)
class Share:
    """What the images of one challenge hold: bytes of all their blobs, as if none was shared, and of those once each.

    `own` are the bytes that no image of another challenge needs, so what removing all of them would free.
    """

    challenge: str
    images: int
    alone: int
    once: int
    own: int


@dataclass(frozen=True, slots=True)
class Usage:
    """`stored` bytes lie there, of which images need `once`; they would be `alone` if nothing was shared.

    `unread` images have a damaged manifest and count nowhere.
    """

    images: int
    alone: int
    once: int
    stored: int
    shares: tuple[Share, ...]
    unread: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times as much it would be if nothing was shared; 1 of an empty archive."""
        return self.alone / self.once if self.once else 1.0


def usage(images: Images, index: Index, progress: Callable[[int, int], None]) -> Usage:
    """What the archive holds; reads manifests only. `progress`: images looked at, and all of them."""
    of: dict[str, dict[Descriptor, int]] = {}  # challenge → blob → how many of its images need it
    counts: dict[str, int] = {}
    unread = []
    for number, (ref, lies) in enumerate(index.images.items(), 1):
        challenge = ref.partition("/")[0]
        try:
            blobs = _reachable(images.blobs, [lies])
        except Corrupt:
            unread.append(ref)
            continue
        counts[challenge] = counts.get(challenge, 0) + 1
        for blob in blobs:
            needed = of.setdefault(challenge, {})
            needed[blob] = needed.get(blob, 0) + 1
        progress(number, len(index.images))
    holders: dict[Descriptor, int] = {}
    for needed in of.values():
        for blob in needed:
            holders[blob] = holders.get(blob, 0) + 1
    shares = tuple(
        Share(
            challenge,
            counts[challenge],
            sum(blob.size * times for blob, times in needed.items()),
            sum(blob.size for blob in needed),
            sum(blob.size for blob in needed if holders[blob] == 1),
        )
        for challenge, needed in sorted(of.items())
    )
    return Usage(
        sum(counts.values()),
        sum(share.alone for share in shares),
        sum(blob.size for blob in holders),
        sum(blob.size for blob in images.storage.blobs()),
        shares,
        tuple(unread),
    )


def _named(images: Images, index: Index) -> tuple[dict[Descriptor, list[str]], dict[str, str]]:
    """Blob → names of the images that need it; and digest → what is wrong, of what cannot even be looked into."""
    users: dict[Descriptor, list[str]] = {}
    wrong: dict[str, str] = {}
    for ref, lies in index.images.items():
        images.forget(lies)
        try:
            for blob in _reachable(images.blobs, [lies]):
                users.setdefault(blob, []).append(ref)
            images.image(lies)
        except NoIdentity:
            continue  # its blobs are re-hashed all the same
        except Corrupt as exc:
            users.setdefault(lies, []).append(ref)
            blamed = [word for word in exc.message.split() if is_digest(word)] or [lies.digest]
            wrong[blamed[0]] = exc.message
    subjects = {attached.manifest: attached.subject for attached in documents.attached(index)}
    for lies in index.manifests() - set(index.images.values()):
        about = index.named(subjects.get(lies, ""))
        refs = [about[0]] if about else []
        try:
            for blob in _reachable(images.blobs, [lies]):
                if blob.digest != subjects.get(lies):  # an image, so looked at above; it lies sealed perhaps
                    users.setdefault(blob, []).extend(refs)
        except Corrupt as exc:
            users.setdefault(lies, []).extend(refs)
            wrong[lies.digest] = exc.message
    return users, wrong


def _reachable(blobs: Blobs, roots: Iterable[Descriptor]) -> list[Descriptor]:
    """These manifests, those that they name in turn, and all blobs of these. Raises Corrupt."""
    todo, found = [*roots], dict[Descriptor, None]()
    read = set()
    while todo:
        lies = todo.pop()
        if lies in read:
            continue
        read.add(lies)
        named, further = references(blobs.read_json(lies))
        found |= dict.fromkeys([lies, *sorted(named, key=lambda blob: blob.digest)])
        todo += further
    return [*found]


def _diff_id(images: Images, layer: Layer) -> str | None:
    """The digest of a layer's unpacked bytes; None when it is encrypted and nothing here opens it. Raises Corrupt."""
    try:
        return tarball.digest_of(inflate(images.layer(layer)))
    except NoIdentity:
        return None


def _rehash(blobs: Blobs, blob: Descriptor) -> None:
    for _ in blobs.read(blob):
        pass


def garbage(images: Images, index: Index) -> Garbage:
    """What no manifest of the index names. Raises Corrupt when a manifest cannot be read, or index.json is lost."""
    stored = list(images.storage.blobs())
    if index.version is None:
        if stored:
            raise Corrupt(
                f"{images.storage.where} has blobs but no index.json, so nothing is known of what they are.",
                "Restore index.json from a backup; after the first version is archived there is one.",
            )
        return Garbage(())
    try:
        named = {blob.digest for blob in _reachable(images.blobs, index.manifests())}
    except Corrupt as exc:
        raise Corrupt(exc.message, "Nothing is deleted while that is so. See: workspaces archive verify") from exc
    newest = time.time() - images.storage.grace
    blobs, young = [], 0
    for blob in stored:
        digest = f"sha256:{blob.name}"
        if digest in named or not is_digest(digest):
            continue
        if blob.since > newest:
            young += 1
        else:
            blobs.append(Descriptor(digest, blob.size))
    blobs.sort(key=lambda blob: blob.digest)
    return Garbage(tuple(blobs), tuple(images.storage.unfinished()), young)


def collect(images: Images, read: Callable[[], Index], told: Callable[[str, int], None]) -> Garbage:
    """Delete `garbage` of the index that `read` gives; what was deleted. The caller holds the lock.

    `told` is called with each one's name and size, just before. Raises as `garbage`.
    """
    deleted: list[Descriptor] = []
    while True:
        index = read()
        found = garbage(images, index)
        if _deleted(images, found.blobs, index, deleted, told):
            break
    for name in found.unfinished:
        told(name, 0)
        images.storage.abandon(name)
    return Garbage(tuple(deleted), found.unfinished, found.young)


def _deleted(
    images: Images,
    blobs: Iterable[Descriptor],
    index: Index,
    deleted: list[Descriptor],
    told: Callable[[str, int], None],
) -> bool:
    """Delete them, and add them to `deleted`; False once another host has changed the index."""
    for blob in blobs:
        if images.storage.shared:
            written = images.blobs.since(blob.digest)
            if written is None or written > time.time() - images.storage.grace:
                continue
            if not images.storage.is_version(INDEX, index.version):
                return False
        told(blob.digest, blob.size)
        images.blobs.delete(blob.digest)
        deleted.append(blob)
    return True
