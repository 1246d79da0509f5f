"""A bundle of 688 GB: the plan predicts the calls, signatures, requests and money of 647 pieces, twice.

The tree, the shards and everything that is said, signed and counted have their real size and number. Only the
bytes are simulated: a shard is sent as the text of a made-up piece CID, and the provider reads it from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from reconciler.content.car import CarCid, CarShard, ShardSpan
from reconciler.content.dag import Dag
from reconciler.content.piece_cid import PieceCid, capacity, height_for
from reconciler.content.pieces import MAX_PIECE
from reconciler.content.profile import CHUNK_SIZE
from reconciler.content.unixfs_tree import file_tree
from reconciler.content.walk import walk
from reconciler.net.response import UploadBody
from reconciler.targets.filecoin import send
from reconciler.targets.filecoin.provider import ProviderClient
from tests.support.onchain.payer import piece
from tests.support.onchain.storage import OnchainStorage
from tests.targets.filecoin.test_costs import Signatures, check_run, signed

__all__ = ["signed"]  # a fixture

SIZE = 688_600_000_000
_SENT = 200  # bytes that stand for those of a shard


class SimulatedDag:
    """A file of `size` bytes whose leaves have made-up digests; they cannot be read."""

    def __init__(self, size: int) -> None:
        count = -(-size // CHUNK_SIZE)
        tree = file_tree(
            size, b"".join(hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(count))
        )
        self.layout = walk(tree.cid, tree.blocks.__getitem__).layout

    def read(self, position: int) -> bytes:
        """Fail: nothing may need the bytes."""
        raise AssertionError(f"block {position} was read")

    def close(self) -> None:
        """Do nothing."""


class SimulatedShard:
    """Stands for HashedShard: the text of a piece CID of the right size, once."""

    def __init__(self, _: Dag, span: ShardSpan) -> None:
        height = height_for(span.size)
        made_up = PieceCid(piece(span.first).root, height, capacity(height) - span.size)
        self.shard = CarShard(CarCid(piece(span.first + 1).root), span.size, made_up)

    def __iter__(self) -> Iterator[bytes]:
        yield str(self.shard.piece).encode().ljust(_SENT)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, cloud: OnchainStorage) -> None:
    """Nothing reads, hashes or sends the bytes of shards."""

    def put(self: ProviderClient, place: str, body: UploadBody) -> None:
        short = UploadBody(_SENT, body.pieces)
        self._http.request("PUT", place, repeatable=False, content=short, expect=(204,))

    monkeypatch.setattr(send, "HashedShard", SimulatedShard)
    monkeypatch.setattr(ProviderClient, "send", put)

    def named(data: Any) -> str:
        return bytes(data).decode().strip()

    for provider in cloud.providers.values():
        monkeypatch.setattr(provider, "hash", named)


@pytest.mark.slow
@pytest.mark.usefixtures("simulated")
def test_the_plan_of_688_gb_is_what_the_run_does(cloud: OnchainStorage, signed: Signatures) -> None:
    dag = SimulatedDag(SIZE)
    quote = check_run(cloud, cloud.target(copies=2), [dag], signed)
    shards = -(-dag.layout.car_size // MAX_PIECE)
    assert shards == 647
    assert quote.transactions == 2 * 17
    assert quote.signatures == (17 + 1) + 2 * (17 + 1), "the pulls of the second copy are signed as well"
    assert quote.requests == (647 * 3 + 17) + (17 + 17), "the second copy is pulled"
    assert (round(quote.once, 2), round(quote.monthly, 2)) == (Decimal("0.46"), Decimal("3.18"))
    assert sum(cloud.stored.values()) == 647
    assert [len(added) for added in cloud.added.values() if added] == [647, 647]
