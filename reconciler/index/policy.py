"""What the index asks of deals: `policy: {deals: {min: 2, providers: 2, renew_before: 30d}}`."""

from __future__ import annotations

import re
from datetime import timedelta

from reconciler.index import schemas
from reconciler.index.guarded_yaml import Mapping, Node, Scalar
from reconciler.index.model import DealPolicy
from reconciler.index.problems import Problem, shown

MOST = 100  #: deals of one piece
RENEW_BEFORE = timedelta(days=30)  #: where the index says nothing
_PERIOD = re.compile(r"([1-9][0-9]{0,3})d")


def read_deal_policy(
    node: Mapping, inherited: DealPolicy | None, problems: list[Problem]
) -> DealPolicy | None:
    """The policy that `node` has, else `inherited`; what does not hold in it goes to `problems`."""
    policy = node.value("policy")
    if policy is None:
        return inherited
    deals = policy.value("deals") if isinstance(policy, Mapping) else None
    if not isinstance(deals, Mapping):
        problems.append(Problem(_line(policy), "'policy' needs a mapping 'deals'", "deals: {min: 2}"))
        return inherited
    least = _count(deals, "min", None, problems)
    providers = _count(deals, "providers", 1, problems)
    if providers > least:
        problems.append(
            Problem(
                _line(deals.value("providers")),
                f"{providers} providers cannot have {least} deals",
                "ask for at least as many deals as providers",
            )
        )
    return DealPolicy(least, providers, _period(deals.value("renew_before"), problems))


def _count(deals: Mapping, key: str, otherwise: int | None, problems: list[Problem]) -> int:
    value = deals.value(key)
    if value is None and otherwise is not None:
        return otherwise
    count = schemas.as_integer(value) if isinstance(value, Scalar) else None
    if count is None or not 1 <= count <= MOST:
        node = deals if value is None else value
        problems.append(Problem(_line(node), f"{key!r} must be a whole number from 1 to {MOST}", None))
        return 1
    return count


def _period(value: Node | None, problems: list[Problem]) -> timedelta:
    if value is None:
        return RENEW_BEFORE
    match = _PERIOD.fullmatch(value) if isinstance(value, Scalar) else None
    if match is None:
        text = shown(str(value)) if isinstance(value, Scalar) else "what stands here"
        problems.append(Problem(_line(value), f"{text} is not a number of days", "write it like 30d"))
        return RENEW_BEFORE
    return timedelta(days=int(match[1]))


def _line(node: Node | None) -> int:
    return getattr(node, "line", 1)
