"""Publishing to providers: what is sent, added, pulled, chosen and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content.pieces import shard_pieces
from reconciler.deals.onchain.interface import UPLOAD_SCOPES, SigningScope, StorageProvider
from reconciler.deals.onchain.money import PlannedCopy, predict
from reconciler.deals.onchain.wallet import login_call, withdraw_call
from reconciler.errors import DataError, InvalidIndexError, PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.net.errors import AccessDeniedError
from reconciler.progress import QUIET
from reconciler.targets.filecoin.add import find_data_set
from reconciler.targets.filecoin.target import FilecoinTarget
from reconciler.targets.interface import Check, Delivery, Expected, Observation, State, UnsupportedError
from tests.support.dags import MemoryDag
from tests.support.onchain.lab import KEYS
from tests.support.onchain.payer import key, removal_consent
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import Builder, bundle, empty_directory, large_file

LABEL = Label("reconciler/acme/model@1.0.0")
LIMIT = 60_000


def publish(target: FilecoinTarget, dag: MemoryDag) -> Delivery:
    return target.publish(dag, LABEL, QUIET)


def look(target: FilecoinTarget, dag: MemoryDag, check: Check = Check.QUICK) -> Observation:
    inventory = target.observe([Expected(dag.layout.root, (LABEL,))], check, LABEL.mark, QUIET)
    return inventory.observations[dag.layout.root]


def test_the_first_copy_is_sent_and_the_second_one_pulled(cloud: OnchainStorage) -> None:
    dag = large_file("copies")
    target = cloud.target(copies=2, max_bytes=LIMIT)
    delivery = publish(target, dag)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size)
    assert delivery.pieces == shard_pieces(dag, target.capabilities.sharding)
    assert delivery.pieces is not None
    pieces = {str(shard.piece): 1 for shard in delivery.pieces.shards}
    assert len(pieces) == 3
    assert dag.reads == len(dag.layout) * 2, "once to deliver, once by this test"
    assert cloud.stored == pieces
    used = [provider for provider in cloud.providers.values() if provider.added]
    assert [provider.added for provider in used] == [pieces, pieces]
    assert sorted(sum(provider.pulled.values()) for provider in used) == [0, 3]
    seen = look(target, dag)
    assert (seen.state, len(seen.deals)) == (State.HELD, 6)


def test_another_machine_finds_what_is_there_and_sends_nothing(cloud: OnchainStorage) -> None:
    dag = large_file("again")
    first = publish(cloud.target(copies=2, max_bytes=LIMIT), dag)
    before = cloud.added
    again = publish(cloud.target(copies=2, max_bytes=LIMIT), dag)
    assert (again.state, again.bytes_sent, cloud.added) == (State.HELD, 0, before)
    assert first.pieces is not None
    assert cloud.stored == {str(shard.piece): 1 for shard in first.pieces.shards}


@pytest.mark.parametrize(
    "fault",
    [
        "pull_stuck",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("pull_refused", "pull_fails", "pull_busy")),
    ],
)
def test_what_cannot_be_pulled_is_sent(cloud: OnchainStorage, fault: str) -> None:
    for provider in cloud.providers.values():
        provider.faults[fault] = True
    dag = bundle(fault)
    delivery = publish(cloud.target(copies=2), dag)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size * 2)
    assert set(cloud.stored.values()) == {2}


def test_more_pieces_than_a_call_takes_are_added_in_batches_as_predicted(cloud: OnchainStorage) -> None:
    build = Builder("many pieces")
    dag = build.dag(build.file("weights", 45, 2500))
    target = cloud.target(copies=2, max_bytes=3000)
    before = cloud.payer.view().account(cloud.payer.key.address)
    delivery = publish(target, dag)
    assert delivery.pieces is not None
    assert len(delivery.pieces.shards) > 40
    asked = [each for provider in cloud.providers.values() for each in provider.asked]
    calls = [
        each.target for each in asked if each.method == "POST" and each.target.endswith(("pieces", "and-add"))
    ]
    pieces = tuple(shard.piece for shard in delivery.pieces.shards)
    view = cloud.payer.view()
    planned = predict([PlannedCopy(pieces), PlannedCopy(pieces, pulled=True)], view.prices)
    after = view.account(cloud.payer.key.address)
    assert planned.transactions == len(calls) == 4
    assert before.funds - after.funds == planned.once


def test_endorsed_providers_come_first(cloud: OnchainStorage) -> None:
    cloud.lab.tell("endorse(uint256)", 3)
    network = cloud.payer.nodes.network
    target = cloud.target()
    object.__setattr__(
        target._options.nodes,
        "network",
        type(network)(
            network.chain, network.chain_id, network.service, type(network.service).parse(cloud.lab.endorsed)
        ),
    )
    publish(target, bundle("endorsed"))
    assert [number for number, added in cloud.added.items() if added] == [3]


def test_named_providers_are_used_in_their_order_and_no_others(cloud: OnchainStorage) -> None:
    target = cloud.target(copies=2, providers=[4, 2, 3])
    cloud.providers[4].faults["down"] = True
    assert publish(target, bundle("named")).state is State.HELD
    assert [number for number, added in cloud.added.items() if added] == [2, 3]
    cloud.providers[3].faults["down"] = True
    with pytest.raises(PeerError, match="no provider can take another copy") as caught:
        publish(cloud.target(copies=3, providers=[4, 2, 3]), bundle("named"))
    assert "provider 4 (delta)" in (caught.value.hint or "")


def test_versions_share_a_data_set_with_each_provider(cloud: OnchainStorage) -> None:
    target = cloud.target(copies=2)
    for salt in ("one", "two"):
        publish(target, bundle(salt))
    view = cloud.payer.view()
    sets = view.data_sets(view.data_set_ids(cloud.payer.key.address))
    assert sorted(len(each.pieces) for each in sets.values()) == [2, 2]  # type: ignore[union-attr]
    assert {tuple(each.metadata.items()) for each in sets.values()} == {  # type: ignore[union-attr]
        (("source", "reconcile"), ("withIPFSIndexing", ""), ("reconcileIndex", "acme"))
    }


def test_an_ended_data_set_is_followed_by_another_one(cloud: OnchainStorage) -> None:
    dag = bundle("ended")
    target = cloud.target(providers=[1])
    publish(target, dag)
    cloud.payer.end_at_once(1, cloud.lab.newest_set())
    cloud.lab.mine()
    seen = look(target, dag)
    assert (seen.state, seen.detail.split(":")[0]) == (State.PARTIAL, "0 of 1 copy (provider 1 (alpha)")
    assert publish(target, dag).state is State.HELD
    assert set(cloud.added[1].values()) == {2}
    assert set(cloud.stored.values()) == {1}


def test_a_piece_that_is_leaving_is_added_again(cloud: OnchainStorage) -> None:
    dag = bundle("leaving")
    target = cloud.target(providers=[1])
    publish(target, dag)
    number = cloud.lab.newest_set()
    view = cloud.payer.view()
    (provider,) = view.providers([1]).values()
    assert isinstance(provider, StorageProvider)
    name = find_data_set(view, cloud.payer.signer(), provider, "acme").name
    cloud.lab.schedule_removals(1, number, [0], removal_consent(cloud.payer.signer(), name, [0]))
    assert look(target, dag).state is State.PARTIAL
    assert target.repair(dag, (), LABEL, QUIET).state is State.HELD
    assert (cloud.added[1].most_common(1)[0][1], set(cloud.stored.values())) == (2, {1})


def test_a_provider_that_stopped_proving_is_replaced_by_another_one(cloud: OnchainStorage) -> None:
    dag = bundle("stopped")
    target = cloud.target(copies=2)
    publish(target, dag)
    cloud.prove()
    used = [number for number, added in cloud.added.items() if added]
    silent = cloud.payer.view().data_set_ids(cloud.payer.key.address)[0]
    for _ in range(4):
        for number, state in cloud.payer.view().data_sets([2]).items():
            cloud.lab.prove_period(state.account.provider_id, number)  # type: ignore[union-attr]
    seen = look(target, dag)
    assert seen.state is State.PARTIAL
    assert "stopped: no proof since" in seen.detail
    assert silent == 1
    delivery = target.repair(dag, (), LABEL, QUIET)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
    assert len([number for number, added in cloud.added.items() if added and number not in used]) == 1


# --- what is refused


def test_a_bundle_below_the_smallest_piece_is_refused(cloud: OnchainStorage) -> None:
    with pytest.raises(DataError, match="accepts no fewer than 127"):
        publish(cloud.target(), empty_directory(""))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_upload": "0.02"}, "more than max_upload"),
        ({"max_monthly": "0.02 USDFC"}, "more than max_monthly"),
        ({"min_runway_days": 36500}, "fewer than min_runway_days"),
    ],
)
def test_limits_refuse_before_anything_is_sent(
    cloud: OnchainStorage, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SafetyError, match=message):
        publish(cloud.target(**options), bundle("limits"))
    assert not cloud.stored
    assert not cloud.payer.view().data_set_ids(cloud.payer.key.address)


def test_max_upload_holds_for_the_whole_run(cloud: OnchainStorage) -> None:
    target = cloud.target(max_upload="0.0265")
    publish(target, bundle("first"))
    with pytest.raises(SafetyError, match=r"publishing costs 0\.0266 USDFC once"):
        publish(target, bundle("second"))


def test_a_missing_deposit_is_named_before_anything_is_sent(cloud: OnchainStorage) -> None:
    cloud.payer.wallet.carry_out(withdraw_call(cloud.payer.view(), 5 * 10**18))
    with pytest.raises(PeerError, match=r"are available, and .* are needed"):
        publish(cloud.target(), bundle("poor"))
    assert not cloud.stored


def session(cloud: OnchainStorage, **options: object) -> FilecoinTarget:
    return cloud.target(payer=str(cloud.payer.key.address), environ={"FILECOIN_KEY": KEYS[2]}, **options)


def test_a_session_key_publishes_once_it_is_allowed_to(cloud: OnchainStorage) -> None:
    dag = bundle("session")
    with pytest.raises(AccessDeniedError, match=r"CreateDataSet .* the permission was never granted"):
        publish(session(cloud), dag)
    until = cloud.payer.view().block.timestamp + 86_400
    contracts = cloud.payer.view().contracts

    def grant(scopes: tuple[SigningScope, ...]) -> None:
        cloud.payer.wallet.carry_out(login_call(contracts, key(2).address, until, scopes))

    grant(UPLOAD_SCOPES[:1])
    with pytest.raises(AccessDeniedError, match="AddPieces"):
        publish(session(cloud), dag)
    assert not cloud.stored
    grant(UPLOAD_SCOPES)
    assert publish(session(cloud), dag).state is State.HELD


def test_a_target_with_a_payer_and_no_key_is_only_read(cloud: OnchainStorage) -> None:
    dag = bundle("read only")
    publish(cloud.target(), dag)
    target = cloud.target(payer=str(cloud.payer.key.address), key_env=None, environ={})
    assert not target.capabilities.takes_bytes
    assert look(target, dag, Check.FULL).state is State.HELD
    with pytest.raises(UnsupportedError):
        publish(target, dag)


def test_options_that_contradict_each_other_are_refused(cloud: OnchainStorage) -> None:
    with pytest.raises(InvalidIndexError, match="requires 2 copies and names 1 providers"):
        cloud.target(copies=2, providers=[1])
    with pytest.raises(InvalidIndexError, match="neither key_env nor payer"):
        cloud.target(key_env=None)


def test_a_data_set_that_cannot_be_understood_stops_a_publication(cloud: OnchainStorage) -> None:
    target = cloud.target()
    publish(target, bundle("understood"))
    fake = cloud.lab.fake
    assert fake is not None
    fake.lie = lambda _, data, answer: answer[:64] if data[:4].hex() == "bdaac056" else answer
    dag = bundle("new")
    with pytest.raises(PeerError, match="data set 1 cannot be understood"):
        publish(cloud.target(), dag)
    assert look(target, bundle("understood")).state is State.UNKNOWN
    assert sum(cloud.stored.values()) == 1


def test_no_key_is_in_a_representation_or_message(cloud: OnchainStorage, tmp_path: Path) -> None:
    target = cloud.target(cache=tmp_path)
    publish(target, bundle("secret"))
    texts = [
        repr(target._options),
        repr(target._desk),
        *(path.read_text() for path in tmp_path.rglob("*.json")),
    ]
    assert not any(KEYS[0][2:] in text for text in texts)


def test_pieces_are_added_before_a_provider_drops_them(cloud: OnchainStorage) -> None:
    dag = large_file("slow uploads")
    cloud.providers[1].faults["park"] = 1
    target = cloud.target(max_bytes=LIMIT, providers=[1], batch=10)
    assert publish(target, dag).state is State.HELD
    adds = [each for each in cloud.providers[1].asked if each.target.endswith(("pieces", "and-add"))]
    assert (len(adds), set(cloud.added[1].values())) == (3, {1})
