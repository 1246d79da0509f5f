"""The HTTP bridge as a fake says it: how often it is asked, and what is not believed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reconciler.content.car_shard import CarCid, CarShard, CutShards
from reconciler.content.cid import RAW, of
from reconciler.content.piece_cid import PieceCid
from reconciler.errors import Where
from reconciler.index.model import TargetSpec
from reconciler.net.outcomes import Denied, Stalled, Transient
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.storacha.delegation import read_proof
from reconciler.targets.storacha.options import read_options
from reconciler.targets.storacha.target import CUT, StorachaTarget
from tests.support.http_peer import Asked, Said, http_peer
from tests.targets.storacha.credentials import PROOF, SPACE

AUTHORIZATION = "u" + base64.urlsafe_b64encode(read_proof(PROOF).car).decode().rstrip("=")


def opened(url: str) -> StorachaTarget:
    environ = {"S": "usecret", "A": AUTHORIZATION}
    given = {
        "space": SPACE,
        "endpoint": url,
        "service": "did:web:up.example",
        "bridge_secret_env": "S",
        "bridge_auth_env": "A",
    }
    spec = TargetSpec("space", "storacha", given, Where("targets.yaml", 2))
    return StorachaTarget("space", read_options(spec, environ), environ, root=Path())


def shard(number: int) -> CarShard:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return CarShard(CarCid(digest), 1000, PieceCid(digest[:31] + b"\0", 4, 8))


def version(number: int) -> Expected:
    shards = tuple(shard(3 * number + part) for part in range(3))
    return Expected(of(RAW, number.to_bytes(8, "big")), ("label",), pieces=CutShards(CUT, shards))


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


LIES = {
    "a listing that is a list": listing([]),
    "a listing without results": listing({"size": 0}),
    "results that are none": listing({"results": {"root": 1}}),
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
    "a deal of nobody": info(deals=[deal(provider="me")]),
    "a deal with a negative number": info(deals=[deal(aux={"dataSource": {"dealID": -1}})]),
    "a deal whose number is text": info(deals=[deal(aux={"dataSource": {"dealID": "1"}})]),
    "a deal whose source is a list": info(deals=[deal(aux={"dataSource": []})]),
    "an aggregate that is no piece": info(aggregates=[{"aggregate": {"/": "bafy"}, "inclusion": {}}]),
    "a path that is text": info(aggregates=inclusion(subtree="0")),
    "a path that begins nowhere": info(aggregates=inclusion(index=[-1, []])),
    "a path of numbers": info(aggregates=inclusion(index=[0, [1, 2]])),
    "a path that is not base64": info(aggregates=inclusion(index=[0, [{"/": {"bytes": "%%"}}]])),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_of_the_wrong_shape_is_the_services_fault(lie: str) -> None:
    with http_peer(service(LIES[lie])) as peer, closing(opened(peer.url)) as target:
        with pytest.raises(Stalled, match="space: "):
            target.observe([ONE], Check.QUICK, "", QUIET)
        assert len(peer.asked) < 4


def test_a_deal_without_a_proof_is_unproved() -> None:
    with http_peer(service(info(deals=[deal()]))) as peer, closing(opened(peer.url)) as target:
        found = target.observe([ONE], Check.QUICK, "", QUIET).observations[ONE.root]
        assert {each.state.value for each in found.deals} == {"unproved"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Said(401, b"missing auth headers"), Denied),
        (Said(500, b"oops"), Transient),
        (Said(200, b"<html>"), Stalled),
        (Said(200, b"[]"), Stalled),
        (Said(302, b"", {"Location": "http://127.0.0.1:1/"}), Stalled),
    ],
    ids=["401", "500", "a page", "no receipts", "a redirect"],
)
def test_a_service_that_gives_no_answer_is_unknown(answer: Said, error: type[Exception]) -> None:
    with http_peer(lambda _: answer) as peer, closing(opened(peer.url)) as target:
        target._http._sleep = lambda _: None  # type: ignore[union-attr]
        with pytest.raises(error):
            target.observe([ONE], Check.QUICK, "", QUIET)
        findings = target.diagnose()
        assert [each.ok for each in findings if each.subject == "service"] == [False]
