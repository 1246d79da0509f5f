"""Amounts, costs and accounts in words and in JSON."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Reason
from reconciler.loop.cost_document import amount_text
from reconciler.render.costs import account_lines, account_text, amount, cost_text, funding_text
from reconciler.targets.pricing import FundingAction, FundingPlan, PayingAccount, Quote

ACCOUNT = PayingAccount(
    "0xf39f on devnet",
    "USDFC",
    Decimal(5),
    Decimal("4.5"),
    Decimal("0.5"),
    Decimal("0.048"),
    approved=True,
    monthly_allowance=None,
    lockup_allowance=None,
    exhausted=None,
    ends=None,
    at=datetime(2026, 11, 30, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", "0"),
        ("5", "5"),
        ("0.02640000001", "0.0265"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("1000000", "1000000"),
        ("10.10", "10.1"),
        ("-0.5", "-0.5"),
    ],
)
def test_an_amount_is_rounded_up_and_a_small_one_is_not_zero(value: str, shown: str) -> None:
    assert amount(Decimal(value), "USDFC") == f"{shown} USDFC"


@given(st.integers(0, 2**200))
def test_an_amount_in_json_is_exact(units: int) -> None:
    value = Decimal(units) * Decimal("0.000000000000000001") if units < 10**27 else Decimal(units)
    text = amount_text(value)
    assert Decimal(text) == value
    assert "E" not in text


def test_an_account_says_what_the_service_may_take_and_how_long_it_lasts() -> None:
    assert "allowance unlimited; lasts without end" in account_text("filecoin", ACCOUNT)
    limited = replace(ACCOUNT, monthly_allowance=Decimal(2), lockup_allowance=Decimal(3))
    assert "allowance 2 USDFC a month and 3 USDFC locked" in account_text("filecoin", limited)
    assert "the service is not approved" in account_text("filecoin", replace(ACCOUNT, approved=False))
    assert "available" not in account_text("filecoin", ACCOUNT, settled=True)


def test_hostile_text_stays_on_its_line() -> None:
    hostile = "a\n::error::b\x1b[31m"
    account = replace(ACCOUNT, name=hostile, currency=hostile, problems=(Reason(hostile, hostile),))
    plan = FundingPlan(account, Decimal(1), (FundingAction("login", hostile, hostile),), account.problems)
    text = (
        funding_text("filecoin", plan) + cost_text(Quote(hostile)) + "\n".join(account_lines({"t": account}))
    )
    assert "\x1b" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())
