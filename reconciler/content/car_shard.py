"""A CAR as one blob: its own CID, and what a place that keeps CARs needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.content.car import Cut
from reconciler.content.cid import decode_base32, encode_base32
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import DataError

_PREFIX = b"\x01\x82\x04\x12\x20"  # CIDv1, codec car (0x0202), sha2-256, 32 bytes


@dataclass(frozen=True, slots=True, order=True)
class CarCid:
    """The address of a whole CAR (`bagbaiera…`): the 32-byte sha2-256 `digest` of all its bytes."""

    digest: bytes

    def __bytes__(self) -> bytes:
        return _PREFIX + self.digest

    def __str__(self) -> str:
        return encode_base32(bytes(self))


def parse_car_cid(text: str) -> CarCid:
    """The CID of a CAR from canonical text. Raises DataError."""
    data = decode_base32(text) if text.startswith("b") and len(text) < 128 else b""
    if not data.startswith(_PREFIX) or len(data) != len(_PREFIX) + 32:
        raise DataError(f"not the CID of a CAR: {text[:128]!r}", hint="it begins with 'bagbaiera'")
    return CarCid(data[len(_PREFIX) :])


@dataclass(frozen=True, slots=True)
class CarShard:
    """One CAR of a bundle: the CID and bytes (`size`) of the whole CAR, and the piece it is on Filecoin."""

    cid: CarCid
    size: int
    piece: PieceCid


@dataclass(frozen=True, slots=True)
class CutShards:
    """A bundle cut into CARs by `cut`, in their order."""

    cut: Cut
    shards: tuple[CarShard, ...]
