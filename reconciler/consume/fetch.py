"""The tree blocks of a root from the sources, read ahead, and with them everything there is to know of it.

One fetch: tree, what is there already, the rest from the sources, sums, and the destination at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reconciler.consume.content_cache import ContentCache
from reconciler.consume.peers import SourcePool, SourceReport, TrackedSource
from reconciler.consume.sources import Parts, Source
from reconciler.consume.staging import Staging, is_mount_point, is_own, present, staged, tidy
from reconciler.consume.sums import SumsCheck
from reconciler.consume.transfer import Transfer
from reconciler.consume.wanted import FileSpans, WantedFiles, is_empty_leaf, places, select
from reconciler.content import dagpb
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.destination import check_space
from reconciler.content.walk import DagMap, walk
from reconciler.errors import UsageError
from reconciler.progress import Progress, Task

_THREADS = 8
_AHEAD = 16  # blocks read ahead, of 2 MiB at most


def read_tree(root: Cid, peers: SourcePool) -> DagMap:
    """The map of the DAG under `root`, proven from its tree blocks.

    Raises BlockUnavailable when no source has one of them, DataError when they make no DAG; the sources are
    closed then.
    """
    if root.codec == RAW:
        return walk(root, peers.read_block, raw_size=len(peers.read_block(root)))
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tree")
    try:
        return walk(root, _Ahead(peers, pool).read)
    except BaseException:
        peers.close()  # or what is on its way would have to be waited for
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Ahead:
    """Reads the blocks that a node links to while the node itself is examined."""

    def __init__(self, peers: SourcePool, pool: ThreadPoolExecutor) -> None:
        self._peers = peers
        self._pool = pool
        self._coming: dict[Cid, Future[bytes]] = {}
        self._asked: set[Cid] = set()

    def read(self, cid: Cid) -> bytes:
        self._asked.add(cid)
        coming = self._coming.pop(cid, None)
        block = coming.result() if coming is not None else self._peers.read_block(cid)
        for link in dagpb.decode(block).links:
            if len(self._coming) >= _AHEAD:
                break
            if link.cid.codec == DAG_PB and link.cid not in self._asked:
                self._asked.add(link.cid)
                self._coming[link.cid] = self._pool.submit(self._peers.read_block, link.cid)
        return block


_CACHED_FROM = 1 << 16  # bytes of a file that is worth an entry of its own in the cache


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch did. Bytes: `size` of all wanted files, `resumed` found from an earlier run, `cached` from
    the content cache; what came from the sources is in `sources`. `already` when the destination was there,
    whole. `sums` says whether SHA256SUMS was checked as well.
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
) -> Fetched:
    """Put the files of `root` at `destination`, which is there whole afterwards or as it was before.

    `name` is what a user calls the root. The first of `caches` is kept up to date, all are looked into. The
    sources are closed. Raises UsageError when the destination holds something else, BlockUnavailable when the
    sources do not have everything, DataError when the DAG does not hold, Locked, and ReconcilerError when the
    disk does not take it.
    """
    destination = Path(destination).absolute()
    if destination.name in ("", ".."):
        raise UsageError(f"destination {str(destination)!r} has no name of its own")
    peers = SourcePool([TrackedSource(source) for source in sources])
    try:
        wanted = select(read_tree(root, peers), include, exclude)
        found = places(wanted)
        if _is_there(wanted, found, destination, progress, name):
            if is_mount_point(destination):
                tidy(destination, root)
            return _fetched(root, destination, wanted, peers, already=True)
        with staged(destination, root, wanted) as staging:
            return _Fetch(root, wanted, found, staging, peers, progress, name, caches).run()
    finally:
        peers.close()


class _Fetch:
    def __init__(
        self,
        root: Cid,
        wanted: WantedFiles,
        where: FileSpans,
        staging: Staging,
        peers: SourcePool,
        progress: Progress,
        name: str,
        caches: Sequence[ContentCache],
    ) -> None:
        self._root = root
        self._wanted = wanted
        self._staging = staging
        self._peers = peers
        self._progress = progress
        self._name = name
        self._caches = caches
        self._places = where

    def run(self) -> Fetched:
        self._staging.prepare()
        taken = self._from_caches()
        cached = sum(self._wanted.files[number].size for number in taken)
        missing = self._missing(taken)
        lacking = sum(place.size for position in missing for place in self._places[position])
        resumed = self._wanted.size - lacking - cached
        check_space(self._staging.directory, lacking)
        sums = SumsCheck(self._wanted, self._staging.path)
        sums.start(set(self._places) - set(missing))
        try:
            with self._progress.task(f"fetch {self._name}", lacking) as task:
                self._transfer(missing, sums, task)
            checked = sums.finish()
        finally:
            sums.stop()
        if self._caches:
            for number, node in enumerate(self._wanted.files):
                if node.size >= _CACHED_FROM:
                    self._caches[0].keep(node.cid, self._staging.path(number))
        self._staging.finish()
        return _fetched(
            self._root,
            self._staging.destination,
            self._wanted,
            self._peers,
            resumed=resumed,
            cached=cached,
            sums=checked,
        )

    def _transfer(self, missing: dict[int, int], sums: SumsCheck, task: Task) -> None:
        def keep(position: int, block: Parts) -> None:
            where = self._places[position]
            self._staging.write(where, position, block)
            sums.arrived(position, where[0], block)
            task.advance(sum(place.size for place in where))

        if missing:
            Transfer(self._wanted, missing, self._peers, keep).run()

    def _from_caches(self) -> set[int]:
        """The numbers of files that a cache had whole; each is hashed where it lies now."""
        taken: set[int] = set()
        for number, node in enumerate(self._wanted.files):
            if node.size < _CACHED_FROM or self._staging.path(number).stat().st_blocks:
                continue
            for cache in self._caches:
                path = cache.find(node.cid, node.size)
                if path is None or not cache.take(path, self._staging.path(number)):
                    continue
                if self._is_whole(number):
                    taken.add(number)
                    break
                self._progress.note(f"the cached {path.name} is damaged, and is not used")
                cache.drop(path)
                self._staging.blank(number)
        return taken

    def _is_whole(self, number: int) -> bool:
        one = self._wanted.part([number])
        with self._progress.task("checking what is cached", one.size) as task:
            found = present(one, [self._staging.path(number)], task)
        return found == Counter(leaf.position for leaf in self._wanted.leaves(number))

    def _missing(self, taken: set[int]) -> dict[int, int]:
        """The blocks that have to be fetched, and for how many places; the files `taken` are whole."""
        numbers = [number for number in range(len(self._wanted.files)) if number not in taken]
        rest = self._wanted.part(numbers)
        with self._progress.task("checking what is there", rest.size) as task:
            found = Counter(present(rest, [self._staging.path(number) for number in numbers], task))
        found.update(leaf.position for number in taken for leaf in self._wanted.leaves(number))
        return {
            position: len(where) - found[position]
            for position, where in self._places.items()
            if found[position] < len(where) and not is_empty_leaf(self._wanted, position)
        }


def _is_there(
    wanted: WantedFiles, where: FileSpans, destination: Path, progress: Progress, name: str
) -> bool:
    """Whether the destination holds exactly what is wanted, every byte of it hashed."""
    if wanted.is_file:
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
            listed = {path for path in listed if not is_own(path, destination)}
        if listed != {node.path for node in wanted.files} | set(wanted.directories):
            return False
        paths = [destination / node.path for node in wanted.files]
    with progress.task(f"check {name}", wanted.size) as task:
        found = present(wanted, paths, task)
    return all(
        found.get(position, 0) == len(each) or is_empty_leaf(wanted, position)
        for position, each in where.items()
    )


def _fetched(
    root: Cid,
    destination: Path,
    wanted: WantedFiles,
    peers: SourcePool,
    *,
    resumed: int = 0,
    cached: int = 0,
    already: bool = False,
    sums: bool = False,
) -> Fetched:
    return Fetched(
        root, destination, len(wanted.files), wanted.size, resumed, cached, already, sums, peers.report()
    )
