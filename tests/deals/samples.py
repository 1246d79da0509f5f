"""Pieces, claims and a moment that the tests of this room share."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import MAINNET
from reconciler.deals.interface import CheckedBy, CheckedDeal, DealClaim, DealState, Stage
from reconciler.deals.judge import DealTerms
from tests.support.aggregates import Aggregate

HEAD = 5_000_000
NOW = MAINNET.genesis + timedelta(seconds=30) * HEAD
TERMS = DealTerms(NOW, MAINNET, timedelta(days=30))
PROVIDER = "f03144037"

PIECES = [PieceCid(bytes([n]) * 31 + b"\1", 6, n) for n in range(1, 5)]
AGGREGATE = Aggregate(PIECES, 20)


def claim(number: int = 0, **fields: object) -> DealClaim:
    """A claim that piece `number` is in the aggregate and in deal 7700001."""
    whole = DealClaim(PIECES[number], Stage.DEAL, AGGREGATE.proof(number), PROVIDER, 7700001)
    return replace(whole, **fields)  # type: ignore[arg-type]


def direct(number: int = 0, **fields: object) -> DealClaim:
    """The same without a deal number: direct data onboarding."""
    return claim(number, **({"deal_id": None} | fields))


def checked(state: DealState, number: int = 0, deal_id: int = 1, provider: str = "f01") -> CheckedDeal:
    """A deal with piece `number` in a state."""
    by = CheckedBy.PROOF if state is DealState.CLAIMED else CheckedBy.CHAIN
    return CheckedDeal(PIECES[number], state, by, NOW, AGGREGATE.cid, provider, deal_id)
