"""Data types of deals: claims of a service, answers of the chain, and claims after checking.

A target turns the responses of its service into `DealClaim`s, unverified; the checks turn each into a
`CheckedDeal`. All are frozen; nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.content.piece_cid import PieceCid, PieceRoot
from reconciler.errors import DataError, Reason


@dataclass(frozen=True, slots=True)
class MerklePath:
    """A path from a node of a binary Merkle tree to its root.

    `at` is the index of the node on its level (from 0), `siblings` the 32-byte siblings of the node and of
    its ancestors, from below.
    """

    at: int
    siblings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """A proof of data segment inclusion (PoDSI, FRC-0058): `aggregate` contains `piece`.

    `subtree` leads from the root of the piece to the root of the aggregate, `index` from the piece's entry in
    the aggregate's index of segments to the same root. Unverified; see `inclusion.verify_inclusion`.
    """

    piece: PieceCid
    aggregate: PieceCid
    subtree: MerklePath
    index: MerklePath


class Stage(StrEnum):
    """The progress of a piece towards a deal, as its service claims."""

    QUEUED = "queued"  #: accepted, not in an aggregate yet
    AGGREGATED = "aggregated"  #: in an aggregate, not in a deal yet
    DEAL = "deal"  #: a provider has it
    GONE = "gone"  #: accepted once; the service no longer lists a deal for it


@dataclass(frozen=True, slots=True)
class DealClaim:
    """A service's claim about one piece: one for each deal, or one for a piece without deals.

    `inclusion` is None when the service gives no proof, or when the piece itself is in the deal. `provider`
    is an actor address as `parse_actor` returns it, `deal_id` the number of the deal in the storage market; a
    deal by direct data onboarding has no number. Both are None before Stage.DEAL.
    """

    piece: PieceCid
    stage: Stage
    inclusion: InclusionProof | None = None
    provider: str | None = None
    deal_id: int | None = None
    detail: str = ""  #: further information of the service, such as why there is no proof

    @property
    def subject(self) -> PieceCid:
        """The piece that the deal is about: the aggregate, or the piece itself."""
        return self.piece if self.inclusion is None else self.inclusion.aggregate


class DealState(StrEnum):
    """The state of one deal after checking."""

    AGGREGATING = "aggregating"  #: queued by the service for an aggregate
    OFFERED = "offered"  #: in an aggregate, or in a deal whose sector is not sealed yet
    ACTIVE = "active"  #: proved, and confirmed by the chain
    LATE = "late"  #: a proof that the chain requires regularly is overdue, or a recent one was missed
    EXPIRING = "expiring"  #: active, and ends soon
    EXPIRED = "expired"  #: ended
    SLASHED = "slashed"  #: terminated by the chain because the provider failed
    LOST = "lost"  #: should exist, and does not
    UNPROVED = "unproved"  #: without a valid proof, or contradicted by the chain
    CLAIMED = "claimed"  #: the proof is valid; the chain was not asked or did not answer


class CheckedBy(StrEnum):
    """The strongest check that a state rests on."""

    SERVICE = "service"  #: the service's claim alone
    PROOF = "proof"  #: the inclusion proof was verified
    CHAIN = "chain"  #: the chain was asked as well


@dataclass(frozen=True, slots=True)
class CheckedDeal:
    """One claim after checking.

    `aggregate` is the piece that the provider stores: the aggregate with `piece` in it, or `piece` itself;
    None before there is one. `until` is the epoch at which the deal ends, None when that is unknown. `at` is
    the reference time of the check (UTC). `detail` describes a problem for the user.
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


def parse_actor(text: str) -> str:
    """Return a provider's address in the form `f0123`, from `f0123`, `t0123` or `123`. Raises DataError."""
    match = _ACTOR.fullmatch(text)
    if match is None:
        raise DataError(f"not the address of a storage provider: {text[:64]!r}", hint="write it like f01234")
    return f"f0{match[1]}"


@dataclass(frozen=True, slots=True)
class MarketDeal:
    """One deal of the storage market. Times are epochs, -1 for never; `provider` as from `parse_actor`."""

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
    """One claim of the verified registry: a piece that a provider stores by direct data onboarding.

    The provider must keep it from epoch `start` for `term_min` epochs; the chain drops it after `term_max`.
    """

    provider: str
    piece: PieceRoot
    padded_size: int
    start: int
    term_min: int
    term_max: int


@dataclass(frozen=True, slots=True)
class ChainAnswers:
    """The answers of the chain in one check; a Reason stands for a question without an answer.

    `head` is the newest epoch that the node knows. `deals` has each requested deal by number, None when the
    chain has no such deal; `claims` has the claims of each provider.
    """

    head: int | Reason
    deals: Mapping[int, MarketDeal | Reason | None] = field(default_factory=dict)
    claims: Mapping[str, tuple[DirectClaim, ...] | Reason] = field(default_factory=dict)
