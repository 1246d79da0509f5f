"""The world as one run saw it: everything a plan is made from, in one frozen value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.content.car import Sharding
from reconciler.content.cid import Cid
from reconciler.index.model import Version
from reconciler.targets.interface import Capabilities, Inventory, Observation, State


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A target that could not be looked at, and what to do about it."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What identifying a version's directory found: `size` bytes of files, `car_size` bytes of the CAR."""

    root: Cid
    size: int
    car_size: int


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Why a version's own bytes cannot be used."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """Everything a plan is made from, by `model@version` or by target name.

    `present` are the versions whose directory is on this machine; `facts` those identified in this run;
    `problems` why a directory cannot be used; `recorded` the versions that have a record, `uncut` the ways in
    which a target cuts a version into pieces that its record does not have. `donors` are roots seen on
    targets that were not asked to keep them, by target name.
    """

    inventories: Mapping[str, Inventory | Unreachable]
    capabilities: Mapping[str, Capabilities]
    present: frozenset[str] = frozenset()
    facts: Mapping[str, Facts] = field(default_factory=dict)
    problems: Mapping[str, SourceProblem] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    uncut: Mapping[str, tuple[Sharding, ...]] = field(default_factory=dict)
    donors: Mapping[str, frozenset[Cid]] = field(default_factory=dict)

    def root(self, version: Version) -> Cid | None:
        """The version's root: as the index has it, or as identified."""
        if version.cid is not None:
            return version.cid
        facts = self.facts.get(version.ref)
        return facts.root if facts else None

    def observation(self, target: str, root: Cid) -> Observation | None:
        """What `target` was seen to hold of `root`; None when it could not be looked at."""
        inventory = self.inventories.get(target)
        return inventory.observations.get(root) if isinstance(inventory, Inventory) else None

    def holders(self, root: Cid, *, states: frozenset[State]) -> Iterator[str]:
        """Targets that can serve blocks of `root` and were seen to hold it in one of `states`."""
        for name, inventory in self.inventories.items():
            if not self.capabilities[name].serves_blocks or not isinstance(inventory, Inventory):
                continue
            seen = inventory.observations.get(root)
            if (seen is not None and seen.state in states) or root in self.donors.get(name, ()):
                yield name
