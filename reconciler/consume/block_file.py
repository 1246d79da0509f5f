"""One file of content under a CID, read from sources of blocks into memory."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.consume.fetch import read_tree
from reconciler.consume.sources import Source, SourcePool, TrackedSource
from reconciler.content import cid as cids
from reconciler.content.walk import NodeKind, leaf_bytes
from reconciler.errors import DataError, UsageError


class NoSuchFileError(DataError):
    """The content under the CID has no file at that path."""


def read_block_file(place: str, sources: Sequence[Source], limit: int) -> bytes:
    """Return the file at `ipfs://CID[/path]`, every block verified.

    Raises NoSuchFileError, DataError for one of more than `limit` bytes, UsageError without sources, and
    BlockUnavailableError.
    """
    name, _, path = place.removeprefix("ipfs://").partition("/")
    root = cids.parse(name)
    if not sources:
        raise UsageError(f"no source for {place!r}", hint="name a gateway with --gateway")
    peers = SourcePool([TrackedSource(source) for source in sources])
    tree = read_tree(root, peers)
    node = next(
        (node for node in tree.nodes if node.kind is NodeKind.FILE and node.path == path.strip("/")), None
    )
    if node is None:
        raise NoSuchFileError(f"{place!r} is not a file")
    if node.size > limit:
        raise DataError(f"{place!r} has {node.size} bytes; the limit is {limit}")
    return b"".join(
        leaf_bytes(tree.layout, leaf.position, peers.read_block(tree.layout.cid(leaf.position), None))
        for leaf in tree.leaves(node)
    )
