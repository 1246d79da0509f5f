"""The number of connections: it grows while that pays off, and shrinks when the source does not bear it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.download.limits import RateLimit, parse_rate
from reconciler.download.pace import START, START_FAR, ConnectionPace

TICK = 0.025


def run(pace: ConnectionPace, rate_of: Callable[[int], float], seconds: float, since: float = 0.0) -> None:
    """Let all allowed connections be busy for some seconds, at `rate_of` their number in bytes per second."""
    for tick in range(int(seconds / TICK)):
        pace.received(int(rate_of(pace.allowed) * TICK))
        pace.tick(since + tick * TICK, pace.allowed)


def test_it_begins_small_and_with_more_where_the_source_is_far() -> None:
    assert ConnectionPace(32).allowed == START
    assert ConnectionPace(32, 0.05).allowed == START_FAR
    assert ConnectionPace(3, 0.05).allowed == 3


def test_it_grows_to_the_ceiling_while_each_connection_adds_its_rate() -> None:
    pace = ConnectionPace(32, 0.05)
    run(pace, lambda count: count * 10e6, 2)
    assert pace.allowed == 32


@pytest.mark.parametrize("enough", [2, 5, 12])
def test_it_stays_near_the_number_that_fills_the_link(enough: int) -> None:
    pace = ConnectionPace(32)
    run(pace, lambda count: min(count, enough) * 10e6, 60)
    assert enough <= pace.allowed <= 2 * enough + 2


def test_a_source_that_is_overloaded_by_more_gets_fewer() -> None:
    """Twice the best number halves the rate."""
    pace = ConnectionPace(32)
    run(pace, lambda count: 80e6 if count <= 8 else 20e6, 30)
    assert pace.allowed <= 8


def test_a_rate_that_falls_is_tried_with_fewer() -> None:
    pace = ConnectionPace(32)
    run(pace, lambda count: count * 10e6, 10)
    before = pace.allowed
    run(pace, lambda _: 10e6, 10, since=10)
    assert pace.allowed < before


def test_a_request_for_fewer_halves_and_the_number_comes_back_slowly() -> None:
    pace = ConnectionPace(32)
    run(pace, lambda count: count * 10e6, 10)
    pace.overloaded(31, 10.0)
    assert pace.allowed == 16
    run(pace, lambda count: count * 10e6, 0.5, since=10)
    assert pace.allowed == 16
    run(pace, lambda count: count * 10e6, 20, since=10.5)
    assert pace.allowed > 16


def test_a_server_that_resets_all_but_three_is_used_with_three() -> None:
    pace = ConnectionPace(32, 0.05)
    for number in range(5):
        pace.broke(7 - number, 1.0 + number / 100)
    assert pace.allowed == 3


def test_one_broken_connection_of_many_is_replaced() -> None:
    pace = ConnectionPace(32)
    run(pace, lambda count: count * 10e6, 10)
    pace.broke(31, 10.0)
    assert pace.allowed == 31
    run(pace, lambda count: count * 10e6, 2, since=10)
    assert pace.allowed == 32


def test_nothing_is_tried_near_the_end() -> None:
    pace = ConnectionPace(32)
    for tick in range(400):
        pace.received(int(10e6 * pace.allowed * TICK))
        pace.tick(tick * TICK, pace.allowed, left=0.1)
    assert pace.allowed == START


def test_a_number_of_idle_connections_says_nothing() -> None:
    pace = ConnectionPace(32)
    for tick in range(400):
        pace.received(int(10e6 * TICK))
        pace.tick(tick * TICK, pace.allowed - 1)
    assert pace.allowed == START


RATES = {
    "0": 0,
    "500": 500,
    "500K": 500 << 10,
    "20M": 20 << 20,
    "1g": 1 << 30,
    "2MiB/s": 2 << 20,
    "2MB": 2 << 20,
    **dict.fromkeys(["3 MiB/s", "-1", "", "1T", "1.5M"]),
}


@pytest.mark.parametrize(("text", "rate"), RATES.items())
def test_rates_are_read_as_curl_reads_them(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


def test_a_rate_is_kept_on_average() -> None:
    limit, now = RateLimit(1000), 0.0
    for _ in range(100):
        now += limit.take(100, now)
    assert 100 * 100 / 1000 - 0.5 <= now <= 100 * 100 / 1000
    assert RateLimit(0).take(1 << 40, 0.0) == 0
