"""Deals as people and programs read them: states, dates, providers, and what each rests on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from reconciler.content import cid as cids
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedBy, CheckedDeal, DealState
from reconciler.deals.policy import DealVerdict, Decision
from reconciler.loop.status import Holding, ReleaseStatus
from reconciler.render.status import deals_line, status_document, status_text
from reconciler.targets.check import Check
from reconciler.targets.interface import State
from tests.support.releases import assert_document

NOW = datetime(2026, 11, 21, 4, 5, tzinfo=UTC)
FIRST, SECOND = PieceCid(bytes(31) + b"\1", 20, 3), PieceCid(bytes(31) + b"\2", 20, 3)
AGGREGATE = PieceCid(bytes(31) + b"\3", 30, 0)


def deal(piece: PieceCid, state: DealState, day: int | None = None, **fields: object) -> CheckedDeal:
    ends = None if day is None else datetime(2027, 5, day, tzinfo=UTC)
    until = None if day is None else 5_000_000 + day
    whole = CheckedDeal(
        piece, state, CheckedBy.CHAIN, NOW, AGGREGATE, "f03144037", 77, until=until, ends=ends
    )
    return replace(whole, **fields)  # type: ignore[arg-type]


HOLDING = Holding(
    "llm",
    "1.0.0",
    "filecoin",
    cids.hash_block(cids.RAW, b"x"),
    State.HELD,
    pieces=(FIRST, SECOND),
    deals=(
        deal(FIRST, DealState.ACTIVE, 9),
        deal(FIRST, DealState.ACTIVE, 2, deal_id=None),
        deal(SECOND, DealState.SLASHED, 1, detail="slashed at epoch 9"),
        deal(SECOND, DealState.CLAIMED, checked_by=CheckedBy.PROOF),
    ),
    decision=Decision(DealVerdict.BLOCKED, "1 of 2 pieces: 1 of 2 deals"),
)


def test_one_line_has_every_state_and_the_first_end() -> None:
    assert deals_line(HOLDING) == (
        "2 deals active until 2027-05-02, 1 deal slashed, 1 deal claimed; 2 pieces; "
        "policy: 1 of 2 pieces: 1 of 2 deals"
    )
    assert deals_line(replace(HOLDING, deals=(), decision=None)) == "no deals; 2 pieces"
    assert deals_line(replace(HOLDING, pieces=(), deals=())) == ""


def test_a_status_shows_deals_in_one_line_and_all_of_them_when_asked() -> None:
    status = ReleaseStatus("acme", Check.QUICK, (HOLDING,))
    assert not status.in_sync
    short = status_text(status)
    assert "2 deals active until 2027-05-02" in short
    assert str(FIRST) not in short
    long = status_text(status, deals=True).splitlines()
    assert f"      piece {FIRST}" in long
    assert (
        f"        active until 2027-05-02  f03144037  in {AGGREGATE}  (chain, 2026-11-21 04:05 UTC)" in long
    )
    slashed = next(line for line in long if "slashed  " in line)
    assert slashed.endswith("(chain, 2026-11-21 04:05 UTC): slashed at epoch 9")
    bare = status_text(ReleaseStatus("acme", Check.QUICK, (replace(HOLDING, deals=()),)), deals=True)
    assert bare.count("no deals\n") == 2


def test_a_hostile_detail_stays_on_its_line() -> None:
    hostile = replace(HOLDING, deals=(deal(FIRST, DealState.LOST, detail="a\n::error::b\x1b[31m"),))
    text = status_text(ReleaseStatus("acme", Check.QUICK, (hostile,)), deals=True)
    assert "\x1b" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_the_document_has_epochs_and_dates() -> None:
    document = status_document(ReleaseStatus("acme", Check.QUICK, (HOLDING,)))
    assert_document("status", document)
    (item,) = document["items"]
    assert item["policy"] == {"verdict": "blocked", "reason": "1 of 2 pieces: 1 of 2 deals"}
    first, second = item["pieces"]
    assert first["piece"] == str(FIRST)
    assert first["deals"][0]["until"] == "2027-05-09T00:00:00Z"
    assert first["deals"][0]["until_epoch"] == 5_000_009
    assert first["deals"][1]["deal_id"] is None
    assert [each["state"] for each in second["deals"]] == ["slashed", "claimed"]
    assert second["deals"][1]["checked_by"] == "proof"


def test_without_deals_the_document_says_so() -> None:
    plain = ReleaseStatus("acme", Check.QUICK, (replace(HOLDING, pieces=(), deals=(), decision=None),))
    assert plain.in_sync
    (item,) = status_document(plain)["items"]
    assert (item["pieces"], item["policy"]) == ([], None)
