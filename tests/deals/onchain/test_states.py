"""Every state of a copy is reached on the chain, by what providers and payers do and by time passing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.deals.interface import DealState
from reconciler.deals.onchain.health import as_deal
from reconciler.deals.onchain.interface import CopyState
from reconciler.deals.onchain.wallet import terminate_call
from tests.support.onchain.lab import OWNERS
from tests.support.onchain.payer import PERIOD, Payer, piece, pieces

P = pieces(3)
STRANGER = OWNERS[3]


def proven(payer: Payer) -> int:
    """A data set with P at provider 1, proved once."""
    data_set = payer.create(1, P)
    payer.lab.prove_period(1, data_set)
    return data_set


def test_a_proved_piece_is_proven_also_between_two_periods(payer: Payer) -> None:
    data_set = proven(payer)
    assert payer.health(data_set, P[0]) is CopyState.PROVEN
    state = payer.state(data_set)
    payer.lab.mine_to(state.deadline + 1)  # type: ignore[union-attr]
    assert payer.health(data_set, P[0]) is CopyState.PROVEN
    assert payer.copy(data_set, P[1]).piece_ids == (1,)


def test_a_new_data_set_waits_for_its_first_proof(payer: Payer) -> None:
    data_set = payer.create(1, P)
    copy = payer.copy(data_set, P[0])
    assert (copy.state, copy.detail) == (CopyState.WAITING, "proving has not begun")
    payer.lab.next_period(1, data_set)
    assert payer.copy(data_set, P[0]).detail.startswith("the first proof is due at epoch")
    assert payer.health(data_set, P[0]) is CopyState.WAITING


def test_pieces_that_join_wait_and_those_that_were_there_stay_proven(payer: Payer) -> None:
    data_set = proven(payer)
    new = piece(50)
    payer.add(1, data_set, [new])
    assert payer.health(data_set, new) is CopyState.WAITING
    assert payer.health(data_set, P[2]) is CopyState.PROVEN
    payer.lab.mine(PERIOD)
    payer.lab.prove_period(1, data_set)
    assert payer.health(data_set, new) is CopyState.PROVEN


def test_a_missing_proof_is_late_then_stopped_and_a_provider_that_wakes_up_is_late(payer: Payer) -> None:
    data_set = proven(payer)
    payer.lab.mine(PERIOD)
    payer.lab.next_period(1, data_set)
    deadline = payer.state(data_set).deadline  # type: ignore[union-attr]
    payer.lab.mine_to(deadline)
    assert payer.health(data_set, P[0]) is CopyState.PROVEN  # it is not overdue before the deadline
    payer.lab.mine()
    assert payer.copy(data_set, P[0]).detail == f"the proof due at epoch {deadline} is missing"
    payer.lab.mine_to(deadline + PERIOD + 1)
    copy = payer.copy(data_set, P[0])
    assert (copy.state, copy.detail) == (
        CopyState.STOPPED,
        f"no proof since epoch {deadline}, for {PERIOD + 1} epochs",
    )
    payer.lab.prove_period(1, data_set)
    copy = payer.copy(data_set, P[0])
    assert copy.state is CopyState.LATE
    assert copy.detail.endswith("and it proves again")


def test_a_provider_that_falls_silent_in_a_proved_period_is_found(payer: Payer) -> None:
    """The contract goes on saying that this period was proved, because it moves on only when it is called."""
    data_set = proven(payer)
    payer.lab.mine(3 * PERIOD)
    state = payer.state(data_set)
    assert state.proven_now is True  # type: ignore[union-attr]
    assert payer.health(data_set, P[0]) is CopyState.STOPPED


def test_a_piece_that_is_scheduled_for_removal_leaves_with_the_next_period(payer: Payer) -> None:
    data_set = proven(payer)
    payer.remove(1, data_set, [0])
    assert payer.health(data_set, P[0]) is CopyState.REMOVAL_SCHEDULED
    assert payer.health(data_set, P[1]) is CopyState.PROVEN
    payer.lab.mine(PERIOD)
    payer.lab.prove_period(1, data_set)
    copy = payer.copy(data_set, P[0])
    assert (copy.state, copy.detail) == (CopyState.ABSENT, f"data set {data_set} does not have it")
    assert payer.health(data_set, P[1]) is CopyState.PROVEN


def test_a_piece_that_was_added_twice_is_held_while_one_of_them_stays(payer: Payer) -> None:
    data_set = proven(payer)
    payer.add(1, data_set, [P[0]], attempt=1)
    payer.remove(1, data_set, [0])
    copy = payer.copy(data_set, P[0])
    assert copy.piece_ids == (0, 3)
    assert copy.state is not CopyState.REMOVAL_SCHEDULED


def test_a_data_set_that_was_emptied_begins_to_prove_again(payer: Payer) -> None:
    data_set = proven(payer)
    payer.remove(1, data_set, [0, 1, 2])
    payer.lab.mine(PERIOD)
    payer.lab.next_period(1, data_set)
    payer.add(1, data_set, [piece(60)])
    copy = payer.copy(data_set, piece(60))
    assert copy.state is CopyState.WAITING
    assert "because the data set was empty" in copy.detail


def test_a_termination_by_the_payer_leaves_thirty_days(payer: Payer) -> None:
    data_set = proven(payer)
    receipt = payer.wallet.carry_out(terminate_call(payer.view().contracts, data_set))
    copy = payer.copy(data_set, P[0])
    assert (copy.state, copy.until) == (CopyState.TERMINATED, receipt.block + 86_400)
    view = payer.view()
    deal = as_deal(copy, head=view.block.number, now=view.chain.genesis, chain=view.chain)
    assert (deal.state, deal.until) == (DealState.EXPIRING, copy.until)
    assert deal.ends == view.chain.date(receipt.block + 86_400)


def test_a_termination_with_consent_ends_at_once_and_the_data_set_can_be_deleted(payer: Payer) -> None:
    data_set = proven(payer)
    payer.end_at_once(1, data_set)
    payer.lab.mine(2)
    copy = payer.copy(data_set, P[0])
    assert (copy.state, "ended at epoch" in copy.detail) == (CopyState.TERMINATED, True)
    view = payer.view()
    deal = as_deal(copy, head=view.block.number, now=view.chain.genesis, chain=view.chain)
    assert deal.state is DealState.EXPIRED
    payer.lab.delete(1, data_set)
    copy = payer.copy(data_set, P[0])
    assert (copy.state, copy.detail) == (
        CopyState.ABSENT,
        f"data set {data_set} was deleted, or never existed",
    )
    landed = payer.view().nonces(payer.key.address, [payer.set_name(1)])[payer.set_name(1)]
    assert landed is not None  # its name stays used: a new one needs the next generation
    assert landed.data_set == data_set
    again = payer.create(1, P, generation=1)
    assert payer.health(again, P[0]) is CopyState.WAITING


def test_a_data_set_that_never_existed_is_absent(payer: Payer) -> None:
    assert payer.health(99, P[0]) is CopyState.ABSENT


def test_a_data_set_that_is_no_longer_live_is_absent(payer: Payer) -> None:
    data_set = proven(payer)
    payer.lab.tell("kill(uint256)", data_set)
    copy = payer.copy(data_set, P[0])
    assert (copy.state, copy.detail) == (CopyState.ABSENT, f"data set {data_set} was deleted")


@pytest.mark.parametrize("change", ["give(uint256,address)", "assign(uint256,address)"])
def test_another_payer_or_another_service_is_not_ours(payer: Payer, change: str) -> None:
    data_set = proven(payer)
    payer.lab.tell(change, data_set, STRANGER)
    copy = payer.copy(data_set, P[0])
    assert copy.state is CopyState.NOT_OURS
    assert STRANGER in copy.detail


def test_a_piece_with_our_root_and_another_size_is_wrong(payer: Payer) -> None:
    other = replace(P[0], padding=P[0].padding + 127)
    data_set = payer.create(1, [other])
    copy = payer.copy(data_set, P[0])
    assert copy.state is CopyState.WRONG_PIECE
    assert f"{other.size} bytes of data instead of {P[0].size}" in copy.detail


def test_another_piece_under_the_id_that_was_recorded_is_wrong(payer: Payer) -> None:
    data_set = payer.create(1, P[1:])
    assert payer.copy(data_set, P[0]).state is CopyState.ABSENT
    copy = payer.copy(data_set, P[0], recorded_id=0)
    assert copy.state is CopyState.WRONG_PIECE
    assert str(P[1]) in copy.detail
