"""The stage of a fetch that turns a sealed version into plain files.

The version is fetched as usual, under the names of its plain files: age files whose every block has its CID.
Then each staged file is replaced by its plain text, in place, and compared with the sealed SHA256SUMS before
anything is published. A plain file is recognized later by sealing it again: the same file has the same CID.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from reconciler.consume.selection import SelectedFiles
from reconciler.consume.staging import Staging
from reconciler.content import checksums, manifest
from reconciler.content.age import message
from reconciler.content.age.errors import AgeError
from reconciler.content.age.stream import plain_size
from reconciler.content.cid import Cid
from reconciler.content.scan import SourceFile, SourceListing, stamp_of
from reconciler.content.sealing import sealed_names
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.sealed_file import HEAD_SIZE
from reconciler.content.sealing.unseal import sealed_cids, unseal_in_place
from reconciler.content.walk import DagMap, FileNode, NodeKind, leaf_bytes
from reconciler.errors import BundleError, DataError, UsageError
from reconciler.progress import Progress, Task

_THREADS = 2


class OpensSealed(Protocol):
    """What opens sealed versions, such as `ReaderKeys`."""

    def open(self, data: bytes) -> tuple[SealKey, bytes] | None:
        """Return the key that opens the age file `data`, and its plain text; None without a private key.

        Raises NotForIdentityError when it is for other keys, and AgeError for a file that is malformed.
        """


@dataclass(frozen=True, slots=True)
class Unsealing:
    """What becomes of a sealed version: plain files, with what `keys` opens; or it stays `keep_sealed`."""

    keys: OpensSealed | None = None
    keep_sealed: bool = False


@dataclass(frozen=True, slots=True)
class SealedVersion:
    """A sealed version whose key is at hand.

    `tree` is its DAG, in which the age files have the paths of the plain ones; the file with their sums in
    the clear is left out. `sums` are the digests of the plain files, by path, without SHA256SUMS itself.
    """

    tree: DagMap
    key: SealKey
    sums: Mapping[str, bytes]

    def complete_files(
        self, selected: SelectedFiles, base: Path, numbers: Collection[int], progress: Progress
    ) -> frozenset[int]:
        """Return which of the selected files `numbers` have their plain file below `base`."""
        paths = [selected.files[number].path for number in numbers]
        cids = self.cids_of(base, paths, progress)
        return frozenset(
            number
            for number in numbers
            if cids.get(selected.files[number].path) == selected.files[number].cid
        )

    def cids_of(self, base: Path, paths: Collection[str], progress: Progress) -> dict[str, Cid]:
        """Return the CIDs that the files at `paths` below `base` have when they are sealed.

        Returns nothing when one of them changes meanwhile, or cannot be read.
        """
        files = {}
        for path in paths:
            status = (base / path).lstat()
            if stat.S_ISREG(status.st_mode):
                files[path] = SourceFile(path, stamp_of(status))
        listing = SourceListing(base, tuple(files.values()), (), (), 0)
        try:
            with progress.task("checking plain files", 2 * listing.size) as task:
                return sealed_cids(listing, files, self.key, task)
        except BundleError:
            return {}

    def plain_tree(self, tree: DagMap, present: Collection[str]) -> DagMap:
        """Return the tree of another version with plain paths, as far as this key knows them.

        The names of files that are hidden are found among those of the files that are `present`.
        """
        files = {node.path for node in tree.nodes if node.kind is NodeKind.FILE}
        if not sealed_names.is_sealed(files):
            return tree
        if sealed_names.hides_names(files):
            known = {self.key.hidden_name(path) + sealed_names.SUFFIX: path for path in present}
            return _renamed(tree, known, ())
        return _renamed(tree, sealed_names.plain_paths(files), None)

    def resume(self, selected: SelectedFiles, staging: Staging, progress: Progress) -> frozenset[int]:
        """Return which staged files are plain already, after a fetch that was interrupted."""
        suspects = []
        for number, node in enumerate(selected.files):
            try:
                size = plain_size(node.size - HEAD_SIZE)
            except AgeError:
                continue
            path = staging.path(number)
            if path.is_file() and not path.is_symlink() and path.stat().st_size == size:
                suspects.append(number)
        return self.complete_files(selected, staging.content, suspects, progress) if suspects else frozenset()

    def unseal(
        self, selected: SelectedFiles, staging: Staging, done: Collection[int], progress: Progress
    ) -> None:
        """Replace the staged files, except those that are `done`, by their plain text.

        Raises AgeError and DataError with the name of the file; then no plain text is left in `staging`.
        """
        numbers = [number for number in range(len(selected.files)) if number not in done]
        numbers.sort(key=lambda number: selected.files[number].size, reverse=True)
        try:
            with (
                progress.task("decrypting", sum(selected.files[number].size for number in numbers)) as task,
                ThreadPoolExecutor(_THREADS, thread_name_prefix="unseal") as pool,
            ):
                try:
                    jobs = [
                        pool.submit(self._unseal, selected.files[n], staging.path(n), task) for n in numbers
                    ]
                    for job in jobs:
                        job.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        except DataError:
            for number in numbers:
                staging.reset(number)
            raise

    def _unseal(self, node: FileNode, path: Path, task: Task) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            digest = unseal_in_place(descriptor, [self.key.identity], task)
        except AgeError as error:
            raise _about(node.path, error) from None
        finally:
            os.close(descriptor)
        if self.sums.get(node.path, digest) != digest:
            raise DataError(
                f"{node.path!r} does not match its sum in the sealed {checksums.NAME}",
                hint="the file has the released CID, so the list is wrong: report this to the publisher",
            )


def open_sealed(
    tree: DagMap, read_block: Callable[[Cid], bytes], unsealing: Unsealing, name: str
) -> SealedVersion | None:
    """Return the sealed version that `tree` is the DAG of, None when it is not sealed, or is to stay so.

    Its small files with names and sums are read with `read_block`, which returns verified blocks. Raises
    UsageError without a private key, AgeError when none opens it, and DataError for an invalid bundle.
    """
    files = {node.path: node for node in tree.nodes if node.kind is NodeKind.FILE}
    if unsealing.keep_sealed or not sealed_names.is_sealed(files):
        return None
    hidden = sealed_names.hides_names(files)
    first = sealed_names.NAMES if hidden else sealed_names.SUMS
    try:
        opened = unsealing.keys.open(_content(tree, files[first], read_block)) if unsealing.keys else None
    except AgeError as error:
        raise _about(f"{first} of {name}", error) from None
    if opened is None:
        raise UsageError(
            f"{name} is sealed, and no private key is at hand to open it",
            hint="give one with --identity FILE or RECONCILE_IDENTITY, or keep the ciphertext with --sealed",
        )
    key, plain = opened
    if not hidden:
        return _version(tree, key, sealed_names.plain_paths(files), None, plain)
    try:
        paths, directories = sealed_names.parse_names(plain, files)
        sums = next((sealed for sealed, path in paths.items() if path == checksums.NAME), None)
        if sums is None:
            raise AgeError(f"does not list {checksums.NAME}")
        listed = message.decrypt(_content(tree, files[sums], read_block), [key.identity])
    except AgeError as error:
        raise _about(f"{first} of {name}", error) from None
    return _version(tree, key, paths, directories, listed)


def _version(
    tree: DagMap, key: SealKey, paths: Mapping[str, str], directories: Sequence[str] | None, sums: bytes
) -> SealedVersion:
    """Return the version whose age files have the plain `paths`. Raises DataError for wrong names or sums."""
    renamed = _renamed(tree, paths, directories)
    sealed_names.check_paths(
        paths.values(), [node.path for node in renamed.nodes if node.kind is NodeKind.DIRECTORY]
    )
    try:
        entries = checksums.parse(sums).matched(paths.values()).entries
    except BundleError as error:
        raise DataError(f"the sealed {checksums.NAME} cannot be read: {error.message}") from None
    listed = {each.path: each.digest for each in entries}
    if any(listed[each.path] != each.digest for each in entries):
        raise DataError(f"the sealed {checksums.NAME} has two sums for one file")
    plain = set(paths.values()) - {checksums.NAME}
    different = (plain ^ listed.keys()) - {manifest.NAME}
    if different:
        raise DataError(
            f"the sealed {checksums.NAME} does not list the files of the version: {min(different)!r} differs",
            hint="the version was published like this: report it to its publisher",
        )
    return SealedVersion(renamed, key, listed)


def _renamed(tree: DagMap, paths: Mapping[str, str], directories: Sequence[str] | None) -> DagMap:
    """Return `tree` with only the files in `paths`, under these names; None keeps its directories."""
    root = tree.layout.root
    if directories is None:
        nodes = [node for node in tree.nodes if node.kind is NodeKind.DIRECTORY]
    else:
        nodes = [FileNode(path, NodeKind.DIRECTORY, 0, root) for path in sorted(directories)]
    nodes += [replace(node, path=paths[node.path]) for node in tree.nodes if node.path in paths]
    return replace(tree, nodes=tuple(nodes), size=sum(node.size for node in nodes))


def _content(tree: DagMap, node: FileNode, read_block: Callable[[Cid], bytes]) -> bytes:
    """Return the bytes of a small file. Raises DataError when it is large."""
    if node.size > checksums.MAX_SIZE:
        raise DataError(f"{node.path!r} is larger than {checksums.MAX_SIZE} bytes")
    layout = tree.layout
    return b"".join(
        leaf_bytes(layout, leaf.position, read_block(layout.cid(leaf.position))) for leaf in tree.leaves(node)
    )


def _about(name: str, error: AgeError) -> AgeError:
    """Return `error` with the name of the file."""
    return AgeError(f"{name!r} {error.message}", hint=error.hint)
