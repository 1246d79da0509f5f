"""A read gives exactly the requested bytes, however often connections break off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.sources.interface import ListedFile, SourceProtocolError
from reconciler.sources.ranges import ATTEMPTS, BrokenOffError, checked_range, read_resuming

DATA = bytes(range(256)) * 4
FILE = ListedFile("w", len(DATA))


def read(read_once, start, end, pauses=None):
    pause = (lambda number: None) if pauses is None else pauses.append
    return b"".join(read_resuming("hub:a/b", FILE, start, end, read_once, pause=pause))


@given(st.integers(0, len(DATA)), st.integers(0, len(DATA)), st.lists(st.integers(0, 300), max_size=3))
def test_a_read_goes_on_where_it_broke_off(start, length, breaks):
    end = min(len(DATA), start + length)
    left = list(breaks)

    def read_once(first, last):
        if left:
            cut = min(last, first + left.pop())
            yield DATA[first:cut]
            if len(left) % 2:
                raise BrokenOffError("hub:a/b", "broke off")
        else:
            yield DATA[first:last]

    assert read(read_once, start, end) == DATA[start:end]


def test_a_read_that_always_breaks_off_ends():
    pauses: list[int] = []
    with pytest.raises(BrokenOffError, match=r"'w' ends at byte 0 of 1024, again and again"):
        read(lambda first, last: iter(()), 0, 10, pauses)
    assert pauses == list(range(2, ATTEMPTS + 1))


def test_more_bytes_than_requested_are_refused():
    with pytest.raises(SourceProtocolError, match="more bytes than requested"):
        read(lambda first, last: iter((DATA[first : last + 1],)), 0, 10)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 1025), (1025, None), (5, -1)])
def test_a_range_outside_of_the_file_is_refused(start, length):
    with pytest.raises(ValueError, match="not within the 1024 bytes of 'w'"):
        checked_range(FILE, start, length)
