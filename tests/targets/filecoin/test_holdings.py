"""The copies of pieces in a payer's data sets, and the state of roots that follows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.car import CarCid, CarShard, ShardedCar
from reconciler.content.cid import RAW, hash_block
from reconciler.deals.interface import DealState
from reconciler.deals.onchain.health import judge_copy
from reconciler.deals.onchain.interface import (
    ActivePiece,
    CopyState,
    DataSet,
    DataSetState,
    EvmAddress,
)
from reconciler.deals.onchain.money import piece_leaves
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.filecoin.holdings import _by_piece, read_holdings
from reconciler.targets.filecoin.target import PROVIDER_SHARDING
from reconciler.targets.interface import Check, Expected, State
from tests.support.onchain.payer import piece, pieces
from tests.support.onchain.storage import OnchainStorage

LABEL = Label("reconciler/acme/model@1.0.0")
PAYER, SERVICE = EvmAddress(b"\1" * 20), EvmAddress(b"\2" * 20)


def state_of(
    numbers: list[int | None], removals: frozenset[int], challenged: int, proven: bool
) -> DataSetState:
    active = tuple(
        ActivePiece(place, None if number is None else piece(number)) for place, number in enumerate(numbers)
    )
    leaves = sum(piece_leaves(each.piece) for each in active if each.piece is not None)
    return DataSetState(
        DataSet(7, 1, PAYER, PAYER, PAYER, 3, 5, 0),
        live=True,
        listener=SERVICE,
        pieces=active,
        removals=removals,
        activation=10,
        deadline=250,
        proven_now=proven,
        leaves=leaves,
        challenged=min(challenged, leaves),
    )


@given(
    numbers=st.lists(st.one_of(st.none(), st.integers(1, 6)), max_size=12),
    removals=st.frozensets(st.integers(0, 11)),
    challenged=st.integers(0, 12 * 512),
    proven=st.booleans(),
    wanted=st.integers(1, 7),
)
def test_the_part_of_a_data_set_is_judged_as_the_whole_is(
    numbers: list[int | None], removals: frozenset[int], challenged: int, proven: bool, wanted: int
) -> None:
    state = state_of(numbers, removals, challenged, proven)
    part = _by_piece(state).get(piece(wanted).root)
    whole = judge_copy(piece(wanted), state, payer=PAYER, service=SERVICE, head=200, period=240)
    if part is None:
        assert whole.state is CopyState.ABSENT
        return
    assert judge_copy(piece(wanted), part, payer=PAYER, service=SERVICE, head=200, period=240) == whole


def expected(number: int, count: int) -> Expected:
    """A root whose record names `count` pieces."""
    wanted = pieces(count, first=number * count + 1)
    digest = hashlib.sha256(str(number).encode()).digest()
    shards = tuple(CarShard(CarCid(digest), each.size, each) for each in wanted)
    return Expected(hash_block(RAW, digest), (LABEL,), pieces=ShardedCar(PROVIDER_SHARDING, shards))


def test_the_health_of_a_thousand_pieces_in_ten_data_sets_takes_few_requests(cloud: OnchainStorage) -> None:
    roots = [expected(number, 100) for number in range(10)]
    cloud.lab.tell("configure(uint64,uint256)", 200, 60)
    made = []
    for number, one in enumerate(roots):
        assert one.pieces is not None
        wanted = [shard.piece for shard in one.pieces.shards]
        made.append((1 + number % 4, cloud.payer.create(1 + number % 4, wanted, generation=number)))
    for act in (cloud.lab.next_period, cloud.lab.prove):
        for provider, found in made:
            act(provider, found)
    target = cloud.target()
    fake = cloud.lab.fake
    assert fake is not None
    fake.asked.clear()
    begun = time.process_time()
    inventory = target.observe(roots, Check.QUICK, LABEL.mark, QUIET)
    assert time.process_time() - begun < 2
    assert len(fake.asked) <= 30
    assert not any(provider.asked for provider in cloud.providers.values())
    seen = inventory.observations.values()
    assert {each.state for each in seen} == {State.HELD}
    assert {deal.state for each in seen for deal in each.deals} == {DealState.ACTIVE}
    assert sum(len(each.deals) for each in seen) == 1000


def test_ten_thousand_pieces_of_one_data_set_are_judged_quickly() -> None:
    state = state_of(list(range(1, 10_001)), frozenset(), 5_000 * 512, True)
    begun = time.process_time()
    parts = _by_piece(state)
    states = [
        judge_copy(
            each.piece, parts[each.piece.root], payer=PAYER, service=SERVICE, head=200, period=240
        ).state
        for each in state.pieces
        if each.piece is not None
    ]
    assert time.process_time() - begun < 3
    assert states.count(CopyState.PROVEN) > 4_000
    assert states.count(CopyState.WAITING) > 4_000


def test_copies_of_another_program_of_the_payer_count_and_are_not_bought_again(cloud: OnchainStorage) -> None:
    one = expected(1, 2)
    assert one.pieces is not None
    cloud.payer.create(1, [shard.piece for shard in one.pieces.shards], metadata={"source": "filecoin-pin"})
    target = cloud.target()
    assert target.observe([one], Check.QUICK, LABEL.mark, QUIET).observations[one.root].state is State.HELD


def test_more_copies_than_the_target_keeps_are_required_by_a_policy(cloud: OnchainStorage) -> None:
    one = expected(1, 1)
    assert one.pieces is not None
    cloud.payer.create(1, [one.pieces.shards[0].piece])
    target = cloud.target()
    strict = replace(one, min_deals=2, min_providers=2)
    seen = target.observe([strict], Check.QUICK, LABEL.mark, QUIET).observations[one.root]
    assert (seen.state, seen.detail) == (State.PARTIAL, "1 of 2 copies")


def test_data_sets_of_others_are_not_read(cloud: OnchainStorage) -> None:
    cloud.payer.create(1, pieces(1))
    cloud.lab.tell("give(uint256,address)", 1, "0x" + "77" * 20)
    holdings = read_holdings(cloud.payer.reader, cloud.payer.key.address)
    (copy,) = holdings.copies(pieces(1)[0])
    assert copy.state is CopyState.NOT_OURS
    assert not holdings.healthy(pieces(1)[0])
