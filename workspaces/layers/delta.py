"""What one layer must hold to make one tree of another: the layer of a version, and of a flattened one. Pure.

    parent's Tree ┐  new and changed paths, with every hard link of a group of which one is among them,
    wanted Tree  ─┴► and all directories above them;  removed paths, as whiteouts

An overlay takes a directory's owner, mode and time from the topmost layer that has it, and engines make missing parents
with others: therefore the directories above. A hard link can only mean a file of its own layer: therefore whole groups.
Where a directory takes a file's place or a file a directory's, the entry itself hides what was there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from workspaces.layers.node import DIRECTORY, FILE, Layer, Node, parent, place, same
from workspaces.layers.tree import Tree


@dataclass(slots=True)
class Delta:
    """Paths to write, in the order of the tar, and paths to delete; `groups` as in Layer."""

    entries: dict[str, Node] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    whiteouts: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.entries or self.whiteouts)

    @property
    def contents(self) -> dict[bytes, int]:
        """SHA-256 → size in bytes of every content that its layer holds."""
        return {node.digest: node.size for node in self.entries.values() if node.kind == FILE}

    def layer(self) -> Layer:
        """The index of its layer."""
        return Layer(self.entries, self.groups, self.whiteouts)


def plan(old: Tree, new: Tree) -> Delta:
    """What makes `new` of `old`; empty, so false, when they are the same."""
    changed = {path for path, node in new.nodes.items() if path not in old.nodes or not same(old.nodes[path], node)}
    _whole_groups(old, new, changed)
    whiteouts = {path for path in old.nodes.keys() - new.nodes.keys() if path and _is_directory(new, parent(path))}
    wanted = set(changed)
    for path in (*changed, *whiteouts):
        above = parent(path)
        while above and above not in wanted:
            wanted.add(above)
            above = parent(above)
    delta = Delta({path: new.nodes[path] for path in sorted(wanted, key=place) if path in new.nodes}, {}, whiteouts)
    first: dict[tuple[int, str], str] = {}
    for path in delta.entries:
        if path in new.groups:
            delta.groups[path] = first.setdefault(new.groups[path], path)
    counts = Counter(delta.groups.values())
    delta.groups = {path: group for path, group in delta.groups.items() if counts[group] > 1}
    return delta


def _is_directory(tree: Tree, path: str) -> bool:
    return not path or (path in tree.nodes and tree.nodes[path].kind == DIRECTORY)


def _whole_groups(old: Tree, new: Tree, changed: set[str]) -> None:
    """Add to `changed` until the paths that stay are linked below just as they shall be."""
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for path, group in new.groups.items():
        if path in new.nodes:
            groups[group].append(path)
    were: dict[tuple[int, str], list[str]] = defaultdict(list)
    for path, group in old.groups.items():
        if path in new.nodes:
            were[group].append(path)
    while True:
        count = len(changed)
        for members in groups.values():
            linked = len({old.groups.get(path, path) for path in members}) == 1
            if len(members) > 1 and not (linked and changed.isdisjoint(members)):
                changed.update(members)
        for members in were.values():
            stay = [path for path in members if path not in changed]
            if len({new.groups.get(path, path) for path in stay}) > 1:
                changed.update(stay)
        if len(changed) == count:
            return
