"""Measure Filecoin Onchain Cloud: the health of many pieces, and planning and sending a bundle of 20 GiB.

Health: 1,000 pieces in 10 data sets on a local chain, against 30 requests to the node and 2 seconds; figures
are shares of these limits. The chain is anvil with the contracts of the tests; without anvil, it is the chain
in memory, which shares our process.

Sending: one command identifies a sparse bundle without equal leaves and brings its 20 shards to two
providers. These hash what they receive, as they must to name it, and discard it; the second one pulls, which
moves nothing here.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measure import Figure, main, peak_memory, seconds
from reconciler.deals.json_rpc import JsonRpc
from reconciler.deals.onchain.health import judge_copy
from reconciler.deals.onchain.interface import CopyState, DataSetState
from tests.support.large_files import MIB
from tests.support.onchain.lab import onchain_lab
from tests.support.onchain.large_provider import large_provider
from tests.support.onchain.payer import Payer, addition_number, pieces
from tests.support.onchain.repository import ENVIRONMENT, RUN, write_repository
from tests.support.onchain.storage import OnchainStorage, onchain_storage

ANVIL = shutil.which("anvil") is not None
SETS, EACH, BATCH = 10, 100, 20
REQUESTS, SECONDS = 30, 2.0


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    """Measure health, sending, and the speed of hashing pieces against sending them."""
    yield from _health(quick)
    with onchain_storage(anvil=ANVIL, providers=2, make=large_provider) as cloud:
        yield from _sending(20 // (16 if quick else 1) or 1, cloud, scratch)
        yield from _hashing(1024 // (4 if quick else 1), cloud)


def _health(quick: bool) -> Iterator[Figure]:
    """Measure reading and judging every piece, with the block confirmed at the end."""
    with onchain_lab(anvil=ANVIL) as lab:
        payer = Payer(lab, funds=900 * 10**18)
        wanted = [pieces(EACH, first=number * EACH) for number in range(SETS)]
        for number, batch in enumerate(wanted):
            data_set = payer.create(1, batch[:BATCH], generation=number)
            for start in range(BATCH, EACH, BATCH):
                set_name, part = payer.set_name(1, number), batch[start : start + BATCH]
                extra = payer.signer().add_pieces(set_name, addition_number(set_name, part), part)
                lab.add(1, data_set, extra, part)
            lab.prove_period(1, data_set)
        asked: Counter[str] = Counter()
        _count_requests(asked)
        times = [seconds(lambda: _judge_all(payer, wanted)) for _ in range(2 if quick else 5)]
        requests = asked["requests"] / len(times)
        place = "anvil" if ANVIL else "in memory"
        detail = f"{statistics.median(times):.2f} s of {SECONDS:g} s, {place}"
        name = f"health of {SETS * EACH} pieces in {SETS} data sets"
        yield Figure(f"{name}: time, share of the limit", max(times) / SECONDS, maximum=1, detail=detail)
        detail = f"{requests:g} of {REQUESTS}"
        yield Figure(f"{name}: requests, share of the limit", requests / REQUESTS, maximum=1, detail=detail)
        payer.close()


def _judge_all(payer: Payer, wanted: list[Any]) -> None:
    view = payer.view()
    states = view.data_sets(view.data_set_ids(payer.key.address))
    found: Counter[CopyState] = Counter()
    for state, batch in zip(states.values(), wanted, strict=True):
        assert isinstance(state, DataSetState), state
        for piece in batch:
            copy = judge_copy(
                piece,
                state,
                payer=payer.key.address,
                service=view.contracts.service,
                head=view.block.number,
                period=view.proving.period,
            )
            found[copy.state] += 1
    view.confirm()
    assert found.total() == SETS * EACH
    assert found[CopyState.ABSENT] == 0


def _count_requests(asked: Counter[str]) -> None:
    """Count every request to a node from now on."""
    send = JsonRpc._post  # noqa: SLF001 - the one place through which requests go

    def counted(self: JsonRpc, body: object, limit: int) -> Any:
        asked["requests"] += 1
        return send(self, body, limit)

    JsonRpc._post = counted  # type: ignore[method-assign]  # noqa: SLF001


def _sending(gibibytes: int, cloud: OnchainStorage, scratch: Path) -> Iterator[Figure]:
    """Measure what one command reads, writes and keeps in memory until both providers have everything."""
    repository, places = scratch / "sending", (scratch / "cache", scratch / "tmp", scratch / "home")
    write_repository(repository, cloud.lab, {"weights.bin": gibibytes << 30})
    for place in places:
        place.mkdir()
    cache, temporary, home = map(str, places)
    own = ENVIRONMENT | {"RECONCILE_CACHE": cache, "TMPDIR": temporary, "HOME": home, "XDG_CACHE_HOME": home}
    before = _on_disk((*places, repository))
    with patch.dict("os.environ", own):
        began = time.perf_counter()
        peak, output = peak_memory(RUN_COUNTED, str(repository), "0")
    taken = time.perf_counter() - began
    anew, written, waited = map(float, output[-1].split())
    stored = [len(provider.pieces) for provider in cloud.providers.values()]
    assert stored[0] == stored[1], stored
    name, size = f"plan and send {gibibytes} GiB", gibibytes << 30
    received = sum(provider.received for provider in cloud.providers.values())  # type: ignore[attr-defined]
    detail = f"{stored[0]} pieces, two copies, {taken:.0f} s"
    yield Figure(f"{name}: bytes read anew / size", anew / size, maximum=2.02, detail=detail)
    yield Figure(f"{name}: bytes sent / size", received / size, maximum=1.001)
    yield Figure(f"{name}: peak memory", peak / MIB, "MiB", maximum=256)
    grown = _on_disk((*places, repository)) - before
    detail = f"{written / MIB:.1f} MiB written altogether"
    yield Figure(
        f"{name}: more on disk, cache and records",
        grown / MIB,
        "MiB",
        maximum=2,
        detail=detail,
    )
    yield Figure(f"{name}: share of time waiting for the hasher", waited / taken)


def _on_disk(places: Iterable[Path]) -> int:
    return sum(path.stat().st_blocks * 512 for place in places for path in place.rglob("*") if path.is_file())


def _hashing(mebibytes: int, cloud: OnchainStorage) -> Iterator[Figure]:
    """Measure hashing a piece against sending it to two providers that hash it, in a process of its own."""
    urls = [provider.url for provider in cloud.providers.values()]
    _, output = peak_memory(HASH_AND_SEND, str(mebibytes), *urls)
    ratio, sending, hashing = map(float, output[-1].split())
    detail = f"{mebibytes / hashing:.0f} MiB/s hashed, {2 * mebibytes / sending:.0f} MiB/s sent"
    name = f"hash {mebibytes} MiB as a piece / send it to two providers"
    yield Figure(f"{name}: time", ratio, maximum=1, detail=detail)


#: also prints the bytes that were read, but not what a thread read within 128 MiB after another one; the
#: bytes that the system says it wrote; and the seconds that it waited for the hasher of pieces
RUN_COUNTED = (
    """
import os, threading, time
from reconciler.content.piece_hash import PieceHasher

anew, waited, recent, lock = 0, 0.0, {}, threading.Lock()
HALF = 1 << 19

def reading(work):
    def call(descriptor, what, offset, *more):
        global anew
        found = work(descriptor, what, offset, *more)
        size = found if isinstance(found, int) else len(found)
        with lock:
            for block in range(offset // HALF, -(-(offset + size) // HALF)):
                anew += 0 if recent.pop(block, False) else min(HALF, size)
                recent[block] = True
                if len(recent) > 256:
                    del recent[next(iter(recent))]
        return found
    return call

def waiting(work):
    def call(*arguments):
        global waited
        began = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            waited += time.perf_counter() - began
    return call

os.pread, os.preadv = reading(os.pread), reading(os.preadv)
PieceHasher.update, PieceHasher.finish = waiting(PieceHasher.update), waiting(PieceHasher.finish)
"""
    + RUN
    + """
written = dict(line.split(":") for line in open("/proc/self/io"))["wchar"]
print(anew, int(written), waited)
"""
)

HASH_AND_SEND = """
import os, sys
from benchmarks.measure import in_turn
from reconciler.content.piece_hash import PieceHasher
from reconciler.deals.onchain.interface import EvmAddress, StorageProvider
from reconciler.net.response import UploadBody
from reconciler.targets.filecoin.provider import ProviderClient

count, chunk = int(sys.argv[1]), os.urandom(1 << 20)
no_account = EvmAddress(bytes(20))
clients = [
    ProviderClient(StorageProvider(number, no_account, no_account, "", url, True), public_only=False)
    for number, url in enumerate(sys.argv[2:], 1)
]

def chunks():
    return (chunk for _ in range(count))

def hashed():
    with PieceHasher() as hasher:
        for each in chunks():
            hasher.update(each)
        hasher.finish()

def sent():
    for client in clients:
        client.send(client.begin_upload(), UploadBody(count << 20, chunks))

timing = in_turn(sent, hashed, rounds=3)
print(timing.ratio, timing.subject, timing.baseline)
"""

if __name__ == "__main__":
    main(run)
