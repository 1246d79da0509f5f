"""Which pins of ours nothing asks for any more. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Set

from reconciler.content.cid import Cid
from reconciler.index.model import Index, Version
from reconciler.loop.changes import Unpin
from reconciler.loop.select import Selection
from reconciler.loop.world import World
from reconciler.targets.interface import Inventory, Pin, State


def removals(selection: Selection, world: World, planned: Set[tuple[str, Cid]]) -> Iterator[Unpin]:
    """Pins with our mark that nothing in the index asks for, target by target.

    `planned` are the target-and-root pairs that other changes of this plan bring into order. A pin whose root
    is still wanted goes only when the root is kept without it, wherever it is wanted.
    """
    index = selection.index
    wanting = _wanting(index, world)
    for spec in selection.targets:
        inventory = world.inventories[spec.name]
        if not isinstance(inventory, Inventory):
            continue
        for pin in inventory.owned:
            model, _, number = pin.label.removeprefix(index.mark).partition("@")
            if not selection.covers(model, number):
                continue
            version = index.models[model].versions.get(number) if model in index.models else None
            reason = _why_unwanted(version, spec.name, pin.root)
            if not reason:
                continue
            if not _kept_without(pin, spec.name, wanting.get(pin.root, {}), world, planned):
                continue
            yield Unpin(
                model=model, version=number, target=spec.name, root=pin.root, label=pin.label, reason=reason
            )


def _wanting(index: Index, world: World) -> dict[Cid, dict[str, set[str]]]:
    """For each root that is to be kept: the targets that must hold it, each with the labels it may carry."""
    found: dict[Cid, dict[str, set[str]]] = {}
    for version in index.versions():
        root = world.root(version)
        if root is not None and not version.retired:
            for target in version.targets:
                found.setdefault(root, {}).setdefault(target, set()).add(index.label(version))
    return found


def _kept_without(
    pin: Pin, target: str, wanted: dict[str, set[str]], world: World, planned: Set[tuple[str, Cid]]
) -> bool:
    """Whether every target that must hold the root does so, or will, when `pin` is gone from `target`."""
    if target in wanted:
        if world.capabilities[target].one_label:
            return False  # a Relabel replaces the label; taking it off would take the bytes with it
        seen = world.observation(target, pin.root)
        if seen is not None and wanted[target].intersection(seen.labels):
            return True  # only the label goes
        if (target, pin.root) not in planned:
            return False
    for other in wanted:
        seen = world.observation(other, pin.root)
        held = seen is not None and seen.state is State.HELD
        if other != target and not held and (other, pin.root) not in planned:
            return False
    return True


def _why_unwanted(version: Version | None, target: str, root: Cid) -> str:
    """Why a pin of ours is no longer asked for; empty when it is, or when that cannot be known."""
    if version is None:
        return "not in the index any more"
    if version.retired:
        return "retired"
    if target not in version.targets:
        return f"no longer kept on {target}"
    if version.cid is not None and version.cid != root:
        return f"the index has {version.cid}"
    return ""
