"""The bytes of a file, or of a span of it, reading only the blocks that hold them."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.content.cid import RAW
from reconciler.content.limits import LIMITS
from reconciler.content.unixfs import Kind
from reconciler.errors import DataError
from reconciler.gateway.dag import Part, parts
from reconciler.gateway.paths import Node, ReadBlock, open_node
from reconciler.gateway.ranges import Span


def file_bytes(node: Node, span: Span, read: ReadBlock) -> Iterator[bytes | memoryview]:
    """The bytes `span` of the file under `node`, in pieces of at most one block.

    Between two pieces no leaf is in memory: many bodies may wait for their clients. Raises what `read`
    raises, and DataError when the parts are not what the node above says.
    """
    size = node.file_size
    if size is None or span.stop > size:
        raise DataError(f"block {node.address} holds no such bytes of a file")
    yield from _bytes(node, span, read, 1)


def _bytes(node: Node, span: Span, read: ReadBlock, depth: int) -> Iterator[bytes | memoryview]:
    if depth > LIMITS.depth:
        raise DataError(f"the file is deeper than {LIMITS.depth} blocks")
    if node.address.cid.codec == RAW:
        yield memoryview(node.block)[span.start : span.stop]
        return
    if node.message is None or node.message.kind not in (Kind.FILE, Kind.RAW, Kind.SYMLINK):
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
