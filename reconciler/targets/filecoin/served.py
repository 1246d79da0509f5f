"""The DAG under a root as providers serve it: verified blocks, from ranges of its pieces.

A piece is a shard of our CAR, so every offset in it follows from the inner nodes. These are read first, in
the order of the CAR: where the next one begins is known from those before it and from the sizes of the
pieces. Each block is verified by its CID, so no provider is trusted. Usable from several threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from reconciler.content import car, walk
from reconciler.content.bounds import LIMITS, MAX_BLOCK
from reconciler.content.car import MAX_SECTION_PREFIX, ShardSpan
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.examine import Examiner
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.net.errors import NotFoundError, RequestError, TransientError
from reconciler.targets.filecoin.provider import ProviderClient

_WINDOW = 1 << 16  # bytes read at the beginning of an inner node: most are shorter


class PieceRanges:
    """Ranges of pieces, each from the first of its providers that serves it.

    A provider that could not be reached is not asked again.
    """

    def __init__(self, clients: Mapping[PieceCid, Sequence[ProviderClient]]) -> None:
        self._clients = clients
        self._down: dict[str, PeerError] = {}

    def read(
        self, piece: PieceCid, start: int, stop: int, accept: Callable[[bytes], bool] = lambda _: True
    ) -> bytes:
        """Return bytes `start` to `stop` that `accept` accepts.

        Raises BlockUnavailableError when no provider serves them, PeerError when one could not be asked.
        """
        unreachable: PeerError | None = None
        reasons = []
        for client in self._clients.get(piece, ()):
            if client.name in self._down:
                unreachable = self._down[client.name]
                continue
            try:
                data = client.read(piece, start, stop)
            except NotFoundError as error:
                reasons.append(error.message)
            except RequestError as error:
                unreachable = error
                if isinstance(error, TransientError) and (error.timed_out or not error.reached):
                    self._down[client.name] = error
            else:
                if accept(data):
                    return data
                reasons.append(f"{client.name} serves other bytes")
        if unreachable is not None:
            raise unreachable
        raise BlockUnavailableError(
            f"no provider serves piece {piece} undamaged", hint="; ".join(reasons) or None
        )


#: the piece that is the shard with this number, and begins with this block
PieceAt = Callable[[int, Cid], PieceCid | None]


def listed(pieces: Sequence[PieceCid]) -> PieceAt:
    """Return the pieces in the given order."""
    return lambda number, _: pieces[number] if number < len(pieces) else None


class ServedDag:
    """The Dag of `root` from its pieces. The constructor reads the inner nodes.

    `piece_at` returns the piece that is the shard with a number and begins with a block, None when there is
    none. The constructor raises BlockUnavailableError when an inner node or a piece is missing or damaged,
    DataError when the pieces are not shards of this DAG, PeerError. `naming_root` is the number of the only
    piece whose header names the root; None: all do. With `bound`, the pieces are known to be those of `root`:
    the ones without inner nodes may be missing, and only reading their blocks fails.
    """

    def __init__(
        self,
        root: Cid,
        piece_at: PieceAt,
        ranges: PieceRanges,
        *,
        naming_root: int | None = None,
        bound: bool = False,
    ) -> None:
        self._piece_at = piece_at
        self._naming_root = naming_root
        self._ranges = ranges
        self._pieces: list[PieceCid] = [self._piece(0, root)]
        self._firsts: list[int] = [0]  # the first position in each shard that has begun
        self._end = self._head(0)  # of the sections in the current shard that were counted
        self._counted = 0  # positions before the end of what was counted
        self._window = _Window()
        self._layout = self._prove(root)
        if not bound:
            for position in range(len(self._firsts)):
                self._check_header(position, root)

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    @property
    def pieces(self) -> tuple[PieceCid, ...]:
        """The pieces, in order."""
        return tuple(self._pieces)

    @property
    def firsts(self) -> Sequence[int]:
        """The position of the first block in each piece."""
        return self._firsts

    def place(self, position: int) -> tuple[PieceCid, int, int]:
        """Return the piece with the block at `position`, and where the block begins and ends in it."""
        shard = bisect_right(self._firsts, position) - 1
        shift = self._layout.section_start(self._firsts[shard]) - self._head(shard)
        start = self._layout.data_start(position) - shift
        return self._pieces[shard], start, start + self._layout.block_size(position)

    def read(self, position: int) -> bytes:
        """Read and verify the block at `position`. Raises BlockUnavailableError, PeerError."""
        cid = self._layout.cid(position)
        piece, start, stop = self.place(position)
        if start == stop:
            return b""
        return self._ranges.read(piece, start, stop, cid.matches)

    def close(self) -> None:
        """Do nothing: the connections belong to the target."""

    # --- the inner nodes

    def _prove(self, root: Cid) -> DagLayout:
        blocks: dict[Cid, bytes] = {}

        def read(cid: Cid) -> bytes:
            if cid not in blocks:
                blocks[cid] = self._next_block(examiner.layout, cid)
            return blocks[cid]

        examiner = Examiner(root, read, LIMITS)
        if root.codec == RAW:
            examiner.leaf(root, len(read(root)))
        else:
            examiner.visit(root, 1)
        self._advance(examiner.layout)
        if self._end != self._pieces[-1].size or len(self._firsts) != len(self._pieces):
            raise DataError(f"the pieces of {root} have another size than its CAR")
        raw_size = len(blocks[root]) if root.codec == RAW else None
        return walk.walk(root, blocks.__getitem__, raw_size=raw_size).layout

    def _advance(self, layout: DagLayout) -> None:
        """Count the sections of all blocks that are in `layout`: the next one begins after them."""
        for position in range(self._counted, len(layout)):
            size = layout.section_end(position) - layout.section_start(position)
            self._count(size, position, layout.cid(position))
        self._counted = len(layout)

    def _count(self, section: int, position: int, cid: Cid) -> None:
        if self._end == self._pieces[len(self._firsts) - 1].size:
            self._begin_shard(position, cid)
        self._end += section
        if self._end > self._pieces[len(self._firsts) - 1].size:
            raise DataError("the pieces are not shards of this DAG as this program splits it")

    def _begin_shard(self, position: int, cid: Cid) -> None:
        if len(self._pieces) == len(self._firsts):
            self._pieces.append(self._piece(len(self._pieces), cid))
        self._firsts.append(position)
        self._end = self._head(len(self._firsts) - 1)

    def _piece(self, number: int, first: Cid) -> PieceCid:
        found = self._piece_at(number, first)
        if found is None:
            raise BlockUnavailableError(f"the piece that begins with block {first} is not there")
        return found

    def _next_block(self, layout: DagLayout, cid: Cid) -> bytes:
        """Return the block that follows in the CAR after those in `layout`."""
        self._advance(layout)
        number, start = len(self._firsts) - 1, self._end
        if start == self._pieces[number].size:
            number, start = number + 1, self._head(number + 1)
            if number == len(self._pieces):
                self._pieces.append(self._piece(number, cid))
        piece = self._pieces[number]
        head = self._read_ahead(piece, start, min(MAX_SECTION_PREFIX, piece.size - start), cid)
        _, prefix, size = car.decode_section_prefix(head)
        begin, end = start + prefix, start + prefix + size
        if size > MAX_BLOCK or end > piece.size:
            raise BlockUnavailableError(f"piece {piece} does not have block {cid} at byte {start}")
        block = self._window.get(piece, begin, size)
        if block is None or not cid.matches(block):
            block = self._ranges.read(piece, begin, end, cid.matches)
        return block

    def _read_ahead(self, piece: PieceCid, start: int, size: int, cid: Cid) -> bytes:
        """Return bytes with the section of `cid`, read before or from a provider that has it."""
        known = self._window.get(piece, start, size)
        if known is not None and _begins(known, cid):
            return known
        stop = min(piece.size, start + _WINDOW)
        data = self._ranges.read(piece, start, stop, lambda data: _begins(data, cid))
        self._window = _Window(piece, start, data)
        return data[:size]

    def _check_header(self, shard: int, root: Cid) -> None:
        wanted = car.shard_header(root, names_root=self._names_root(shard))
        self._ranges.read(self._pieces[shard], 0, len(wanted), lambda data: data == wanted)

    def _names_root(self, shard: int) -> bool:
        return self._naming_root in (None, shard)

    def _head(self, shard: int) -> int:
        """Return the bytes of the header of a shard."""
        return ShardSpan(0, 0, 0, self._names_root(shard)).header_size


def _begins(data: bytes, cid: Cid) -> bool:
    """Whether `data` begins with the section of the block `cid`."""
    try:
        return car.decode_section_prefix(data[:MAX_SECTION_PREFIX])[0] == cid
    except DataError:
        return False


class _Window:
    """Bytes of one piece from `start` on."""

    def __init__(self, piece: PieceCid | None = None, start: int = 0, data: bytes = b"") -> None:
        self.piece, self.start, self.data = piece, start, data

    def get(self, piece: PieceCid, start: int, size: int) -> bytes | None:
        begin = start - self.start
        if piece != self.piece or begin < 0 or begin + size > len(self.data):
            return None
        return self.data[begin : begin + size]
