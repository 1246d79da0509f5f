"""The real contracts, where a deployment of them is given: what the stand-ins do, they do as well.

`tests.support.onchain.lab.deployed_lab` says what it needs. Real proofs need real bytes, so no period is
proved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from reconciler.deals.onchain import money
from reconciler.deals.onchain.interface import UPLOAD_SCOPES, CopyState, DataSetState, SigningScope
from reconciler.deals.onchain.money import PlannedCopy
from reconciler.deals.onchain.wallet import (
    TransactionRefusedError,
    login_call,
    revoke_call,
    terminate_call,
    withdraw_call,
)
from tests.support.onchain.lab import UNIT, LabError, deployed_lab
from tests.support.onchain.payer import Payer, ending_consent, key, piece, pieces

pytestmark = pytest.mark.skipif(
    "ONCHAIN_SERVICE" not in os.environ, reason="ONCHAIN_RPC and ONCHAIN_SERVICE name no deployment"
)


@pytest.fixture
def real() -> Iterator[Payer]:
    """A payer of the real contracts; what it did is undone afterwards."""
    lab = deployed_lab(os.environ)
    assert lab is not None
    before = lab.snapshot()
    payer = Payer(lab)
    yield payer
    payer.close()
    lab.revert(before)


def test_contracts_prices_and_providers_are_read(real: Payer) -> None:
    view = real.view()
    assert view.contracts.service_version.startswith("1.")
    assert view.prices.storage > view.prices.data_set > view.prices.add_piece > 0
    assert view.account(real.key.address).funds == 5 * UNIT
    assert {1, 2} <= set(view.provider_ids())
    first = view.providers([1])[1]
    assert first.active  # type: ignore[union-attr]
    assert first.url.startswith("http")  # type: ignore[union-attr]


def test_a_publication_costs_what_was_predicted(real: Payer) -> None:
    first, second = pieces(40), pieces(5, first=100)
    before, prices = real.view().account(real.key.address), real.view().prices
    predicted = money.predict_copy(PlannedCopy((*first, *second)), prices)
    data_set = real.create(1, first)
    created = real.view().account(real.key.address)
    real.add(1, data_set, second)
    view = real.view()
    after = view.account(real.key.address)
    assert before.funds - after.funds == predicted.once
    settled = (after.settled_at - created.settled_at) * created.rate
    assert after.lockup - settled == predicted.locked
    assert after.rate * 86_400 == predicted.monthly
    found = money.runway(after, view.block.number, view.chain)
    until, _, available, _ = real.lab.read(
        str(view.contracts.payments),
        "getAccountInfoIfSettled(address,address)",
        "uint256,uint256,uint256,uint256",
        str(view.contracts.token),
        str(real.key.address),
    )
    assert (found.funded_until, found.available) == (until, available)
    state = real.state(data_set)
    assert isinstance(state, DataSetState)
    assert (len(state.pieces), state.metadata) == (45, {"source": "reconcile"})
    assert state.leaves == sum(map(money.piece_leaves, (*first, *second)))
    landed = view.nonces(real.key.address, [real.set_name(1), 5])
    assert landed[real.set_name(1)].data_set == data_set  # type: ignore[union-attr]
    assert landed[5] is None


def test_a_copy_that_is_never_proved_goes_from_waiting_to_late_to_stopped(real: Payer) -> None:
    data_set, wanted = real.create(1, pieces(2)), pieces(2)[0]
    period = real.view().proving.period
    assert real.health(data_set, wanted) is CopyState.WAITING
    assert real.health(data_set, piece(999)) is CopyState.ABSENT
    real.lab.next_period(1, data_set)
    assert real.health(data_set, wanted) is CopyState.WAITING
    real.lab.mine(period + 1)
    assert real.health(data_set, wanted) is CopyState.LATE
    real.lab.mine(period + 1)
    assert real.health(data_set, wanted) is CopyState.STOPPED
    real.lab.next_period(1, data_set)
    assert real.health(data_set, wanted) is CopyState.LATE
    real.remove(1, data_set, [0])
    assert real.health(data_set, wanted) is CopyState.REMOVAL_SCHEDULED


def test_endings_by_the_payer_and_with_its_consent(real: Payer) -> None:
    one, two, wanted = real.create(1, pieces(2)), real.create(2, pieces(2)), pieces(2)[0]
    receipt = real.wallet.carry_out(terminate_call(real.view().contracts, one))
    copy = real.copy(one, wanted)
    assert (copy.state, copy.until) == (CopyState.TERMINATED, receipt.block + 86_400)
    real.end_at_once(2, two)
    copy = real.copy(two, wanted)
    assert copy.state is CopyState.TERMINATED
    assert copy.until is not None
    assert copy.until <= real.lab.head
    with pytest.raises(TransactionRefusedError, match=f"the service for data set {one} was terminated"):
        real.wallet.carry_out(terminate_call(real.view().contracts, one))


def test_a_session_key_uploads_and_can_neither_remove_nor_end(real: Payer) -> None:
    session, contracts = key(3), real.view().contracts
    with pytest.raises(LabError) as caught:
        real.create(1, pieces(1), session=session)
    assert caught.value.data.startswith("0x42d750dc")
    expires = real.view().block.timestamp + 100_000
    real.wallet.carry_out(login_call(contracts, session.address, expires))
    granted = real.view().expiries(real.key.address, session.address, tuple(SigningScope))
    assert set(granted) == set(UPLOAD_SCOPES)
    data_set = real.create(1, pieces(1), session=session)
    with pytest.raises(LabError):
        real.lab.terminate(1, data_set, ending_consent(real.signer(session), data_set))
    real.wallet.carry_out(revoke_call(contracts, session.address))
    assert real.view().expiries(real.key.address, session.address, UPLOAD_SCOPES) == {}


def test_what_the_contracts_refuse_is_worded(real: Payer) -> None:
    real.create(1, pieces(1))
    with pytest.raises(TransactionRefusedError, match="5 USDFC are needed, and 4"):
        real.wallet.carry_out(withdraw_call(real.view(), 5 * UNIT))
    with pytest.raises(LabError) as caught:
        real.create(1, pieces(1))  # the same names again
    assert caught.value.data.startswith("0xdb94c961")
