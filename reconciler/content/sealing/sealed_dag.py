"""The sealed form of a bundle as a DAG: what is identified, published, cut into pieces and repaired.

Its blocks are computed from the plain files when they are read. A block is returned only if it has the CID
that was identified, which was computed from bytes that gave the sum their key was derived from: nothing else
ever leaves. There is no way to read a block without that check.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.content import checksums, hub_links, source_file
from reconciler.content.bundle import Bundle, MemoryFile
from reconciler.content.contents import BundleContents
from reconciler.content.dag import DagLayout
from reconciler.content.directory_dag import BundleIdentity, DirectoryDag
from reconciler.content.hashing import FileDigests
from reconciler.content.identify import assemble
from reconciler.content.identity_cache import StampedCache
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.seal_pass import PlainSum, SegmentTags, hash_sealed, sum_files
from reconciler.content.sealing.sealed_file import FileSealer, size_when_sealed
from reconciler.content.sealing.sealed_names import NAMES, SealedNames, name_sealed, render_names
from reconciler.content.unixfs_tree import DIGEST_SIZE, leaf_count
from reconciler.errors import BundleError, SourceChangedError
from reconciler.fs import read_into
from reconciler.progress import QUIET, Progress


class SealCache(StampedCache):
    """For each file, its sum and the digests of its sealed form under one key and name.

    An entry has the digest of that name: in a bundle of a directory above, the file has another one.
    """

    def __init__(self, directory: Path, key: SealKey) -> None:
        super().__init__(directory, namespace=f"sealed {key.id} ".encode())

    def get(self, listing: SourceListing, file: SourceFile) -> tuple[bytes, FileDigests] | None:
        """Return the sum of the plain file and the digests of the sealed one, or None.

        `listing` and `file` are of the sealed bundle.
        """
        found = self.load(listing, file)
        name = _name_digest(file)
        if found is None or len(found) != DIGEST_SIZE * (3 + leaf_count(file.stamp.size)):
            return None
        if not found.startswith(name):
            return None
        plain, whole = found[DIGEST_SIZE : 2 * DIGEST_SIZE], found[2 * DIGEST_SIZE : 3 * DIGEST_SIZE]
        return plain, FileDigests(whole, found[3 * DIGEST_SIZE :])

    def put(self, listing: SourceListing, file: SourceFile, plain: bytes, digests: FileDigests) -> None:
        """Store what `get` returns."""
        self.store(listing, file, _name_digest(file) + plain + (digests.sha256 or b"") + digests.leaves)


def _name_digest(file: SourceFile) -> bytes:
    return hashlib.sha256(file.path.encode()).digest()


@dataclass(frozen=True, slots=True)
class _SealedEntry:
    """A file of the listing of a sealed bundle, and how its bytes are made."""

    plain: SourceFile
    sealer: FileSealer


class SealedDag:
    """The Dag of a sealed bundle, made by `identify_sealed`; like DirectoryDag, but always verified.

    `listing` is that of the plain directory; `plain_sums` are the digests of its files, by path.
    """

    def __init__(
        self,
        dag: DirectoryDag,
        listing: SourceListing,
        entries: Mapping[str, _SealedEntry],
        cache: SealCache | None,
    ) -> None:
        self._dag = dag
        self._entries = entries
        self._cache = cache
        self._changed = False
        self.listing = listing

    @property
    def identity(self) -> BundleIdentity:
        """Root, sizes and files of the sealed bundle."""
        return self._dag.identity

    @property
    def layout(self) -> DagLayout:
        """As `Dag.layout`."""
        return self._dag.layout

    @property
    def contents(self) -> BundleContents:
        """The files of the sealed bundle and its empty directories."""
        return self._dag.contents

    @property
    def cached(self) -> frozenset[str]:
        """The sealed files whose digests come from a cache."""
        return self._dag.cached

    @property
    def changed(self) -> bool:
        """Whether a read failed, or found other bytes than were identified."""
        return self._changed or self._dag.changed

    @property
    def plain_sums(self) -> dict[str, bytes]:
        """The digests of the plain files of the directory, by path."""
        return {each.plain.path: each.sealer.sha256 for each in self._entries.values()}

    def read(self, position: int) -> bytes:
        """Return the verified bytes of the block at `position`. Raises as `DirectoryDag.read`."""
        try:
            return self._dag.read(position)
        except SourceChangedError as error:
            self._changed = True
            raise self._named(error) from None

    def confirm(self, progress: Progress = QUIET) -> None:
        """As `DirectoryDag.confirm`: seal again what only the cache says, and compare."""
        try:
            for path in self.cached:
                source_file.check_size(self.listing, self._entries[path].plain)
            self._dag.confirm(progress)
        except SourceChangedError as error:
            self._changed = True
            raise self._named(error) from None
        except BundleError:
            self._changed = True
            raise

    def forget(self) -> None:
        """Delete what the cache has about the files."""
        if self._cache is not None:
            self._cache.forget(self._dag.listing, self._dag.cached)

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""

    def _named(self, error: SourceChangedError) -> SourceChangedError:
        """Return `error` about the plain file instead of the sealed one, which is not on the disk."""
        for sealed, entry in self._entries.items():
            if error.message.startswith(repr(sealed)):
                return source_file.changed(entry.plain)
        return error


def identify_sealed(
    bundle: Bundle,
    key: SealKey,
    *,
    hides_names: bool,
    cache: Path | None,
    fresh: bool = False,
    progress: Progress = QUIET,
) -> SealedDag:
    """Return the DAG of the sealed form of `bundle`.

    Files are read twice, or not at all when their digests are in the directory `cache`; with `fresh` they are
    only stored there. What the cache says is confirmed later, as for plain bundles. Raises SourceChangedError
    when a file changes meanwhile, BundleError when one cannot be read, when the directory's own sums are
    wrong, or when it cannot be sealed under its names.
    """
    if checksums.NAME not in bundle.generated and bundle.sums is None:
        raise BundleError(
            f"an entry takes the name {checksums.NAME!r}, which a sealed bundle needs for its sums",
            hint="rename the entry",
        )
    listing = bundle.listing
    # the generated files are in the sealed bundle like any other
    paths = [*(file.path for file in listing.files), *bundle.generated]
    names = name_sealed(paths, listing.directories, key, hides_names=hides_names)
    store = None if cache is None else SealCache(cache, key)
    sealed_files = {file: _sealed_file(file, names) for file in listing.files}
    view = _SealedView(listing)
    sealed_listing = _sealed_listing(listing, sealed_files.values(), names, view)
    known: dict[SourceFile, tuple[bytes, FileDigests]] = {}
    for file, sealed in sealed_files.items():
        if store is not None and not fresh and (found := store.get(sealed_listing, sealed)) is not None:
            known[file] = found
    unknown = [file for file in listing.files if file not in known]
    tags = SegmentTags()
    sums: dict[str, PlainSum] = {}
    if unknown:
        with progress.task("hashing", sum(file.stamp.size for file in unknown)) as task:
            sums = sum_files(listing, unknown, tags, task)
    plain = {file.path: found[0] for file, found in known.items()}
    plain |= {path: found.sha256 for path, found in sums.items()}
    try:
        for file in listing.files:
            if file.blob is not None and hub_links.is_wrong(file.blob, plain[file.path]):
                raise hub_links.damaged(file.path, file.blob)
        generated = bundle.complete(plain)
        bundle.all_sums(plain)
    except BundleError:
        if not known:
            raise
        return identify_sealed(
            bundle, key, hides_names=hides_names, cache=cache, fresh=True, progress=progress
        )
    sealers = {file: FileSealer(key, file.path, plain[file.path], file.stamp.size) for file in listing.files}
    view.entries = {sealed_files[file].path: _SealedEntry(file, sealer) for file, sealer in sealers.items()}
    digests = {sealed_files[file].path: found[1] for file, found in known.items()}

    def keep(file: SourceFile, found: FileDigests) -> None:
        digests[sealed_files[file].path] = found
        if store is not None:
            store.put(sealed_listing, sealed_files[file], plain[file.path], found)

    if unknown:
        with progress.task("sealing", sum(file.stamp.size for file in unknown)) as task:
            hash_sealed(listing, {file: sealers[file] for file in unknown}, sums, tags, task, keep)
    in_memory = [_sealed_in_memory(key, each, names.by_path[each.path]) for each in generated]
    if hides_names:
        data = render_names(names, listing.directories)
        in_memory.append(_sealed_in_memory(key, MemoryFile("", data), NAMES))
    whole = {path: each.sha256 or b"" for path, each in digests.items()}
    whole |= {each.path: hashlib.sha256(each.data).digest() for each in in_memory}
    sealed_sums = checksums.render(whole.items())
    dag = assemble(
        Bundle(sealed_listing),
        digests,
        [*in_memory, MemoryFile(checksums.NAME, sealed_sums)],
        sealed_sums,
        frozenset(sealed_files[file].path for file in known),
    )
    return SealedDag(dag, listing, view.entries, store)


class _SealedView:
    """Reads spans of the sealed files; a `ReadSpan`."""

    def __init__(self, listing: SourceListing) -> None:
        self._listing = listing
        self.entries: dict[str, _SealedEntry] = {}

    def __call__(self, file: SourceFile, size: int, offset: int) -> bytes:
        """Return `size` bytes of the sealed `file` from `offset`. Raises SourceChangedError, BundleError."""
        entry = self.entries[file.path]
        plain = entry.plain
        descriptor = source_file.open_regular(self._listing, plain)

        def read(start: int, out: memoryview) -> None:
            if (count := read_into(descriptor, out, start)) != len(out):
                raise source_file.changed(plain, start + count)

        try:
            return entry.sealer.read(offset, size, read)
        except OSError as error:
            raise source_file.unreadable(plain, error) from None
        finally:
            os.close(descriptor)


def _sealed_file(file: SourceFile, names: SealedNames) -> SourceFile:
    """Return the sealed form of `file` with its times, by which the cache knows it."""
    stamp = replace(file.stamp, size=size_when_sealed(file.stamp.size))
    return SourceFile(names.by_path[file.path], stamp)


def _sealed_listing(
    listing: SourceListing, files: Iterable[SourceFile], names: SealedNames, view: _SealedView
) -> SourceListing:
    ordered = sorted(files, key=lambda file: file.path.encode())
    return replace(listing, files=tuple(ordered), directories=names.directories, read_span=view)


def _sealed_in_memory(key: SealKey, file: MemoryFile, name: str) -> MemoryFile:
    """Return the sealed form of a generated file."""
    sealer = FileSealer(key, file.path, hashlib.sha256(file.data).digest(), len(file.data))
    return MemoryFile(name, sealer.seal_all(file.data))
