"""The deals of many pieces: asked of the service, checked, and not asked for again while the chain confirms
them.

Every question about a piece costs the service some milliseconds of checking signatures, and there are
thousands. What it said within a day is remembered; where the chain says now that those deals run and are
enough, nothing is left to ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import Inquiry
from reconciler.deals.check import check_deals
from reconciler.deals.claim_memory import ClaimMemory, Remembered, worth_keeping
from reconciler.deals.configure import ChainAccess
from reconciler.deals.interface import CheckedDeal, DealClaim, DealState
from reconciler.deals.judge import Terms
from reconciler.progress import Progress
from reconciler.targets.interface import Expected
from reconciler.targets.storacha.reads import Reads
from reconciler.targets.storacha.wire import Claims, Refused


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is enough for one piece: this many deals and providers, none of which ends within the period."""

    deals: int = 1
    providers: int = 1
    renew_before: timedelta = timedelta(0)


def wanted_deals(pieces_of: Iterable[tuple[Expected, Sequence[PieceCid]]]) -> dict[PieceCid, Wanted]:
    """The most that any version wants of each piece; without those whose deals nobody wants to know of."""
    found: dict[PieceCid, Wanted] = {}
    for one, pieces in pieces_of:
        for piece in pieces if one.min_deals else ():
            known = found.get(piece, Wanted())
            found[piece] = Wanted(
                max(known.deals, one.min_deals),
                max(known.providers, one.min_providers),
                max(known.renew_before, one.renew_before),
            )
    return found


def read_deals(
    name: str,
    wanted: Mapping[PieceCid, Wanted],
    reads: Reads,
    access: ChainAccess,
    memory: ClaimMemory | None,
    progress: Progress,
    *,
    anew: bool,
) -> tuple[dict[PieceCid, tuple[CheckedDeal, ...]], tuple[str, ...]]:
    """The checked deals of each piece, and notes for a user. Raises Outcome when the service gives no answer.

    `memory` is None where nothing can be remembered; with `anew` it is written, and not read. Without a chain
    to ask, that a deal is there is the service's word, and it is asked for it each time.
    """
    now = datetime.now(UTC)
    chain = None if access.rpc is None else Inquiry(access.rpc)

    def checked(claims: Mapping[PieceCid, Sequence[DealClaim]]) -> dict[PieceCid, tuple[CheckedDeal, ...]]:
        by_period: dict[timedelta, list[DealClaim]] = {}
        for piece, each in claims.items():
            by_period.setdefault(wanted[piece].renew_before, []).extend(each)
        found: dict[PieceCid, tuple[CheckedDeal, ...]] = {}
        for period, some in by_period.items():
            for deal in check_deals(some, chain, Terms(now, access.chain, period)):
                found[deal.piece] = (*found.get(deal.piece, ()), deal)
        return found

    known = memory.recall(now) if memory is not None and chain is not None else {}
    usable = {} if anew else {piece: known[piece].claims for piece in wanted if piece in known}
    settled = {
        piece: tuple(_dated(deal, known[piece]) for deal in deals)
        for piece, deals in checked(usable).items()
        if _enough(deals, wanted[piece])
    }
    answers = _ask(name, reads, [piece for piece in wanted if piece not in settled], progress)
    claims = {piece: each for piece, each in answers.items() if not isinstance(each, Refused)}
    if memory is not None and chain is not None and claims:
        fresh = {piece: Remembered(now, each) for piece, each in claims.items() if worth_keeping(each)}
        memory.keep({piece: each for piece, each in known.items() if piece not in claims} | fresh)
    refused = Counter(each.message or each.name for each in answers.values() if isinstance(each, Refused))
    notes = tuple(
        f"{name}: the deals of {count} pieces are not known, for filecoin/info is refused: {reason}"
        for reason, count in refused.items()
    )
    return settled | checked(claims), notes


def _ask(
    name: str, reads: Reads, pieces: Sequence[PieceCid], progress: Progress
) -> Mapping[PieceCid, Claims]:
    if not pieces:
        return {}
    with progress.task(f"{name}: asking for deals (pieces)", len(pieces)) as task:
        return reads.claims(pieces, task.advance)


def _enough(deals: Sequence[CheckedDeal], wanted: Wanted) -> bool:
    """Whether so many of `deals` run by the word of the chain that there is nothing to look for."""
    running = [deal for deal in deals if deal.state is DealState.ACTIVE]
    return (
        len({(deal.provider, deal.deal_id, deal.aggregate) for deal in running}) >= wanted.deals
        and len({deal.provider for deal in running}) >= wanted.providers
    )


def _dated(deal: CheckedDeal, entry: Remembered) -> CheckedDeal:
    """`deal`, saying how old the service's word is; what the chain says of it is of now."""
    said = f"named by the service on {entry.at:%Y-%m-%d %H:%M} UTC"
    return replace(deal, detail=f"{deal.detail}; {said}" if deal.detail else said)
