"""One version on a node, in a space and with a storage provider: each loses a part, the others repair it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.content.car import RootNaming, Sharding
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.loop.changes import OutcomeState
from reconciler.progress import QUIET, Progress
from reconciler.targets.interface import Check
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.memory_target import MemoryTarget
from tests.support.onchain.storage import OnchainStorage, onchain_storage
from tests.support.releases import Releases, Running, kinds, states
from tests.support.storacha_service import StorachaService
from tests.targets.storacha.subjects import opened

pytestmark = [pytest.mark.storacha, pytest.mark.slow]

MIB = 1 << 20
LIMIT = MIB + 5000  # bytes of a CAR: one leaf
LEAVES = [bytes([number]) * MIB for number in range(4)]
ALL = {"node", "space", "filecoin"}


class ThreeHomes(Releases):
    """A repository whose versions are on a node in memory or of Kubo, in a space and with one provider."""

    def __init__(self, root: Path, service: StorachaService, cloud: OnchainStorage) -> None:
        super().__init__(root, "node", "space", "filecoin")
        self.service, self.cloud = service, cloud

    @contextmanager
    def running(self, progress: Progress = QUIET, **settings: object) -> Iterator[Running]:
        filecoin = self.cloud.target(max_bytes=LIMIT)
        with opened(self.service, sharding=Sharding(LIMIT, RootNaming.LAST)) as space:
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
    with onchain_storage(providers=1) as cloud:
        releases = ThreeHomes(tmp_path, service, cloud)
        node = make_node(releases)
        # bytes of their own, because the service keeps what earlier tests sent
        weights = b"".join(LEAVES) + tmp_path.name.encode()
        releases.add("llm@1.0.0", {"model.safetensors": weights})
        assert {each[2] for each in states(releases.apply()) if each[3] is OutcomeState.APPLIED} >= ALL
        assert kinds(releases.plan(check=Check.FULL)) == []
        root, provider = releases.cid("llm@1.0.0"), cloud.providers[1]
        shutil.rmtree(releases.source("llm@1.0.0"))

        on_node = hash_block(RAW, LEAVES[1])
        node.lose(root, on_node)
        (with_provider,) = [piece for piece, data in provider.pieces.items() if LEAVES[2] in data]
        lost = provider.pieces.pop(with_provider)
        in_space = service.ask("_lose", {"root": str(root)})["shards"]
        time.sleep(1.02 - time.time() % 1)  # a service repeats its answer within one second

        plan = releases.plan(check=Check.FULL)
        assert sorted(kinds(plan)) == [("repair", "llm@1.0.0", name) for name in sorted(ALL)]
        report = releases.apply(check=Check.FULL)
        assert {each[2]: each[3] for each in states(report)} == dict.fromkeys(ALL, OutcomeState.APPLIED)

        assert node.read(root, on_node) == LEAVES[1]
        assert provider.pieces[with_provider] == lost
        assert set(provider.added.values()) == {1}, "what was lost is sent again, and nothing is paid again"
        with opened(service) as space:
            assert {str(car) for car in space._reader.uploads()[root].shards} == set(in_space)
        time.sleep(1.02 - time.time() % 1)
        assert kinds(releases.plan(check=Check.FULL)) == []
