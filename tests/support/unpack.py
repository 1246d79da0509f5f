"""Write the files of a DAG to a directory, for comparison with the packed files."""

from __future__ import annotations

from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.walk import DagMap, NodeKind, leaf_bytes, walk


def map_dag(dag: Dag) -> DagMap:
    """Return the inner nodes and the file list of `dag`."""
    layout = dag.layout

    def read(cid: Cid) -> bytes:
        position = layout.find(cid)
        assert position is not None, f"block {cid} is not in the layout"
        return dag.read(position)

    root = layout.find(layout.root)
    assert root is not None
    return walk(layout.root, read, raw_size=layout.block_size(root))


def unpack(dag: Dag, destination: Path) -> None:
    """Write the files of `dag` to `destination`, which must not exist."""
    layout = dag.layout
    tree = map_dag(dag)
    if not any(node.path == "" for node in tree.nodes):
        destination.mkdir(parents=True)
    for node in tree.nodes:
        path = destination / node.path
        if node.kind is NodeKind.DIRECTORY:
            path.mkdir()
            continue
        assert node.kind is NodeKind.FILE
        with path.open("xb") as file:
            for leaf in tree.leaves(node):
                position = layout.find(tree.layout.cid(leaf.position))
                assert position is not None
                file.write(leaf_bytes(layout, position, dag.read(position)))
