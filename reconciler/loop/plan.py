"""What the policy for deals makes of the world: changes and notes. Pure functions.

Which pins of ours nothing asks for any more. Pure.

The plan: what is wanted, compared with what was observed. Pure functions; nothing is read or sent here.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from reconciler.content.cid import Cid
from reconciler.deals.policy import DealAbility, DealVerdict, Decision, by_piece, decide
from reconciler.index.label import Label
from reconciler.index.model import Index, Version
from reconciler.loop.changes import (
    DIRECTORY,
    Blocked,
    Change,
    PinRoot,
    Relabel,
    Repair,
    Unpin,
    Wait,
    blocked,
    publish,
    wait,
)
from reconciler.loop.propose import will_be_recorded, write_back
from reconciler.loop.select import Selection
from reconciler.loop.world import Unreachable, World
from reconciler.targets.interface import Capabilities, Inventory, Observation, Pin, State


def decision_of(version: Version, seen: Observation, able: Capabilities) -> Decision | None:
    """What the policy says of the deals on a target that holds the version; None where there is none."""
    if version.deals is None or able.sharding is None or seen.state is not State.HELD:
        return None
    place = DealAbility(writes=able.takes_bytes, renews=able.renews_deals)
    return decide(version.deals, by_piece(seen.pieces, seen.deals), place)


def needs_bytes(version: Version, seen: Observation, able: Capabilities) -> bool:
    """Whether the bytes have to be sent again although the target holds them, so that deals are made."""
    decision = decision_of(version, seen, able)
    return decision is not None and decision.verdict is DealVerdict.PUBLISH


def deal_change(
    version: Version,
    target: str,
    root: Cid,
    decision: Decision,
    *,
    label: Label,
    sources: tuple[str, ...],
    size: int | None,
) -> Change | None:
    """The change that `decision` asks for on one target, or None when the deals are enough."""
    reason = f"deals: {decision.reason}"
    match decision.verdict:
        case DealVerdict.SATISFIED:
            return None
        case DealVerdict.WAIT:
            return wait(version, target, root, reason)
        case DealVerdict.PUBLISH if sources:
            return publish(version, target, root, reason, label=label, sources=sources, size=size)
    hint = decision.hint or "run where the weights are, or give --source-root"
    return blocked(version, reason, hint, target=target, root=root)


def nowhere(version: Version, selection: Selection, world: World) -> Blocked | None:
    """The change of a version whose policy asks for deals that none of its targets can have.

    Said only when every target of the version takes part in this run and could be looked at.
    """
    names = {spec.name for spec in selection.targets}
    if version.deals is None or not names.issuperset(version.targets):
        return None
    for target in version.targets:
        able = world.capabilities[target]
        if able.sharding is not None or isinstance(world.inventories[target], Unreachable):
            return None
    return blocked(
        version,
        f"the policy asks for {version.deals.min} deals, and none of its targets makes any",
        "add a target with deals, or move the policy to the models that have one",
        root=world.root(version),
    )


def unconfirmed(selection: Selection, world: World) -> Iterator[str]:
    """A note for each target on which deals count that the chain did not confirm."""
    for spec in selection.targets:
        able = world.capabilities[spec.name]
        count = 0
        for version in selection.kept if able.sharding is not None else ():
            root = world.root(version)
            seen = world.observation(spec.name, root) if root is not None else None
            if seen is not None and spec.name in version.targets:
                decision = decision_of(version, seen, able)
                count += decision is not None and decision.unconfirmed
        if count:
            versions = "1 version" if count == 1 else f"{count:,} versions"
            yield f"{spec.name}: deals of {versions} are only claimed: no chain confirmed them"


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
            if pin.label == index.mark:
                continue  # names no version: another program wrote it
            label = Label(pin.label)
            model, number = label.version
            if not selection.covers(model, number):
                continue
            version = index.models[model].versions.get(number) if model in index.models else None
            reason = _why_unwanted(version, spec.name, pin.root)
            if not reason:
                continue
            if not _kept_without(pin, spec.name, wanting.get(pin.root, {}), world, planned):
                continue
            yield Unpin(
                model=model,
                version=number,
                target=spec.name,
                root=pin.root,
                label=label,
                reason=reason,
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


_WHOLE = frozenset({State.HELD})
_ANY = frozenset({State.HELD, State.PARTIAL})
_NEEDS_BYTES = frozenset({State.ABSENT, State.PARTIAL, State.FAILED})


def lacking(selection: Selection, world: World) -> Iterator[tuple[Version, str]]:
    """Each version and target where bytes are needed: absent, partial or failed there, and the target takes
    bytes.
    """
    names = {spec.name for spec in selection.targets}
    for version in selection.kept:
        root = world.root(version)
        if root is None:
            continue
        for target in version.targets:
            if target not in names or not world.capabilities[target].takes_bytes:
                continue
            seen = world.observation(target, root)
            if seen is None or seen.needs:
                continue
            if seen.state in _NEEDS_BYTES or needs_bytes(version, seen, world.capabilities[target]):
                yield version, target


def make_changes(
    selection: Selection, world: World, *, prune: bool, propose: bool
) -> tuple[list[Change], int]:
    """The changes in order (as the index lists versions, removals last), and how many pairs need nothing.

    `prune` adds the removals; `propose` adds what the proposal writes back.
    """
    changes: list[Change] = []
    in_sync = 0
    planned: dict[tuple[str, Cid], Change] = {}
    names = [spec.name for spec in selection.targets]
    for version in selection.kept:
        problem = world.problems.get(version.ref)
        if problem is not None:
            changes.append(blocked(version, problem.reason, problem.hint))
        root = world.root(version)
        if root is None:
            if problem is None:
                changes.append(blocked(version, *_no_bytes(version, world)))
            continue
        carried = held = False
        for target in version.targets:
            if target not in names:
                continue
            change = planned.get((target, root))  # another version shares the root and already asks for it
            if change is None or isinstance(change, Blocked):
                own = _on_target(selection, world, version, target, root, propose=propose)
                if own is None:
                    in_sync += 1
                    carried = held = True
                    continue
                if change is None or not isinstance(own, Blocked):
                    if change is not None:  # only this version knows a way
                        changes.remove(change)
                    planned[target, root] = change = own
                    changes.append(change)
            if not isinstance(change, Relabel) and _is_held(world, target, root):
                carried = held = True  # only its deals are wanting
            carried = carried or not isinstance(change, Blocked)
        if (missing := nowhere(version, selection, world)) is not None:
            changes.append(missing)
        if propose and carried:
            changes += write_back(version, root, world, held=held)
    if prune:
        acted = {key for key, change in planned.items() if not isinstance(change, (Blocked, Wait))}
        changes += removals(selection, world, acted)
    return changes, in_sync


def _on_target(
    selection: Selection, world: World, version: Version, target: str, root: Cid, *, propose: bool
) -> Change | None:
    """The change that brings `root` into order on one target, or None when it is."""
    inventory = world.inventories[target]
    drift = version.cid is not None
    label = selection.index.label(version)
    facts = world.facts.get(version.ref)
    size = facts.car_size if facts else None
    if isinstance(inventory, Unreachable):
        return blocked(version, inventory.reason, inventory.hint, target=target, root=root, unknown=True)
    seen = inventory.observations[root]
    able = world.capabilities[target]
    if seen.state is State.UNKNOWN:
        return blocked(version, seen.detail or "cannot be looked at", target=target, root=root, unknown=True)
    if seen.state is State.HELD:
        decision = decision_of(version, seen, able)
        relabel = _label_change(selection, world, version, target, seen)
        if relabel is not None or decision is None:
            return relabel
        if propose and not seen.pieces and will_be_recorded(version, world):
            reason = "deals: nothing can be said of them before its pieces are recorded"
            return wait(version, target, root, reason)
        return deal_change(
            version,
            target,
            root,
            decision,
            label=label,
            sources=tuple(_sources(world, version, root, but=target)),
            size=size,
        )
    if seen.state is State.PENDING:
        return wait(version, target, root, seen.detail)
    if seen.needs:
        hint = f"run again with {seen.needs}" if seen.needs.startswith("--") else seen.needs
        return blocked(version, seen.detail, hint, target=target, root=root)
    reason = seen.detail or ("not there, though it was published before" if drift else "not there yet")
    if able.takes_bytes:
        sources = tuple(
            _sources(world, version, root, but=target if seen.state is not State.PARTIAL else None)
        )
        lost = _lost_everywhere(world, root, sources)
        if lost:
            return blocked(
                version,
                f"{lost} of its blocks are nowhere: {reason}",
                _no_bytes(version, world)[1],
                target=target,
                root=root,
            )
        if sources:
            if seen.state is State.PARTIAL:
                return Repair(
                    model=version.model,
                    version=version.version,
                    target=target,
                    root=root,
                    reason=reason,
                    drift=drift,
                    label=label,
                    sources=sources,
                    damaged=seen.damaged,
                )
            return publish(version, target, root, reason, label=label, sources=sources, size=size)
        if not able.pins_by_cid:
            return blocked(version, *_no_bytes(version, world), target=target, root=root)
    if able.pins_by_cid:
        return PinRoot(
            model=version.model,
            version=version.version,
            target=target,
            root=root,
            reason=reason,
            drift=drift,
            label=label,
            sources=tuple(_origin_targets(selection, world, version, target)),
        )
    return blocked(version, f"{target} neither takes bytes nor fetches by CID", target=target, root=root)


def _is_held(world: World, target: str, root: Cid) -> bool:
    seen = world.observation(target, root)
    return seen is not None and seen.state is State.HELD


def _sources(world: World, version: Version, root: Cid, but: str | None) -> Iterator[str]:
    """Where the bytes of `root` come from, best first: the version's own directory, then targets that hold
    it.

    A damaged target is asked last, and only together with another: its good blocks fill the gaps of the rest.
    """
    own = version.ref in world.facts and version.ref not in world.problems
    if own:
        yield DIRECTORY
        return
    whole = [name for name in world.holders(root, states=_WHOLE) if name != but]
    yield from whole
    if not whole:
        for name in world.holders(root, states=_ANY):
            seen = world.observation(name, root)
            if name != but and not (seen is not None and seen.nothing_left):
                yield name


def _lost_everywhere(world: World, root: Cid, sources: tuple[str, ...]) -> int:
    """How many blocks are known to be damaged on every one of `sources`, so that nobody can put them back."""
    lost: set[Cid] | None = None
    for name in sources:
        seen = world.observation(name, root) if name != DIRECTORY else None
        if seen is None or not seen.damaged:
            return 0
        lost = set(seen.damaged) if lost is None else lost.intersection(seen.damaged)
    return len(lost or ())


def _origin_targets(selection: Selection, world: World, version: Version, target: str) -> Iterator[str]:
    """The other targets of the version that serve its blocks, whose addresses help a target that fetches by
    CID.
    """
    names = {spec.name for spec in selection.targets}
    return (
        name
        for name in version.targets
        if name != target and name in names and world.capabilities[name].serves_blocks
    )


def _label_change(
    selection: Selection, world: World, version: Version, target: str, seen: Observation
) -> Change | None:
    """A Relabel when the root is held only under labels of ours that no version asks for there any more, or
    only for others, where a root carries several labels: theirs would be gone with their next prune.
    """
    index = selection.index
    ours = [label for label in seen.labels if label.startswith(index.mark)]
    if index.label(version) in ours:
        return None
    if not ours and (world.capabilities[target].one_label or not seen.labels):
        return None  # `adopt` takes a foreign pin over, on the user's word
    sharing = {
        index.label(v)
        for v in index.versions()
        if world.root(v) == seen.root and not v.retired and target in v.targets
    }
    if sharing.intersection(ours):
        return None
    old = (ours or seen.labels)[0]
    return Relabel(
        model=version.model,
        version=version.version,
        target=target,
        root=seen.root,
        reason=f"held under {old}",
        label=index.label(version),
        old=old,
    )


def _no_bytes(version: Version, world: World) -> tuple[str, str]:
    """Why no bytes can be had, and what to do."""
    if version.path is None:
        return (
            "no target holds it, and the index names no path for it",
            "add a path, or a target that holds it",
        )
    if version.ref not in world.present:
        return (
            f"{version.path} is not on this machine, and no target holds the bytes",
            "run where the weights are, or give --source-root",
        )
    return "its bytes could not be read", ""
