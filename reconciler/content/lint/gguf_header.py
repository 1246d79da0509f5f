"""The header of a GGUF file: metadata, and the type, shape and place of every tensor.

Layout: magic, version, number of tensors, number of metadata pairs, the pairs, the tensor entries, padding,
data. Version 1 has 32-bit counts, versions 2 and 3 have 64-bit ones; big-endian files exist. Source:
ggml-org/ggml `docs/gguf.md`, and `gguf-py/gguf/constants.py` for the sizes of types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

from reconciler.content.lint.bounded_json import shown_name
from reconciler.content.lint.finding import FindingCode, Flaw, ReadAt

MAGIC = b"GGUF"
MAX_BYTES = 64 << 20  #: of a header; vocabularies take a few MiB
MAX_ITEMS = 2_000_000  #: strings and pairs of one header
MAX_TENSORS = 100_000  #: tensors of one header
_MAX_DIMENSIONS = 8
_MAX_NESTING = 4
_WINDOW = 256 << 10
_VERSIONS = (1, 2, 3)
_DEFAULT_ALIGNMENT = 32

_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  #: of values by type
_STRING, _ARRAY, _UINT32 = 8, 9, 4

#: elements and bytes of a block by tensor type; the sizes of other types are not checked
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip


class _MalformedGgufError(ValueError):
    """The header breaks the format; the message continues a sentence about the file."""


class _EndOfFileError(ValueError):
    """The file ends inside its header."""


class _TooLongError(ValueError):
    """The header exceeds the bounds of the examination."""


class _HeaderCursor:
    """A position in the header, read forward through a window of bounded size."""

    def __init__(self, read: ReadAt, size: int) -> None:
        self.offset = 0
        self.order: Literal["<", ">"] = "<"
        self.wide = True  #: whether counts and lengths have 64 bits
        self._read = read
        self._size = size
        self._window = b""
        self._start = 0
        self._items = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, at most a window."""
        self._claim(size)
        at = self.offset - self._start
        if at < 0 or at + size > len(self._window):
            self._window, self._start, at = self._read(_WINDOW, self.offset), self.offset, 0
        self.offset += size
        taken = self._window[at : at + size]
        if len(taken) != size:
            raise _EndOfFileError
        return taken

    def skip(self, size: int) -> None:
        """Move past `size` bytes."""
        self._claim(size)
        self.offset += size

    def count(self) -> int:
        """Return the next count or length."""
        return self.unpack("Q") if self.wide else self.unpack("I")

    def unpack(self, form: str) -> int:
        """Return the next unsigned integer: I or Q."""
        number: int = struct.unpack(self.order + form, self.take(struct.calcsize("<" + form)))[0]
        return number

    def string(self) -> bytes:
        """Return the next string, cut to 200 bytes."""
        length = self.count()
        shown = self.take(min(length, 200))
        self.skip(length - len(shown))
        return shown

    def item(self, number: int = 1) -> None:
        """Count items against the bound."""
        self._items += number
        if self._items > MAX_ITEMS:
            raise _TooLongError

    def _claim(self, size: int) -> None:
        if self.offset + size > self._size:
            raise _EndOfFileError
        if self.offset + size > MAX_BYTES:
            raise _TooLongError


def gguf_flaws(read: ReadAt, size: int) -> Iterator[Flaw]:
    """Yield what is wrong with a GGUF file of `size` bytes. Reads its header only."""
    if read(len(MAGIC), 0) != MAGIC:
        yield Flaw(FindingCode.INVALID_HEADER, "is no GGUF file: it does not begin with 'GGUF'")
        return
    cursor = _HeaderCursor(read, size)
    cursor.skip(len(MAGIC))
    try:
        yield from _gguf_header_flaws(cursor, size)
    except _EndOfFileError:
        yield Flaw(FindingCode.TRUNCATED_FILE, f"is truncated: its {size:,} bytes end inside the header")
    except _TooLongError:
        yield Flaw(
            FindingCode.UNEXAMINED_FILE,
            f"was not examined: its header exceeds {MAX_BYTES:,} bytes, {MAX_ITEMS:,} items "
            f"or {MAX_TENSORS:,} tensors",
        )
    except _MalformedGgufError as error:
        yield Flaw(FindingCode.INVALID_HEADER, str(error))


def _gguf_header_flaws(cursor: _HeaderCursor, size: int) -> Iterator[Flaw]:
    version = cursor.take(4)
    number = int.from_bytes(version, "little")
    if number not in _VERSIONS:
        cursor.order = ">"
        number = int.from_bytes(version, "big")
    if number not in _VERSIONS:
        raise _MalformedGgufError(f"has GGUF version {int.from_bytes(version, 'little')}, which is unknown")
    cursor.wide = number > 1
    tensors, pairs = cursor.count(), cursor.count()
    alignment = _DEFAULT_ALIGNMENT
    for _ in range(pairs):
        cursor.item()
        key = cursor.string()
        kind = cursor.unpack("I")
        if key == b"general.alignment" and kind == _UINT32:
            alignment = cursor.unpack("I")
        else:
            _skip_value(cursor, kind, 0)
    if alignment == 0 or alignment % 8:
        raise _MalformedGgufError(f"has the alignment {alignment}, which is not a multiple of 8")
    yield from _placement_flaws(cursor, tensors, alignment, size)


def _skip_value(cursor: _HeaderCursor, kind: int, depth: int) -> None:
    if (width := _WIDTHS.get(kind)) is not None:
        cursor.skip(width)
    elif kind == _STRING:
        cursor.skip(cursor.count())
    elif kind == _ARRAY and depth < _MAX_NESTING:
        inner, length = cursor.unpack("I"), cursor.count()
        if (width := _WIDTHS.get(inner)) is not None:
            cursor.skip(width * length)
            return
        for _ in range(length):
            cursor.item()
            _skip_value(cursor, inner, depth + 1)
    else:
        raise _MalformedGgufError(f"has metadata of the unknown type {kind}")


def _placement_flaws(cursor: _HeaderCursor, number: int, alignment: int, size: int) -> Iterator[Flaw]:
    if number > MAX_TENSORS:
        raise _TooLongError
    places: list[tuple[int, int, str]] = []  # begin, end (or begin when the size is unknown), name
    for _ in range(number):
        name = cursor.string().decode("utf-8", "replace")
        dimensions = cursor.unpack("I")
        if dimensions > _MAX_DIMENSIONS:
            raise _MalformedGgufError(f"has the tensor {shown_name(name)} with {dimensions} dimensions")
        elements = 1
        for _ in range(dimensions):
            elements *= cursor.count()
        block = _BLOCKS.get(cursor.unpack("I"))
        begin = cursor.unpack("Q")
        length = -(-elements // block[0]) * block[1] if block else 0
        places.append((begin, begin + length, name))
    start = -(-cursor.offset // alignment) * alignment
    places.sort()
    end = 0
    for begin, after, name in places:
        if begin < end:
            raise _MalformedGgufError(f"has an overlap before the tensor {shown_name(name)}")
        end = after
    if places and start + end > size:
        yield Flaw(
            FindingCode.TRUNCATED_FILE,
            f"is truncated: its tensors need {start + end:,} bytes, it has {size:,}",
        )
    unaligned = [name for begin, _, name in places if begin % alignment]
    if unaligned:
        yield Flaw(
            FindingCode.UNALIGNED_TENSOR,
            f"has {len(unaligned):,} of {len(places):,} tensors at unaligned offsets, "
            f"the first {shown_name(unaligned[0])}: loaders refuse them",
        )
