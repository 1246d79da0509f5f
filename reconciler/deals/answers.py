"""What the chain says of deals, as frozen values; nothing here knows how it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.content.piece_cid import PieceRoot


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
