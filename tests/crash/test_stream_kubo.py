"""A run that streams to a Kubo node or a cluster is killed: the next one reads only what the node lacks."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command_line import RUN
from tests.support.file_server import FileServer, file_server
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.peers_cluster import cluster
from tests.support.safetensors import safetensors

MIB = 1 << 20
SIZE = 64 * MIB
INDEX = """\
schema: 1
id: acme
defaults: {targets: [node]}
models:
  llm:
    format: safetensors
    license: Apache-2.0
    versions:
      "1.0.0": {source: "files:llm", created_at: "2026-05-01T00:00:00Z"}
"""


@dataclass(frozen=True)
class Place:
    """A target, and the node whose blocks it is."""

    target: str
    node: KuboNode


@pytest.fixture(
    params=[
        pytest.param("kubo", marks=pytest.mark.ipfs),
        pytest.param("cluster", marks=pytest.mark.ipfs_cluster),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "kubo":
        with kubo_node(tmp_path / "kubo") as node:
            yield Place(f'{{kind: kubo, api: "{node.url}"}}', node)
        return
    with cluster(tmp_path / "cluster") as (peer,):
        nodes = f'[{{api: "{peer.node.url}"}}]'
        yield Place(f'{{kind: ipfs-cluster, api: "{peer.rest}", nodes: {nodes}}}', peer.node)


def prepare(root: Path, server: FileServer, target: str) -> None:
    weights = server.root / "llm"
    weights.mkdir(parents=True)
    data = safetensors(os.urandom(SIZE))
    (weights / "model.safetensors").write_bytes(data)
    (weights / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  model.safetensors\n")
    (root / "releases").mkdir(parents=True)
    (root / "releases/index.yaml").write_text(INDEX)
    (root / "releases/sources.yaml").write_text(f'sources: {{files: {{kind: http, url: "{server.url}"}}}}\n')
    (root / "releases/targets.yaml").write_text(f"targets: {{node: {target}}}\n")


def settled_blocks(node: KuboNode, least: int) -> int:
    """Wait until the node has at least `least` blocks and gets no more; return their number."""
    deadline, found = time.monotonic() + 60, -1
    while found != (found := len(node.blocks())) or found < least:
        assert time.monotonic() < deadline, f"{found} blocks"
        time.sleep(0.5)
    return found


@pytest.mark.slow
def test_what_the_node_has_is_not_read_again_after_a_kill(tmp_path: Path, place: Place) -> None:
    root, node = tmp_path / "repository", place.node
    with file_server(tmp_path / "files") as server:
        prepare(root, server, place.target)
        blocks, pins = len(node.blocks()), node.pins()
        server.stops_after = 40 * MIB
        process = subprocess.Popen(RUN, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        has = settled_blocks(node, blocks + 8) - blocks
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert node.pins() == pins, "leaves have no pin"
        server.stops_after, server.sent = None, 0
        done = subprocess.run(RUN, cwd=root, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        most = SIZE - has * MIB + 2 * MIB  # one block is small, and headers are read again
        assert server.sent <= most, f"the node had {has} blocks"
        again = subprocess.run([*RUN, "--dry-run", "--check", "full", "--exit-code"], cwd=root, check=False)
        assert again.returncode == 0
