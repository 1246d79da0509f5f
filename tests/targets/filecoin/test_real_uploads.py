"""The target against the real contracts, where a deployment of them is given, and providers in between.

`tests.support.onchain.lab.deployed_lab` says what it needs. The two providers of the deployment get the
addresses of ours. Real proofs need real bytes, so no period is proved.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from reconciler.deals.onchain.interface import DataSetState
from reconciler.deals.onchain.money import PlannedCopy, predict
from reconciler.deals.onchain.wallet import login_call, revoke_call
from reconciler.index.label import Label
from reconciler.net.errors import AccessDeniedError
from reconciler.progress import QUIET
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.pricing import FundingWish
from tests.support.dags import MemoryDag
from tests.support.onchain.lab import KEYS, deployed_lab
from tests.support.onchain.payer import Payer, key
from tests.support.onchain.storage import OnchainStorage, Ticker, deployed_providers
from tests.support.shapes import Builder

pytestmark = pytest.mark.skipif(
    "ONCHAIN_SERVICE" not in os.environ, reason="ONCHAIN_RPC and ONCHAIN_SERVICE name no deployment"
)

LABEL = Label("reconciler/acme/model@1.0.0")
_LIMIT = 3000  # bytes of a CAR


@dataclass
class RealStorage(OnchainStorage):
    """The storage of a payer of the real contracts; `signer` is the number of the key that signs uploads."""

    signer: int = 0

    def opened_target(self) -> FilecoinTarget:
        """Open a target with two copies."""
        environ = {"FILECOIN_KEY": KEYS[self.signer], "FILECOIN_PAYER_KEY": KEYS[0]}
        payer = str(self.payer.key.address)
        return self.target(copies=2, max_bytes=_LIMIT, payer=payer, environ=environ)


@pytest.fixture(params=[0, 3], ids=["payer", "session key"])
def real(request: pytest.FixtureRequest) -> Iterator[RealStorage]:
    """Two providers and the real contracts; what was done there is undone afterwards."""
    lab = deployed_lab(os.environ)
    assert lab is not None
    with deployed_providers(lab) as providers, closing(Payer(lab)) as payer:
        if request.param:
            view = payer.view()
            until = view.block.timestamp + 1_000_000
            payer.wallet.carry_out(login_call(view.contracts, key(request.param).address, until))
        storage = RealStorage(lab, payer, providers, Ticker(lab=lab), signer=request.param)
        yield storage
        for target in storage.opened:
            target.close()


def version(name: str, leaves: int) -> MemoryDag:
    build = Builder(name)
    return build.dag(build.file("weights", leaves, 2500))


def sets(real: RealStorage) -> list[DataSetState]:
    view = real.payer.view()
    found = list(view.data_sets(view.data_set_ids(real.payer.key.address)).values())
    assert all(isinstance(each, DataSetState) for each in found)
    return found  # type: ignore[return-value]


def test_a_version_is_published_in_batches_at_the_price_that_was_predicted(real: RealStorage) -> None:
    dag = version("many pieces", 45)
    target = real.opened_target()
    expected = [Expected(dag.layout.root, (LABEL,))]
    before = real.payer.view().account(real.payer.key.address).funds
    delivery = target.publish(dag, LABEL, QUIET)
    assert delivery.state is State.HELD
    assert delivery.pieces is not None
    count = len(delivery.pieces.shards)
    assert count > 40, "more than one call"
    one, two = sets(real)
    assert {one.account.provider_id, two.account.provider_id} == {1, 2}
    assert len(one.pieces) == len(two.pieces) == count
    assert one.metadata["source"] == "reconcile"
    assert sorted(sum(each.pulled.values()) for each in real.providers.values()) == [0, count]
    pieces = tuple(shard.piece for shard in delivery.pieces.shards)
    copies = [PlannedCopy(pieces), PlannedCopy(pieces, pulled=True)]
    assert before - real.payer.view().account(real.payer.key.address).funds == (
        predict(copies, real.payer.view().prices).once
    )
    seen = target.observe(expected, Check.FULL, LABEL.mark, QUIET).observations[dag.layout.root]
    assert (seen.state, len(seen.deals)) == (State.HELD, 2 * count)


def test_another_run_pays_nothing_and_the_next_version_goes_into_the_same_data_sets(
    real: RealStorage,
) -> None:
    first, second = version("first", 3), version("second", 2)
    real.opened_target().publish(first, LABEL, QUIET)
    added = real.added
    again = real.opened_target().publish(first, LABEL, QUIET)
    assert (again.state, again.bytes_sent, real.added) == (State.HELD, 0, added)
    real.opened_target().publish(second, LABEL, QUIET)
    assert [len(each.pieces) for each in sets(real)] == [5, 5]


def test_a_copy_that_ended_is_replaced_by_one_in_a_new_data_set(real: RealStorage) -> None:
    dag = version("ended", 3)
    real.opened_target().publish(dag, LABEL, QUIET)
    lost = sets(real)[0].account
    real.payer.end_at_once(lost.provider_id, lost.id)
    target = real.opened_target()
    expected = [Expected(dag.layout.root, (LABEL,))]
    seen = target.observe(expected, Check.QUICK, LABEL.mark, QUIET).observations[dag.layout.root]
    assert seen.state is State.PARTIAL
    assert f"provider {lost.provider_id}" in seen.detail
    assert target.repair(dag, (), LABEL, QUIET).state is State.HELD
    assert set(real.stored.values()) == {1}, "the bytes are still with the provider"
    live = [each.account.provider_id for each in sets(real) if not each.account.end]
    assert sorted(live) == [1, 2]


@pytest.mark.parametrize("fault", ["lose_after_send", "lose_before_send"])
def test_an_unclear_answer_of_a_provider_is_asked_of_the_chain(real: RealStorage, fault: str) -> None:
    for provider in real.providers.values():
        provider.faults[fault] = 1
    dag = version(fault, 3)
    assert real.opened_target().publish(dag, LABEL, QUIET).state is State.HELD
    assert [len(each.pieces) for each in sets(real)] == [3, 3]


def test_a_session_key_that_was_revoked_uploads_nothing(real: RealStorage) -> None:
    if not real.signer:
        pytest.skip("the payer needs no permission")
    contracts = real.payer.view().contracts
    real.payer.wallet.carry_out(revoke_call(contracts, key(real.signer).address))
    with pytest.raises(AccessDeniedError, match="the permission was never granted"):
        real.opened_target().publish(version("revoked", 2), LABEL, QUIET)
    assert not real.stored


def test_what_an_index_keeps_is_stopped(real: RealStorage) -> None:
    target, wish = real.opened_target(), FundingWish(stop="acme")
    target.publish(version("stopped", 2), LABEL, QUIET)
    plan = target.plan_funding(wish)
    found = [action.kind for action in plan.actions]
    assert found == ["revoke", "end", "end", "withdraw"] if real.signer else ["end", "end", "withdraw"]
    assert len(list(target.fund(wish, plan, QUIET))) == len(found)
    assert all(each.account.end for each in sets(real))
    assert target.plan_funding(wish).actions == ()
