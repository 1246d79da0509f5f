"""Versions that only a Storacha space still serves are read through its gateway and kept elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.content.dag import Dag
from reconciler.errors import BlockUnavailableError, PeerError, Where
from reconciler.index.model import TargetSpec
from reconciler.loop.changes import OutcomeState
from reconciler.net.retry import RetryBudget
from reconciler.render.text import plan_text
from reconciler.targets.interface import RunTerms, UnsupportedError
from reconciler.targets.storacha.delegation import read_proof
from reconciler.targets.storacha.options import read_options
from reconciler.targets.storacha.target import StorachaTarget
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer
from tests.support.releases import Releases, states
from tests.support.shapes import bundle
from tests.targets.storacha.credentials import PROOF, SPACE
from tests.targets.storacha.test_storacha_bridge import service

AUTHORIZATION = "u" + base64.urlsafe_b64encode(read_proof(PROOF).car).decode().rstrip("=")
DAG = bundle("only there")


def blocks_of(dag: Dag) -> dict[str, bytes]:
    return {f"/ipfs/{dag.layout.cid(n)}?format=raw": dag.read(n) for n in range(len(dag.layout))}


class Space:
    """A space that lists one root, and a gateway whose blocks can be taken away or changed."""

    def __init__(self) -> None:
        self.blocks = blocks_of(DAG)
        self.bridge: HttpPeer | None = None
        self.gateway: HttpPeer | None = None
        self.opened: list[StorachaTarget] = []

    def listed(self, _can: str, _details: dict[str, Any]) -> dict[str, Any]:
        return {"ok": {"results": [{"root": {"/": str(DAG.layout.root)}, "shards": []}]}}

    def serve(self, asked: Asked) -> Said:
        assert asked.headers["accept"] == "application/vnd.ipld.raw"
        found = self.blocks.get(asked.target)
        return Said(404, b"gone") if found is None else Said(200, found)

    def target(self, **options: str) -> StorachaTarget:
        assert self.bridge is not None
        assert self.gateway is not None
        given = {
            "space": SPACE,
            "endpoint": self.bridge.url,
            "service": "did:web:up.example",
            "bridge_secret_env": "S",
            "bridge_auth_env": "A",
            "gateway": self.gateway.url,
        } | options
        spec = TargetSpec(
            "space", "storacha", {k: v for k, v in given.items() if v}, Where("targets.yaml", 2)
        )
        environ = {"S": "usecret", "A": AUTHORIZATION}
        terms = RunTerms(RetryBudget(0))
        made = StorachaTarget("space", read_options(spec, environ), environ, root=Path(), terms=terms)
        self.opened.append(made)
        return made


@pytest.fixture
def space() -> Iterator[Space]:
    made = Space()
    with http_peer(service(made.listed)) as bridge, http_peer(made.serve) as gateway:
        made.bridge, made.gateway = bridge, gateway
        yield made
        for target in made.opened:
            target.close()


def repository(root: Path, space: Space) -> Releases:
    releases = Releases(root, "store", "space")
    releases.memory["space"] = space.target()  # type: ignore[assignment]
    releases.add("m@1.0.0", cid=str(DAG.layout.root))
    return releases


def test_the_plan_names_the_space_as_the_source_and_the_run_fills_the_store(
    tmp_path: Path, space: Space
) -> None:
    releases = repository(tmp_path, space)
    assert "publish from space" in plan_text(releases.plan())
    releases.memory["space"] = space.target()  # type: ignore[assignment]
    report = releases.apply()
    assert [each[3] for each in states(report) if each[2] == "store"] == [OutcomeState.APPLIED]
    releases.memory["space"] = space.target()  # type: ignore[assignment]
    assert [change.target for change in releases.plan().changes] == []


def lose(blocks: dict[str, bytes]) -> None:
    blocks.pop(next(reversed(blocks)))


def change(blocks: dict[str, bytes]) -> None:
    last = next(reversed(blocks))
    blocks[last] = blocks[last][:-1] + b"?" if blocks[last] else b"?"


@pytest.mark.parametrize("damage", [lose, change])
def test_a_block_that_is_gone_or_wrong_fails_and_leaves_nothing(
    tmp_path: Path, space: Space, damage: Callable[[dict[str, bytes]], None]
) -> None:
    damage(space.blocks)
    releases = repository(tmp_path, space)
    report = releases.apply()
    assert [each[3] for each in states(report) if each[2] == "store"] == [OutcomeState.FAILED]
    assert not list(tmp_path.glob(".reconcile/store/cars/*.car"))


def test_inner_nodes_that_are_gone_and_a_gateway_that_is_down_are_clear_errors(space: Space) -> None:
    space.blocks.clear()
    with pytest.raises(BlockUnavailableError, match="undamaged"):
        space.target().dag(DAG.layout.root)
    with pytest.raises((BlockUnavailableError, PeerError)):
        space.target(gateway="http://127.0.0.1:9").dag(DAG.layout.root)


def test_without_a_gateway_a_space_serves_no_blocks(space: Space) -> None:
    target = space.target(gateway="")
    assert not target.capabilities.serves_blocks
    with pytest.raises(UnsupportedError):
        target.dag(DAG.layout.root)
