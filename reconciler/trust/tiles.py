"""Tiles: the files in which a log keeps its hashes and entries (C2SP tlog-tiles).

    tile/<L>/<N>[.p/<W>]       up to 256 hashes of level 8·L of the tree, 32 bytes each
    tile/entries/<N>[.p/<W>]   up to 256 entries, each after its length in two bytes, big-endian

`<N>` is written in groups of three digits, all but the last after an `x`: `x001/x234/067`. A tile with fewer
than 256 items is partial and names its width `<W>`. A hash tile of level L+1 has the roots of full tiles of
level L only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from reconciler.errors import DataError
from reconciler.trust.merkle import HASH_SIZE, parents

TILE_WIDTH = 256
MAX_ENTRY = 65_535  #: bytes of an entry
MAX_TILE = TILE_WIDTH * (MAX_ENTRY + 2)  #: bytes of the file of a tile
_HEIGHT = 8  # levels of the tree in a tile

#: returns the file at a path of the log, None when it is missing
ReadFile = Callable[[str], bytes | None]


def tile_path(level: int, number: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a hash tile."""
    return f"tile/{level}/{_number(number)}{_partial(width)}"


def entries_path(number: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile of entries."""
    return f"tile/entries/{_number(number)}{_partial(width)}"


def _number(number: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return "/".join(groups)


def _partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"


def widths(size: int, level: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the number and the width of each tile of a level in a log of `size` entries."""
    count = size >> (_HEIGHT * level)
    for number in range(0, count, TILE_WIDTH):
        yield number // TILE_WIDTH, min(TILE_WIDTH, count - number)


def log_files(size: int) -> Iterator[str]:
    """Yield the paths of all tiles of a log of `size` entries."""
    for number, width in widths(size):
        yield entries_path(number, width)
    level = 0
    while size >> (_HEIGHT * level):
        for number, width in widths(size, level):
            yield tile_path(level, number, width)
        level += 1


def make_tiles(entries: Sequence[bytes], leaves: Sequence[bytes], start: int = 0) -> dict[str, bytes]:
    """Return the tiles of a log by path, without those that were full when it had `start` entries.

    `leaves` are the leaf hashes of `entries`.
    """
    found = {}
    for number, width in widths(len(entries)):
        if number >= start // TILE_WIDTH:
            at = number * TILE_WIDTH
            found[entries_path(number, width)] = pack_entries(entries[at : at + width])
    level, hashes = 0, list(leaves)
    while hashes:
        full = (start >> (_HEIGHT * level)) // TILE_WIDTH
        for number, width in widths(len(entries), level):
            if number >= full:
                at = number * TILE_WIDTH
                found[tile_path(level, number, width)] = b"".join(hashes[at : at + width])
        for _ in range(_HEIGHT):
            hashes = parents(hashes)
        level += 1
    return found


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """Return a tile of entries. Raises DataError for one that is too large."""
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise DataError(
                f"an entry of {len(entry)} bytes is too large for the log; {MAX_ENTRY} are allowed"
            )
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(data: bytes, width: int, path: str) -> list[bytes]:
    """Return the `width` entries of a tile. Raises DataError."""
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) < width:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or at + 2 > len(data):
            break
        found.append(data[at + 2 : end])
        at = end
    if len(found) != width or at != len(data):
        raise DataError(f"{path} does not have exactly {width} entries")
    return found


class TileHashes:
    """The hashes of a log of `size` entries, read from its tiles. Nothing is verified."""

    def __init__(self, size: int, read: ReadFile) -> None:
        self._size = size
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, number: int) -> bytes:
        """Return the hash of a complete subtree, as `ReadHash` does. Raises DataError for a missing tile."""
        tile_level, height = divmod(level, _HEIGHT)
        first = number << height
        tile = self._tile(tile_level, first // TILE_WIDTH)
        at = first % TILE_WIDTH
        hashes = [tile[(at + n) * HASH_SIZE : (at + n + 1) * HASH_SIZE] for n in range(1 << height)]
        while len(hashes) > 1:
            hashes = parents(hashes)
        return hashes[0]

    def _tile(self, level: int, number: int) -> bytes:
        found = self._tiles.get((level, number))
        if found is None:
            width = min(TILE_WIDTH, (self._size >> (_HEIGHT * level)) - number * TILE_WIDTH)
            path = tile_path(level, number, width)
            found = self._read(path)
            if found is None:
                raise missing_tile(path)
            if len(found) != width * HASH_SIZE:
                raise DataError(f"{path} has {len(found)} bytes, not {width * HASH_SIZE}")
            self._tiles[level, number] = found
        return found


def missing_tile(path: str) -> DataError:
    """Make the error for a tile that a checkpoint requires."""
    return DataError(f"the log has no {path}", hint="restore it from the git history")


def read_entries(size: int, read: ReadFile, start: int = 0) -> Iterator[bytes]:
    """Yield the entries from `start` to `size`, read from their tiles. Raises DataError."""
    for number, width in widths(size):
        first = number * TILE_WIDTH
        if first + width <= start:
            continue
        path = entries_path(number, width)
        data = read(path)
        if data is None:
            raise missing_tile(path)
        yield from unpack_entries(data, width, path)[max(0, start - first) :]
