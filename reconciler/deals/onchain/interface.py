"""Data types of Filecoin Onchain Cloud: contracts, accounts, data sets, providers, and copies of pieces.

Amounts of money are in the smallest unit of the token (USDFC has 18 decimals), times are epochs (30 seconds)
unless a name says otherwise, ids are those of the contracts. All types are frozen; nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import Chain
from reconciler.errors import DataError

EPOCHS_PER_DAY = 2880
EPOCHS_PER_MONTH = 86_400  #: 30 days, the month of every price and of the lockup
FOREVER = 2**256 - 1  #: "without end" and "unlimited" in the contracts

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True, order=True)
class EvmAddress:
    """The 20 bytes of an account or contract; text is `0x` and lower-case hexadecimal digits."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != 20:
            raise DataError(f"an address has {len(self.value)} bytes instead of 20")

    @classmethod
    def parse(cls, text: str) -> EvmAddress:
        """Parse `0x` and 40 hexadecimal digits of any case. Raises DataError."""
        if _ADDRESS.fullmatch(text) is None:
            raise DataError(
                f"not an address of the chain: {text[:64]!r}", hint="write it as 0x and 40 hexadecimal digits"
            )
        return cls(bytes.fromhex(text[2:]))

    def __bool__(self) -> bool:
        return any(self.value)

    def __str__(self) -> str:
        return f"0x{self.value.hex()}"


ZERO_ADDRESS = EvmAddress(bytes(20))


@dataclass(frozen=True, slots=True)
class Network:
    """One deployment of the contracts. `service` is the proxy of FilecoinWarmStorageService, the only address
    that is configured; `endorsed` lists endorsed providers, None where no such contract is known.
    """

    chain: Chain
    chain_id: int
    service: EvmAddress
    endorsed: EvmAddress | None = None


@dataclass(frozen=True, slots=True)
class ChainBlock:
    """The block that a view of the chain is taken at; `timestamp` in Unix seconds."""

    number: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class Contracts:
    """The contracts of one network, as the service names them in this run.

    `notes` are messages for the user, such as an announced upgrade.
    """

    service: EvmAddress
    view: EvmAddress
    verifier: EvmAddress
    payments: EvmAddress
    token: EvmAddress
    registry: EvmAddress
    sessions: EvmAddress
    service_version: str
    verifier_version: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of the service, from `getPriceList`.

    `storage` is for a TiB, a month and a copy, `data_set` for a data set and a month. The others are paid
    once: `create` for a data set, `add_call` and `add_piece` for each call that adds pieces and each piece,
    `remove_call` and `terminate` for each such call. `reserve` is locked for each data set to pay them from,
    and filled up when it would fall below `replenish_below`. `lockup_period` is the number of epochs of
    storage that stay locked.
    """

    token: EvmAddress
    storage: int
    data_set: int
    create: int
    add_call: int
    add_piece: int
    remove_call: int
    terminate: int
    reserve: int
    replenish_below: int
    lockup_period: int


@dataclass(frozen=True, slots=True)
class ProvingTerms:
    """The epochs of a proving period and of the window at its end in which a proof is accepted."""

    period: int
    window: int


@dataclass(frozen=True, slots=True)
class PayAccount:
    """The account of a payer in FilecoinPay, as it was settled at epoch `settled_at`."""

    funds: int
    lockup: int
    rate: int  #: paid and locked for each epoch
    settled_at: int


@dataclass(frozen=True, slots=True)
class Approval:
    """What a payer allows the service to take: `rate` for an epoch, `lockup` altogether."""

    approved: bool
    rate_allowance: int = 0
    lockup_allowance: int = 0
    rate_used: int = 0
    lockup_used: int = 0
    max_lockup_period: int = 0


@dataclass(frozen=True, slots=True)
class StorageProvider:
    """A provider from the registry. `url` is the base of its HTTP API without a final slash, "" when it has
    none; sizes in bytes, None where it states none.
    """

    id: int
    address: EvmAddress
    payee: EvmAddress
    name: str
    url: str
    active: bool
    min_piece: int | None = None
    max_piece: int | None = None
    location: str = ""


@dataclass(frozen=True, slots=True)
class ActivePiece:
    """A piece in a data set. `piece` is None when the chain has a CID that is not a v2 piece CID."""

    id: int
    piece: PieceCid | None


@dataclass(frozen=True, slots=True)
class DataSet:
    """The account of a data set: who pays whom, and until when.

    `rail` is 0 for a data set that does not exist or was deleted. `end` is the epoch at which paying ends, 0
    when it was not terminated. `reserve` and `pending_fees` are None where the contract's version has none.
    """

    id: int
    rail: int
    payer: EvmAddress
    payee: EvmAddress
    provider: EvmAddress
    provider_id: int
    client_id: int
    end: int
    pending_fees: int | None = None
    reserve: int | None = None


@dataclass(frozen=True, slots=True)
class DataSetState:
    """All that the chain has about one data set, as of one block.

    `listener` is the contract that the set answers to. `activation` is the epoch of the first proving period,
    0 before it; `deadline` ends the period that `proven_now` is about, 0 when there is none; `periods` tells
    for recent periods, by number, whether they were proved. `leaves` is the size of all pieces in leaves,
    `challenged` the part of them that a proof can be about. What the contracts do not answer for a data set
    that is not live is empty.
    """

    account: DataSet
    live: bool
    listener: EvmAddress = ZERO_ADDRESS
    pieces: tuple[ActivePiece, ...] = ()
    removals: frozenset[int] = frozenset()
    activation: int = 0
    deadline: int = 0
    proven_now: bool = False
    periods: Mapping[int, bool] = field(default_factory=dict)
    leaves: int = 0
    challenged: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Landed:
    """The outcome of a signed call whose nonce was spent: the data set, and the id after its last piece.

    `next_piece` is 0 for a call that only created the data set.
    """

    data_set: int
    next_piece: int


class CopyState(StrEnum):
    """The state of one copy of a piece with one provider."""

    PROVEN = "proven"  #: the latest due proof was accepted
    WAITING = "waiting"  #: added; the first proof of it is not due yet
    LATE = "late"  #: a proof is overdue, or a recent one was missed
    STOPPED = "stopped"  #: no proof for more than one whole period
    REMOVAL_SCHEDULED = "removal scheduled"  #: leaves the data set after the next proof
    TERMINATED = "terminated"  #: paying ends, or has ended
    NOT_OURS = "not ours"  #: another payer's, or another service's
    WRONG_PIECE = "wrong size or piece"  #: another piece in its place
    ABSENT = "absent"  #: not on the chain
    UNKNOWN = "unknown"  #: the chain was not asked, or gave no usable answer


@dataclass(frozen=True, slots=True)
class PieceCopy:
    """One copy of `piece`, as judged. `piece_ids` are its ids in the data set, several when it was added
    twice; `until` is the epoch at which paying ends; `detail` describes a problem for the user.
    """

    piece: PieceCid
    state: CopyState
    provider_id: int | None = None
    data_set: int | None = None
    piece_ids: tuple[int, ...] = ()
    until: int | None = None
    detail: str = ""


class SigningScope(StrEnum):
    """What a session key may sign. The names are those of the typed data."""

    CREATE_DATA_SET = "CreateDataSet"
    ADD_PIECES = "AddPieces"
    SCHEDULE_PIECE_REMOVALS = "SchedulePieceRemovals"
    TERMINATE_SERVICE = "TerminateService"


UPLOAD_SCOPES = (
    SigningScope.CREATE_DATA_SET,
    SigningScope.ADD_PIECES,
)  #: enough to publish, and for nothing else


@dataclass(frozen=True, slots=True)
class Runway:
    """How long an account lasts, at one epoch. `funded_until` is FOREVER, and `exhausted` (UTC) None, when
    nothing is being paid or the date is beyond the year 9999.
    """

    available: int  #: can be withdrawn, or locked for new data sets
    locked: int
    funded_until: int
    epochs: int  #: from now until `funded_until`; 0 when it has passed
    exhausted: datetime | None
