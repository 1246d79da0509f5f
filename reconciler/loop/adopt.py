"""Pins that carry no mark of ours: which of them are versions of the index, and taking those over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.errors import ReconcilerError
from reconciler.index.label import IMPORT_MARK, PUT_MARK, Label
from reconciler.loop.run import Run
from reconciler.loop.world import World
from reconciler.targets.interface import Inventory, Pin, State


@dataclass(frozen=True, slots=True)
class Candidate:
    """A foreign pin. `ref` is the version of the index with its root ("" when there is none), `label` ours.

    `ready` says that the target keeps the version for us and was seen to hold all of it.
    """

    target: str
    pin: Pin
    ref: str = ""
    label: Label | None = None
    ready: bool = False


def candidates(run: Run, world: World) -> Iterator[Candidate]:
    """Every foreign pin on every target that was reached."""
    versions = {version.cid: version for version in run.selection.kept if version.cid is not None}
    for name, inventory in world.inventories.items():
        if not isinstance(inventory, Inventory):
            continue
        for pin in inventory.foreign:
            version = versions.get(pin.root)
            if version is None:
                if not pin.label.startswith((PUT_MARK, IMPORT_MARK)):  # ours, though no index has them
                    yield Candidate(name, pin)
                continue
            seen = inventory.observations.get(pin.root)
            ready = seen is not None and seen.state is State.HELD
            yield Candidate(name, pin, version.ref, run.index.label(version), ready)


def take_over(run: Run, wanted: Sequence[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Put our label on each ready candidate; yields it with what went wrong ("" when nothing did)."""
    for candidate in wanted:
        if not candidate.ready or candidate.label is None:
            yield candidate, "not taken over: it is not whole there, or not kept there by the index"
            continue
        try:
            run.targets[candidate.target].adopt(candidate.pin, candidate.label)
        except ReconcilerError as error:
            yield candidate, error.message
        else:
            yield candidate, ""
