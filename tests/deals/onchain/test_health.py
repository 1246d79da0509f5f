"""The decision about a copy: one test for each row of the table, and laws over all states."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import MAINNET
from reconciler.deals.interface import CheckedBy, DealState
from reconciler.deals.onchain.health import RECENT_PERIODS, as_deal, judge_copy
from reconciler.deals.onchain.interface import (
    ActivePiece,
    CopyState,
    DataSet,
    DataSetState,
    EvmAddress,
    PieceCopy,
)
from reconciler.deals.onchain.money import piece_leaves
from reconciler.deals.policy import COUNTS, IN_PROGRESS
from reconciler.errors import Reason
from tests.support.onchain.payer import pieces

PAYER, SERVICE, PROVIDER = (EvmAddress(bytes([number]) * 20) for number in (1, 2, 3))
P = pieces(3)
PERIOD = 240
ACTIVATED = 1000
LEAVES = sum(map(piece_leaves, P))
ACCOUNT = DataSet(7, 5, PAYER, PROVIDER, PROVIDER, 4, 99, 0)
#: proved in its fifth period, number 4, and before
STATE = DataSetState(
    ACCOUNT,
    live=True,
    listener=SERVICE,
    pieces=tuple(ActivePiece(number, each) for number, each in enumerate(P)),
    activation=ACTIVATED,
    deadline=ACTIVATED + 5 * PERIOD,
    proven_now=True,
    periods=dict.fromkeys(range(1, 5), True),
    leaves=LEAVES,
    challenged=LEAVES,
)
HEAD = ACTIVATED + 5 * PERIOD - 3


def judge(state: DataSetState | Reason | None = STATE, piece: PieceCid = P[0], head: int = HEAD) -> PieceCopy:
    return judge_copy(piece, state, payer=PAYER, service=SERVICE, head=head, period=PERIOD)


def account(**changes: object) -> DataSetState:
    return replace(STATE, account=replace(ACCOUNT, **changes))  # type: ignore[arg-type]


ROWS = [
    (None, CopyState.ABSENT, "the provider has no data set of ours"),
    (Reason("the node is down"), CopyState.UNKNOWN, "the node is down"),
    (account(rail=0), CopyState.ABSENT, "data set 7 was deleted, or never existed"),
    (account(payer=PROVIDER), CopyState.NOT_OURS, f"data set 7 is paid by {PROVIDER}"),
    (replace(STATE, live=False), CopyState.ABSENT, "data set 7 was deleted"),
    (replace(STATE, listener=PROVIDER), CopyState.NOT_OURS, f"data set 7 belongs to the service {PROVIDER}"),
    (replace(STATE, pieces=STATE.pieces[1:]), CopyState.ABSENT, "data set 7 does not have it"),
    (
        replace(STATE, removals=frozenset({0})),
        CopyState.REMOVAL_SCHEDULED,
        "it leaves the data set after the provider's next proof",
    ),
    (account(end=HEAD), CopyState.TERMINATED, f"the service ends at epoch {HEAD}"),
    (account(end=HEAD - 1), CopyState.TERMINATED, f"the service ended at epoch {HEAD - 1}"),
    (replace(STATE, activation=0, deadline=0, periods={}), CopyState.WAITING, "proving has not begun"),
    (
        replace(STATE, deadline=0),
        CopyState.WAITING,
        "proving begins again, because the data set was empty",
    ),
    (
        replace(STATE, deadline=HEAD - PERIOD - 1),
        CopyState.STOPPED,
        f"no proof since epoch {HEAD - PERIOD - 1}, for {PERIOD + 1} epochs",
    ),
    (
        replace(STATE, deadline=HEAD - 1, proven_now=False),
        CopyState.LATE,
        f"the proof due at epoch {HEAD - 1} is missing",
    ),
    (
        replace(STATE, periods=STATE.periods | {2: False}),
        CopyState.LATE,
        "1 of the last 3 proofs are missing and it proves again",
    ),
    (
        replace(STATE, proven_now=False, periods={1: True, 2: False, 3: False, 4: False}),
        CopyState.LATE,
        "2 of the last 3 proofs are missing",
    ),
    (
        replace(STATE, activation=HEAD - 10, deadline=HEAD + 230, proven_now=False, periods={0: False}),
        CopyState.WAITING,
        f"the first proof is due at epoch {HEAD + 230}",
    ),
    (
        replace(STATE, leaves=LEAVES + 9, challenged=piece_leaves(P[0]) - 1),
        CopyState.WAITING,
        "it was added after the challenge of this period was set",
    ),
    (replace(STATE, leaves=LEAVES + 9), CopyState.PROVEN, ""),
    (STATE, CopyState.PROVEN, ""),
]


@pytest.mark.parametrize(("state", "word", "detail"), ROWS, ids=[f"row {n}" for n in range(1, len(ROWS) + 1)])
def test_a_row_of_the_table(state: DataSetState | Reason | None, word: CopyState, detail: str) -> None:
    copy = judge(state)
    assert (copy.state, copy.detail) == (word, detail)


def test_a_missing_proof_that_is_longer_ago_is_forgotten() -> None:
    old = replace(STATE, periods={0: False, **STATE.periods})
    assert judge(old).state is CopyState.PROVEN
    assert RECENT_PERIODS == 3


def test_a_cid_that_is_no_piece_leaves_unknown_what_is_challenged() -> None:
    odd = replace(STATE, leaves=LEAVES + 9, pieces=(ActivePiece(0, None), ActivePiece(1, P[0])))
    assert judge(odd).state is CopyState.WAITING


def test_a_piece_with_the_recorded_id_that_is_no_piece_cid_is_wrong() -> None:
    odd = replace(STATE, pieces=(ActivePiece(0, None),))
    found = judge_copy(P[0], odd, payer=PAYER, service=SERVICE, head=HEAD, period=PERIOD, recorded_id=0)
    assert (found.state, "a CID that is not a piece CID" in found.detail) == (CopyState.WRONG_PIECE, True)


STATES = st.builds(
    lambda changes, rail, payer, end, provider: replace(
        STATE, account=replace(ACCOUNT, rail=rail, payer=payer, end=end, provider_id=provider), **changes
    ),
    st.fixed_dictionaries(
        {
            "live": st.booleans(),
            "listener": st.sampled_from([SERVICE, PROVIDER]),
            "pieces": st.lists(
                st.builds(ActivePiece, st.integers(0, 5), st.sampled_from([None, *P])), max_size=4
            ).map(tuple),
            "removals": st.frozensets(st.integers(0, 5), max_size=3),
            "activation": st.integers(0, HEAD + 500),
            "deadline": st.integers(0, HEAD + 1000),
            "proven_now": st.booleans(),
            "periods": st.dictionaries(st.integers(0, 6), st.booleans(), max_size=6),
            "leaves": st.integers(0, 2 * LEAVES),
            "challenged": st.integers(0, 2 * LEAVES),
        }
    ),
    st.integers(0, 1),
    st.sampled_from([PAYER, PROVIDER]),
    st.sampled_from([0, 0, 0, HEAD - 5, HEAD + 5]),
    st.integers(0, 3),
)


@given(STATES, st.integers(0, HEAD + 2000))
def test_only_a_live_running_set_of_ours_with_the_piece_and_a_proof_is_proven(
    state: DataSetState, head: int
) -> None:
    copy = judge(state, head=head)
    if copy.state is CopyState.PROVEN:
        assert state.live
        assert state.account.rail
        assert state.account.payer == PAYER
        assert not state.account.end
        assert any(each.piece == P[0] and each.id not in state.removals for each in state.pieces)
        assert state.proven_now or any(state.periods.values())
        assert head <= state.deadline + PERIOD
    assert copy.state is not CopyState.UNKNOWN  # what was read is judged
    assert (copy.detail == "") == (copy.state is CopyState.PROVEN)


@given(STATES, st.integers(0, HEAD), st.integers(1, 5000))
def test_time_alone_never_makes_a_copy_better(state: DataSetState, head: int, later: int) -> None:
    """Without any call of its provider, a copy goes from proven to late to stopped, and never back."""
    order = (CopyState.PROVEN, CopyState.WAITING, CopyState.LATE, CopyState.STOPPED)
    frozen = replace(state, periods=dict.fromkeys(range(-3, (head + later) // PERIOD + 4), True))
    before, after = judge(frozen, head=head).state, judge(frozen, head=head + later).state
    if before in order and after in order:
        assert order.index(after) >= order.index(before)
    else:
        assert before is after


@given(STATES, st.integers(0, HEAD + 2000))
def test_a_copy_in_the_words_of_deals_keeps_its_reason_and_never_counts_by_mistake(
    state: DataSetState, head: int
) -> None:
    copy = judge(state, head=head)
    deal = as_deal(copy, head=head, now=MAINNET.genesis, chain=MAINNET)
    assert (deal.state in COUNTS) == (copy.state is CopyState.PROVEN)
    assert (deal.state in IN_PROGRESS) == (copy.state in (CopyState.WAITING, CopyState.LATE))
    assert copy.detail in deal.detail
    assert deal.checked_by is CheckedBy.CHAIN
    provider = state.account.provider_id
    assert deal.provider == (f"pdp:{provider}" if provider else None)
    assert (deal.until, deal.deal_id, deal.aggregate) == (copy.until, copy.data_set, P[0])


def test_an_unknown_copy_counts_as_claimed_so_that_nothing_is_published_again() -> None:
    deal = as_deal(judge(Reason("the node is down")), head=HEAD, now=MAINNET.genesis, chain=MAINNET)
    assert (deal.state, deal.checked_by) == (DealState.CLAIMED, CheckedBy.SERVICE)
    assert deal.detail == "unknown: the node is down"
