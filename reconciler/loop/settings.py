"""The options of a run. The command line and the action make these values; nothing else reads flags."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reconciler.index.locations import RepositoryLayout
from reconciler.targets.check import Check


class ProposeMode(StrEnum):
    """The place where resolved CIDs and records are written."""

    WRITE = "write"  #: the working tree
    BRANCH = "branch"  #: a commit on PROPOSAL_BRANCH; working tree and git index stay unchanged
    PULL_REQUEST = "pull-request"  #: one pull request on the forge that the environment names
    NONE = "none"  #: they are not written


class Drift(StrEnum):
    """The handling of a version that was published before and is no longer complete."""

    REPAIR = "repair"
    REPORT = "report"  #: shown, not changed
    IGNORE = "ignore"  #: left out of the plan


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of a repository that a command works on.

    `only` and `exclude` are globs of models, versions (`model@version`) and targets. Without `use_cache`
    nothing is read from caches or written to them.
    """

    layout: RepositoryLayout
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    use_cache: bool = True

    @property
    def cache(self) -> Path | None:
        """The cache directory, or None when caches are off."""
        return self.layout.cache if self.use_cache else None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a plan, which a saved plan carries.

    `base` is a git ref for the frozen-CID rule, None for the whole history. `allow_removals` is the number of
    removals allowed on one target, None for the built-in thresholds.
    """

    check: Check = Check.QUICK
    drift: Drift = Drift.REPAIR
    propose: ProposeMode = ProposeMode.WRITE
    prune: bool = False
    allow_removals: int | None = None
    base: str | None = None
