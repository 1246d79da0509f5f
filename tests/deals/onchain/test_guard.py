"""Spending limits refuse before anything is signed, each with the limit and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.chain import MAINNET
from reconciler.deals.onchain.guard import SpendingLimits, read_limits, refusals, shortfalls
from reconciler.deals.onchain.interface import FOREVER, Approval, PayAccount
from reconciler.deals.onchain.money import Prediction, parse_amount, runway
from reconciler.errors import UsageError
from tests.deals.onchain.test_money import PRICES
from tests.support.onchain.lab import UNIT

HEAD = 1000
RATE = 10**12
ACCOUNT = PayAccount(10 * UNIT, UNIT, RATE, HEAD)
PREDICTION = Prediction(2, 3, 8, UNIT // 2, RATE * 86_400, UNIT)
ALLOWED = Approval(True, FOREVER, FOREVER, 0, 0, 86_400)
NOW = runway(ACCOUNT, HEAD, MAINNET)


def refused(prediction: Prediction = PREDICTION, account: PayAccount = ACCOUNT, **limits: int) -> list[str]:
    return [
        r.text
        for r in refusals(prediction, SpendingLimits(**limits), account, runway(account, HEAD, MAINNET))
    ]


def test_without_limits_everything_may_begin() -> None:
    assert refused() == []


def test_each_limit_refuses_just_below_what_would_be_spent() -> None:
    assert refused(max_upload=UNIT // 2) == []
    assert refused(max_upload=UNIT // 2 - 10**14) == [
        "publishing costs 0.5 USDFC once, more than max_upload (0.4999 USDFC)"
    ]
    monthly = 2 * RATE * 86_400
    assert refused(max_monthly=monthly) == []
    (text,) = refused(max_monthly=monthly - 1)
    assert "a month, more than max_monthly" in text
    days = (10 * UNIT - UNIT - UNIT - UNIT // 2) // (2 * RATE * 2880)
    assert refused(min_runway_days=days) == []
    assert refused(min_runway_days=days + 1) == [
        f"the account would last {days} days, fewer than min_runway_days ({days + 1})"
    ]
    assert len(refused(max_upload=0, max_monthly=0, min_runway_days=36_500)) == 3


def test_what_costs_nothing_more_is_not_refused_because_of_what_runs_already() -> None:
    assert refused(Prediction(), max_upload=0, max_monthly=0, min_runway_days=36_500) == []


def test_a_deposit_of_the_hint_is_enough() -> None:
    limits = SpendingLimits(min_runway_days=2000)
    (reason,) = refusals(PREDICTION, limits, ACCOUNT, NOW)
    amount = parse_amount(reason.hint.split("'")[1]) - NOW.available
    richer = replace(ACCOUNT, funds=ACCOUNT.funds + amount)
    assert list(refusals(PREDICTION, limits, richer, runway(richer, HEAD, MAINNET))) == []


@given(st.integers(0, 20 * UNIT), st.integers(0, 5 * UNIT), st.integers(0, 5 * UNIT), st.integers(0, 10**13))
def test_a_stricter_limit_never_refuses_less(limit: int, less: int, once: int, rate: int) -> None:
    prediction = Prediction(1, 1, 1, once, rate * 86_400, 0)
    for name in ("max_upload", "max_monthly"):
        loose, strict = (
            refused(prediction, **{name: limit}),
            refused(prediction, **{name: max(0, limit - less)}),
        )
        assert len(strict) >= len(loose)


def missing(
    prediction: Prediction = PREDICTION, approval: Approval = ALLOWED, funds: int = 10 * UNIT
) -> list[str]:
    now = runway(replace(ACCOUNT, funds=funds), HEAD, MAINNET)
    return [reason.text for reason in shortfalls(prediction, 1, PRICES, now, approval)]


def test_what_the_account_lacks_is_named() -> None:
    assert missing() == []
    assert missing(approval=Approval(False)) == [
        "the payer has not approved the storage service as an operator"
    ]
    assert missing(funds=2 * UNIT) == ["1 USDFC are available, and 1.5 USDFC are needed"]
    assert missing(funds=UNIT) == ["the account is exhausted: everything in it is owed or locked"]
    short = replace(ALLOWED, rate_allowance=3 * RATE, rate_used=2 * RATE + 1)
    assert ["for an epoch" in text for text in missing(approval=short)] == [True]
    short = replace(ALLOWED, lockup_allowance=UNIT + UNIT // 2 - 1)
    assert ["for lockup" in text for text in missing(approval=short)] == [True]
    short = replace(ALLOWED, max_lockup_period=86_399)
    assert ["86399 epochs" in text for text in missing(approval=short)] == [True]


def test_nothing_is_lacking_when_nothing_is_sent() -> None:
    assert missing(Prediction(), Approval(False), 0 + UNIT) == []


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, SpendingLimits()),
        (
            {"max_upload": "1 USDFC", "max_monthly": "0.5", "min_runway_days": "30"},
            SpendingLimits(UNIT, UNIT // 2, 30),
        ),
        ({"min_runway_days": 0, "max_upload": 2}, SpendingLimits(2 * UNIT)),
    ],
)  # fmt: skip
def test_limits_are_read(options: dict[str, object], limits: SpendingLimits) -> None:
    assert read_limits(options, "filecoin") == limits


@pytest.mark.parametrize(
    "options",
    [
        {"max_upload": "1 FIL"}, {"max_monthly": "-1"}, {"max_monthly": ""}, {"max_upload": 1.5e300},
        {"min_runway_days": "x"}, {"min_runway_days": -1}, {"min_runway_days": 36_501},
        {"min_runway_days": "٣"},
    ],
)  # fmt: skip
def test_an_invalid_limit_names_the_target_and_the_key(options: dict[str, object]) -> None:
    (key,) = options
    with pytest.raises(UsageError, match=f"^filecoin: {key}: ") as caught:
        read_limits(options, "filecoin")
    assert caught.value.hint
