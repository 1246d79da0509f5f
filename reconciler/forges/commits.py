"""Commits of a proposal's branch: which are ours, and whether a plan still fits its base.

An author name does not identify our commits: a local proposal is made in the user's own name, and a personal
access token acts as its owner. So each of our commits ends in a trailer with the id of its own tree. A commit
that a person amended, rebased, merged or added has another tree or no trailer, and counts as foreign.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

TRAILER = "Reconciler-Tree"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: ids in hex, the author's name, and the whole message.

    `verified` is whether the forge shows its signature as verified; None in a local repository.
    """

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: str
    message: str
    verified: bool | None = None


def sign(message: str, tree: str) -> str:
    """Return the commit message with our trailer; `tree` is the id of the commit's tree in hex."""
    return f"{message.rstrip()}\n\n{TRAILER}: {tree}\n"


def is_ours(message: str, tree: str) -> bool:
    """Whether a commit with this message and tree was made by us and not changed since."""
    lines = message.rstrip().splitlines()
    return bool(lines) and lines[-1] == f"{TRAILER}: {tree}"


def describe_foreign(commits: Sequence[Commit], *, complete: bool) -> str:
    """Describe the first commit that is not ours, for the user; "" when all are ours.

    Without `complete` the branch has further commits, which cannot all be ours: we make one.
    """
    for commit in commits:
        if not is_ours(commit.message, commit.tree):
            return f"the branch has commit {commit.sha[:12]} by {commit.author!r} and is left unchanged"
    return "" if complete else "the branch has more commits than we make and is left unchanged"


def describe_base_move(
    base: str, planned: str, files: Collection[str], changed: Collection[str], *, complete: bool = True
) -> str:
    """Describe why `files` made from commit `planned` no longer fit the branch `base`; "" when they do.

    `changed` are the paths that changed since; without `complete` there may be more.
    """
    conflicts = sorted(set(changed) & set(files))
    if not conflicts and complete:
        return ""
    what = f" and changed {conflicts[0]!r}" if conflicts else ""
    return f"{base!r} moved on from {planned[:12]}{what}: run again on its newest commit"


def describe_missing_commit(base: str, planned: str) -> str:
    """Describe, for the user, that the commit `planned` is not in the branch `base`."""
    return f"commit {planned[:12]}, from which the plan was made, is not in {base!r}: push it, and run again"
