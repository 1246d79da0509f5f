"""Money is what the contracts charge: the worked examples, laws, and a whole publication on both chains."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.piece_cid import MAX_HEIGHT, MIN_HEIGHT, PieceCid, capacity, height_for
from reconciler.deals.chain import MAINNET
from reconciler.deals.onchain import money
from reconciler.deals.onchain.interface import FOREVER, ZERO_ADDRESS, DataSetState, PayAccount, PriceList
from reconciler.deals.onchain.money import PlannedCopy, Prediction, predict
from reconciler.errors import DataError
from tests.support.onchain.lab import UNIT
from tests.support.onchain.payer import Payer, piece, pieces

#: of FilecoinWarmStorageService 1.3
PRICES = PriceList(
    token=ZERO_ADDRESS,
    storage=5 * UNIT // 2,
    data_set=24 * UNIT // 1000,
    create=25 * UNIT // 1000,
    add_call=5 * UNIT // 10_000,
    add_piece=3 * UNIT // 10_000,
    remove_call=2 * UNIT // 1000,
    terminate=112 * UNIT // 100_000,
    reserve=UNIT // 10,
    replenish_below=5 * UNIT // 1000,
    lockup_period=86_400,
)
DEARER = replace(PRICES, data_set=UNIT * 12 // 100, reserve=UNIT // 2)


def sized(size: int) -> PieceCid:
    """A piece with `size` bytes of data."""
    height = height_for(size)
    return PieceCid(bytes(32), height, capacity(height) - size)


def test_the_worked_example_of_three_pieces() -> None:
    """Measured on the real contracts: the rate is that of getRail, the lockup that of the account."""
    three = tuple(map(sized, (5_000, 70_000, 200_000)))
    leaves = sum(map(money.piece_leaves, three))
    assert (leaves, money.raw_size(leaves)) == (8_663, 275_050)
    assert money.rate_per_epoch(leaves, PRICES) == 7_238_325 + 277_777_777_777 == 277_785_016_102
    found = money.predict_copy(PlannedCopy(three), PRICES)
    assert found.once == 264 * UNIT // 10_000
    locked = 277_785_016_102 * 86_400 + 736 * UNIT // 10_000
    assert found.locked == locked == 97_600_625_391_212_800
    assert (found.transactions, found.signatures) == (1, 2)


def test_the_worked_example_of_two_copies_in_an_account() -> None:
    account = PayAccount(49_472 * UNIT // 10_000, 195_201_528_567_441_702, 555_570_032_204, 29)
    found = money.runway(account, 29, MAINNET)
    assert found.funded_until == 8_553_403
    assert found.epochs == 8_553_403 - 29
    assert found.exhausted == MAINNET.date(8_553_403)
    later = money.runway(account, 1029, MAINNET)
    assert found.available - later.available == 1000 * 555_570_032_204


def test_the_worked_example_of_a_large_model() -> None:
    """688.6 GB in 647 pieces with two providers."""
    most = 1_065_353_216
    shards = tuple(PieceCid(bytes(31) + bytes((n % 64,)), 25, capacity(25) - most) for n in range(646))
    last = sized(688_600_000_000 - 646 * most)
    found = predict([PlannedCopy((*shards, last))] * 2, PRICES)
    assert found.transactions == 34
    assert found.signatures == 36
    assert (round(found.once / UNIT, 2), round(found.monthly / UNIT, 2)) == (0.46, 3.18)
    assert round((found.monthly + 2 * PRICES.reserve) / UNIT, 2) == 3.38  # locked, with full reserves
    assert found.monthly < found.locked < found.monthly + 2 * PRICES.reserve
    assert found.requests == 2 * (17 + 3 * 647)
    pulled = predict([PlannedCopy((*shards, last)), PlannedCopy((*shards, last), pulled=True)], PRICES)
    assert (pulled.requests, pulled.signatures) == (17 + 3 * 647 + 34, 18 + 36)


def test_many_data_sets_cost_more_than_one() -> None:
    assert 35 * DEARER.data_set == 42 * UNIT // 10
    small = sized(127)
    separate = predict([PlannedCopy((small,))] * 35, DEARER)
    together = predict([PlannedCopy((small,) * 35)], DEARER)
    assert round(separate.monthly / together.monthly) == 35


SIZES = st.integers(65, capacity(MAX_HEIGHT))


@given(SIZES)
def test_the_charged_size_of_a_piece_is_its_own_to_a_leaf(size: int) -> None:
    assert 0 <= money.raw_size(money.piece_leaves(sized(size))) - size <= 31


@given(st.integers(MIN_HEIGHT, 31), st.lists(st.integers(0, 1 << 30), max_size=4))
def test_rates_add_up_but_for_the_fee_of_each_data_set(height: int, leaves: list[int]) -> None:
    fee = money.rate_per_epoch(1, PRICES) - money.raw_size(1) * PRICES.storage // ((1 << 40) * 86_400)
    apart = sum(money.rate_per_epoch(each, PRICES) - fee for each in leaves if each)
    together = money.rate_per_epoch(sum(leaves), PRICES) - (fee if sum(leaves) else 0)
    assert abs(apart - together) <= len(leaves) * (1 + 32 * PRICES.storage // ((1 << 40) * 86_400))


ACCOUNTS = st.builds(
    lambda lockup, more, rate, settled: PayAccount(lockup + more, lockup, rate, settled),
    st.integers(0, 10**20),
    st.integers(0, 10**20),
    st.integers(0, 10**13),
    st.integers(0, 10**6),
)


@given(ACCOUNTS, st.integers(0, 10**8))
def test_a_runway_never_promises_more_than_there_is(account: PayAccount, after: int) -> None:
    head = account.settled_at + after
    found = money.runway(account, head, MAINNET)
    assert found.available >= 0
    assert found.available + found.locked == account.funds
    if account.rate:
        assert found.epochs * account.rate <= found.available
        deposit = money.deposit_for(400, account.rate, found.available)
        if head <= found.funded_until:  # an exhausted account owes for the time since
            richer = replace(account, funds=account.funds + deposit)
            assert money.runway(richer, head, MAINNET).epochs >= 400 * 2880
    else:
        assert found.funded_until == FOREVER
        assert found.exhausted is None


@given(st.integers(0, 10**19), st.lists(st.integers(0, 10**18), max_size=30))
def test_a_reserve_is_never_overdrawn(reserve: int, fees: list[int]) -> None:
    left = money.reserve_after(reserve, fees, PRICES)
    assert left >= 0
    if fees:
        assert left >= min(PRICES.replenish_below, PRICES.reserve)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("10 USDFC", 10 * UNIT), ("0.5", UNIT // 2), ("0", 0), ("1.000000000000000001 USDFC", UNIT + 1)],
)
def test_an_amount_is_read(text: str, amount: int) -> None:
    assert money.parse_amount(text) == amount


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "01", "1.", ".5", "1,5", "1 USD", "1 usdfc", "1" * 19, "0." + "1" * 19]
)
def test_another_spelling_of_an_amount_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not an amount of money"):
        money.parse_amount(text)


@given(st.integers(0, 10**24))
def test_an_amount_is_shown_no_smaller_than_it_is(amount: int) -> None:
    shown = money.parse_amount(money.format_amount(amount))
    assert amount <= shown < amount + 10**14


def test_amounts_are_short() -> None:
    assert money.format_amount(4552 * UNIT // 10_000) == "0.4552 USDFC"
    assert money.format_amount(5 * UNIT) == "5 USDFC"
    assert money.format_amount(0) == "0 USDFC"
    assert money.format_amount(FOREVER - 10**18) == "unlimited"  # fees are taken from an unlimited allowance


def test_a_publication_does_and_costs_what_was_predicted(payer: Payer) -> None:
    """A new data set, 45 pieces in two calls, then more for a set that is there; compared with the chain."""
    before, view = payer.view().account(payer.key.address), payer.view()
    first, second, third = pieces(40), pieces(5, first=100), [piece(900, height=24, padding=0)]
    planned = PlannedCopy((*first, *second))
    data_set = payer.create(1, first)
    created = payer.view().account(payer.key.address)
    payer.add(1, data_set, second)
    after = payer.view().account(payer.key.address)
    predicted = money.predict_copy(planned, view.prices)
    assert before.funds - after.funds == predicted.once
    settled = (after.settled_at - created.settled_at) * created.rate
    assert after.lockup - before.lockup - settled == predicted.locked
    assert (after.rate - before.rate) * 86_400 == predicted.monthly
    state = payer.state(data_set)
    assert isinstance(state, DataSetState)
    assert state.leaves == sum(map(money.piece_leaves, planned.pieces))
    assert state.account.reserve is not None
    assert state.account.pending_fees is not None
    more = PlannedCopy(
        tuple(third),
        exists=True,
        leaves=state.leaves,
        reserve=state.account.reserve,
        pending=state.account.pending_fees,
    )
    payer.add(1, data_set, third)
    view = payer.view()
    last = view.account(payer.key.address)
    predicted = money.predict_copy(more, view.prices)
    assert after.funds - last.funds == predicted.once
    assert (last.rate - after.rate) * 86_400 == predicted.monthly
    settled = (last.settled_at - after.settled_at) * after.rate
    assert last.lockup - after.lockup - settled == predicted.locked
    # and the account is read as the contract itself reads it
    until, funds, available, rate = payer.lab.read(
        str(view.contracts.payments),
        "getAccountInfoIfSettled(address,address)",
        "uint256,uint256,uint256,uint256",
        str(view.contracts.token),
        str(payer.key.address),
    )
    found = money.runway(last, view.block.number, view.chain)
    assert (found.funded_until, last.funds, found.available, last.rate) == (until, funds, available, rate)


def test_nothing_to_do_costs_nothing() -> None:
    assert predict([], PRICES) == predict([PlannedCopy(())], PRICES) == Prediction()
    assert money.needed_to_create(PRICES) == PRICES.data_set + PRICES.reserve
    assert money.runway(PayAccount(1, 0, 0, 0), 5, MAINNET).exhausted is None
    never = money.runway(PayAccount(10**40, 0, 1, 0), 5, MAINNET)
    assert never.exhausted is None
    assert MAINNET.date(0) == datetime(2020, 8, 24, 22, tzinfo=UTC)
