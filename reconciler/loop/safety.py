"""Which plans a run refuses, and the exact way round it. Pure.

Nothing is removed by surprise: the plan is shown first, then these rules stop the run before anything is
done.
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
    """`removals` is the number of removals a run may make on one target, as the user gave it; None: the
    defaults.
    """

    removals: int | None = None


def refusals(
    index: Index,
    changes: Sequence[Change],
    inventories: Mapping[str, Inventory | Reason],
    violations: Sequence[Violation],
    limits: SafetyLimits,
) -> tuple[Refusal, ...]:
    """Every rule the plan breaks: frozen CIDs, protected versions, an emptied index, too many removals."""
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
                "take `protect` off in the index first, in a commit of its own",
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
        override = f"if that is meant, run again with --allow-removals {count}"
        if emptied:
            yield Refusal(
                "emptied-index",
                f"the index keeps no version at all; the plan would remove {count} of {kept} from {target}",
                override,
            )
        elif limits.removals is not None:
            yield Refusal(
                "removals",
                f"the plan removes {count} of {kept} from {target}; allowed are {limits.removals}",
                override,
            )
        elif count > MAX_REMOVALS or (kept >= SHARE_FROM and count > MAX_SHARE * kept):
            yield Refusal(
                "removals",
                f"the plan removes {count} of {kept} from {target}; "
                f"without being told, at most {MAX_REMOVALS} and {MAX_SHARE:.0%} are removed",
                override,
            )
