"""The leaves of the audit log that a repository lacks: what happened to its versions and is not logged yet.

A proposal that resolves a CID or changes a record adds the leaves of that in the same commit. What people
write into the index themselves, such as a yank, is a change of the next plan. Both are files of their own
below `releases/log/leaves`; numbering, tiles and checkpoints follow once they are merged
(`loop/log_sequence.py`). Without `log:` in targets.yaml there is no log and nothing of this happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError, InvalidIndexError, ReconcilerError, Where
from reconciler.fs import replace_file
from reconciler.index.model import Index, Record, Version
from reconciler.index.records import MAX_RECORD_BYTES, record_path, records_directory, render_record
from reconciler.loop.changes import Blocked, Change, ResolveCid, WriteBack, WriteRecord
from reconciler.trust.leaves import LEAVES, LoggedState, LogLeaf, new_leaves, read_chain, replay
from reconciler.trust.tiles import ReadFile

ATTRIBUTES = ".gitattributes"  #: keeps git from changing line endings in the log
ATTRIBUTES_TEXT = b"* -text\n"
_FIRST = ".1.json"
_MAX_LEAF_FILE = 1 << 16
_MAX_LISTED = 50  # leaves in the text of a pull request


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLeaf(WriteBack):
    """Writing of what happened to a version into the audit log. `path` is that of the first leaf."""

    kind: ClassVar[str] = "write-leaf"
    path: str
    events: tuple[str, ...]


def log_directory(index_file: Path) -> Path:
    """Return the directory of the audit log of an index, beside it."""
    return index_file.with_name("log")


def log_reader(directory: Path, limit: int = _MAX_LEAF_FILE) -> ReadFile:
    """Return a function that reads files of the log in `directory`; None for one that is missing.

    Links are not followed: it raises InvalidIndexError for anything but a regular file.
    """

    def read(path: str) -> bytes | None:
        file = directory / path
        try:
            with file.open("rb") as opened:
                data = opened.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InvalidIndexError(f"cannot be read: {reason}", where=Where(str(file))) from None
        if file.is_symlink() or len(data) > limit:
            raise InvalidIndexError("not a regular file of the audit log", where=Where(str(file)))
        return data

    return read


def state_of(version: Version | None, cid: Cid | None, record: bytes | None) -> LoggedState:
    """Return what the repository says about a version: None for one that the index does not have.

    `cid` is its CID, and `record` the file of its record; None without one.
    """
    if version is None:
        return LoggedState(removed=True)
    return LoggedState(
        cid=str(cid or ""),
        record=hashlib.sha256(record).hexdigest() if record is not None else "",
        yanked=version.yanked or "",
        retired=version.retired,
    )


def leaves_for(
    index_id: str, model: str, version: str, now: LoggedState, read: ReadFile
) -> tuple[LogLeaf, ...]:
    """Return the leaves of a version that the log, whose files `read` returns, lacks.

    Raises DataError, and TrustError when the log contradicts the repository.
    """
    chain = read_chain(read, model, version)
    if now.removed and not now.cid:
        if not chain or replay(chain).removed:
            return ()
        now = LoggedState(cid=chain[0].cid, removed=True)
    return new_leaves(index_id, model, version, chain, now)


@dataclass(frozen=True, slots=True)
class LeafScope:
    """The versions to look at: those of `versions`, and with `removed` also those the index does not have."""

    versions: Sequence[Version]
    removed: bool


def leaf_changes(index: Index, scope: LeafScope, changes: Sequence[Change]) -> Iterator[Change]:
    """Yield a change for each version whose leaves no other change of the plan writes."""
    covered = {change.ref for change in changes if isinstance(change, ResolveCid | WriteRecord)}
    directory, records = log_directory(index.file), records_directory(index.file)
    read = log_reader(directory)
    for version in scope.versions:
        if version.cid is None or version.ref in covered or version.suspended:
            continue
        record = _record_bytes(records, version.model, version.version)
        now = state_of(version, version.cid, record)
        yield from _leaf_change(index.id, version.model, version.version, now, read)
    known = {version.ref for version in index.versions()}
    for model, number in logged_versions(directory) if scope.removed else ():
        if f"{model}@{number}" not in known:
            yield from _leaf_change(index.id, model, number, LoggedState(removed=True), read)


def _leaf_change(
    index_id: str, model: str, version: str, now: LoggedState, read: ReadFile
) -> Iterator[Change]:
    try:
        leaves = leaves_for(index_id, model, version, now, read)
    except ReconcilerError as error:
        yield Blocked(model=model, version=version, reason=str(error), hint=error.hint or "")
        return
    if leaves:
        yield WriteLeaf(
            model=model,
            version=version,
            root=cids.parse(leaves[0].cid),
            held=True,
            reason="not in the audit log yet",
            path=f"log/{leaves[0].path}",
            events=tuple(leaf.event.value for leaf in leaves),
        )


def logged_versions(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the model and the version of everything that has a leaf in the log in `directory`."""
    top = directory / LEAVES
    for file in sorted(top.rglob(f"*{_FIRST}")):
        model, at, version = file.relative_to(top).as_posix().removesuffix(_FIRST).rpartition("@")
        if at and file.is_file() and not file.is_symlink():
            yield model, version


def _record_bytes(records: Path, model: str, version: str) -> bytes | None:
    path = record_path(records, model, version)
    try:
        with path.open("rb") as file:
            return file.read(MAX_RECORD_BYTES)
    except OSError:
        return None  # one that cannot be read was refused before


# --- writing


def working_tree_leaves(
    index: Index, resolved: Mapping[tuple[str, str], Cid], records: Iterable[Record], refs: Iterable[str]
) -> list[LogLeaf]:
    """Return the leaves to write after CIDs were resolved and records written, and those of `refs`."""
    rendered = {(one.model, one.version): render_record(one).encode() for one in records}
    directory, read = records_directory(index.file), log_reader(log_directory(index.file))
    wanted = {*resolved, *rendered, *(tuple(ref.rpartition("@")[::2]) for ref in refs)}
    found: list[LogLeaf] = []
    for model, number in sorted(wanted):
        version = _version(index, model, number)
        cid = resolved.get((model, number)) or (version.cid if version is not None else None)
        record = rendered.get((model, number)) or _record_bytes(directory, model, number)
        found += leaves_for(index.id, model, number, state_of(version, cid, record), read)
    return found


def write_log_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files of the log in `directory`, the last one last.

    Raises InvalidIndexError when a directory of it is a symbolic link, and OSError.
    """
    for path, data in ({ATTRIBUTES: ATTRIBUTES_TEXT} | dict(files)).items() if files else ():
        file = directory / path
        for place in (directory, *(directory / above for above in PurePosixPath(path).parents)):
            if place.is_symlink():
                raise InvalidIndexError(
                    "is a symbolic link, and the audit log is written inside the repository only",
                    hint="replace it by a directory",
                    where=Where(str(place)),
                )
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_bytes() != data:
            replace_file(file, data, mode=0o644)


def covered_size(checkpoint: bytes | None) -> int:
    """Return the number of entries that a checkpoint covers, 0 for none and for one that cannot be read."""
    from reconciler.trust.checkpoint import parse_checkpoint

    try:
        return parse_checkpoint(checkpoint).size if checkpoint is not None else 0
    except DataError:
        return 0


@dataclass(slots=True)
class ProposedLeaves:
    """The leaves that a proposal of the index adds, on top of the files of its base.

    `directory` is that of the log in the repository; `refs` are the versions whose leaves the plan misses.
    `covered` is the number of entries that the checkpoint of the base covers.
    """

    index_id: str
    directory: str
    refs: frozenset[str] = frozenset()
    covered: int = 0

    def compose(
        self,
        refs: Iterable[tuple[str, str]],
        state: Callable[[str, str], LoggedState],
        read: Callable[[str], bytes | None],
    ) -> list[LogLeaf]:
        """Return the leaves of the versions `refs` and of our own; `state` says what the proposal makes of
        one, and `read` returns a file of the base. Raises DataError, TrustError.
        """
        wanted = {*refs, *(tuple(ref.rpartition("@")[::2]) for ref in self.refs)}
        found: list[LogLeaf] = []
        for model, version in sorted(wanted):
            in_log = lambda path: read(f"{self.directory}/{path}")  # noqa: E731
            found += leaves_for(self.index_id, model, version, state(model, version), in_log)
        return found

    def files(self, leaves: Sequence[LogLeaf], read: Callable[[str], bytes | None]) -> dict[str, bytes]:
        """Return the files that hold `leaves`, by path in the repository."""
        found = {f"{self.directory}/{leaf.path}": leaf.file() for leaf in leaves}
        attributes = f"{self.directory}/{ATTRIBUTES}"
        return {attributes: ATTRIBUTES_TEXT, **found} if found and read(attributes) is None else found

    def describe(self, leaves: Sequence[LogLeaf]) -> str:
        """Return the part of the text of a pull request that is about `leaves`, in Markdown."""
        lines = [f"- {leaf.event.value} `{leaf.ref}`" for leaf in leaves[:_MAX_LISTED]]
        if len(leaves) > _MAX_LISTED:
            lines.append(f"- and {len(leaves) - _MAX_LISTED:,} more")
        newest = f"checkpoint {self.covered:,}" if self.covered else "no checkpoint yet"
        text = f"**Audit log** ({newest}): the next checkpoint after the merge covers these entries."
        return "\n".join([text, "", *lines]) + "\n"

    def versions_in(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the versions whose leaves are among `paths` of the repository."""
        for path in paths:
            rest = path.removeprefix(f"{self.directory}/{LEAVES}/")
            model, at, name = rest.rpartition("@")
            version, _, number = name.removesuffix(".json").rpartition(".")
            if rest != path and at and version and number.isdecimal():
                yield model, version


def _version(index: Index, model: str, version: str) -> Version | None:
    known = index.models.get(model)
    return known.versions.get(version) if known is not None else None
