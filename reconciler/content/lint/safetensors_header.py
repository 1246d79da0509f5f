"""The header of a safetensors file: JSON with the type, shape and place of every tensor.

Layout: 8 bytes little-endian length, the JSON object, then the data. Tensors must cover the data without
holes or overlaps, up to the end of the file; the library refuses anything else. Source: the README and
`src/tensor.rs` of huggingface/safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from reconciler.content.lint.bounded_json import JsonTooLargeError, load_bounded, shown_name
from reconciler.content.lint.finding import FindingCode, Flaw, ReadAt

MAX_DECLARED = 100_000_000  #: bytes of a header that the library accepts
_LENGTH = 8
_MAX_ELEMENTS = 1 << 64

#: bits of one element; types that are not here are newer, and their sizes are not checked
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One entry of the header; `begin` and `end` are offsets in the data."""

    name: str
    bits: int | None
    elements: int
    begin: int
    end: int


class _MalformedError(ValueError):
    """The header breaks the format; the message continues a sentence about the file."""


def safetensors_flaws(read: ReadAt, size: int) -> Iterator[Flaw]:
    """Yield what is wrong with a safetensors file of `size` bytes. Reads its header only."""
    prefix = read(_LENGTH, 0)
    if len(prefix) < _LENGTH:
        yield Flaw(FindingCode.INVALID_HEADER, f"is not a safetensors file: it has {size} bytes")
        return
    length = int.from_bytes(prefix, "little")
    if length > MAX_DECLARED:
        yield Flaw(
            FindingCode.INVALID_HEADER,
            f"is not a safetensors file: it declares a header of {length:,} bytes, "
            f"and loaders accept {MAX_DECLARED:,}",
        )
        return
    if read(1, _LENGTH) != b"{":
        yield Flaw(
            FindingCode.INVALID_HEADER, "is not a safetensors file: its header does not begin with '{'"
        )
        return
    start = _LENGTH + length
    if start > size:
        yield Flaw(
            FindingCode.TRUNCATED_FILE, f"is truncated: its header needs {start:,} bytes, it has {size:,}"
        )
        return
    try:
        yield from _header_flaws(load_bounded(read(length, _LENGTH)), start, size)
    except JsonTooLargeError as error:
        yield Flaw(FindingCode.UNEXAMINED_FILE, f"was not examined: its header {error}")
    except _MalformedError as error:
        yield Flaw(FindingCode.INVALID_HEADER, str(error))
    except ValueError as error:
        yield Flaw(FindingCode.INVALID_HEADER, f"has a header that is not JSON: {error}")


def _header_flaws(header: object, start: int, size: int) -> Iterator[Flaw]:
    if not isinstance(header, dict):
        raise _MalformedError("has a header that is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _MalformedError("has '__metadata__' that is not a map of strings")
    tensors = sorted(
        (_tensor(name, entry) for name, entry in header.items()),
        key=lambda tensor: (tensor.begin, tensor.end),
    )
    end = 0
    for tensor in tensors:
        if tensor.begin != end:
            what = "a hole" if tensor.begin > end else "an overlap"
            raise _MalformedError(
                f"has {what} before the tensor {shown_name(tensor.name)}: "
                f"it begins at {tensor.begin:,}, the one before ends at {end:,}"
            )
        end = tensor.end
    if start + end > size:
        yield Flaw(
            FindingCode.TRUNCATED_FILE,
            f"is truncated: its tensors need {start + end:,} bytes, it has {size:,}",
        )
    elif start + end < size:
        raise _MalformedError(f"has {size - start - end:,} bytes after its last tensor")
    unaligned = [tensor for tensor in tensors if _is_unaligned(tensor, start)]
    if unaligned:
        yield Flaw(
            FindingCode.UNALIGNED_TENSOR,
            f"has {len(unaligned):,} of {len(tensors):,} tensors at unaligned offsets, "
            f"the first {shown_name(unaligned[0].name)}: they cannot be used from a memory map",
        )


def _is_unaligned(tensor: _Tensor, start: int) -> bool:
    return bool(
        tensor.bits and tensor.end > tensor.begin and (start + tensor.begin) % (tensor.bits // 8 or 1)
    )


def _tensor(name: str, entry: object) -> _Tensor:
    shown = shown_name(name)
    if not isinstance(entry, dict):
        raise _MalformedError(f"has a malformed tensor {shown}")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets):
        raise _MalformedError(f"has the tensor {shown} without a valid dtype, shape and data_offsets")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _MalformedError(f"has the tensor {shown} with offsets that are not a range")
    elements = _product(shape)
    bits = _BITS.get(dtype)
    if elements >= _MAX_ELEMENTS or (bits is not None and elements * bits != 8 * (offsets[1] - offsets[0])):
        raise _MalformedError(f"has the tensor {shown} whose shape does not match its offsets")
    return _Tensor(name, bits, elements, offsets[0], offsets[1])


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < _MAX_ELEMENTS for item in value
    )


def _product(shape: list[int]) -> int:
    """Return the number of elements, or at least _MAX_ELEMENTS when it exceeds that."""
    if 0 in shape:
        return 0
    product = 1
    for size in shape:
        product *= size
        if product >= _MAX_ELEMENTS:
            break
    return product
