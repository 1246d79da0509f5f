"""The search for the likely causes of a mismatch: reads small files and asks git, only after a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from shlex import quote

from reconciler.content import bounds, checksums, lfs_pointer, manifest, source_file
from reconciler.content.cid import Cid
from reconciler.content.contents import (
    BundleContents,
    ContentChange,
    ContentDifference,
    FileEntry,
    compare_contents,
    make_contents,
)
from reconciler.content.hashing import leaf_digests
from reconciler.content.remembered_digests import RememberedDigests
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.unixfs_tree import file_tree
from reconciler.errors import BundleError
from reconciler.git.runner import GitError
from reconciler.git.work_tree import WorkTree
from reconciler.loop.mismatch import ExplainedDifference, Mismatch, MismatchCause

_GENERATED = (manifest.NAME, checksums.NAME)
_MAX_EXPLAINED = 100  # differences whose causes are searched
_MAX_TEXT = 16 << 20  # bytes of a file whose line ends are compared
_POINTER = f"version {lfs_pointer.VERSION}\n".encode()
_NOT_HASHED = file_tree(0, leaf_digests(b"")).cid  # of no file that has bytes

Explained = tuple[MismatchCause, str, str]  # the cause, why in words, the way out


@dataclass(frozen=True, slots=True)
class FoundBundle:
    """What a directory or a CAR file has instead: the root (None for an invalid bundle), and its contents.

    `listing` is None for a CAR.
    """

    root: Cid | None
    contents: BundleContents
    listing: SourceListing | None = None


def explain(
    found: FoundBundle,
    published: tuple[BundleContents, str] | None,
    recorded_in: Callable[[], str | None],
) -> Mismatch:
    """Return how `found` differs from the `published` contents.

    The second value of `published` names what lists them. `recorded_in` returns the commit that recorded the
    CID, None when that is unknown.
    """
    if published is None:
        return Mismatch(found.root)
    contents, name = published
    differences = compare_contents(contents, found.contents)
    if found.listing is None:
        return Mismatch(found.root, name, tuple(_unexplained(each) for each in differences))
    generated = {name for name in _GENERATED if all(file.path != name for file in found.listing.files)}
    own = [each for each in differences if each.path not in generated]
    search = _CauseSearch(found.listing, own, recorded_in)
    explained = [search.explained(each) for each in own[:_MAX_EXPLAINED]]
    explained += [_unexplained(each) for each in own[_MAX_EXPLAINED:]]
    generated_only = () if found.root is None else tuple(_generated(each) for each in differences)
    return Mismatch(found.root, name, tuple(explained) or generated_only)


def contents_without_hashing(
    listing: SourceListing, published: BundleContents, digests: RememberedDigests
) -> BundleContents:
    """Return the files of `listing`, as far as that is possible without reading them.

    A file that was not hashed counts as published if it has the same size.
    """
    known = {file.path: file for file in published.files}

    def entry(file: SourceFile) -> FileEntry:
        size = file.stamp.size
        found = digests.get(file, with_sum=False)
        if found is not None:
            return FileEntry(file.path, size, file_tree(size, found.leaves).cid)
        same = known.get(file.path)
        return same if same is not None and same.size == size else FileEntry(file.path, size, _NOT_HASHED)

    generated = {file.path for file in published.files} & set(_GENERATED)
    generated -= {file.path for file in listing.files}
    files = [entry(file) for file in listing.files] + [known[path] for path in generated]
    return make_contents(files, listing.directories)


def _unexplained(difference: ContentDifference) -> ExplainedDifference:
    return ExplainedDifference(difference.path, difference.change)


def _generated(difference: ContentDifference) -> ExplainedDifference:
    """Explain a difference where only generated files differ."""
    return ExplainedDifference(
        difference.path,
        difference.change,
        MismatchCause.GENERATED,
        "it is generated, and all other files are as published",
        "restore the model's name, version, format and created_at in the index, or the file itself if the "
        "directory had its own",
    )


@dataclass(frozen=True)
class _CauseSearch:
    """The search over the `differences` of one directory."""

    listing: SourceListing
    differences: Sequence[ContentDifference]
    recorded_in: Callable[[], str | None]

    def explained(self, difference: ContentDifference) -> ExplainedDifference:
        """Return `difference` with its likely cause, if one is found."""
        for cause in self._causes(difference):
            if cause is not None:
                return ExplainedDifference(self._shown(difference), difference.change, *cause)
        return ExplainedDifference(self._shown(difference), difference.change)

    def _shown(self, difference: ContentDifference) -> str:
        return f"{difference.path}/" if difference.is_directory else difference.path

    def _causes(self, difference: ContentDifference) -> Iterator[Explained | None]:
        if difference.is_directory:
            yield self._empty(difference)
            return
        if difference.change is ContentChange.CHANGED:
            yield self._content(difference)
        if difference.change is ContentChange.GONE:
            yield self._left_out(difference.path)
        yield self._elsewhere(difference)
        yield self._in_git(difference)
        yield self._commit(difference)

    def _empty(self, difference: ContentDifference) -> Explained:
        place = self.listing.root / difference.path
        if difference.change is ContentChange.GONE:
            return (
                MismatchCause.EMPTY_DIRECTORY,
                "it was empty, and git keeps no empty directories",
                f"create the empty directory again: mkdir -p {quote(str(place))}",
            )
        return (
            MismatchCause.EMPTY_DIRECTORY,
            "an empty directory is part of the CID",
            f"remove the empty directory: rmdir {quote(str(place))}",
        )

    def _content(self, difference: ContentDifference) -> Explained | None:
        """Return what the bytes of a changed file say, for files of a moderate size."""
        published, found = difference.published, difference.found
        if published is None or found is None or found.size > _MAX_TEXT:
            return None
        source = next(file for file in self.listing.files if file.path == difference.path)
        try:
            data = source_file.read_small(self.listing, source, _MAX_TEXT)
        except BundleError:
            return None
        if len(data) < lfs_pointer.MAX_SIZE and data.startswith(_POINTER):
            return (
                MismatchCause.LFS_POINTER,
                "a Git LFS pointer is in its place",
                "`git lfs pull` fetches the content",
            )
        for new, words in (
            (b"\n", "CRLF now, LF when published"),
            (b"\r\n", "LF now, CRLF when published"),
        ):
            text = data.replace(b"\r\n", b"\n").replace(b"\n", new)
            if text != data and len(text) == published.size and _cid_of(text) == published.cid:
                return (
                    MismatchCause.LINE_ENDINGS,
                    f"its line ends: {words}",
                    f"write `{self._git_path('**')} -text` into .gitattributes, so that git keeps line ends, "
                    "then delete these files and check them out again",
                )
        return None

    def _left_out(self, path: str) -> Explained | None:
        """Return the rule of the index that leaves out a file that exists."""
        for entries, cause, words in (
            (self.listing.hidden, MismatchCause.HIDDEN, "the index leaves out names that begin with a dot"),
            (self.listing.excluded, MismatchCause.PATTERNS, "the patterns in the index leave it out"),
        ):
            if any(path == entry or path.startswith(f"{entry}/") for entry in entries):
                return cause, words, "restore `hidden`, `include` and `exclude` of the version in the index"
        return None

    def _elsewhere(self, difference: ContentDifference) -> Explained | None:
        """Return the other path of a file that only has another name."""
        others = [
            each
            for each in self.differences
            if {each.change, difference.change} == {ContentChange.NEW, ContentChange.GONE}
            and not each.is_directory
        ]
        now = difference.change is ContentChange.NEW
        for other in others:
            if bounds.collision_key(other.path) == bounds.collision_key(difference.path):
                published, found = (other, difference) if now else (difference, other)
                return (
                    MismatchCause.NAME_FORM,
                    "its name has another case or Unicode form",
                    f"rename {found.path!a} to {published.path!a}",
                )
        entry = difference.found or difference.published
        for other in others:
            if entry is not None and _same_bytes(entry, other.found or other.published):
                return (
                    MismatchCause.MOVED,
                    f"the same bytes {'were' if now else 'are'} at {other.path!r}",
                    "move it back",
                )
        return None

    def _in_git(self, difference: ContentDifference) -> Explained | None:
        path = self._git_path(difference.path)
        if difference.change is ContentChange.CHANGED:
            return None
        if path in self._ignored:
            if difference.change is ContentChange.GONE:
                return (
                    MismatchCause.GIT_IGNORED,
                    "git ignores it, so a checkout does not have it",
                    "copy it from the machine that released the version, or `git add --force` it there",
                )
            return (
                MismatchCause.GIT_IGNORED,
                "git ignores it, so only this machine has it",
                f"move the files that git ignores out of {self.listing.root}",
            )
        if difference.change is ContentChange.NEW and self._tree and path not in self._tracked:
            return (
                MismatchCause.NOT_IN_GIT,
                "git does not have it",
                f"move the files that git does not have out of {self.listing.root}",
            )
        return None

    def _commit(self, difference: ContentDifference) -> Explained | None:
        """Return the commit that touched a path and is not part of the one that recorded the CID."""
        if self._tree is None or (recorded := self._recorded) is None:
            return None
        path = self._git_path(difference.path)
        try:
            last = self._tree.last_commit(path)
            if last is None:
                return None
            if self._tree.is_ancestor(last.commit, recorded):
                return self._not_committed() if path in self._tracked else None
        except GitError:
            return None
        verb = {ContentChange.NEW: "added", ContentChange.GONE: "removed"}.get(difference.change, "changed")
        return (
            MismatchCause.COMMITTED,
            f"commit {last.commit[:12]}, which is not in the history of the CID, {verb} it: "
            f"{last.subject[:60]!r}",
            "move what was added into a new version, and restore what the version had with "
            f"`git checkout {recorded[:12]} -- {quote(str(self.listing.root))}`",
        )

    def _not_committed(self) -> Explained:
        return (
            MismatchCause.NOT_COMMITTED,
            "this change is not committed",
            f"restore what git has: git checkout HEAD -- {quote(str(self.listing.root))}",
        )

    @cached_property
    def _tree(self) -> WorkTree | None:
        return WorkTree.around(self.listing.root)

    @cached_property
    def _recorded(self) -> str | None:
        return self.recorded_in()

    @cached_property
    def _prefix(self) -> str:
        if self._tree is None:
            return ""
        try:
            return self._tree.path(self.listing.root.resolve())
        except ValueError:
            return ""

    def _git_path(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix not in ("", ".") else path

    @property
    def _paths(self) -> list[str]:
        return [self._git_path(each.path) for each in self.differences[:_MAX_EXPLAINED]]

    @cached_property
    def _ignored(self) -> frozenset[str]:
        return self._asked(WorkTree.ignored)

    @cached_property
    def _tracked(self) -> frozenset[str]:
        return self._asked(WorkTree.tracked)

    def _asked(self, question: Callable[[WorkTree, Sequence[str]], frozenset[str]]) -> frozenset[str]:
        try:
            return question(self._tree, self._paths) if self._tree is not None else frozenset()
        except GitError:
            return frozenset()


def _same_bytes(entry: FileEntry, other: FileEntry | None) -> bool:
    return other is not None and other.cid == entry.cid and entry.size > 0


def _cid_of(data: bytes) -> Cid:
    return file_tree(len(data), leaf_digests(data)).cid
