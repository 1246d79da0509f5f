"""What each target should hold, with everything that is known of it without asking anyone.

Every target looked at once, side by side. One that cannot be looked at is unknown, never absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.errors import ReconcilerError
from reconciler.index.load import RENEW_BEFORE
from reconciler.index.model import Version
from reconciler.loop.select import Selection
from reconciler.loop.sources import SourceDirectories
from reconciler.loop.stopping import Stoppable
from reconciler.loop.world import Unreachable
from reconciler.targets.interface import Capabilities, Check, Expected, Inventory, Target


@dataclass(frozen=True, slots=True)
class Expectations:
    """The versions of one run before the targets of `capabilities`; `recorded` are the pieces that records
    name, by `model@version`. With `all_deals` those of every version are looked at, else only where a policy
    asks for some.
    """

    selection: Selection
    capabilities: Mapping[str, Capabilities]
    recorded: Mapping[str, tuple[ShardedCar, ...]]
    all_deals: bool = False

    def of(self, roots: Mapping[str, Cid], sources: SourceDirectories) -> dict[str, list[Expected]]:
        """What to expect of each target, one entry a root; `roots` by `model@version`."""
        expected: dict[str, dict[Cid, Expected]] = {name: {} for name in self.capabilities}
        for version in self.selection.kept:
            root = roots.get(version.ref)
            for target in version.targets if root is not None else ():
                if target in expected and root is not None:
                    known = expected[target].get(root)
                    expected[target][root] = self._one(version, target, root, known, sources)
        return {name: list(by_root.values()) for name, by_root in expected.items()}

    def _one(
        self, version: Version, target: str, root: Cid, known: Expected | None, sources: SourceDirectories
    ) -> Expected:
        label = self.selection.index.label(version)
        dag = sources.dag(version)
        cut = self.capabilities[target].sharding
        recorded = (each for each in self.recorded.get(version.ref, ()) if each.sharding == cut)
        pieces = next(recorded, None) or (known.pieces if known else None)
        if pieces is None and cut is not None:
            pieces = sources.known_pieces(version.ref, cut)
        return Expected(
            root=root,
            labels=(*known.labels, label) if known else (label,),
            layout=dag.layout if dag else known.layout if known else None,
            pieces=pieces,
            renew_before=max(renew_before(version), known.renew_before if known else timedelta(0)),
            min_deals=max(self._min_deals(version), known.min_deals if known else 0),
            min_providers=max(
                version.deals.providers if version.deals else 1, known.min_providers if known else 1
            ),
        )

    def _min_deals(self, version: Version) -> int:
        if version.deals is not None:
            return version.deals.min
        return 1 if self.all_deals else 0

    def uncut(self) -> dict[str, tuple[Sharding, ...]]:
        """By `model@version`: the ways in which its targets cut it and that its record does not have."""
        found = {}
        for version in self.selection.kept:
            known = {each.sharding for each in self.recorded.get(version.ref, ())}
            if missing := tuple(cut for cut in cuts(version, self.capabilities) if cut not in known):
                found[version.ref] = missing
        return found


def cuts(version: Version, capabilities: Mapping[str, Capabilities]) -> tuple[Sharding, ...]:
    """How the targets of `version`, as far as they are in `capabilities`, cut it into pieces."""
    able = (capabilities[name].sharding for name in version.targets if name in capabilities)
    return tuple(dict.fromkeys(cut for cut in able if cut is not None))


def renew_before(version: Version) -> timedelta:
    """How long before its end a deal of `version` counts as expiring."""
    return version.deals.renew_before if version.deals is not None else RENEW_BEFORE


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
