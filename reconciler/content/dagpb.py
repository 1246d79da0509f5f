"""A strict codec of dag-pb, the block format of every inner node.

A node consists of links and data. The encoder writes links before data, as the specification requires. The
decoder accepts both orders, as the specification also requires, because blocks of both forms exist.
Everything else that the specification excludes is an error: unknown or repeated fields, fields of a link out
of order, a link without a CID, trailing bytes. Missing names and sizes are read as b"" and 0. Source: IPLD
specification of the DAG-PB codec.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content import varint
from reconciler.content.cid import Cid
from reconciler.errors import DataError

MAX_LINKS = 32_768  #: links of one node when decoding; more would fit, but no program writes them
MAX_NAME = 1024  #: bytes of one link name when decoding; file systems allow 255

_LINK_HASH, _LINK_NAME, _LINK_TSIZE = 0x0A, 0x12, 0x18
_NODE_DATA, _NODE_LINK = 0x0A, 0x12


@dataclass(frozen=True, slots=True)
class PbLink:
    """A named link; `tsize` is the serialized size of the whole DAG under `cid`, duplicates counted."""

    name: bytes
    cid: Cid
    tsize: int


@dataclass(frozen=True, slots=True)
class PbNode:
    """One decoded dag-pb block: its links in the order of the block, and its data (b"" when missing)."""

    links: tuple[PbLink, ...]
    data: bytes


def link_size(name_size: int, tsize: int) -> int:
    """Return the bytes of a link with a name of `name_size` bytes in its node, framing included."""
    body = 2 + cids.BINARY_SIZE + 1 + varint.size(name_size) + name_size + 1 + varint.size(tsize)
    return 1 + varint.size(body) + body


def encode(links: Iterable[PbLink], data: bytes) -> bytes:
    """Encode a node with `links` in the given order, and `data`."""
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
    """Decode the block `data`. Raises DataError."""
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
                raise DataError("dag-pb node has two data fields")
            content, links_ended = body, bool(links)
        elif links_ended:
            raise DataError("dag-pb node has links before and after its data")
        else:
            if len(links) == MAX_LINKS:
                raise DataError(f"dag-pb node has more than {MAX_LINKS} links")
            links.append(_decode_link(body))
    return PbNode(tuple(links), content or b"")


def link_cids(data: bytes) -> list[bytes]:
    """Return the binary CIDs of the links as they are in the block, where `decode` converts CIDv0 to CIDv1.

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
            raise DataError("dag-pb link has repeated or unordered fields")
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
    """Return the length-delimited value at `offset` and the offset after it. Raises DataError."""
    size, start = varint.decode(data, offset)
    if size > len(data) - start:
        raise DataError("protobuf field is truncated")
    return data[start : start + size], start + size
