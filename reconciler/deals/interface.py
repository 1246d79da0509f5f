"""The words of this room: what a service claims of a piece, and what is left of that after checking.

A target turns the answers of its service into `DealClaim`s, without believing them; the checks make a
`CheckedDeal` of each. Frozen data only; no I/O.

What the chain says of deals, as frozen values; nothing here knows how it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.content.piece_cid import PieceCid, PieceRoot
from reconciler.errors import DataError


@dataclass(frozen=True, slots=True)
class MerklePath:
    """A way up a binary tree: `at` is the index of the first node on its level (from 0), `siblings` the
    32-byte nodes beside it and beside its parents, from below.
    """

    at: int
    siblings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """A proof of data segment inclusion (PoDSI, FRC-0058): that `piece` lies in `aggregate`.

    `subtree` leads from the root of the piece to that of the aggregate, `index` from the piece's entry in the
    aggregate's index of segments to the same root. Unchecked; `inclusion.verify` checks it.
    """

    piece: PieceCid
    aggregate: PieceCid
    subtree: MerklePath
    index: MerklePath


class Stage(StrEnum):
    """How far a piece is on its way into a deal, as its service says."""

    QUEUED = "queued"  #: taken, in no aggregate yet
    AGGREGATED = "aggregated"  #: in an aggregate, in no deal yet
    DEAL = "deal"  #: a provider has it
    GONE = "gone"  #: the service once took it, and names no deal for it any more


@dataclass(frozen=True, slots=True)
class DealClaim:
    """What a service says of one piece; one for each deal, or one for a piece without any.

    `inclusion` is None where the service gives no proof, or where the piece is in the deal by itself.
    `provider` is an actor address as `actor` makes it, `deal_id` the number of the deal in the storage
    market; a deal made by direct data onboarding has none. Both are None below Stage.DEAL.
    """

    piece: PieceCid
    stage: Stage
    inclusion: InclusionProof | None = None
    provider: str | None = None
    deal_id: int | None = None
    detail: str = ""  #: what the service says besides, such as why there is no proof

    @property
    def subject(self) -> PieceCid:
        """The piece that lies in the deal: the aggregate, or the piece itself."""
        return self.piece if self.inclusion is None else self.inclusion.aggregate


class DealState(StrEnum):
    """What one deal is worth after checking; the closed set of states."""

    AGGREGATING = "aggregating"  #: with the service, waiting for an aggregate
    OFFERED = "offered"  #: in an aggregate, or in a deal whose sector is not sealed yet
    ACTIVE = "active"  #: proved and on the chain
    EXPIRING = "expiring"  #: active, and over soon
    EXPIRED = "expired"  #: over
    SLASHED = "slashed"  #: ended by the chain, because the provider failed
    LOST = "lost"  #: was there once, or should be, and is not
    UNPROVED = "unproved"  #: claimed without a proof that holds, or contradicted by the chain
    CLAIMED = "claimed"  #: the proof holds; the chain was not asked or could not say


class CheckedBy(StrEnum):
    """The strongest check a state rests on."""

    SERVICE = "service"  #: nothing but the service's word
    PROOF = "proof"  #: the inclusion proof was verified
    CHAIN = "chain"  #: and the chain was asked


@dataclass(frozen=True, slots=True)
class CheckedDeal:
    """One claim after checking.

    `aggregate` is the piece that lies in the deal: the aggregate, or the piece itself where there is none
    (None before it is in either). `until` is the epoch at which the deal ends, None when that is unknown.
    `at` is the one reference time of the check (UTC). `detail` says in words what is wrong or worth knowing.
    """

    piece: PieceCid
    state: DealState
    checked_by: CheckedBy
    at: datetime
    aggregate: PieceCid | None = None
    provider: str | None = None
    deal_id: int | None = None
    until: int | None = None
    detail: str = ""
    ends: datetime | None = None  #: `until` as a date


_ACTOR = re.compile(r"(?:[ft]0)?(0|[1-9][0-9]{0,18})")


def actor(text: str) -> str:
    """A provider's address in one form, `f0123`, from `f0123`, `t0123` or `123`. Raises DataError."""
    match = _ACTOR.fullmatch(text)
    if match is None:
        raise DataError(
            f"not the address of a storage provider: {text[:64]!r}", hint="it looks like 'f01234'"
        )
    return f"f0{match[1]}"


@dataclass(frozen=True, slots=True)
class MarketDeal:
    """One deal of the storage market; epochs, -1 for never. `provider` as `interface.actor` makes it."""

    deal_id: int
    piece: PieceRoot
    padded_size: int
    provider: str
    start: int
    end: int
    sector_start: int
    slashed: int


@dataclass(frozen=True, slots=True)
class DirectClaim:
    """One claim of the verified registry: what a provider took on by direct data onboarding.

    It must be kept from epoch `start` for `term_min` epochs and is forgotten after `term_max`.
    """

    provider: str
    piece: PieceRoot
    padded_size: int
    start: int
    term_min: int
    term_max: int
    sector: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question that got no usable answer, and why; not to be taken for `no`."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ChainAnswers:
    """Everything one check learned from the chain.

    `head` is the newest epoch the node knows. `deals` has each deal asked for by number, None where the chain
    has no such deal; `claims` each provider's claims.
    """

    head: int | Unanswered
    deals: Mapping[int, MarketDeal | Unanswered | None] = field(default_factory=dict)
    claims: Mapping[str, tuple[DirectClaim, ...] | Unanswered] = field(default_factory=dict)
