"""Pauses grow with jitter, Retry-After is read in both forms, and the budget of a run ends."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from reconciler.net.client import HttpClient
from reconciler.net.errors import TransientError
from reconciler.net.retry import NO_RETRY, RetryBudget, RetryPolicy, retry_after

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


def test_the_end_of_a_run_ends_pauses_and_clients_and_allows_no_retry() -> None:
    """Also of requests that are made through connections of their own, and of clients made later."""
    budget = RetryBudget()
    http = HttpClient("http://127.0.0.1:1", name="peer", budget=budget, retry=RetryPolicy(base=1000))
    apart = http.apart()
    threading.Timer(0.05, budget.end).start()
    with pytest.raises(TransientError):
        http.request("GET", "", repeatable=True)  # it pauses for half a minute after the first attempt
    budget.pause(1000)
    later = HttpClient("http://127.0.0.1:1", name="peer", budget=budget)
    for client in (http, apart, later, later.apart()):
        with pytest.raises(TransientError, match="closed"):
            client.request("GET", "", repeatable=True)
        client.pause(1000)
        client.close()


def test_a_client_that_uses_connections_of_its_own_is_closed_alone() -> None:
    http = HttpClient("http://127.0.0.1:1", name="peer")
    http.apart().close()
    with pytest.raises(TransientError, match="refused"):
        http.request("GET", "", repeatable=True, retry=NO_RETRY)
    http.close()
