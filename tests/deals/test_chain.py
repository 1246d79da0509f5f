"""Reads of the chain: strict, one call for each question, and safe against a lying node."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import ChainQuery, LotusRpc, open_rpc
from reconciler.deals.interface import DealState, Stage
from reconciler.deals.judge import check_deals
from reconciler.errors import Reason, UsageError
from reconciler.net.auth import Secret
from reconciler.net.errors import (
    AccessDeniedError,
    RejectedError,
    RequestError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.retry import RetryBudget
from tests.deals.samples import AGGREGATE, HEAD, PIECES, PROVIDER, TERMS, claim, direct
from tests.support.fake_lotus import FakeLotus, fake_lotus
from tests.support.http_peer import Asked, Said

CID = AGGREGATE.cid


@pytest.fixture
def node() -> Iterator[FakeLotus]:
    with fake_lotus(head=HEAD) as made:
        made.add_deal(7700001, CID)
        made.add_claim(CID)
        yield made


@pytest.fixture
def rpc(node: FakeLotus) -> Iterator[LotusRpc]:
    opened = open_rpc(node.url, name="lotus")
    yield opened
    opened.close()


def test_head_deal_and_claims_are_read(node: FakeLotus, rpc: LotusRpc) -> None:
    assert rpc.head() == HEAD
    deal = rpc.deal(7700001)
    assert deal is not None
    assert (deal.piece, deal.padded_size, deal.provider) == (CID.v1, CID.padded_size, PROVIDER)
    assert (deal.start, deal.end, deal.slashed) == (HEAD - 1_000_000, HEAD + 1_000_000, -1)
    (found,) = rpc.claims(PROVIDER, [CID.v1])
    assert (found.piece, found.provider, found.start) == (CID.v1, PROVIDER, HEAD - 1_000_000)
    assert rpc.claims("f09", [CID.v1]) == ()
    assert {one.target for one in node.asked} == {"/rpc/v1"}


@pytest.mark.parametrize("status", [200, 500])
def test_an_unknown_deal_is_none(node: FakeLotus, rpc: LotusRpc, status: int) -> None:
    node.errors_with = status
    assert rpc.deal(123) is None


def test_an_old_node_without_sector_numbers_is_read(node: FakeLotus, rpc: LotusRpc) -> None:
    node.old = True
    assert rpc.deal(7700001) is not None


def test_null_for_a_list_of_claims_is_empty(node: FakeLotus, rpc: LotusRpc) -> None:
    node.lie = lambda method, result: None if method == "StateGetClaims" else result
    assert rpc.claims(PROVIDER, [CID.v1]) == ()


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from _paths(inner, (*path, key))


UNREAD = {
    "VerifiedDeal", "Client", "Label", "StoragePricePerEpoch", "ProviderCollateral", "ClientCollateral",
    "SectorNumber", "Sector", "LastUpdatedEpoch", "Cids", "Blocks",
}  # fmt: skip
WRONG = [None, "x", "12", 1.5, True, [], {}, -2, 1 << 63]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_field_of_a_wrong_type_is_an_unexpected_response(
    node: FakeLotus, rpc: LotusRpc, wrong: object
) -> None:
    questions: list[tuple[str, Callable[[], object]]] = [
        ("ChainHead", rpc.head),
        ("StateMarketStorageDeal", lambda: rpc.deal(7700001)),
        ("StateGetClaims", lambda: rpc.claims(PROVIDER, [CID.v1])),
    ]
    tried = 0
    for method, question in questions:
        node.lie = None
        honest = json.loads(json.dumps(getattr(node, f"_{method}")(*_parameters(method))))
        for path in _paths(honest):
            if path[-1] in UNREAD or (path[-1] == "Provider" and wrong == "12"):
                continue  # a bare actor number is how some services write it
            node.lie = lambda asked, result, path=path, method=method: (
                _put(result, path, wrong) if asked == method else result
            )
            if method == "StateGetClaims" and _no_claim_of_ours(path, wrong):
                assert rpc.claims(PROVIDER, [CID.v1]) == ()
                continue
            with pytest.raises(UnexpectedResponseError) as caught:
                question()
            assert str(caught.value).startswith("lotus: answered with")
            tried += 1
    assert tried >= 16


def _no_claim_of_ours(path: tuple[str, ...], wrong: object) -> bool:
    """Return whether the claim is null or about another piece: these are dropped unread."""
    return (path == ("7001",) and wrong is None) or (path[-1] == "/" and isinstance(wrong, str))


def _parameters(method: str) -> tuple[object, ...]:
    return {"ChainHead": (), "StateMarketStorageDeal": (7700001, None)}.get(method, (PROVIDER, None))


def _put(result: Any, path: tuple[str, ...], wrong: object) -> Any:
    changed = json.loads(json.dumps(result))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = wrong
    return changed


def test_only_the_requested_claims_are_kept(node: FakeLotus, rpc: LotusRpc) -> None:
    for _ in range(3000):
        node.add_claim(PIECES[0], sector=5)
    node.add_claim(PIECES[1])
    found = rpc.claims(PROVIDER, [CID.v1, PIECES[1].v1])
    assert {each.piece for each in found} == {CID.v1, PIECES[1].v1}
    assert len(found) == 2


def test_a_malformed_answer_affects_one_deal_and_several_end_the_calls(
    node: FakeLotus, rpc: LotusRpc
) -> None:
    node.add_deal(5, CID)
    node.lie = lambda method, result: [] if method == "StateMarketStorageDeal" and not _is(result) else result
    node.deals[5]["Proposal"]["Label"] = "nonsense"
    first, second = check_deals([claim(deal_id=5), claim()], ChainQuery(rpc), TERMS)
    assert (first.state, second.state) == (DealState.CLAIMED, DealState.ACTIVE)
    node.lie = lambda method, result: result if method == "ChainHead" else []
    before = len(node.asked)
    for number in range(100):
        node.add_deal(number, CID)
    found = check_deals([claim(deal_id=number) for number in range(100)], ChainQuery(rpc), TERMS)
    assert {deal.state for deal in found} == {DealState.CLAIMED}
    assert len(node.asked) - before < 12


def _is(result: Any) -> bool:
    return bool(result["Proposal"]["Label"] != "nonsense")


def _raw(body: bytes, status: int = 200, **headers: str) -> Callable[[Asked], Said]:
    return lambda _asked: Said(status, body, headers)


REFUSALS = [
    (_raw(b""), RequestError),
    (_raw(b"[]"), UnexpectedResponseError),
    (_raw(b"{}"), UnexpectedResponseError),
    (_raw(b"null"), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"resu'), RequestError),
    (_raw(b'{"jsonrpc":"2.0","id":2,"result":{"Height":1}}'), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"result":[]}'), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"error":"no"}'), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}'), RejectedError),
    (_raw(b'{"jsonrpc":"2.0","id":null,"error":{"code":1}}'), RejectedError),
    (_raw(b"<html>login</html>", **{"Content-Type": "text/html"}), UnexpectedResponseError),
    (_raw(b"forbidden", 403), AccessDeniedError),
    (_raw(b"who are you", 401), AccessDeniedError),
    (_raw(b"boom", 500), RequestError),
    (_raw(b"", 302, Location="https://elsewhere.example"), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"result":{"Height":' + b"9" * 5000 + b"}}"), TransientError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"result":{"Height":NaN}}'), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"result":{"Height":1e400}}'), UnexpectedResponseError),
    (_raw(b'{"jsonrpc":"2.0","id":1,"result":{"Height":5e6}}'), UnexpectedResponseError),
    (_raw(b"[" * 200_000), TransientError),
    (_raw(b'[{"jsonrpc":"2.0","id":1,"result":{"Height":1}}]'), UnexpectedResponseError),
    (_raw(b"slow down", 429, **{"Retry-After": "3600"}), RetryLaterError),
    (_raw(b"slow down", 429, **{"Retry-After": "9" * 400}), RetryLaterError),
]


@pytest.mark.parametrize(("refusal", "kind"), REFUSALS)
def test_every_invalid_response_is_one_error_line(
    node: FakeLotus, rpc: LotusRpc, refusal: Callable[[Asked], Said], kind: type[RequestError]
) -> None:
    node.refuse = refusal
    with pytest.raises(kind) as caught:
        rpc.head()
    assert str(caught.value).startswith("lotus: ")
    assert "\n" not in str(caught.value)


def test_a_requested_pause_is_respected(node: FakeLotus, rpc: LotusRpc) -> None:
    asked = 0

    def busy(_: Asked) -> Said | None:
        nonlocal asked
        asked += 1
        return Said(429, b"slow down", {"Retry-After": "0"}) if asked < 3 else None

    node.refuse = busy
    assert rpc.head() == HEAD
    assert asked == 3


@pytest.mark.parametrize("pause", ["3600", "999999999999", "Wed, 21 Oct 2099 07:28:00 GMT"])
@pytest.mark.parametrize("after", [0, 20])
def test_a_node_that_requests_a_long_pause_gets_no_more_calls(
    node: FakeLotus, rpc: LotusRpc, pause: str, after: int
) -> None:
    """No more calls are made in this check, and no deal is lost."""

    passes = threading.Semaphore(after)

    def busy(_: Asked) -> Said | None:
        if passes.acquire(blocking=False):
            return None
        return Said(429, b"limit reached", {"Retry-After": pause})

    for number in range(500):
        node.add_deal(number, CID)
    node.refuse = busy
    found = check_deals([claim(0, deal_id=number) for number in range(500)], ChainQuery(rpc), TERMS)
    assert {deal.state for deal in found} <= {DealState.CLAIMED, DealState.ACTIVE}
    assert sum(deal.state is DealState.ACTIVE for deal in found) == max(0, after - 1)
    assert "requests a pause" in found[-1].detail
    assert len(node.asked) <= after + 8


@pytest.mark.parametrize("pause", ["", "soon", "-5", "1e9", "NaN"])
def test_a_pause_that_cannot_be_read_is_a_short_one(node: FakeLotus, pause: str) -> None:
    opened = open_rpc(node.url, name="lotus", budget=RetryBudget(retries=2))
    opened._rpc._http._sleep = lambda _: None
    node.refuse = lambda _: Said(429, b"slow down", {"Retry-After": pause})
    with pytest.raises(RequestError, match="requests a pause"):
        opened.head()
    assert len(node.asked) == 3
    opened.close()


def test_the_token_goes_into_a_header_and_into_no_error(node: FakeLotus) -> None:
    opened = open_rpc(node.url, name="lotus", token=Secret("sesame-open"))
    node.refuse = lambda asked: Said(401, b"bad token sesame-open")
    with pytest.raises(AccessDeniedError) as caught:
        opened.head()
    assert "sesame-open" not in str(caught.value)
    assert node.asked[0].headers["authorization"] == "Bearer sesame-open"
    opened.close()


@pytest.mark.parametrize(
    "address", ["", "lotus", "ftp://a/rpc/v1", "http://u:p@a/rpc", "http://a", "http://a/"]
)
def test_an_invalid_rpc_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        open_rpc(address, name="lotus")


# -- a whole check -------------------------------------------------------------------------------------------


def test_answers_in_another_order_belong_to_their_questions(node: FakeLotus, rpc: LotusRpc) -> None:
    """Four calls run at once, and the first is answered last."""
    for number in range(40):
        node.add_deal(number, CID if number % 2 else PIECES[0])

    def late(asked: Asked) -> Said | None:
        if b"StorageDeal" in asked.body:
            time.sleep(0.03 * (3 - json.loads(asked.body)["params"][0] % 4))
        return None

    node.refuse = late
    found = check_deals([claim(deal_id=number) for number in range(40)], ChainQuery(rpc), TERMS)
    assert [deal.deal_id for deal in found] == list(range(40))
    assert [deal.state is DealState.ACTIVE for deal in found] == [bool(number % 2) for number in range(40)]


CHAIN_LIES: list[tuple[dict[str, int], str]] = [
    ({"StartEpoch": -5}, "claimed"),
    ({"EndEpoch": -1}, "claimed"),
    ({"SectorStartEpoch": -2}, "claimed"),
    ({"SlashEpoch": -2}, "claimed"),
    ({"EndEpoch": 1 << 62}, "claimed"),
    ({"EndEpoch": 1 << 200}, "claimed"),
    ({"EndEpoch": (1 << 62) - 1}, "active"),
    ({"StartEpoch": (1 << 61), "EndEpoch": (1 << 62) - 1, "SectorStartEpoch": -1}, "offered"),
    ({"SectorStartEpoch": (1 << 62) - 1}, "unproved"),
    ({"SlashEpoch": (1 << 62) - 1}, "unproved"),
    ({"StartEpoch": HEAD + 10, "EndEpoch": HEAD - 10}, "unproved"),
]


@pytest.mark.parametrize(("epochs", "state"), CHAIN_LIES, ids=repr)
def test_impossible_epochs_do_not_improve_a_deal(
    node: FakeLotus, rpc: LotusRpc, epochs: dict[str, int], state: str
) -> None:
    node.add_deal(5, CID, **epochs)
    found, other = check_deals([claim(deal_id=5), claim()], ChainQuery(rpc), TERMS)
    assert (found.state.value, other.state.value) == (state, "active")
    if found.until is not None and found.until > 1 << 60:
        assert found.ends is None, "no calendar reaches that far"


def test_many_pieces_in_one_deal_cost_one_call(node: FakeLotus, rpc: LotusRpc) -> None:
    claims = [make(number) for number in range(4) for make in (claim, direct)] * 50
    found = check_deals(claims, ChainQuery(rpc), TERMS)
    assert {deal.state for deal in found} == {DealState.ACTIVE}
    assert [deal.piece for deal in found] == [each.piece for each in claims]
    assert sorted(node.calls()) == ["ChainHead", "StateGetClaims", "StateMarketStorageDeal"]


def test_a_question_is_asked_once_per_check(node: FakeLotus, rpc: LotusRpc) -> None:
    node.add_deal(1, CID)
    node.add_claim(PIECES[0])
    chain = ChainQuery(rpc)
    check_deals([claim(), direct()], chain, TERMS)
    check_deals([claim(), claim(deal_id=1), direct()], chain, TERMS)
    assert node.calls().count("ChainHead") == 1
    assert node.calls().count("StateMarketStorageDeal") == 2
    assert node.calls().count("StateGetClaims") == 1
    bare = direct(inclusion=None)
    found = check_deals([direct(), bare, claim(deal_id=1)], chain, TERMS)
    assert {deal.state for deal in found} == {DealState.ACTIVE}
    assert len(node.calls()) == 5, "the claims of a provider are listed again for a piece not asked for yet"


def test_a_node_that_refused_gets_no_more_calls_in_the_check(node: FakeLotus, rpc: LotusRpc) -> None:
    node.refuse = _raw(b"no", 403)
    chain = ChainQuery(rpc)
    for number in range(3):
        (found,) = check_deals([claim(deal_id=number)], chain, TERMS)
        assert found.state is DealState.CLAIMED
    assert len(node.asked) == 1


def test_without_deals_the_node_is_not_called(node: FakeLotus, rpc: LotusRpc) -> None:
    waiting = [claim(n, stage=Stage.QUEUED, inclusion=None, provider=None, deal_id=None) for n in range(4)]
    assert {deal.state for deal in check_deals(waiting, ChainQuery(rpc), TERMS)} == {DealState.AGGREGATING}
    assert node.calls() == []


def test_every_state_is_reached_over_the_wire(node: FakeLotus, rpc: LotusRpc) -> None:
    other = PieceCid(bytes(31) + b"\2", CID.height, 0)
    node.add_deal(1, CID, EndEpoch=HEAD + 2880)
    node.add_deal(2, CID, EndEpoch=HEAD)
    node.add_deal(3, CID, SlashEpoch=HEAD - 10)
    node.add_deal(4, CID, StartEpoch=HEAD + 10, SectorStartEpoch=-1)
    node.add_deal(5, other)
    none: dict[str, object] = {"inclusion": None, "provider": None, "deal_id": None}
    found = check_deals(
        [
            claim(), claim(deal_id=1), claim(deal_id=2), claim(deal_id=3), claim(deal_id=4), claim(deal_id=5),
            claim(deal_id=6), claim(stage=Stage.QUEUED, **none), claim(stage=Stage.GONE, **none),
            direct(), direct(provider="f09"),
        ],
        ChainQuery(rpc),
        TERMS,
    )  # fmt: skip
    assert [deal.state.value for deal in found] == [
        "active", "expiring", "expired", "slashed", "offered", "unproved",
        "lost", "aggregating", "lost",
        "active", "lost",
    ]  # fmt: skip
    claimed = check_deals([claim()], None, TERMS)
    regularly_proved = {DealState.LATE}  # of Filecoin Onchain Cloud only
    assert {deal.state for deal in (*found, *claimed)} == set(DealState) - regularly_proved


def test_a_node_that_refuses_gets_no_more_calls(node: FakeLotus, rpc: LotusRpc) -> None:
    node.refuse = _raw(b"no", 403)
    found = check_deals([claim(0, deal_id=number) for number in range(500)], ChainQuery(rpc), TERMS)
    assert {deal.state for deal in found} == {DealState.CLAIMED}
    assert "403" in found[0].detail
    assert len(node.asked) == 1


def test_a_node_that_starts_to_refuse_gets_no_more_calls(node: FakeLotus, rpc: LotusRpc) -> None:
    node.refuse = lambda asked: None if b"ChainHead" in asked.body else Said(403, b"no")
    found = check_deals([claim(0, deal_id=number) for number in range(500)], ChainQuery(rpc), TERMS)
    assert {deal.state for deal in found} == {DealState.CLAIMED}
    assert len(node.asked) < 20


def test_a_failed_question_does_not_affect_the_others(node: FakeLotus, rpc: LotusRpc) -> None:
    def fails(asked: Asked) -> Said | None:
        if b"[13,null]" in asked.body:
            body = b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"blockstore: block not found"}}'
            return Said(200, body)
        return None

    node.refuse = fails
    first, second = check_deals([claim(deal_id=13), claim()], ChainQuery(rpc), TERMS)
    assert (first.state, second.state) == (DealState.CLAIMED, DealState.ACTIVE)
    assert "block not found" in first.detail


def test_a_node_that_is_down_leaves_deals_claimed() -> None:
    with fake_lotus() as gone:
        address = gone.url
    opened = open_rpc(address, name="lotus", budget=RetryBudget(retries=0))
    answers = ChainQuery(opened).ask([7700001], {PROVIDER: [CID.v1]})
    assert isinstance(answers.head, Reason)
    (found,) = check_deals([claim()], ChainQuery(opened), TERMS)
    assert found.state is DealState.CLAIMED
    assert "could not be asked" in found.detail
    opened.close()


@pytest.mark.parametrize("method", ["ChainHead", "StateMarketStorageDeal"])
def test_a_lying_node_does_not_improve_a_deal(node: FakeLotus, rpc: LotusRpc, method: str) -> None:
    """The deal ended; the node turns its head back, or says it is about another deal."""
    node.add_deal(1, CID, EndEpoch=HEAD - 100_000)
    lies = {
        "ChainHead": lambda result: {**result, "Height": HEAD - 200_000},
        "StateMarketStorageDeal": lambda result: node.deals[9],
    }
    node.add_deal(9, PIECES[0])
    node.lie = lambda asked, result: lies[asked](result) if asked == method else result
    (found,) = check_deals([claim(deal_id=1)], ChainQuery(rpc), TERMS)
    assert found.state in (DealState.CLAIMED, DealState.UNPROVED)
