"""Funding supplies exactly what is missing, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.onchain.funding import (
    FundingGoal,
    FundingKind,
    FundingState,
    funding_call,
    missing_deposit,
    missing_steps,
    needed_for_copies,
    rate_of,
    read_funding,
)
from reconciler.deals.onchain.interface import (
    EPOCHS_PER_DAY,
    FOREVER,
    UPLOAD_SCOPES,
    Approval,
    EvmAddress,
    PayAccount,
)
from reconciler.deals.onchain.wallet import approve_call, withdraw_call
from tests.support.onchain.lab import UNIT
from tests.support.onchain.payer import Payer, key, pieces

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SESSION = EvmAddress(b"\1" * 20)
FULL = FundingState(
    PayAccount(10 * UNIT, UNIT, 10**12, 0),
    Approval(True, FOREVER, FOREVER - UNIT, 0, 0, 86_400),
    available=9 * UNIT,
    debt=0,
    wallet=UNIT,
    lockup_period=86_400,
    at=NOW,
    expiries={scope: NOW + timedelta(days=31) for scope in UPLOAD_SCOPES},
)
GOAL = FundingGoal(session=SESSION)


def kinds(state: FundingState, goal: FundingGoal = GOAL) -> list[str]:
    return [step.kind.value for step in missing_steps(state, goal)]


def test_an_account_that_has_everything_needs_nothing() -> None:
    assert kinds(FULL) == []
    assert kinds(FULL, FundingGoal(9 * UNIT, 9)) == []


@pytest.mark.parametrize(
    ("approval", "why"),
    [
        (Approval(False, FOREVER, FOREVER, 0, 0, 86_400), "the service is not approved as operator"),
        (replace(FULL.approval, rate_allowance=10**13), "the allowance is 0.864 USDFC a month"),
        (replace(FULL.approval, lockup_allowance=UNIT), "the allowance for lockup is 1 USDFC"),
        (replace(FULL.approval, max_lockup_period=86_399), "the service may lock 86399 epochs of 86400"),
    ],
)
def test_an_approval_that_is_too_small_is_renewed(approval: Approval, why: str) -> None:
    (step,) = missing_steps(replace(FULL, approval=approval), GOAL)
    assert (step.kind, step.why) == (FundingKind.APPROVE, why)


def test_a_deposit_approves_as_well() -> None:
    bare = replace(FULL, approval=Approval(False))
    assert kinds(bare, FundingGoal(10 * UNIT)) == ["deposit"]


def test_an_allowance_as_large_as_the_limit_of_the_target_is_enough() -> None:
    limited = replace(FULL, approval=replace(FULL.approval, rate_allowance=rate_of(2 * UNIT)))
    assert kinds(limited, FundingGoal(rate=rate_of(2 * UNIT))) == []
    assert kinds(limited, FundingGoal(rate=rate_of(3 * UNIT))) == ["approve"]
    assert rate_of(None) == FOREVER
    assert rate_of(86_401) == 2, "rounded up, so that the limit itself can be reached"


def test_a_session_key_is_renewed_before_it_ends_and_for_both_scopes() -> None:
    ends = dict(FULL.expiries)
    for scope in UPLOAD_SCOPES:
        (step,) = missing_steps(replace(FULL, expiries={**ends, scope: NOW + timedelta(days=29)}), GOAL)
        assert step.why == f"the session key may sign {scope.value} only until 2026-12-29"
        (step,) = missing_steps(
            replace(FULL, expiries={key: end for key, end in ends.items() if key != scope}), GOAL
        )
        assert step.why == f"the session key may not sign {scope.value}"
    assert kinds(replace(FULL, expiries={}), FundingGoal()) == [], "the payer signs itself"


@given(
    st.integers(0, 20 * UNIT), st.integers(0, 1000), st.integers(0, 10**12), st.integers(0, 20 * UNIT),
    st.integers(0, UNIT),
)  # fmt: skip
def test_a_deposit_reaches_the_goal_exactly(
    wanted: int, days: int, rate: int, available: int, debt: int
) -> None:
    goal = FundingGoal(wanted, days)
    state = replace(FULL, account=replace(FULL.account, rate=rate), available=available, debt=debt)
    amount = missing_deposit(state, goal)
    after = replace(state, available=available + amount - debt, debt=0)
    assert missing_deposit(after, goal) == 0
    assert after.available >= max(wanted, rate * EPOCHS_PER_DAY * days)
    if amount:
        assert missing_deposit(replace(after, available=after.available - 1), goal) == 1


def test_a_new_payer_is_funded_on_the_chain_once(payer: Payer) -> None:
    session = key(3).address
    goal = FundingGoal(6 * UNIT, session=session)
    payer.wallet.carry_out(approve_call(payer.view(), approved=False))
    done = []
    for _ in range(3):
        view = payer.view()
        for step in missing_steps(read_funding(view, payer.key.address, session), goal):
            payer.wallet.carry_out(funding_call(step, view, payer.key, goal))
            done.append(step.kind.value)
    assert done == ["deposit", "login"]
    state = read_funding(payer.view(), payer.key.address, session)
    assert (state.available, state.wallet, state.approval.approved) == (6 * UNIT, 994 * UNIT, True)
    assert set(state.expiries) == set(UPLOAD_SCOPES)


def test_the_smallest_deposit_is_enough_for_the_first_copies(payer: Payer) -> None:
    view = payer.view()
    needed = needed_for_copies(view, 2)
    payer.wallet.carry_out(withdraw_call(view, 5 * UNIT - needed))
    wanted = pieces(1)
    assert {payer.create(1, wanted), payer.create(2, wanted)} == {1, 2}


def test_a_debt_is_part_of_the_deposit(payer: Payer) -> None:
    """A deposit of less would leave the account exhausted."""
    payer.create(1, pieces(1))
    view = payer.view()
    state = read_funding(view, payer.key.address, None)
    payer.wallet.carry_out(withdraw_call(view, state.available - state.account.rate * 10))
    payer.lab.mine(1000)
    view = payer.view()
    state = read_funding(view, payer.key.address, None)
    assert state.debt > 0
    goal = FundingGoal(days=30)
    (step,) = missing_steps(state, goal)
    payer.wallet.carry_out(funding_call(step, view, payer.key, goal))
    after = read_funding(payer.view(), payer.key.address, None)
    assert after.debt == 0
    assert after.available >= state.account.rate * EPOCHS_PER_DAY * 30 - 5 * state.account.rate
