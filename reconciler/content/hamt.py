"""HAMT-sharded directories: building the shards of a directory, and reading one shard.

The key of an entry is the murmur3-x64-64 of its name as eight big-endian bytes; shard level n uses byte n as
the slot. The link of a slot with one entry is named by two hex digits and the name of the entry, the link to
a sub-shard by the two digits alone. Only the profile's fanout of 256 is supported. Source: ipfs/specs
`src/unixfs.md`.

murmur3-x64-64 is the first half of MurmurHash3_x64_128 with seed 0. It is not a cryptographic hash. Source:
Austin Appleby's public-domain MurmurHash3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content import dagpb, profile, unixfs
from reconciler.content.cid import DAG_PB, Cid
from reconciler.content.dagpb import PbLink, PbNode
from reconciler.content.unixfs import UnixFs
from reconciler.errors import DataError

_MASK = (1 << 64) - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F


def murmur3_x64_64(data: bytes) -> int:
    """Return the murmur3-x64-64 of `data`."""
    h1 = h2 = 0
    whole = len(data) - len(data) % 16
    for start in range(0, whole, 16):
        k1 = int.from_bytes(data[start : start + 8], "little")
        k2 = int.from_bytes(data[start + 8 : start + 16], "little")
        h1 ^= _mix1(k1)
        h1 = (_rotl(h1, 27) + h2) & _MASK
        h1 = (h1 * 5 + 0x52DCE729) & _MASK
        h2 ^= _mix2(k2)
        h2 = (_rotl(h2, 31) + h1) & _MASK
        h2 = (h2 * 5 + 0x38495AB5) & _MASK
    h2 ^= _mix2(int.from_bytes(data[whole + 8 :], "little"))
    h1 ^= _mix1(int.from_bytes(data[whole : whole + 8], "little"))
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    return (_finish(h1) + _finish(h2)) & _MASK


def _rotl(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mix1(k: int) -> int:
    return _rotl(k * _C1 & _MASK, 31) * _C2 & _MASK


def _mix2(k: int) -> int:
    return _rotl(k * _C2 & _MASK, 33) * _C1 & _MASK


def _finish(k: int) -> int:
    k ^= k >> 33
    k = k * 0xFF51AFD7ED558CCD & _MASK
    k ^= k >> 33
    k = k * 0xC4CEB9FE1A85EC53 & _MASK
    return k ^ k >> 33


MAX_LEVELS = 8  #: bytes of a key; a directory cannot contain two names with the same key
PREFIX = 2  #: hex digits before each name


@dataclass(frozen=True, slots=True)
class HamtShard:
    """The CID of a shard, and the serialized size of the whole DAG under it in bytes."""

    cid: Cid
    tsize: int


def build(links: Iterable[PbLink], blocks: dict[Cid, bytes]) -> HamtShard:
    """Build the HAMT over `links`, whose names are unique and have no prefix; add its blocks to `blocks`.

    Raises DataError when two names have the same 64-bit key.
    """
    return _build([(slot_key(link.name), link) for link in links], 0, blocks)


def slot_key(name: bytes) -> bytes:
    """Return the eight bytes that select the slot of `name` on each level."""
    return murmur3_x64_64(name).to_bytes(MAX_LEVELS, "big")


def _build(entries: list[tuple[bytes, PbLink]], level: int, blocks: dict[Cid, bytes]) -> HamtShard:
    if level == MAX_LEVELS:
        raise DataError(
            f"names {entries[0][1].name!r} and {entries[1][1].name!r} collide in a sharded directory"
        )
    slots: dict[int, list[tuple[bytes, PbLink]]] = {}
    for entry in entries:
        slots.setdefault(entry[0][level], []).append(entry)
    links: list[PbLink] = []
    bitfield = 0
    for slot in sorted(slots):
        bitfield |= 1 << slot
        prefix = b"%02X" % slot
        if len(slots[slot]) == 1:
            link = slots[slot][0][1]
            links.append(PbLink(prefix + link.name, link.cid, link.tsize))
        else:
            shard = _build(slots[slot], level + 1, blocks)
            links.append(PbLink(prefix, shard.cid, shard.tsize))
    block = dagpb.encode(links, unixfs.hamt_shard(bitfield, profile.HAMT_FANOUT))
    cid = cids.hash_block(DAG_PB, block)
    blocks[cid] = block
    return HamtShard(cid, len(block) + sum(link.tsize for link in links))


def read_shard(node: PbNode, message: UnixFs, path: bytes) -> list[tuple[bytes, PbLink]]:
    """Return the slots of one shard in link order: (name, link) for an entry, (b"", link) for a sub-shard.

    `path` contains the slots from the root shard to this one, a byte each. Raises DataError when the shard is
    invalid: another hash or fanout, a bitfield that does not match its links, a name in the wrong slot.
    """
    if message.hash_type != unixfs.MURMUR3:
        raise DataError(f"sharded directory uses hash {message.hash_type}; only murmur3-x64-64 is supported")
    if message.fanout != profile.HAMT_FANOUT:
        raise DataError(
            f"sharded directory has fanout {message.fanout}; only {profile.HAMT_FANOUT} is supported"
        )
    if len(path) >= MAX_LEVELS:
        raise DataError(f"sharded directory is deeper than {MAX_LEVELS} levels")
    bitfield = 0
    found: list[tuple[bytes, PbLink]] = []
    for link in node.links:
        slot = _slot(link.name)
        if bitfield >> slot & 1:
            raise DataError("sharded directory has two links for one slot")
        bitfield |= 1 << slot
        name = link.name[PREFIX:]
        if name and not slot_key(name).startswith(path + bytes((slot,))):
            raise DataError(f"name {name!r} is in the wrong slot of a sharded directory")
        found.append((name, link))
    if int.from_bytes(message.data, "big") != bitfield:
        raise DataError("sharded directory has a bitfield that does not match its links")
    return found


def _slot(name: bytes) -> int:
    prefix = name[:PREFIX]
    if len(prefix) < PREFIX or any(digit not in b"0123456789ABCDEF" for digit in prefix):
        raise DataError(f"link {name!r} of a sharded directory does not begin with two upper-case hex digits")
    return int(prefix, 16)
