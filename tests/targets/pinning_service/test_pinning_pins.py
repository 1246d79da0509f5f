"""Pinning, renaming and unpinning, at services that follow the specification and at others."""

from __future__ import annotations

import json

import pytest

from reconciler.content.cid import RAW, hash_block
from reconciler.errors import PeerError, UsageError
from reconciler.index.label import Label
from reconciler.net.errors import AccessDeniedError
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Observation, Pin, State
from reconciler.targets.pinning_service.target import PinningServiceTarget
from tests.support.fake_pinning_service import FakePinningService
from tests.support.http_peer import Said
from tests.targets.pinning_service.targets import service_target

MARK = "reconciler/i/"
LABEL, OTHER = Label(f"{MARK}m@1.0.0"), Label(f"{MARK}m@1.0.1")
ROOT = hash_block(RAW, b"root")
CID = str(ROOT)
ORIGIN = "/ip4/203.0.113.9/tcp/4001/p2p/12D3KooWOurs"


def observe(target: PinningServiceTarget) -> Observation:
    return target.observe([Expected(ROOT, (LABEL,))], Check.QUICK, MARK, QUIET).observations[ROOT]


def names(fake: FakePinningService) -> list[object]:
    return [pin["pin"].get("name") for pin in fake.pins.values()]  # type: ignore[attr-defined]


class TestPinning:
    def test_name_meta_and_origins_are_sent(self, fake: FakePinningService) -> None:
        fake.reachable.add(CID)
        target = service_target(fake.url, origins=(ORIGIN,))
        assert target.pin(ROOT, LABEL, ["/dns4/donor/tcp/1/p2p/12D3KooWDonor"]).state is State.HELD
        sent = json.loads(next(one.body for one in fake.asked if one.method == "POST"))
        assert sent == {
            "cid": CID,
            "name": LABEL,
            "meta": {"reconciler": "1", "index": "i", "label": LABEL},
            "origins": [ORIGIN, "/dns4/donor/tcp/1/p2p/12D3KooWDonor"],
        }
        target.close()

    def test_an_unfinished_pin_is_pending_and_names_the_delegates(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        delivery = target.pin(ROOT, LABEL, ())
        assert delivery.state is State.PENDING
        assert "/dns4/fetch.example/tcp/4001/p2p/12D3KooWService" in delivery.detail
        assert target.pin(ROOT, LABEL, ()).state is State.PENDING
        assert fake.calls("POST") == ["POST /pins"]
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).state is State.HELD

    def test_a_poll_of_zero_does_not_wait(self, fake: FakePinningService) -> None:
        target = service_target(fake.url, poll=0)
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).state is State.PENDING
        target.close()

    def test_a_failed_pin_is_an_error_with_the_reason_of_the_service(
        self, fake: FakePinningService, target: PinningServiceTarget, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake.details = "no providers\x1b[2J found"
        made = fake._make

        def failing(pin: dict[str, object], status: str) -> dict[str, object]:
            return made(pin, "failed")

        monkeypatch.setattr(fake, "_make", failing)
        with pytest.raises(PeerError, match=r"failed to pin .*: no providers \[2J found") as caught:
            target.pin(ROOT, LABEL, ())
        assert "origins" in (caught.value.hint or "")
        assert observe(target).state is State.FAILED

    def test_a_failed_pin_is_made_again_and_the_old_request_is_removed(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        failed = [fake.add(CID, LABEL, status="failed") for _ in range(2)]
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).state is State.HELD
        assert len(fake.pins) == 1
        assert not set(failed) & set(fake.pins)

    def test_no_funds_is_denied_with_advice(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.funds = False
        with pytest.raises(AccessDeniedError, match=r"no funds or no room left.*top up first") as caught:
            target.pin(ROOT, LABEL, ())
        assert "raise its plan" in (caught.value.hint or "")

    def test_a_wrong_secret_is_denied_and_not_shown(self, fake: FakePinningService) -> None:
        target = service_target(fake.url, secret="wrong-canary")
        with pytest.raises(AccessDeniedError) as caught:
            target.pin(ROOT, LABEL, ())
        assert "canary" not in f"{caught.value} {caught.value.hint}"
        target.close()

    def test_a_label_that_is_too_long_is_refused_before_anything_is_sent(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        with pytest.raises(UsageError, match="255"):
            target.pin(ROOT, Label(f"{MARK}{'m' * 250}@1.0.0"), ())
        assert fake.asked == []

    def test_another_label_of_ours_is_renamed(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.add(CID, OTHER)
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).state is State.HELD
        assert names(fake) == [LABEL]


class TestBadServices:
    def test_without_meta_a_pin_is_recognized_by_its_name(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.drops_meta = True
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).detail == ""
        assert observe(target).labels == (LABEL,)
        target.unpin(ROOT, LABEL)
        assert fake.pins == {}

    def test_without_a_name_a_pin_is_recognized_by_its_meta(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.drops_name = True
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).detail == ""
        target.relabel(ROOT, OTHER)
        assert observe(target).labels == (OTHER,)
        target.unpin(ROOT, OTHER)
        assert fake.pins == {}

    def test_without_both_the_run_reports_it_and_pins_once(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.drops_name = fake.drops_meta = True
        fake.reachable.add(CID)
        assert "keeps neither name nor meta" in target.pin(ROOT, LABEL, ()).detail
        again = target.pin(ROOT, LABEL, ())
        assert (again.state, len(fake.pins)) == (State.HELD, 1)
        assert "not ours" in again.detail
        target.unpin(ROOT, LABEL)
        assert len(fake.pins) == 1

    def test_a_service_with_one_request_for_each_cid_renames_by_replacing(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.same_request_for_same_cid = True
        fake.reachable.add(CID)
        target.pin(ROOT, LABEL, ())
        target.relabel(ROOT, OTHER)
        assert names(fake) == [OTHER]
        assert observe(target).labels == (OTHER,)


class TestOwnership:
    def test_every_request_with_the_label_is_removed_and_no_other(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        for _ in range(3):
            fake.add(CID, LABEL)
        kept = {fake.add(CID, "theirs"), fake.add(CID, OTHER), fake.add(CID, "reconciler/j/m@1.0.0")}
        assert "4 pin requests are ours" in observe(target).detail
        target.unpin(ROOT, LABEL)
        assert set(fake.pins) == kept

    def test_our_pin_is_added_beside_a_foreign_one(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        foreign = fake.add(CID, "theirs")
        fake.reachable.add(CID)
        assert observe(target).labels == ("theirs",)
        assert target.pin(ROOT, LABEL, ()).state is State.HELD
        assert names(fake) == ["theirs", LABEL]
        assert observe(target).labels == (LABEL, "theirs")
        target.unpin(ROOT, LABEL)
        assert list(fake.pins) == [foreign]

    def test_a_rename_pins_first_and_removes_the_old_request_afterwards(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.reachable.add(CID)
        target.pin(ROOT, LABEL, (ORIGIN,))
        fake.asked.clear()
        target.relabel(ROOT, OTHER)
        calls = [call.split()[0] for call in fake.calls()]
        assert calls.index("POST") < calls.index("DELETE")
        assert names(fake) == [OTHER]
        fake.asked.clear()
        target.relabel(ROOT, OTHER)
        assert fake.calls() == ["GET /pins"]

    def test_a_rename_that_is_not_pinned_in_time_keeps_the_old_request(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        old = fake.add(CID, LABEL)
        target.relabel(ROOT, OTHER)
        assert old in fake.pins
        assert names(fake) == [LABEL, OTHER]

    def test_a_root_without_a_pin_of_ours_cannot_be_renamed(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.add(CID, "theirs")
        with pytest.raises(PeerError, match="no pin of ours"):
            target.relabel(ROOT, LABEL)
        assert names(fake) == ["theirs"]

    def test_adopting_renames_the_given_pin_only(
        self, fake: FakePinningService, target: PinningServiceTarget
    ) -> None:
        fake.add(CID, "theirs")
        fake.reachable.add(CID)
        with pytest.raises(PeerError, match="no longer pinned as 'other'"):
            target.adopt(Pin(ROOT, "other"), LABEL)
        target.adopt(Pin(ROOT, "theirs"), LABEL)
        assert names(fake) == [LABEL]


class TestLostAnswers:
    def test_a_pin_whose_response_was_lost_is_found_and_not_made_twice(
        self, fake: FakePinningService, target: PinningServiceTarget, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = fake._create

        def created_without_response(pin: dict[str, object]) -> Said:
            create(pin)
            return Said(502, b"bad gateway")

        monkeypatch.setattr(fake, "_create", created_without_response)
        fake.reachable.add(CID)
        assert target.pin(ROOT, LABEL, ()).state is State.HELD
        assert len(fake.pins) == 1


class TestDoctor:
    def test_a_healthy_service(self, target: PinningServiceTarget) -> None:
        assert [(one.subject, one.ok) for one in target.diagnose()] == [("API", True), ("clock", True)]

    def test_a_wrong_secret(self, fake: FakePinningService) -> None:
        target = service_target(fake.url, secret="another")
        (finding,) = target.diagnose()
        assert (finding.ok, finding.hint) == (False, "check the secret and its permissions")
        target.close()
