"""Every target looked at once, side by side. One that cannot be looked at is unknown, never absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from reconciler.errors import ReconcilerError
from reconciler.loop.world import Unreachable
from reconciler.progress import Progress
from reconciler.targets.interface import Check, Expected, Inventory, Target


def observe(
    targets: Sequence[Target],
    expected: Mapping[str, Sequence[Expected]],
    check: Check,
    mark: str,
    progress: Progress,
) -> dict[str, Inventory | Unreachable]:
    """Observe each target for the roots `expected` of it (by target name). Never raises for a sick target."""

    def look(target: Target) -> Inventory | Unreachable:
        try:
            return target.observe(expected.get(target.name, ()), check, mark, progress)
        except ReconcilerError as error:
            return Unreachable(str(error), error.hint or "")

    if len(targets) == 1:
        return {targets[0].name: look(targets[0])}
    with ThreadPoolExecutor(max_workers=max(1, len(targets))) as pool:
        return dict(zip((target.name for target in targets), pool.map(look, targets), strict=True))
