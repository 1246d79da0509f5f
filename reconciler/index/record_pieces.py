"""The pieces of a record: from JSON to values and back.

One entry for each way the bundle was cut into CARs; of these, everything a record says must fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.content import piece_cid
from reconciler.content.car import Cut, Naming, overhead
from reconciler.content.car_shard import CarShard, CutShards, parse_car_cid
from reconciler.errors import DataError, InvalidIndex, Where
from reconciler.index.problems import shown

_MAX_COUNT = 2**53 - 1
_NAMINGS = tuple(naming.value for naming in Naming)


def render_pieces(pieces: tuple[CutShards, ...]) -> list[dict[str, object]]:
    """The JSON value of `pieces`, in an order of their own."""
    return [
        {
            "max_bytes": each.cut.max_bytes,
            "roots": each.cut.naming.value,
            "shards": [
                {"car": str(shard.cid), "size": shard.size, "piece": str(shard.piece)}
                for shard in each.shards
            ],
        }
        for each in in_order(pieces)
    ]


def in_order(pieces: tuple[CutShards, ...]) -> tuple[CutShards, ...]:
    """`pieces` as a record keeps them."""
    return tuple(sorted(pieces, key=lambda each: (each.cut.max_bytes, each.cut.naming.value)))


def piece_difference(old: CutShards, new: CutShards) -> str:
    """What the first difference of two lists of CARs of one cut is: `old`'s value, not `new`'s."""
    if len(old.shards) != len(new.shards):
        return f"{len(old.shards)} CARs of at most {old.cut.max_bytes} bytes, not {len(new.shards)}"
    number, was, found = next(
        (n, a, b) for n, (a, b) in enumerate(zip(old.shards, new.shards, strict=True), 1) if a != b
    )
    if was.piece != found.piece:
        return f"CAR {number} of {len(old.shards)} is piece {was.piece}, not {found.piece}"
    return f"CAR {number} of {len(old.shards)} is {was.cid}, not {found.cid}"


def parse_pieces(value: object, car_size: int, where: Where) -> tuple[CutShards, ...]:
    """The pieces that the JSON `value` says of a bundle whose one CAR has `car_size` bytes.

    Raises InvalidIndex, pointing at `where`.
    """
    pieces = tuple(_entry(entry, where) for entry in _list(value, "'pieces'", where))
    if len({each.cut for each in pieces}) != len(pieces):
        raise InvalidIndex("'pieces' has one way of cutting twice", where=where)
    for each in pieces:
        size = sum(shard.size for shard in each.shards)
        if size != car_size + overhead(each.cut, len(each.shards)):
            raise InvalidIndex(
                f"{len(each.shards)} CARs of at most {each.cut.max_bytes} bytes are {size} bytes together; "
                f"a CAR of {car_size} bytes is never cut like that",
                where=where,
            )
    return pieces


def _entry(value: object, where: Where) -> CutShards:
    entry = _object(value, ("max_bytes", "roots", "shards"), where)
    if entry["roots"] not in _NAMINGS:
        raise InvalidIndex(f"'roots' must be one of {', '.join(_NAMINGS)}", where=where)
    cut = Cut(_count(entry["max_bytes"], "max_bytes", where), Naming(entry["roots"]))
    shards = tuple(_shard(shard, cut, where) for shard in _list(entry["shards"], "'shards'", where))
    return CutShards(cut, shards)


def _shard(value: object, cut: Cut, where: Where) -> CarShard:
    fields = _object(value, ("car", "size", "piece"), where)
    size = _count(fields["size"], "size", where)
    try:
        cid, piece = parse_car_cid(str(fields["car"])), piece_cid.parse(str(fields["piece"]))
    except DataError as error:
        raise InvalidIndex(error.message, hint=error.hint, where=where) from None
    if size > cut.max_bytes or size != piece.size:
        raise InvalidIndex(
            f"a CAR of {size} bytes does not fit: at most {cut.max_bytes} may be, its piece has {piece.size}",
            where=where,
        )
    return CarShard(cid, size, piece)


def _list(value: object, what: str, where: Where) -> list[object]:
    if not isinstance(value, list) or not value:
        raise InvalidIndex(f"{what} must be a list that is not empty", where=where)
    return value


def _object(value: object, keys: tuple[str, ...], where: Where) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidIndex("a JSON object should stand in 'pieces'", where=where)
    for key in sorted(set(keys) ^ value.keys()):
        raise InvalidIndex(
            f"{'missing' if key in keys else 'unknown'} key {shown(key)} in 'pieces'", where=where
        )
    return value


def _count(value: object, name: str, where: Where) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_COUNT:
        raise InvalidIndex(f"{name!r} must be a whole number of at least 1", where=where)
    return value
