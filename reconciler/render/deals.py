"""Deals in words and as JSON: what state, until when, with whom, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.deals.interface import CheckedDeal, DealState
from reconciler.deals.policy import by_piece
from reconciler.loop.status import Holding
from reconciler.render.words import count, plain


def deals_document(holding: Holding) -> list[dict[str, Any]]:
    """Every piece of a version with its deals; dates as RFC 3339, epochs as numbers."""
    return [
        {
            "piece": str(piece),
            "deals": [_deal_document(deal) for deal in holding.deals if deal.piece == piece],
        }
        for piece in holding.pieces
    ]


def _deal_document(deal: CheckedDeal) -> dict[str, Any]:
    return {
        "state": deal.state.value,
        "aggregate": None if deal.aggregate is None else str(deal.aggregate),
        "provider": deal.provider,
        "deal_id": deal.deal_id,
        "until_epoch": deal.until,
        "until": None if deal.ends is None else f"{deal.ends:%Y-%m-%dT%H:%M:%SZ}",
        "checked_by": deal.checked_by.value,
        "checked_at": f"{deal.at:%Y-%m-%dT%H:%M:%SZ}",
        "detail": deal.detail,
    }


def deals_line(holding: Holding) -> str:
    """All deals of a version in one line: `4 deals active until 2027-05-01, 1 lost; 2 pieces`."""
    if not holding.pieces:
        return ""
    parts = [_of_state(state, [deal for deal in holding.deals if deal.state is state]) for state in DealState]
    told = ", ".join(part for part in parts if part) or "no deals"
    short = holding.decision.reason if holding.decision is not None else ""
    wanted = f"policy: {short}" if short else ""
    return "; ".join(part for part in (told, count(len(holding.pieces), "piece"), wanted) if part)


def _of_state(state: DealState, deals: Sequence[CheckedDeal]) -> str:
    """`4 deals active until 2027-05-01`: the date is that of the first to end."""
    if not deals:
        return ""
    ends = [deal.ends for deal in deals if deal.ends is not None]
    until = f" until {min(ends):%Y-%m-%d}" if ends and state in _RUNNING else ""
    return f"{count(len(deals), 'deal')} {state.value}{until}"


_RUNNING = (DealState.ACTIVE, DealState.EXPIRING, DealState.OFFERED)


def piece_lines(holding: Holding) -> Iterator[str]:
    """Every piece, and under it every deal with what it rests on."""
    for piece, deals in by_piece(holding.pieces, holding.deals).items():
        yield f"piece {piece}"
        yield from (f"  {_deal_line(deal)}" for deal in deals)
        if not deals:
            yield "  no deals"


def _deal_line(deal: CheckedDeal) -> str:
    until = f" until {deal.ends:%Y-%m-%d}" if deal.ends is not None and deal.state in _RUNNING else ""
    number = f" deal {deal.deal_id}" if deal.deal_id is not None else ""
    provider = f"  {deal.provider}{number}" if deal.provider is not None else ""
    within = f"  in {deal.aggregate}" if deal.aggregate not in (None, deal.piece) else ""
    checked = f"  ({deal.checked_by.value}, {deal.at:%Y-%m-%d %H:%M} UTC)"
    return plain(f"{deal.state.value}{until}{provider}{within}{checked}" + _behind(deal.detail))


def _behind(detail: str) -> str:
    return f": {detail}" if detail else ""
