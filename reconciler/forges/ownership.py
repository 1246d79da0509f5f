"""How a commit of ours is told from a person's.

An author name does not tell: a local proposal is made in the user's own name, and a personal access token
acts as its owner. So every commit of ours ends in a trailer that names its own tree. An amended, rebased,
merged or new commit of a person has another tree or no trailer, and counts as theirs.
"""

from __future__ import annotations

TRAILER = "Reconciler-Tree"


def sign(message: str, tree: str) -> str:
    """The commit message with our trailer; `tree` is the commit's tree in hex."""
    return f"{message.rstrip()}\n\n{TRAILER}: {tree}\n"


def is_ours(message: str, tree: str) -> bool:
    """Whether a commit with this message and tree was made by us and not changed since."""
    lines = message.rstrip().splitlines()
    return bool(lines) and lines[-1] == f"{TRAILER}: {tree}"
