"""Observation of a space: its uploads against the expected roots, and the deals of their pieces.

A query about a piece costs the service some milliseconds of signature verification, and there are thousands
of pieces. So claims are cached for a day, and where the chain confirms now that the claimed deals are active
and sufficient, the service is not queried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from reconciler.content.car import ShardedCar
from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import ChainAccess, ChainQuery
from reconciler.deals.claim_cache import CachedClaims, ClaimCache, is_cacheable
from reconciler.deals.interface import CheckedDeal, DealClaim, DealState
from reconciler.deals.judge import DealTerms, check_deals
from reconciler.progress import Progress
from reconciler.targets.interface import Expected, Observation, State
from reconciler.targets.storacha.reader import PieceClaims, SpaceReader, SpaceUpload, TaskFailure

# --- uploads


def observe_upload(one: Expected, uploads: Mapping[Cid, SpaceUpload]) -> Observation:
    """Return the state of one root. Pure. The service lists which CARs it stored, and serves no blocks."""
    upload = uploads.get(one.root)
    if upload is None:
        return Observation(one.root, State.ABSENT, checked="the space does not list it")
    if one.pieces is None or not upload.shards:
        missing = "no record names its CARs" if one.pieces is None else "the service names none of its CARs"
        return Observation(one.root, State.HELD, checked=f"the space lists it; {missing}")
    ours = {str(each.cid) for each in one.pieces.shards}
    listed = ours & upload.shards
    if not listed:
        return Observation(
            one.root,
            State.HELD,
            checked=f"the space lists it in {_count_cars(len(upload.shards))}, none of which is ours",
            detail="uploaded by other software in other CARs, so its pieces are unknown",
        )
    if listed != ours:
        return Observation(
            one.root,
            State.PARTIAL,
            checked=f"the space lists {len(listed)} of its {_count_cars(len(ours))}",
            detail=f"{_count_cars(len(ours - listed))} of {len(ours)} missing",
        )
    pieces = tuple(each.piece for each in one.pieces.shards)
    return Observation(
        one.root,
        State.HELD,
        checked=f"the space lists it with {_count_cars(len(ours))} of ours",
        pieces=pieces,
    )


def has_all_cars(upload: SpaceUpload | None, car: ShardedCar) -> bool:
    """Return whether an upload has every CAR of `car`; True also when the service names no CARs of it."""
    if upload is None:
        return False
    return not upload.shards or upload.shards >= {str(each.cid) for each in car.shards}


def _count_cars(count: int) -> str:
    return "1 CAR" if count == 1 else f"{count:,} CARs"


# --- deals


@dataclass(frozen=True, slots=True)
class DealRequirement:
    """The deals and providers that one piece requires; a deal that ends within `renew_before` does not
    count.
    """

    deals: int = 1
    providers: int = 1
    renew_before: timedelta = timedelta(0)


def deal_requirements(
    pieces_of: Iterable[tuple[Expected, Sequence[PieceCid]]],
) -> dict[PieceCid, DealRequirement]:
    """Return the strictest requirement of all versions for each piece; only pieces that need deals."""
    found: dict[PieceCid, DealRequirement] = {}
    for one, pieces in pieces_of:
        for piece in pieces if one.min_deals else ():
            known = found.get(piece, DealRequirement())
            found[piece] = DealRequirement(
                max(known.deals, one.min_deals),
                max(known.providers, one.min_providers),
                max(known.renew_before, one.renew_before),
            )
    return found


def collect_deals(
    name: str,
    required: Mapping[PieceCid, DealRequirement],
    reader: SpaceReader,
    access: ChainAccess,
    cache: ClaimCache | None,
    progress: Progress,
    *,
    anew: bool,
) -> tuple[dict[PieceCid, tuple[CheckedDeal, ...]], tuple[str, ...]]:
    """Return the checked deals of each piece, and notes for the user.

    `cache` has the claims of earlier runs; None: nothing is cached. With `anew` it is written but not
    read. Without a node of the chain nothing confirms a claim, so the service is queried each time. Raises
    RequestError when the service does not answer.
    """
    now = datetime.now(UTC)
    chain = None if access.rpc is None else ChainQuery(access.rpc)

    def check(claims: Mapping[PieceCid, Sequence[DealClaim]]) -> dict[PieceCid, tuple[CheckedDeal, ...]]:
        by_period: dict[timedelta, list[DealClaim]] = {}
        for piece, each in claims.items():
            by_period.setdefault(required[piece].renew_before, []).extend(each)
        found: dict[PieceCid, tuple[CheckedDeal, ...]] = {}
        for period, some in by_period.items():
            for deal in check_deals(some, chain, DealTerms(now, access.chain, period)):
                found[deal.piece] = (*found.get(deal.piece, ()), deal)
        return found

    known = cache.load(now) if cache is not None and chain is not None else {}
    usable = {} if anew else {piece: known[piece].claims for piece in required if piece in known}
    confirmed = {
        piece: tuple(_with_claim_time(deal, known[piece]) for deal in deals)
        for piece, deals in check(usable).items()
        if _satisfies(deals, required[piece])
    }
    answers = _query_claims(name, reader, [piece for piece in required if piece not in confirmed], progress)
    claims = {piece: each for piece, each in answers.items() if not isinstance(each, TaskFailure)}
    if cache is not None and chain is not None and claims:
        fresh = {piece: CachedClaims(now, each) for piece, each in claims.items() if is_cacheable(each)}
        cache.save({piece: each for piece, each in known.items() if piece not in claims} | fresh)
    failures = Counter(
        each.message or each.name for each in answers.values() if isinstance(each, TaskFailure)
    )
    notes = tuple(
        f"{name}: the deals of {count} pieces are unknown, because filecoin/info failed: {reason}"
        for reason, count in failures.items()
    )
    return confirmed | check(claims), notes


def _query_claims(
    name: str, reader: SpaceReader, pieces: Sequence[PieceCid], progress: Progress
) -> Mapping[PieceCid, PieceClaims]:
    if not pieces:
        return {}
    with progress.task(f"{name}: querying deals (pieces)", len(pieces)) as task:
        return reader.claims(pieces, task.advance)


def _satisfies(deals: Sequence[CheckedDeal], required: DealRequirement) -> bool:
    """Return whether the chain confirms enough active deals."""
    active = [deal for deal in deals if deal.state is DealState.ACTIVE]
    return (
        len({(deal.provider, deal.deal_id, deal.aggregate) for deal in active}) >= required.deals
        and len({deal.provider for deal in active}) >= required.providers
    )


def _with_claim_time(deal: CheckedDeal, entry: CachedClaims) -> CheckedDeal:
    """Return `deal` with the time of the cached claim in its detail; the check itself is current."""
    note = f"named by the service on {entry.at:%Y-%m-%d %H:%M} UTC"
    return replace(deal, detail=f"{deal.detail}; {note}" if deal.detail else note)
