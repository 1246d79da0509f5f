"""Claims in, checked deals out: the one place that asks the chain and judges its answers."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.content.piece_cid import PieceRoot
from reconciler.deals.chain import Inquiry
from reconciler.deals.interface import CheckedDeal, DealClaim, Stage
from reconciler.deals.judge import Terms, judge


def check_deals(claims: Sequence[DealClaim], chain: Inquiry | None, terms: Terms) -> tuple[CheckedDeal, ...]:
    """Each of `claims` checked, in their order. Without `chain` the inclusion proofs alone count.

    Asks for the head, each deal and each provider once in all calls with one `chain`, and not at all when
    nothing is in a deal. Never raises for a node that is down or lies: then the deals stay `claimed`, and say
    why.
    """
    made = [claim for claim in claims if claim.stage is Stage.DEAL]
    answers = None
    if chain is not None and made:
        direct: dict[str, set[PieceRoot]] = {}
        for claim in made:
            if claim.deal_id is None and claim.provider is not None:
                direct.setdefault(claim.provider, set()).add(claim.subject.v1)
        answers = chain.ask((claim.deal_id for claim in made if claim.deal_id is not None), direct)
    return tuple(judge(claim, answers, terms) for claim in claims)
