"""One version on a node, in a space and with a storage provider: each loses a part, the others repair it.

Each of three leaves is left in one place only, another one each, so every place is a source for both others.
"""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.content.car import MAX_SECTION_PREFIX, RootNaming, Sharding, decode_section_prefix
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.loop.changes import OutcomeState
from reconciler.progress import QUIET, Progress
from reconciler.targets.interface import Check
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.memory_target import MemoryTarget
from tests.support.onchain.storage import OnchainStorage, onchain_storage
from tests.support.releases import Releases, Running, kinds, states
from tests.support.storacha_service import StorachaService
from tests.targets.storacha.subjects import opened

pytestmark = [pytest.mark.storacha, pytest.mark.slow]

MIB = 1 << 20
LIMIT = MIB + 5000  # bytes of a CAR: one leaf
ALL = {"node", "space", "filecoin"}


class Gateway:
    """A gateway over the CARs that a space lists. `asked` are the CIDs of the blocks it was asked for."""

    def __init__(self, service: StorachaService) -> None:
        self.service = service
        self.url = ""
        self.blocks: dict[str, bytes] = {}
        self.asked: set[str] = set()

    def read(self, shards: Iterable[str]) -> Mapping[str, bytes]:
        """Serve the blocks of these CARs, and no others; return them."""
        self.blocks.clear()
        for shard in shards:
            with urllib.request.urlopen(f"{self.service.url}/blob/{shard}", timeout=60) as answer:
                data = answer.read()
            start = 1 + data[0]  # after the header
            while start < len(data):
                cid, prefix, size = decode_section_prefix(data[start : start + MAX_SECTION_PREFIX])
                self.blocks[str(cid)] = data[start + prefix : start + prefix + size]
                start += prefix + size
        return self.blocks

    def serve(self, asked: Asked) -> Said:
        """Answer a request for a block."""
        name = asked.target.removeprefix("/ipfs/").removesuffix("?format=raw")
        self.asked.add(name)
        return Said(200, self.blocks[name]) if name in self.blocks else Said(404, b"")


@contextmanager
def gateway_of(service: StorachaService) -> Iterator[Gateway]:
    """Run a gateway of the space of `service`."""
    gateway = Gateway(service)
    with http_peer(gateway.serve) as peer:
        gateway.url = peer.url
        yield gateway


class ThreeHomes(Releases):
    """A repository whose versions are on a node in memory or of Kubo, in a space and with one provider."""

    def __init__(self, root: Path, service: StorachaService, cloud: OnchainStorage, gateway: Gateway) -> None:
        super().__init__(root, "node", "space", "filecoin")
        self.service, self.cloud, self.gateway = service, cloud, gateway

    @contextmanager
    def running(self, progress: Progress = QUIET, **settings: object) -> Iterator[Running]:
        filecoin = self.cloud.target(max_bytes=LIMIT)
        split = Sharding(LIMIT, RootNaming.LAST)
        with opened(self.service, sharding=split, gateway=self.gateway.url) as space:
            self.memory |= {"filecoin": filecoin, "space": space}  # type: ignore[dict-item]
            with super().running(progress, **settings) as run:
                yield run


class MemoryNode:
    """A node in memory."""

    def __init__(self, releases: Releases) -> None:
        self.target = releases.memory["node"] = MemoryTarget("node")

    def lose(self, root: Cid, cid: Cid) -> None:
        self.target.lose(root, cid)

    def read(self, root: Cid, cid: Cid) -> bytes:
        return self.target.held[root].blocks[cid]


class RealNode:
    """A node of Kubo."""

    def __init__(self, releases: Releases, node: KuboNode) -> None:
        releases.specs["node"] = {"kind": "kubo", "api": node.url}
        self.node = node

    def lose(self, _root: Cid, cid: Cid) -> None:
        self.node.block_file(cid).unlink()

    def read(self, _root: Cid, cid: Cid) -> bytes:
        return self.node.block_file(cid).read_bytes()


def shards_of(service: StorachaService, root: Cid) -> list[str]:
    """The CARs that the space lists for a root."""
    with opened(service) as space:
        return [str(car) for car in space._reader.uploads()[root].shards]


MakeNode = Callable[[Releases], MemoryNode | RealNode]


@pytest.fixture(params=["memory", pytest.param("kubo", marks=pytest.mark.ipfs)])
def make_node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeNode]:
    if request.param == "memory":
        yield MemoryNode
        return
    with kubo_node(tmp_path / "kubo") as node:
        yield lambda releases: RealNode(releases, node)


def test_what_each_of_three_targets_lost_is_repaired_from_the_others(
    tmp_path: Path, service: StorachaService, make_node: MakeNode
) -> None:
    with onchain_storage(providers=1) as cloud, gateway_of(service) as gateway:
        releases = ThreeHomes(tmp_path, service, cloud, gateway)
        node = make_node(releases)
        # bytes of their own, because the service keeps what earlier tests sent
        leaves = [bytes([number]) * (MIB - 100) + tmp_path.name.encode().ljust(100) for number in range(4)]
        releases.add("llm@1.0.0", {"model.safetensors": b"".join(leaves)})
        assert {each[2] for each in states(releases.apply()) if each[3] is OutcomeState.APPLIED} >= ALL
        assert kinds(releases.plan(check=Check.FULL)) == []
        root, provider = releases.cid("llm@1.0.0"), cloud.providers[1]
        shutil.rmtree(releases.source("llm@1.0.0"))

        of_space, of_node, of_provider = (hash_block(RAW, leaf) for leaf in leaves[1:])
        for cid in (of_space, of_provider):
            node.lose(root, cid)
        lost = {
            piece: provider.pieces.pop(piece)
            for piece, data in list(provider.pieces.items())
            if leaves[1] in data or leaves[2] in data
        }
        assert len(lost) == 2
        in_space = shards_of(service, root)
        gone = [car for car in in_space if {str(of_node), str(of_provider)} & gateway.read([car]).keys()]
        service.ask("_lose", {"root": str(root), "lost": gone})
        assert len(gone) == 2
        assert str(of_space) in gateway.read(car for car in in_space if car not in gone)
        time.sleep(1.02 - time.time() % 1)  # a service repeats its answer within one second

        plan = releases.plan(check=Check.FULL)
        assert sorted(kinds(plan)) == [("repair", "llm@1.0.0", name) for name in sorted(ALL)]
        report = releases.apply(check=Check.FULL)
        assert {each[2]: each[3] for each in states(report)} == dict.fromkeys(ALL, OutcomeState.APPLIED)

        for cid, leaf in ((of_space, leaves[1]), (of_provider, leaves[3])):
            assert node.read(root, cid) == leaf
        assert str(of_space) in gateway.asked
        assert lost.items() <= provider.pieces.items()
        assert set(provider.added.values()) == {1}, "what was lost is sent again, and nothing is paid again"
        assert sorted(shards_of(service, root)) == sorted(in_space)
        gateway.read(in_space)
        time.sleep(1.02 - time.time() % 1)
        assert kinds(releases.plan(check=Check.FULL)) == []
