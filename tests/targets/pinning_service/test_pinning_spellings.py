"""A service that shows CIDs in another spelling, or has pins in one: the same root, and no second pin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.content import cid as cids
from reconciler.content.cid import DAG_PB, hash_block
from reconciler.content.multibase import encode_base58
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Observation, State
from reconciler.targets.pinning_service.target import PinningServiceTarget
from tests.support.fake_pinning_service import FakePinningService

MARK = "reconciler/i/"
LABEL = Label(f"{MARK}m@1.0.0")
ROOT = hash_block(DAG_PB, b"root")
META = {"reconciler": "1", "index": "i", "label": LABEL}
SPELLINGS: dict[str, Callable[[str], str]] = {
    "CIDv0": lambda text: cids.v0_text(cids.parse(text)) or "",
    "upper case": str.upper,
    "base16": lambda text: "f" + bytes(cids.parse(text)).hex(),
    "base58btc": lambda text: "z" + encode_base58(bytes(cids.parse(text))),
}


def observe(target: PinningServiceTarget) -> Observation:
    return target.observe([Expected(ROOT, (LABEL,))], Check.QUICK, MARK, QUIET).observations[ROOT]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_pin_of_ours_is_found_and_removed_in_every_spelling(
    fake: FakePinningService, target: PinningServiceTarget, spelling: str
) -> None:
    fake.ignores_cid_filter = spelling != "CIDv0"  # a service compares texts, or reads CIDs as we do
    fake.add(SPELLINGS[spelling](str(ROOT)), LABEL, **META)
    assert observe(target).state is State.HELD
    assert target.pin(ROOT, LABEL, ()).state is State.HELD
    assert len(fake.pins) == 1
    target.unpin(ROOT, LABEL)
    assert not fake.pins


@pytest.mark.parametrize("name", ["backups 2019", "reconciler/someone-else/m@1.0.0"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_pin_of_ours_goes_beside_a_named_one_of_others(
    fake: FakePinningService, target: PinningServiceTarget, spelling: str, name: str
) -> None:
    fake.ignores_cid_filter = True
    fake.reachable.add(str(ROOT))
    theirs = fake.add(SPELLINGS[spelling](str(ROOT)), name)
    assert (observe(target).state, observe(target).takes_own_pin) == (State.HELD, True)
    assert target.pin(ROOT, LABEL, ()).state is State.HELD
    assert (len(fake.pins), theirs in fake.pins) == (2, True)
    assert observe(target).takes_own_pin is False
    target.unpin(ROOT, LABEL)
    assert list(fake.pins) == [theirs]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_pin_is_added_where_a_service_keeps_one_for_each_cid(
    fake: FakePinningService, target: PinningServiceTarget, spelling: str
) -> None:
    fake.ignores_cid_filter = True
    theirs = fake.add(SPELLINGS[spelling](str(ROOT)), "backups")
    pin = fake.pins.pop(theirs)
    pin["requestid"] = str(ROOT)
    fake.pins[str(ROOT)] = pin
    assert observe(target).takes_own_pin is False
    assert "not ours" in target.pin(ROOT, LABEL, ()).detail
    assert list(fake.pins) == [str(ROOT)]


def test_a_pin_without_a_name_may_be_ours_and_gets_no_second_one_each_night(
    fake: FakePinningService, target: PinningServiceTarget
) -> None:
    fake.add(str(ROOT))
    for _ in range(3):
        assert observe(target).takes_own_pin is False
        target.pin(ROOT, LABEL, ())
    assert len(fake.pins) == 1
