"""The CARs of a bundle as Filecoin pieces: for each its size, its own CID and its piece CID, in one stream.

All of it follows from the root CID and how the place cuts CARs, so it may be computed anywhere, kept in a
record, and compared with what a service says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reconciler.content import car
from reconciler.content.car import CarCid, CarShard, Cut, CutShards
from reconciler.content.dag import Dag
from reconciler.content.piece_engines import PieceEngine, make_engine
from reconciler.content.piece_hash import PieceHasher
from reconciler.errors import DataError, UsageError
from reconciler.progress import QUIET, Progress, Task

MAX_PIECE = 1_065_353_216  #: bytes of the largest piece that Filecoin Onchain Cloud takes: 127/128 of a GiB

_READ = 1 << 20


def shard_pieces(
    dag: Dag, cut: Cut, progress: Progress = QUIET, engine: Callable[[], PieceEngine] = make_engine
) -> CutShards:
    """The CARs of `dag` as pieces. Reads every block once and writes nothing. `engine` is for PieceHasher.

    Raises UsageError when a block does not fit a CAR, and what `Dag.read` raises.
    """
    shards = _cut(dag, cut)
    with (
        PieceHasher(engine) as hasher,
        progress.task("piece CIDs", sum(shard.size for shard in shards)) as task,
    ):
        return CutShards(cut, tuple(_shard(hasher, car.stream_shard(dag, shard), task) for shard in shards))


class HashedCar:
    """The CAR of `dag` as a stream that hashes the CARs it will be cut into as it goes by.

    For a place that takes the one CAR and cuts it by itself: iterated once, each block is read once, and
    `pieces` are known at its end. Iterating raises what `shard_pieces` does.
    """

    def __init__(self, dag: Dag, cut: Cut, engine: Callable[[], PieceEngine] = make_engine) -> None:
        self._dag = dag
        self._cut = cut
        self._engine = engine
        self._shards: list[CarShard] = []

    @property
    def pieces(self) -> CutShards:
        """What went by, all of it once the stream has ended."""
        return CutShards(self._cut, tuple(self._shards))

    def __iter__(self) -> Iterator[bytes]:
        yield car.header(self._dag.layout.root)
        with PieceHasher(self._engine) as hasher:
            for shard in _cut(self._dag, self._cut):
                one = _ShardHash(hasher)
                head = car.shard_header_size(shard)
                for chunk in car.stream_shard(self._dag, shard):
                    if one.size + len(chunk) > head:
                        yield chunk[max(0, head - one.size) :]
                    one.update(chunk)
                self._shards.append(one.finish())


def file_piece(path: Path, progress: Progress = QUIET) -> CarShard:
    """The file at `path` as one piece, exactly as it is.

    Raises DataError when it cannot be read, or is too short to be a piece.
    """
    try:
        with path.open("rb") as file, PieceHasher() as hasher:
            size = path.stat().st_size
            with progress.task("piece CID", size) as task:
                return _shard(hasher, iter(lambda: file.read(_READ), b""), task)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"cannot read {str(path)!r}: {reason}") from None


def _cut(dag: Dag, cut: Cut) -> tuple[car.ShardSpan, ...]:
    try:
        return car.shards(dag.layout, cut)
    except ValueError as error:
        raise UsageError(str(error), hint="blocks have up to 1 MiB; allow larger CARs") from None


def _shard(hasher: PieceHasher, chunks: Iterable[bytes], task: Task) -> CarShard:
    one = _ShardHash(hasher)
    for chunk in chunks:
        one.update(chunk)
        task.advance(len(chunk))
    return one.finish()


class _ShardHash:
    """CID, size and piece of one CAR, as its bytes go by; `hasher` serves one CAR after another."""

    def __init__(self, hasher: PieceHasher) -> None:
        self.size = 0
        self._hasher = hasher
        self._digest = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        self._hasher.update(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> CarShard:
        return CarShard(CarCid(self._digest.digest()), self.size, self._hasher.finish())
