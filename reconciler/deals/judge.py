"""From a claim and the chain's answers to the state of a deal: pure, one claim at a time.

The order of doubt: first the inclusion proof, then whether the node's head can be believed, then whether the
deal on the chain is the one claimed, then its epochs. What contradicts the claim makes it `unproved`, what
only could not be asked leaves it `claimed`.

Claims in, checked deals out: the one place that asks the chain and judges its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.content.piece_cid import PieceRoot
from reconciler.deals.chain import Chain, Inquiry, in_epochs
from reconciler.deals.inclusion import verify
from reconciler.deals.interface import (
    ChainAnswers,
    CheckedBy,
    CheckedDeal,
    DealClaim,
    DealState,
    DirectClaim,
    MarketDeal,
    Stage,
    Unanswered,
)
from reconciler.errors import DataError

STALE = 900  #: epochs (7.5 hours, the chain's finality) that a node may be behind and still be believed
AHEAD = 120  #: epochs (an hour) that it may be ahead of our clock


@dataclass(frozen=True, slots=True)
class DealTerms:
    """What holds for all deals of one check: the reference time (UTC), the chain they are on, and how long
    before its end a deal counts as expiring.
    """

    now: datetime
    chain: Chain
    renew_before: timedelta


def judge(claim: DealClaim, answers: ChainAnswers | None, terms: DealTerms) -> CheckedDeal:
    """The state of one claim; `answers` is None where no RPC is configured."""
    found = _judge(claim, answers, terms)
    subject = claim.subject if claim.stage in (Stage.AGGREGATED, Stage.DEAL) else None
    return CheckedDeal(
        claim.piece,
        found.state,
        found.by,
        terms.now,
        aggregate=subject,
        provider=claim.provider or found.provider,
        deal_id=claim.deal_id,
        until=found.until,
        detail=found.detail,
        ends=None if found.until is None else terms.chain.date(found.until),
    )


@dataclass(frozen=True, slots=True)
class _Finding:
    state: DealState
    by: CheckedBy
    detail: str = ""
    until: int | None = None
    provider: str | None = None  #: as the chain says, where the claim does not


def _judge(claim: DealClaim, answers: ChainAnswers | None, terms: DealTerms) -> _Finding:
    if claim.stage is Stage.QUEUED:
        return _Finding(DealState.AGGREGATING, CheckedBy.SERVICE, claim.detail)
    if claim.stage is Stage.GONE:
        reason = claim.detail or "the service took it once and names no deal for it any more"
        return _Finding(DealState.LOST, CheckedBy.SERVICE, reason)
    try:
        proved = _prove(claim)
    except DataError as error:
        return _Finding(DealState.UNPROVED, CheckedBy.PROOF, error.message)
    if claim.stage is Stage.AGGREGATED:
        return _Finding(DealState.OFFERED, CheckedBy.PROOF if proved else CheckedBy.SERVICE, claim.detail)
    unasked = _why_not_asked(claim, answers, terms)
    if answers is None or unasked is not None:
        if proved:
            return _Finding(DealState.CLAIMED, CheckedBy.PROOF, unasked or "")
        reason = claim.detail or "the service gives no inclusion proof"
        return _Finding(DealState.UNPROVED, CheckedBy.SERVICE, "; ".join(filter(None, (reason, unasked))))
    head = answers.head
    assert isinstance(head, int)  # noqa: S101 - else it is a reason not to ask
    deal = answers.deals.get(claim.deal_id) if claim.deal_id is not None else None
    if claim.deal_id is None:
        claims = answers.claims.get(claim.provider or "", ())
        return _direct(claim, () if isinstance(claims, Unanswered) else claims, head, terms)
    if deal is None or isinstance(deal, Unanswered):
        return _Finding(
            DealState.LOST,
            CheckedBy.CHAIN,
            f"deal {claim.deal_id} is not on the chain: it ended, was slashed, or was never sealed",
        )
    return _market(claim, deal, head, terms)


def _prove(claim: DealClaim) -> bool:
    """Whether there is an inclusion proof; it holds then. Raises DataError when it does not."""
    if claim.inclusion is None:
        return False
    if claim.inclusion.piece != claim.piece:
        raise DataError(f"inclusion proof: it is of another piece, {claim.inclusion.piece}")
    verify(claim.inclusion)
    return True


def _why_not_asked(claim: DealClaim, answers: ChainAnswers | None, terms: DealTerms) -> str | None:
    """Why the chain cannot say anything of this claim, or None when it can (or when there is none)."""
    if answers is None:
        return "no RPC is configured, so the chain was not asked"
    if isinstance(answers.head, Unanswered):
        return f"the chain could not be asked: {answers.head.reason}"
    late = terms.chain.epoch(terms.now) - answers.head
    if late > STALE:
        return f"the node is not in step: its newest epoch {answers.head} is {late} epochs old"
    if late < -AHEAD:
        return f"the node is not on {terms.chain.name}: its newest epoch {answers.head} lies in the future"
    answer: object
    if claim.deal_id is not None:
        answer = answers.deals.get(claim.deal_id, Unanswered("it was not asked for this deal"))
    elif claim.provider is not None:
        answer = answers.claims.get(claim.provider, Unanswered("it was not asked for this provider"))
    else:
        answer = Unanswered("the service names neither a deal nor a provider")
    return f"the chain could not be asked: {answer.reason}" if isinstance(answer, Unanswered) else None


def _market(claim: DealClaim, deal: MarketDeal, head: int, terms: DealTerms) -> _Finding:
    if (lie := _contradiction(claim, deal, head)) is not None:
        return _Finding(DealState.UNPROVED, CheckedBy.CHAIN, lie)
    if deal.slashed >= 0:
        return _Finding(
            DealState.SLASHED, CheckedBy.CHAIN, f"slashed at {_when(deal.slashed, terms)}", deal.slashed
        )
    if deal.sector_start < 0:
        if head < deal.start:
            return _Finding(
                DealState.OFFERED, CheckedBy.CHAIN, f"to be sealed until {_when(deal.start, terms)}", deal.end
            )
        return _Finding(
            DealState.LOST, CheckedBy.CHAIN, f"not sealed until {_when(deal.start, terms)}, as agreed"
        )
    return replace(_running(head, deal.end, terms), provider=deal.provider)


def _direct(claim: DealClaim, claims: tuple[DirectClaim, ...], head: int, terms: DealTerms) -> _Finding:
    subject = claim.subject
    fitting = [
        each
        for each in claims
        if each.provider == claim.provider and subject.is_tree(each.piece, each.padded_size)
    ]
    if not fitting:
        return _Finding(
            DealState.LOST, CheckedBy.CHAIN, f"{claim.provider} has no claim for {subject.v1} on the chain"
        )
    best = max(fitting, key=lambda each: each.start + each.term_min)
    promised, forgotten = best.start + best.term_min, best.start + best.term_max
    if best.start > head or best.term_min > best.term_max:
        return _Finding(
            DealState.UNPROVED,
            CheckedBy.CHAIN,
            f"the epochs of the claim cannot be: from {best.start} for {best.term_min} to {best.term_max}, "
            f"and it is {head}",
        )
    if promised <= head < forgotten:
        detail = f"its promised term ended at {_when(promised, terms)}; the provider may let it go"
        return _Finding(DealState.EXPIRING, CheckedBy.CHAIN, detail, forgotten)
    return _running(head, promised if head < promised else forgotten, terms)


def _running(head: int, end: int, terms: DealTerms) -> _Finding:
    if head >= end:
        return _Finding(DealState.EXPIRED, CheckedBy.CHAIN, f"it ended at {_when(end, terms)}", end)
    soon = end - head <= in_epochs(terms.renew_before)
    return _Finding(DealState.EXPIRING if soon else DealState.ACTIVE, CheckedBy.CHAIN, "", end)


def _contradiction(claim: DealClaim, deal: MarketDeal, head: int) -> str | None:
    """What the chain says of the deal that cannot be if the claim is true."""
    subject, number = claim.subject, deal.deal_id
    if not subject.is_tree(deal.piece, deal.padded_size):
        return (
            f"deal {number} on the chain is of {deal.piece} with {deal.padded_size} bytes, "
            f"not of {subject.v1} with {subject.padded_size}"
        )
    if claim.provider not in (None, deal.provider):
        return f"deal {number} on the chain is with {deal.provider}, not with {claim.provider}"
    if deal.start >= deal.end or deal.sector_start > head or deal.slashed > head:
        return (
            f"deal {number} cannot run from {deal.start} to {deal.end}, be sealed at {deal.sector_start} and "
            f"slashed at {deal.slashed} when it is {head}"
        )
    return None


def _when(epoch: int, terms: DealTerms) -> str:
    date = terms.chain.date(epoch)
    return f"epoch {epoch}" if date is None else f"epoch {epoch} ({date:%Y-%m-%d})"


def check_deals(
    claims: Sequence[DealClaim], chain: Inquiry | None, terms: DealTerms
) -> tuple[CheckedDeal, ...]:
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
