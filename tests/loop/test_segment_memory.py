"""The memory of a pass stays within its limit, and its buffers are used again."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from reconciler.loop.segment_memory import SegmentMemory

SEGMENT, LIMIT = 8, 40


@given(st.lists(st.tuples(st.integers(0, SEGMENT), st.booleans()), max_size=60))
def test_what_is_out_at_once_is_distinct_and_within_the_limit(steps: list[tuple[int, bool]]) -> None:
    memory = SegmentMemory(SEGMENT, LIMIT)
    out: list[memoryview] = []
    for number, (size, give_back) in enumerate(steps):
        if give_back and out:
            memory.give_back(out.pop(number % len(out)))
        used = sum(memory.footprint(len(each)) for each in out)
        if used and used + memory.footprint(size) > LIMIT:
            continue
        taken = memory.take(size)
        assert len(taken) == size
        taken[:] = bytes([number % 256]) * size
        assert all(set(each) <= {each[0]} for each in out if each)
        out.append(taken)
        assert sum(len(each.obj) for each in out) <= LIMIT  # type: ignore[arg-type]


def test_a_buffer_is_used_again() -> None:
    memory = SegmentMemory(SEGMENT, LIMIT)
    first = memory.take(SEGMENT)
    memory.give_back(first)
    assert memory.take(SEGMENT - 1).obj is first.obj


def test_taking_waits_until_there_is_room() -> None:
    memory = SegmentMemory(SEGMENT, SEGMENT)
    first = memory.take(SEGMENT)
    threading.Timer(0.05, memory.give_back, [first]).start()
    assert len(memory.take(SEGMENT)) == SEGMENT
