"""The files that a container sees, from the indexes of its layers. Pure.

A directory that no layer has an entry for, but something in it, is there as engines make it: root's, 0755.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from workspaces.errors import Conflict
from workspaces.layers.node import DIRECTORY, MAX_NAMES, MAX_PATHS, Layer, Node, parent

IMPLIED = Node(DIRECTORY, 0o755, 0, 0)


@dataclass(slots=True)
class Tree:
    """What is at each path; it is not changed once it is made.

    `groups` has, for each path that is a hard link, what its group is called: a layer's number and a path.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    groups: dict[str, tuple[int, str]] = field(default_factory=dict)


def stack(layers: Iterable[Layer], below: Tree | None = None) -> Tree:
    """The tree that `layers`, lowest first, make on top of `below`. Raises Conflict for too many paths."""
    tree = Tree(dict(below.nodes), dict(below.groups)) if below else Tree()
    number = 1 + max((number for number, _ in tree.groups.values()), default=-1)
    names = _names(tree.nodes)
    for count, layer in enumerate(layers, start=number):
        _apply(tree, layer, count)
        names += _names(layer.entries)
        if names > MAX_NAMES:
            names = _names(tree.nodes)  # without what was replaced
        if len(tree.nodes) > MAX_PATHS or names > MAX_NAMES:
            raise Conflict(f"An image has more than {MAX_PATHS:,} paths, or too long ones.")
    return tree


def _apply(tree: Tree, layer: Layer, number: int) -> None:
    replaced = {
        path
        for path, node in layer.entries.items()
        if node.kind != DIRECTORY and path in tree.nodes and tree.nodes[path].kind == DIRECTORY
    }
    emptied = (layer.whiteouts & tree.nodes.keys()) | replaced | layer.opaque
    gone = set(layer.whiteouts)
    if emptied:
        paths = sorted(tree.nodes)
        for top in emptied:
            gone.update(below(paths, top))
    for path in gone:
        tree.nodes.pop(path, None)
        tree.groups.pop(path, None)
    for path, node in layer.entries.items():
        tree.nodes[path] = node
        tree.groups.pop(path, None)
    for path, group in layer.groups.items():
        tree.groups[path] = number, group
    for path in layer.entries:
        above = parent(path)
        while above and above not in tree.nodes:
            tree.nodes[above] = IMPLIED
            above = parent(above)


def _names(nodes: dict[str, Node]) -> int:
    return sum(len(path) + node.names for path, node in nodes.items())


def below(paths: list[str], top: str) -> list[str]:
    """Of sorted `paths`, all those within the directory `top`."""
    if not top:
        return [path for path in paths if path]
    return paths[bisect_left(paths, f"{top}/") : bisect_left(paths, f"{top}0")]  # 0 follows / in ASCII
