"""All pins of an account are found, however a service pages; an unlisted pin is not taken for absent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Inventory, State
from reconciler.targets.pinning_service.target import PinningServiceTarget
from tests.support.fake_pinning_service import FakePinningService

MARK = "reconciler/i/"


def root(number: int) -> Cid:
    return hash_block(RAW, f"root {number}".encode())


def fill(fake: FakePinningService, pins: int) -> None:
    for number in range(pins):
        fake.add(str(root(number)), f"{MARK}m@1.0.{number}")


def observe(target: PinningServiceTarget, *numbers: int) -> Inventory:
    expected = [Expected(root(number), (Label(f"{MARK}m@1.0.{number}"),)) for number in numbers]
    return target.observe(expected, Check.QUICK, MARK, QUIET)


@pytest.mark.parametrize("largest", [10, 37, 100, 1000])
@pytest.mark.parametrize("counts_pages", [False, True])
def test_every_page_is_read(
    fake: FakePinningService, target: PinningServiceTarget, largest: int, counts_pages: bool
) -> None:
    fake.largest_page, fake.counts_pages = largest, counts_pages
    fill(fake, 120)
    inventory = observe(target, 0, 119, 500)
    assert len(inventory.owned) == 120
    states = [seen.state for seen in inventory.observations.values()]
    assert states == [State.HELD, State.HELD, State.ABSENT]


def test_pins_with_one_time_at_the_edge_of_a_page_are_not_lost(
    fake: FakePinningService, target: PinningServiceTarget
) -> None:
    fake.largest_page, fake.tick = 10, timedelta(milliseconds=300)
    for number in range(30):
        fake.add(str(root(number)), f"{MARK}m@1.0.{number}")
        if number % 10 in (9, 0):  # two with the same time, on both sides of each edge
            fake.made -= 1
            extra = fake.add(str(root(1000 + number)), f"{MARK}m@2.0.{number}")
            fake.pins[f"{extra}{number}"] = fake.pins.pop(extra) | {"requestid": f"{extra}{number}"}
    assert len(observe(target).owned) == len(fake.pins)


def test_more_pins_with_one_time_than_fit_a_page_are_queried_by_cid(
    fake: FakePinningService, target: PinningServiceTarget
) -> None:
    fake.largest_page, fake.tick = 10, timedelta(0)
    fill(fake, 35)
    inventory = observe(target, *range(35), 99)
    states = {number: inventory.observations[root(number)].state for number in (*range(35), 99)}
    assert states == dict.fromkeys(range(35), State.HELD) | {99: State.ABSENT}
    assert any("of the 35 pins that it reports" in note for note in inventory.notes)


def test_a_service_that_ignores_paging_ends(fake: FakePinningService, target: PinningServiceTarget) -> None:
    fake.largest_page, fake.ignores_before = 10, True
    fill(fake, 25)
    inventory = observe(target, *range(25))
    assert {seen.state for seen in inventory.observations.values()} == {State.HELD}
    assert len(fake.calls("GET")) < 12


def test_pins_of_all_statuses_are_listed_because_the_query_names_them(
    fake: FakePinningService, target: PinningServiceTarget
) -> None:
    """Without `status` a service lists only `pinned`, and every run would create a queued pin again."""
    for number, status in enumerate(["queued", "pinning", "pinned", "failed", "archived"]):
        fake.add(str(root(number)), f"{MARK}m@1.0.{number}", status=status)
    seen = observe(target, *range(5)).observations
    states = [seen[root(number)].state for number in range(5)]
    assert states == [State.PENDING, State.PENDING, State.HELD, State.FAILED, State.ABSENT]


def test_a_small_account_takes_one_request(fake: FakePinningService, target: PinningServiceTarget) -> None:
    fill(fake, 3)
    observe(target, *range(9))
    assert fake.calls() == ["GET /pins"]


def test_pins_of_others_are_not_ours_where_a_service_ignores_the_cid_filter(
    fake: FakePinningService, target: PinningServiceTarget
) -> None:
    fake.ignores_cid_filter = True
    fill(fake, 5)
    before = dict(fake.pins)
    target.unpin(root(77), Label(f"{MARK}m@1.0.1"))
    assert fake.pins == before


def test_foreign_pins_are_listed_and_unknown_cids_are_ignored(
    fake: FakePinningService, target: PinningServiceTarget
) -> None:
    fake.add("bafyreibvaxtgwmftyxsmfczy2hqkcgqlm7gyuo2wk2ppvbmg3xrv4eqrrm", "dag-cbor")
    fake.add("not a cid", "rubbish")
    fake.add(str(root(1)), "theirs")
    fake.add(str(root(2)), "renamed by hand", reconciler="1", label=f"{MARK}m@1.0.2")
    inventory = observe(target, 1, 2)
    assert [pin.label for pin in inventory.foreign] == ["theirs"]
    assert [pin.label for pin in inventory.owned] == [f"{MARK}m@1.0.2"]
    assert inventory.observations[root(1)].labels == ("theirs",)
