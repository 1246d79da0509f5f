"""Each state follows from its rule, and no claim of a service or a node improves a deal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import CALIBRATION, MAINNET
from reconciler.deals.interface import (
    ChainAnswers,
    CheckedBy,
    CheckedDeal,
    DealClaim,
    DealState,
    DirectClaim,
    MarketDeal,
    MerklePath,
    Stage,
)
from reconciler.deals.judge import MAX_EPOCHS_AHEAD, MAX_EPOCHS_BEHIND, judge_claim
from reconciler.errors import Reason
from tests.deals.samples import AGGREGATE, HEAD, NOW, PIECES, PROVIDER, TERMS, claim, direct

CID = AGGREGATE.cid
DEAL = MarketDeal(7700001, CID.v1, CID.padded_size, PROVIDER, HEAD - 1000, HEAD + 1_000_000, HEAD - 1500, -1)
DIRECT = DirectClaim(PROVIDER, CID.v1, CID.padded_size, HEAD - 1000, 1_500_000, 4_000_000)
MONTH = 30 * 2880


def answers(**changes: int) -> ChainAnswers:
    return ChainAnswers(HEAD, {DEAL.deal_id: replace(DEAL, **changes)}, {PROVIDER: (DIRECT,)})


def direct_answers(**changes: int) -> ChainAnswers:
    return ChainAnswers(HEAD, claims={PROVIDER: (replace(DIRECT, **changes),)})


def state(found: CheckedDeal) -> tuple[str, str]:
    return found.state.value, found.checked_by.value


MARKET = [
    ({}, "active"),
    ({"end": HEAD + MONTH + 1}, "active"),
    ({"end": HEAD + MONTH}, "expiring"),
    ({"end": HEAD + 1}, "expiring"),
    ({"end": HEAD}, "expired"),
    ({"end": HEAD - 1}, "expired"),
    ({"slashed": HEAD - 5}, "slashed"),
    ({"slashed": 0}, "slashed"),
    ({"slashed": HEAD - 5, "end": HEAD - 1}, "slashed"),
    ({"sector_start": -1, "start": HEAD + 1}, "offered"),
    ({"sector_start": -1, "start": HEAD}, "lost"),
    ({"sector_start": -1}, "lost"),
    ({"sector_start": 0}, "active"),
    ({"sector_start": HEAD + 1}, "unproved"),
    ({"slashed": HEAD + 1}, "unproved"),
    ({"start": HEAD + 2_000_000}, "unproved"),
    ({"padded_size": CID.padded_size * 2}, "unproved"),
]


@pytest.mark.parametrize(("changes", "wanted"), MARKET)
def test_the_epochs_of_a_market_deal_give_its_state(changes: dict[str, int], wanted: str) -> None:
    found = judge_claim(claim(), answers(**changes), TERMS)
    assert state(found) == (wanted, "chain")
    assert (found.piece, found.aggregate, found.at) == (PIECES[0], CID, NOW)
    if wanted in ("active", "expiring"):
        assert found.until == {"end": DEAL.end, **changes}["end"]
        assert found.ends == MAINNET.date(found.until)
    else:
        assert found.detail


DIRECTS = [
    ({}, "active", DIRECT.start + DIRECT.term_min),
    ({"term_min": MONTH + 1001}, "active", HEAD + MONTH + 1),
    ({"term_min": MONTH + 1000}, "expiring", HEAD + MONTH),
    ({"term_min": 1000}, "expiring", DIRECT.start + DIRECT.term_max),
    ({"term_min": 10}, "expiring", DIRECT.start + DIRECT.term_max),
    ({"term_min": 10, "term_max": 1000}, "expired", HEAD),
    ({"start": HEAD + 1}, "unproved", None),
    ({"term_max": 1}, "unproved", None),
    ({"padded_size": 1}, "lost", None),
]


@pytest.mark.parametrize(("changes", "wanted", "until"), DIRECTS)
def test_the_terms_of_a_direct_claim_give_its_state(
    changes: dict[str, int], wanted: str, until: int | None
) -> None:
    found = judge_claim(direct(), direct_answers(**changes), TERMS)
    assert state(found) == (wanted, "chain")
    assert found.until == until


def test_the_longest_term_of_a_provider_counts() -> None:
    short = replace(DIRECT, term_min=2000, term_max=2000)
    found = judge_claim(direct(), ChainAnswers(HEAD, claims={PROVIDER: (short, DIRECT, short)}), TERMS)
    assert (found.state, found.until) == (DealState.ACTIVE, DIRECT.start + DIRECT.term_min)


def test_a_claim_of_another_provider_does_not_count() -> None:
    other = replace(DIRECT, provider="f09")
    found = judge_claim(direct(), ChainAnswers(HEAD, claims={PROVIDER: (other,)}), TERMS)
    assert state(found) == ("lost", "chain")


OTHER = PieceCid(b"\7" * 31 + b"\1", CID.height, 0)


@pytest.mark.parametrize(
    ("deal", "said"),
    [
        (replace(DEAL, piece=OTHER.v1), str(OTHER.v1)),
        (replace(DEAL, piece=PIECES[0].v1), str(PIECES[0].v1)),
        (replace(DEAL, padded_size=CID.padded_size // 2), str(CID.padded_size // 2)),
        (replace(DEAL, provider="f01000"), "f01000"),
    ],
)
def test_a_deal_about_another_piece_is_unproved_and_both_are_named(deal: MarketDeal, said: str) -> None:
    found = judge_claim(claim(), ChainAnswers(HEAD, {DEAL.deal_id: deal}), TERMS)
    assert state(found) == ("unproved", "chain")
    assert said in found.detail
    assert (PROVIDER if "f01000" in said else str(CID.v1)) in found.detail


def test_a_deal_that_the_chain_does_not_know_is_lost() -> None:
    found = judge_claim(claim(), ChainAnswers(HEAD, {DEAL.deal_id: None}), TERMS)
    assert state(found) == ("lost", "chain")
    assert "7700001" in found.detail


def test_pieces_without_a_deal_have_the_state_that_the_service_claims() -> None:
    none: dict[str, object] = {"inclusion": None, "provider": None, "deal_id": None}
    for stage, wanted in (("queued", "aggregating"), ("aggregated", "offered"), ("gone", "lost")):
        assert state(judge_claim(claim(stage=Stage(stage), **none), None, TERMS)) == (wanted, "service")
    offered = judge_claim(claim(stage=Stage.AGGREGATED, provider=None, deal_id=None), None, TERMS)
    assert state(offered) == ("offered", "proof")
    assert offered.aggregate == CID
    assert judge_claim(claim(stage=Stage.QUEUED, **none), None, TERMS).aggregate is None


BAD_PROOF = replace(AGGREGATE.proof(0), subtree=MerklePath(0, ()))


@pytest.mark.parametrize("asked", [None, answers()])
@pytest.mark.parametrize("stage", [Stage.AGGREGATED, Stage.DEAL])
@pytest.mark.parametrize("proof", [BAD_PROOF, AGGREGATE.proof(1)])
def test_an_invalid_proof_is_unproved_whatever_the_chain_answers(
    asked: ChainAnswers | None, stage: Stage, proof: object
) -> None:
    found = judge_claim(claim(inclusion=proof, stage=stage), asked, TERMS)
    assert state(found) == ("unproved", "proof")
    assert "inclusion proof" in found.detail


def test_a_proof_of_the_same_tree_with_another_size_is_of_another_piece() -> None:
    """The proof says nothing of the padding, so the size is compared besides."""
    longer = replace(AGGREGATE.proof(0), piece=replace(PIECES[0], padding=0))
    assert state(judge_claim(claim(inclusion=longer), answers(), TERMS)) == ("unproved", "proof")


def test_without_an_rpc_a_valid_proof_is_claimed() -> None:
    found = judge_claim(claim(), None, TERMS)
    assert state(found) == ("claimed", "proof")
    assert "no RPC is configured" in found.detail
    assert state(judge_claim(direct(), None, TERMS)) == ("claimed", "proof")


UNASKED = [
    ChainAnswers(Reason("node: refused")),
    ChainAnswers(HEAD, {7700001: Reason("node: refused")}, {PROVIDER: Reason("node: refused")}),
    ChainAnswers(HEAD),
    ChainAnswers(HEAD - MAX_EPOCHS_BEHIND - 1, answers().deals, answers().claims),
    ChainAnswers(HEAD + MAX_EPOCHS_AHEAD + 1, answers().deals, answers().claims),
]


@pytest.mark.parametrize("asked", UNASKED)
@pytest.mark.parametrize("make", [claim, direct])
def test_a_chain_that_cannot_say_leaves_a_proved_deal_claimed_and_another_unproved(
    asked: ChainAnswers, make: object
) -> None:
    assert callable(make)
    assert state(judge_claim(make(), asked, TERMS)) == ("claimed", "proof")
    bare = judge_claim(make(inclusion=None), asked, TERMS)
    assert state(bare) == ("unproved", "service")
    assert bare.detail


@pytest.mark.parametrize("head", [HEAD - MAX_EPOCHS_BEHIND, HEAD + MAX_EPOCHS_AHEAD])
def test_a_node_slightly_behind_or_ahead_is_accepted(head: int) -> None:
    asked = ChainAnswers(head, {DEAL.deal_id: replace(DEAL, end=HEAD + 1_000_000)})
    assert judge_claim(claim(), asked, TERMS).state is DealState.ACTIVE


def test_a_node_of_another_network_is_not_accepted() -> None:
    found = judge_claim(claim(), answers(), replace(TERMS, chain=CALIBRATION))
    assert found.state is DealState.CLAIMED
    assert "calibration" in found.detail


def test_the_chain_names_the_provider_when_the_service_does_not() -> None:
    assert judge_claim(claim(provider=None), answers(), TERMS).provider == PROVIDER


def test_a_piece_without_an_aggregate_needs_no_inclusion_proof() -> None:
    own = PIECES[2]
    deal = replace(DEAL, piece=own.v1, padded_size=own.padded_size)
    bare = DealClaim(own, Stage.DEAL, None, PROVIDER, DEAL.deal_id)
    found = judge_claim(bare, ChainAnswers(HEAD, {DEAL.deal_id: deal}), TERMS)
    assert (state(found), found.aggregate) == (("active", "chain"), own)
    assert state(judge_claim(bare, None, TERMS)) == ("unproved", "service")


epochs = st.integers(-1, 2 * HEAD)


@given(
    st.sampled_from(Stage), st.booleans(), st.booleans(), st.booleans(),
    st.builds(MarketDeal, st.just(7700001), st.sampled_from([CID.v1, OTHER.v1]),
              st.sampled_from([CID.padded_size, 1]), st.sampled_from([PROVIDER, "f01"]),
              epochs, epochs, epochs, epochs),
    st.integers(HEAD - MAX_EPOCHS_BEHIND - 3, HEAD + MAX_EPOCHS_AHEAD + 3),
)  # fmt: skip
def test_nothing_is_active_without_a_true_proof_and_a_chain_that_agrees(
    stage: Stage, honest: bool, market: bool, reachable: bool, deal: MarketDeal, head: int
) -> None:
    made = (claim if market else direct)(stage=stage, inclusion=AGGREGATE.proof(0) if honest else BAD_PROOF)
    asked = ChainAnswers(head, {7700001: deal}, {PROVIDER: ()}) if reachable else None
    found = judge_claim(made, asked, TERMS)
    if found.state in (DealState.ACTIVE, DealState.EXPIRING, DealState.EXPIRED):
        assert stage is Stage.DEAL
        assert honest
        assert reachable
        assert (deal.piece, deal.padded_size, deal.provider) == (CID.v1, CID.padded_size, PROVIDER)
        assert 0 <= deal.sector_start <= head
        assert deal.slashed == -1
        assert found.checked_by is CheckedBy.CHAIN
        assert (found.state is DealState.EXPIRED) == (deal.end <= head)
    if found.state is DealState.CLAIMED:
        assert honest
        assert found.detail
    if found.state not in (DealState.ACTIVE, DealState.AGGREGATING, DealState.OFFERED, DealState.EXPIRING):
        assert found.detail


def test_epochs_and_dates_agree() -> None:
    """Mainnet's first epoch was on 2020-08-24 at 22:00 UTC, and a day has 2880 of them."""
    assert f"{MAINNET.date(2880 * 365):%Y-%m-%d %H:%M}" == "2021-08-24 22:00"
    assert MAINNET.epoch(NOW) == HEAD
    assert MAINNET.epoch(NOW + timedelta(seconds=29)) == HEAD
    assert MAINNET.date(1 << 61) is None
