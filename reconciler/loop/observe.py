"""Every target looked at once, side by side. One that cannot be looked at is unknown, never absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from reconciler.errors import ReconcilerError
from reconciler.loop.stopping import Stoppable
from reconciler.loop.world import Unreachable
from reconciler.targets.interface import Check, Expected, Inventory, Target


def observe(
    targets: Sequence[Target],
    expected: Mapping[str, Sequence[Expected]],
    check: Check,
    mark: str,
    progress: Stoppable,
) -> dict[str, Inventory | Unreachable]:
    """Observe each target for the roots `expected` of it (by target name). Never raises for a sick target.

    On KeyboardInterrupt the other lanes are stopped as well.
    """

    def look(target: Target) -> Inventory | Unreachable:
        try:
            return target.observe(expected.get(target.name, ()), check, mark, progress)
        except ReconcilerError as error:
            return Unreachable(str(error), error.hint or "")
        except OSError as error:
            return Unreachable(f"{error.filename or target.name}: {error.strerror or error}")

    if len(targets) == 1:
        return {targets[0].name: look(targets[0])}
    with ThreadPoolExecutor(max_workers=max(1, len(targets))) as pool:
        futures = {target.name: pool.submit(look, target) for target in targets}
        try:
            return {name: future.result() for name, future in futures.items()}
        except KeyboardInterrupt:
            progress.stop()
            raise
