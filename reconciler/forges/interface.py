"""The one small interface behind which every forge stands.

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

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

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
