"""Which pins of ours nothing asks for any more. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.content.cid import Cid
from reconciler.index.model import Version
from reconciler.loop.changes import Unpin
from reconciler.loop.select import Selection
from reconciler.loop.world import World
from reconciler.targets.interface import Inventory


def removals(selection: Selection, world: World) -> Iterator[Unpin]:
    """Pins with our mark that nothing in the index asks for, target by target."""
    index = selection.index
    for spec in selection.targets:
        inventory = world.inventories[spec.name]
        if not isinstance(inventory, Inventory):
            continue
        one_label = world.capabilities[spec.name].one_label
        wanted = {world.root(v) for v in index.versions() if not v.retired and spec.name in v.targets}
        for pin in inventory.owned:
            model, _, number = pin.label.removeprefix(index.mark).partition("@")
            if not selection.covers(model, number):
                continue
            version = index.models[model].versions.get(number) if model in index.models else None
            reason = _why_unwanted(version, spec.name, pin.root)
            if not reason:
                continue
            if one_label and pin.root in wanted:
                continue  # a Relabel replaces the label; taking it off would take the bytes with it
            yield Unpin(
                model=model, version=number, target=spec.name, root=pin.root, label=pin.label, reason=reason
            )


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
