"""The shards of a bundle as Filecoin pieces: for each its size, its own CID and its piece CID, in one pass.

All of it follows from the root CID and the sharding, so it can be computed anywhere, kept in a record, and
compared with what a service reports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reconciler.content import car, workers
from reconciler.content.car import CarCid, CarShard, ShardedCar, Sharding, ShardSpan
from reconciler.content.dag import Dag
from reconciler.content.piece_hash import PieceHasher, make_engine
from reconciler.content.piece_tree import PieceEngine
from reconciler.errors import DataError, UsageError
from reconciler.progress import QUIET, Progress, Task

MAX_PIECE = 1_065_353_216  #: bytes of the largest piece that Filecoin Onchain Cloud accepts: 127/128 of a GiB

_READ = 1 << 20
_CORES_OF_STREAM = 4  # that the stream of one shard keeps busy


def shard_pieces(
    dag: Dag,
    sharding: Sharding,
    progress: Progress = QUIET,
    engine: Callable[[], PieceEngine] = make_engine,
) -> ShardedCar:
    """Return the shards of `dag` as pieces. Reads every block once and writes nothing.

    The CID of a shard is one stream, so with many cores several shards are hashed at once, and other threads
    read and verify their blocks ahead. `engine` makes the engines of the hashers. Raises UsageError when a
    block does not fit a shard, and what `Dag.read` raises.
    """
    spans = _shard_spans(dag, sharding)
    streams = max(1, min(len(spans), workers.cores() // _CORES_OF_STREAM))
    threads = -(-workers.cores() // streams)

    def hash_span(span: ShardSpan) -> CarShard:
        blocks = workers.overlapped(
            dag.read, range(span.first, span.last), threads=threads, window=2 * threads
        )
        with PieceHasher(engine, threads=threads) as hasher:
            return _hash_shard(hasher, car.stream_shard(dag, span, read=lambda _: next(blocks)), task)

    with progress.task("piece CIDs", sum(span.size for span in spans)) as task:
        shards = tuple(workers.overlapped(hash_span, spans, threads=streams, window=streams))
    return ShardedCar(sharding, shards)


class HashedCar:
    """The CAR of `dag` as a stream that also hashes the shards into which it will be split.

    For a place that receives the one CAR and splits it by itself. Iterate over it once: each block is read
    once, and `pieces` are complete at the end. Iterating raises what `shard_pieces` does.
    """

    def __init__(self, dag: Dag, sharding: Sharding, engine: Callable[[], PieceEngine] = make_engine) -> None:
        self._dag = dag
        self._sharding = sharding
        self._engine = engine
        self._shards: list[CarShard] = []

    @property
    def pieces(self) -> ShardedCar:
        """The shards hashed so far; all of them once the stream has ended."""
        return ShardedCar(self._sharding, tuple(self._shards))

    def __iter__(self) -> Iterator[bytes]:
        yield car.header(self._dag.layout.root)
        with PieceHasher(self._engine) as hasher:
            for span in _shard_spans(self._dag, self._sharding):
                shard = _ShardHash(hasher)
                for chunk in car.stream_shard(self._dag, span):
                    if shard.size + len(chunk) > span.header_size:
                        yield chunk[max(0, span.header_size - shard.size) :]
                    shard.update(chunk)
                self._shards.append(shard.finish())


class HashedShard:
    """One shard of `dag` as a stream that is hashed while it is sent.

    Every iteration begins anew; `shard` is there once one has ended. Iterating raises what `Dag.read` does.
    """

    def __init__(self, dag: Dag, span: ShardSpan, engine: Callable[[], PieceEngine] = make_engine) -> None:
        self.shard: CarShard | None = None
        self._dag = dag
        self._span = span
        self._engine = engine

    def __iter__(self) -> Iterator[bytes]:
        with PieceHasher(self._engine) as hasher:
            found = _ShardHash(hasher)
            for chunk in car.stream_shard(self._dag, self._span):
                found.update(chunk)
                yield chunk
            self.shard = found.finish()


def file_piece(path: Path, progress: Progress = QUIET) -> CarShard:
    """Return the file at `path` as one piece, exactly as it is.

    Raises DataError when the file cannot be read, or is too short to be a piece.
    """
    try:
        with path.open("rb") as file, PieceHasher() as hasher:
            size = path.stat().st_size
            with progress.task("piece CID", size) as task:
                return _hash_shard(hasher, iter(lambda: file.read(_READ), b""), task)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"cannot read {str(path)!r}: {reason}") from None


def _shard_spans(dag: Dag, sharding: Sharding) -> tuple[ShardSpan, ...]:
    try:
        return car.shard_spans(dag.layout, sharding)
    except ValueError as error:
        raise UsageError(str(error), hint="blocks have up to 1 MiB; allow larger CARs") from None


def _hash_shard(hasher: PieceHasher, chunks: Iterable[bytes], task: Task) -> CarShard:
    shard = _ShardHash(hasher)
    for chunk in chunks:
        shard.update(chunk)
        task.advance(len(chunk))
    return shard.finish()


class _ShardHash:
    """CID, size and piece of one CAR, fed in chunks; `hasher` serves one CAR after another."""

    def __init__(self, hasher: PieceHasher) -> None:
        self.size = 0
        self._hasher = hasher
        self._digest = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        """Add the next bytes of the CAR."""
        self._hasher.update(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> CarShard:
        """Return the CID, size and piece of the CAR, after its last byte."""
        return CarShard(CarCid(self._digest.digest()), self.size, self._hasher.finish())
