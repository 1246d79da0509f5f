"""Spending limits, checked before anything is signed. Pure.

A target's entry in targets.yaml sets them: `max_upload` (money that one run may spend once), `max_monthly`
(what all data sets of the payer may cost in 30 days), and `min_runway_days` (days that the account must last
after the run).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.deals.onchain.interface import (
    EPOCHS_PER_DAY,
    EPOCHS_PER_MONTH,
    Approval,
    PayAccount,
    PriceList,
    Runway,
)
from reconciler.deals.onchain.money import (
    Prediction,
    deposit_for,
    format_amount,
    needed_to_create,
    parse_amount,
)
from reconciler.errors import DataError, Reason, UsageError

_MAX_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """Limits in the smallest unit of the token, None for no limit; `min_runway_days` in days."""

    max_upload: int | None = None
    max_monthly: int | None = None
    min_runway_days: int = 0


def read_limits(options: Mapping[str, object], name: str) -> SpendingLimits:
    """Return the limits in the `options` of the target `name`. Raises UsageError for an invalid one."""

    def amount(key: str) -> int | None:
        value = options.get(key)
        try:
            return None if value is None else parse_amount(str(value))
        except DataError as error:
            raise UsageError(f"{name}: {key}: {error.message}", hint=error.hint) from None

    days = str(options.get("min_runway_days", 0))
    if not (days.isascii() and days.isdigit() and int(days[:9]) <= _MAX_DAYS):
        raise UsageError(
            f"{name}: min_runway_days: not a number of days: {days[:32]!r}",
            hint=f"write a whole number of days, at most {_MAX_DAYS}",
        )
    return SpendingLimits(amount("max_upload"), amount("max_monthly"), int(days))


def refusals(
    prediction: Prediction, limits: SpendingLimits, account: PayAccount, now: Runway
) -> Iterator[Reason]:
    """Iterate over the limits that a run with this `prediction` would break; none means that it may begin.

    `account` and `now` are the payer's account and runway before the run.
    """
    if limits.max_upload is not None and prediction.once > limits.max_upload:
        yield Reason(
            f"publishing costs {format_amount(prediction.once)} once, more than max_upload "
            f"({format_amount(limits.max_upload)})",
            "publish fewer versions at once, or raise max_upload in targets.yaml",
        )
    monthly = account.rate * EPOCHS_PER_MONTH + prediction.monthly
    if limits.max_monthly is not None and prediction.monthly > 0 and monthly > limits.max_monthly:
        yield Reason(
            f"storage would cost {format_amount(monthly)} a month, more than max_monthly "
            f"({format_amount(limits.max_monthly)})",
            "keep fewer versions or copies, or raise max_monthly in targets.yaml",
        )
    after = now.available - prediction.once - prediction.locked
    rate = account.rate + prediction.monthly // EPOCHS_PER_MONTH
    if limits.min_runway_days and rate and prediction.monthly > 0:
        days = max(0, after) // (rate * EPOCHS_PER_DAY)
        if days < limits.min_runway_days:
            needed = now.available + deposit_for(limits.min_runway_days, rate, after)
            yield Reason(
                f"the account would last {days} days, fewer than min_runway_days ({limits.min_runway_days})",
                _make_available(needed),
            )


def shortfalls(
    prediction: Prediction,
    creates: int,
    prices: PriceList,
    now: Runway,
    approval: Approval,
) -> Iterator[Reason]:
    """Iterate over what the account lacks for a run with this `prediction` that creates `creates` data sets.

    The contracts would refuse such a run in the middle. `now` is the payer's runway, `approval` what the
    payer allows the service to take.
    """
    if not prediction.transactions:
        return
    if not approval.approved:
        yield Reason(
            "the payer has not approved the storage service as an operator",
            "run reconcile fund TARGET to approve it",
        )
    if now.epochs == 0:
        yield Reason(
            "the account is exhausted: everything in it is owed or locked",
            _make_available(prediction.once + prediction.locked),
        )
    needed = max(prediction.once + prediction.locked, creates * needed_to_create(prices))
    if now.epochs and now.available < needed:
        yield Reason(
            f"{format_amount(now.available)} are available, and {format_amount(needed)} are needed",
            _make_available(needed),
        )
    if not approval.approved:
        return
    for what, allowed, used, more in (
        (
            "an epoch",
            approval.rate_allowance,
            approval.rate_used,
            prediction.monthly // EPOCHS_PER_MONTH,
        ),
        ("lockup", approval.lockup_allowance, approval.lockup_used, prediction.locked + prediction.once),
    ):
        if used + more > allowed:
            yield Reason(
                f"the payer allows the service {format_amount(allowed)} for {what}, of which "
                f"{format_amount(used)} are used, and {format_amount(more)} more are needed",
                "run reconcile fund TARGET to raise the allowance",
            )
    if approval.max_lockup_period < prices.lockup_period:
        yield Reason(
            f"the payer allows the service to lock {approval.max_lockup_period} epochs of storage, and "
            f"{prices.lockup_period} are needed",
            "run reconcile fund TARGET to raise the allowance",
        )


def _make_available(amount: int) -> str:
    """Return the hint that makes `amount` available, whatever is there now."""
    return f"run reconcile fund TARGET --deposit '{format_amount(amount)}', so that this is available"


def naming_target(reason: Reason, name: str) -> Reason:
    """Return `reason` with a hint that can be run as it is."""
    return Reason(reason.text, fill_target(reason.hint, name))


def fill_target(hint: str, name: str) -> str:
    """Return `hint` with the target's `name` in the command `reconcile fund TARGET`."""
    return hint.replace("reconcile fund TARGET", f"reconcile fund {name}")
