"""The blocks and Filecoin pieces of one version, read from its own directory or else from the targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from reconciler.content.car import CarShard, ShardedCar, Sharding
from reconciler.content.dag import Dag
from reconciler.content.part import PartialDag
from reconciler.content.pieces import MAX_PIECE, shard_pieces
from reconciler.errors import BundleError, DataError, SourceChangedError
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Version
from reconciler.index.records import load_record, piece_difference, records_directory
from reconciler.index.resolve import ResolvedReference, parse_ref, resolve
from reconciler.loop.seals import NoSealKeyError
from reconciler.loop.settings import Scope
from reconciler.loop.workspace import load
from reconciler.progress import Progress
from reconciler.targets.healing import gather

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version, or a part of one, whose blocks can be read.

    `version` is None for a part, and for a CID that the index does not list. `name` is `model@version`, or
    the CID with its path, `source` says where the bytes come from, `shardings` are the ways in which the
    targets of the version split it into CARs. `verified`: all its bytes were hashed just now.
    """

    name: str
    version: Version | None
    dag: Dag
    source: str
    shardings: tuple[Sharding, ...] = ()
    verified: bool = False


@contextmanager
def open_version(
    layout: RepositoryLayout,
    ref: str,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    use_cache: bool,
    fresh: bool = False,
    fall_back: bool = False,
) -> Iterator[OpenedVersion]:
    """Open the DAG of `ref` while the block runs, from the version's own directory or else from its targets.

    Cached digests of the directory are used unless `fresh`. With `fall_back`, targets are also read when the
    directory no longer has the CID. A path below a CID opens that part alone. Raises UsageError when `ref`
    names nothing or has no CID, BundleError for such a directory, BlockUnavailableError when no target has
    the bytes.
    """
    wanted = parse_ref(ref, with_path=True)
    layout.make_state()
    with load(Scope(layout, use_cache=use_cache), environ, progress) as workspace:
        found = resolve(workspace.index, wanted)
        version = found.version
        if version is not None and workspace.sources.present([version]):
            fresh = fresh or not use_cache
            try:
                dag = workspace.sources.identify(version, fresh=fresh)
            except (BundleError, DataError) as error:
                if not fall_back and not isinstance(error, NoSealKeyError):
                    raise
                progress.note(f"{error}; reading the targets instead")
            else:
                source, shardings = str(version.origin), workspace.shardings(version)
                opened = OpenedVersion(version.ref, version, dag, source, shardings, verified=fresh)
                yield _part(opened, found)
                return
        wanted_targets = version.targets if version else tuple(workspace.targets)
        names = [name for name in wanted_targets if name in workspace.targets]
        gathered = gather(found.cid, [workspace.targets[name] for name in names])
        try:
            name = version.ref if version else str(found.cid)
            shardings = workspace.shardings(version) if version else ()
            yield _part(OpenedVersion(name, version, gathered, ", ".join(names), shardings), found)
        finally:
            gathered.close()


def _part(opened: OpenedVersion, found: ResolvedReference) -> OpenedVersion:
    """Return the part of what was opened at the path of the reference; all of it without a path."""
    if not found.path:
        return opened
    name = f"{found.cid}/{found.path}"
    return replace(opened, name=name, version=None, dag=PartialDag(opened.dag, found.path))


def read_version(
    layout: RepositoryLayout,
    ref: str,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    use_cache: bool,
    read: Callable[[OpenedVersion], T],
) -> T:
    """Return what `read` makes of the opened version `ref`.

    When the directory has other bytes than its cached digests, it is identified and read again; when it no
    longer has the version's CID, targets are read. Raises what `open_version` and `read` raise.
    """

    def opened_version(*, fresh: bool) -> AbstractContextManager[OpenedVersion]:
        return open_version(layout, ref, environ, progress, use_cache=use_cache, fresh=fresh, fall_back=True)

    try:
        with opened_version(fresh=False) as opened:
            return read(opened)
    except SourceChangedError:
        with opened_version(fresh=True) as opened:
            return read(opened)


def version_pieces(
    layout: RepositoryLayout,
    ref: str,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    max_piece: int | None,
    use_cache: bool,
) -> tuple[Sequence[CarShard], str]:
    """Return the pieces of the version `ref`, one for each of its CARs, and where they come from.

    `max_piece` is the maximum size of a CAR in bytes, None for that of the record or of a target. Pieces in
    the version's record are returned from there; without `use_cache` they are computed again and compared.
    Raises DataError when the record does not match, and what `open_version` raises.
    """
    index = load_index(layout.index_file, stamps=layout.cache if use_cache else None)
    wanted = resolve(index, parse_ref(ref, with_path=True))
    recorded = () if wanted.path else _recorded_pieces(layout, wanted.version)
    known = next((each for each in recorded if max_piece in (None, each.sharding.max_bytes)), None)
    if known is not None and use_cache:
        return known.shards, "the record"

    def compute(opened: OpenedVersion) -> tuple[Sequence[CarShard], str]:
        sharding = known.sharding if known else _choose_sharding(opened.shardings, max_piece)
        computed = shard_pieces(opened.dag, sharding, progress)
        if known is not None and computed != known:
            raise DataError(
                f"the record of {opened.name} does not match its bytes: {piece_difference(known, computed)}",
                hint="records are immutable: restore the record from the git history",
            )
        return computed.shards, opened.source

    return read_version(layout, ref, environ, progress, use_cache=use_cache, read=compute)


def _recorded_pieces(layout: RepositoryLayout, version: Version | None) -> tuple[ShardedCar, ...]:
    if version is None:
        return ()
    record = load_record(records_directory(layout.index_file), version.model, version.version)
    if record is None or (version.cid is not None and record.cid != version.cid):
        return ()
    return record.pieces


def _choose_sharding(shardings: Sequence[Sharding], max_piece: int | None) -> Sharding:
    """Return the first sharding of a target with the requested limit, else one with that limit."""
    fitting = (sharding for sharding in shardings if max_piece in (None, sharding.max_bytes))
    return next(fitting, Sharding(MAX_PIECE if max_piece is None else max_piece))
