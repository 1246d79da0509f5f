"""Versions whose pieces another service's migration brought to a target (`adopt --from`).

A migration copies the CARs of a service as they are. They are recognized by their piece CIDs alone, which we
compute from the bytes or know from the record, never by a name or by what a provider says. Once the record
has these pieces, the target counts them, and nothing is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.errors import ReconcilerError
from reconciler.index.model import Version
from reconciler.index.records import load_record, records_directory, records_written
from reconciler.loop.workspace import Workspace
from reconciler.loop.world import World
from reconciler.targets.interface import HoldsPieces, Inventory, PieceCopies


@dataclass(frozen=True, slots=True)
class CarriedVersion:
    """One version on one target. `split` are its CARs as the other service split them, None when unknown.

    `complete`: each of them has a copy there that is paid. `recorded`: the record has them already.
    """

    ref: str
    target: str
    root: Cid
    complete: bool = False
    recorded: bool = False
    detail: str = ""
    split: ShardedCar | None = None

    @property
    def text(self) -> str:
        """One line for the user."""
        return f"{self.target}: {self.ref}: {self.detail}"


def find_carried(workspace: Workspace, world: World, sharding: Sharding) -> Iterator[CarriedVersion]:
    """Yield every version with a CID on every target that finds pieces, as the other service split it."""
    for name, target in workspace.targets.items():
        if not isinstance(target, HoldsPieces) or not isinstance(world.inventories.get(name), Inventory):
            continue
        for version in workspace.selection.kept:
            if version.cid is None:
                continue
            found = CarriedVersion(version.ref, name, version.cid)
            split, recorded, why = _split(workspace, version, sharding)
            if split is None:
                yield replace(found, detail=why)
                continue
            copies = target.copies_of([shard.piece for shard in split.shards])
            complete = all(each.paid for each in copies.values())
            detail = _describe(list(copies.values()))
            if complete and name not in version.targets:
                detail += f"; add {name} to its targets in the index, and it counts there"
            yield replace(found, complete=complete, recorded=recorded, detail=detail, split=split)


def record_carried(workspace: Workspace, found: Sequence[CarriedVersion]) -> None:
    """Write the pieces of complete versions into their records.

    Raises InvalidIndexError when a record has other pieces, or cannot be written.
    """
    directory = records_directory(workspace.index.file)
    wanted = {}
    for each in found:
        model, _, number = each.ref.partition("@")
        record = load_record(directory, model, number)
        if each.complete and not each.recorded and each.split is not None and record is not None:
            wanted[each.ref] = replace(record, pieces=(*record.pieces, each.split))
    with records_written(directory, list(wanted.values())):
        pass


def _split(workspace: Workspace, version: Version, sharding: Sharding) -> tuple[ShardedCar | None, bool, str]:
    """Return the CARs of a version split by `sharding`, whether they are recorded, and why there are none."""
    directory = records_directory(workspace.index.file)
    record = load_record(directory, version.model, version.version)
    if record is None or record.cid != version.cid:
        return None, False, "it has no record: run reconcile where its bytes are"
    for each in record.pieces:
        if each.sharding == sharding:
            return each, True, ""
    sources = workspace.sources
    try:
        if sources.present([version]) and sources.try_identify(version):
            return sources.pieces(version.ref, sharding), False, ""
    except ReconcilerError as error:
        return None, False, error.message
    return None, False, "its record has no pieces of that service, and its bytes are not here"


def _describe(copies: Sequence[PieceCopies]) -> str:
    """Describe the copies of the pieces of one version."""
    pieces = "1 piece" if len(copies) == 1 else f"{len(copies)} pieces"
    least = min(each.paid for each in copies)
    if least:
        return f"carried over: {pieces}, {'1 copy' if least == 1 else f'{least} copies'} of each"
    there = sum(each.paid > 0 for each in copies)
    unpaid = sorted({name for each in copies for name in each.unpaid})
    others = f"; {', '.join(unpaid)} has bytes of it in no data set of the payer" if unpaid else ""
    return f"not carried over: {there} of {pieces}" + others
