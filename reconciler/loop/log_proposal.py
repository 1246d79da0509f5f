"""The proposal of a checkpoint: the files of the log in the working tree, on a branch or in a pull request.

The files are computed from HEAD. Since the log of every commit of the main line is a beginning of the log of
later ones, they stay right while the base moves on; a base with a longer log needs no proposal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.errors import DataError, ReconcilerError
from reconciler.forges.branch_names import BranchNames
from reconciler.forges.interface import (
    BranchOutcome,
    CommitFiles,
    Composed,
    Proposal,
    ProposalOutcome,
    ProposalResult,
)
from reconciler.index.locations import RepositoryLayout
from reconciler.index.proposal_form import ProposalForm
from reconciler.loop.log_leaves import log_directory
from reconciler.loop.log_sequence import NextCheckpoint, write_checkpoint
from reconciler.loop.propose import PullRequests, index_place
from reconciler.loop.settings import ProposeMode
from reconciler.trust.checkpoint import parse_checkpoint
from reconciler.trust.log import CHECKPOINT
from reconciler.trust.note import encode_hash

if TYPE_CHECKING:
    from reconciler.forges.open import OpenForge

BRANCH = "reconciler/audit-log"
_NO_FORM = ProposalForm()


@dataclass
class CheckpointEdit:
    """The edit that sets the files of one checkpoint, whose path in the repository is `place`.

    Implements `ProposedEdit`. `base` is the branch that it is proposed to, `form` the demanded form.
    """

    place: str
    made: NextCheckpoint
    files: Mapping[str, bytes]
    form: ProposalForm = _NO_FORM
    base: str = ""
    requests: PullRequests | None = None

    @property
    def names(self) -> BranchNames:
        """As `ProposedEdit.names`: one branch for each log."""
        digest = hashlib.sha256(self.place.encode()).hexdigest()[:8]
        return BranchNames(f"{BRANCH}-{digest}", f"{BRANCH}-{digest}")

    @property
    def sign_off(self) -> bool:
        """As `BranchEdit.sign_off`."""
        return self.form.sign_off

    @property
    def items(self) -> Collection[str]:
        """As `ProposedEdit.items`."""
        return [f"checkpoint {self.made.checkpoint.size} {encode_hash(self.made.checkpoint.root)}"]

    def owns(self, changed: frozenset[str]) -> bool:
        """As `BranchEdit.owns`."""
        return self.place in changed

    def compose(self, base: CommitFiles, proposed: CommitFiles | None) -> Composed:  # noqa: ARG002 - replaced
        """As `BranchEdit.compose`."""
        files = {} if self._is_behind(base.read(self.place)) else dict(self.files)
        lines = [f"- {leaf.event.value} {leaf.ref}" for leaf in self.made.added]
        return Composed(files, "\n".join([self._title(), "", *lines]).rstrip() + "\n")

    def describe(self, branch: str) -> Proposal:
        """As `ProposedEdit.describe`."""
        from reconciler.forges.content_marker import add_marker

        added = self.made.added
        body = "\n".join(
            [
                f"The next checkpoint of `{self.made.checkpoint.origin}`: {self.made.checkpoint}.",
                "",
                *(f"- {leaf.event.value} `{leaf.ref}`" for leaf in added[:100]),
                *([f"- and {len(added) - 100:,} more"] if len(added) > 100 else []),
            ]
        )
        marked = add_marker(body, self.place, self.items)
        if self.requests is None:
            return Proposal(self._title(), marked, self.base, branch)
        return Proposal(
            self._title(),
            marked,
            self.base,
            branch,
            labels=self.requests.labels,
            reviewers=self.requests.reviewers,
            draft=self.requests.draft,
        )

    def _title(self) -> str:
        ours = f"Sign checkpoint {self.made.checkpoint.size:,} of the audit log"
        return self.form.titled(ours, []) if self.form.title else ours

    def _is_behind(self, data: bytes | None) -> bool:
        """Return whether the base has a checkpoint that ours does not go beyond."""
        try:
            there = parse_checkpoint(data) if data is not None else None
        except DataError:
            return False
        ours = self.made.checkpoint
        if there is None or there.size < ours.size:
            return False
        return there.size > ours.size or len(there.note.signatures) >= len(ours.note.signatures)


def propose_checkpoint(
    layout: RepositoryLayout,
    made: NextCheckpoint,
    mode: ProposeMode,
    requests: PullRequests | None,
    form: ProposalForm = _NO_FORM,
) -> tuple[str, ProposalResult | None]:
    """Write the files of a checkpoint where `mode` says; return where they are, and the pull request.

    `form` is what the repository demands of proposals. Raises ReconcilerError, and OSError.
    """
    if mode is ProposeMode.WRITE or not made.files:
        write_checkpoint(log_directory(layout.index_file), made)
        return ("written to the working tree" if made.files else "nothing to write"), None
    top, index = index_place(layout)
    beside = PurePosixPath(index).with_name("log")
    files = {str(beside / path): data for path, data in made.files.items()}
    edit = CheckpointEdit(str(beside / CHECKPOINT), made, files, form, requests=requests)
    if mode is ProposeMode.BRANCH:
        return _to_branch(top, edit), None
    assert requests is not None  # noqa: S101 - given for pull requests
    return _to_forge(edit, requests.open_forge)


def _to_branch(top: Path, edit: CheckpointEdit) -> str:
    from reconciler.forges.branch import commit_to_branch

    result = commit_to_branch(top, edit, edit.names.own)
    if result.outcome in (BranchOutcome.HUMAN_EDITED, BranchOutcome.TAKEN):
        raise ReconcilerError(result.detail, hint="merge or delete that branch, then run again")
    return f"branch {result.branch} {result.outcome.value}"


def _to_forge(edit: CheckpointEdit, open_forge: Callable[[], OpenForge]) -> tuple[str, ProposalResult | None]:
    from reconciler.forges.propose import propose

    opened = open_forge()
    edit.base = opened.base
    try:
        branch, result = propose(
            opened.forge, edit, base=opened.base, close_comment="The base branch has this checkpoint."
        )
    finally:
        opened.forge.close()
    if branch.outcome in (BranchOutcome.HUMAN_EDITED, BranchOutcome.TAKEN):
        raise ReconcilerError(branch.detail, hint="merge or delete that branch")
    if result.outcome is ProposalOutcome.DECLINED:
        return result.detail, result
    return f"pull request {result.url or ''} {result.outcome.value}", result
