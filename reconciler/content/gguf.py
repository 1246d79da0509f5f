"""The header of a GGUF file: metadata, and the type, shape and place of every tensor.

Layout: magic, version, number of tensors, number of metadata pairs, the pairs, the tensor entries, padding,
data. Version 1 has 32-bit counts, versions 2 and 3 have 64-bit ones; big-endian files exist. Source:
ggml-org/ggml `docs/gguf.md`, and `gguf-py/gguf/constants.py` for the sizes of types and the names of file
types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_ReadAt = Callable[[int, int], bytes]  # returns `size` bytes at `offset`, fewer at the end of the file

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
_STRING, _ARRAY, _UINT16, _UINT32 = 8, 9, 2, 4

#: elements and bytes of a block by tensor type; the sizes of other types are not checked
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip


#: names of `general.file_type`, the quantisation of most tensors
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: its name, its number of elements, and its place after the header, in bytes.

    `end` equals `begin` for a type whose size is not known.
    """

    name: str
    elements: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a header says. `data_start` is the offset of the first tensor; `splits` is 1 for a whole model.

    `architecture` and `file_type` are None where the metadata has none.
    """

    alignment: int
    data_start: int
    tensors: tuple[GgufTensor, ...]
    architecture: str | None = None
    file_type: int | None = None
    splits: int = 1

    @property
    def parameters(self) -> int:
        """The number of elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)


class MalformedGgufError(ValueError):
    """The header breaks the format; the message continues a sentence about the file."""


class GgufEndError(ValueError):
    """The file ends inside its header."""


class GgufTooLongError(ValueError):
    """The header exceeds the bounds of the examination."""


class _HeaderCursor:
    """A position in the header, read forward through a window of bounded size."""

    def __init__(self, read: _ReadAt, size: int) -> None:
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
            raise GgufEndError
        return taken

    def skip(self, size: int) -> None:
        """Move past `size` bytes."""
        self._claim(size)
        self.offset += size

    def count(self) -> int:
        """Return the next count or length."""
        return self.unpack("Q") if self.wide else self.unpack("I")

    def unpack(self, form: str) -> int:
        """Return the next unsigned integer: H, I or Q."""
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
            raise GgufTooLongError

    def _claim(self, size: int) -> None:
        if self.offset + size > self._size:
            raise GgufEndError
        if self.offset + size > MAX_BYTES:
            raise GgufTooLongError


def parse_gguf(read: _ReadAt, size: int) -> GgufHeader:
    """Parse the header of a GGUF file of `size` bytes, of which nothing else is read.

    Raises MalformedGgufError, GgufEndError when the file ends inside it, GgufTooLongError beyond the bounds.
    """
    if read(len(MAGIC), 0) != MAGIC:
        raise MalformedGgufError("is not a GGUF file: it does not begin with 'GGUF'")
    cursor = _HeaderCursor(read, size)
    cursor.skip(len(MAGIC))
    version = cursor.take(4)
    number = int.from_bytes(version, "little")
    if number not in _VERSIONS:
        cursor.order = ">"
        number = int.from_bytes(version, "big")
    if number not in _VERSIONS:
        raise MalformedGgufError(f"has GGUF version {int.from_bytes(version, 'little')}, which is unknown")
    cursor.wide = number > 1
    tensors, pairs = cursor.count(), cursor.count()
    numbers: dict[bytes, int] = {}
    architecture: str | None = None
    for _ in range(pairs):
        cursor.item()
        key = cursor.string()
        kind = cursor.unpack("I")
        if key == b"general.architecture" and kind == _STRING:
            architecture = cursor.string().decode("utf-8", "replace")
        elif kind == _UINT32:
            numbers[key] = cursor.unpack("I")
        elif kind == _UINT16:
            numbers[key] = cursor.unpack("H")
        else:
            _skip_value(cursor, kind, 0)
    alignment = numbers.get(b"general.alignment", _DEFAULT_ALIGNMENT)
    if alignment == 0 or alignment % 8:
        raise MalformedGgufError(f"has the alignment {alignment}, which is not a multiple of 8")
    found = _tensors(cursor, tensors)
    start = -(-cursor.offset // alignment) * alignment
    return GgufHeader(
        alignment,
        start,
        found,
        architecture,
        numbers.get(b"general.file_type"),
        max(1, numbers.get(b"split.count", 1)),
    )


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
        raise MalformedGgufError(f"has metadata of the unknown type {kind}")


def _tensors(cursor: _HeaderCursor, number: int) -> tuple[GgufTensor, ...]:
    if number > MAX_TENSORS:
        raise GgufTooLongError
    found = []
    for _ in range(number):
        name = cursor.string().decode("utf-8", "replace")
        dimensions = cursor.unpack("I")
        if dimensions > _MAX_DIMENSIONS:
            raise MalformedGgufError(f"has the tensor {name[:80]!r} with {dimensions} dimensions")
        elements = 1
        for _ in range(dimensions):
            elements *= cursor.count()
        block = _BLOCKS.get(cursor.unpack("I"))
        begin = cursor.unpack("Q")
        length = -(-elements // block[0]) * block[1] if block else 0
        found.append(GgufTensor(name, elements, begin, begin + length))
    return tuple(found)
