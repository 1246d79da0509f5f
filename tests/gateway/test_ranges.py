"""Byte ranges, of HTTP and of `entity-bytes`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.gateway.request import RequestRefusedError, Span, entity_bytes, http_ranges

DATA = bytes(range(100))


@given(st.integers(0, 120), st.integers(0, 120))
def test_one_range_is_a_slice(first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if last < first:
        assert http_ranges(header, 100) == ()  # malformed: the header is ignored
    elif first >= 100:
        with pytest.raises(RequestRefusedError) as caught:
            http_ranges(header, 100)
        assert caught.value.status == 416
    else:
        (span,) = http_ranges(header, 100)
        assert DATA[span.start : span.stop] == DATA[first : last + 1]


@given(st.integers(-130, 130), st.one_of(st.none(), st.integers(-130, 130)))
def test_entity_bytes_are_both_inclusive_and_count_from_either_end(first: int, last: int | None) -> None:
    text = f"{first}:{'*' if last is None else last}"
    same_end = last is not None and (first < 0) == (last < 0)
    if same_end and last is not None and last < first:
        with pytest.raises(RequestRefusedError):
            entity_bytes(text)
        return
    entity = entity_bytes(text)
    assert entity is not None
    positions = range(100)
    low = first if first >= 0 else 100 + first
    high = 99 if last is None else last if last >= 0 else 100 + last
    expected = [position for position in positions if low <= position <= high]
    span = entity.span(100)
    assert (list(range(span.start, span.stop)) if span else []) == expected


@pytest.mark.parametrize(
    "header",
    [None, "bytes=", "bytes=-", "bytes=a-b", "bytes=1-2,", "lines=1-2", "bytes=1-2,x", "bytes=--1",
     "bytes=" + ",".join(["0-0"] * 100), "bytes=0-60,0-60", "bytes=" + "9" * 30 + "-"],
)  # fmt: skip
def test_a_malformed_header_is_ignored(header: str | None) -> None:
    assert http_ranges(header, 100) == ()


def test_a_suffix_and_several_ranges() -> None:
    assert http_ranges("bytes=-5", 100) == (Span(95, 100),)
    assert http_ranges("bytes=-500", 100) == (Span(0, 100),)
    assert http_ranges("bytes=0-1, 98-", 100) == (Span(0, 2), Span(98, 100))
    with pytest.raises(RequestRefusedError):
        http_ranges("bytes=0-", 0)


@pytest.mark.parametrize("text", ["", ":", "1", "1:", ":1", "*:1", "1:2:3", "0x1:2", " 1:2", "5:4", "-3:-9"])
def test_malformed_entity_bytes_are_refused(text: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        entity_bytes(text)
    assert caught.value.status == 400
