"""What differs between two trees, for people. Pure."""

from __future__ import annotations

from workspaces.layers.node import DIRECTORY, Node, parent
from workspaces.layers.tree import Tree, below
from workspaces.model import Change


def differences(one: Node, other: Node) -> tuple[str, ...]:
    """In what two nodes at the same path differ: type alone, or any of content, target, mode, owner, attributes, time.

    Times count to the second.
    """
    if one.kind != other.kind:
        return ("type",)
    pairs = (
        ("content", one.digest != other.digest),
        ("target", one.target != other.target),
        ("mode", one.mode != other.mode),
        ("owner", (one.uid, one.gid) != (other.uid, other.gid)),
        ("attributes", one.xattrs != other.xattrs),
        ("time", one.seconds != other.seconds),
    )
    return tuple(name for name, differs in pairs if differs)


def compare(old: Tree, new: Tree) -> list[Change]:
    """Added, changed and removed paths from `old` to `new`, as `/a/b`, sorted by path.

    Of a removed directory only itself is listed, with the bytes of all files in it. A directory in which something
    else was made or deleted has another time; that alone is not listed.
    """
    changes = []
    for path, node in new.nodes.items():
        before = old.nodes.get(path)
        if before is None:
            changes.append(Change("added", f"/{path}", node.size, node.st_mode))
        elif before is not node and (what := differences(before, node)):
            if node.kind == DIRECTORY and what == ("time",):
                continue
            changes.append(Change("changed", f"/{path}", node.size, node.st_mode, what))
    gone = old.nodes.keys() - new.nodes.keys()
    paths = sorted(gone)
    for path in paths:
        if parent(path) not in gone or not path:
            size = sum(old.nodes[other].size for other in (path, *below(paths, path)))
            changes.append(Change("removed", f"/{path}", size))
    return sorted(changes, key=lambda change: change.path)


def total(changes: list[Change]) -> dict[str, int]:
    """How many are added, changed and removed, and the bytes of the files that are added or changed."""
    counts = {kind: sum(change.kind == kind for change in changes) for kind in ("added", "changed", "removed")}
    return counts | {"bytes": sum(change.size for change in changes if change.kind != "removed")}
