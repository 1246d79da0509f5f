"""`reconcile pieces`: the Filecoin pieces of a file or of a version, from the record or from the bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reconciler.cli import output as out
from reconciler.cli.bytes_of import bytes_of
from reconciler.content.car import CarShard, Cut, CutShards
from reconciler.content.pieces import MAX_PIECE, file_piece, shard_pieces
from reconciler.errors import DataError, ExitCode, UsageError
from reconciler.index.layout import Layout
from reconciler.index.load import load_index
from reconciler.index.model import Version
from reconciler.index.recorded import records_directory
from reconciler.index.records import load_record, piece_difference
from reconciler.index.resolve import parse_ref, resolve
from reconciler.render.words import count, size


def show_pieces(
    layout: Callable[[], Layout], what: str, *, max_piece: int | None, no_cache: bool, as_json: bool
) -> int:
    """Print the piece of the file `what`, or the pieces of the version it names. Raises ReconcilerError."""
    path = Path(what)
    if path.is_file():
        shards: Sequence[CarShard] = _of_file(path, max_piece)
        source = what
    elif path.is_dir():
        raise UsageError(
            f"{what!r} is a directory, which is no piece",
            hint="name the version it belongs to, or a CAR file",
        )
    else:
        shards, source = _of_version(layout(), what, max_piece, no_cache=no_cache)
    if as_json:
        out.result_json([_document(shard) for shard in shards])
        return ExitCode.OK
    for shard in shards:
        out.result(f"{shard.piece}  {shard.size}  {shard.cid}")
    total = size(sum(shard.size for shard in shards))
    out.say(f"{count(len(shards), 'piece')}, {total}, from {source}")
    return ExitCode.OK


def _of_file(path: Path, max_piece: int | None) -> tuple[CarShard]:
    length = path.stat().st_size
    if max_piece is not None and length > max_piece:
        raise UsageError(
            f"{str(path)!r} has {length} bytes, more than --max-piece allows",
            hint="a file is taken as it is; only a version is cut, at the borders of its blocks",
        )
    with out.progress() as progress:
        return (file_piece(path, progress),)


def _of_version(
    layout: Layout, ref: str, max_piece: int | None, *, no_cache: bool
) -> tuple[Sequence[CarShard], str]:
    index = load_index(layout.index_file, stamps=None if no_cache else layout.cache)
    version = resolve(index, parse_ref(ref)).version
    recorded = _recorded(layout, version)
    known = _choose(recorded, max_piece)
    if known is not None and not no_cache:
        return known.shards, "the record"
    with out.progress() as progress, bytes_of(layout, ref, progress, use_cache=not no_cache) as found:
        cut = known.cut if known else _cut(found.cuts, max_piece)
        computed = shard_pieces(found.dag, cut, progress)
        source = found.source
    if known is not None and computed != known:
        raise DataError(
            f"the record of {found.name} says {piece_difference(known, computed)}",
            hint="records are immutable: restore the record from git history",
        )
    return computed.shards, source


def _recorded(layout: Layout, version: Version | None) -> tuple[CutShards, ...]:
    if version is None:
        return ()
    record = load_record(records_directory(layout.index_file), version.model, version.version)
    if record is None or (version.cid is not None and record.cid != version.cid):
        return ()
    return record.pieces


def _choose(recorded: Sequence[CutShards], max_piece: int | None) -> CutShards | None:
    """The recorded pieces that were asked for: those of this limit, or just the first."""
    return next((each for each in recorded if max_piece in (None, each.cut.max_bytes)), None)


def _cut(targets: Sequence[Cut], max_piece: int | None) -> Cut:
    """How a target of the version cuts, where one does and its limit is the one asked for."""
    fitting = (cut for cut in targets if max_piece in (None, cut.max_bytes))
    return next(fitting, Cut(MAX_PIECE if max_piece is None else max_piece))


def _document(shard: CarShard) -> dict[str, Any]:
    """One entry of schemas/pieces.schema.json; sizes in bytes."""
    return {
        "car": str(shard.cid),
        "size": shard.size,
        "piece": str(shard.piece),
        "piece_v1": str(shard.piece.v1),
        "padded_size": shard.piece.padded_size,
    }
