"""Reading pieces back from their providers: what the chain says is proved must also be served.

A proof is about five leaves of a whole data set, so a provider can lose a part and go on proving for weeks.
Reading random leaves, or every byte, shows what consumers would get.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from reconciler.content import car
from reconciler.content.car import ShardSpan
from reconciler.content.dag import HEADER_SIZE, DagLayout
from reconciler.content.piece_cid import PieceCid
from reconciler.content.piece_hash import PieceHasher
from reconciler.errors import DataError, PeerError
from reconciler.net.errors import NotFoundError, UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.filecoin.provider import ProviderClient

_SLOWEST = 1 << 18  # bytes per second of a piece that is read whole


@dataclass(frozen=True, slots=True)
class PieceProbe:
    """What one provider serves of one piece: the positions of blocks that are missing or wrong.

    `missing` is true when it does not serve the piece at all, `wrong` when the bytes are wrong and it is not
    known where. `unknown` is why it could not be asked.
    """

    bad: frozenset[int] = frozenset()
    missing: bool = False
    wrong: bool = False
    unknown: str = ""

    @property
    def detail(self) -> str:
        """A description for the user; "" when everything is fine."""
        if self.missing:
            return "does not serve it"
        return "serves damaged bytes" if self.bad or self.wrong else ""


def block_range(layout: DagLayout, span: ShardSpan, position: int) -> tuple[int, int]:
    """Return where the block at `position` begins and ends in the CAR of `span`."""
    start = layout.data_start(position) - layout.section_start(span.first) + span.header_size
    return start, start + layout.block_size(position)


def probe_blocks(
    client: ProviderClient, piece: PieceCid, layout: DagLayout, span: ShardSpan, positions: Sequence[int]
) -> PieceProbe:
    """Read and hash the blocks at `positions`."""
    bad = set()
    for position in positions:
        start, stop = block_range(layout, span, position)
        try:
            data = client.read(piece, start, stop) if stop > start else b""
        except NotFoundError:
            return PieceProbe(frozenset(range(span.first, span.last)), missing=True)
        except UnexpectedResponseError:
            bad.add(position)
        except PeerError as error:
            return PieceProbe(frozenset(bad), unknown=error.message)
        else:
            if not layout.cid(position).matches(data):
                bad.add(position)
    return PieceProbe(frozenset(bad))


def probe_start(client: ProviderClient, piece: PieceCid) -> PieceProbe:
    """Ask for the beginning of a piece, of which nothing can be verified: is it served at all?"""
    try:
        client.read(piece, 0, min(piece.size, HEADER_SIZE))
    except NotFoundError:
        return PieceProbe(missing=True)
    except PeerError as error:
        return PieceProbe(unknown=error.message)
    return PieceProbe()


def probe_whole(client: ProviderClient, piece: PieceCid, progress: Progress) -> PieceProbe:
    """Read a whole piece whose blocks are not known, and compute its piece CID."""
    try:
        with (
            client.stream(piece, _seconds(piece)) as answer,
            PieceHasher() as hasher,
            progress.task(f"{client.name}: reading a piece", piece.size) as task,
        ):
            for part in answer.pieces(piece.size):
                hasher.update(part)
                task.advance(len(part))
            return PieceProbe(wrong=hasher.finish() != piece)
    except NotFoundError:
        return PieceProbe(missing=True)
    except (UnexpectedResponseError, DataError):
        return PieceProbe(wrong=True)
    except PeerError as error:
        return PieceProbe(unknown=error.message)


def _seconds(piece: PieceCid) -> float:
    return 60 + piece.size / _SLOWEST


def probe_piece(
    client: ProviderClient, piece: PieceCid, layout: DagLayout, span: ShardSpan, progress: Progress
) -> PieceProbe:
    """Read a whole piece, and compare every byte with the shard that it should be."""
    try:
        with (
            client.stream(piece, _seconds(piece)) as answer,
            progress.task(f"{client.name}: reading a piece", piece.size) as task,
            closing(_exactly(answer.pieces(piece.size))) as parts,
        ):
            next(parts)
            bad = set()
            header = car.shard_header(layout.root, names_root=span.names_root)
            if parts.send(len(header)) != header:
                bad.add(span.first)
            for position in range(span.first, span.last):
                prefix = car.section_prefix(layout.cid(position), layout.block_size(position))
                if parts.send(len(prefix)) != prefix:
                    bad.add(position)
                if not layout.cid(position).matches(parts.send(layout.block_size(position))):
                    bad.add(position)
                task.advance(len(prefix) + layout.block_size(position))
            return PieceProbe(frozenset(bad))
    except NotFoundError:
        return PieceProbe(frozenset(range(span.first, span.last)), missing=True)
    except UnexpectedResponseError:
        return PieceProbe(frozenset(range(span.first, span.last)))
    except PeerError as error:
        return PieceProbe(unknown=error.message)


def _exactly(pieces: Iterator[bytes]) -> Generator[bytes, int, None]:
    """Return a generator to which lengths are sent, and that answers with so many bytes, fewer at the end."""
    buffer = bytearray()
    wanted = yield b""
    while True:
        while len(buffer) < wanted and (piece := next(pieces, None)) is not None:
            buffer += piece
        found, buffer = bytes(buffer[:wanted]), buffer[wanted:]
        wanted = yield found
