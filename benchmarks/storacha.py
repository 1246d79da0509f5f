"""Measure a plan over many versions in a Storacha service on loopback, against the same requests alone."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.loop import git
from benchmarks.measure import Figure, in_turn, main, seconds
from reconciler.content.car import CarCid, CarShard, ShardedCar, sharding_overhead
from reconciler.content.cid import RAW, hash_block
from reconciler.content.piece_cid import PieceCid, parse
from reconciler.deals.chain import MAINNET
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Record
from reconciler.index.records import records_written
from reconciler.loop.run import make_plan
from reconciler.loop.settings import RunOptions, Scope
from reconciler.loop.workspace import load
from reconciler.progress import QUIET
from reconciler.targets.storacha.reader import BATCH
from reconciler.targets.storacha.target import CLIENT_SHARDING
from tests.support.fake_lotus import FakeLotus, fake_lotus
from tests.support.fault_proxy import FaultProxy
from tests.support.storacha_service import READS, Delegation, StorachaService, packages, storacha_service

_TASKS = 50  # uploads added in one request
_AGGREGATE = 100  # pieces
_SHARD = 500  # bytes
_AT_ONCE = 4  # requests


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Plan 1,000 versions of three CARs each, all with deals: a first plan, and one later that day."""
    installed = packages()
    if installed is None:
        print("a plan over a Storacha space: not measured, because npm cannot install the service")
        return
    records = [_record(number) for number in range(1000 // (10 if quick else 1))]
    pieces = [shard for record in records for shard in record.pieces[0].shards]
    (directory / "service").mkdir()
    with storacha_service(installed, directory / "service") as service, fake_lotus(head=_head()) as lotus:
        _fill(service, lotus, records, pieces)
        keys = service.delegate(READS, secret="only for a benchmark")
        environ = {"SECRET": keys.secret, "AUTH": keys.authorization}
        port = int(service.url.rsplit(":", 1)[1])
        with FaultProxy("127.0.0.1", port) as proxy:
            place = (service, proxy.url, lotus.url, records)
            wanting = _repository(directory / "with a policy", *place, policy="{deals: {min: 1}}")
            content = _repository(directory / "without", *place, policy=None)

            def plan(layout: RepositoryLayout, *, remembers: bool) -> None:
                with load(Scope(layout, use_cache=remembers), environ, QUIET) as workspace:
                    found = make_plan(workspace, RunOptions())
                    if found.in_sync != len(records) or found.notes:
                        raise RuntimeError(f"not all is in order: {found.notes or found.changes[:1]}")

            timing = in_turn(
                lambda: plan(wanting, remembers=False), lambda: _replay(service, keys, pieces), rounds=2
            )
            listed = seconds(lambda: plan(content, remembers=False))
            before = len(proxy.paths)
            plan(wanting, remembers=True)
            first = len(proxy.paths) - before
            asked = len(lotus.asked)
            again = seconds(lambda: plan(wanting, remembers=True))
            requests = len(proxy.paths) - before - first
            calls = len(lotus.asked) - asked
    most = 3 + -(-len(pieces) // _AGGREGATE)  # two pages of the listing, the head of the chain, the deals
    yield Figure(
        f"plan of {len(records)} versions, {len(pieces)} pieces, no policy", listed, "s", maximum=5.0
    )
    yield Figure(
        "the first plan with a policy, against its bare requests",
        timing.ratio,
        minimum=0.8,
        detail=f"{timing.subject:.1f} s against {timing.baseline:.1f} s",
    )
    yield Figure("requests for that", first, "requests", maximum=2 + -(-len(pieces) // BATCH))
    yield Figure("the next plan, deals confirmed on the chain", again, "s", maximum=5.0)
    yield Figure("requests for that, and calls of the chain", requests + calls, "requests", maximum=most)


def _record(number: int) -> Record:
    shards = tuple(_shard(3 * number + part) for part in range(3))
    car_size = 3 * _SHARD - sharding_overhead(CLIENT_SHARDING, 3)
    return Record(
        model=f"model-{number // 10:03}",
        version=f"1.{number % 10}.0",
        cid=hash_block(RAW, number.to_bytes(8, "big")),
        size=_SHARD,
        files=1,
        blocks=1,
        block_bytes=_SHARD,
        car_size=car_size,
        dirhash=hashlib.sha256(number.to_bytes(8, "big")).hexdigest(),
        profile="unixfs-v1-2025",
        pieces=(ShardedCar(CLIENT_SHARDING, shards),),
    )


def _shard(number: int) -> CarShard:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return CarShard(CarCid(digest), _SHARD, PieceCid(digest[:31] + b"\0", 4, 508 - _SHARD))


def _head() -> int:
    return MAINNET.epoch(datetime.now(UTC))


def _fill(
    service: StorachaService, lotus: FakeLotus, records: Sequence[Record], shards: Sequence[CarShard]
) -> None:
    """Register all CARs and deals with the service, without uploading bytes.

    Uploads are registered over the bridge, as a client does, and aggregates and deals directly.
    """
    keys = service.delegate(("upload/add",), secret="only for a benchmark")
    tasks = [
        [
            "upload/add",
            service.space,
            {
                "root": {"/": str(record.cid)},
                "shards": [{"/": str(each.cid)} for each in record.pieces[0].shards],
            },
        ]
        for record in records
    ]
    for start in range(0, len(tasks), _TASKS):
        receipts = json.loads(_ask(service, keys, tasks[start : start + _TASKS]))
        if any("ok" not in receipt["p"]["out"] for receipt in receipts):
            raise RuntimeError(receipts[0])
    for start in range(0, len(shards), _AGGREGATE):
        some = shards[start : start + _AGGREGATE]
        service.ask("_filecoin/aggregate", {"taken": [[str(each.piece), str(each.cid)] for each in some]})
    state = service.ask("_filecoin/deal", {"provider": "f03144037", "dealId": 7_700_001})
    for deal in state["deals"]:
        lotus.add_deal(deal["dealId"], parse(deal["aggregate"]), deal["provider"])


def _replay(service: StorachaService, keys: Delegation, shards: Sequence[CarShard]) -> None:
    """Send the requests of a plan to the service, with the same concurrency, and discard the responses."""
    questions = [["filecoin/info", service.space, {"piece": {"/": str(each.piece)}}] for each in shards]
    batches = [questions[start : start + BATCH] for start in range(0, len(questions), BATCH)]
    _ask(service, keys, [["upload/list", service.space, {"size": 1000}]])
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(lambda tasks: _ask(service, keys, tasks), batches))


def _ask(service: StorachaService, keys: Delegation, tasks: Sequence[object]) -> bytes:
    headers = {
        "X-Auth-Secret": keys.secret,
        "Authorization": keys.authorization,
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(f"{service.url}/bridge", json.dumps({"tasks": tasks}).encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return bytes(answer.read())


def _repository(
    root: Path,
    service: StorachaService,
    endpoint: str,
    rpc: str,
    records: Sequence[Record],
    *,
    policy: str | None,
) -> RepositoryLayout:
    """Create a repository whose versions all have CIDs and records."""
    lines = ["schema: 1", "id: bench", "defaults: {targets: [space]}"]
    lines += [*([f"policy: {policy}"] if policy else []), "models:"]
    releases = root / "releases"
    for record in records:
        if record.version == "1.0.0":
            lines += [f"  {record.model}:", "    versions:"]
        lines.append(f'      "{record.version}": {{cid: {record.cid}}}')
    with records_written(releases / "records", records):
        pass
    (releases / "index.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (releases / "targets.yaml").write_text(
        f"targets:\n  space: {{kind: storacha, space: '{service.space}', endpoint: '{endpoint}', "
        f"service: '{service.did}', bridge_secret_env: SECRET, bridge_auth_env: AUTH, rpc: '{rpc}'}}\n",
        encoding="utf-8",
    )
    layout = RepositoryLayout(root, releases / "index.yaml", releases / "targets.yaml", root)
    layout.make_state()
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Release")
    return layout


if __name__ == "__main__":
    main(run)
