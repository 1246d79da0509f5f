"""Data sets, providers and prices, from the decoded answers of the contracts. Pure.

An answer that is missing or contradicts another one raises DataError, or is a Reason where it is returned: it
is never read as "nothing is there".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.content import piece_cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.onchain.interface import (
    ActivePiece,
    DataSet,
    DataSetState,
    PriceList,
    StorageProvider,
)
from reconciler.deals.onchain.questions import Values, given
from reconciler.errors import DataError, Reason
from reconciler.net.errors import sanitize

PAGE = 100  #: data sets, providers or pieces in one answer
MAX_PAGES = 1000  #: 100,000 pieces in a data set
MAX_LEAVES = 1 << 50  #: of 32 bytes: what 100,000 pieces never have


@dataclass(frozen=True, slots=True)
class BegunState:
    """The state of a live data set without its pieces and periods.

    `pieces` is their number, `next_piece` the id after the last one that was ever added; `periods` are the
    proving periods to ask about.
    """

    state: DataSetState
    next_piece: int
    pieces: int
    periods: range


def begin_state(
    number: int, answers: Sequence[Values], recent: Callable[[int], range], latest: int
) -> BegunState | DataSetState:
    """Return the state of a data set from the answers to the first questions, whole when it is not live.

    `recent` returns the proving periods to ask about for an epoch of activation; no period ends after epoch
    `latest`. Raises DataError.
    """
    account, live, activation, deadline, proven, metadata = map(given, answers[:6])
    rail, _, _, payer, payee, provider, _, client_id, end, provider_id, pending, reserve = account
    data_set = DataSet(
        number,
        rail,
        payer,
        payee,
        provider,
        provider_id,
        client_id,
        end,
        pending_fees=pending,
        reserve=reserve,
    )
    state = DataSetState(data_set, live[0], metadata=_pairs(*metadata))
    if not live[0] or not rail:
        return state
    listener, leaves, challenged, removals, next_piece, pieces = (given(each)[0] for each in answers[6:])
    if pieces > next_piece or next_piece > PAGE * MAX_PAGES:
        raise DataError(f"{pieces} active pieces, with ids below {next_piece}, are impossible or too many")
    if max(activation[0], deadline[0]) > latest:
        raise DataError(f"proving from epoch {activation[0]} with a proof due at {deadline[0]} is impossible")
    if max(leaves, challenged) >= MAX_LEAVES:
        raise DataError(f"{leaves} leaves, of which {challenged} are challenged, are impossible")
    state = replace(
        state,
        listener=listener,
        removals=frozenset(removals),
        activation=activation[0],
        deadline=deadline[0],
        proven_now=proven[0],
        leaves=leaves,
        challenged=challenged,
    )
    return BegunState(state, next_piece, pieces, recent(state.activation))


def finish_state(begun: BegunState, answers: Sequence[Values]) -> DataSetState:
    """Return the whole state from the answers about its pieces, then its periods. Raises DataError."""
    pages = -(-begun.next_piece // PAGE)
    found: dict[int, PieceCid | None] = {}
    for cids, ids, _ in map(given, answers[:pages]):
        if len(cids) != len(ids):
            raise DataError(f"{len(cids)} pieces have {len(ids)} ids")
        found |= {number: _piece(cid) for (cid,), number in zip(cids, ids, strict=True)}
    if len(found) != begun.pieces:
        raise DataError(f"{len(found)} of {begun.pieces} active pieces were listed")
    proved = (given(each)[0] for each in answers[pages:])
    return replace(
        begun.state,
        pieces=tuple(ActivePiece(number, found[number]) for number in sorted(found)),
        periods=dict(zip(begun.periods, proved, strict=True)),
    )


def _pairs(keys: Sequence[str], values: Sequence[str]) -> Mapping[str, str]:
    if len(keys) != len(values):
        raise DataError(f"its metadata has {len(keys)} keys and {len(values)} values")
    return dict(zip(keys, values, strict=True))


def _piece(cid: bytes) -> PieceCid | None:
    try:
        found = piece_cid.decode(cid)
    except DataError:
        return None
    return found if isinstance(found, PieceCid) else None


def read_price_list(words: Sequence[Any]) -> PriceList:
    """Return the prices in the answer of `getPriceList`; those of content delivery are left out."""
    token, storage, data_set, _, _, create, add_call, add_piece, remove_call, terminate, *lockups = words
    reserve, replenish_below, period, *_ = lockups
    return PriceList(
        token,
        storage,
        data_set,
        create,
        add_call,
        add_piece,
        remove_call,
        terminate,
        reserve,
        replenish_below,
        period,
    )


def read_provider(
    number: int, info: tuple[Any, ...], product: tuple[Any, ...], values: tuple[bytes, ...]
) -> StorageProvider | Reason:
    """Return the provider in the answer of `getProviderWithProduct`."""
    address, payee, name, _, active = info
    _, keys, offered = product
    if len(keys) != len(values):
        return Reason(f"provider {number} has {len(keys)} capabilities with {len(values)} values")
    capabilities = dict(zip(keys, values, strict=True))
    url = capabilities.get("serviceURL", b"").decode("utf-8", "replace")
    return StorageProvider(
        number,
        address,
        payee,
        sanitize(name, limit=64),
        url.rstrip("/"),
        active and offered,
        _size(capabilities.get("minPieceSizeInBytes")),
        _size(capabilities.get("maxPieceSizeInBytes")),
        sanitize(capabilities.get("location", b"").decode("utf-8", "replace"), limit=128),
    )


def _size(value: bytes | None) -> int | None:
    if value is None or not 0 < len(value) <= 32:
        return None
    return int.from_bytes(value, "big")
