"""The ABI of Ethereum contracts: encoding arguments, and strict, bounded decoding of answers. Pure.

A `Kind` is one type of the ABI. Values are Python's: int for `uint256` and its like, bool, bytes for `bytes`
and `bytes32`, EvmAddress, str, and tuples for arrays and tuples. Decoding takes nothing on trust: a word with
bits where its type has none, an offset or a length beyond the data, text that is not UTF-8, and data that is
no whole number of words raise; so does an array that is longer than its limit, and an answer in which values
overlap, which could make gigabytes of a few bytes. Words after those that are asked for are ignored, because
new versions of contracts append fields to tuples. Source: the contract ABI specification of Solidity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.deals.onchain.interface import EvmAddress
from reconciler.errors import DataError

WORD = 32  #: bytes
MAX_ITEMS = 10_000  #: items of one array in an answer
MAX_BYTES = 1 << 20  #: bytes of one string in an answer
MAX_ANSWER = 8 << 20  #: bytes of a whole answer


class Kind(Protocol):
    """One type of the ABI."""

    @property
    def name(self) -> str:
        """The canonical name, as it is in the signature of a function."""

    @property
    def words(self) -> int | None:
        """The words of a value in its place; None when the place has only the offset of the value."""

    def encode(self, value: Any) -> bytes:
        """Return the bytes of `value`. Raises DataError when it has another type or is out of range."""

    def decode(self, data: AbiAnswer, at: int) -> Any:
        """Return the value whose bytes begin at `at`. Raises DataError."""


class AbiAnswer:
    """The bytes of an answer. Each byte may be read about once: overlapping values raise DataError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._unread = len(data)

    def __len__(self) -> int:
        return len(self._data)

    def word(self, at: int) -> bytes:
        """Return the word at `at`. Raises DataError beyond the end."""
        return self.read(at, WORD)

    def read(self, at: int, size: int) -> bytes:
        """Return `size` bytes from `at` on. Raises DataError beyond the end."""
        if at + size > len(self._data):
            raise DataError(f"the answer ends after {len(self._data)} bytes, within a value")
        self._unread -= size
        if self._unread < 0:
            raise DataError("the values in the answer overlap")
        return self._data[at : at + size]


@dataclass(frozen=True, slots=True)
class UintKind:
    """An unsigned number of `bits` bits."""

    bits: int = 256

    words = 1

    @property
    def name(self) -> str:
        """`uint256` and its like."""
        return f"uint{self.bits}"

    def encode(self, value: Any) -> bytes:
        """Encode an int that is not negative."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << self.bits:
            raise DataError(f"not a number of {self.bits} bits")
        return value.to_bytes(WORD, "big")

    def decode(self, data: AbiAnswer, at: int) -> int:
        """Decode one word."""
        number = int.from_bytes(data.word(at), "big")
        if number >> self.bits:
            raise DataError(f"a number in the answer has more than {self.bits} bits")
        return number


@dataclass(frozen=True, slots=True)
class BoolKind:
    """True or false."""

    name = "bool"
    words = 1

    def encode(self, value: Any) -> bytes:
        """Encode a bool."""
        if not isinstance(value, bool):
            raise DataError("not true or false")
        return int(value).to_bytes(WORD, "big")

    def decode(self, data: AbiAnswer, at: int) -> bool:
        """Decode one word, 0 or 1."""
        number = int.from_bytes(data.word(at), "big")
        if number > 1:
            raise DataError("a truth value in the answer is neither 0 nor 1")
        return number == 1


@dataclass(frozen=True, slots=True)
class AddressKind:
    """The address of an account or contract."""

    name = "address"
    words = 1

    def encode(self, value: Any) -> bytes:
        """Encode an EvmAddress."""
        if not isinstance(value, EvmAddress):
            raise DataError("not an address")
        return bytes(12) + value.value

    def decode(self, data: AbiAnswer, at: int) -> EvmAddress:
        """Decode one word, whose first 12 bytes are zero."""
        word = data.word(at)
        if any(word[:12]):
            raise DataError("an address in the answer is longer than 20 bytes")
        return EvmAddress(word[12:])


@dataclass(frozen=True, slots=True)
class Bytes32Kind:
    """32 bytes."""

    name = "bytes32"
    words = 1

    def encode(self, value: Any) -> bytes:
        """Encode exactly 32 bytes."""
        if not isinstance(value, bytes) or len(value) != WORD:
            raise DataError("not 32 bytes")
        return value

    def decode(self, data: AbiAnswer, at: int) -> bytes:
        """Decode one word."""
        return data.word(at)


@dataclass(frozen=True, slots=True)
class BytesKind:
    """Bytes of any number."""

    name = "bytes"
    words = None

    def encode(self, value: Any) -> bytes:
        """Encode the length, the bytes, and zeros to a whole number of words."""
        if not isinstance(value, bytes):
            raise DataError("not bytes")
        return len(value).to_bytes(WORD, "big") + value + bytes(-len(value) % WORD)

    def decode(self, data: AbiAnswer, at: int) -> bytes:
        """Decode the bytes, at most MAX_BYTES; the rest of the last word must be zero."""
        length = int.from_bytes(data.word(at), "big")
        if length > MAX_BYTES:
            raise DataError(f"a value in the answer is longer than {MAX_BYTES} bytes")
        found = data.read(at + WORD, length + -length % WORD)
        if any(found[length:]):
            raise DataError("a value in the answer is followed by bytes that are not zero")
        return found[:length]


@dataclass(frozen=True, slots=True)
class StringKind:
    """Text in UTF-8."""

    name = "string"
    words = None

    def encode(self, value: Any) -> bytes:
        """Encode a str."""
        if not isinstance(value, str):
            raise DataError("not text")
        return BYTES.encode(value.encode())

    def decode(self, data: AbiAnswer, at: int) -> str:
        """Decode text."""
        try:
            return BYTES.decode(data, at).decode()
        except UnicodeDecodeError:
            raise DataError("a text in the answer is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """Any number of values of one type."""

    item: Kind

    words = None

    @property
    def name(self) -> str:
        """The item's name and `[]`."""
        return f"{self.item.name}[]"

    def encode(self, value: Any) -> bytes:
        """Encode a list or tuple."""
        if not isinstance(value, list | tuple):
            raise DataError("not a list")
        return len(value).to_bytes(WORD, "big") + _encode_all([self.item] * len(value), value)

    def decode(self, data: AbiAnswer, at: int) -> tuple[Any, ...]:
        """Decode at most MAX_ITEMS items."""
        length = int.from_bytes(data.word(at), "big")
        if length > MAX_ITEMS:
            raise DataError(f"a list in the answer has more than {MAX_ITEMS} items")
        return _decode_all([self.item] * length, data, at + WORD)


@dataclass(frozen=True, slots=True)
class TupleKind:
    """Several values, as in a struct."""

    items: tuple[Kind, ...]

    @property
    def name(self) -> str:
        """The items' names in brackets."""
        return f"({','.join(item.name for item in self.items)})"

    @property
    def words(self) -> int | None:
        """The sum of the items'; None when one of them is dynamic."""
        total = 0
        for item in self.items:
            if item.words is None:
                return None
            total += item.words
        return total

    def encode(self, value: Any) -> bytes:
        """Encode a list or tuple of the right length."""
        if not isinstance(value, list | tuple) or len(value) != len(self.items):
            raise DataError(f"not {len(self.items)} values")
        return _encode_all(self.items, value)

    def decode(self, data: AbiAnswer, at: int) -> tuple[Any, ...]:
        """Decode the items."""
        return _decode_all(self.items, data, at)


UINT = UintKind()
UINT8, UINT64, UINT96 = UintKind(8), UintKind(64), UintKind(96)
BOOL, ADDRESS, BYTES32, BYTES, STRING = BoolKind(), AddressKind(), Bytes32Kind(), BytesKind(), StringKind()
UINTS, STRINGS = ArrayKind(UINT), ArrayKind(STRING)


def encode(kinds: Sequence[Kind], values: Sequence[Any]) -> bytes:
    """Encode the arguments of a call. Raises DataError for values that do not have these types."""
    return TupleKind(tuple(kinds)).encode(values)


def decode(kinds: Sequence[Kind], data: bytes) -> tuple[Any, ...]:
    """Decode the answer of a call; further words are ignored. Raises DataError, also for no answer at all."""
    if not data:
        raise DataError("there is no contract, or it does not know the call")
    if len(data) % WORD:
        raise DataError(f"the answer has {len(data)} bytes, which is not a whole number of words")
    if len(data) > MAX_ANSWER:
        raise DataError(f"the answer has more than {MAX_ANSWER} bytes")
    return TupleKind(tuple(kinds)).decode(AbiAnswer(data), 0)


def _encode_all(kinds: Sequence[Kind], values: Sequence[Any]) -> bytes:
    heads: list[bytes] = []
    tails: list[bytes] = []
    position = sum(kind.words * WORD if kind.words is not None else WORD for kind in kinds)
    for kind, value in zip(kinds, values, strict=True):
        encoded = kind.encode(value)
        if kind.words is not None:
            heads.append(encoded)
        else:
            heads.append(position.to_bytes(WORD, "big"))
            tails.append(encoded)
            position += len(encoded)
    return b"".join(heads + tails)


def _decode_all(kinds: Sequence[Kind], data: AbiAnswer, start: int) -> tuple[Any, ...]:
    values = []
    at = start
    for kind in kinds:
        words = kind.words
        if words is not None:
            values.append(kind.decode(data, at))
            at += words * WORD
            continue
        offset = int.from_bytes(data.word(at), "big")
        if offset % WORD or start + offset >= len(data):
            raise DataError("an offset in the answer points outside it")
        values.append(kind.decode(data, start + offset))
        at += WORD
    return tuple(values)
