"""The target against the real service: uploads, observations and deals."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.content.bundle import bare_bundle
from reconciler.content.car import RootNaming, ShardedCar, Sharding
from reconciler.content.dag import Dag
from reconciler.content.identify import identify
from reconciler.content.pieces import shard_pieces
from reconciler.deals.chain import MAINNET
from reconciler.deals.interface import CheckedDeal, DealState
from reconciler.errors import PeerError, SourceChangedError
from reconciler.net.errors import AccessDeniedError, TransientError
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Inventory, State
from reconciler.targets.storacha.target import CLIENT_SHARDING, StorachaTarget
from tests.support.fake_lotus import fake_lotus
from tests.support.shapes import Failing, bundle, large_file
from tests.support.storacha_service import CAN, StorachaService
from tests.targets.storacha.subjects import opened

pytestmark = pytest.mark.storacha

SMALL = Sharding(60_000, RootNaming.LAST)  # large_file makes three CARs of this


def seen(
    target: StorachaTarget, *dags: Dag, pieces: bool = True, sharding: Sharding = CLIENT_SHARDING
) -> Inventory:
    expected = [
        Expected(
            dag.layout.root,
            ("reconciler/suite/model@1.0.0",),
            pieces=shard_pieces(dag, sharding) if pieces else None,
        )
        for dag in dags
    ]
    return target.observe(expected, Check.QUICK, "reconciler/suite/", QUIET)


def test_a_published_version_is_held_with_its_pieces(service: StorachaService) -> None:
    dag = large_file("three CARs")
    with opened(service, sharding=SMALL) as target:
        assert seen(target, dag, sharding=SMALL).observations[dag.layout.root].state is State.ABSENT
        delivery = target.publish(dag, "", QUIET)
        assert delivery.state is State.HELD
        assert (delivery.bytes_sent, delivery.blocks_sent) == (dag.layout.size, len(dag.layout))
        assert delivery.pieces == shard_pieces(dag, SMALL)
        assert len(delivery.pieces.shards) == 3
        found = seen(target, dag, sharding=SMALL).observations[dag.layout.root]
        assert (found.state, found.detail) == (State.HELD, "")
        assert found.pieces == tuple(each.piece for each in delivery.pieces.shards)
        assert {deal.state for deal in found.deals} == {DealState.AGGREGATING}
        again = target.publish(dag, "", QUIET)
        assert (again.state, again.bytes_sent, again.pieces) == (State.HELD, 0, delivery.pieces)


@pytest.mark.slow
def test_nothing_is_left_on_this_machine(
    service: StorachaService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with opened(service) as target:
        target.publish(bundle("nothing left"), "", QUIET)
        (state,) = tmp_path.iterdir()
        assert state.stat().st_mode & 0o777 == 0o700
        assert not [path for path in state.rglob("*") if path.is_file() and path.stat().st_size > 20_000]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_the_bridge_the_client_reads(service: StorachaService) -> None:
    dag, absent = bundle("over the client"), bundle("over the client, absent")
    with opened(service, bridge=False) as target:
        target.publish(dag, "", QUIET)
        found = seen(target, dag, absent).observations
        assert [each.state for each in found.values()] == [State.HELD, State.ABSENT]
        (deal,) = found[dag.layout.root].deals
        assert deal.state is DealState.AGGREGATING


@pytest.mark.slow
def test_without_the_bridge_the_client_reads_a_deal(service: StorachaService) -> None:
    dag = bundle("over the client, in a deal")
    with opened(service, bridge=False) as target:
        target.publish(dag, "", QUIET)
        service.ask("_filecoin/aggregate")
        service.ask("_filecoin/deal", {"provider": "f03144037", "dealId": 7_710_000})
        (deal,) = seen(target, dag).observations[dag.layout.root].deals
        assert (deal.state, deal.provider) == (DealState.CLAIMED, "f03144037")


def test_from_publishing_to_an_active_deal_and_to_its_loss(service: StorachaService) -> None:
    dag = bundle("all the way")
    head = MAINNET.epoch(datetime.now(UTC))
    with fake_lotus(head=head) as lotus, opened(service, rpc=lotus.url) as target:

        def deal() -> CheckedDeal:
            # a service repeats its answer to the same question within one second
            time.sleep(1.02 - time.time() % 1)
            (found,) = seen(target, dag).observations[dag.layout.root].deals
            return found

        target.publish(dag, "", QUIET)
        assert deal().state is DealState.AGGREGATING
        service.ask("_filecoin/aggregate")
        assert deal().state is DealState.AGGREGATING
        service.ask("_filecoin/deal", {"provider": "f03144037", "dealId": 7_700_001})
        before = deal()
        assert (before.state, before.provider) == (
            DealState.LOST,
            "f03144037",
        )
        lotus.add_deal(before.deal_id, before.aggregate)
        active = deal()
        assert (active.state, active.until) == (DealState.ACTIVE, lotus.head + 1_000_000)
        service.ask("_filecoin/forget")
        gone = deal()
        assert gone.state is DealState.LOST
        assert "was in a deal" in gone.detail


@pytest.mark.slow
def test_an_upload_by_other_software_is_held_and_its_pieces_are_unknown(service: StorachaService) -> None:
    dag = large_file("uploaded in other CARs")
    with opened(service, sharding=SMALL) as theirs, opened(service) as target:
        theirs.publish(dag, "", QUIET)
        found = seen(target, dag).observations[dag.layout.root]
        assert (found.state, found.pieces, found.deals) == (State.HELD, (), ())
        assert "other software" in found.detail
        unrecorded = seen(target, dag, pieces=False).observations[dag.layout.root]
        assert (unrecorded.state, unrecorded.detail) == (State.HELD, "")


@pytest.mark.slow
def test_an_upload_beside_that_of_other_software_has_its_own_pieces(service: StorachaService) -> None:
    dag = large_file("uploaded in other CARs, and in ours")
    with opened(service, sharding=SMALL) as theirs, opened(service) as target:
        theirs.publish(dag, "", QUIET)
        delivery = target.publish(dag, "", QUIET)
        assert delivery.bytes_sent == dag.layout.size
        assert seen(target, dag).observations[dag.layout.root].pieces
        assert len(seen(theirs, dag, sharding=SMALL).observations[dag.layout.root].pieces) == 3


@pytest.mark.slow
def test_a_car_missing_from_the_space_makes_it_partial(service: StorachaService) -> None:
    dag = large_file("one CAR too few")
    with opened(service, sharding=SMALL) as target:
        target.publish(dag, "", QUIET)
        pieces = shard_pieces(dag, SMALL)
        more = (*pieces.shards, shard_pieces(bundle("never sent"), SMALL).shards[0])
        expected = Expected(dag.layout.root, ("",), pieces=ShardedCar(SMALL, more))
        found = target.observe([expected], Check.QUICK, "", QUIET).observations[dag.layout.root]
        assert (found.state, found.detail) == (State.PARTIAL, "1 CAR of 4 missing")


@pytest.mark.slow
def test_unexpected_uploads_are_foreign_and_none_is_owned(service: StorachaService) -> None:
    dag = bundle("foreign")
    with opened(service) as target:
        target.publish(dag, "", QUIET)
        inventory = seen(target)
        assert dag.layout.root in {pin.root for pin in inventory.foreign}
        assert inventory.owned == ()
        for pin in inventory.foreign:
            with pytest.raises(NotImplementedError):
                target.unpin(pin.root, "")


@pytest.mark.slow
@pytest.mark.slow
def test_all_pages_of_a_listing_are_read(service: StorachaService) -> None:
    dags = [bundle(f"page {number}") for number in range(3)]
    with opened(service) as target:
        for dag in dags:
            target.publish(dag, "", QUIET)
        target._reader._page = 1  # type: ignore[attr-defined]
        states = {each.state for each in seen(target, *dags).observations.values()}
        assert states == {State.HELD}


@pytest.fixture
def writes_off(service: StorachaService) -> Iterator[None]:
    service.ask("_writes", {"disabled": True})
    yield
    service.ask("_writes", {"disabled": False})


@pytest.mark.slow
def test_an_upload_to_a_service_that_refuses_writes_names_the_alternative(
    service: StorachaService, writes_off: None
) -> None:
    dag = bundle("refused")
    with opened(service) as target:
        with pytest.raises(AccessDeniedError, match="space: this service refuses writes") as raised:
            target.publish(dag, "", QUIET)
        assert "Filecoin Onchain Cloud" in (raised.value.hint or "")
        assert seen(target, dag).observations[dag.layout.root].state is State.ABSENT


@pytest.mark.parametrize(
    "after", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(20, marks=pytest.mark.slow)]
)
def test_a_source_that_changes_leaves_nothing(service: StorachaService, after: int) -> None:
    dag = bundle(f"changes after {after}")
    with opened(service) as target:
        with pytest.raises(SourceChangedError):
            target.publish(Failing(dag, after), "", QUIET)
        assert seen(target, dag).observations[dag.layout.root].state is State.ABSENT


@pytest.mark.slow
def test_deals_that_the_delegation_does_not_allow_are_reported_as_unknown(service: StorachaService) -> None:
    dag = bundle("narrow")
    with opened(service, reads=("upload/list",)) as target:
        target.publish(dag, "", QUIET)
        inventory = seen(target, dag)
        found = inventory.observations[dag.layout.root]
        assert (found.state, found.deals) == (State.HELD, ())
        assert len(found.pieces) == 1
        (note,) = inventory.notes
        assert "filecoin/info failed" in note
        findings = {each.subject: each for each in target.diagnose()}
        assert findings["bridge: deals"].ok is False
        assert "filecoin/info" in findings["bridge: deals"].text
        assert findings["service"].ok


@pytest.mark.slow
def test_a_delegation_without_deals_is_noted_even_without_a_policy(
    service: StorachaService,
) -> None:
    dag = bundle("narrow, and no policy")
    expected = Expected(dag.layout.root, ("",), pieces=shard_pieces(dag, CLIENT_SHARDING), min_deals=0)
    for reads, notes in (
        (("upload/list",), ("space: deals are not checked: the delegation does not allow filecoin/info",)),
        (("upload/list", "filecoin/info"), ()),
    ):
        with opened(service, reads=reads) as target:
            target.publish(dag, "", QUIET)
            inventory = target.observe([expected], Check.QUICK, "", QUIET)
            assert (inventory.notes, inventory.observations[dag.layout.root].deals) == (notes, ())


def test_without_the_right_to_list_nothing_is_called_absent(service: StorachaService) -> None:
    with (
        opened(service, reads=("filecoin/info",)) as target,
        pytest.raises(AccessDeniedError, match="refuses upload/list"),
    ):
        seen(target, bundle("unlisted"))


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"expiration": 1_600_000_000}, "the proof expired on 2020-09-13"),
        ({"notBefore": 4_000_000_000}, "the proof is not valid before 2096-10-02 07:06 UTC"),
        ({"foreign": True}, "does not allow space/blob/add"),
        ({"elsewhere": True}, "the proof is for did:key:"),
        ({"can": ("upload/add", "space/*")}, "does not allow filecoin/offer"),
    ],
    ids=["expired", "not yet", "another space", "another key", "too narrow"],
)
def test_an_insufficient_proof_is_an_error_before_anything_is_sent(
    service: StorachaService, terms: dict[str, object], said: str
) -> None:
    can = terms.pop("can", CAN)
    delegation = service.delegate(can, **terms)  # type: ignore[arg-type]
    with opened(service, upload=delegation, cli="/nowhere/at/all") as target:
        with pytest.raises(AccessDeniedError, match=said) as raised:
            target.publish(bundle("badly delegated"), "", QUIET)
        assert "storacha delegation create did:key:" in (raised.value.hint or "")
        assert any(each.ok is False and each.subject.startswith("proof") for each in target.diagnose())


def test_doctor_finds_no_fault_in_a_working_space(service: StorachaService) -> None:
    with opened(service, upload=service.delegate(CAN, expiration=1_990_000_000)) as target:
        findings = {each.subject: each for each in target.diagnose()}
        assert {subject: each.ok for subject, each in findings.items()} == {
            "bridge": True,
            "proof": True,
            "client": True,
            "service": True,
            "writes": None,
        }
        assert "until 2033-01-22" in findings["proof"].text
        assert "filecoin/offer" in findings["proof"].text
        assert findings["client"].text == "storacha 1.6.32"


def test_a_service_that_is_down_is_unknown(service: StorachaService) -> None:
    for bridge in (True, False):
        with opened(service, bridge=bridge) as target:
            down = replace(target._options, endpoint="http://127.0.0.1:9")
            gone = StorachaTarget("space", down, {"PATH": os.environ["PATH"]}, root=Path())
            with pytest.raises(PeerError) as raised:
                seen(gone, bundle("down"))
            assert isinstance(raised.value, TransientError)
            gone.close()


@pytest.mark.slow
def test_300_mb_in_three_cars(service: StorachaService, tmp_path: Path) -> None:
    """The client makes the same CARs of 300 MB in one file; the bytes come from the file itself."""
    block = random.Random(7).randbytes(1 << 20)
    with (tmp_path / "model.safetensors").open("wb") as file:
        for number in range(286):
            file.write(number.to_bytes(4, "big") + block[4:])
        file.write(block[: 300_000_000 - 286 * (1 << 20)])
    dag = identify(bare_bundle(tmp_path), cache=None)
    with opened(service) as target:
        delivery = target.publish(dag, "", QUIET)
        assert delivery.pieces is not None
        assert [each.size for each in delivery.pieces.shards] == [132_140_013, 132_125_508, 35_760_272]
        found = seen(target, dag).observations[dag.layout.root]
        assert (found.state, len(found.pieces)) == (State.HELD, 3)
