"""Bodies of responses: the blocks of a CAR, and the bytes of a file.

A CAR has its blocks in depth-first order (IPIP-402, IPIP-412). A span of a file needs only the blocks that
contain it. Both iterators keep no leaf in memory between two pieces, since many bodies may wait for their
clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.content import car, unixfs
from reconciler.content.bounds import LIMITS
from reconciler.content.cid import RAW
from reconciler.content.unixfs import UnixFsType
from reconciler.errors import DataError
from reconciler.gateway.paths import Resolved, ResolvedNode, open_node
from reconciler.gateway.request import CarTerms, DagScope, Span
from reconciler.gateway.stores import ReadBlock
from reconciler.gateway.written_cid import WrittenCid, written_links


def car_stream(resolved: Resolved, terms: CarTerms, read: ReadBlock) -> Iterator[bytes]:
    """Iterate over the bytes of the CAR. Raises what `read` raises."""
    yield car.header(bytes(resolved.roots[0]))
    for address, inner in _blocks(resolved, terms, read):
        data = [read(address.cid) if inner is None else inner]
        del inner
        yield car.section_prefix(bytes(address), len(data[0]))
        yield data.pop()


@dataclass(frozen=True, slots=True)
class _PendingBlock:
    """A block to be sent; `span` is the requested part of the file under it, None for all of it."""

    address: WrittenCid
    span: Span | None


def _blocks(
    resolved: Resolved, terms: CarTerms, read: ReadBlock
) -> Iterator[tuple[WrittenCid, bytes | None]]:
    """Iterate over the blocks to be sent; the bytes of a leaf are None, and read when they are sent."""
    sent: set[bytes] = set()  # digests of blocks that were sent
    whole: set[bytes] = set()  # and of those sent with everything below them

    def should_send(address: WrittenCid) -> bool:
        if terms.dups:
            return True
        if address.cid.digest in sent:
            return False
        sent.add(address.cid.digest)
        return True

    for address, block in resolved.path_blocks:
        if should_send(address):
            yield address, block
    end = resolved.end
    span = _entity_span(end, terms)
    if span is _NOTHING or terms.scope is DagScope.BLOCK:
        if should_send(end.address):
            yield end.address, end.block
        return
    stack = [_PendingBlock(end.address, span)]
    while stack:
        item = stack.pop()
        if item.span is None and not terms.dups:
            if item.address.cid.digest in whole:
                continue
            whole.add(item.address.cid.digest)
        if item.address.cid.codec == RAW:
            if should_send(item.address):
                yield item.address, None
            continue
        node = end if item.address == end.address else open_node(item.address, read)
        if should_send(item.address):
            yield item.address, node.block
        stack += reversed(_below(node, item.span, terms.scope))


_NOTHING = Span(0, 0)


def _entity_span(end: ResolvedNode, terms: CarTerms) -> Span | None:
    """Return the requested bytes of the entity: None for all, _NOTHING for none."""
    size = end.file_size
    if terms.entity is None or size is None:
        return None
    span = terms.entity.span(size)
    if span is None:
        return _NOTHING
    return None if span.size == size else span


def _below(node: ResolvedNode, span: Span | None, scope: DagScope) -> list[_PendingBlock]:
    """Return the children of a node that belong to the CAR."""
    found = written_links(node.block)
    if scope is DagScope.ALL:
        return [_PendingBlock(address, None) for _, address in found]
    if node.message is None:
        return []
    if node.message.kind is UnixFsType.HAMT_SHARD:
        # the name of a sub-shard is only the two digits of its slot
        return [_PendingBlock(address, None) for link, address in found if len(link.name) == 2]
    if node.message.kind not in (UnixFsType.FILE, UnixFsType.RAW):
        return []
    return [_PendingBlock(part.address, part.span) for part in file_parts(node, span)]


@dataclass(frozen=True, slots=True)
class FilePart:
    """A child of a file node.

    `size` is the number of file bytes under it, `span` the requested part of them, None for all.
    """

    address: WrittenCid
    size: int
    span: Span | None


def file_parts(node: ResolvedNode, span: Span | None) -> list[FilePart]:
    """Return the children of a file node that contain bytes of `span` (None: all children)."""
    message = node.message or unixfs.UnixFs(UnixFsType.FILE)
    found: list[FilePart] = []
    offset = len(message.data)
    for (_, address), size in zip(written_links(node.block), message.block_sizes, strict=False):
        if span is None:
            found.append(FilePart(address, size, None))
        else:
            start, stop = max(span.start - offset, 0), min(span.stop - offset, size)
            if start < stop:
                whole = start == 0 and stop == size
                found.append(FilePart(address, size, None if whole else Span(start, stop)))
        offset += size
    return found


def file_bytes(node: ResolvedNode, span: Span, read: ReadBlock) -> Iterator[bytes | memoryview]:
    """Iterate over the bytes `span` of the file under `node`, in pieces of at most one block.

    Raises what `read` raises, and DataError when a child has another size than its parent declares.
    """
    size = node.file_size
    if size is None or span.stop > size:
        raise DataError(f"block {node.address} does not contain these bytes of a file")
    yield from _bytes(node, span, read, 1)


def _bytes(node: ResolvedNode, span: Span, read: ReadBlock, depth: int) -> Iterator[bytes | memoryview]:
    if depth > LIMITS.depth:
        raise DataError(f"the file is deeper than {LIMITS.depth} blocks")
    if node.address.cid.codec == RAW:
        yield memoryview(node.block)[span.start : span.stop]
        return
    if node.message is None or node.message.kind not in (UnixFsType.FILE, UnixFsType.RAW, UnixFsType.SYMLINK):
        raise DataError(f"block {node.address} is not part of a file")
    inline = node.message.data[span.start : span.stop]
    if inline:
        yield inline
    for part in file_parts(node, span):
        requested = part.span or Span(0, part.size)
        if part.address.cid.codec == RAW:
            yield _leaf(part, requested, read)
            continue
        child = open_node(part.address, read)
        _check_size(part, child.file_size)
        yield from _bytes(child, requested, read, depth + 1)


def _leaf(part: FilePart, span: Span, read: ReadBlock) -> memoryview:
    block = read(part.address.cid)
    _check_size(part, len(block))
    return memoryview(block)[span.start : span.stop]


def _check_size(part: FilePart, size: int | None) -> None:
    if size != part.size:
        raise DataError(
            f"block {part.address} has {size} bytes of a file, but its parent declares {part.size}"
        )
