"""The next leaves of a body are hashed ahead, and the body is the same."""

from __future__ import annotations

import threading

import pytest

from reconciler.content import dagpb
from reconciler.content.cid import DAG_PB, RAW, Cid, hash_block
from reconciler.content.dagpb import PbLink
from reconciler.errors import BlockUnavailableError
from reconciler.gateway.read_ahead import AheadHasher, reading_ahead

LEAVES = [bytes((number,)) for number in range(30)]
CIDS = [hash_block(RAW, leaf) for leaf in LEAVES]
NODE = dagpb.encode([PbLink(b"", cid, 1) for cid in CIDS], b"")
ROOT = hash_block(DAG_PB, NODE)
BLOCKS = {ROOT: NODE} | dict(zip(CIDS, LEAVES, strict=True))


class Hashed:
    """The blocks that were hashed ahead; `done` is released once for each."""

    def __init__(self) -> None:
        self.cids: list[Cid] = []
        self.done = threading.Semaphore(0)

    def verify(self, cid: Cid) -> None:
        self.cids.append(cid)
        self.done.release()
        if cid == CIDS[5]:
            raise BlockUnavailableError("damaged")

    def wait(self, count: int) -> list[Cid]:
        for _ in range(count):
            assert self.done.acquire(timeout=60)
        return sorted(self.cids, key=CIDS.index)


@pytest.mark.parametrize("first", [0, 12])
def test_leaves_are_hashed_ahead_once(first: int) -> None:
    """Also in a body that begins in the middle; a damaged leaf is left to the body."""
    hashed = Hashed()
    hasher = AheadHasher(hashed.verify, 4)
    read = reading_ahead(BLOCKS.__getitem__, hasher)
    assert read(ROOT) == NODE
    assert read(CIDS[first]) == LEAVES[first]
    assert hashed.wait(3) == CIDS[first + 1 : first + 4]
    for number in range(first + 1, 30):
        assert read(CIDS[number]) == LEAVES[number]
        expected = min(number + 3, 29) - min(number + 2, 29)
        assert hashed.wait(expected) == CIDS[first + 1 : min(number + 4, 30)]
    hasher.close()


def test_two_cores_hash_nothing_ahead() -> None:
    hasher = AheadHasher(Hashed().verify, 2)
    assert reading_ahead(BLOCKS.__getitem__, hasher) == BLOCKS.__getitem__
    hasher.submit(ROOT)
    hasher.close()


def test_busy_threads_are_given_no_more() -> None:
    """What waits is bounded, whatever the number of bodies."""
    release, started = threading.Event(), []

    def verify(cid: Cid) -> None:
        started.append(cid)
        release.wait(60)

    hasher = AheadHasher(verify, 3)
    for cid in CIDS:
        hasher.submit(cid)
    release.set()
    hasher._pool.shutdown()
    assert len(started) == 6
