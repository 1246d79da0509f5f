"""The files of a sealed version that were published in the clear before, which sealing does not hide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reconciler.content import hashing
from reconciler.content.cid import Cid
from reconciler.content.hashing import FileDigests
from reconciler.content.scan import SourceFile
from reconciler.content.sealing.sealed_dag import SealedDag
from reconciler.content.unixfs_tree import file_tree
from reconciler.errors import InvalidIndexError
from reconciler.index.records import load_record, records_directory
from reconciler.progress import Progress

_SHOWN = 5  # files named in one note


def published_in_the_clear(index_file: Path, model: str, dag: SealedDag, progress: Progress) -> Iterator[str]:
    """Yield a note with the files of `dag` that are in versions of `model` that are not sealed.

    Files are compared by their bytes; only those with the size of a published one are read. Raises
    BundleError when one cannot be read.
    """
    published = _plain_files(index_file, model)
    same_size = {size for size, _ in published}
    suspects = [file for file in dag.listing.files if file.stamp.size and file.stamp.size in same_size]
    found: dict[str, str] = {}

    def compare(file: SourceFile, digests: FileDigests) -> None:
        cid = file_tree(file.stamp.size, digests.leaves).cid
        if (version := published.get((file.stamp.size, cid))) is not None:
            found[file.path] = version

    if suspects:
        with progress.task(
            "comparing with what is public", sum(file.stamp.size for file in suspects)
        ) as task:
            hashing.hash_files(dag.listing, suspects, sums=False, task=task, done=compare)
    if found:
        paths = sorted(found, key=str.encode)
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        listed = ", ".join(f"{path!r} ({model}@{found[path]})" for path in paths[:_SHOWN])
        yield f"published in the clear before, so sealing does not hide it: {listed}{more}"


def _plain_files(index_file: Path, model: str) -> dict[tuple[int, Cid], str]:
    """Return the versions with each plain file that the records of `model` list, by size and CID."""
    records = records_directory(index_file)
    found: dict[tuple[int, Cid], str] = {}
    for path in sorted((records / model).glob("*.json")):
        try:
            record = load_record(records, model, path.stem)
        except (InvalidIndexError, ValueError):
            continue
        if record is None or record.contents is None or (record.inputs and record.inputs.sealing):
            continue
        for file in record.contents.files:
            found.setdefault((file.size, file.cid), record.version)
    return found
