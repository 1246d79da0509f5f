"""Every request to the service and to the chain meets every fault: the result is right, or one error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from reconciler.errors import PeerError
from reconciler.net.client import HttpClient, Timeouts
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Observation, State
from reconciler.targets.storacha.target import StorachaTarget
from tests.support.fake_lotus import FakeLotus, fake_lotus
from tests.support.fault_proxy import FAULTS, FaultProxy
from tests.support.http_peer import http_peer
from tests.support.pairs import pairs
from tests.targets.storacha.test_storacha_bridge import HEAD, IN_DEALS, ONE, in_deals, opened, service

LIMITS = Timeouts(connect=30, silence=0.15, total=0.6)
LASTING = [name for name in FAULTS if name not in ("length-too-short", "drip")]  # these may get through


@dataclass
class Stage:
    """A service and a chain, each behind a proxy that breaks requests."""

    bridge: FaultProxy
    chain: FaultProxy
    lotus: FakeLotus

    def observe(self) -> Observation:
        where = opened(self.bridge.url, rpc=f"{self.chain.url}/rpc/v1")
        for http in _clients(where):
            http.timeouts = LIMITS
            http._sleep = lambda _: None
        try:
            return where.observe([ONE], Check.QUICK, "", QUIET).observations[ONE.root]
        finally:
            where.close()


def _clients(where: StorachaTarget) -> Iterator[HttpClient]:
    assert where._http is not None
    assert where._options.chain.rpc is not None
    yield where._http
    yield where._options.chain.rpc._rpc._http


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with (
        http_peer(service(in_deals(7))) as peer,
        fake_lotus(head=HEAD) as lotus,
        FaultProxy("127.0.0.1", int(peer.url.rsplit(":", 1)[1])) as bridge,
        FaultProxy("127.0.0.1", int(lotus.url.split(":")[2].split("/")[0])) as chain,
    ):
        lotus.add_deal(7, IN_DEALS.cid, "f07")
        yield Stage(bridge, chain, lotus)


@pytest.fixture
def scene(stage: Stage) -> Stage:
    stage.bridge.disarm()
    stage.chain.disarm()
    return stage


@pytest.mark.parametrize(("call", "fault"), pairs([("listing", 0), ("deals", 1)], list(FAULTS), every=2))
def test_a_passing_fault_of_the_service_is_survived_or_reported(
    scene: Stage, call: tuple[str, int], fault: str
) -> None:
    _, skip = call
    scene.bridge.arm(FAULTS[fault], times=1, skip=skip)
    try:
        found = scene.observe()
    except PeerError as error:
        assert error.message.startswith("space: ")
        assert "\n" not in error.message
    else:
        assert (found.state, {deal.state.value for deal in found.deals}) == (State.HELD, {"active"})
    assert scene.bridge.hits == 1


@pytest.mark.parametrize(("call", "fault"), pairs([("listing", 0), ("deals", 1)], list(LASTING), every=2))
def test_a_lasting_fault_of_the_service_leaves_it_unknown(
    scene: Stage, call: tuple[str, int], fault: str
) -> None:
    _, skip = call
    scene.bridge.arm(FAULTS[fault], skip=skip)
    begin = time.monotonic()
    with pytest.raises(PeerError) as caught:
        scene.observe()
    assert "\n" not in caught.value.message
    assert 1 <= scene.bridge.hits <= 4
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(("call", "fault"), pairs([("head", 0), ("deal", 1)], list(FAULTS), every=2))
def test_a_fault_of_the_chain_makes_no_deal_lost(scene: Stage, call: tuple[str, int], fault: str) -> None:
    _, skip = call
    scene.chain.arm(FAULTS[fault], times=1, skip=skip)
    found = scene.observe()
    assert found.state is State.HELD
    assert {deal.state.value for deal in found.deals} in ({"active"}, {"claimed"})
    assert scene.chain.hits == 1


@pytest.mark.parametrize(("call", "fault"), pairs([("head", 0), ("deal", 1)], list(LASTING), every=2))
def test_a_lasting_fault_of_the_chain_leaves_deals_claimed(
    scene: Stage, call: tuple[str, int], fault: str
) -> None:
    _, skip = call
    scene.chain.arm(FAULTS[fault], skip=skip)
    begin = time.monotonic()
    found = scene.observe()
    assert {deal.state.value for deal in found.deals} == {"claimed"}
    assert all("could not be asked" in deal.detail for deal in found.deals)
    assert 1 <= scene.chain.hits <= 4
    assert time.monotonic() - begin < 60
