"""What storing costs, how long an account lasts, and what a publication will do. Pure.

All amounts are whole numbers of the token's smallest unit (10**-18 USDFC), computed with the roundings of
FilecoinWarmStorageService 1.3 and FilecoinPay 1.0, so that they equal what these contracts charge and lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from reconciler.content.piece_cid import NODE_SIZE, PieceCid
from reconciler.deals.chain import Chain
from reconciler.deals.onchain.interface import (
    EPOCHS_PER_DAY,
    EPOCHS_PER_MONTH,
    FOREVER,
    PayAccount,
    PriceList,
    Runway,
)
from reconciler.errors import DataError

UNIT = 10**18  #: the smallest units in one USDFC
PIECES_PER_CALL = 40  #: the most that a provider takes in one call

_TIB = 1 << 40
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?(?: USDFC)?")


def parse_amount(text: str) -> int:
    """Return the smallest units in an amount such as `10 USDFC` or `0.5`. Raises DataError."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise DataError(
            f"not an amount of money: {text[:64]!r}", hint="write it like 10 USDFC, with up to 18 decimals"
        )
    return int(match[1]) * UNIT + int((match[2] or "").ljust(18, "0"))


def format_amount(amount: int) -> str:
    """Return an amount for the user, rounded up to 4 significant decimals: `0.4552 USDFC`."""
    if amount >= FOREVER // 2:  # an unlimited allowance shrinks by the fees
        return "unlimited"
    step = 10**14 if abs(amount) >= 10**14 else 1
    rounded = -(-amount // step) * step
    return f"{(Decimal(rounded) / UNIT).normalize():f} USDFC"


def piece_leaves(piece: PieceCid) -> int:
    """Return the leaves of 32 bytes that the contracts count for `piece`: those that hold data."""
    return (1 << piece.height) - (128 * piece.padding // 127) // NODE_SIZE


def raw_size(leaves: int) -> int:
    """Return the bytes that a data set with `leaves` leaves is charged for."""
    return leaves * NODE_SIZE * 127 // 128


def rate_per_epoch(leaves: int, prices: PriceList) -> int:
    """Return what a data set with `leaves` leaves costs for each epoch; nothing when it is empty."""
    if not leaves:
        return 0
    storage = raw_size(leaves) * prices.storage // (_TIB * EPOCHS_PER_MONTH)
    return storage + prices.data_set // EPOCHS_PER_MONTH


def adding_fee(calls: int, pieces: int, prices: PriceList) -> int:
    """Return what adding `pieces` pieces in `calls` calls costs once."""
    return calls * prices.add_call + pieces * prices.add_piece


def needed_to_create(prices: PriceList) -> int:
    """Return the available funds that the contracts require before a data set may be created."""
    return prices.data_set * prices.lockup_period // EPOCHS_PER_MONTH + prices.reserve


def runway(account: PayAccount, head: int, chain: Chain) -> Runway:
    """Return how long `account` lasts at epoch `head`; equal to FilecoinPay's `getAccountInfoIfSettled`."""
    until = FOREVER
    if account.rate:
        until = account.settled_at + (account.funds - account.lockup) // account.rate
    locked = account.lockup + account.rate * (min(head, until) - account.settled_at)
    return Runway(
        available=account.funds - locked,
        locked=locked,
        funded_until=until,
        epochs=max(0, until - head),
        exhausted=None if until == FOREVER else chain.date(until),
    )


def deposit_for(days: int, rate: int, available: int) -> int:
    """Return what must be deposited so that `rate` an epoch lasts for `days` days; 0 when it does already."""
    return max(0, rate * EPOCHS_PER_DAY * days - available)


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """Pieces to bring to one provider. `leaves`, `reserve` and `pending` (fees) are those of the data set
    there.

    Without a data set (`exists` false) the first call creates one. With `pulled`, the provider gets the
    pieces from another one; each batch then takes a second set of signatures, for asking it to.
    """

    pieces: tuple[PieceCid, ...]
    exists: bool = False
    leaves: int = 0
    reserve: int = 0
    pending: int = 0
    pulled: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What bringing pieces to providers will do and cost.

    `transactions` are sent and paid for (in FIL) by the providers. `requests` are the writing requests to
    providers; asking whether a step has finished is not counted, because it depends on their speed. `once`
    is paid for the calls, `monthly` is what the account then pays more in 30 days, `locked` what becomes
    locked. The available funds shrink by `once` and `locked` together.
    """

    transactions: int = 0
    signatures: int = 0
    requests: int = 0
    once: int = 0
    monthly: int = 0
    locked: int = 0

    def __add__(self, other: Prediction) -> Prediction:
        return Prediction(
            self.transactions + other.transactions,
            self.signatures + other.signatures,
            self.requests + other.requests,
            self.once + other.once,
            self.monthly + other.monthly,
            self.locked + other.locked,
        )


_UPLOAD_REQUESTS = 3  # open an upload, send the bytes, name the piece


def predict_copy(copy: PlannedCopy, prices: PriceList) -> Prediction:
    """Return what one planned copy will do and cost; nothing when it has no pieces."""
    number = len(copy.pieces)
    if not number:
        return Prediction()
    created = not copy.exists
    batches = [min(PIECES_PER_CALL, number - start) for start in range(0, number, PIECES_PER_CALL)]
    first = prices.create if created else copy.pending
    fees = [adding_fee(1, size, prices) for size in batches]
    fees[0] += first
    before = copy.reserve if copy.exists else 0
    reserve = reserve_after(copy.reserve if copy.exists else prices.reserve, fees, prices)
    after = copy.leaves + sum(map(piece_leaves, copy.pieces))
    growth = rate_per_epoch(after, prices) - rate_per_epoch(copy.leaves, prices)
    signatures = len(batches) + created
    return Prediction(
        transactions=len(batches),
        # each pulled batch is authorized with a nonce of its own; the first one also for creating
        signatures=signatures * 2 if copy.pulled else signatures,
        requests=len(batches) + (len(batches) if copy.pulled else _UPLOAD_REQUESTS * number),
        once=sum(fees),
        monthly=growth * EPOCHS_PER_MONTH,
        locked=growth * prices.lockup_period + reserve - before,
    )


def reserve_after(reserve: int, fees: Sequence[int], prices: PriceList) -> int:
    """Return what is left of a data set's `reserve` after paying `fees`, one call after the other.

    The contract fills it up to the target before a fee that would leave less than the threshold.
    """
    for fee in fees:
        if reserve < fee + prices.replenish_below:
            reserve = prices.reserve + fee
        reserve -= fee
    return reserve


def predict(copies: Iterable[PlannedCopy], prices: PriceList) -> Prediction:
    """Return what all planned copies together will do and cost."""
    return sum((predict_copy(copy, prices) for copy in copies), Prediction())
