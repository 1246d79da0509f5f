"""The planner: the wanted versions compared with the observed world. Pure: nothing is read or sent here.

For each version and each of its targets, the observed state decides the change: nothing for a root that is
held under one of our labels, a publish, repair or pin for bytes that are missing, a relabel, a wait, or a
blocked change that says why nothing can be done. Versions that share a root share the change. Write-backs
follow the changes of their version, removals come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from reconciler.content.cid import Cid
from reconciler.errors import Reason
from reconciler.index.label import Label
from reconciler.index.model import Index, Version
from reconciler.index.part import part_of_label
from reconciler.loop.borrowed import describe_owner, is_borrowed
from reconciler.loop.changes import (
    DIRECTORY,
    SOURCE,
    Blocked,
    Change,
    ChangeBuilder,
    Relabel,
    StreamVersion,
    Unpin,
    Wait,
    blocked,
    resolve_cid,
    unpin,
    write_record,
)
from reconciler.loop.deal_rules import (
    blocked_by_unsatisfiable_policy,
    deal_change,
    deal_decision,
    deals_need_bytes,
)
from reconciler.loop.parts import part_changes
from reconciler.loop.select import Selection
from reconciler.loop.world import World
from reconciler.targets.interface import Inventory, Observation, Pin, State

_COMPLETE = frozenset({State.HELD})
_SOME_BLOCKS = frozenset({State.HELD, State.PARTIAL})
_NEEDS_BYTES = frozenset({State.ABSENT, State.PARTIAL, State.FAILED})


# --- versions whose bytes the plan needs


def versions_needing_bytes(selection: Selection, world: World) -> Iterator[tuple[Version, str]]:
    """Yield each version and target where bytes are needed, on targets that take bytes.

    Those are roots that are absent, partial or failed there, and roots that need new deals.
    """
    names = {spec.name for spec in selection.targets}
    for version in selection.active:
        root = world.root(version)
        if root is None:
            continue
        for target in version.targets:
            if target not in names or not world.capabilities[target].takes_bytes:
                continue
            seen = world.observation(target, root)
            if seen is None:
                continue
            if seen.state in _NEEDS_BYTES or deals_need_bytes(version, seen, world.capabilities[target]):
                yield version, target


def versions_needing_records(selection: Selection, world: World) -> Iterator[Version]:
    """Yield the versions whose pieces a target holds although no record names them.

    Their deals cannot be checked until the pieces are computed, which needs the bytes.
    """
    for version in selection.active:
        root = world.root(version)
        if root is None or version.ref not in world.missing_shardings:
            continue
        if any(
            world.is_held(t, root) and world.capabilities[t].sharding is not None for t in version.targets
        ):
            yield version


# --- changes


def make_changes(
    selection: Selection, world: World, *, prune: bool, propose: bool
) -> tuple[list[Change], int]:
    """Return the changes in order, and the number of pairs of version and target that need none.

    The order is that of the versions in the index, removals last. `prune` adds the removals, `propose` the
    write-backs.
    """
    changes: list[Change] = []
    in_sync = 0
    planned: dict[tuple[str, Cid], Change] = {}
    names = [spec.name for spec in selection.targets]
    for version in selection.active:
        problem = world.problems.get(version.ref)
        if problem is not None:
            mismatch = world.mismatches.get(version.ref)
            changes.append(blocked(version, problem.text, problem.hint, mismatch=mismatch))
        if (unsigned := world.unsigned.get(version.ref)) is not None:
            changes.append(blocked(version, unsigned.text, unsigned.hint, root=version.cid))
            continue
        part = selection.parts.get(version.ref)
        if part is not None:
            changes += part_changes(version, part, world, names) if problem is None else ()
            continue
        root = world.root(version)
        if root is None:
            if problem is None:
                changes += _without_root(version, world, names)
            continue
        carried = held = False
        for target in version.targets:
            if target not in names:
                continue
            change = planned.get((target, root))  # made for another version with the same root
            if change is None or isinstance(change, Blocked):
                own = _target_change(selection, world, version, target, root, propose=propose)
                if own is None:
                    in_sync += 1
                    carried = held = True
                    continue
                if change is None or not isinstance(own, Blocked):
                    if change is not None:  # only this version has the bytes
                        changes.remove(change)
                    planned[target, root] = change = own
                    changes.append(change)
            if not isinstance(change, Relabel) and world.is_held(target, root):
                carried = held = True  # the bytes are there, only deals are missing
            carried = carried or not isinstance(change, Blocked)
        if (unsatisfiable := blocked_by_unsatisfiable_policy(version, selection, world)) is not None:
            changes.append(unsatisfiable)
        if propose and carried:
            changes += _write_backs(version, root, world, held=held)
    if prune:
        acted = {key for key, change in planned.items() if not isinstance(change, (Blocked, Wait))}
        changes += removals(selection, world, acted)
    return changes, in_sync


def _without_root(version: Version, world: World, names: Sequence[str]) -> Iterator[Change]:
    """Yield the change of a version whose root is not known, and what its targets say against it."""
    listed = world.listed.get(version.ref)
    if listed is None:
        yield blocked(version, *_why_no_bytes(version, world))
        return
    able = []
    for target in version.targets:
        if target not in names:
            continue
        inventory = world.inventories[target]
        if isinstance(inventory, Reason):
            yield blocked(version, inventory.text, inventory.hint, target=target, unknown=True)
        else:
            able.append(target)
    if able:
        yield StreamVersion(
            model=version.model,
            version=version.version,
            source=listed.source,
            targets=tuple(able),
            files=listed.files,
            size=listed.size,
            divisible=any(world.capabilities[target].keeps_parts for target in able),
            reason="CID after reading",
        )


def _target_change(
    selection: Selection, world: World, version: Version, target: str, root: Cid, *, propose: bool
) -> Change | None:
    """Return the change that `root` needs on one target, or None when it needs none."""
    on = ChangeBuilder(version, target, root, selection.index.label(version))
    inventory = world.inventories[target]
    if isinstance(inventory, Reason):
        return on.blocked(inventory.text, inventory.hint, unknown=True)
    seen = inventory.observations[root]
    able = world.capabilities[target]
    match seen.state:
        case State.UNKNOWN:
            return on.blocked(seen.detail or "cannot be observed", unknown=True)
        case State.HELD:
            return _held_change(on, selection, world, seen, propose=propose)
        case State.PENDING:
            return on.wait(seen.detail)
    reason = seen.detail or (
        "not there yet" if version.cid is None else "not there, though it was published before"
    )
    if able.takes_bytes:
        delivery = _delivery(on, world, seen, reason)
        if delivery is not None:
            return delivery
        if not able.pins_by_cid:
            return on.blocked(*_why_no_bytes(version, world))
    if able.pins_by_cid:
        return on.pin(reason, tuple(_origin_targets(selection, world, version, target)))
    return on.blocked(f"{target} neither takes bytes nor fetches by CID")


def _held_change(
    on: ChangeBuilder, selection: Selection, world: World, seen: Observation, *, propose: bool
) -> Change | None:
    """Return the change of a root that the target holds: a pin of ours, its label, then its deals."""
    if seen.takes_own_pin and is_borrowed(seen, selection, world, on.target):
        reason = f"held only by {describe_owner(seen.labels)}"
        return on.pin(reason, tuple(_origin_targets(selection, world, on.version, on.target)), drift=False)
    relabel = _label_change(on, selection, world, seen)
    decision = deal_decision(on.version, seen, world.capabilities[on.target])
    if relabel is not None or decision is None:
        return relabel
    if propose and not seen.pieces and _will_be_recorded(on.version, world):
        return on.wait("deals: they cannot be checked before its pieces are recorded")
    sources = tuple(_byte_sources(world, on.version, on.root, but=on.target))
    return deal_change(on, decision, sources, _car_size(on.version, world))


def _delivery(on: ChangeBuilder, world: World, seen: Observation, reason: str) -> Change | None:
    """Return the change that sends the missing bytes, or None when no directory and no target has them."""
    partial = seen.state is State.PARTIAL
    sources = tuple(_byte_sources(world, on.version, on.root, but=None if partial else on.target))
    lost = _lost_everywhere(world, on.root, sources)
    if lost:
        hint = _why_no_bytes(on.version, world)[1]
        return on.blocked(f"{lost} of its blocks are missing everywhere: {reason}", hint)
    if not sources:
        return None
    if partial:
        return on.repair(reason, sources, seen.damaged)
    return on.publish(reason, sources, _car_size(on.version, world))


def _label_change(on: ChangeBuilder, selection: Selection, world: World, seen: Observation) -> Relabel | None:
    """Return a Relabel when no version of this index wants the root under a label it carries.

    Where a root carries several labels, also when only others hold it: it would be gone with their next
    prune. A foreign pin on a target with one label is left alone: only `adopt` takes it over.
    """
    index = selection.index
    ours = [label for label in seen.labels if label.startswith(index.mark)]
    if on.label in ours:
        return None
    if not ours and (world.capabilities[on.target].one_label or not seen.labels):
        return None
    sharing = {
        index.label(v)
        for v in index.versions()
        if world.root(v) == seen.root and not v.retired and on.target in v.targets
    }
    if sharing.intersection(ours):
        return None
    return on.relabel((ours or seen.labels)[0])


def _write_backs(version: Version, root: Cid, world: World, *, held: bool) -> Iterator[Change]:
    """Yield what the proposal writes for a version whose bytes were identified in this run."""
    if version.cid is None:
        yield resolve_cid(version, root, held=held)
    if not world.has_bytes(version):
        return
    shardings = world.missing_shardings.get(version.ref, ())
    recorded = version.ref in world.recorded
    if shardings or not recorded:
        yield write_record(
            version,
            root,
            world.facts[version.ref].size,
            shardings,
            recorded=recorded,
            held=held,
            replaces=world.outdated_records.get(version.ref),
        )


def _will_be_recorded(version: Version, world: World) -> bool:
    """Return whether a proposal adds pieces of the version to its record."""
    return world.has_bytes(version) and bool(world.missing_shardings.get(version.ref))


# --- where bytes come from


def _byte_sources(world: World, version: Version, root: Cid, but: str | None) -> Iterator[str]:
    """Yield the sources of the bytes of `root`: the version's own directory, else the targets that hold it.

    A remote source comes after the targets that are complete: nothing leaves it twice. Damaged targets are
    used only when nothing is complete, all together: the good blocks of one fill the gaps of the others.
    """
    remote = version.source is not None
    if world.has_bytes(version) and not remote:
        yield DIRECTORY
        return
    complete = [name for name in world.holders(root, states=_COMPLETE) if name != but]
    yield from complete
    if remote and not complete and (version.ref in world.listed or world.has_bytes(version)):
        yield SOURCE
    elif not complete:
        for name in world.holders(root, states=_SOME_BLOCKS):
            seen = world.observation(name, root)
            if name != but and not (seen is not None and seen.nothing_left):
                yield name
        yield from (name for name, roots in world.unpinned_holders.items() if root in roots)


def _lost_everywhere(world: World, root: Cid, sources: tuple[str, ...]) -> int:
    """Return how many blocks are known to be damaged on every one of `sources`."""
    lost: set[Cid] | None = None
    for name in sources:
        seen = world.observation(name, root) if name not in (DIRECTORY, SOURCE) else None
        if seen is None or not seen.damaged:
            return 0
        lost = set(seen.damaged) if lost is None else lost.intersection(seen.damaged)
    return len(lost or ())


def _origin_targets(selection: Selection, world: World, version: Version, target: str) -> Iterator[str]:
    """Return the version's other targets that serve blocks, to be named to a target that fetches by CID."""
    names = {spec.name for spec in selection.targets}
    return (
        name
        for name in version.targets
        if name != target and name in names and world.capabilities[name].serves_blocks
    )


def _why_no_bytes(version: Version, world: World) -> tuple[str, str]:
    """Return why no bytes are available, and a hint."""
    if version.origin is None:
        return (
            "no target holds it, and the index names neither a path nor a source for it",
            "add a path or a source, or a target that holds it",
        )
    if version.source is not None:
        return f"{version.source} could not be read, and no target holds the bytes", ""
    if (locked := world.locked.get(version.ref)) is not None:
        return f"no target holds the bytes, and {locked.text}", locked.hint
    if version.ref not in world.present:
        return (
            f"{version.path} is not on this machine, and no target holds the bytes",
            "run where the weights are, or give --source-root",
        )
    return "its bytes could not be read", ""


def _car_size(version: Version, world: World) -> int | None:
    facts = world.facts.get(version.ref)
    return facts.car_size if facts else None


# --- removals


def removals(selection: Selection, world: World, planned: Set[tuple[str, Cid]]) -> Iterator[Unpin]:
    """Yield an Unpin for each pin with our mark that the index does not want, target by target.

    `planned` are the pairs of target and root that other changes of this plan complete. A pin whose root is
    still wanted is removed only when every target that must hold the root does so without it.
    """
    index = selection.index
    wanting: dict[Cid, dict[str, set[str]]] | None = None  # only made where a pin is not wanted
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
            known = index.models.get(model)
            version = known.versions.get(number) if known else None
            if version.suspended if version else known is not None and known.suspended:
                continue
            reason = _why_unwanted(version, spec.name, pin.root)
            if part_of_label(label) is not None:
                reason = _why_part_is_unwanted(version, spec.name, world)
            if not reason:
                continue
            wanting = _wanted_roots(index, world) if wanting is None else wanting
            if _kept_without(pin, spec.name, wanting.get(pin.root, {}), world, planned):
                yield unpin(label, spec.name, pin.root, reason)


def _wanted_roots(index: Index, world: World) -> dict[Cid, dict[str, set[str]]]:
    """Return for each wanted root the targets that must hold it, each with the labels it may carry."""
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
    """Return whether every target that must hold the root does so, or will, without `pin` on `target`."""
    if target in wanted:
        if world.capabilities[target].one_label:
            return False  # a Relabel replaces the label; removing it would remove the bytes
        seen = world.observation(target, pin.root)
        if seen is not None and wanted[target].intersection(seen.labels):
            return True  # only the label is removed
        if (target, pin.root) not in planned:
            return False
    return all(
        other == target or world.is_held(other, pin.root) or (other, pin.root) in planned for other in wanted
    )


def _why_unwanted(version: Version | None, target: str, root: Cid) -> str:
    """Return why a pin of ours is no longer wanted; "" when it is, or when that is unknown."""
    if version is None:
        return "not in the index any more"
    if version.retired:
        return "retired"
    if target not in version.targets:
        return f"no longer kept on {target}"
    if version.cid is not None and version.cid != root:
        return f"the index has {version.cid}"
    return ""


def _why_part_is_unwanted(version: Version | None, target: str, world: World) -> str:
    """Return why a pin that keeps a part of a version is no longer wanted; "" when it is."""
    root = world.root(version) if version is not None else None
    if version is None or version.retired or target not in version.targets:
        return "a part of a version that is not wanted there"
    if root is not None and world.is_held(target, root):
        return "a part of a version that is complete there"
    return ""
