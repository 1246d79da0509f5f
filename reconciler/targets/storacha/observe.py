"""What can be read of a space, and the same through the client, for those who have no keys of the bridge.

The deals of many pieces: asked of the service, checked, and not asked for again while the chain confirms
them.

Every question about a piece costs the service some milliseconds of checking signatures, and there are
thousands. What it said within a day is remembered; where the chain says now that those deals run and are
enough, nothing is left to ask.

What the uploads of a space amount to. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from reconciler.content.car import ShardedCar
from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import ChainAccess, ChainQuery
from reconciler.deals.claim_cache import CachedClaims, ClaimCache, is_cacheable
from reconciler.deals.interface import CheckedDeal, DealClaim, DealState, Stage
from reconciler.deals.judge import DealTerms, check_deals
from reconciler.net.errors import AccessDeniedError, UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.interface import Expected, Observation, State
from reconciler.targets.storacha import wire
from reconciler.targets.storacha.client import StorachaClient
from reconciler.targets.storacha.wire import Claims, SpaceUpload, TaskRefusal

MOST = 200  #: pieces asked for through the client, which takes a second each

_EITHER = "not in a deal yet, or not any more: through the client the service says the same of both"


class Reads(Protocol):
    """Reading one space. Calls raise RequestError."""

    def uploads(self) -> dict[Cid, SpaceUpload]:
        """Every upload in the space, by root."""

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, Claims]:
        """What the service says of each piece. `done` is called, from this thread, with how many more pieces
        were asked for; what it raises ends the asking.
        """


class ClientReads:
    """Reads through the client: a process a question."""

    def __init__(self, name: str, client: StorachaClient) -> None:
        self._name = name
        self._client = client

    def uploads(self) -> dict[Cid, SpaceUpload]:
        """Every upload, in one command."""
        listed = [wire.read_upload(self._name, line) for line in self._client.call("ls", "--json")]
        return {upload.root: upload for upload in listed if upload is not None}

    def claims(self, pieces: Sequence[PieceCid], done: Callable[[int], None]) -> dict[PieceCid, Claims]:
        """One command a piece, for the first MOST of them."""
        found: dict[PieceCid, Claims] = {}
        for number, piece in enumerate(pieces):
            if number >= MOST:
                found[piece] = TaskRefusal(
                    "TooMany", f"more than {MOST} pieces need the bridge: set bridge_auth_env"
                )
            else:
                found[piece] = self._claims(piece)
                done(1)
                if isinstance(found[piece], TaskRefusal):  # what is refused once is refused for all
                    return dict.fromkeys(pieces, found[piece]) | found
        return found

    def _claims(self, piece: PieceCid) -> Claims:
        try:
            lines = self._client.call("can", "filecoin", "info", str(piece), "--json")
        except AccessDeniedError as error:
            return TaskRefusal("Unauthorized", error.message)
        except UnexpectedResponseError as error:
            if "not found" in error.message:
                return wire.unknown(piece)
            raise
        if not lines:
            return (DealClaim(piece, Stage.QUEUED, detail=_EITHER),)
        return tuple(wire.read_deal_line(self._name, piece, line) for line in lines)


@dataclass(frozen=True, slots=True)
class DealRequirement:
    """What is enough for one piece: this many deals and providers, none of which ends within the period."""

    deals: int = 1
    providers: int = 1
    renew_before: timedelta = timedelta(0)


def wanted_deals(pieces_of: Iterable[tuple[Expected, Sequence[PieceCid]]]) -> dict[PieceCid, DealRequirement]:
    """The most that any version wants of each piece; without those whose deals nobody wants to know of."""
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


def read_deals(
    name: str,
    wanted: Mapping[PieceCid, DealRequirement],
    reads: Reads,
    access: ChainAccess,
    memory: ClaimCache | None,
    progress: Progress,
    *,
    anew: bool,
) -> tuple[dict[PieceCid, tuple[CheckedDeal, ...]], tuple[str, ...]]:
    """The checked deals of each piece, and notes for a user. Raises Outcome when the service gives no answer.

    `memory` is None where nothing can be remembered; with `anew` it is written, and not read. Without a chain
    to ask, that a deal is there is the service's word, and it is asked for it each time.
    """
    now = datetime.now(UTC)
    chain = None if access.rpc is None else ChainQuery(access.rpc)

    def checked(claims: Mapping[PieceCid, Sequence[DealClaim]]) -> dict[PieceCid, tuple[CheckedDeal, ...]]:
        by_period: dict[timedelta, list[DealClaim]] = {}
        for piece, each in claims.items():
            by_period.setdefault(wanted[piece].renew_before, []).extend(each)
        found: dict[PieceCid, tuple[CheckedDeal, ...]] = {}
        for period, some in by_period.items():
            for deal in check_deals(some, chain, DealTerms(now, access.chain, period)):
                found[deal.piece] = (*found.get(deal.piece, ()), deal)
        return found

    known = memory.load(now) if memory is not None and chain is not None else {}
    usable = {} if anew else {piece: known[piece].claims for piece in wanted if piece in known}
    settled = {
        piece: tuple(_dated(deal, known[piece]) for deal in deals)
        for piece, deals in checked(usable).items()
        if _enough(deals, wanted[piece])
    }
    answers = _ask(name, reads, [piece for piece in wanted if piece not in settled], progress)
    claims = {piece: each for piece, each in answers.items() if not isinstance(each, TaskRefusal)}
    if memory is not None and chain is not None and claims:
        fresh = {piece: CachedClaims(now, each) for piece, each in claims.items() if is_cacheable(each)}
        memory.save({piece: each for piece, each in known.items() if piece not in claims} | fresh)
    refused = Counter(each.message or each.name for each in answers.values() if isinstance(each, TaskRefusal))
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


def _enough(deals: Sequence[CheckedDeal], wanted: DealRequirement) -> bool:
    """Whether so many of `deals` run by the word of the chain that there is nothing to look for."""
    running = [deal for deal in deals if deal.state is DealState.ACTIVE]
    return (
        len({(deal.provider, deal.deal_id, deal.aggregate) for deal in running}) >= wanted.deals
        and len({deal.provider for deal in running}) >= wanted.providers
    )


def _dated(deal: CheckedDeal, entry: CachedClaims) -> CheckedDeal:
    """`deal`, saying how old the service's word is; what the chain says of it is of now."""
    said = f"named by the service on {entry.at:%Y-%m-%d %H:%M} UTC"
    return replace(deal, detail=f"{deal.detail}; {said}" if deal.detail else said)


def observation(one: Expected, uploads: Mapping[Cid, SpaceUpload]) -> Observation:
    """What the space holds of one root, by its own word: the service shows which CARs it stored."""
    upload = uploads.get(one.root)
    if upload is None:
        return Observation(one.root, State.ABSENT, checked="the space does not list it")
    if one.pieces is None or not upload.shards:
        missing = "no record names its CARs" if one.pieces is None else "the service names none of its CARs"
        return Observation(one.root, State.HELD, checked=f"the space lists it; {missing}")
    ours = {str(each.cid) for each in one.pieces.shards}
    there = ours & upload.shards
    if not there:
        return Observation(
            one.root,
            State.HELD,
            checked=f"the space lists it in {_cars(len(upload.shards))}, none of which is ours",
            detail="uploaded by other software in other CARs, so its pieces are not known",
        )
    if there != ours:
        return Observation(
            one.root,
            State.PARTIAL,
            checked=f"the space lists {len(there)} of its {_cars(len(ours))}",
            detail=f"{_cars(len(ours - there))} of {len(ours)} missing",
        )
    pieces = tuple(each.piece for each in one.pieces.shards)
    return Observation(
        one.root, State.HELD, checked=f"the space lists it with {_cars(len(ours))} of ours", pieces=pieces
    )


def covered(upload: SpaceUpload | None, pieces: ShardedCar) -> bool:
    """Whether an upload has every CAR of `pieces`; one whose CARs are not named has."""
    if upload is None:
        return False
    return not upload.shards or upload.shards >= {str(each.cid) for each in pieces.shards}


def _cars(count: int) -> str:
    return "1 CAR" if count == 1 else f"{count:,} CARs"
