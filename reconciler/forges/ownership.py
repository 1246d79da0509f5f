"""How a commit of ours is told from a person's.

An author name does not tell: a local proposal is made in the user's own name, and a personal access token
acts as its owner. So every commit of ours ends in a trailer that names its own tree. An amended, rebased,
merged or new commit of a person has another tree or no trailer, and counts as theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

TRAILER = "Reconciler-Tree"


def sign(message: str, tree: str) -> str:
    """The commit message with our trailer; `tree` is the commit's tree in hex."""
    return f"{message.rstrip()}\n\n{TRAILER}: {tree}\n"


def is_ours(message: str, tree: str) -> bool:
    """Whether a commit with this message and tree was made by us and not changed since."""
    lines = message.rstrip().splitlines()
    return bool(lines) and lines[-1] == f"{TRAILER}: {tree}"


class AnyCommit(Protocol):
    """What has to be known of a commit, wherever it is from."""

    @property
    def sha(self) -> str:
        """Its id in hex."""

    @property
    def tree(self) -> str:
        """Its tree's id in hex."""

    @property
    def author(self) -> str:
        """Its author's name."""

    @property
    def message(self) -> str:
        """The whole message."""


def foreign(commits: Sequence[AnyCommit], most: int) -> str:
    """What among a branch's commits is not ours, worded for a user; "" when all are ours.

    A branch with `most` commits or more may have others that were not looked at; ours never has more than
    one.
    """
    for commit in commits:
        if not is_ours(commit.message, commit.tree):
            return f"it carries commit {commit.sha[:12]} by {commit.author!r}, and is left alone"
    return "it carries more commits than we make, and is left alone" if len(commits) >= most else ""
