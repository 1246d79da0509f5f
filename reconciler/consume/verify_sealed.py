"""The comparison of a plain directory with a sealed version: its files are sealed again, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.consume.verify import ComparedBy, Difference, DifferenceKind, DirectoryComparison
from reconciler.content import checksums
from reconciler.content.age.keys import Identity
from reconciler.content.bundle import make_bundle
from reconciler.content.cid import Cid
from reconciler.content.directory_dag import BundleIdentity
from reconciler.content.scan import SourceListing, scan
from reconciler.content.sealing.seal_key import SealInputs, SealKey
from reconciler.content.sealing.sealed_dag import identify_sealed
from reconciler.content.sealing.sealed_names import NAMES, SUFFIX
from reconciler.content.sealing.unseal import sealed_cids
from reconciler.errors import BundleError, UserError
from reconciler.index.model import Record
from reconciler.index.seal_keys import load_wrapped_keys, unlock
from reconciler.progress import Progress


def compare_sealed(
    directory: Path,
    record: Record,
    sealing: SealInputs,
    index_file: Path,
    identities: Sequence[Identity],
    progress: Progress,
) -> tuple[BundleIdentity | None, DirectoryComparison]:
    """Return the identity of `directory` when it is sealed as the version of `record`, and what differs.

    The identity is None for files that are not a bundle; nothing differs when its root is that of the record.
    Raises UserError when none of `identities` opens the key, BundleError for files that cannot be read.
    """
    key = _key(record, sealing, index_file, identities)
    listing = scan(directory, include_hidden=True)
    identity = _identity(listing, record, sealing, key, progress)
    if identity is not None and identity.root == record.cid:
        return identity, DirectoryComparison(ComparedBy.BLOCKS, ())
    files = {file.path: file for file in listing.files}
    with progress.task(f"comparing {directory.name}", 2 * listing.size) as task:
        found = sealed_cids(listing, files, key, task)
    names = {path: key.hidden_name(path) if sealing.hides_names else path for path in found}
    sealed = {path: name + SUFFIX for path, name in names.items()}
    contents = record.contents.files if record.contents is not None else ()
    released = {file.path: file.cid for file in contents if file.path not in (checksums.NAME, NAMES)}
    differences = sorted(_differences(found, sealed, released), key=lambda each: each.path.encode())
    return identity, DirectoryComparison(ComparedBy.BLOCKS, tuple(differences))


def _key(record: Record, sealing: SealInputs, index_file: Path, identities: Sequence[Identity]) -> SealKey:
    for wrapped in load_wrapped_keys(index_file, record.model):
        if wrapped.key == sealing.key:
            return unlock(wrapped, identities)
    raise UserError(
        f"the key {sealing.key} of {record.model} is not beside the index",
        hint=f"restore sealed/{record.model}/{sealing.generation}.* from the git history",
    )


def _identity(
    listing: SourceListing, record: Record, sealing: SealInputs, key: SealKey, progress: Progress
) -> BundleIdentity | None:
    release = record.inputs.release if record.inputs is not None else None
    try:
        bundle = make_bundle(
            listing,
            model=release.model if release else record.model,
            version=release.version if release else record.version,
        )
        dag = identify_sealed(bundle, key, hides_names=sealing.hides_names, cache=None, progress=progress)
    except BundleError:
        return None
    return dag.identity


def _differences(
    found: Mapping[str, Cid], sealed: Mapping[str, str], released: Mapping[str, Cid]
) -> Iterator[Difference]:
    """Yield what differs; a file that is missing and whose name is hidden has its hidden name."""
    for path, cid in found.items():
        if sealed[path] not in released:
            yield Difference(path, DifferenceKind.EXTRA)
        elif released[sealed[path]] != cid:
            yield Difference(path, DifferenceKind.CHANGED)
    for name in released.keys() - set(sealed.values()):
        yield Difference(name.removesuffix(SUFFIX), DifferenceKind.MISSING)
