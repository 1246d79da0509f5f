"""Identification of a bundle: hash the files, complete the bundle, build the tree, order the blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from reconciler.content import dagpb, hashing, hub_links
from reconciler.content.bundle import Bundle, MemoryFile
from reconciler.content.cid import DAG_PB, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.directory_dag import BundleIdentity, DirectoryDag, FileIdentity, PackedFile
from reconciler.content.hashing import FileDigests
from reconciler.content.identity_cache import IdentityCache
from reconciler.content.remembered_digests import RememberedDigests
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.unixfs_tree import DirectoryEntry, Tree, directory_tree, file_tree
from reconciler.errors import BundleError
from reconciler.progress import QUIET, Progress


def identify(
    bundle: Bundle,
    *,
    cache: IdentityCache | None,
    fresh: bool = False,
    remembered: RememberedDigests | None = None,
    progress: Progress = QUIET,
) -> DirectoryDag:
    """Return the DAG of `bundle` with its identity.

    Every file is read in a single pass, or not at all when its digests are in `cache`; with `fresh` they are
    only stored there. What the cache says is confirmed later (`DirectoryDag.confirm`), and nothing is refused
    because of it. Files in `remembered` are not hashed again, and those that are hashed are added to it. The
    source tree is not written to. Raises SourceChangedError when a file changes while it is read, BundleError
    when one cannot be read or when the directory's own sums are wrong.
    """
    listing = bundle.listing
    remembered = RememberedDigests() if remembered is None else remembered
    digests, cached = _digests(
        listing,
        remembered,
        with_sums=not bundle.bare,
        cache=cache,
        fresh=fresh,
        progress=progress,
    )
    try:
        for file in listing.files:
            if file.blob is not None and hub_links.is_wrong(file.blob, digests[file.path].sha256):
                raise hub_links.damaged(file.path, file.blob)
        by_path = {path: each.sha256 for path, each in digests.items() if each.sha256}
        generated, sums = bundle.complete(by_path), bundle.all_sums(by_path)
    except BundleError:
        if not cached:
            raise
        return identify(bundle, cache=cache, fresh=True, remembered=remembered, progress=progress)
    return assemble(bundle, digests, generated, sums, cached)


def assemble(
    bundle: Bundle,
    digests: Mapping[str, FileDigests],
    generated: Sequence[MemoryFile],
    sums: bytes | None,
    cached: frozenset[str] = frozenset(),
) -> DirectoryDag:
    """Return the DAG of a bundle whose files have `digests`, by path, with the files `generated` for it.

    `sums` are the bytes of its SHA256SUMS, None in a bare bundle. `cached` are the paths of the files whose
    digests come from a cache.
    """
    listing = bundle.listing
    packed = [PackedFile(file, digests[file.path].leaves) for file in listing.files]
    packed += [PackedFile(file, hashing.leaf_digests(file.data)) for file in generated]
    packed.sort(key=lambda file: file.source.path.encode())
    trees = {file.source.path: file_tree(_size(file.source), file.leaves) for file in packed}
    blocks: dict[Cid, bytes] = {}
    root = trees[packed[0].source.path] if bundle.single_file else _directories(listing, trees, blocks)
    for tree in trees.values():
        blocks.update(tree.blocks)
    layout = build_layout(root, blocks)
    identity = BundleIdentity(
        root=root.cid,
        size=sum(_size(file.source) for file in packed),
        blocks=len(layout),
        block_bytes=layout.size,
        car_size=layout.car_size,
        dirhash=None if sums is None else hashlib.sha256(sums).hexdigest(),
        files=tuple(
            FileIdentity(
                file.source.path,
                _size(file.source),
                None if bundle.bare else _sum(file.source, digests).hex(),
                trees[file.source.path].cid,
            )
            for file in packed
        ),
    )
    return DirectoryDag(identity, layout, blocks, listing, packed, cached)


def build_layout(root: Tree, blocks: Mapping[Cid, bytes]) -> DagLayout:
    """Return the layout of the DAG under `root`; `blocks` contains all its dag-pb blocks, possibly more."""
    layout = DagLayout(root.cid)
    waiting = [(root.cid, root.tsize)]
    while waiting:
        cid, tsize = waiting.pop()
        block = blocks[cid] if cid.codec == DAG_PB else None
        # The Tsize of a raw leaf is its length. A repeated block is skipped with everything below it.
        if layout.add(cid, tsize if block is None else len(block)) and block is not None:
            waiting += [(link.cid, link.tsize) for link in reversed(dagpb.decode(block).links)]
    return layout


def _digests(
    listing: SourceListing,
    remembered: RememberedDigests,
    *,
    with_sums: bool,
    cache: IdentityCache | None,
    fresh: bool,
    progress: Progress,
) -> tuple[dict[str, FileDigests], frozenset[str]]:
    """Return the digests of all files by path, and the paths of those that come from the cache."""
    digests: dict[str, FileDigests] = {}
    unknown: list[SourceFile] = []
    cached: set[str] = set()
    for file in listing.files:
        known = remembered.get(file, with_sum=with_sums)
        if known is None and cache and not fresh:
            known = cache.get(listing, file, with_sum=with_sums)
            if known is not None:
                cached.add(file.path)
        if known is None:
            unknown.append(file)
        else:
            digests[file.path] = known

    def keep(file: SourceFile, found: FileDigests) -> None:
        digests[file.path] = found
        remembered.put(file, found)
        if cache:
            cache.put(listing, file, found)

    if unknown:
        with progress.task("hashing", sum(file.stamp.size for file in unknown)) as task:
            hashing.hash_files(listing, unknown, sums=with_sums, task=task, done=keep)
    return digests, frozenset(cached)


def _directories(listing: SourceListing, trees: Mapping[str, Tree], blocks: dict[Cid, bytes]) -> Tree:
    """Return the tree of the root directory; add the blocks of all directories to `blocks`."""
    entries: dict[str, list[DirectoryEntry]] = {path: [] for path in ("", *listing.directories)}
    for path, tree in trees.items():
        parent, _, name = path.rpartition("/")
        entries[parent].append(DirectoryEntry(name, tree.cid, tree.tsize))
    for path in sorted(listing.directories, key=lambda path: path.count("/"), reverse=True):
        tree = directory_tree(entries[path])
        blocks.update(tree.blocks)
        parent, _, name = path.rpartition("/")
        entries[parent].append(DirectoryEntry(name, tree.cid, tree.tsize))
    root = directory_tree(entries[""])
    blocks.update(root.blocks)
    return root


def _sum(source: SourceFile | MemoryFile, digests: Mapping[str, FileDigests]) -> bytes:
    if isinstance(source, MemoryFile):
        return hashlib.sha256(source.data).digest()
    found = digests[source.path].sha256
    if found is None:
        raise AssertionError(f"{source.path!r} was hashed without its sum")
    return found


def _size(source: SourceFile | MemoryFile) -> int:
    return len(source.data) if isinstance(source, MemoryFile) else source.stamp.size
