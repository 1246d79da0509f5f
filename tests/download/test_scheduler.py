"""The scheduler: every unit once, whatever sources do, and no connection idle while there is work for it."""

from __future__ import annotations

from array import array
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.download.limits import DownloadLimits
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import MOST_FAILURES, Setback
from reconciler.download.work import Assignment, RunForm, UnitRun

MIB = 1 << 20


def make_runs(lengths: list[tuple[int, RunForm]], size: int = MIB) -> list[UnitRun]:
    """Return a run of each length and form, whose units have `size` bytes."""
    found, unit = [], 0
    for length, form in lengths:
        offsets = array("Q", accumulate([size] * length, initial=0))
        found.append(UnitRun(range(unit, unit + length), offsets, form))
        unit += length
    return found


def one_run(length: int, form: RunForm = RunForm.RANGE, sources: int = 1, **options: int) -> Scheduler:
    return Scheduler(make_runs([(length, form)]), length, [64] * sources, **options)  # type: ignore[arg-type]


def span(assignment: Assignment) -> list[int]:
    return list(assignment.units)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(RunForm)), min_size=1, max_size=5),
    sources=st.integers(1, 3),
    window=st.sampled_from([0, 4 * MIB]),
    seed=st.randoms(use_true_random=False),
)
def test_every_unit_is_fresh_once_while_one_source_is_honest(
    lengths: list[tuple[int, RunForm]], sources: int, window: int, seed: object
) -> None:
    """Source 0 delivers in the end; all others may lie, fail, lack units, and not know forms."""
    chance = seed
    runs = make_runs(lengths)
    count = sum(length for length, _ in lengths)
    scheduler = Scheduler(runs, count, [4] * sources, window=window)
    fresh: list[int] = []
    overloads = 0
    working: list[Assignment] = []
    now = 0.0
    for _ in range(20_000):
        if scheduler.finished:
            break
        now += 0.05
        scheduler.tick(now)
        assert scheduler.hopeless() is None
        for number in range(sources):
            while (taken := scheduler.take(number, now)) is not None:
                working.append(taken)
        if not working:
            continue
        one = chance.choice(working)  # type: ignore[attr-defined]
        action = chance.random()  # type: ignore[attr-defined]
        single = one.form is RunForm.SINGLE
        if (one.source and action < 0.4) or (action < 0.05 and overloads < 3):
            working.remove(one)
            unit = one.units[0] if single and one.units else None
            if one.source and action < 0.1 and not single:
                scheduler.unsupported(one)
                scheduler.release(one, now, same_form=True)
            elif one.source and action < 0.15 and not single:
                scheduler.release(one, now, lacks_all=True)
            elif one.source and action < 0.3:
                setback = chance.choice([Setback.LIED, Setback.REFUSED, Setback.OVERLOADED])  # type: ignore[attr-defined]
                scheduler.fail(one, setback, now, unit=unit)
            else:
                overloads += not one.source
                scheduler.fail(one, Setback.OVERLOADED, now, unit=unit)
        elif not scheduler.wants_more(one) or (action > 0.97 and one.form is not RunForm.SINGLE):
            working.remove(one)
            scheduler.release(one, now)
        elif one.source and single and action < 0.6:
            scheduler.lacks(one, one.units[0])
        else:
            unit = one.units[0]
            if scheduler.deliver(one, unit, MIB, now):
                fresh.append(unit)
            first = next((at for at in range(count) if not scheduler.is_done(at)), count)
            scheduler.advance(first * MIB)
    assert sorted(fresh) == list(range(count))
    assert scheduler.finished


def test_free_units_are_divided_and_their_order_is_kept() -> None:
    scheduler = one_run(100)
    first, second = scheduler.take(0, 0.0), scheduler.take(0, 0.0)
    assert first is not None and second is not None
    assert span(first) == [0, 1, 2, 3], "4 MiB while nothing is known about the source"
    assert span(second) == [4, 5, 6, 7]
    assert scheduler.take(0, 0.0) is None, "a source begins with two connections"


def test_the_size_of_a_request_follows_the_rate() -> None:
    scheduler = one_run(10_000)
    slow = scheduler.take(0, 0.0)
    assert slow is not None
    scheduler.first_byte(slow, 0.05)
    for unit in span(slow):
        scheduler.deliver(slow, unit, MIB, 0.05 + (unit + 1) / 10)
    scheduler.release(slow, 0.45)
    following = scheduler.take(0, 0.45)
    assert following is not None
    rate, latency = 10, 0.05
    assert len(span(following)) == int(rate * max(0.5, 20 * latency) / 4), "a quarter during a trial"


def test_bytes_that_were_buffered_on_the_way_tell_no_rate() -> None:
    """A server that sends the first MiB at once, and 10 MB/s from then on, is not a source of 1 GB/s."""
    scheduler = one_run(10_000)
    burst = scheduler.take(0, 0.0)
    assert burst is not None
    scheduler.first_byte(burst, 0.4)
    for unit in span(burst):
        scheduler.deliver(burst, unit, MIB, 0.404)
    scheduler.release(burst, 0.404)
    assert 9.5 * MIB < scheduler.sources[0].rate < 10.5 * MIB


def test_an_idle_connection_takes_over_the_second_half() -> None:
    scheduler = one_run(100)
    first = scheduler.take(0, 0.0)
    assert first is not None
    first.stop = first.asked = 100
    other = one_run(0)
    assert other.finished and other.take(0, 0.0) is None
    scheduler = one_run(9, RunForm.SINGLE)
    first = scheduler.take(0, 0.0)
    rest = scheduler.take(0, 0.0)
    assert first is not None and rest is not None
    while scheduler.wants_more(rest):
        scheduler.deliver(rest, rest.units[0], MIB, 1.0)
    scheduler.release(rest, 1.0)
    seen = set(span(first))
    taken = scheduler.take(0, 1.0)
    while taken is not None and not seen & set(span(taken)):
        for unit in span(taken):
            scheduler.deliver(taken, unit, MIB, 1.0)
        scheduler.release(taken, 1.0)
        taken = scheduler.take(0, 1.0)
    assert taken is not None
    assert set(span(taken)) | set(span(first)) == seen
    assert not set(span(taken)) & set(span(first))


def test_a_connection_that_delivers_nothing_is_replaced() -> None:
    scheduler = one_run(1, sources=2)
    stuck = scheduler.take(0, 0.0)
    assert stuck is not None
    assert scheduler.take(1, 4.0) is None
    other = scheduler.take(1, 6.0)
    assert other is not None and span(other) == [0]
    assert scheduler.deliver(other, 0, MIB, 6.5)
    assert not scheduler.deliver(stuck, 0, MIB, 7.0), "the second copy is not kept"
    assert not scheduler.wants_more(stuck)
    assert scheduler.finished


def test_a_source_is_given_up_only_for_failures_in_a_row() -> None:
    scheduler = one_run(40)
    for number in range(10):
        one = scheduler.take(0, float(number))
        assert one is not None
        scheduler.deliver(one, one.units[0], MIB, number + 0.1)
        scheduler.fail(one, Setback.BROKEN, number + 0.2)
    assert scheduler.sources[0].usable
    one = scheduler.take(0, 19.0)
    assert one is not None
    scheduler.deliver(one, one.units[0], MIB, 19.1)
    scheduler.release(one, 19.2, same_form=True)
    for number in range(MOST_FAILURES):
        one = scheduler.take(0, 20.0 + number)
        assert one is not None
        scheduler.fail(one, Setback.BROKEN, 20.5 + number)
    assert not scheduler.sources[0].usable
    assert scheduler.hopeless() is not None


def test_a_connection_that_breaks_beside_others_is_no_failure() -> None:
    scheduler = one_run(100)
    steady = scheduler.take(0, 0.0)
    assert steady is not None
    broken = 0
    for tick in range(200):
        now = tick / 10
        scheduler.received(steady, 1000, now)
        if (other := scheduler.take(0, now)) is not None:
            scheduler.fail(other, Setback.BROKEN, now + 0.05)
            broken += 1
        scheduler.tick(now + 0.06)
    assert scheduler.sources[0].usable
    assert broken >= 2


def test_requests_in_progress_at_a_lie_do_not_count_again() -> None:
    scheduler = one_run(100)
    first, second = scheduler.take(0, 0.0), scheduler.take(0, 0.0)
    assert first is not None and second is not None
    scheduler.fail(first, Setback.LIED, 1.0)
    scheduler.fail(second, Setback.LIED, 1.1)
    assert scheduler.sources[0].lies == 1
    third = scheduler.take(0, 2.0)
    assert third is not None
    assert scheduler.fail(third, Setback.LIED, 3.0), "the second lie"
    assert scheduler.hopeless() is not None


def test_a_long_pause_is_no_reason_to_wait() -> None:
    scheduler = one_run(10)
    one = scheduler.take(0, 0.0)
    assert one is not None
    assert scheduler.fail(one, Setback.OVERLOADED, 0.1, pause=86_400.0)


def test_limits_hold_for_one_source_and_for_all() -> None:
    runs = make_runs([(1000, RunForm.SINGLE)])
    scheduler = Scheduler(runs, 1000, [256] * 9, DownloadLimits(connections=8), latencies=[0.1] * 9)
    taken = [scheduler.take(number, 0.0) for number in range(9) for _ in range(9)]
    assert max(len(source.active) for source in scheduler.sources) == 8
    assert sum(one is not None for one in taken) == 64


def test_nothing_beyond_the_window_is_given_out() -> None:
    scheduler = one_run(100, window=6 * MIB)
    while (one := scheduler.take(0, 0.0)) is not None:
        assert one.stop <= 6
        last = one
    scheduler.advance(6 * MIB)
    scheduler.release(last, 0.1, same_form=True)
    following = scheduler.take(0, 0.1)
    assert following is not None
