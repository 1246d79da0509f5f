"""Costs and accounts as JSON: exact decimal amounts as strings, dates in RFC 3339."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from reconciler.targets.pricing import PayingAccount, Quote


def cost_document(cost: Quote) -> dict[str, Any]:
    """Return the JSON object of what a delivery does and costs."""
    return {
        "currency": cost.currency,
        "once": amount_text(cost.once),
        "monthly": amount_text(cost.monthly),
        "locked": amount_text(cost.locked),
        "transactions": cost.transactions,
        "signatures": cost.signatures,
        "requests": cost.requests,
    }


def account_document(target: str, account: PayingAccount) -> dict[str, Any]:
    """Return the JSON object of the account that pays for `target`."""
    return {
        "target": target,
        "account": account.name,
        "currency": account.currency,
        "deposit": amount_text(account.deposit),
        "available": amount_text(account.available),
        "locked": amount_text(account.locked),
        "monthly": amount_text(account.monthly),
        "approved": account.approved,
        "monthly_allowance": _allowance(account.monthly_allowance),
        "lockup_allowance": _allowance(account.lockup_allowance),
        "exhausted": _moment(account.exhausted),
        "ends": _moment(account.ends),
        "at": _moment(account.at),
        "problems": [{"text": each.text, "hint": each.hint} for each in account.problems],
    }


def amount_text(amount: Decimal) -> str:
    """Return an amount exactly, without an exponent: `0.0264`."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _allowance(amount: Decimal | None) -> str | None:
    return None if amount is None else amount_text(amount)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
