"""Proof of where streamed bytes came from: made while they are read, and checked again against a clone.

A commit names its tree by SHA-1, trees name files and pointers, and a Git LFS pointer has the SHA-256 of a
file. A Hub lists the last two links; a clone has all of them, and needs no weights for that. On the other
side, the SHA256SUMS of the bundle has the same SHA-256 digests, and is itself named by the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import checksums, manifest
from reconciler.content.cid import RAW
from reconciler.content.git_objects import object_id
from reconciler.content.hashing import FileDigests
from reconciler.content.lfs_pointer import LfsPointer
from reconciler.errors import DataError, UsageError
from reconciler.git.runner import GitError, GitRunner
from reconciler.index.model import Record
from reconciler.index.provenance import MAX_FILES, Provenance, SourcedFile
from reconciler.sources.interface import ListedFile, SourceKind, SourceMismatchError

_OFFLINE = {"GIT_NO_LAZY_FETCH": "1"}
_MAX_DEPTH = 64


def make_provenance(
    source: str,
    kind: str,
    revision: str,
    files: Mapping[str, ListedFile],
    digests: Mapping[str, FileDigests],
) -> Provenance:
    """Return the provenance of a version that was read, with `digests` by path."""
    listed = files if len(files) <= MAX_FILES else {}
    return Provenance(
        source, kind, revision, tuple(_sourced(file, digests[path]) for path, file in listed.items())
    )


def check_pointers(source: str, files: Iterable[ListedFile]) -> None:
    """Check that a Hub lists SHA-256 and size of each file as the repository has them: in its pointer.

    Git names the pointer by the SHA-1 of its text, which follows from the two. Raises SourceMismatchError.
    """
    for file in files:
        known = file.digests
        if known.lfs_pointer is None or known.sha256 is None:
            continue
        if LfsPointer(known.sha256, file.size).git_blob != known.lfs_pointer:
            raise SourceMismatchError(
                source,
                file.path,
                f"has a listed SHA-256 and size that differ from its pointer {known.lfs_pointer.hex()}",
                hint="nothing was published; compare with `git show` in a clone of the repository",
            )


@dataclass(frozen=True, slots=True)
class CloneCheck:
    """The result of a check against a clone: the files that agree, and those without a git id."""

    files: int
    unproven: int


def has_revision(clone: Path, provenance: Provenance) -> bool:
    """Return whether the git repository at `clone` has the commit of `provenance`."""
    try:
        return bool(_read_object(GitRunner(clone), provenance.revision, "commit"))
    except (GitError, DataError):
        return False


def check_against_clone(clone: Path, record: Record, provenance: Provenance) -> CloneCheck:
    """Compare the `provenance` of `record` with the commit in the repository at `clone`, offline.

    The commit and every tree are hashed; no weights are needed. Raises DataError naming the first file that
    differs, and UsageError when the clone lacks an object.
    """
    _check_sums(record, provenance)
    runner = GitRunner(clone)
    try:
        commit = _read_object(runner, provenance.revision, "commit")
        first = commit.partition(b"\n")[0].decode("ascii", "replace")
        directories = {path.rpartition("/")[0] for path in (file.path for file in provenance.files)}
        entries = _entries(runner, first.removeprefix("tree "), directories)
    except GitError as error:
        raise UsageError(
            f"{str(clone)!r} does not have all trees of {provenance.revision}: {error.message}",
            hint="clone with `git clone --filter=blob:none`, which has them all",
        ) from None
    unproven = 0
    for file in provenance.files:
        if not file.git:
            unproven += 1
            continue
        found = entries.get(file.path)
        if found is None:
            raise DataError(f"{file.path!r} is not in the commit {provenance.revision}")
        if found != file.git:
            raise DataError(
                f"{file.path!r} is {found} in the commit {provenance.revision}, and {file.git} in the record"
            )
        if file.lfs and file.pointer_id != file.git:
            if provenance.kind == SourceKind.HUGGING_FACE.value:
                raise DataError(f"{file.path!r} has a pointer with another SHA-256 or size than the record")
            unproven += 1  # a pointer in another form than the canonical one
    return CloneCheck(len(provenance.files) - unproven, unproven)


def _check_sums(record: Record, provenance: Provenance) -> None:
    """Check that the generated SHA256SUMS of the bundle has the digests of the provenance."""
    contents = {} if record.contents is None else {file.path: file.cid for file in record.contents.files}
    names = {file.path for file in provenance.files}
    sums = contents.get(checksums.NAME)
    if sums is None or sums.codec != RAW or checksums.NAME in names:
        return
    digests = [(file.path, bytes.fromhex(file.sha256)) for file in provenance.files]
    made = contents.get(manifest.NAME)
    if made is not None and manifest.NAME not in names:
        digests.append((manifest.NAME, made.digest))
    if hashlib.sha256(checksums.render(digests)).digest() != sums.digest:
        raise DataError(
            f"the record of {record.model}@{record.version} has other digests than its {checksums.NAME}",
            hint="restore the record from the git history",
        )


def _sourced(file: ListedFile, found: FileDigests) -> SourcedFile:
    known = file.digests
    in_git = known.lfs_pointer or known.git_blob
    return SourcedFile(
        file.path,
        file.size,
        (found.sha256 or b"").hex(),
        git="" if in_git is None else in_git.hex(),
        lfs=known.lfs_pointer is not None,
        md5="" if known.md5 is None else known.md5.hex(),
        version=file.version_id,
    )


def _entries(runner: GitRunner, root: str, directories: Collection[str]) -> dict[str, str]:
    """Return the ids of all entries in `directories` of the tree `root`, by path."""
    found: dict[str, str] = {}
    trees = {"": root}
    wanted = {"/".join(path.split("/")[:depth]) for path in directories for depth in range(_MAX_DEPTH)}
    while trees:
        below: dict[str, str] = {}
        for directory, oid in trees.items():
            for mode, name, entry in _parse_tree(_read_object(runner, oid, "tree")):
                path = f"{directory}/{name}" if directory else name
                if mode != "40000":
                    found[path] = entry
                elif path in wanted:
                    below[path] = entry
        trees = below
    return found


def _parse_tree(data: bytes) -> Iterable[tuple[str, str, str]]:
    while data:
        mode, _, rest = data.partition(b" ")
        name, _, rest = rest.partition(b"\0")
        yield mode.decode("ascii", "replace"), name.decode("utf-8", "replace"), rest[:20].hex()
        data = rest[20:]


def _read_object(runner: GitRunner, oid: str, kind: str) -> bytes:
    """Read a git object and check its SHA-1. Raises GitError, and DataError for other bytes."""
    if len(oid) != 40 or not all(character in "0123456789abcdef" for character in oid):
        raise DataError(f"{oid[:80]!r} is not the id of a git object")
    data = runner.run("cat-file", kind, oid, env=_OFFLINE).stdout
    if object_id(kind, data).hex() != oid:
        raise DataError(f"the git object {oid} is damaged", hint="run `git fsck` in the clone")
    return data
