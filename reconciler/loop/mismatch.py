"""Why a directory no longer gives its published CID: the files that differ, and the likely cause of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content.cid import Cid
from reconciler.content.contents import ContentChange
from reconciler.errors import BundleError
from reconciler.index.model import Version

MAX_SHOWN = 3  #: differences in a message
HINT = "a published version is immutable: restore its bytes, or release them as a new version"


class MismatchCause(StrEnum):
    """Why a path differs from the published bundle; also the words of JSON documents."""

    LFS_POINTER = "lfs-pointer"  #: a Git LFS pointer is in the place of the content
    LINE_ENDINGS = "line-endings"  #: the same text with other line ends
    EMPTY_DIRECTORY = "empty-directory"  #: git keeps no empty directories
    GENERATED = "generated-file"  #: a generated manifest names something else
    GIT_IGNORED = "git-ignored"  #: git ignores the path
    NOT_IN_GIT = "not-in-git"  #: git does not have the path
    NOT_COMMITTED = "not-committed"  #: the work tree differs from the commit, which has the published file
    COMMITTED = "committed"  #: a commit outside of the one that has the CID changed it
    HIDDEN = "hidden"  #: the name begins with a dot, and the index leaves such files out
    PATTERNS = "patterns"  #: the patterns in the index leave it out
    NAME_FORM = "name-form"  #: the name has another case or Unicode form
    MOVED = "moved"  #: the same bytes are at another path


@dataclass(frozen=True, slots=True)
class ExplainedDifference:
    """One path that differs. `detail` says why in words, `hint` the way out; both are "" when unknown."""

    path: str
    change: ContentChange
    cause: MismatchCause | None = None
    detail: str = ""
    hint: str = ""

    @property
    def text(self) -> str:
        """The path, the change and the cause as one phrase."""
        verb = {ContentChange.NEW: "is new", ContentChange.GONE: "is gone"}.get(self.change, "changed")
        return f"{self.path!r} {verb}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The CID that a directory gives instead of the published one, and what differs.

    `found` is None for files that are not a valid bundle. `compared_with` names what lists the published
    files, "" when nothing does; then `differences` is empty.
    """

    found: Cid | None
    compared_with: str = ""
    differences: tuple[ExplainedDifference, ...] = ()


class PublishedMismatchError(BundleError):
    """A directory no longer gives the published CID of its version."""

    def __init__(self, version: Version, mismatch: Mismatch, problem: BundleError | None = None) -> None:
        summary = _summary(mismatch.differences)
        has = f"it has {mismatch.found}, the index has {version.cid}" if problem is None else str(problem)
        super().__init__(
            f"{version.origin} no longer has the published CID: {has}" + (f": {summary}" if summary else ""),
            hint=_hint(mismatch.differences),
            where=version.where,
        )
        self.mismatch = mismatch


def _summary(differences: Sequence[ExplainedDifference]) -> str:
    more = len(differences) - MAX_SHOWN
    shown = [each.text for each in _explained_first(differences)[:MAX_SHOWN]]
    return "; ".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def _hint(differences: Sequence[ExplainedDifference]) -> str:
    hints = list(dict.fromkeys(each.hint for each in _explained_first(differences) if each.hint))
    return "; ".join(hints[:2]) or HINT


def _explained_first(differences: Sequence[ExplainedDifference]) -> list[ExplainedDifference]:
    return sorted(differences, key=lambda each: each.cause is None)
