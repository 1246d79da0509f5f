"""Every call to a service meets every fault: it recovers or raises one error, and no pin is made twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from reconciler.content.cid import RAW, hash_block
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.client import Timeouts
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.pinning_service.target import PinningServiceTarget
from tests.support.fake_pinning_service import FakePinningService, fake_pinning_service
from tests.support.fault_proxy import FAULTS, SLOW, FaultProxy
from tests.support.pairs import pairs
from tests.targets.pinning_service.targets import service_target

MARK = "reconciler/i/"
LABEL = Label(f"{MARK}m@1.0.0")
ROOT = hash_block(RAW, b"root")
ATTEMPTS = 3


@dataclass
class Stage:
    """A service behind a proxy that breaks calls.

    `target` has long time limits, for a busy machine; `hasty` has short ones, for a silent service.
    """

    fake: FakePinningService
    proxy: FaultProxy
    target: PinningServiceTarget
    hasty: PinningServiceTarget


def observed_state(target: PinningServiceTarget) -> State:
    return target.observe([Expected(ROOT, (LABEL,))], Check.QUICK, MARK, QUIET).observations[ROOT].state


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with fake_pinning_service() as fake, FaultProxy("127.0.0.1", int(fake.url.rsplit(":", 1)[1])) as proxy:
        target = service_target(proxy.url, attempts=ATTEMPTS, poll=0.2)
        limits = Timeouts(connect=30, silence=0.2, total=0.7)
        hasty = service_target(proxy.url, attempts=ATTEMPTS, timeouts=limits, poll=0.2)
        yield Stage(fake, proxy, target, hasty)
        for each in (target, hasty):
            each.close()


@pytest.fixture
def scene(stage: Stage) -> Stage:
    """The stage in its initial state."""
    stage.proxy.disarm()
    stage.fake.pins.clear()
    stage.fake.reachable = {str(ROOT)}
    return stage


#: a call of the target, and which of its requests fails
ONCE = [("observe", 0), ("pin", 0), ("pin", 1), ("pin", 2), ("unpin", 0), ("unpin", 1)]


@pytest.mark.parametrize(("call", "fault"), pairs(ONCE, list(FAULTS), every=2))
def test_after_a_passing_fault_the_target_is_correct(scene: Stage, call: tuple[str, int], fault: str) -> None:
    work, skip = call
    target = scene.hasty if fault in SLOW else scene.target
    if work != "pin":
        scene.fake.add(str(ROOT), LABEL)
    scene.proxy.arm(FAULTS[fault], times=1, skip=skip)
    try:
        if work == "observe":
            assert observed_state(target) is State.HELD
        elif work == "pin":
            assert target.pin(ROOT, LABEL, ()).state in (State.HELD, State.PENDING)
            assert len(scene.fake.pins) == 1
        else:
            target.unpin(ROOT, LABEL)
            assert scene.fake.pins == {}
    except PeerError as error:
        assert "\n" not in error.message
        assert error.message.startswith("service")
    assert scene.proxy.hits == 1
    if work == "unpin":
        scene.target.unpin(ROOT, LABEL)
        assert scene.fake.pins == {}
    else:
        assert scene.target.pin(ROOT, LABEL, ()).state in (State.HELD, State.PENDING)
        assert len(scene.fake.pins) == 1


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in ("length-too-short", "drip")])
def test_a_lasting_fault_ends_within_the_budget(scene: Stage, fault: str) -> None:
    scene.proxy.arm(FAULTS[fault])
    begin = time.monotonic()
    with pytest.raises(PeerError) as caught:
        observed_state(scene.hasty if fault in SLOW else scene.target)
    assert "\n" not in caught.value.message
    assert 1 <= scene.proxy.hits <= ATTEMPTS
    assert time.monotonic() - begin < 60
