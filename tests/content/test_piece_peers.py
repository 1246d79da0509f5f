"""Piece CIDs equal those of the Filecoin clients, at every edge of a power of two from 65 bytes to 64 MiB."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from reconciler.content import piece_cid
from reconciler.content.piece_lanes import LanesEngine
from reconciler.content.piece_tree import StdlibEngine
from tests.support.npm_packages import PIECES, npm_packages
from tests.support.pieces import piece_of

MIB = 1 << 20
SCRIPT = Path(__file__).parents[1] / "support" / "hash_pieces.mjs"
AROUND = [base + delta for n in range(7, 27) for base in (1 << n, 127 << (n - 7)) for delta in (-1, 0, 1)]
EDGES = sorted({65, 66, *(size for size in AROUND if 65 <= size <= 64 * MIB + 1)})
SMALL = [size for size in EDGES if size <= 2 * MIB + 1]


@pytest.fixture(scope="session")
def packages() -> Path:
    found = npm_packages(PIECES)
    if found is None:
        pytest.skip("npm cannot bring the piece hashers")
    return found


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pieces") / "data"
    chance = random.Random(64)
    with file.open("wb") as stream:
        for _ in range(65):
            stream.write(chance.randbytes(MIB))
    return file


def theirs(packages: Path, data: Path, engine: str, sizes: list[int]) -> list[str]:
    done = subprocess.run(
        ["node", SCRIPT, packages, data, engine, *map(str, sizes)],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return [str(piece_cid.decode(bytes.fromhex(line))) for line in done.stdout.split()]


def ours(data: Path, sizes: list[int], engine: type) -> list[str]:
    whole = memoryview(data.read_bytes())
    return [str(piece_of([whole[:size]], engine)) for size in sizes]  # type: ignore[list-item]


@pytest.mark.node
def test_pieces_up_to_2_mib_are_those_of_the_clients(packages: Path, data: Path) -> None:
    mine = ours(data, SMALL, LanesEngine)
    assert mine == theirs(packages, data, "wasm", SMALL)
    few = [size for size in SMALL if size <= 1 << 18]
    assert mine[: len(few)] == theirs(packages, data, "js", few) == ours(data, few, StdlibEngine)


@pytest.mark.node
@pytest.mark.slow
def test_every_edge_up_to_64_mib_is_that_of_the_clients(packages: Path, data: Path) -> None:
    mine = ours(data, EDGES, LanesEngine)
    assert mine == theirs(packages, data, "wasm", EDGES)
    assert mine[-1] == ours(data, EDGES[-1:], StdlibEngine)[0]


@pytest.mark.node
@pytest.mark.slow
def test_large_edges_are_those_of_the_client_in_javascript(packages: Path, data: Path) -> None:
    large = [8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 127 << 16, (127 << 16) + 1, 64 * MIB]
    assert ours(data, large, LanesEngine) == theirs(packages, data, "js", large)
