"""A bundle of 688 GB: the plan predicts the calls, signatures, requests and money of 647 pieces, twice."""

from __future__ import annotations

from decimal import Decimal

import pytest

from reconciler.content.cid import DAG_PB, hash_block
from reconciler.content.piece_cid import PieceCid, capacity, height_for
from reconciler.content.pieces import MAX_PIECE
from reconciler.deals.onchain import names
from reconciler.deals.onchain.money import PIECES_PER_CALL, UNIT
from reconciler.targets.pricing import PlannedDelivery
from tests.support.onchain.payer import piece
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import Builder
from tests.targets.filecoin.test_costs import LABEL, Signatures, check_run, signed, total

__all__ = ["signed"]  # a fixture

SIZE = 688_600_000_000
SIZES = (MAX_PIECE,) * (SIZE // MAX_PIECE) + (SIZE % MAX_PIECE,)


def piece_of(number: int, size: int) -> PieceCid:
    """A made-up piece of `size` bytes."""
    height = height_for(size)
    return PieceCid(piece(number).root, height, capacity(height) - size)


@pytest.mark.slow
def test_the_plan_of_688_gb_costs_what_the_contracts_charge(cloud: OnchainStorage) -> None:
    target = cloud.target(copies=2)
    delivery = PlannedDelivery(hash_block(DAG_PB, b"688 GB"), LABEL, SIZES)
    pricing = target.price([delivery])
    quote = total(pricing)
    assert (len(SIZES), quote.transactions) == (647, 34)
    assert quote.signatures == (17 + 1) + 2 * (17 + 1), "the pulls of the second copy are signed as well"
    assert quote.requests == (647 * 3 + 17) + (17 + 17), "the second copy is pulled"
    assert (round(quote.once, 2), round(quote.monthly, 2)) == (Decimal("0.46"), Decimal("3.18"))
    assert (pricing.refusals, pricing.shortfalls) == ((), ())

    payer, owner = cloud.payer, cloud.payer.key.address
    before = payer.view().account(owner)
    wanted = [piece_of(number, size) for number, size in enumerate(SIZES)]
    batches = [wanted[start : start + PIECES_PER_CALL] for start in range(0, len(wanted), PIECES_PER_CALL)]
    for provider in (1, 2):
        data_set = payer.create(provider, batches[0])
        for batch in batches[1:]:
            name = payer.set_name(provider)
            extra = payer.signer().add_pieces(name, names.add_name(name, batch), batch)
            cloud.lab.add(provider, data_set, extra, batch)
    after = payer.view().account(owner)
    assert Decimal(before.funds - after.funds) / UNIT == quote.once
    assert Decimal((after.rate - before.rate) * 86_400) / UNIT == quote.monthly


@pytest.mark.slow
def test_a_run_with_as_many_pieces_makes_the_predicted_calls(
    cloud: OnchainStorage, signed: Signatures
) -> None:
    """The pieces are small; nothing but their number counts here."""
    build = Builder("688 GB")
    below = [
        build.directory(f"{part}", [build.file(f"{part}{number}.bin", 10, 1000) for number in range(8)])
        for part in range(3)
    ]
    dag = build.dag(build.directory("", below))
    quote = check_run(cloud, cloud.target(copies=2, max_bytes=1_200), [dag], signed)
    assert quote.transactions >= 12
