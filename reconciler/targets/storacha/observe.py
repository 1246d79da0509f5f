"""What the uploads of a space amount to. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.content.car_shard import CutShards
from reconciler.content.cid import Cid
from reconciler.targets.interface import Expected, Observation, State
from reconciler.targets.storacha.wire import Upload


def observation(one: Expected, uploads: Mapping[Cid, Upload]) -> Observation:
    """What the space holds of one root, by its own word: the service shows which CARs it stored."""
    upload = uploads.get(one.root)
    if upload is None:
        return Observation(one.root, State.ABSENT, checked="the space does not list it")
    if one.pieces is None or not upload.shards:
        missing = "no record names its CARs" if one.pieces is None else "the service names none of its CARs"
        return Observation(one.root, State.HELD, checked=f"the space lists it; {missing}")
    ours = {str(each.cid) for each in one.pieces.shards}
    there = ours & upload.shards
    if not there:
        return Observation(
            one.root,
            State.HELD,
            checked=f"the space lists it in {_cars(len(upload.shards))}, none of which is ours",
            detail="uploaded by other software in other CARs, so its pieces are not known",
        )
    if there != ours:
        return Observation(
            one.root,
            State.PARTIAL,
            checked=f"the space lists {len(there)} of its {_cars(len(ours))}",
            detail=f"{_cars(len(ours - there))} of {len(ours)} missing",
        )
    pieces = tuple(each.piece for each in one.pieces.shards)
    return Observation(
        one.root, State.HELD, checked=f"the space lists it with {_cars(len(ours))} of ours", pieces=pieces
    )


def covered(upload: Upload | None, pieces: CutShards) -> bool:
    """Whether an upload has every CAR of `pieces`; one whose CARs are not named has."""
    if upload is None:
        return False
    return not upload.shards or upload.shards >= {str(each.cid) for each in pieces.shards}


def _cars(count: int) -> str:
    return "1 CAR" if count == 1 else f"{count:,} CARs"
