"""What deliveries will do and cost, from what the last observation saw. Nothing is signed or sent.

The deliveries of one plan are priced one after the other: the first one that needs a data set with a provider
pays for it, and the next ones find it there. The providers are those that a delivery chooses while all of
them answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid, capacity, height_for
from reconciler.deals.onchain import names
from reconciler.deals.onchain.guard import naming_target, refusals, shortfalls
from reconciler.deals.onchain.interface import (
    EPOCHS_PER_MONTH,
    FOREVER,
    Approval,
    CopyState,
    DataSetState,
    PayAccount,
    Runway,
    StorageProvider,
)
from reconciler.deals.onchain.money import (
    PIECES_PER_CALL,
    UNIT,
    PlannedCopy,
    Prediction,
    adding_fee,
    piece_leaves,
    predict_copy,
    reserve_after,
    runway,
)
from reconciler.deals.onchain.reader import ChainView
from reconciler.errors import Reason
from reconciler.targets.filecoin.choose import Candidates, CopyTask, assign, rank
from reconciler.targets.filecoin.holdings import Holdings
from reconciler.targets.filecoin.options import FilecoinOptions
from reconciler.targets.pricing import PayingAccount, PlannedDelivery, Pricing, Quote

CURRENCY = "USDFC"

_GENERATIONS = 100  # data sets of ours with one provider that ended
_SEND_KNOWN = 2  # requests of a piece that is known: open, send
_SEND_UNKNOWN = 3  # and name it


@dataclass(frozen=True, slots=True)
class _PlannedSet:
    """Our data set with one provider, as the deliveries before leave it."""

    exists: bool = False
    leaves: int = 0
    reserve: int = 0
    pending: int = 0


def price_deliveries(
    name: str,
    options: FilecoinOptions,
    holdings: Holdings,
    deliveries: Sequence[PlannedDelivery],
    copies: Mapping[Cid, int],
) -> Pricing:
    """Return the account and what `deliveries` cost on the target `name`; `copies`: as roots require.

    Raises RequestError when the chain cannot be read.
    """
    view = holdings.view
    account, approval = view.account(options.payer), view.approval(options.payer)
    now = runway(account, view.block.number, view.chain)
    predictions = []
    creates = 0
    if deliveries:
        plan = _DeliveryPlan(options, holdings, deliveries[0].label.owner)
        predictions = [
            sum(plan.deliver(each, copies.get(each.root, options.copies)), Prediction())
            for each in deliveries
        ]
        creates = plan.creates
    total = sum(predictions, Prediction())
    limits = refusals(total, options.limits, account, now)
    lacking = shortfalls(total, creates, view.prices, now, approval)
    return Pricing(
        paying_account(name, view, options, account, approval, now),
        tuple(map(_quote, predictions)),
        tuple(naming_target(each, name) for each in limits),
        tuple(naming_target(each, name) for each in lacking),
    )


def paying_account(
    name: str, view: ChainView, options: FilecoinOptions, account: PayAccount, approval: Approval, now: Runway
) -> PayingAccount:
    """Return the account that pays for the target `name`, as it is shown."""
    ends = None
    if now.funded_until != FOREVER and account.rate:
        ends = view.chain.date(now.funded_until + view.prices.lockup_period)
    return PayingAccount(
        f"{options.payer} on {view.chain.name}",
        CURRENCY,
        deposit=amount(account.funds),
        available=amount(now.available),
        locked=amount(now.locked),
        monthly=amount(account.rate * EPOCHS_PER_MONTH),
        approved=approval.approved,
        monthly_allowance=_limit(approval.rate_allowance, EPOCHS_PER_MONTH),
        lockup_allowance=_limit(approval.lockup_allowance),
        exhausted=now.exhausted,
        ends=ends,
        at=datetime.fromtimestamp(view.block.timestamp, UTC),
        problems=tuple(naming_target(each, name) for each in _problems(account, approval, now)),
    )


def _problems(account: PayAccount, approval: Approval, now: Runway) -> Iterator[Reason]:
    if account.rate and not now.epochs:
        yield Reason(
            "the account is exhausted: providers are paid from the lockup, and nothing can be added",
            "deposit more: run reconcile fund TARGET",
        )
    if account.rate and not approval.approved:
        yield Reason("the service is no longer approved", "run reconcile fund TARGET to approve it")


class _DeliveryPlan:
    """The data sets of the index `index`, as planned deliveries change them."""

    def __init__(self, options: FilecoinOptions, holdings: Holdings, index: str) -> None:
        self._options = options
        self._holdings = holdings
        self.creates = 0
        view = holdings.view
        named = options.providers
        found = view.providers(named or view.provider_ids())
        providers = {number: each for number, each in found.items() if isinstance(each, StorageProvider)}
        self._sets = {
            number: _PlannedSet() if state is None else _planned_set(state)
            for number, state in find_data_sets(holdings, list(providers), index).items()
        }
        self._candidates = Candidates(
            providers,
            endorsed=frozenset() if named else view.endorsed_ids(),
            approved=frozenset() if named else view.approved_ids(),
            named=named,
        )

    def deliver(self, delivery: PlannedDelivery, copies: int) -> Iterator[Prediction]:
        """Yield what each call of one delivery does and costs."""
        pieces = _known_pieces(delivery)
        healthy = [self._healthy(piece) for piece in pieces]
        for number, task in enumerate(self._assign(delivery, pieces, healthy, copies)):
            for first in range(0, len(delivery.sizes), PIECES_PER_CALL):
                shards = [shard for shard in task.shards if first <= shard < first + PIECES_PER_CALL]
                if shards:
                    pulled = sum(number > 0 or bool(healthy[shard]) for shard in shards)
                    known = sum(pieces[shard] is not None for shard in shards)
                    sizes = [delivery.sizes[shard] for shard in shards]
                    yield self._call(task.provider.id, sizes, pulled, min(known, len(shards) - pulled))

    def _call(self, provider: int, sizes: Sequence[int], pulled: int, known: int) -> Prediction:
        """Return what one call does that adds pieces of these `sizes`; so many are pulled or are known."""
        prices, planned = self._holdings.view.prices, self._sets[provider]
        added = tuple(map(_piece_of, sizes))
        copy = PlannedCopy(added, planned.exists, planned.leaves, planned.reserve, planned.pending)
        found = predict_copy(copy, prices)
        self.creates += not planned.exists
        first = planned.pending if planned.exists else prices.create
        fee = first + adding_fee(1, len(added), prices)
        reserve = planned.reserve if planned.exists else prices.reserve
        self._sets[provider] = _PlannedSet(
            True,
            planned.leaves + sum(map(piece_leaves, added)),
            reserve_after(reserve, [fee], prices),
        )
        sent = len(sizes) - pulled
        return replace(
            found,
            signatures=found.signatures * 2 if pulled else found.signatures,
            requests=1 + (pulled > 0) + known * _SEND_KNOWN + (sent - known) * _SEND_UNKNOWN,
        )

    def _assign(
        self,
        delivery: PlannedDelivery,
        pieces: Sequence[PieceCid | None],
        healthy: Sequence[frozenset[int]],
        copies: int,
    ) -> tuple[CopyTask, ...]:
        holding: dict[int, int] = {}
        for number in (number for each in healthy for number in each):
            holding[number] = holding.get(number, 0) + 1
        with_data_set = frozenset(number for number, each in self._sets.items() if each.exists)
        ranked = rank(replace(self._candidates, with_data_set=with_data_set), self._options.payer, holding)
        stopped = [self._stopped(piece) for piece in pieces]
        return assign(ranked, delivery.sizes, healthy, stopped, copies).tasks

    def _healthy(self, piece: PieceCid | None) -> frozenset[int]:
        return frozenset() if piece is None else self._holdings.healthy(piece)

    def _stopped(self, piece: PieceCid | None) -> frozenset[int]:
        return frozenset(
            copy.provider_id
            for copy in (() if piece is None else self._holdings.copies(piece))
            if copy.state is CopyState.STOPPED and copy.provider_id is not None
        )


def find_data_sets(
    holdings: Holdings, providers: Sequence[int], index: str
) -> dict[int, DataSetState | None]:
    """Return our running data set of the index `index` with each provider; None where one would be created.

    Raises RequestError.
    """
    view, payer = holdings.view, holdings.payer
    found: dict[int, DataSetState | None] = dict.fromkeys(providers)
    left = list(providers)
    for generation in range(_GENERATIONS):
        numbers = {each: names.data_set_name(view.chain_id, payer, each, index, generation) for each in left}
        landed = view.nonces(payer, numbers.values())
        used = {each: place for each in left if (place := landed[numbers[each]]) is not None}
        states = {each: holdings.data_sets.get(place.data_set) for each, place in used.items()}
        found |= {each: state for each, state in states.items() if _is_running(state)}  # type: ignore[misc]
        left = [each for each in used if found[each] is None]
        if not left:
            break
    return found


def _is_running(state: DataSetState | Reason | None) -> bool:
    return (
        isinstance(state, DataSetState) and bool(state.account.rail) and state.live and not state.account.end
    )


def _planned_set(state: DataSetState) -> _PlannedSet:
    account = state.account
    return _PlannedSet(True, state.leaves, account.reserve or 0, account.pending_fees or 0)


def _known_pieces(delivery: PlannedDelivery) -> list[PieceCid | None]:
    if delivery.pieces is None:
        return [None] * len(delivery.sizes)
    return [shard.piece for shard in delivery.pieces.shards]


def _piece_of(size: int) -> PieceCid:
    """Return a piece of `size` bytes: what it costs depends on nothing else."""
    height = height_for(size)
    return PieceCid(bytes(32), height, capacity(height) - size)


def _quote(found: Prediction) -> Quote:
    return Quote(
        CURRENCY,
        amount(found.once),
        amount(found.monthly),
        amount(found.locked),
        found.transactions,
        found.signatures,
        found.requests,
    )


def amount(units: int) -> Decimal:
    """Return an amount in USDFC, exactly."""
    return Decimal(units).scaleb(-18) if abs(units) < 10**28 else Decimal(units // UNIT)


def _limit(units: int, times: int = 1) -> Decimal | None:
    """Return an allowance; None when it is unlimited, which fees make a little smaller."""
    return None if units >= FOREVER // 2 else amount(units * times)
