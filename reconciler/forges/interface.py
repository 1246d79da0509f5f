"""The interface of a forge: pull requests with proposed files, and comments on them.

A proposal is one branch with one commit of ours on top of the base, and one pull request from it. Both
`ensure_` methods are level-triggered: they read the current state, do only what is missing, and may be
called again after any failure. Call `ensure_proposal` also when `ensure_branch` had nothing to do: an earlier
run may have ended in between.

Contract, tested by the suite in tests/conformance/forges.py:

- the same call again changes nothing and returns UNCHANGED;
- with a commit on the branch that is not ours, the outcome is HUMAN_EDITED and nothing is pushed;
- a request that may have been carried out is not sent again before its effect was checked;
- an error names the missing permission or setting and where to change it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.errors import UsageError

# Names that reach git's own directory on some file systems (git's `core.protectHFS` and `core.protectNTFS`).
_GIT_NAMES = {".git", "git~1"}
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)


def check_files(files: Mapping[str, bytes]) -> None:
    """Raise UsageError for a path that could leave the repository or reach git's own directory.

    Paths are relative to the repository, with `/`.
    """
    for path in files:
        if not _is_safe(path):
            raise UsageError(
                f"the path {path!r} cannot be proposed",
                hint="use a path relative to the repository, without '.', '..' or '.git' in it",
            )
    for path in files:
        for parent in parents(path):
            if parent in files:
                raise UsageError(f"{parent!r} cannot be both a file and the directory of {path!r}")


def parents(path: str) -> Iterable[str]:
    """Return the directories above `path`, outermost first: `a`, `a/b` for `a/b/c`."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _is_safe(path: str) -> bool:
    if not path or "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        return False
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return all(_is_safe_name(name) for name in path.split("/"))


def _is_safe_name(name: str) -> bool:
    folded = name.translate(_IGNORED_BY_HFS).rstrip(" .").casefold()
    return name not in {"", ".", ".."} and folded not in _GIT_NAMES and not folded.startswith(".git:")


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of a forge, in seconds: `monotonic` for durations, `now` since 1970 for rate limits."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


_NAME = re.compile(r"[a-z0-9][a-z0-9./-]*")


def marked(marker: str, body: str) -> str:
    """Return `body` after a marker that finds our comment again: an HTML comment, which Markdown hides.

    Raises UsageError for a marker that could end the HTML comment.
    """
    if not _NAME.fullmatch(marker) or "--" in marker:
        raise UsageError(
            f"invalid marker {marker!r}", hint="use lower-case letters, digits, '.', '/' and single '-'"
        )
    return f"<!-- reconciler:{marker} -->\n{body}"


PROPOSAL_BRANCH = "reconciler/resolve-cids"  #: the branch of every proposal; there is only one at a time


class CommitFiles(Protocol):
    """The files of one commit; `changed` are the paths in which it differs from the base."""

    @property
    def changed(self) -> frozenset[str]:
        """The changed paths, as far as the forge lists them."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a file; None when there is none. Raises PeerError."""


@dataclass(frozen=True, slots=True)
class Composed:
    """The content of a proposal's commit: files to set, by path in the repository, and the message."""

    files: Mapping[str, bytes]
    message: str


class BranchEdit(Protocol):
    """What a proposal does to its base. `sign_off` adds a line `Signed-off-by` with the author."""

    @property
    def sign_off(self) -> bool:
        """Whether the commit carries the sign-off of its author."""

    def owns(self, changed: frozenset[str]) -> bool:
        """Return whether a branch that changes these paths has a proposal of the same index."""

    def compose(self, base: CommitFiles, proposed: CommitFiles | None) -> Composed:
        """Return what the commit contains.

        `proposed` is the open proposal, to which the result is added; None when there is none. May raise
        ReconcilerError.
        """


@dataclass(frozen=True, slots=True)
class SetFiles:
    """The edit that sets `files`, whatever else is proposed."""

    files: Mapping[str, bytes]
    message: str
    sign_off: bool = False

    def owns(self, changed: frozenset[str]) -> bool:  # noqa: ARG002 - of every branch
        """As `BranchEdit.owns`."""
        return True

    def compose(self, base: CommitFiles, proposed: CommitFiles | None) -> Composed:  # noqa: ARG002
        """As `BranchEdit.compose`."""
        return Composed(self.files, self.message)


BODY_LIMIT = 65_536  #: characters of a proposal's body or a comment; GitHub's limit


class BranchOutcome(StrEnum):
    """The outcome of `ensure_branch`."""

    CREATED = "created"
    UPDATED = "updated"  #: new contents, or the same contents on a base that moved
    UNCHANGED = "unchanged"
    EMPTY = "empty"  #: the base has these files already; no branch was created
    TAKEN = "taken"  #: the branch has the proposal of another index and is left unchanged
    HUMAN_EDITED = "human_edited"  #: the branch has a commit that is not ours and is left unchanged


class ProposalOutcome(StrEnum):
    """The outcome of `ensure_proposal` and `close_proposal`."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    CLOSED = "closed"
    DECLINED = "declined"  #: a person closed a pull request with this content; nothing was done
    NONE = "none"  #: no pull request exists, and none is necessary


@dataclass(frozen=True, slots=True)
class BranchResult:
    """The state of the branch after a call.

    `sha` is the commit id at the tip of the branch, or of the base when the outcome is EMPTY. `verified` is
    whether the forge shows the commit's signature as verified; None when unknown, as in a local repository.
    `detail` is a message for the user.
    """

    branch: str
    sha: str
    outcome: BranchOutcome
    verified: bool | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The wanted pull request. `body` is Markdown, sent without changes.

    `labels` and `reviewers` (user names; `team:NAME` for a team) are added, never removed. `draft` applies
    only when the pull request is created.
    """

    title: str
    body: str
    base: str
    branch: str = PROPOSAL_BRANCH
    labels: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    draft: bool = False


@dataclass(frozen=True, slots=True)
class ProposalResult:
    """The pull request after a call: its number and URL, None when there is none.

    `detail` is a message for the user.
    """

    number: int | None
    url: str | None
    outcome: ProposalOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FoundProposal:
    """A pull request that exists. `merged` is false for one that is open, or was closed without a merge."""

    number: int
    url: str
    body: str
    merged: bool


class Names(Protocol):
    """The branches that an index may propose on (branch_names.py)."""

    @property
    def own(self) -> str:
        """The branch that no other index uses."""

    @property
    def shared(self) -> str:
        """The branch that the first index uses."""

    def choose(self, is_ours: Callable[[str], bool | None]) -> str:
        """Return the branch to use."""


class CommentOutcome(StrEnum):
    """The outcome of `upsert_comment`."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    NONE = "none"  #: no comment existed, and none was to be created


@dataclass(frozen=True, slots=True)
class Ability:
    """One permission that a proposal requires, and whether the token has it.

    `granted` is None when it cannot be determined without using it. `hint` says where to grant it.
    """

    name: str
    granted: bool | None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """The account and the permissions of a token, for `doctor --forge`.

    `kind` describes the kind of token for the user, such as "GitLab token".
    """

    login: str
    kind: str
    abilities: tuple[Ability, ...]
    notes: tuple[str, ...] = ()


class Forge(Protocol):
    """A server with the repository and its pull requests. Methods are called from one thread.

    Every method raises PeerError when the forge cannot be reached, denies a request or sends an unexpected
    response; the same call again completes what was left unfinished.
    """

    name: str  #: for the user, such as "GitHub"

    def locate_branch(self, names: Names, *, base: str, owns: Callable[[frozenset[str]], bool]) -> str:
        """Return which of the branches of an index to use, without changing anything. Raises PeerError."""

    def ensure_branch(
        self, edit: BranchEdit, *, base: str, branch: str = PROPOSAL_BRANCH, adds: bool = False
    ) -> BranchResult:
        """Make `branch` one commit of ours on top of `base` with what `edit` composes.

        With `adds`, the branch has an open proposal, to which the edit is added. The edit is made on the tip
        of `base`, so that it never reverts what others merged. Raises UsageError for a path that could leave
        the repository, PeerError, and what `edit` raises.
        """

    def find_proposals(self, branch: str, *, closed: bool) -> list[FoundProposal]:
        """Return the open or the closed pull requests of `branch`, newest first; old ones may be missing.

        Raises PeerError.
        """

    def ensure_proposal(self, proposal: Proposal) -> ProposalResult:
        """Open or update the pull request of `proposal.branch`. Raises PeerError, UsageError."""

    def close_proposal(self, comment: str, *, base: str, branch: str = PROPOSAL_BRANCH) -> ProposalResult:
        """Close the pull request of `branch` with `comment` and delete the branch.

        When a person edited the branch, nothing is done. Raises PeerError.
        """

    def upsert_comment(self, number: int, marker: str, body: str, *, create: bool = True) -> CommentOutcome:
        """Make one comment of ours on pull request `number` consist of the hidden `marker` and `body`.

        Without `create`, only change an existing comment. Raises PeerError, UsageError for a long body.
        """

    def access(self) -> Access:
        """Return what the token may do, without changing anything. Raises PeerError."""

    def close(self) -> None:
        """Release connections. May be called twice."""
