"""Resolution of paths through UnixFS directories, block by block. Source: ipfs/specs, `src/unixfs.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.content import dagpb, hamt, unixfs
from reconciler.content.cid import RAW
from reconciler.content.unixfs import UnixFs, UnixFsType
from reconciler.errors import DataError
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.stores import ReadBlock
from reconciler.gateway.written_cid import WrittenCid, decode_node, written_links


@dataclass(frozen=True, slots=True)
class ResolvedNode:
    """A decoded block. `message` is None for a raw block, and for dag-pb that is not UnixFS."""

    address: WrittenCid
    block: bytes
    message: UnixFs | None

    @property
    def is_directory(self) -> bool:
        """Whether the block is a directory or a shard of one."""
        return self.message is not None and self.message.kind in (UnixFsType.DIRECTORY, UnixFsType.HAMT_SHARD)

    @property
    def file_size(self) -> int | None:
        """The size in bytes of the file under this block; None when it is not a file. Raises DataError."""
        if self.address.cid.codec == RAW:
            return len(self.block)
        if self.message is None:
            return None
        if self.message.kind is UnixFsType.SYMLINK:
            return len(self.message.data)
        if self.message.kind in (UnixFsType.FILE, UnixFsType.RAW):
            return len(self.message.data) + sum(self.message.block_sizes)
        return None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolved path: the node at its end, and the way to it.

    `path_blocks` are the blocks above `end`, in order; `roots` is the root and one CID for each segment.
    """

    end: ResolvedNode
    path_blocks: tuple[tuple[WrittenCid, bytes], ...]
    roots: tuple[WrittenCid, ...]


def open_node(address: WrittenCid, read: ReadBlock) -> ResolvedNode:
    """Read and decode the block at `address`. Raises what `read` raises; DataError for malformed dag-pb."""
    block = read(address.cid)
    if address.cid.codec == RAW:
        return ResolvedNode(address, block, None)
    data = decode_node(block).data
    try:
        message = unixfs.decode(data)
    except DataError:
        message = None
    return ResolvedNode(address, block, message)


def resolve_path(root: WrittenCid, segments: tuple[bytes, ...], read: ReadBlock) -> Resolved:
    """Follow `segments` down from `root`.

    Raises RequestRefusedError (404) for a name that does not exist, what `read` raises, and DataError.
    """
    node = open_node(root, read)
    above: list[tuple[WrittenCid, bytes]] = []
    roots = [root]
    for number, name in enumerate(segments):
        if not node.is_directory:
            raise _not_found(segments[: number + 1])
        above.append((node.address, node.block))
        child: WrittenCid | None = None
        for step in _search(node, name, read):
            if isinstance(step, ResolvedNode):
                above.append((step.address, step.block))
            else:
                child = step
        if child is None:
            raise _not_found(segments[: number + 1])
        roots.append(child)
        node = open_node(child, read)
    return Resolved(node, tuple(above), tuple(roots))


def find_entry(directory: ResolvedNode, name: bytes, read: ReadBlock) -> WrittenCid | None:
    """Return the CID of the entry `name` of a directory; None when there is none."""
    found: WrittenCid | None = None
    for step in _search(directory, name, read):
        if not isinstance(step, ResolvedNode):
            found = step
    return found


def directory_entries(
    directory: ResolvedNode, read: ReadBlock
) -> Iterator[tuple[dagpb.PbLink, bytes, WrittenCid]]:
    """Iterate over the entries of a directory, sharded or not: link, name, CID as written."""
    stack: list[tuple[ResolvedNode | WrittenCid, bytes]] = [(directory, b"")]
    while stack:
        place, path = stack.pop()
        node = place if isinstance(place, ResolvedNode) else _shard(place, read)
        if node.message is not None and node.message.kind is UnixFsType.DIRECTORY:
            for link, address in written_links(node.block):
                yield link, link.name, address
            continue
        below: list[tuple[WrittenCid, bytes]] = []
        for name, link, address in _slots(node, path):
            if name:
                yield link, name, address
            else:
                below.append((address, path + bytes((int(link.name, 16),))))
        stack += reversed(below)


def _search(directory: ResolvedNode, name: bytes, read: ReadBlock) -> Iterator[ResolvedNode | WrittenCid]:
    """Yield the shards on the path to the entry `name`, then its CID if it exists."""
    if directory.message is None or directory.message.kind is UnixFsType.DIRECTORY:
        yield from [address for link, address in written_links(directory.block) if link.name == name][:1]
        return
    key, node, path = hamt.slot_key(name), directory, b""
    while True:
        slot_name = b"%02X" % key[len(path)]
        step = next((slot for slot in _slots(node, path) if slot[1].name.startswith(slot_name)), None)
        if step is None or (step[0] and step[0] != name):
            return
        found, _, address = step
        if found:
            yield address
            return
        path += key[len(path) : len(path) + 1]
        node = _shard(address, read)
        yield node


def _slots(node: ResolvedNode, path: bytes) -> list[tuple[bytes, dagpb.PbLink, WrittenCid]]:
    """Return name, link and CID of every slot of a shard; the name is empty for a sub-shard."""
    if node.message is None:
        raise DataError(f"block {node.address} is not part of a directory")
    slots = hamt.read_shard(dagpb.decode(node.block), node.message, path)
    return [
        (name, link, address)
        for (name, link), (_, address) in zip(slots, written_links(node.block), strict=True)
    ]


def _shard(address: WrittenCid, read: ReadBlock) -> ResolvedNode:
    node = open_node(address, read)
    if node.message is None or node.message.kind is not UnixFsType.HAMT_SHARD:
        raise DataError(f"block {address} is not a shard of the directory")
    return node


def _not_found(segments: tuple[bytes, ...]) -> RequestRefusedError:
    path = "/".join(name.decode("utf-8", "replace") for name in segments)
    return RequestRefusedError(404, f"no such path: {path!r}")
