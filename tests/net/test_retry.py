"""Pauses grow with jitter, Retry-After is read in both forms, and the budget of a run ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reconciler.net.retry import RetryBudget, RetryPolicy, retry_after

NOW = datetime(2026, 5, 7, 12, 0, 0, tzinfo=UTC)


def test_a_pause_is_between_half_and_all_of_a_doubling_step_up_to_the_ceiling() -> None:
    policy = RetryPolicy(base=1.0, ceiling=5.0)
    assert [policy.pause(n, lambda: 0.0) for n in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 2.5]
    assert [policy.pause(n, lambda: 1.0) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 07 May 2026 12:01:30 GMT", 90.0),
        ("Thu, 07 May 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("١٢", None),
        ("9" * 400, 999999999999.0),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


def test_a_budget_ends_by_count_and_by_time() -> None:
    counted = RetryBudget(retries=2, seconds=100)
    assert [counted.take(1), counted.take(1), counted.take(1)] == [True, True, False]
    timed = RetryBudget(retries=9, seconds=10)
    assert [timed.take(8), timed.take(8), timed.take(2)] == [True, False, True]
