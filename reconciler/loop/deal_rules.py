"""The rules of the plan for deals: changes and notes that follow from a version's deal policy. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.deals.policy import DealAbility, DealVerdict, Decision, decide_deals, group_by_piece
from reconciler.errors import Reason
from reconciler.index.model import Version
from reconciler.loop.changes import Blocked, Change, ChangeBuilder, blocked
from reconciler.loop.select import Selection
from reconciler.loop.world import World
from reconciler.targets.interface import Capabilities, Observation, State


def deal_decision(version: Version, seen: Observation, able: Capabilities) -> Decision | None:
    """Decide on the deals of a version that the target holds.

    Return None without a policy, for a target that makes no deals, and for a version that is not held.
    """
    if version.deals is None or able.sharding is None or seen.state is not State.HELD:
        return None
    ability = DealAbility(writes=able.takes_bytes, renews=able.renews_deals)
    return decide_deals(version.deals, group_by_piece(seen.pieces, seen.deals), ability)


def deals_need_bytes(version: Version, seen: Observation, able: Capabilities) -> bool:
    """Return whether bytes that the target holds must be sent again, so that it makes new deals."""
    decision = deal_decision(version, seen, able)
    return decision is not None and decision.verdict is DealVerdict.PUBLISH


def deal_change(
    changes: ChangeBuilder, decision: Decision, sources: tuple[str, ...], size: int | None
) -> Change | None:
    """Return the change that follows from `decision`; None when there are enough deals.

    `sources` and `size` are those of a Publish.
    """
    reason = f"deals: {decision.reason}"
    match decision.verdict:
        case DealVerdict.SATISFIED:
            return None
        case DealVerdict.WAIT:
            return changes.wait(reason)
        case DealVerdict.PUBLISH if sources:
            return changes.publish(reason, sources, size)
    return changes.blocked(reason, decision.hint or "run where the weights are, or give --source-root")


def blocked_by_unsatisfiable_policy(version: Version, selection: Selection, world: World) -> Blocked | None:
    """Return a Blocked when a policy requires deals and no target of the version makes any.

    Return None when a target of the version is left out of this run or could not be observed.
    """
    names = {spec.name for spec in selection.targets}
    if version.deals is None or not names.issuperset(version.targets):
        return None
    for target in version.targets:
        if world.capabilities[target].sharding is not None or isinstance(world.inventories[target], Reason):
            return None
    return blocked(
        version,
        f"the policy requires {version.deals.min} deals, and none of its targets makes any",
        "add a target with deals, or move the policy to the models that have one",
        root=world.root(version),
    )


def unconfirmed_deals(selection: Selection, world: World) -> Iterator[str]:
    """Yield a note for each target with deals that count although no chain confirmed them."""
    for spec in selection.targets:
        able = world.capabilities[spec.name]
        count = 0
        for version in selection.kept if able.sharding is not None else ():
            root = world.root(version)
            seen = world.observation(spec.name, root) if root is not None else None
            if seen is not None and spec.name in version.targets:
                decision = deal_decision(version, seen, able)
                count += decision is not None and decision.unconfirmed
        if count:
            versions = "1 version" if count == 1 else f"{count:,} versions"
            yield f"{spec.name}: deals of {versions} are only claimed: no chain confirmed them"
