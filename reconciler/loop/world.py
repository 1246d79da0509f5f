"""The observations of one run: everything a plan is made from, in one frozen value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.content.car import Sharding
from reconciler.content.cid import Cid
from reconciler.errors import Reason
from reconciler.index.model import Version
from reconciler.loop.mismatch import Mismatch
from reconciler.targets.interface import Capabilities, Inventory, Observation, State


@dataclass(frozen=True, slots=True)
class Facts:
    """The result of identifying a version's directory: `size` bytes of files, `car_size` bytes of the CAR."""

    root: Cid
    size: int
    car_size: int


@dataclass(frozen=True, slots=True)
class ListedBytes:
    """The files of a version that its source lists, unread: how many, and their bytes."""

    source: str
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything a plan is made from; the mappings are by `model@version` or by target name.

    `inventories` has a Reason for a target that could not be observed. `present` are the versions whose
    directory is on this machine, `facts` those identified in this run, `problems` the reasons why a directory
    cannot be used, `mismatches` what differs where it no longer gives the published CID. `recorded` are the
    versions that have a record, `outdated_records` the CIDs in records that a run may replace,
    `missing_shardings` the ways in which a target splits a version into pieces that its record lacks.
    `listed` are the versions whose remote source was listed and not read in this run, `locked` the published
    ones whose directory is here and whose key is not.
    `kept_parts` are the versions whose selected part a target keeps, by target name.
    `unsigned` says why versions with a CID are not signed as their index demands.
    `unlisted_holders` are roots found on targets that no version lists for them, by target name, and
    `unpinned_holders` roots whose blocks a target has without a pin of ours, looked for only when nothing
    else has them.
    """

    inventories: Mapping[str, Inventory | Reason]
    capabilities: Mapping[str, Capabilities]
    present: frozenset[str] = frozenset()
    facts: Mapping[str, Facts] = field(default_factory=dict)
    problems: Mapping[str, Reason] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    outdated_records: Mapping[str, Cid] = field(default_factory=dict)
    mismatches: Mapping[str, Mismatch] = field(default_factory=dict)
    missing_shardings: Mapping[str, tuple[Sharding, ...]] = field(default_factory=dict)
    unlisted_holders: Mapping[str, frozenset[Cid]] = field(default_factory=dict)
    unpinned_holders: Mapping[str, frozenset[Cid]] = field(default_factory=dict)
    listed: Mapping[str, ListedBytes] = field(default_factory=dict)
    kept_parts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unsigned: Mapping[str, Reason] = field(default_factory=dict)
    locked: Mapping[str, Reason] = field(default_factory=dict)

    def root(self, version: Version) -> Cid | None:
        """Return the version's root: the CID in the index, or the identified one; None when unknown."""
        if version.cid is not None:
            return version.cid
        facts = self.facts.get(version.ref)
        return facts.root if facts else None

    def observation(self, target: str, root: Cid) -> Observation | None:
        """Return what `target` holds of `root`; None when the target could not be observed."""
        inventory = self.inventories.get(target)
        return inventory.observations.get(root) if isinstance(inventory, Inventory) else None

    def is_held(self, target: str, root: Cid) -> bool:
        """Return whether `target` holds all of `root`."""
        seen = self.observation(target, root)
        return seen is not None and seen.state is State.HELD

    def has_bytes(self, version: Version) -> bool:
        """Return whether the version's own bytes were identified and can be used."""
        return version.ref in self.facts and version.ref not in self.problems

    def holders(self, root: Cid, *, states: frozenset[State]) -> Iterator[str]:
        """Yield the targets that can serve blocks of `root` and hold it in one of `states`.

        Damage that was seen counts, although the quick look at targets that nothing lists misses it.
        """
        for name, inventory in self.inventories.items():
            if not self.capabilities[name].serves_blocks or not isinstance(inventory, Inventory):
                continue
            seen = inventory.observations.get(root)
            damaged = seen is not None and seen.state is State.PARTIAL
            unlisted = root in self.unlisted_holders.get(name, ()) and not damaged
            if unlisted or (seen is not None and seen.state in states):
                yield name
