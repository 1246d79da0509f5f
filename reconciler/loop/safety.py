"""The safety rules: which plans a run refuses, each with its exact override. Pure.

The plan is shown first, then a refusal stops the run before it changes anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.errors import Reason
from reconciler.index.history import Violation
from reconciler.index.model import Index
from reconciler.loop.changes import Change, Refusal, Unpin
from reconciler.targets.interface import Inventory

MAX_REMOVALS = 10  #: more than this many removals on one target need an explicit number
MAX_SHARE = 0.3  #: so does more than this share of what we keep there…
SHARE_FROM = 4  #: …once we keep at least this many there


@dataclass(frozen=True, slots=True)
class SafetyLimits:
    """The limits given by the user: `removals` allowed on one target; None for the defaults."""

    removals: int | None = None


def refusals(
    index: Index,
    changes: Sequence[Change],
    inventories: Mapping[str, Inventory | Reason],
    violations: Sequence[Violation],
    limits: SafetyLimits,
) -> tuple[Refusal, ...]:
    """Return a refusal for each broken rule: frozen CIDs, protection, an emptied index, too many removals."""
    removals = [change for change in changes if isinstance(change, Unpin)]
    return (
        *(Refusal("frozen", violation.message, violation.hint) for violation in violations),
        *_protected(index, removals),
        *_too_many(index, removals, inventories, limits),
    )


def _protected(index: Index, removals: Sequence[Unpin]) -> Iterator[Refusal]:
    for change in removals:
        model = index.models.get(change.model)
        version = model.versions.get(change.version) if model else None
        if version is not None and version.protect:
            yield Refusal(
                "protect",
                f"{change.ref} is protected, and the plan would remove it from {change.target}",
                "remove `protect` from the index first, in a commit of its own",
            )


def _too_many(
    index: Index,
    removals: Sequence[Unpin],
    inventories: Mapping[str, Inventory | Reason],
    limits: SafetyLimits,
) -> Iterator[Refusal]:
    emptied = not any(not version.retired for version in index.versions())
    for target, count in Counter(change.target or "" for change in removals).items():
        inventory = inventories[target]
        kept = len(inventory.owned) if isinstance(inventory, Inventory) else 0
        if limits.removals is not None and count <= limits.removals:
            continue
        override = f"to allow this, run again with --allow-removals {count}"
        if emptied:
            yield Refusal(
                "emptied-index",
                f"the index keeps no version; the plan would remove {count} of {kept} from {target}",
                override,
            )
        elif limits.removals is not None:
            yield Refusal(
                "removals",
                f"the plan removes {count} of {kept} from {target}; --allow-removals is {limits.removals}",
                override,
            )
        elif count > MAX_REMOVALS or (kept >= SHARE_FROM and count > MAX_SHARE * kept):
            yield Refusal(
                "removals",
                f"the plan removes {count} of {kept} from {target}; "
                f"the default limits are {MAX_REMOVALS} and {MAX_SHARE:.0%}",
                override,
            )
