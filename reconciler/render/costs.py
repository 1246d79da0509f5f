"""Costs and accounts in words: `0.0532 USDFC once, 0.0481 USDFC a month`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal

from reconciler.render.words import count, plain
from reconciler.targets.pricing import FundingPlan, FundingReceipt, PayingAccount, Quote

_STEP = Decimal("0.0001")


def amount(value: Decimal, currency: str) -> str:
    """Format an amount, rounded up to 4 decimals; a smaller one than that keeps what it has."""
    shown = value if abs(value) < _STEP else value.quantize(_STEP, rounding=ROUND_CEILING)
    text = f"{shown:f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {plain(currency)}"


def price_text(cost: Quote) -> str:
    """Return what is paid: `0.0532 USDFC once, 0.0481 USDFC a month`."""
    return f"{amount(cost.once, cost.currency)} once, {amount(cost.monthly, cost.currency)} a month"


def cost_text(cost: Quote) -> str:
    """Return what is paid and done for a delivery."""
    return (
        f"costs {price_text(cost)}; {count(cost.transactions, 'transaction')}, "
        f"{count(cost.signatures, 'signature')}, {count(cost.requests, 'request')}"
    )


def account_text(name: str, account: PayingAccount, *, settled: bool = False) -> str:
    """Return the state of the account that pays for the target `name`, on one line.

    With `settled` only what does not change from minute to minute, so that equal plans have equal text.
    """
    currency = account.currency
    parts = [
        f"deposit {amount(account.deposit, currency)}"
        if settled
        else f"deposit {amount(account.deposit, currency)} ({amount(account.available, currency)} available, "
        f"{amount(account.locked, currency)} locked)",
        f"{amount(account.monthly, currency)} a month",
        _allowance_text(account),
        _lasts(account),
    ]
    return plain(f"{name}: account {account.name}: " + "; ".join(parts))


def account_lines(accounts: Mapping[str, PayingAccount], *, settled: bool = False) -> Iterator[str]:
    """Yield a line for each account, each followed by its problems."""
    for name, account in accounts.items():
        yield account_text(name, account, settled=settled)
        for problem in account.problems:
            hint = f" — {plain(problem.hint)}" if problem.hint else ""
            yield f"  {plain(problem.text)}{hint}"


def _allowance_text(account: PayingAccount) -> str:
    if not account.approved:
        return "the service is not approved"
    limits = (("a month", account.monthly_allowance), ("locked", account.lockup_allowance))
    shown = [f"{amount(value, account.currency)} {what}" for what, value in limits if value is not None]
    return f"allowance {' and '.join(shown)}" if shown else "allowance unlimited"


def _lasts(account: PayingAccount) -> str:
    if account.exhausted is None:
        return "lasts without end"
    ends = f", storage ends {account.ends:%Y-%m-%d}" if account.ends is not None else ""
    return f"exhausted {account.exhausted:%Y-%m-%d}{ends}"


def funding_text(name: str, plan: FundingPlan) -> str:
    """Return the account that pays for the target `name`, and what it lacks or what is left to stop."""
    currency = plan.account.currency
    lines = [*account_lines({name: plan.account}), f"wallet: {amount(plan.wallet, currency)} not deposited"]
    sign = "-" if plan.stops else "+"
    lines += [f"{sign} {plain(action.text)}  ({plain(action.why)})" for action in plan.actions]
    lines += [f"! {plain(problem.text)}" for problem in plan.problems]
    nothing = "Nothing is left to stop." if plan.stops else "Nothing is missing."
    lines += ["", f"{count(len(plan.actions), 'transaction')} to send." if plan.actions else nothing]
    return "\n".join(lines) + "\n"


def receipt_text(receipt: FundingReceipt) -> str:
    """Return what was carried out, and by which transaction."""
    return f"ok {plain(receipt.action.text)}: transaction {plain(receipt.hash)}\n"
