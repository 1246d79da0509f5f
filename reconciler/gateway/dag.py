"""The blocks of a CAR answer, in order: depth first, links in link order (IPIP-402, IPIP-412).

The bytes of a file, or of a span of it, reading only the blocks that hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.content import car, unixfs
from reconciler.content.cid import RAW
from reconciler.content.profile import LIMITS
from reconciler.content.unixfs import UnixFsType
from reconciler.errors import DataError
from reconciler.gateway.paths import ReadBlock, Resolved, ResolvedNode, open_node
from reconciler.gateway.providers import Linked, links
from reconciler.gateway.request import CarTerms, DagScope, Span


def car_stream(resolved: Resolved, terms: CarTerms, read: ReadBlock) -> Iterator[bytes]:
    """The bytes of the CAR. Raises what `read` raises where a block cannot be had.

    Between two pieces no leaf is in memory: many bodies may wait for their clients.
    """
    yield car.header(bytes(resolved.roots[0]))
    for address, inner in _blocks(resolved, terms, read):
        held = [read(address.cid) if inner is None else inner]
        del inner
        yield car.section_prefix(bytes(address), len(held[0]))
        yield held.pop()


@dataclass(frozen=True, slots=True)
class _Item:
    """A block still to be sent: the bytes of the entity wanted below it, or None for all of it."""

    address: Linked
    span: Span | None


def _blocks(resolved: Resolved, terms: CarTerms, read: ReadBlock) -> Iterator[tuple[Linked, bytes | None]]:
    """Every block to be sent; the bytes of leaves are left to be read."""
    sent: set[bytes] = set()  # digests of what was sent
    whole: set[bytes] = set()  # and of what was sent with all that is below it

    def due(address: Linked) -> bool:
        if terms.dups:
            return True
        if address.cid.digest in sent:
            return False
        sent.add(address.cid.digest)
        return True

    for address, block in resolved.path_blocks:
        if due(address):
            yield address, block
    end = resolved.end
    span = _entity_span(end, terms)
    if span is _NOTHING or terms.scope is DagScope.BLOCK:
        if due(end.address):
            yield end.address, end.block
        return
    stack = [_Item(end.address, span)]
    while stack:
        item = stack.pop()
        if item.span is None and not terms.dups:
            if item.address.cid.digest in whole:
                continue
            whole.add(item.address.cid.digest)
        if item.address.cid.codec == RAW:
            if due(item.address):
                yield item.address, None
            continue
        node = end if item.address == end.address else open_node(item.address, read)
        if due(item.address):
            yield item.address, node.block
        stack += reversed(_below(node, item.span, terms.scope))


_NOTHING = Span(0, 0)


def _entity_span(end: ResolvedNode, terms: CarTerms) -> Span | None:
    """The bytes wanted of the entity: None for all, _NOTHING for none."""
    size = end.file_size
    if terms.entity is None or size is None:
        return None
    span = terms.entity.span(size)
    if span is None:
        return _NOTHING
    return None if span.size == size else span


def _below(node: ResolvedNode, span: Span | None, scope: DagScope) -> list[_Item]:
    """What of the links of a node belongs to the answer."""
    found = links(node.block)
    if scope is DagScope.ALL:
        return [_Item(address, None) for _, address in found]
    if node.message is None:
        return []
    if node.message.kind is UnixFsType.HAMT_SHARD:  # its sub-shards have the two digits of their slot alone
        return [_Item(address, None) for link, address in found if len(link.name) == 2]
    if node.message.kind not in (UnixFsType.FILE, UnixFsType.RAW):
        return []
    return [_Item(part.address, part.span) for part in parts(node, span)]


@dataclass(frozen=True, slots=True)
class Part:
    """A child of a file node: the file bytes it holds, and those wanted of them (None: all)."""

    address: Linked
    size: int
    span: Span | None


def parts(node: ResolvedNode, span: Span | None) -> list[Part]:
    """The children of a file node that hold bytes of `span` (None: all of them)."""
    message = node.message or unixfs.UnixFs(UnixFsType.FILE)
    found: list[Part] = []
    offset = len(message.data)
    for (_, address), size in zip(links(node.block), message.block_sizes, strict=False):
        if span is None:
            found.append(Part(address, size, None))
        else:
            start, stop = max(span.start - offset, 0), min(span.stop - offset, size)
            if start < stop:
                whole = start == 0 and stop == size
                found.append(Part(address, size, None if whole else Span(start, stop)))
        offset += size
    return found


def file_bytes(node: ResolvedNode, span: Span, read: ReadBlock) -> Iterator[bytes | memoryview]:
    """The bytes `span` of the file under `node`, in pieces of at most one block.

    Between two pieces no leaf is in memory: many bodies may wait for their clients. Raises what `read`
    raises, and DataError when the parts are not what the node above says.
    """
    size = node.file_size
    if size is None or span.stop > size:
        raise DataError(f"block {node.address} holds no such bytes of a file")
    yield from _bytes(node, span, read, 1)


def _bytes(node: ResolvedNode, span: Span, read: ReadBlock, depth: int) -> Iterator[bytes | memoryview]:
    if depth > LIMITS.depth:
        raise DataError(f"the file is deeper than {LIMITS.depth} blocks")
    if node.address.cid.codec == RAW:
        yield memoryview(node.block)[span.start : span.stop]
        return
    if node.message is None or node.message.kind not in (UnixFsType.FILE, UnixFsType.RAW, UnixFsType.SYMLINK):
        raise DataError(f"block {node.address} is no part of a file")
    inline = node.message.data[span.start : span.stop]
    if inline:
        yield inline
    for part in parts(node, span):
        wanted = part.span or Span(0, part.size)
        if part.address.cid.codec == RAW:
            yield _leaf(part, wanted, read)
            continue
        child = open_node(part.address, read)
        _check(part, child.file_size)
        yield from _bytes(child, wanted, read, depth + 1)


def _leaf(part: Part, span: Span, read: ReadBlock) -> memoryview:
    block = read(part.address.cid)
    _check(part, len(block))
    return memoryview(block)[span.start : span.stop]


def _check(part: Part, size: int | None) -> None:
    if size != part.size:
        raise DataError(f"block {part.address} holds another part of a file than the node above it says")
