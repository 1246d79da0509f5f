"""The window: nothing beyond it is given out, no request is small for its sake, and a full one is noticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.download.scheduler import Scheduler
from reconciler.download.window import UnitWindow
from reconciler.download.work import FreePart, RunForm, UnitRun

RUN = UnitRun(range(100), range(0, 1010, 10), RunForm.RANGE)


def part(start: int) -> FreePart:
    return FreePart(0, RUN, start, 100)


@given(
    size=st.integers(1, 2000), used=st.integers(0, 99), start=st.integers(0, 99), working=st.integers(0, 9)
)
def test_a_share_ends_within_the_window_and_a_start_is_worth_a_request(
    size: int, used: int, start: int, working: int
) -> None:
    window = UnitWindow(size, [RUN])
    window.used(10 * used)
    room = 10 * used + size - 10 * start
    assert window.share(part(start), working) <= room
    if window.allows(part(start), working):
        assert room > 0
        assert not working or room >= min(size // (working + 1) // 2, part(start).size)
    assert window.allows(part(used), 0), "what is needed next is always given out"


def test_without_a_limit_everything_is_allowed() -> None:
    window = UnitWindow(0, [RUN])
    window.arrived(1000)
    assert window.allows(part(99), 5)
    assert window.share(part(0), 5) == float("inf")
    assert not window.stays_full(9.0)


def test_a_near_source_gets_fewer_connections_while_units_wait_to_be_used() -> None:
    for latency, allowed in ((0.001, 1), (0.05, 8)):
        scheduler = Scheduler([RUN], 100, [8], window=100, latencies=[latency])
        before = scheduler.sources[0].pace.allowed
        taken = scheduler.take(0, 0.0)
        assert taken is not None
        for unit in range(6):
            scheduler.deliver(taken, unit, 10, 0.1)
        for step in range(12):
            scheduler.tick(0.1 + 0.02 * step)
        assert scheduler.sources[0].pace.allowed == min(before, allowed)
