"""The bytes of one answer, taken in order into memory of the caller."""

from __future__ import annotations

import pytest

from reconciler.net.errors import TransientError
from reconciler.net.response import OpenBody
from reconciler.sources.http_span import HttpSpan
from reconciler.sources.interface import ListedFile, SourceProtocolError
from reconciler.sources.ranges import BrokenOffError


def span(pieces: list[bytes], *, size: int) -> HttpSpan:
    """The answer with a whole file of `size` bytes, of unknown length, which breaks after `pieces`."""
    left = list(pieces)

    def receive_into(memory: memoryview) -> int:
        if not left:
            raise TransientError("peer", "the connection broke")
        piece = left.pop(0)
        memory[: len(piece)] = piece
        return len(piece)

    body = OpenBody(200, {}, lambda _: iter(()), lambda: None, receive_into)
    file = ListedFile("model.bin", size)
    return HttpSpan(
        "source:.",
        body,
        file,
        0,
        size,
        failed=lambda error, path: SourceProtocolError("source:.", error.message, file=path),
        shown=lambda text, limit: text[:limit],
    )


def test_an_answer_that_breaks_after_its_last_byte_has_all_bytes() -> None:
    memory = memoryview(bytearray(10))
    answer = span([b"abc", b"de"], size=5)
    assert (answer.read_into(memory), answer.read_into(memory[3:]), answer.read_into(memory)) == (3, 2, 0)
    assert bytes(memory[:5]) == b"abcde"


def test_an_answer_that_breaks_earlier_is_an_error() -> None:
    answer = span([b"abc"], size=5)
    answer.read_into(memoryview(bytearray(10)))
    with pytest.raises(BrokenOffError, match="the connection broke"):
        answer.read_into(memoryview(bytearray(10)))
