"""What the policy for deals makes of the world: changes and notes. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.content.cid import Cid
from reconciler.deals.policy import Decision, Place, Verdict, by_piece, decide
from reconciler.index.model import Version
from reconciler.loop.changes import Blocked, Change
from reconciler.loop.select import Selection
from reconciler.loop.version_changes import blocked, publish, wait
from reconciler.loop.world import Unreachable, World
from reconciler.targets.interface import Capabilities, Observation, State


def decision_of(version: Version, seen: Observation, able: Capabilities) -> Decision | None:
    """What the policy says of the deals on a target that holds the version; None where there is none."""
    if version.deals is None or able.cut is None or seen.state is not State.HELD:
        return None
    place = Place(writes=able.takes_bytes, renews=able.renews_deals)
    return decide(version.deals, by_piece(seen.pieces, seen.deals), place)


def needs_bytes(version: Version, seen: Observation, able: Capabilities) -> bool:
    """Whether the bytes have to be sent again although the target holds them, so that deals are made."""
    decision = decision_of(version, seen, able)
    return decision is not None and decision.verdict is Verdict.PUBLISH


def deal_change(
    version: Version,
    target: str,
    root: Cid,
    decision: Decision,
    *,
    label: str,
    sources: tuple[str, ...],
    size: int | None,
) -> Change | None:
    """The change that `decision` asks for on one target, or None when the deals are enough."""
    reason = f"deals: {decision.reason}"
    match decision.verdict:
        case Verdict.SATISFIED:
            return None
        case Verdict.WAIT:
            return wait(version, target, root, reason)
        case Verdict.PUBLISH if sources:
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
        if world.capabilities[target].cut is not None or isinstance(world.inventories[target], Unreachable):
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
        for version in selection.kept if able.cut is not None else ():
            root = world.root(version)
            seen = world.observation(spec.name, root) if root is not None else None
            if seen is not None and spec.name in version.targets:
                decision = decision_of(version, seen, able)
                count += decision is not None and decision.unconfirmed
        if count:
            versions = "1 version" if count == 1 else f"{count:,} versions"
            yield f"{spec.name}: deals of {versions} are only claimed: no chain confirmed them"
