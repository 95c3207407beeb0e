"""What layers hold, without unpacking them: which paths, what each is, and what differs between two stacks of them.

    tar ─► reading.read ─► Layer (index of one layer) ─► indexfile (a small file by diffID)
    Layer, Layer, … ─► tree.stack ─► Tree: the files that a container of these layers would see
    Tree of the parent, Tree that is wanted ─► delta.plan ─► Delta ─► writing.tar: the layer between them
    Tree, Tree ─► compare.compare ─► list of Change

A version's own layer is the delta against its parent. Flattening is the same with the base image in the parent's
place, so that there is one algorithm for both. Trees hold a few hundred bytes for each path and no contents; those that
a delta needs lie in a Spool, a file without a name. Nothing is ever written to disk under a path of a layer.
"""

from workspaces.layers.compare import compare, differences
from workspaces.layers.delta import Delta, plan
from workspaces.layers.node import Layer, Node
from workspaces.layers.reading import Sink, Take, read
from workspaces.layers.spool import Spool
from workspaces.layers.tree import Tree, stack
from workspaces.layers.writing import tar

__all__ = [
    "Delta",
    "Layer",
    "Node",
    "Sink",
    "Spool",
    "Take",
    "Tree",
    "compare",
    "differences",
    "plan",
    "read",
    "stack",
    "tar",
]
