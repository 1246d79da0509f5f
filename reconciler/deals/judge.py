"""The state of a deal, from a service's claim and the answers of the chain. Pure, but for `check_deals`.

Rules, the first that applies:

1. A queued piece is `aggregating`; one that the service no longer lists is `lost`.
2. A claim with an invalid inclusion proof is `unproved`.
3. A piece in an aggregate without a deal is `offered`.
4. Without an answer of the chain, a claim is `claimed` with a valid proof and `unproved` without one.
5. Otherwise the chain decides: `active`, `expiring`, `expired`, `slashed`, `offered` (not sealed yet), `lost`
   (not on the chain), or `unproved` (on the chain, but not as claimed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.content.piece_cid import PieceRoot
from reconciler.deals.chain import Chain, ChainQuery, in_epochs
from reconciler.deals.inclusion import verify_inclusion
from reconciler.deals.interface import (
    ChainAnswers,
    CheckedBy,
    CheckedDeal,
    DealClaim,
    DealState,
    DirectClaim,
    MarketDeal,
    Stage,
)
from reconciler.errors import DataError, Reason

MAX_EPOCHS_BEHIND = 900  #: epochs (7.5 hours, the finality of the chain)
MAX_EPOCHS_AHEAD = 120  #: epochs (one hour) that a node may be ahead of our clock


@dataclass(frozen=True, slots=True)
class DealTerms:
    """The terms of one check: the reference time (UTC), the chain, and how long a deal is expiring."""

    now: datetime
    chain: Chain
    renew_before: timedelta


def judge_claim(claim: DealClaim, answers: ChainAnswers | None, terms: DealTerms) -> CheckedDeal:
    """Return one claim with its state; `answers` is None when no RPC is configured."""
    found = _assess(claim, answers, terms)
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
class _Assessment:
    state: DealState
    by: CheckedBy
    detail: str = ""
    until: int | None = None
    provider: str | None = None  #: from the chain, where the claim names none


def _assess(claim: DealClaim, answers: ChainAnswers | None, terms: DealTerms) -> _Assessment:
    if claim.stage is Stage.QUEUED:
        return _Assessment(DealState.AGGREGATING, CheckedBy.SERVICE, claim.detail)
    if claim.stage is Stage.GONE:
        reason = claim.detail or "the service accepted it once and no longer lists a deal for it"
        return _Assessment(DealState.LOST, CheckedBy.SERVICE, reason)
    try:
        proved = _prove(claim)
    except DataError as error:
        return _Assessment(DealState.UNPROVED, CheckedBy.PROOF, error.message)
    if claim.stage is Stage.AGGREGATED:
        return _Assessment(DealState.OFFERED, CheckedBy.PROOF if proved else CheckedBy.SERVICE, claim.detail)
    unasked = _why_not_asked(claim, answers, terms)
    if answers is None or unasked is not None:
        if proved:
            return _Assessment(DealState.CLAIMED, CheckedBy.PROOF, unasked or "")
        reason = claim.detail or "the service gives no inclusion proof"
        return _Assessment(DealState.UNPROVED, CheckedBy.SERVICE, "; ".join(filter(None, (reason, unasked))))
    head = answers.head
    assert isinstance(head, int)  # noqa: S101 - else it is a reason not to ask
    deal = answers.deals.get(claim.deal_id) if claim.deal_id is not None else None
    if claim.deal_id is None:
        claims = answers.claims.get(claim.provider or "", ())
        return _direct(claim, () if isinstance(claims, Reason) else claims, head, terms)
    if deal is None or isinstance(deal, Reason):
        return _Assessment(
            DealState.LOST,
            CheckedBy.CHAIN,
            f"deal {claim.deal_id} is not on the chain: it ended, was slashed, or was never sealed",
        )
    return _market(claim, deal, head, terms)


def _prove(claim: DealClaim) -> bool:
    """Return whether there is a valid inclusion proof. Raises DataError for an invalid one."""
    if claim.inclusion is None:
        return False
    if claim.inclusion.piece != claim.piece:
        raise DataError(f"inclusion proof: it is for another piece, {claim.inclusion.piece}")
    verify_inclusion(claim.inclusion)
    return True


def _why_not_asked(claim: DealClaim, answers: ChainAnswers | None, terms: DealTerms) -> str | None:
    """Return why there is no usable answer of the chain about this claim; None when there is one."""
    if answers is None:
        return "no RPC is configured, so the chain was not asked"
    if isinstance(answers.head, Reason):
        return f"the chain could not be asked: {answers.head.text}"
    late = terms.chain.epoch(terms.now) - answers.head
    if late > MAX_EPOCHS_BEHIND:
        return f"the node is behind: its newest epoch {answers.head} is {late} epochs old"
    if late < -MAX_EPOCHS_AHEAD:
        return f"the node is not on {terms.chain.name}: its newest epoch {answers.head} is in the future"
    answer: object
    if claim.deal_id is not None:
        answer = answers.deals.get(claim.deal_id, Reason("it was not asked for this deal"))
    elif claim.provider is not None:
        answer = answers.claims.get(claim.provider, Reason("it was not asked for this provider"))
    else:
        answer = Reason("the service names neither a deal nor a provider")
    return f"the chain could not be asked: {answer.text}" if isinstance(answer, Reason) else None


def _market(claim: DealClaim, deal: MarketDeal, head: int, terms: DealTerms) -> _Assessment:
    if (contradiction := _contradiction(claim, deal, head)) is not None:
        return _Assessment(DealState.UNPROVED, CheckedBy.CHAIN, contradiction)
    if deal.slashed >= 0:
        return _Assessment(
            DealState.SLASHED, CheckedBy.CHAIN, f"slashed at {_when(deal.slashed, terms)}", deal.slashed
        )
    if deal.sector_start < 0:
        if head < deal.start:
            return _Assessment(
                DealState.OFFERED, CheckedBy.CHAIN, f"to be sealed by {_when(deal.start, terms)}", deal.end
            )
        return _Assessment(
            DealState.LOST, CheckedBy.CHAIN, f"not sealed by {_when(deal.start, terms)}, the agreed time"
        )
    return replace(_running(head, deal.end, terms), provider=deal.provider)


def _direct(claim: DealClaim, claims: tuple[DirectClaim, ...], head: int, terms: DealTerms) -> _Assessment:
    subject = claim.subject
    fitting = [
        each
        for each in claims
        if each.provider == claim.provider and subject.is_tree(each.piece, each.padded_size)
    ]
    if not fitting:
        return _Assessment(
            DealState.LOST, CheckedBy.CHAIN, f"{claim.provider} has no claim for {subject.v1} on the chain"
        )
    best = max(fitting, key=lambda each: each.start + each.term_min)
    term_end, dropped = best.start + best.term_min, best.start + best.term_max
    if best.start > head or best.term_min > best.term_max:
        return _Assessment(
            DealState.UNPROVED,
            CheckedBy.CHAIN,
            f"the epochs of the claim are impossible: from {best.start} for {best.term_min} to "
            f"{best.term_max}, at {head}",
        )
    if term_end <= head < dropped:
        detail = f"its minimum term ended at {_when(term_end, terms)}; the provider may drop it"
        return _Assessment(DealState.EXPIRING, CheckedBy.CHAIN, detail, dropped)
    return _running(head, term_end if head < term_end else dropped, terms)


def _running(head: int, end: int, terms: DealTerms) -> _Assessment:
    if head >= end:
        return _Assessment(DealState.EXPIRED, CheckedBy.CHAIN, f"it ended at {_when(end, terms)}", end)
    soon = end - head <= in_epochs(terms.renew_before)
    return _Assessment(DealState.EXPIRING if soon else DealState.ACTIVE, CheckedBy.CHAIN, "", end)


def _contradiction(claim: DealClaim, deal: MarketDeal, head: int) -> str | None:
    """Return how the deal on the chain contradicts the claim, or itself; None when it does not."""
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
            f"slashed at {deal.slashed}, at epoch {head}"
        )
    return None


def _when(epoch: int, terms: DealTerms) -> str:
    date = terms.chain.date(epoch)
    return f"epoch {epoch}" if date is None else f"epoch {epoch} ({date:%Y-%m-%d})"


def check_deals(
    claims: Sequence[DealClaim], chain: ChainQuery | None, terms: DealTerms
) -> tuple[CheckedDeal, ...]:
    """Check `claims`, in their order. Without `chain` only the inclusion proofs are verified.

    Asks for the head, each deal and each provider once in all calls with one `chain`, and not at all when no
    piece is in a deal. Never raises for a node that is down or lies: the deals stay `claimed` then, and their
    `detail` gives the reason.
    """
    made = [claim for claim in claims if claim.stage is Stage.DEAL]
    answers = None
    if chain is not None and made:
        direct: dict[str, set[PieceRoot]] = {}
        for claim in made:
            if claim.deal_id is None and claim.provider is not None:
                direct.setdefault(claim.provider, set()).add(claim.subject.v1)
        answers = chain.ask((claim.deal_id for claim in made if claim.deal_id is not None), direct)
    return tuple(judge_claim(claim, answers, terms) for claim in claims)
