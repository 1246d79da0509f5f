"""The observation of a run: every target observed once, side by side, for the roots it should hold.

A target that cannot be observed is unknown, never absent. Weights are read only when a version has no CID
yet, or when the plan needs its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.errors import PeerError, Reason, ReconcilerError
from reconciler.index.load import RENEW_BEFORE
from reconciler.index.model import Version
from reconciler.index.record_check import committed_record_cid
from reconciler.index.records import record_path, records_directory
from reconciler.loop.parts import find_kept_parts
from reconciler.loop.plan import versions_needing_bytes, versions_needing_records
from reconciler.loop.select import Selection
from reconciler.loop.signatures import unsigned_versions
from reconciler.loop.sources import VersionSources
from reconciler.loop.stopping import Stoppable
from reconciler.loop.workspace import Workspace, target_shardings
from reconciler.loop.world import ListedBytes, World
from reconciler.targets.interface import Capabilities, Check, Expected, Inventory, State, Target


def observe(workspace: Workspace, check: Check, *, all_deals: bool = False) -> World:
    """Observe everything the plan needs.

    With `all_deals`, also the deals that no policy requires.
    """
    selection, sources = workspace.selection, workspace.sources
    new = [version for version in selection.active if version.cid is None]
    present = _identify(sources, new)
    listed = _list_remote(sources, new)
    outdated = _outdated_records(workspace)
    roots = _known_roots(workspace)
    recorded = {
        ref: record.pieces for ref, record in workspace.records.items() if record.cid == roots.get(ref)
    }
    for ref, known in recorded.items():
        for pieces in known:
            sources.keep_pieces(roots[ref], pieces)
    expectations = Expectations(selection, workspace.capabilities, recorded, all_deals)
    inventories = observe_targets(
        list(workspace.targets.values()),
        expectations.by_target(roots, sources),
        check,
        workspace.index.mark,
        workspace.progress,
    )
    world = World(
        inventories={**workspace.unopened, **inventories},
        capabilities={
            **{spec.name: Capabilities() for spec in selection.targets},
            **workspace.capabilities,
        },
        facts=sources.facts(),
        problems=sources.problems(),
        recorded=frozenset(workspace.recorded) - outdated.keys(),
        outdated_records=outdated,
        missing_shardings=expectations.missing_shardings(),
        unsigned=unsigned_versions(selection),
    )
    needed = {version.ref: version for version, _ in versions_needing_bytes(selection, world)}
    needed |= {version.ref: version for version in versions_needing_records(selection, world)}
    present |= _identify(sources, needed.values())
    alone = _without_bytes(world, needed.values())
    listed |= _list_remote(sources, (v for v in needed.values() if world.root(v) in alone))
    world = replace(
        world,
        present=present,
        listed={ref: found for ref, found in listed.items() if ref not in sources.facts()},
        facts=sources.facts(),
        problems=sources.problems(),
        mismatches=sources.mismatches(),
        kept_parts=find_kept_parts(selection, sources, workspace.targets),
        locked=sources.locked(),
    )
    orphans = _without_bytes(world, needed.values())
    if not orphans:
        return world
    unlisted = _unlisted_holders(workspace, orphans)
    unpinned = _unpinned_holders(workspace, orphans.difference(*unlisted.values()))
    return replace(world, unlisted_holders=unlisted, unpinned_holders=unpinned)


def _identify(sources: VersionSources, versions: Iterable[Version]) -> frozenset[str]:
    """Identify the versions whose directory is on this machine; return those, as `model@version`."""
    wanted = {version.ref: version for version in versions}
    present = sources.present(wanted.values())
    for ref, version in wanted.items():
        if ref in present and sources.dag(version) is None:
            sources.try_identify(version)
    return present


def _list_remote(sources: VersionSources, versions: Iterable[Version]) -> dict[str, ListedBytes]:
    """List the versions that have a remote source and were not read in this run, by `model@version`."""
    found = {}
    for version in versions:
        if version.source is not None and sources.dag(version) is None:
            listed = sources.try_list(version)
            if listed is not None:
                found[version.ref] = listed
    return found


def _outdated_records(workspace: Workspace) -> dict[str, Cid]:
    """Return the CIDs in records of versions without a CID in the index whose bytes give another one.

    A run left such a record, and its edit of the index was undone. A record that HEAD has was released with
    those bytes: that is a problem of the version.
    """
    sources, found = workspace.sources, {}
    facts = sources.facts()
    for version in workspace.selection.active:
        old = workspace.recorded.get(version.ref)
        if version.cid is not None or old is None or version.ref not in facts:
            continue
        root = facts[version.ref].root
        if old != root and sources.try_identify(version, fresh=True):  # a cache refuses nothing
            root = sources.facts()[version.ref].root
        if old == root or version.ref in sources.problems():
            continue
        path = record_path(records_directory(workspace.index.file), version.model, version.version)
        if committed_record_cid(path, version) != old:
            found[version.ref] = old
            continue
        sources.refuse(
            version,
            Reason(
                f"{path}: records {old}, and the files of {version.origin} have {root}; the index has no CID",
                f"to release {root}, delete {str(path)!r}; to keep the recorded content, set cid: {old}",
            ),
        )
    return found


def _known_roots(workspace: Workspace) -> dict[str, Cid]:
    """Return the root of each version that has a CID or was identified, by `model@version`."""
    facts = workspace.sources.facts()
    return {
        version.ref: version.cid or facts[version.ref].root
        for version in workspace.selection.kept
        if version.cid or version.ref in facts
    }


def _without_bytes(world: World, versions: Iterable[Version]) -> set[Cid]:
    """Return the roots of `versions` that no directory here and no target of the version has."""
    return {
        root
        for version in versions
        if (root := world.root(version)) is not None
        and version.ref not in world.facts
        and version.ref not in world.listed
        and not any(world.holders(root, states=frozenset({State.HELD})))
    }


def _unlisted_holders(workspace: Workspace, roots: set[Cid]) -> dict[str, frozenset[Cid]]:
    """Return which targets hold `roots` although no version lists them as its target, by target name."""
    able = [target for target in workspace.targets.values() if target.capabilities.serves_blocks]
    expected = {target.name: [Expected(root, ()) for root in roots] for target in able}
    seen = observe_targets(able, expected, Check.QUICK, workspace.index.mark, workspace.progress)
    return {
        name: frozenset(root for root, o in inventory.observations.items() if o.state is State.HELD)
        for name, inventory in seen.items()
        if isinstance(inventory, Inventory)
    }


def _unpinned_holders(workspace: Workspace, roots: set[Cid]) -> dict[str, frozenset[Cid]]:
    """Return which targets have the inner nodes of `roots`, although they report no pin of ours on them.

    Such blocks lie under the CIDv0 of the root, in the tree of a pin of somebody else, or under no pin. A
    publish proves the other blocks before it pins.
    """
    found: dict[str, frozenset[Cid]] = {}
    for target in workspace.targets.values():
        if not (target.capabilities.keeps_unpinned and target.capabilities.serves_blocks):
            continue
        there = set()
        for root in roots:
            try:
                with closing(target.dag(root)):
                    there.add(root)
            except PeerError:
                break
            except ReconcilerError:
                continue
        if there:
            found[target.name] = frozenset(there)
    return found


@dataclass(frozen=True, slots=True)
class Expectations:
    """The roots that each target should hold, with everything known about them on this machine.

    `capabilities` are those of the open targets, `recorded` the pieces that records name, by `model@version`.
    With `all_deals` the deals of every version are observed, else only those that a policy requires.
    """

    selection: Selection
    capabilities: Mapping[str, Capabilities]
    recorded: Mapping[str, tuple[ShardedCar, ...]]
    all_deals: bool = False

    def by_target(self, roots: Mapping[str, Cid], sources: VersionSources) -> dict[str, list[Expected]]:
        """Return what to expect of each target, one entry for each root; `roots` by `model@version`."""
        expected: dict[str, dict[Cid, Expected]] = {name: {} for name in self.capabilities}
        for version in self.selection.kept:
            root = roots.get(version.ref)
            for target in version.targets if root is not None else ():
                if target in expected and root is not None:
                    known = expected[target].get(root)
                    expected[target][root] = self._merged(version, target, root, known, sources)
        return {name: list(by_root.values()) for name, by_root in expected.items()}

    def _merged(
        self, version: Version, target: str, root: Cid, known: Expected | None, sources: VersionSources
    ) -> Expected:
        """Add the expectation of `version` to `known`, that of other versions with the same root."""
        label = self.selection.index.label(version)
        dag = sources.dag(version)
        sharding = self.capabilities[target].sharding
        recorded = (each for each in self.recorded.get(version.ref, ()) if each.sharding == sharding)
        pieces = next(recorded, None) or (known.pieces if known else None)
        if pieces is None and sharding is not None:
            pieces = sources.known_pieces(version.ref, sharding)
        others = (
            each for each in self.recorded.get(version.ref, ()) if sharding not in (None, each.sharding)
        )
        return Expected(
            root=root,
            labels=(*known.labels, label) if known else (label,),
            layout=dag.layout if dag else known.layout if known else None,
            pieces=pieces,
            renew_before=max(_renew_before(version), known.renew_before if known else timedelta(0)),
            min_deals=max(self._min_deals(version), known.min_deals if known else 0),
            min_providers=max(
                version.deals.providers if version.deals else 1, known.min_providers if known else 1
            ),
            splits=tuple(others) or (known.splits if known else ()),
        )

    def _min_deals(self, version: Version) -> int:
        if version.deals is not None:
            return version.deals.min
        return 1 if self.all_deals else 0

    def missing_shardings(self) -> dict[str, tuple[Sharding, ...]]:
        """Return the shardings of targets whose pieces the record of a version lacks, by `model@version`."""
        found = {}
        for version in self.selection.kept:
            known = {each.sharding for each in self.recorded.get(version.ref, ())}
            shardings = target_shardings(version, self.capabilities)
            if missing := tuple(each for each in shardings if each not in known):
                found[version.ref] = missing
        return found


def _renew_before(version: Version) -> timedelta:
    """Return how long before its end a deal of `version` counts as expiring."""
    return version.deals.renew_before if version.deals is not None else RENEW_BEFORE


def observe_targets(
    targets: Sequence[Target],
    expected: Mapping[str, Sequence[Expected]],
    check: Check,
    mark: str,
    progress: Stoppable,
) -> dict[str, Inventory | Reason]:
    """Observe each target in a thread of its own; `expected` has its roots by target name.

    The error of a target becomes its Reason. On KeyboardInterrupt the other threads are stopped too.
    """

    def observe_one(target: Target) -> Inventory | Reason:
        try:
            return target.observe(expected.get(target.name, ()), check, mark, progress)
        except ReconcilerError as error:
            return Reason.from_error(error)
        except OSError as error:
            return Reason(f"{error.filename or target.name}: {error.strerror or error}")

    if len(targets) == 1:
        return {targets[0].name: observe_one(targets[0])}
    with progress.threads(max(1, len(targets))) as pool:
        futures = {target.name: pool.submit(observe_one, target) for target in targets}
        return {name: future.result() for name, future in futures.items()}
