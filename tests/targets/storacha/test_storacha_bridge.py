"""The HTTP bridge against a fake: the number of requests, and malformed or false responses."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.content.car import CarCid, CarShard, ShardedCar
from reconciler.content.cid import RAW, hash_block
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import MAINNET
from reconciler.deals.claim_cache import MAX_AGE, CachedClaims, ClaimCache
from reconciler.deals.interface import CheckedBy, CheckedDeal, MerklePath
from reconciler.errors import Where
from reconciler.index.model import TargetSpec
from reconciler.net.errors import AccessDeniedError, TransientError, UnexpectedResponseError
from reconciler.progress import QUIET, Quiet, Task
from reconciler.targets.interface import Check, Expected, RunTerms, State
from reconciler.targets.storacha.delegation import read_proof
from reconciler.targets.storacha.options import read_options
from reconciler.targets.storacha.target import CLIENT_SHARDING, StorachaTarget
from tests.support.aggregates import Aggregate
from tests.support.fake_lotus import FakeLotus, fake_lotus
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer
from tests.targets.storacha.credentials import PROOF, SPACE

AUTHORIZATION = "u" + base64.urlsafe_b64encode(read_proof(PROOF).car).decode().rstrip("=")


def opened(url: str, *, cache: Path | None = None, rpc: str | None = None) -> StorachaTarget:
    environ = {"S": "usecret", "A": AUTHORIZATION}
    given = {
        "space": SPACE,
        "endpoint": url,
        "service": "did:web:up.example",
        "bridge_secret_env": "S",
        "bridge_auth_env": "A",
    } | ({} if rpc is None else {"rpc": rpc})
    spec = TargetSpec("space", "storacha", given, Where("targets.yaml", 2))
    return StorachaTarget(
        "space", read_options(spec, environ), environ, root=Path(), terms=RunTerms(cache=cache)
    )


def shard(number: int) -> CarShard:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return CarShard(CarCid(digest), 1000, PieceCid(digest[:31] + b"\0", 4, 8))


def version(number: int) -> Expected:
    shards = tuple(shard(3 * number + part) for part in range(3))
    return Expected(
        hash_block(RAW, number.to_bytes(8, "big")), ("label",), pieces=ShardedCar(CLIENT_SHARDING, shards)
    )


def upload(one: Expected) -> dict[str, Any]:
    assert one.pieces is not None
    return {"root": {"/": str(one.root)}, "shards": [{"/": str(each.cid)} for each in one.pieces.shards]}


def service(answer: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Callable[[Asked], Said]:
    """A bridge whose receipts have `answer(capability, details)` as their outcome."""

    def said(asked: Asked) -> Said:
        tasks = json.loads(asked.body)["tasks"]
        assert all(subject == SPACE for _, subject, _ in tasks)
        assert asked.headers["x-auth-secret"] == "usecret"
        receipts = [{"p": {"out": answer(can, details)}, "s": {}} for can, _, details in tasks]
        return Said(body=json.dumps(receipts).encode())

    return said


VERSIONS = [version(number) for number in range(1000)]


def plain(can: str, details: dict[str, Any]) -> dict[str, Any]:
    if can == "upload/list":
        start, size = int(details.get("cursor", 0)), details["size"]
        page: dict[str, Any] = {"results": [upload(one) for one in VERSIONS[start : start + size]]}
        if start + size < len(VERSIONS):
            page["cursor"] = str(start + size)
        return {"ok": page}
    return {"ok": {"piece": details["piece"], "aggregates": [], "deals": []}}


def test_the_number_of_requests_is_bounded() -> None:
    """A thousand versions with three pieces each: one page of a thousand, and a hundred pieces a request."""
    with http_peer(service(plain)) as peer, closing(opened(peer.url)) as target:
        inventory = target.observe(VERSIONS, Check.QUICK, "", QUIET)
        assert {each.state for each in inventory.observations.values()} == {State.HELD}
        assert sum(len(each.deals) for each in inventory.observations.values()) == 3000
        assert len(peer.asked) == 1 + 30
        assert not target.capabilities.takes_bytes


ONE = VERSIONS[0]
AGGREGATE = str(shard(7).piece)


def info(**parts: object) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    def answer(can: str, details: dict[str, Any]) -> dict[str, Any]:
        if can == "upload/list":
            return {"ok": {"results": [upload(ONE)]}}
        return {"ok": {"piece": details["piece"], "aggregates": [], "deals": []} | parts}

    return answer


def listing(value: object) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    return lambda _can, _details: {"ok": value}


def deal(**parts: object) -> dict[str, object]:
    source = {"dataSource": {"dealID": 1}}
    return {"aggregate": {"/": AGGREGATE}, "provider": "f01", "aux": source} | parts


def inclusion(**parts: object) -> list[object]:
    return [{"aggregate": {"/": AGGREGATE}, "inclusion": {"subtree": [0, []], "index": [0, []]} | parts}]


def swapped(can: str, details: dict[str, Any]) -> dict[str, Any]:
    """Receipts in another order than the tasks: each piece gets the answer about its neighbour."""
    if can == "upload/list":
        return {"ok": {"results": [upload(ONE)]}}
    assert ONE.pieces is not None
    names = [str(each.piece) for each in ONE.pieces.shards]
    other = names[(names.index(details["piece"]["/"]) + 1) % len(names)]
    return {"ok": {"piece": {"/": other}, "aggregates": [], "deals": []}}


LIES = {
    "receipts in another order": swapped,
    "a deal whose number is a float": info(deals=[deal(aux={"dataSource": {"dealID": 1e3}})]),
    "a deal whose number is not a number": info(deals=[deal(aux={"dataSource": {"dealID": float("nan")}})]),
    "a deal whose number is true": info(deals=[deal(aux={"dataSource": {"dealID": True}})]),
    "a deal whose number no chain has": info(deals=[deal(aux={"dataSource": {"dealID": 1 << 64}})]),
    "a path that begins beyond everything": info(aggregates=inclusion(subtree=[1e300, []])),
    "a listing that is a list": listing([]),
    "a listing without results": listing({"size": 0}),
    "results that are an object": listing({"results": {"root": 1}}),
    "an upload without a root": listing({"results": [{"shards": []}]}),
    "a root that is text": listing({"results": [{"root": "bafy"}]}),
    "shards that are text": listing({"results": [upload(ONE) | {"shards": ["bagb"]}]}),
    "a cursor that is a number": listing({"results": [upload(ONE)], "cursor": 7}),
    "pages without an end": listing({"results": [upload(ONE)], "cursor": "same"}),
    "no outcome": lambda _can, _details: {},
    "an error that is text": lambda _can, _details: {"error": "no"},
    "another piece": info(piece={"/": AGGREGATE}),
    "a deal that is text": info(deals=["f01"]),
    "a deal without an aggregate": info(deals=[deal(aggregate=None)]),
    "a deal with an invalid provider": info(deals=[deal(provider="me")]),
    "a deal with a negative number": info(deals=[deal(aux={"dataSource": {"dealID": -1}})]),
    "a deal whose number is text": info(deals=[deal(aux={"dataSource": {"dealID": "1"}})]),
    "a deal whose source is a list": info(deals=[deal(aux={"dataSource": []})]),
    "an aggregate that is not a piece": info(aggregates=[{"aggregate": {"/": "bafy"}, "inclusion": {}}]),
    "a path that is text": info(aggregates=inclusion(subtree="0")),
    "a path that begins before everything": info(aggregates=inclusion(index=[-1, []])),
    "a path of numbers": info(aggregates=inclusion(index=[0, [1, 2]])),
    "a path that is not base64": info(aggregates=inclusion(index=[0, [{"/": {"bytes": "%%"}}]])),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_malformed_response_is_an_error_that_names_the_service(lie: str) -> None:
    with http_peer(service(LIES[lie])) as peer, closing(opened(peer.url)) as target:
        with pytest.raises(UnexpectedResponseError, match="space: "):
            target.observe([ONE], Check.QUICK, "", QUIET)
        assert len(peer.asked) < 4


def test_a_deal_without_a_proof_is_unproved() -> None:
    with http_peer(service(info(deals=[deal()]))) as peer, closing(opened(peer.url)) as target:
        found = target.observe([ONE], Check.QUICK, "", QUIET).observations[ONE.root]
        assert {each.state.value for each in found.deals} == {"unproved"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Said(401, b"missing auth headers"), AccessDeniedError),
        (Said(500, b"oops"), TransientError),
        (Said(200, b"<html>"), UnexpectedResponseError),
        (Said(200, b"[]"), UnexpectedResponseError),
        (Said(302, b"", {"Location": "http://127.0.0.1:1/"}), UnexpectedResponseError),
        (Said(200, b'[{"p":{"out":{"ok":{"results":[],"size":' + b"9" * 5000 + b"}}}}]"), TransientError),
        (Said(200, b"[" * 200_000), TransientError),
        (
            Said(200, b'[{"p":{"out":{"ok":{"results":[]}}}},{"p":{"out":{"ok":{"results":[]}}}}]'),
            UnexpectedResponseError,
        ),
    ],
    ids=["401", "500", "a page", "no receipts", "a redirect", "a number", "brackets", "one receipt too many"],
)
def test_a_service_that_does_not_answer_is_unknown(answer: Said, error: type[Exception]) -> None:
    with http_peer(lambda _: answer) as peer, closing(opened(peer.url)) as target:
        target._http._sleep = lambda _: None  # type: ignore[union-attr]
        with pytest.raises(error):
            target.observe([ONE], Check.QUICK, "", QUIET)
        findings = target.diagnose()
        assert [each.ok for each in findings if each.subject == "service"] == [False]


# --- remembered claims

EVER = datetime.now(UTC)
HEAD = MAINNET.epoch(EVER)
IN_DEALS = Aggregate([each.piece for each in ONE.pieces.shards] if ONE.pieces else [], 20)


def proof_document(number: int) -> list[object]:
    proof = IN_DEALS.proof(number)

    def path(one: MerklePath) -> list[object]:
        return [one.at, [{"/": {"bytes": base64.b64encode(x).decode().rstrip("=")}} for x in one.siblings]]

    aggregate = {"/": str(proof.aggregate)}
    return [
        {"aggregate": aggregate, "inclusion": {"subtree": path(proof.subtree), "index": path(proof.index)}}
    ]


def in_deals(*numbers: int) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    """Answer with all pieces of ONE in one aggregate, and for each number a deal by another provider."""

    def answer(can: str, details: dict[str, Any]) -> dict[str, Any]:
        if can == "upload/list":
            return {"ok": {"results": [upload(ONE)]}}
        place = [str(piece) for piece in IN_DEALS.pieces].index(details["piece"]["/"])
        deals = [
            {
                "aggregate": {"/": str(IN_DEALS.cid)},
                "provider": f"f0{number}",
                "aux": {"dataSource": {"dealID": number}},
            }
            for number in numbers
        ]
        return {"ok": {"piece": details["piece"], "aggregates": proof_document(place), "deals": deals}}

    return answer


class Observations:
    """A space and a chain that are observed several times, each time by a new target."""

    def __init__(self, bridge: HttpPeer, lotus: FakeLotus, cache: Path | None) -> None:
        self.bridge, self.lotus, self.cache = bridge, lotus, cache
        self.rpc: str | None = lotus.url

    def observe(self, one: Expected = ONE, check: Check = Check.QUICK) -> tuple[list[CheckedDeal], int]:
        """Return the deals of `one`, and how many pieces the service was queried about."""
        before = len(self.bridge.asked)
        with closing(opened(self.bridge.url, cache=self.cache, rpc=self.rpc)) as target:
            found = target.observe([one], check, "", QUIET).observations[one.root]
        tasks = [task for each in self.bridge.asked[before:] for task in json.loads(each.body)["tasks"]]
        assert [task[0] for task in tasks].count("upload/list") == 1
        return list(found.deals), [task[0] for task in tasks].count("filecoin/info")


@pytest.fixture
def observations(tmp_path: Path) -> Iterator[Observations]:
    with http_peer(service(in_deals(7))) as bridge, fake_lotus(head=HEAD) as lotus:
        lotus.add_deal(7, IN_DEALS.cid, "f07")
        yield Observations(bridge, lotus, tmp_path / "cache")


def states(deals: list[CheckedDeal]) -> set[str]:
    return {deal.state.value for deal in deals}


def test_the_service_is_not_queried_for_deals_that_the_chain_confirms(observations: Observations) -> None:
    first, asked = observations.observe()
    assert (states(first), len(first), asked) == ({"active"}, 3, 3)
    calls = len(observations.lotus.asked)
    again, asked = observations.observe()
    assert (states(again), len(again), asked) == ({"active"}, 3, 0)
    assert observations.lotus.calls()[calls:] == ["ChainHead", "StateMarketStorageDeal"], (
        "the chain is queried again"
    )
    assert {deal.checked_by for deal in again} == {CheckedBy.CHAIN}
    assert all(b.at > a.at for a, b in zip(first, again, strict=True))
    assert all("named by the service on 20" in deal.detail for deal in again)
    assert [replace(deal, at=EVER, detail="") for deal in again] == [replace(deal, at=EVER) for deal in first]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"SlashEpoch": HEAD - 10}, "slashed"),
        ({"EndEpoch": HEAD - 10}, "expired"),
        ({"EndEpoch": HEAD + 2880}, "expiring"),
        ({"SectorStartEpoch": -1}, "lost"),
    ],
)
def test_the_service_is_queried_for_a_deal_that_the_chain_no_longer_confirms(
    observations: Observations, change: dict[str, int], state: str
) -> None:
    observations.observe()
    observations.lotus.add_deal(7, IN_DEALS.cid, "f07", **change)
    found, asked = observations.observe()
    assert (states(found), asked) == ({state}, 3)


def test_deals_that_no_version_needs_are_not_queried(observations: Observations) -> None:
    indifferent = replace(ONE, min_deals=0)
    assert observations.observe(indifferent) == ([], 0)
    assert observations.lotus.asked == []
    assert observations.observe(indifferent, Check.FULL) == ([], 0)


def test_a_chain_that_does_not_answer_confirms_nothing(observations: Observations) -> None:
    observations.observe()
    observations.lotus.refuse = lambda _: Said(403, b"no")
    found, asked = observations.observe()
    assert (states(found), asked) == ({"claimed"}, 3)


def test_without_a_chain_the_service_is_queried_each_time(observations: Observations) -> None:
    observations.observe()
    observations.rpc = None
    assert [observations.observe()[1] for _ in range(2)] == [3, 3]


def test_a_deeper_check_and_a_day_query_again(observations: Observations) -> None:
    observations.observe()
    assert observations.observe(check=Check.SAMPLE)[1] == 3
    assert observations.observe(check=Check.FULL)[1] == 3
    assert observations.observe()[1] == 0
    (memory,) = (observations.cache / "deals").iterdir() if observations.cache else ()
    kept = ClaimCache(memory)
    now = datetime.now(UTC)
    kept.save({piece: replace(each, at=now - MAX_AGE) for piece, each in kept.load(now).items()})
    assert [observations.observe()[1] for _ in range(2)] == [3, 0]


def test_the_service_is_queried_where_more_deals_are_required(observations: Observations) -> None:
    two = replace(ONE, min_deals=2, min_providers=2)
    observations.observe()
    assert [observations.observe(two)[1] for _ in range(2)] == [3, 3]
    with http_peer(service(in_deals(7, 8))) as bridge:
        observations.lotus.add_deal(8, IN_DEALS.cid, "f08")
        observations.bridge = bridge
        assert [observations.observe(two)[1] for _ in range(2)] == [3, 0]


def test_a_memory_that_lies_makes_no_deal_better(observations: Observations) -> None:
    """It names a deal of another piece, a deal that does not exist, and a proof of another piece."""
    observations.observe()
    (memory,) = (observations.cache / "deals").iterdir() if observations.cache else ()
    kept = ClaimCache(memory)
    true = kept.load(datetime.now(UTC))
    observations.lotus.add_deal(9, IN_DEALS.pieces[0], "f07")
    first, second, third = IN_DEALS.pieces
    now = datetime.now(UTC)
    kept.save(
        {
            first: CachedClaims(now, (replace(true[first].claims[0], deal_id=9),)),
            second: CachedClaims(now, (replace(true[second].claims[0], deal_id=1),)),
            third: CachedClaims(now, (replace(true[third].claims[0], inclusion=IN_DEALS.proof(0)),)),
        }
    )
    found, asked = observations.observe()
    assert (states(found), {deal.deal_id for deal in found}, asked) == ({"active"}, {7}, 3)


def test_the_result_of_a_deeper_check_replaces_the_memory(observations: Observations) -> None:
    """The service no longer names the deal that the chain still has."""
    observations.observe()
    with http_peer(service(info())) as bridge:
        gone = Observations(bridge, observations.lotus, observations.cache)
        (memory,) = (observations.cache / "deals").iterdir() if observations.cache else ()
        other = gone.observe()  # another address, another memory: only to learn its name
        assert states(other[0]) == {"aggregating"}
        (empty_one,) = {*memory.parent.iterdir()} - {memory}
        empty_one.write_bytes(memory.read_bytes())
        assert (states((again := gone.observe())[0]), again[1]) == ({"active"}, 0)
        assert states(gone.observe(check=Check.SAMPLE)[0]) == {"aggregating"}
        assert states(gone.observe()[0]) == {"aggregating"}


def test_without_a_cache_nothing_is_remembered(observations: Observations, tmp_path: Path) -> None:
    observations.cache = None
    assert [observations.observe()[1] for _ in range(2)] == [3, 3]
    assert list(tmp_path.iterdir()) == []


def test_at_most_four_requests_about_pieces_are_sent_at_once() -> None:
    """A service takes milliseconds for a task; four requests wait at the same time."""
    together = threading.Barrier(4)
    busy, most = 0, 0
    lock = threading.Lock()

    def answer(asked: Asked) -> Said:
        nonlocal busy, most
        if b"filecoin/info" in asked.body:
            with lock:
                busy += 1
                most = max(most, busy)
            together.wait(60)
            with lock:
                busy -= 1
        return service(plain)(asked)

    few = VERSIONS[:266]  # eight requests
    with http_peer(answer) as peer, closing(opened(peer.url)) as target:
        target.observe(few, Check.QUICK, "", QUIET)
    assert most == 4


def test_a_stopped_run_sends_no_further_requests() -> None:
    """The progress advances after each request, and what that raises ends the queries."""

    class Stopped(Exception):
        pass

    class Impatient(Quiet):
        def task(self, label: str, total: int | None) -> Task:
            assert (label, total) == ("space: querying deals (pieces)", 3000)
            task = super().task(label, total)
            task.advance = self.stop  # type: ignore[method-assign]
            return task

        def stop(self, amount: int) -> None:
            assert amount == 100
            release.start()
            raise Stopped

    stopped, first = threading.Event(), threading.Lock()
    release = threading.Timer(0.3, stopped.set)

    def answer(asked: Asked) -> Said:
        """Answer one request about pieces; delay the others until the run is stopped."""
        if b"filecoin/info" in asked.body and not first.acquire(blocking=False):
            stopped.wait(60)
        return service(plain)(asked)

    with http_peer(answer) as peer, closing(opened(peer.url)) as target:
        with pytest.raises(Stopped):
            target.observe(VERSIONS, Check.QUICK, "", Impatient())
        assert len(peer.asked) < 20
    release.join()
