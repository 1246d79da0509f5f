"""Writing CARv1 from any Dag: the whole, a span of its bytes, some of its blocks, or shards.

The CAR of a root is one sequence of bytes: a header with this root, then each block of the layout in its
order. Its length and every offset are known from the layout, so nothing is written anywhere to be sent.
Source: the CARv1 specification; header and section framing are fixed for one CIDv1 root and CIDs of 36 bytes.

A CAR as one blob: its own CID, and what a place that keeps CARs needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content import varint
from reconciler.content.cid import BINARY_SIZE, Cid, decode_base32, encode_base32
from reconciler.content.dag import HEADER_SIZE, Dag, DagLayout
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import DataError

PIECE = 1 << 20  #: bytes of the longest piece that a stream yields; HTTP clients are slow with longer ones

_HEADER_START = b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"  # dag-cbor: {roots: [tag 42 (00 + CID)], ...
_HEADER_END = b"\x67version\x01"
_ROOTLESS = b"\x11\xa2\x65roots\x80\x67version\x01"


class Naming(StrEnum):
    """Which of several CARs of one DAG name its root in their headers."""

    EVERY = "every"
    LAST = "last"  #: the others have an empty list of roots


@dataclass(frozen=True, slots=True)
class Cut:
    """How a place wants a DAG cut into CARs: at most `max_bytes` each, and which of them name the root."""

    max_bytes: int
    naming: Naming = Naming.EVERY


@dataclass(frozen=True, slots=True)
class ShardSpan:
    """Blocks `first` to `last` (exclusive) of a layout as a CAR of their own; `size` is all its bytes."""

    first: int
    last: int
    size: int
    names_root: bool = True


def header(root: Cid) -> bytes:
    """The HEADER_SIZE bytes of a CARv1 header that names `root` alone."""
    return _HEADER_START + bytes(root) + _HEADER_END


def stream(dag: Dag, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Bytes `start` to `stop` (its end, when None) of the CAR of `dag`, in pieces of at most PIECE bytes.

    Only the blocks of the span are read, and each is verified as a whole. Raises what `Dag.read` raises, and
    ValueError at once when the span does not lie within the CAR.
    """
    end = dag.layout.car_size if stop is None else stop
    if not 0 <= start <= end <= dag.layout.car_size:
        raise ValueError(f"span {start}..{end} of a CAR of {dag.layout.car_size} bytes")
    return _pieces(_span(dag, start, end))


def partial(
    dag: Dag, positions: Iterable[int], *, read: Callable[[int], bytes] | None = None
) -> Iterator[bytes]:
    """A CAR that names the root of `dag` and has only the blocks at `positions`, in the order given.

    `read` replaces `dag.read`.
    """
    return _pieces(_with_header(dag, positions, read or dag.read))


def partial_size(layout: DagLayout, positions: Iterable[int]) -> int:
    """Bytes of the CAR that `partial` makes."""
    return HEADER_SIZE + sum(
        layout.section_end(position) - layout.section_start(position) for position in positions
    )


def shards(layout: DagLayout, cut: Cut) -> tuple[ShardSpan, ...]:
    """The CAR cut at block boundaries, greedily: a block goes into the current CAR while that fits.

    With Naming.LAST a CAR is filled as if it had no root; when the last one cannot hold its root besides, as
    many of its last blocks as must go into one more. That is how Storacha's client cuts (ShardingStream in
    its upload-client). Raises ValueError when a single block does not fit.
    """
    every = cut.naming is Naming.EVERY
    head = HEADER_SIZE if every else len(_ROOTLESS)
    found: list[ShardSpan] = []
    first, size = 0, head
    for position in range(len(layout)):
        section = _section_size(layout, position)
        if HEADER_SIZE + section > cut.max_bytes:
            raise ValueError(
                f"a block of {layout.block_size(position)} bytes does not fit a CAR of {cut.max_bytes}"
            )
        if size + section > cut.max_bytes:
            found.append(ShardSpan(first, position, size, every))
            first, size = position, head
        size += section
    size += HEADER_SIZE - head
    last, moved = len(layout), 0
    while size - moved > cut.max_bytes:
        last -= 1
        moved += _section_size(layout, last)
    if moved:
        found.append(ShardSpan(first, last, size - moved - HEADER_SIZE + head, every))
        first, size = last, HEADER_SIZE + moved
    return (*found, ShardSpan(first, len(layout), size))


def shard_header_size(shard: ShardSpan) -> int:
    """Bytes of the header with which `shard` begins."""
    return HEADER_SIZE if shard.names_root else len(_ROOTLESS)


def overhead(cut: Cut, count: int) -> int:
    """By how many bytes `count` CARs that `cut` makes are longer together than the one CAR."""
    return (count - 1) * (HEADER_SIZE if cut.naming is Naming.EVERY else len(_ROOTLESS))


def _section_size(layout: DagLayout, position: int) -> int:
    return layout.section_end(position) - layout.section_start(position)


def stream_shard(dag: Dag, shard: ShardSpan) -> Iterator[bytes]:
    """The bytes of one of the `shards` of the layout of `dag`, in pieces of at most PIECE bytes."""
    return _pieces(_with_header(dag, range(shard.first, shard.last), dag.read, rootless=not shard.names_root))


def _with_header(
    dag: Dag, positions: Iterable[int], read: Callable[[int], bytes], *, rootless: bool = False
) -> Iterator[bytes]:
    yield _ROOTLESS if rootless else header(dag.layout.root)
    for position in positions:
        yield _section_head(dag.layout, position)
        yield read(position)


def _span(dag: Dag, start: int, stop: int) -> Iterator[bytes]:
    layout = dag.layout
    if start < HEADER_SIZE and start < stop:
        yield header(layout.root)[start:stop]
        start = HEADER_SIZE
    position = layout.section_at(start) if start < stop else len(layout)
    while start < stop:
        section, data = layout.section_start(position), layout.data_start(position)
        if start < data:
            yield _section_head(layout, position)[start - section : stop - section]
        if stop > data:
            block = dag.read(position)
            whole = start <= data and stop >= data + len(block)
            yield block if whole else block[max(0, start - data) : stop - data]
        start = layout.section_end(position)
        position += 1


def _section_head(layout: DagLayout, position: int) -> bytes:
    block = layout[position]
    return varint.encode(BINARY_SIZE + block.size) + bytes(block.cid)


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, short parts joined and long ones cut, so that no piece is empty or above PIECE."""
    joined = bytearray()
    for part in parts:
        if len(joined) + len(part) <= PIECE:
            joined += part
            continue
        if joined:
            yield bytes(joined)
            joined.clear()
        if len(part) < PIECE:
            joined += part
            continue
        for offset in range(0, len(part), PIECE):
            yield part[offset : offset + PIECE]
    if joined:
        yield bytes(joined)


_PREFIX = b"\x01\x82\x04\x12\x20"  # CIDv1, codec car (0x0202), sha2-256, 32 bytes


@dataclass(frozen=True, slots=True, order=True)
class CarCid:
    """The address of a whole CAR (`bagbaiera…`): the 32-byte sha2-256 `digest` of all its bytes."""

    digest: bytes

    def __bytes__(self) -> bytes:
        return _PREFIX + self.digest

    def __str__(self) -> str:
        return encode_base32(bytes(self))


def parse_car_cid(text: str) -> CarCid:
    """The CID of a CAR from canonical text. Raises DataError."""
    data = decode_base32(text) if text.startswith("b") and len(text) < 128 else b""
    if not data.startswith(_PREFIX) or len(data) != len(_PREFIX) + 32:
        raise DataError(f"not the CID of a CAR: {text[:128]!r}", hint="it begins with 'bagbaiera'")
    return CarCid(data[len(_PREFIX) :])


@dataclass(frozen=True, slots=True)
class CarShard:
    """One CAR of a bundle: the CID and bytes (`size`) of the whole CAR, and the piece it is on Filecoin."""

    cid: CarCid
    size: int
    piece: PieceCid


@dataclass(frozen=True, slots=True)
class CutShards:
    """A bundle cut into CARs by `cut`, in their order."""

    cut: Cut
    shards: tuple[CarShard, ...]
