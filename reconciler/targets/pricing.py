"""What a target charges: optional facets of targets that are paid for what they keep.

A `Priced` target says what the account that pays for it has, and what sending bundles would do and cost. The
loop shows both in status, plan and report, and refuses a run that the limits in targets.yaml forbid, before
anything is signed. A `Fundable` one says what the account lacks, and supplies it when the user agrees.
Amounts are exact decimals in the currency of the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol, runtime_checkable

from reconciler.content.car import ShardedCar
from reconciler.content.cid import Cid
from reconciler.errors import Reason
from reconciler.index.label import Label
from reconciler.progress import Progress


@dataclass(frozen=True, slots=True)
class PlannedDelivery:
    """A bundle that a run would send under `label`.

    `sizes` are the bytes of its CARs as the target splits it, `pieces` these CARs where they are known
    without reading the bundle.
    """

    root: Cid
    label: Label
    sizes: tuple[int, ...]
    pieces: ShardedCar | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """What one delivery would do and cost.

    `once` is charged for the calls, `monthly` is what the account then pays more in 30 days, `locked` what
    becomes unavailable in it. `transactions` are sent by the service, `signatures` are made here, `requests`
    are those that write.
    """

    currency: str
    once: Decimal = Decimal(0)
    monthly: Decimal = Decimal(0)
    locked: Decimal = Decimal(0)
    transactions: int = 0
    signatures: int = 0
    requests: int = 0

    def __add__(self, other: Quote) -> Quote:
        return Quote(
            self.currency,
            self.once + other.once,
            self.monthly + other.monthly,
            self.locked + other.locked,
            self.transactions + other.transactions,
            self.signatures + other.signatures,
            self.requests + other.requests,
        )


@dataclass(frozen=True, slots=True)
class PayingAccount:
    """The account that pays for a target, at the time `at` (UTC).

    `deposit` is everything in it, `available` the part that is not locked, `monthly` what it pays in 30 days.
    `approved` says whether the service may take money from it; an allowance is None when it is unlimited.
    `exhausted` is when the account has nothing left to pay with, `ends` when the stored bytes are no longer
    paid for unless more is deposited; None for never. `problems` are what keeps the account from paying.
    """

    name: str
    currency: str
    deposit: Decimal
    available: Decimal
    locked: Decimal
    monthly: Decimal
    approved: bool
    monthly_allowance: Decimal | None
    lockup_allowance: Decimal | None
    exhausted: datetime | None
    ends: datetime | None
    at: datetime
    problems: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Pricing:
    """The account, a quote for each delivery in order, and what keeps them from being made.

    `refusals` are limits in targets.yaml that all deliveries together would break; a run with one does not
    begin. `shortfalls` are what the account lacks: the service would refuse the deliveries.
    """

    account: PayingAccount
    quotes: tuple[Quote, ...] = ()
    refusals: tuple[Reason, ...] = ()
    shortfalls: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class FundingWish:
    """What the user wants an account to have: `deposit`, an amount as written that shall be available, and
    money for `days`. None: what the target needs before anything can be published. `stop` is the id of the
    index whose storage shall end instead.
    """

    deposit: str | None = None
    days: int | None = None
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class FundingAction:
    """One transaction that is missing: its `kind`, what it does (`text`) and `why`; `amount` is that of a
    deposit or withdrawal.
    """

    kind: str
    text: str
    why: str
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class FundingPlan:
    """The account, what its wallet has besides, and the transactions that are missing, in order.

    `problems` are what keeps them from being sent. With `stops`, they end storage.
    """

    account: PayingAccount
    wallet: Decimal
    actions: tuple[FundingAction, ...] = ()
    problems: tuple[Reason, ...] = ()
    stops: bool = False


@dataclass(frozen=True, slots=True)
class FundingReceipt:
    """An action that was carried out by the transaction `hash`."""

    action: FundingAction
    hash: str


@runtime_checkable
class Priced(Protocol):
    """A target that is paid for what it keeps."""

    def price(self, deliveries: Sequence[PlannedDelivery]) -> Pricing:
        """Return what `deliveries` would cost one after the other, after what the last `observe` saw.

        Signs, sends and changes nothing. Raises PeerError when the account cannot be read.
        """


@runtime_checkable
class Fundable(Protocol):
    """A target whose account is funded by transactions of the payer."""

    def plan_funding(self, wish: FundingWish) -> FundingPlan:
        """Return what the account lacks; nothing when it has everything. Signs and sends nothing.

        Raises PeerError, and UsageError for an amount that cannot be understood.
        """

    def fund(self, wish: FundingWish, shown: FundingPlan, progress: Progress) -> Iterator[FundingReceipt]:
        """Carry out what is still missing of `shown`, with the payer's key; yield the receipts.

        Raises PeerError, UsageError without that key, and SafetyError when more is missing now than shown.
        """
