"""A Storacha service on loopback: what a look at many versions costs, and how many requests it makes."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import Figure, main, seconds
from reconciler.content.car_shard import CarCid, CarShard, CutShards
from reconciler.content.cid import RAW, of
from reconciler.content.piece_cid import PieceCid
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.storacha.target import CUT
from tests.support.fault_proxy import FaultProxy
from tests.support.storacha_service import READS, StorachaService, packages, storacha_service
from tests.targets.storacha.subjects import opened

_TASKS = 50  # uploads added in one request


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """1,000 versions of three CARs each: one listing, and what the service says of every piece."""
    installed = packages()
    if installed is None:
        print("looking at a Storacha space: not measured, npm cannot bring the service")
        return
    versions = [_version(number) for number in range(1000 // (10 if quick else 1))]
    (directory / "service").mkdir()
    with storacha_service(installed, directory / "service") as service:
        _add(service, versions)
        port = int(service.url.rsplit(":", 1)[1])
        with (
            FaultProxy("127.0.0.1", port) as proxy,
            opened(service, reads=READS, endpoint=proxy.url) as target,
        ):

            def look() -> None:
                inventory = target.observe(versions, Check.QUICK, "", QUIET)
                assert {seen.state for seen in inventory.observations.values()} == {State.HELD}

            taken = seconds(look)
            requests = len(proxy.paths)
    pieces = 3 * len(versions)
    yield Figure(f"look at {len(versions)} versions, {pieces} pieces, in Storacha", taken, "s", maximum=5.0)
    yield Figure("requests for that", requests, "requests", maximum=2 + -(-pieces // 100))


def _version(number: int) -> Expected:
    shards = tuple(_shard(3 * number + part) for part in range(3))
    return Expected(of(RAW, number.to_bytes(8, "big")), ("label",), pieces=CutShards(CUT, shards))


def _shard(number: int) -> CarShard:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return CarShard(CarCid(digest), 1000, PieceCid(digest[:31] + b"\0", 4, 8))


def _add(service: StorachaService, versions: Sequence[Expected]) -> None:
    """Enter uploads over the bridge, as a client does after it stored the CARs."""
    keys = service.delegate(("upload/add",), secret="only for a benchmark")
    headers = {
        "X-Auth-Secret": keys.secret,
        "Authorization": keys.authorization,
        "Content-Type": "application/json",
    }
    for start in range(0, len(versions), _TASKS):
        tasks = [
            [
                "upload/add",
                service.space,
                {
                    "root": {"/": str(one.root)},
                    "shards": [{"/": str(each.cid)} for each in one.pieces.shards],
                },
            ]
            for one in versions[start : start + _TASKS]
            if one.pieces is not None
        ]
        body = json.dumps({"tasks": tasks}).encode()
        request = urllib.request.Request(f"{service.url}/bridge", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            receipts = json.load(answer)
        assert all("ok" in receipt["p"]["out"] for receipt in receipts), receipts[0]


if __name__ == "__main__":
    main(run)
