"""Transactions of payers: sent once, awaited, and every way in which one fails is one clear error."""

from __future__ import annotations

import pytest

from reconciler.deals.onchain.interface import FOREVER, UPLOAD_SCOPES, SigningScope
from reconciler.deals.onchain.wallet import (
    NonceUsedError,
    TransactionPendingError,
    TransactionRefusedError,
    UnsentCall,
    Wallet,
    approve_call,
    deposit_call,
    login_call,
    revoke_call,
    terminate_call,
    withdraw_call,
)
from reconciler.net.errors import UnexpectedResponseError
from tests.support.onchain.fake_chain import FakeChain
from tests.support.onchain.lab import CHAIN_ID, OWNERS, UNIT, LabError
from tests.support.onchain.payer import Payer, ending_consent, key, pieces, removal_consent

P = pieces(2)


def node_of(payer: Payer) -> FakeChain:
    assert payer.lab.fake is not None
    return payer.lab.fake


class Clock:
    """Time that passes only by waiting; `event` runs at each wait, with the seconds so far."""

    def __init__(self, *events: tuple[float, object]) -> None:
        self.now = 0.0
        self.events = list(events)

    def pause(self, seconds: float) -> None:
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            _, event = self.events.pop(0)
            event()  # type: ignore[operator]


def wallet(payer: Payer, *events: tuple[float, object], number: int = 0) -> Wallet:
    clock = Clock(*events)
    return Wallet(
        payer.nodes.first, CHAIN_ID, key(number), poll=50, pause=clock.pause, clock=lambda: clock.now
    )


def test_a_deposit_pays_in_and_approves_at_once(payer: Payer) -> None:
    view = payer.view()
    assert view.account(payer.key.address).funds == 5 * UNIT
    assert view.balance(payer.key.address) == 995 * UNIT
    approval = view.approval(payer.key.address)
    assert (approval.approved, approval.rate_allowance, approval.max_lockup_period) == (True, FOREVER, 86_400)
    call = deposit_call(view, payer.key, 2 * UNIT, rate_allowance=7, lockup_allowance=8)
    receipt = payer.wallet.carry_out(call)
    assert receipt.block == payer.lab.head
    view = payer.view()
    assert view.account(payer.key.address).funds == 7 * UNIT
    assert view.approval(payer.key.address).rate_allowance == 7
    with pytest.raises(TransactionRefusedError, match="the permit is not signed by the owner"):
        payer.wallet.carry_out(call)  # the same deposit a second time: its permit is used up


def test_approvals_are_given_and_taken_and_money_comes_back(payer: Payer) -> None:
    view = payer.view()
    payer.wallet.carry_out(approve_call(view, approved=False))
    assert payer.view().approval(payer.key.address).approved is False
    with pytest.raises(LabError) as caught:
        payer.create(1, P)
    assert caught.value.data.startswith("0xeef23db6")
    payer.wallet.carry_out(approve_call(view))
    payer.create(1, P)
    view = payer.view()
    with pytest.raises(TransactionRefusedError, match=r"5 USDFC are needed, and 4\.\d+ USDFC are available"):
        payer.wallet.carry_out(withdraw_call(view, 5 * UNIT))
    payer.wallet.carry_out(withdraw_call(view, 4 * UNIT))
    assert payer.view().balance(payer.key.address) == 999 * UNIT


def test_a_session_key_uploads_and_can_neither_remove_nor_end(payer: Payer) -> None:
    session, contracts = key(3), payer.view().contracts
    expires = payer.view().block.timestamp + 100_000
    with pytest.raises(LabError) as caught:
        payer.create(1, P, session=session)
    assert caught.value.data.startswith("0x42d750dc")
    payer.wallet.carry_out(login_call(contracts, session.address, expires))
    found = payer.view().expiries(payer.key.address, session.address, tuple(SigningScope))
    assert {scope: int(moment.timestamp()) for scope, moment in found.items()} == dict.fromkeys(
        UPLOAD_SCOPES, expires
    )
    data_set = payer.create(1, P, session=session)
    signer = payer.signer(session)
    with pytest.raises(LabError):
        payer.lab.schedule_removals(1, data_set, [0], removal_consent(signer, payer.set_name(1), [0]))
    with pytest.raises(LabError):
        payer.lab.terminate(1, data_set, ending_consent(signer, data_set))
    payer.wallet.carry_out(revoke_call(contracts, session.address))
    assert payer.view().expiries(payer.key.address, session.address, UPLOAD_SCOPES) == {}
    with pytest.raises(LabError):
        payer.create(2, P, session=session)


def test_an_expired_session_key_signs_for_nothing(payer: Payer) -> None:
    session, view = key(3), payer.view()
    payer.wallet.carry_out(login_call(view.contracts, session.address, view.block.timestamp - 1))
    with pytest.raises(LabError) as caught:
        payer.create(1, P, session=session)
    assert caught.value.data.startswith("0x42d750dc")


def test_a_call_that_would_fail_is_not_signed(payer: Payer) -> None:
    before = payer.lab.head
    for call, words in (
        (
            deposit_call(payer.view(), payer.key, 10_000 * UNIT),
            "the wallet has 995 USDFC and not 10000 USDFC",
        ),
        (terminate_call(payer.view().contracts, 99), "the termination was refused: "),
    ):
        with pytest.raises(TransactionRefusedError) as caught:
            payer.wallet.carry_out(call)
        assert words in caught.value.message
    assert payer.lab.head == before


def test_a_data_set_is_terminated_once(payer: Payer) -> None:
    data_set = payer.create(1, P)
    call = terminate_call(payer.view().contracts, data_set)
    payer.wallet.carry_out(call)
    with pytest.raises(TransactionRefusedError, match=f"the service for data set {data_set} was terminated"):
        payer.wallet.carry_out(call)


def revoke(payer: Payer) -> UnsentCall:
    return revoke_call(payer.view().contracts, key(3).address)


def test_a_receipt_that_takes_time_is_awaited(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), revoke(fake_payer)
    node.automine = False
    receipt = wallet(fake_payer, (100, node.mine)).carry_out(call)
    assert receipt.block == node.head
    assert receipt.price == 10**9


def test_a_stuck_transaction_is_replaced_with_a_higher_fee_and_counts_once(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), deposit_call(fake_payer.view(), fake_payer.key, UNIT)
    node.automine = False
    fees: list[int] = []

    def look() -> None:
        fees.extend(transaction.fee for transaction in node.pool)

    events = [(number * 100.0, look) for number in range(1, 8)]
    receipt = wallet(fake_payer, *events, (800, node.mine)).carry_out(call)
    assert fees == sorted(fees)
    assert len(set(fees)) == 3
    assert receipt.hash in node.done
    assert fake_payer.view().account(fake_payer.key.address).funds == 6 * UNIT


def test_an_earlier_form_that_lands_while_the_fee_is_raised_is_found(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), revoke(fake_payer)
    node.automine = False
    before = len(node.done)
    mined = wallet(fake_payer, (300, node.mine)).carry_out(call)  # in the moment before the fee is raised
    assert mined.hash in node.done
    assert len(node.done) == before + 1


def test_a_transaction_that_never_lands_is_pending_and_the_next_one_waits_for_it(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), revoke(fake_payer)
    node.automine = False
    with pytest.raises(TransactionPendingError, match="is not on the chain yet \\(transaction 0x") as caught:
        wallet(fake_payer).carry_out(call)
    assert "before you run again" in (caught.value.hint or "")
    with pytest.raises(TransactionPendingError, match="1 earlier transactions of 0x"):
        wallet(fake_payer).carry_out(call)
    assert len(node.pool) == 1
    node.mine()
    node.automine = True
    wallet(fake_payer).carry_out(call)


def test_another_transaction_with_our_nonce_is_noticed(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), revoke(fake_payer)
    node.automine = False

    def replace() -> None:
        node.pool.clear()
        fake_payer.lab.rpc("eth_sendTransaction", {"from": OWNERS[0], "to": OWNERS[1], "data": "0x"})
        node.mine()

    with pytest.raises(
        NonceUsedError, match="took the place of the revocation, which will not be carried out"
    ):
        wallet(fake_payer, (50, replace)).carry_out(call)


def test_a_race_of_two_runs_for_one_nonce_sends_one_of_them(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), revoke(fake_payer)
    other = key()

    def overtake(method: str) -> None:
        if method == "eth_sendRawTransaction":
            node.before = None
            fake_payer.lab.rpc(
                "eth_sendTransaction", {"from": str(other.address), "to": OWNERS[1], "data": "0x"}
            )

    node.before = overtake
    with pytest.raises(NonceUsedError, match="was faster than the revocation, which was not sent"):
        wallet(fake_payer).carry_out(call)


def test_a_transaction_that_fails_on_the_chain_says_why(fake_payer: Payer) -> None:
    """The money is withdrawn between the trial and the block."""
    node, view = node_of(fake_payer), fake_payer.view()
    call = withdraw_call(view, 5 * UNIT)
    node.automine = False
    node.before = None

    def spend() -> None:
        node.contracts.money[OWNERS[0]].funds = UNIT
        node.mine()

    with pytest.raises(TransactionRefusedError, match="5 USDFC are needed, and 1 USDFC are available"):
        wallet(fake_payer, (10, spend)).carry_out(call)


def test_a_lost_answer_to_sending_does_not_send_twice(fake_payer: Payer) -> None:
    node, call = node_of(fake_payer), deposit_call(fake_payer.view(), fake_payer.key, UNIT)
    lost: list[bytes] = []

    def lose(asked):  # type: ignore[no-untyped-def]
        if b"eth_sendRawTransaction" not in asked.body or lost:
            return None
        lost.append(asked.body)
        node.refuse = None
        node.answer(asked)  # it arrives, and its answer is lost
        node.refuse = lose
        from tests.support.http_peer import Said

        return Said(503, b"gone")

    node.refuse = lose
    wallet(fake_payer).carry_out(call)
    assert lost
    assert fake_payer.view().account(fake_payer.key.address).funds == 6 * UNIT


def test_a_wallet_without_gas_is_told_to_get_some(fake_payer: Payer) -> None:
    node_of(fake_payer).poor.add(OWNERS[0])
    with pytest.raises(TransactionRefusedError, match="cannot pay the gas of the revocation") as caught:
        wallet(fake_payer).carry_out(revoke(fake_payer))
    assert "send FIL to this address" in (caught.value.hint or "")


def test_a_node_that_names_another_transaction_is_not_trusted(fake_payer: Payer) -> None:
    node = node_of(fake_payer)
    original = node._eth_sendRawTransaction
    node._eth_sendRawTransaction = lambda raw: original(raw) and "0x" + "11" * 32  # type: ignore[method-assign]
    with pytest.raises(UnexpectedResponseError, match="is not the hash of the transaction"):
        wallet(fake_payer).carry_out(revoke(fake_payer))


def test_no_key_is_in_any_request(fake_payer: Payer) -> None:
    fake_payer.create(1, P)
    wallet(fake_payer).carry_out(revoke(fake_payer))
    secret = fake_payer.key.secret.reveal()[2:].encode()
    assert all(secret not in asked.body for asked in node_of(fake_payer).asked)


def test_a_node_that_finds_a_receipt_late_is_waited_for(fake_payer: Payer) -> None:
    node = node_of(fake_payer)
    real, hidden = node._eth_getTransactionReceipt, [None] * 4
    node._eth_getTransactionReceipt = lambda digest: hidden.pop() if hidden else real(digest)  # type: ignore[method-assign]
    receipt = wallet(fake_payer).carry_out(withdraw_call(fake_payer.view(), UNIT))
    assert (receipt.block, hidden) == (node.head, [])
