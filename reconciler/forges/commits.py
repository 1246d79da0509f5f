"""Commits of a proposal's branch: their messages, and which of them are ours.

An author name does not identify our commits: a local proposal is made in the user's own name, and a personal
access token acts as its owner. So each of our commits ends in a trailer with the id of its own tree. A commit
that a person amended, rebased, merged or added has another tree or no trailer, and counts as foreign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRAILER = "Reconciler-Tree"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: ids in hex, the author's name and email, and the whole message.

    `verified` is whether the forge shows its signature as verified; None in a local repository.
    """

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: str
    message: str
    verified: bool | None = None
    email: str = ""

    @property
    def identity(self) -> str:
        """The author as in a trailer: `Name <email>`."""
        return f"{self.author} <{self.email}>"


def sign(message: str, tree: str, signed_off_by: str | None = None) -> str:
    """Return the commit message with our trailer; `tree` is the id of the commit's tree in hex.

    `signed_off_by` is `Name <email>` for a line `Signed-off-by`, None without one.
    """
    sign_off = "" if signed_off_by is None else f"Signed-off-by: {signed_off_by}\n"
    return f"{message.rstrip()}\n\n{sign_off}{TRAILER}: {tree}\n"


def is_current(commit: Commit, tree: str, parent: str, message: str, *, sign_off: bool) -> bool:
    """Return whether `commit` is what we would make now, by whichever author it was made."""
    wanted = sign(message, tree, commit.identity if sign_off else None)
    same = commit.message.strip() == wanted.strip()
    return commit.tree == tree and commit.parents == (parent,) and same


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
