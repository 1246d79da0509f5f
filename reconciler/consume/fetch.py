"""One fetch: the tree, the blocks that are on disk already, the rest from the sources, and publication."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reconciler.consume.content_cache import ContentCache
from reconciler.consume.existing import (
    NOTHING_RELEASED,
    Released,
    Replaceable,
    examine_directory,
    is_same_but_links,
    survey_directory,
)
from reconciler.consume.leaf_check import count_present_blocks
from reconciler.consume.mount_point import is_mount_point, is_reserved
from reconciler.consume.receipt import FetchRequest, ReceiptBook
from reconciler.consume.selection import (
    FileSpans,
    PositionSet,
    SelectedFiles,
    file_spans,
    is_empty_leaf,
    select_files,
)
from reconciler.consume.sources import Parts, Source, SourcePool, SourceReport, TrackedSource
from reconciler.consume.staging import Staging, open_staging, remove_leftover, remove_staging
from reconciler.consume.sums import SumsCheck
from reconciler.consume.transfer import Transfer
from reconciler.consume.unsealing import SealedVersion, Unsealing, open_sealed
from reconciler.content import dagpb
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.part import cid_below
from reconciler.content.walk import DagMap, walk
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.errors import UsageError
from reconciler.fs import check_space
from reconciler.progress import Progress, Task

_TREE_THREADS = 8
_PREFETCHED = 16  # inner blocks in memory, of at most 2 MiB each
_CACHED_FROM = 1 << 16  # bytes from which a file is added to the content cache


# --- the tree


def read_tree(root: Cid, peers: SourcePool) -> DagMap:
    """Read all inner blocks under `root`, with prefetching, and return the map of the DAG that they prove.

    Raises BlockUnavailableError when no source has one of them, and DataError when they are not a valid DAG;
    the sources are closed then.
    """
    if root.codec == RAW:
        return walk(root, peers.read_block, raw_size=len(peers.read_block(root)))
    pool = ThreadPoolExecutor(_TREE_THREADS, thread_name_prefix="tree")
    try:
        return walk(root, _Prefetcher(peers, pool).read)
    except BaseException:
        peers.close()  # otherwise the shutdown would wait for requests in progress
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Prefetcher:
    """A reader of blocks that requests the inner blocks below a node while the node is processed."""

    def __init__(self, peers: SourcePool, pool: ThreadPoolExecutor) -> None:
        self._peers = peers
        self._pool = pool
        self._pending: dict[Cid, Future[bytes]] = {}
        self._requested: set[Cid] = set()

    def read(self, cid: Cid) -> bytes:
        self._requested.add(cid)
        pending = self._pending.pop(cid, None)
        block = pending.result() if pending is not None else self._peers.read_block(cid)
        for link in dagpb.decode(block).links:
            if len(self._pending) >= _PREFETCHED:
                break
            if link.cid.codec == DAG_PB and link.cid not in self._requested:
                self._requested.add(link.cid)
                self._pending[link.cid] = self._pool.submit(self._peers.read_block, link.cid)
        return block


# --- the fetch


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of a fetch. In bytes: `size` of all selected files, `resumed` from an earlier run, `cached`
    from the content cache, `reused` from the destination; `sources` reports what each source delivered.
    `already` is True when the destination was complete before, `by_receipt` when that was recognized by
    its stamps alone, `sums` when SHA256SUMS was verified too.
    """

    root: Cid
    destination: Path
    files: int
    size: int
    resumed: int
    cached: int
    already: bool
    sums: bool
    sources: tuple[SourceReport, ...]
    reused: int = 0
    by_receipt: bool = False


def fetch(
    root: Cid,
    destination: Path,
    sources: Sequence[Source],
    progress: Progress,
    *,
    name: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    caches: Sequence[ContentCache] = (),
    path: str = "",
    released: Released = NOTHING_RELEASED,
    receipts: ReceiptBook | None = None,
    trust_receipt: bool = True,
    limits: DownloadLimits = DEFAULT_LIMITS,
    unsealing: Unsealing = Unsealing(),  # noqa: B008  frozen
) -> Fetched:
    """Fetch the files of `root` to `destination`, which is complete afterwards, or unchanged on failure.

    A directory that is part of this version, or of one in `released`, is replaced in one step, and what it
    shares with this version is not fetched again. With `receipts`, a destination is recognized by its receipt
    if `trust_receipt`, and gets a new one.

    `name` is the name of the root in messages. With `path`, only the file or directory at that path below
    `root` is fetched, as a root of its own. Files are read from all `caches` and added to the first. `limits`
    are those of the connections to the sources. A sealed version is written in the clear, or kept as it is,
    see `Unsealing`.
    Closes the sources. Raises UsageError when the destination has other content, BlockUnavailableError when
    no source has a block, DataError when the DAG is invalid, LockedError, and ReconcilerError when the disk
    cannot be written.
    """
    destination = Path(destination).absolute()
    if destination.name in ("", ".."):
        raise UsageError(f"destination {str(destination)!r} does not end in a file or directory name")
    peers = SourcePool([TrackedSource(source) for source in sources])
    request = FetchRequest(root, path, include, exclude, unsealing.keep_sealed)
    try:
        if receipts is not None and trust_receipt and (known := receipts.find(destination, request)):
            return Fetched(
                known.root,
                destination,
                known.files,
                known.size,
                resumed=0,
                cached=0,
                already=True,
                sums=False,
                sources=peers.report(),
                by_receipt=True,
            )
        if path:
            root = cid_below(read_tree(root, peers), root, path)
        tree = read_tree(root, peers)
        version = open_sealed(tree, peers.read_block, unsealing, name)
        selected = select_files(tree if version is None else version.tree, include, exclude)
        spans = file_spans(selected)
        if _is_complete(selected, spans, destination, progress, name, version):
            remove_leftover(destination, root) if is_mount_point(destination) else remove_staging(
                destination, root
            )
            done = _result(root, destination, selected, peers, already=True)
        else:
            former = _examine(destination, selected, released, peers, progress, version)
            with open_staging(destination, root, selected, replaces=former is not None) as staging:
                done = _Fetch(
                    root, selected, spans, staging, peers, progress, name, caches, former, limits, version
                ).run()
        if receipts is not None:
            receipts.write(destination, request, root)
        return done
    finally:
        peers.close()


def _examine(
    destination: Path,
    selected: SelectedFiles,
    released: Released,
    peers: SourcePool,
    progress: Progress,
    version: SealedVersion | None,
) -> Replaceable | None:
    """Return what the directory at `destination` has, None when there is none, or nothing in it."""
    if selected.is_file or destination.is_symlink() or not destination.is_dir():
        return None
    if is_mount_point(destination) or not any(destination.iterdir()):
        return None
    if version is None:
        return examine_directory(destination, selected, released, peers.read_block, progress)
    present = survey_directory(destination).files.keys()
    read_tree = released.read_tree
    plain = Released(
        released.roots,
        None if read_tree is None else lambda root: version.plain_tree(read_tree(root), present),
    )
    return examine_directory(
        destination,
        selected,
        plain,
        peers.read_block,
        progress,
        cids_of=lambda survey: version.cids_of(destination, survey.files.keys(), progress),
    )


class _Fetch:
    """A fetch with its staging directory open."""

    def __init__(
        self,
        root: Cid,
        selected: SelectedFiles,
        spans: FileSpans,
        staging: Staging,
        peers: SourcePool,
        progress: Progress,
        name: str,
        caches: Sequence[ContentCache],
        former: Replaceable | None,
        limits: DownloadLimits,
        version: SealedVersion | None,
    ) -> None:
        self._limits = limits
        self._version = version
        self._root = root
        self._selected = selected
        self._staging = staging
        self._peers = peers
        self._progress = progress
        self._name = name
        self._caches = caches if version is None else ()  # which keep files by the CIDs of their bytes
        self._spans = spans
        self._former = former
        self._shared: set[int] = set()

    def run(self) -> Fetched:
        version = self._version
        plain = version.resume(self._selected, self._staging, self._progress) if version else frozenset()
        self._staging.prepare(plain)
        adopted = self._adopt_former_files(plain)
        shared = self._share_cached_files(adopted)
        self._shared = adopted | shared | plain
        cached = sum(self._selected.files[number].size for number in shared)
        reused = sum(self._selected.files[number].size for number in adopted)
        missing = self._find_missing(self._shared)
        missing_size = sum(
            span.size
            for position in missing
            for span in self._spans[position]
            if span.file not in self._shared
        )
        resumed = max(0, self._selected.size - missing_size - cached - reused)
        check_space(self._staging.directory, missing_size)
        sums = SumsCheck(self._selected, self._staging.path)
        sums.start(position for position in self._spans if position not in missing)
        try:
            with self._progress.task(f"fetching {self._name}", missing_size) as task:
                self._transfer(missing, sums, task)
            checked = sums.finish()
        finally:
            sums.stop()
        if version is not None:
            version.unseal(self._selected, self._staging, self._shared, self._progress)
            checked = True
        self._staging.flush()
        if self._caches:
            for number, node in enumerate(self._selected.files):
                if node.size >= _CACHED_FROM:
                    self._caches[0].add(node.cid, self._staging.path(number))
        self._staging.finish(self._is_as_read if self._former else None)
        return _result(
            self._root,
            self._staging.destination,
            self._selected,
            self._peers,
            resumed=resumed,
            cached=cached,
            reused=reused,
            sums=checked,
        )

    def _adopt_former_files(self, plain: Collection[int]) -> set[int]:
        """Take over verified files of the directory to be replaced; return their numbers.

        Raises UsageError when it was changed since it was read.
        """
        if self._former is None:
            return set()
        self._staging.check_exchange()
        place = self._staging.destination
        adopted: set[int] = set()
        for number in set(self._former.reusable) - set(plain):
            if self._staging.adopt(number, place / self._selected.files[number].path) or self._is_whole(
                number
            ):
                adopted.add(number)
            else:
                self._staging.reset(number)
        for number in self._former.partial:
            self._staging.adopt_part(number, place / self._selected.files[number].path)
        if not self._is_as_read(place):
            raise UsageError(
                f"destination {str(place)!r} was changed while it was read",
                hint="run again when nothing writes to it",
            )
        return adopted

    def _is_as_read(self, place: Path) -> bool:
        """Return whether `place` has what the directory to be replaced had when it was read."""
        return self._former is not None and is_same_but_links(survey_directory(place), self._former.survey)

    def _transfer(self, missing: PositionSet, sums: SumsCheck, task: Task) -> None:
        def keep(position: int, block: Parts) -> None:
            spans = self._spans[position]
            self._staging.write([one for one in spans if one.file not in self._shared], position, block)
            sums.block_written(position, spans[0], block)
            task.advance(sum(span.size for span in spans))

        if missing:
            Transfer(self._selected, missing, self._peers, keep, limits=self._limits).run()

    def _share_cached_files(self, adopted: set[int]) -> set[int]:
        """Share complete files from the caches and verify them in place; return their numbers."""
        shared: set[int] = set()
        for number, node in enumerate(self._selected.files):
            if number in adopted:
                continue
            if node.size < _CACHED_FROM or self._staging.path(number).stat().st_blocks:
                continue
            for cache in self._caches:
                path = cache.find(node.cid, node.size)
                if path is None or not cache.share(path, self._staging.path(number)):
                    continue
                if self._is_whole(number):
                    shared.add(number)
                    break
                self._progress.note(f"ignoring the cached {path.name}, which is damaged")
                cache.remove(path)
                self._staging.reset(number)
        return shared

    def _is_whole(self, number: int) -> bool:
        """Return whether the staged file `number` has all its bytes."""
        if self._version is not None:
            place = self._staging.content
            return bool(self._version.complete_files(self._selected, place, [number], self._progress))
        file = self._selected.subset([number])
        with self._progress.task("checking cached files", file.size) as task:
            found = count_present_blocks(file, [self._staging.path(number)], task)
        return found == Counter(leaf.position for leaf in self._selected.leaves(number))

    def _find_missing(self, shared: set[int]) -> PositionSet:
        """Return the layout positions of the blocks that some span lacks.

        The files `shared` are complete.
        """
        numbers = [number for number in range(len(self._selected.files)) if number not in shared]
        rest = self._selected.subset(numbers)
        paths = [self._staging.path(number) for number in numbers]
        with self._progress.task("checking staged files", rest.size) as task:
            found = Counter(count_present_blocks(rest, paths, task))
        found.update(leaf.position for number in shared for leaf in self._selected.leaves(number))
        missing = PositionSet(len(self._selected.map.layout))
        for position, spans in self._spans.items():
            if found[position] < len(spans) and not is_empty_leaf(self._selected, position):
                missing.add(position)
        return missing


def _is_complete(
    selected: SelectedFiles,
    spans: FileSpans,
    destination: Path,
    progress: Progress,
    name: str,
    version: SealedVersion | None,
) -> bool:
    """Return whether the destination consists of exactly the selected files, with every byte verified."""
    if selected.is_file:
        if not destination.is_file() or destination.is_symlink():
            return False
        paths = [destination]
    else:
        if not destination.is_dir() or destination.is_symlink():
            return False
        listed = {path.relative_to(destination).as_posix() for path in destination.rglob("*")}
        if not listed:
            return False
        if is_mount_point(destination):
            listed = {path for path in listed if not is_reserved(path, destination)}
        if listed != {node.path for node in selected.files} | set(selected.directories):
            return False
        paths = [destination / node.path for node in selected.files]
    if version is not None:
        numbers = range(len(selected.files))
        return len(version.complete_files(selected, destination, numbers, progress)) == len(numbers)
    with progress.task(f"checking {name}", selected.size) as task:
        found = count_present_blocks(selected, paths, task)
    return all(
        found.get(position, 0) == len(each) or is_empty_leaf(selected, position)
        for position, each in spans.items()
    )


def _result(
    root: Cid,
    destination: Path,
    selected: SelectedFiles,
    peers: SourcePool,
    *,
    resumed: int = 0,
    cached: int = 0,
    reused: int = 0,
    already: bool = False,
    sums: bool = False,
) -> Fetched:
    return Fetched(
        root,
        destination,
        len(selected.files),
        selected.size,
        resumed,
        cached,
        already,
        sums,
        peers.report(),
        reused,
    )
