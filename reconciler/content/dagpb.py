"""dag-pb: the block format of every inner node, as bytes and back, strictly.

A node is links and one piece of data. On writing, links come before data, as the dag-pb specification
demands. On reading, both orders are accepted (the specification demands that as well: blocks of both forms
exist); everything else the specification rules out is an error: unknown fields, repeated fields, fields of a
link out of order, a link without a CID, bytes left over. Names and sizes that are absent read as b"" and 0.
Source: IPLD specification of the DAG-PB codec.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content import varint
from reconciler.content.cid import Cid
from reconciler.errors import DataError

MAX_LINKS = 32_768  #: links of one node on reading; a 2 MiB block holds more, but no writer makes one
MAX_NAME = 1024  #: bytes of one link name on reading; file systems stop at 255

_LINK_HASH, _LINK_NAME, _LINK_TSIZE = 0x0A, 0x12, 0x18
_NODE_DATA, _NODE_LINK = 0x0A, 0x12


@dataclass(frozen=True, slots=True)
class PbLink:
    """A named edge: `tsize` is the serialized bytes of the whole DAG under `cid`, duplicates counted."""

    name: bytes
    cid: Cid
    tsize: int


@dataclass(frozen=True, slots=True)
class PbNode:
    """One decoded dag-pb block: its links in the order of the block, and its data (b"" when absent)."""

    links: tuple[PbLink, ...]
    data: bytes


def link_size(name_size: int, tsize: int) -> int:
    """Bytes that a link with a name of `name_size` bytes takes in its node, framing included."""
    body = 2 + cids.BINARY_SIZE + 1 + varint.size(name_size) + name_size + 1 + varint.size(tsize)
    return 1 + varint.size(body) + body


def encode(links: Iterable[PbLink], data: bytes) -> bytes:
    """The block of a node with `links` in the order given, and `data`."""
    parts: list[bytes] = []
    for link in links:
        body = b"".join(
            (
                b"\x0a\x24",
                bytes(link.cid),
                b"\x12",
                varint.encode(len(link.name)),
                link.name,
                b"\x18",
                varint.encode(link.tsize),
            )
        )
        parts += (b"\x12", varint.encode(len(body)), body)
    parts += (b"\x0a", varint.encode(len(data)), data)
    return b"".join(parts)


def decode(data: bytes) -> PbNode:
    """The node in the block `data`. Raises DataError."""
    links: list[PbLink] = []
    content: bytes | None = None
    links_ended = False
    offset = 0
    while offset < len(data):
        tag = data[offset]
        if tag not in (_NODE_DATA, _NODE_LINK):
            raise DataError(f"dag-pb node has an unknown field or wire type (tag {tag:#04x})")
        body, offset = field_bytes(data, offset + 1)
        if tag == _NODE_DATA:
            if content is not None:
                raise DataError("dag-pb node has its data twice")
            content, links_ended = body, bool(links)
        elif links_ended:
            raise DataError("dag-pb node has links on both sides of its data")
        else:
            if len(links) == MAX_LINKS:
                raise DataError(f"dag-pb node has more than {MAX_LINKS} links")
            links.append(_decode_link(body))
    return PbNode(tuple(links), content or b"")


def link_cids(data: bytes) -> list[bytes]:
    """The binary CIDs of the links as the block has them, where `decode` reads a CIDv0 as its CIDv1.

    `data` is a block that `decode` accepts.
    """
    found: list[bytes] = []
    offset = 0
    while offset < len(data):
        tag = data[offset]
        body, offset = field_bytes(data, offset + 1)
        if tag == _NODE_LINK:  # the CID is the first field of a link
            found.append(field_bytes(body, 1)[0])
    return found


def _decode_link(body: bytes) -> PbLink:
    cid: Cid | None = None
    name = b""
    tsize = 0
    previous = 0
    offset = 0
    while offset < len(body):
        tag = body[offset]
        if tag not in (_LINK_HASH, _LINK_NAME, _LINK_TSIZE):
            raise DataError(f"dag-pb link has an unknown field or wire type (tag {tag:#04x})")
        if tag <= previous:
            raise DataError("dag-pb link has its fields twice or out of order")
        previous = tag
        if tag == _LINK_TSIZE:
            tsize, offset = varint.decode(body, offset + 1)
            continue
        value, offset = field_bytes(body, offset + 1)
        if tag == _LINK_HASH:
            cid = cids.decode(value)
        elif len(value) > MAX_NAME:
            raise DataError(f"dag-pb link has a name longer than {MAX_NAME} bytes")
        else:
            name = value
    if cid is None:
        raise DataError("dag-pb link has no CID")
    return PbLink(name, cid, tsize)


def field_bytes(data: bytes, offset: int) -> tuple[bytes, int]:
    """The length-delimited value at `offset` and the offset behind it; DataError when it is truncated."""
    size, start = varint.decode(data, offset)
    if size > len(data) - start:
        raise DataError("protobuf field is truncated")
    return data[start : start + size], start + size
