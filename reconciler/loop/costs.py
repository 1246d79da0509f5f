"""The costs of a plan on targets that are paid for what they keep, and the spending limits it would break."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from reconciler.content.car import Sharding, shard_spans
from reconciler.content.dag import DagLayout
from reconciler.errors import PeerError, Reason, ReconcilerError
from reconciler.index.model import Version
from reconciler.loop.changes import DIRECTORY, SOURCE, Blocked, Change, Publish, Refusal, Repair
from reconciler.loop.settings import Drift
from reconciler.loop.workspace import Workspace
from reconciler.loop.world import World
from reconciler.targets.interface import Inventory
from reconciler.targets.pricing import PayingAccount, PlannedDelivery, Priced, Pricing


@dataclass(frozen=True, slots=True)
class PricedChanges:
    """Changes with their costs, the account of each priced target, and the limits that they would break.

    A change that cannot be paid for, or whose cost cannot be known, has become a Blocked.
    """

    changes: tuple[Change, ...]
    accounts: Mapping[str, PayingAccount]
    refusals: tuple[Refusal, ...]


def price_changes(
    changes: Sequence[Change], workspace: Workspace, world: World, drift: Drift = Drift.REPAIR
) -> PricedChanges:
    """Return `changes` with what each delivery to a priced target costs; those that `drift` only reports cost
    nothing.
    """
    made, accounts = list(changes), {}
    refused: list[Refusal] = []
    for name, target in workspace.targets.items():
        if not isinstance(target, Priced) or not isinstance(world.inventories.get(name), Inventory):
            continue
        numbers = [
            number
            for number, change in enumerate(changes)
            if isinstance(change, (Publish, Repair))
            and change.target == name
            and not (change.drift and drift is Drift.REPORT)
        ]
        deliveries = [_delivery(changes[number], workspace) for number in numbers]
        try:
            pricing = target.price(deliveries)
        except PeerError as error:
            for number in numbers:
                made[number] = _not_made(changes[number], Reason.from_error(error), unknown=True)
            continue
        accounts[name] = pricing.account
        refused += _refusals(name, pricing)
        for number, quote in zip(numbers, pricing.quotes, strict=True):
            change = changes[number]
            if pricing.shortfalls:
                made[number] = _not_made(change, _joined(pricing.shortfalls))
            elif isinstance(change, (Publish, Repair)):
                made[number] = replace(change, cost=quote)
    return PricedChanges(tuple(made), accounts, tuple(refused))


def read_accounts(workspace: Workspace, world: World) -> tuple[dict[str, PayingAccount], list[str]]:
    """Return the account of each priced target, by its name, and notes about those that cannot be read."""
    accounts, notes = {}, []
    for name, target in workspace.targets.items():
        if isinstance(target, Priced) and isinstance(world.inventories.get(name), Inventory):
            try:
                accounts[name] = target.price(()).account
            except PeerError as error:
                notes.append(f"{name}: the account cannot be read: {error.message}")
    return accounts, notes


def _refusals(name: str, pricing: Pricing) -> Iterable[Refusal]:
    return (Refusal("spending", f"{name}: {each.text}", each.hint) for each in pricing.refusals)


def _joined(reasons: Sequence[Reason]) -> Reason:
    hints = dict.fromkeys(each.hint for each in reasons if each.hint)
    return Reason("; ".join(each.text for each in reasons), "; ".join(hints))


def _not_made(change: Change, reason: Reason, *, unknown: bool = False) -> Blocked:
    return Blocked(
        model=change.model,
        version=change.version,
        target=change.target,
        root=change.root,
        reason=reason.text,
        hint=reason.hint,
        unknown=unknown,
        drift=change.drift and not unknown,
    )


def _delivery(change: Change, workspace: Workspace) -> PlannedDelivery:
    """Return what a change would send to its target; the sizes of its CARs without reading its files."""
    assert isinstance(change, (Publish, Repair))  # noqa: S101 - the caller selects them
    version = next(each for each in workspace.selection.versions if each.ref == change.ref)
    sharding = workspace.targets[change.target].capabilities.sharding or Sharding(1 << 62)
    record = workspace.records.get(change.ref)
    recorded = record.pieces if record is not None and record.cid == change.root else ()
    pieces = next((each for each in recorded if each.sharding == sharding), None)
    pieces = pieces or workspace.sources.known_pieces(change.ref, sharding)
    if pieces is not None:
        return PlannedDelivery(
            change.root, change.label, tuple(shard.size for shard in pieces.shards), pieces
        )
    layout = _layout(change, version, workspace)
    if layout is not None:
        with suppress(ValueError):  # a block does not fit: the delivery will say so
            sizes = tuple(span.size for span in shard_spans(layout, sharding))
            return PlannedDelivery(change.root, change.label, sizes)
    known = change.size if isinstance(change, Publish) else None
    size = known or (record.car_size if record is not None else 0)
    full, rest = divmod(size, sharding.max_bytes)
    return PlannedDelivery(
        change.root, change.label, (sharding.max_bytes,) * full + ((rest,) if rest else ())
    )


def _layout(change: Publish | Repair, version: Version, workspace: Workspace) -> DagLayout | None:
    """Return the layout of the root, from its own directory or from a source; None when none has it."""
    dag = workspace.sources.dag(version)
    if dag is not None and dag.layout.root == change.root:
        return dag.layout
    for name in change.sources:
        if name in (DIRECTORY, SOURCE) or not workspace.targets[name].capabilities.serves_blocks:
            continue
        try:
            with closing(workspace.targets[name].dag(change.root)) as found:
                return found.layout
        except ReconcilerError:
            continue
    return None
