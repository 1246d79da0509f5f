"""The names of proposal branches: one for each index of a repository.

The first index that proposes uses `PROPOSAL_BRANCH`; one that finds it taken uses a branch of its own, named
after its place. That name is beside `PROPOSAL_BRANCH` and not below it, since git cannot have both `a` and
`a/b` as branches.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.forges.interface import PROPOSAL_BRANCH


@dataclass(frozen=True, slots=True)
class BranchNames:
    """The two branches that an index may propose on."""

    own: str
    shared: str = PROPOSAL_BRANCH

    @classmethod
    def of(cls, index_path: str) -> BranchNames:
        """Return the names for the index at `index_path` in its repository."""
        folder = re.sub(r"[^a-z0-9]+", "-", index_path.lower().removesuffix("releases/index.yaml")).strip("-")
        digest = hashlib.sha256(index_path.encode()).hexdigest()[:8]
        return cls("-".join(part for part in (PROPOSAL_BRANCH, folder[-40:].strip("-"), digest) if part))

    def choose(self, is_ours: Callable[[str], bool | None]) -> str:
        """Return the branch to use.

        `is_ours` returns None for a branch that does not exist, and whether one that exists has our proposal
        or none.
        """
        shared = is_ours(self.shared)
        if shared or (shared is None and is_ours(self.own) is None):
            return self.shared
        return self.own
