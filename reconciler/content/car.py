"""CARv1: framing, and writing from any Dag: the whole CAR, a span of its bytes, some blocks, or shards.

The CAR of a root is one sequence of bytes: a header with this root, then each block of the layout in its
order. Its length and every offset are known from the layout, so it is streamed and never stored to be sent.
A place that limits the size of a CAR gets several shards. A CAR as one blob has a CID of its own (CarCid).
Source: the CARv1 specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content import cid as cids
from reconciler.content import varint
from reconciler.content.cid import BINARY_SIZE, Cid
from reconciler.content.dag import HEADER_SIZE, Dag, DagLayout
from reconciler.content.multibase import decode_base32, encode_base32
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import DataError

CHUNK_SIZE = 1 << 20  #: bytes of the longest chunk of a stream; HTTP clients are slow with longer ones
SHORTEST_PIECE = 127  #: bytes of the smallest CAR that Filecoin Onchain Cloud accepts
MAX_SECTION_PREFIX = varint.MAX_BYTES + BINARY_SIZE  #: bytes of the length and the CID before a block

_ROOTS = b"\xa2\x65roots"  # dag-cbor: a map of two, the first key
_VERSION_1 = b"\x67version\x01"
_ROOTLESS = b"\x11" + _ROOTS + b"\x80" + _VERSION_1
_CAR_CID_PREFIX = b"\x01\x82\x04\x12\x20"  # CIDv1, codec car (0x0202), sha2-256, 32 bytes


# --- framing


def header(root: Cid | bytes) -> bytes:
    """Return a CARv1 header that names `root` alone: HEADER_SIZE bytes for a Cid.

    In binary form, `root` may be any CID of fewer than 255 bytes.
    """
    raw = bytes(root)
    size = len(raw) + 1  # of the byte string, which begins with the identity multibase prefix 00
    head = bytes((0x58, size)) if size > 23 else bytes((0x40 | size,))
    body = _ROOTS + b"\x81\xd8\x2a" + head + b"\0" + raw + _VERSION_1
    return varint.encode(len(body)) + body


def header_of(roots: Sequence[Cid]) -> bytes:
    """Return a CARv1 header that names all `roots`, up to 65,535."""
    listed = b"".join(b"\xd8\x2a\x58" + bytes((len(bytes(root)) + 1, 0)) + bytes(root) for root in roots)
    body = _ROOTS + b"\x99" + len(roots).to_bytes(2, "big") + listed + _VERSION_1
    return varint.encode(len(body)) + body


def section_prefix(cid: Cid | bytes, size: int) -> bytes:
    """Return what precedes a block of `size` bytes in a CAR: the length of the section and the CID."""
    raw = bytes(cid)
    return varint.encode(len(raw) + size) + raw


def decode_section_prefix(data: bytes) -> tuple[Cid, int, int]:
    """Decode the beginning of a section, MAX_SECTION_PREFIX bytes or what there are.

    Returns the CID, the number of bytes before the block, and the size of the block. Raises DataError.
    """
    length, start = varint.decode(data)
    cid, end = cids.decode_at(data, start)
    if end - start > length:
        raise DataError("CAR section is shorter than its CID")
    return cid, end, length - (end - start)


# --- one CAR


def stream(dag: Dag, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Return bytes `start` to `stop` (None: the end) of the CAR of `dag`, in chunks of at most CHUNK_SIZE.

    Only the blocks of the span are read, and each is verified as a whole. Raises ValueError at once when the
    span does not lie within the CAR; iterating raises what `Dag.read` raises.
    """
    end = dag.layout.car_size if stop is None else stop
    if not 0 <= start <= end <= dag.layout.car_size:
        raise ValueError(f"span {start}..{end} of a CAR of {dag.layout.car_size} bytes")
    return _chunked(_span(dag, start, end))


def stream_partial(
    dag: Dag, positions: Iterable[int], *, read: Callable[[int], bytes] | None = None
) -> Iterator[bytes]:
    """Return a CAR that names the root of `dag` and has only the blocks at `positions`, in the given order.

    `read` replaces `dag.read`.
    """
    return _chunked(_with_header(dag, positions, read or dag.read))


def partial_size(layout: DagLayout, positions: Iterable[int]) -> int:
    """Return the bytes of the CAR that `stream_partial` returns."""
    return HEADER_SIZE + sum(_section_size(layout, position) for position in positions)


# --- shards


class RootNaming(StrEnum):
    """Which of several CARs of one DAG name its root in their headers."""

    EVERY = "every"
    LAST = "last"  #: the others have an empty list of roots


@dataclass(frozen=True, slots=True)
class Sharding:
    """A way to split a DAG into CARs: at most `max_bytes` each, and which of them name the root."""

    max_bytes: int
    naming: RootNaming = RootNaming.EVERY


@dataclass(frozen=True, slots=True)
class ShardSpan:
    """Blocks `first` to `last` (exclusive) of a layout as a CAR of their own; `size` counts all its bytes."""

    first: int
    last: int
    size: int
    names_root: bool = True

    @property
    def header_size(self) -> int:
        """Bytes of the header of this CAR."""
        return HEADER_SIZE if self.names_root else len(_ROOTLESS)


def shard_spans(layout: DagLayout, sharding: Sharding) -> tuple[ShardSpan, ...]:
    """Split the CAR at block boundaries, greedily: a block goes into the current shard while it fits.

    With RootNaming.LAST a shard is filled as if it named no root. When the last one then has no space for its
    root, as many of its last blocks as necessary move to one more shard. Storacha's client splits in the same
    way (ShardingStream in its upload-client). With RootNaming.EVERY, blocks move to a last shard that would
    be shorter than any piece may be. Raises ValueError when a single block does not fit.
    """
    every = sharding.naming is RootNaming.EVERY
    head = HEADER_SIZE if every else len(_ROOTLESS)
    found: list[ShardSpan] = []
    first, size = 0, head
    for position in range(len(layout)):
        section = _section_size(layout, position)
        if HEADER_SIZE + section > sharding.max_bytes:
            raise ValueError(
                f"a block of {layout.block_size(position)} bytes does not fit a CAR of {sharding.max_bytes}"
            )
        if size + section > sharding.max_bytes:
            found.append(ShardSpan(first, position, size, every))
            first, size = position, head
        size += section
    if every:
        while found and size < SHORTEST_PIECE and found[-1].last - found[-1].first > 1:
            before = found.pop()
            section = _section_size(layout, before.last - 1)
            found.append(ShardSpan(before.first, before.last - 1, before.size - section))
            first, size = before.last - 1, size + section
        return (*found, ShardSpan(first, len(layout), size))
    size += HEADER_SIZE - head
    last, moved = len(layout), 0
    while size - moved > sharding.max_bytes:
        last -= 1
        moved += _section_size(layout, last)
    if moved:
        found.append(ShardSpan(first, last, size - moved - HEADER_SIZE + head, every))
        first, size = last, HEADER_SIZE + moved
    return (*found, ShardSpan(first, len(layout), size))


def sharding_overhead(sharding: Sharding, count: int) -> int:
    """Return by how many bytes `count` shards together are longer than the one CAR."""
    return (count - 1) * (HEADER_SIZE if sharding.naming is RootNaming.EVERY else len(_ROOTLESS))


def shard_header(root: Cid, *, names_root: bool) -> bytes:
    """Return the header of one of several CARs of the DAG under `root`."""
    return header(root) if names_root else _ROOTLESS


def stream_shard(
    dag: Dag, shard: ShardSpan, *, read: Callable[[int], bytes] | None = None
) -> Iterator[bytes]:
    """Return the bytes of one of the `shard_spans` of `dag`, in chunks of at most CHUNK_SIZE.

    `read` replaces `dag.read`.
    """
    positions = range(shard.first, shard.last)
    return _chunked(_with_header(dag, positions, read or dag.read, rootless=not shard.names_root))


@dataclass(frozen=True, slots=True, order=True)
class CarCid:
    """The address of a whole CAR (`bagbaiera…`): the 32-byte sha2-256 `digest` of all its bytes."""

    digest: bytes

    def __bytes__(self) -> bytes:
        return _CAR_CID_PREFIX + self.digest

    def __str__(self) -> str:
        return encode_base32(bytes(self))


def parse_car_cid(text: str) -> CarCid:
    """Parse the CID of a CAR from canonical text. Raises DataError."""
    try:
        data = decode_base32(text) if len(text) < 128 else b""
    except DataError:
        data = b""
    if not data.startswith(_CAR_CID_PREFIX) or len(data) != len(_CAR_CID_PREFIX) + 32:
        raise DataError(
            f"not the CID of a CAR: {text[:128]!r}", hint="the CID of a CAR begins with 'bagbaiera'"
        )
    return CarCid(data[len(_CAR_CID_PREFIX) :])


@dataclass(frozen=True, slots=True)
class CarShard:
    """One CAR of a bundle: the CID and bytes (`size`) of the whole CAR, and the piece it is on Filecoin."""

    cid: CarCid
    size: int
    piece: PieceCid


@dataclass(frozen=True, slots=True)
class ShardedCar:
    """The CAR of a bundle split by `sharding` into `shards`, in order."""

    sharding: Sharding
    shards: tuple[CarShard, ...]


# --- parts of streams


def _section_size(layout: DagLayout, position: int) -> int:
    return layout.section_end(position) - layout.section_start(position)


def _layout_prefix(layout: DagLayout, position: int) -> bytes:
    """Return the section prefix of the block at `position`."""
    return section_prefix(layout.cid(position), layout.block_size(position))


def _with_header(
    dag: Dag, positions: Iterable[int], read: Callable[[int], bytes], *, rootless: bool = False
) -> Iterator[bytes]:
    yield _ROOTLESS if rootless else header(dag.layout.root)
    for position in positions:
        yield _layout_prefix(dag.layout, position)
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
            yield _layout_prefix(layout, position)[start - section : stop - section]
        if stop > data:
            block = dag.read(position)
            whole = start <= data and stop >= data + len(block)
            yield block if whole else block[max(0, start - data) : stop - data]
        start = layout.section_end(position)
        position += 1


def _chunked(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join short parts and split long ones, so that no chunk is empty or longer than CHUNK_SIZE."""
    joined = bytearray()
    for part in parts:
        if len(joined) + len(part) <= CHUNK_SIZE:
            joined += part
            continue
        if joined:
            yield bytes(joined)
            joined.clear()
        if len(part) < CHUNK_SIZE:
            joined += part
            continue
        for offset in range(0, len(part), CHUNK_SIZE):
            yield part[offset : offset + CHUNK_SIZE]
    if joined:
        yield bytes(joined)
