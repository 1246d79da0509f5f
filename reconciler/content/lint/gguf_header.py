"""What is wrong with a GGUF file, according to its header."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.content.gguf import (
    MAX_BYTES,
    MAX_ITEMS,
    MAX_TENSORS,
    GgufEndError,
    GgufHeader,
    GgufTooLongError,
    MalformedGgufError,
    parse_gguf,
)
from reconciler.content.lint.bounded_json import shown_name
from reconciler.content.lint.finding import FindingCode, Flaw, ReadAt


def gguf_flaws(read: ReadAt, size: int) -> Iterator[Flaw]:
    """Yield what is wrong with a GGUF file of `size` bytes. Reads its header only."""
    try:
        yield from _placement_flaws(parse_gguf(read, size), size)
    except GgufEndError:
        yield Flaw(FindingCode.TRUNCATED_FILE, f"is truncated: its {size:,} bytes end inside the header")
    except GgufTooLongError:
        yield Flaw(
            FindingCode.UNEXAMINED_FILE,
            f"was not examined: its header exceeds {MAX_BYTES:,} bytes, {MAX_ITEMS:,} items "
            f"or {MAX_TENSORS:,} tensors",
        )
    except MalformedGgufError as error:
        yield Flaw(FindingCode.INVALID_HEADER, str(error))


def _placement_flaws(header: GgufHeader, size: int) -> Iterator[Flaw]:
    placed = sorted(header.tensors, key=lambda tensor: (tensor.begin, tensor.end, tensor.name))
    end = 0
    for tensor in placed:
        if tensor.begin < end:
            raise MalformedGgufError(f"has an overlap before the tensor {shown_name(tensor.name)}")
        end = tensor.end
    if placed and header.data_start + end > size:
        yield Flaw(
            FindingCode.TRUNCATED_FILE,
            f"is truncated: its tensors need {header.data_start + end:,} bytes, it has {size:,}",
        )
    unaligned = [tensor.name for tensor in placed if tensor.begin % header.alignment]
    if unaligned:
        yield Flaw(
            FindingCode.UNALIGNED_TENSOR,
            f"has {len(unaligned):,} of {len(placed):,} tensors at unaligned offsets, "
            f"the first {shown_name(unaligned[0])}: loaders refuse them",
        )
