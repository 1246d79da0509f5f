"""What an account lacks before anything can be published, and the transactions that supply it. Pure.

A payer funds its account once: it deposits, approves the service as operator, and lets a session key sign
uploads. Each step is made only when it is missing, so doing it again does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from reconciler.deals.onchain.interface import (
    EPOCHS_PER_DAY,
    EPOCHS_PER_MONTH,
    FOREVER,
    UPLOAD_SCOPES,
    Approval,
    EvmAddress,
    PayAccount,
    SigningScope,
)
from reconciler.deals.onchain.keys import SigningKey
from reconciler.deals.onchain.money import adding_fee, format_amount, needed_to_create, runway
from reconciler.deals.onchain.reader import ChainView
from reconciler.deals.onchain.wallet import UnsentCall, approve_call, deposit_call, login_call

SESSION_DAYS = 180  #: validity of a session key
RENEW_SESSION_DAYS = 30  #: a session key that ends sooner is renewed


@dataclass(frozen=True, slots=True)
class FundingGoal:
    """What an account shall have: so much `available`, money for `days`, the service approved to take `rate`
    an epoch, and the session key `session` allowed to sign uploads (None: the payer signs itself).
    """

    available: int = 0
    days: int = 0
    rate: int = FOREVER
    session: EvmAddress | None = None


class FundingKind(StrEnum):
    """What one transaction of the payer is for."""

    DEPOSIT = "deposit"  #: of tokens; it approves the service as well
    APPROVE = "approve"  #: the service as operator
    LOGIN = "login"  #: of the session key


@dataclass(frozen=True, slots=True)
class FundingStep:
    """One transaction that is missing. `why` is for people, `amount` what a deposit pays in."""

    kind: FundingKind
    why: str
    amount: int = 0


@dataclass(frozen=True, slots=True)
class FundingState:
    """The account of a payer as of one block: `wallet` has the tokens that are not deposited, `debt` is owed
    since the account was exhausted, `expiries` are those of the session key.
    """

    account: PayAccount
    approval: Approval
    available: int
    debt: int
    wallet: int
    lockup_period: int
    at: datetime
    expiries: Mapping[SigningScope, datetime] = field(default_factory=dict)


def read_funding(view: ChainView, payer: EvmAddress, session: EvmAddress | None) -> FundingState:
    """Read what a payer has. Raises RequestError."""
    account = view.account(payer)
    now = runway(account, view.block.number, view.chain)
    return FundingState(
        account,
        view.approval(payer),
        available=now.available,
        debt=account.rate * max(0, view.block.number - now.funded_until),
        wallet=view.balance(payer),
        lockup_period=view.prices.lockup_period,
        at=datetime.fromtimestamp(view.block.timestamp, UTC),
        expiries={} if session is None else view.expiries(payer, session, UPLOAD_SCOPES),
    )


def needed_for_copies(view: ChainView, copies: int) -> int:
    """Return what must be available so that `copies` data sets can be created, with a first piece in each."""
    prices = view.prices
    return copies * (needed_to_create(prices) + prices.create + adding_fee(1, 1, prices))


def missing_steps(state: FundingState, goal: FundingGoal) -> Iterator[FundingStep]:
    """Iterate over the transactions that are missing, in order."""
    approved = _is_approved(state, goal)
    amount = missing_deposit(state, goal)
    if amount:
        why = f"{format_amount(state.available)} are available"
        if state.debt:
            why += f", and {format_amount(state.debt)} are owed"
        if goal.days:
            why += f"; the account shall last {goal.days} days"
        yield FundingStep(FundingKind.DEPOSIT, why, amount)
    if not approved and not amount:
        yield FundingStep(FundingKind.APPROVE, _why_not_approved(state, goal))
    if goal.session is not None:
        why = _why_login(state)
        if why:
            yield FundingStep(FundingKind.LOGIN, why)


def missing_deposit(state: FundingState, goal: FundingGoal) -> int:
    """Return what must be deposited so that the goal is reached; 0 when it is."""
    wanted = max(goal.available, state.account.rate * EPOCHS_PER_DAY * goal.days)
    return max(0, wanted + state.debt - state.available)


def funding_call(step: FundingStep, view: ChainView, key: SigningKey, goal: FundingGoal) -> UnsentCall:
    """Return the call of one step; `key` is the payer's. Raises RequestError."""
    match step.kind:
        case FundingKind.DEPOSIT:
            return deposit_call(view, key, step.amount, rate_allowance=goal.rate)
        case FundingKind.APPROVE:
            return approve_call(view, rate_allowance=goal.rate)
        case FundingKind.LOGIN:
            assert goal.session is not None  # noqa: S101 - only then there is such a step
            end = view.block.timestamp + int(timedelta(days=SESSION_DAYS).total_seconds())
            return login_call(view.contracts, goal.session, end)


def rate_of(monthly: int | None) -> int:
    """Return the allowance for an epoch that permits `monthly` in 30 days; None: no limit."""
    return FOREVER if monthly is None else -(-monthly // EPOCHS_PER_MONTH)


def _is_approved(state: FundingState, goal: FundingGoal) -> bool:
    found = state.approval
    return (
        found.approved
        and found.rate_allowance >= min(goal.rate, FOREVER // 2)
        and found.lockup_allowance >= FOREVER // 2  # the fees of each call are taken off it
        and found.max_lockup_period >= state.lockup_period
    )


def _why_not_approved(state: FundingState, goal: FundingGoal) -> str:
    if not state.approval.approved:
        return "the service is not approved as operator"
    if state.approval.rate_allowance < min(goal.rate, FOREVER // 2):
        return f"the allowance is {format_amount(state.approval.rate_allowance * EPOCHS_PER_MONTH)} a month"
    if state.approval.max_lockup_period < state.lockup_period:
        return f"the service may lock {state.approval.max_lockup_period} epochs of {state.lockup_period}"
    return f"the allowance for lockup is {format_amount(state.approval.lockup_allowance)}"


def _why_login(state: FundingState) -> str:
    """Return why the session key needs a login; "" when it may sign uploads for long enough."""
    soon = state.at + timedelta(days=RENEW_SESSION_DAYS)
    for scope in UPLOAD_SCOPES:
        end = state.expiries.get(scope)
        if end is None:
            return f"the session key may not sign {scope.value}"
        if end < soon:
            return f"the session key may sign {scope.value} only until {end:%Y-%m-%d}"
    return ""
