"""Which paths a proposal may set: relative, POSIX, inside the repository, never git's own.

The clock a forge is asked by; tests bring their own.

Hidden markers by which our comments are found again: an HTML comment that Markdown does not show.

The one small interface behind which every forge stands.

A proposal is one branch with one commit of ours on top of the base, and one pull request of it. Both
`ensure_` calls are level-triggered: they look at what is there, do only what is missing, and may be called
again after any failure. `ensure_proposal` is meant to run even when `ensure_branch` had nothing to do, since
an earlier run may have died in between.

Contract, held by the suite in tests/conformance/forges.py:

- the same call again changes nothing and says UNCHANGED;
- a commit that is not ours on the branch ends in HUMAN_EDITED, and nothing is pushed over it;
- a request that may have been carried out is never sent again before its effect was looked for;
- an error names the permission or the setting that is missing, and where to click.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.errors import UsageError

# Names under which git's own directory is reached on some file system (git's
# `core.protectHFS`/`protectNTFS`).
_GIT_NAMES = {".git", "git~1"}
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)


def check_files(files: Mapping[str, bytes]) -> None:
    """Raise UsageError for a path that could leave the repository or reach git's own directory."""
    for path in files:
        if not _is_safe(path):
            raise UsageError(
                f"the path {path!r} cannot be proposed",
                hint="a path is relative to the repository, without '.', '..' or '.git' in it",
            )
    for path in files:
        for parent in parents(path):
            if parent in files:
                raise UsageError(f"{parent!r} cannot be both a file and the directory of {path!r}")


def parents(path: str) -> Iterable[str]:
    """The directories above `path`, outermost first: `a/b/c` gives `a`, `a/b`."""
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
    """Seconds: `monotonic` for durations, `now` since 1970 for limits that a forge gives as a date."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


_NAME = re.compile(r"[a-z0-9][a-z0-9./-]*")


def marked(marker: str, body: str) -> str:
    """`body` behind its marker. Raises UsageError for a marker that could end the HTML comment it is in."""
    if not _NAME.fullmatch(marker) or "--" in marker:
        raise UsageError(
            f"{marker!r} is no marker", hint="use lower-case letters, digits, '.', '/' and single '-'"
        )
    return f"<!-- reconciler:{marker} -->\n{body}"


PROPOSAL_BRANCH = (
    "reconciler/resolve-cids"  #: the one stable branch; a second proposal never exists beside it
)

BODY_LIMIT = 65_536  #: characters of a proposal's body or a comment; GitHub takes no more


class BranchOutcome(StrEnum):
    """What `ensure_branch` found or did."""

    CREATED = "created"
    UPDATED = "updated"  #: other contents, or the same contents on a base that moved
    UNCHANGED = "unchanged"
    EMPTY = "empty"  #: the base holds these very files: there is nothing to propose, and no branch was made
    BASE_MOVED = "base_moved"  #: the base changed these very files meanwhile; run again on the newer commit
    HUMAN_EDITED = "human_edited"  #: the branch carries a commit that is not ours; left alone


class ProposalOutcome(StrEnum):
    """What became of the pull request."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    CLOSED = "closed"
    NONE = "none"  #: there is none, and none was needed


@dataclass(frozen=True, slots=True)
class BranchResult:
    """Where the branch stands afterwards.

    `sha` is the commit at the tip of the branch, or of the base when the outcome is EMPTY. `verified` says
    whether the forge showed the commit's signature as verified; None when it does not say (a local
    repository). `detail` is worded for a user.
    """

    branch: str
    sha: str
    outcome: BranchOutcome
    verified: bool | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The pull request that should be there. Title and body are Markdown and taken as they are.

    `labels` and `reviewers` (user names; `team:NAME` for a team) are added, never taken away. `draft` counts
    when the pull request is created; afterwards people decide.
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
    """The pull request afterwards: its number and address, None when there is none.

    `detail` is for a user.
    """

    number: int | None
    url: str | None
    outcome: ProposalOutcome
    detail: str = ""


class CommentOutcome(StrEnum):
    """What `upsert_comment` did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    NONE = "none"  #: there was none, and none was to be made


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing a proposal needs, and whether the token at hand may do it.

    `granted` is None when the forge does not tell without trying. `hint` says where to grant it.
    """

    name: str
    granted: bool | None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """Who the token speaks for and what it may do, for `doctor --forge`.

    `kind` is its sort, worded for a user.
    """

    login: str
    kind: str
    abilities: tuple[Ability, ...]
    notes: tuple[str, ...] = ()


class Forge(Protocol):
    """A place that holds the repository and its pull requests. Methods are called from one thread.

    Every method raises PeerError (the forge is down, refuses, or answers nonsense; nothing is left half done
    that the same call again would not finish).
    """

    name: str  #: as a user knows it: "GitHub", "GitLab", …

    def ensure_branch(
        self,
        files: Mapping[str, bytes],
        message: str,
        *,
        base: str,
        planned: str | None = None,
        branch: str = PROPOSAL_BRANCH,
    ) -> BranchResult:
        """Make `branch` one commit of ours on top of `base` that sets `files` (repository path to contents).

        `planned` is the commit of `base` that the files were made from, when it is known: if `base` has
        changed one of them since, nothing is done (BASE_MOVED), so that a proposal never takes back what
        others merged. Raises UsageError for a path that could leave the repository, and PeerError.
        """

    def ensure_proposal(self, proposal: Proposal) -> ProposalResult:
        """Make one open pull request of `proposal.branch` say what `proposal` says. Raises PeerError."""

    def close_proposal(self, comment: str, *, base: str, branch: str = PROPOSAL_BRANCH) -> ProposalResult:
        """Close the pull request of `branch` with `comment`; delete the branch, unless a person edited it."""

    def upsert_comment(self, number: int, marker: str, body: str, *, create: bool = True) -> CommentOutcome:
        """Make exactly one comment of ours on pull request `number` carry `marker` (hidden) and `body`.

        Without `create`, only one that is there already is changed.
        """

    def access(self) -> Access:
        """Find out what the token may do; changes nothing. Raises PeerError when even that is refused."""

    def close(self) -> None:
        """Release connections. May be called twice."""
