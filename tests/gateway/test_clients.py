"""Real clients read from `reconcile serve`: Helia, ipfs-car, curl and Kubo."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.content.cid import RAW
from tests.support.dags import MemoryDag, files_under, memory_dag
from tests.support.gateway import Served, keep, served
from tests.support.kubo_node import kubo_node
from tests.support.npm_packages import READERS, npm_packages
from tests.support.store_files import car_path, harm

MIB = 1 << 20
SCRIPT = Path(__file__).parents[1] / "support" / "verified_fetch.mjs"
SOURCE = {
    "config.json": b'{"layers": 2}\n',
    "weights": {"one.bin": bytes(range(256)) * (9 * MIB // 512), "two.bin": b"\x01" * 100},
    "many": {f"{number:04}.txt": b"%d" % number for number in range(5000)},  # a sharded directory
}


@pytest.fixture(scope="module")
def dag() -> MemoryDag:
    return memory_dag(SOURCE)


@pytest.fixture(scope="module")
def gateway(dag: MemoryDag, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("gateway")
    keep(home / "store", dag)
    with served(home, home / "store") as running:
        yield running


@pytest.fixture(scope="module")
def packages() -> Path:
    found = npm_packages(READERS)
    if found is None:
        pytest.skip("npm cannot install the clients")
    return found


def helia(
    packages: Path, gateway: Served, path: str, seconds: int = 30
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["node", SCRIPT, packages, gateway.url, f"ipfs://{path}", str(seconds)],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.node
def test_helia_fetches_and_verifies_files(packages: Path, gateway: Served, dag: MemoryDag) -> None:
    for path, data in (
        ("config.json", SOURCE["config.json"]),
        ("weights/one.bin", SOURCE["weights"]["one.bin"]),
        ("many/4711.txt", b"4711"),
    ):
        done = helia(packages, gateway, f"{dag.layout.root}/{path}")
        assert (done.returncode, done.stdout) == (0, data), done.stderr.decode()


@pytest.mark.node
@pytest.mark.slow
def test_helia_gets_an_error_for_a_damaged_block(packages: Path, tmp_path: Path) -> None:
    dag = memory_dag({"a.txt": b"sound", "b.txt": b"spoilt"})
    keep(tmp_path / "store", dag)
    position = next(n for n in range(len(dag.layout)) if dag.blocks[dag.layout.cid(n)] == b"spoilt")
    harm(car_path(tmp_path / "store", dag), dag.layout.data_start(position), b"S")
    with served(tmp_path, tmp_path / "store") as gateway:
        assert helia(packages, gateway, f"{dag.layout.root}/a.txt").stdout == b"sound"
        # Helia retries until it is stopped.
        done = helia(packages, gateway, f"{dag.layout.root}/b.txt", seconds=2)
        assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.node
@pytest.mark.slow
def test_ipfs_car_unpacks_what_curl_downloads(
    packages: Path, gateway: Served, dag: MemoryDag, tmp_path: Path
) -> None:
    car = tmp_path / "model.car"
    curl(f"{gateway.url}/ipfs/{dag.layout.root}?format=car", car)
    program = packages / "node_modules" / ".bin" / "ipfs-car"
    subprocess.run(
        ["node", program, "unpack", car, "--output", tmp_path / "out"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert files_under(tmp_path / "out") == SOURCE
    listed = subprocess.run(
        ["node", program, "blocks", car], check=True, capture_output=True, text=True, timeout=120
    )
    assert listed.stdout.split() == [str(block.cid) for block in dag.layout]


@pytest.mark.ipfs
@pytest.mark.slow
def test_kubo_imports_what_curl_downloads(gateway: Served, dag: MemoryDag, tmp_path: Path) -> None:
    car = tmp_path / "model.car"
    curl(f"{gateway.url}/ipfs/{dag.layout.root}?format=car", car)
    with kubo_node(tmp_path / "node") as node:
        assert str(dag.layout.root) in node.run("dag", "import", str(car))
        assert str(dag.layout.root) in node.run("pin", "ls", "--type=recursive", "--quiet")
        node.run("get", "-o", str(tmp_path / "out"), f"/ipfs/{dag.layout.root}")
    assert files_under(tmp_path / "out") == SOURCE


@pytest.mark.ipfs
def test_kubo_takes_single_blocks(gateway: Served, dag: MemoryDag, tmp_path: Path) -> None:
    leaf = next(block.cid for block in dag.layout if block.cid.codec == RAW)
    block = tmp_path / "block"
    curl(f"{gateway.url}/ipfs/{leaf}?format=raw", block)
    with kubo_node(tmp_path / "node") as node:
        assert node.run("block", "put", "--cid-codec=raw", str(block)) == str(leaf)


def curl(url: str, destination: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl not on PATH")
    subprocess.run(["curl", "-sS", "--fail", "-o", destination, url], check=True, timeout=60)
