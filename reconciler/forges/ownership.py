"""The old name of `commits.describe_foreign`."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.forges.commits import Commit, describe_foreign


def foreign(commits: Sequence[Commit], most: int) -> str:
    """Describe the first of `commits` that is not ours; `most` is the limit they were read with."""
    return describe_foreign(commits, complete=len(commits) < most)
