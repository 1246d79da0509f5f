"""Measure computing the piece CIDs of a directory against the piece hasher of the npm clients.

Our figure covers the whole pass: root CID, SHA256SUMS, the CAR, its CID and the piece CIDs. The clients of
Storacha and Filecoin Onchain Cloud use a Rust hasher as WASM, which only computes the piece CID of the file.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main, peak_memory, seconds
from reconciler.content.bundle import make_bundle
from reconciler.content.car import Sharding
from reconciler.content.identify import identify
from reconciler.content.piece_hash import make_engine
from reconciler.content.piece_tree import PieceEngine, StdlibEngine
from reconciler.content.pieces import MAX_PIECE, shard_pieces
from reconciler.content.scan import scan
from tests.support.npm_packages import PIECES, npm_packages

MIB = 1 << 20
SCRIPT = Path(__file__).parents[1] / "tests" / "support" / "hash_pieces.mjs"


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    """Measure both engines against the npm hasher: 2 GiB with the native one, an eighth with the other."""
    size = 2048 // (16 if quick else 1)
    large, small = scratch / "large", scratch / "small"
    _random(large, size)
    _random(small, max(size // 8, 16))
    engine = make_engine().name
    packages = npm_packages(PIECES)
    if packages is None:
        print("piece CIDs: not compared, because npm cannot install the hasher")
    elif engine == StdlibEngine.name:
        print("piece CIDs: the vectorised engine is not measured, its packages are not installed")
    else:
        yield _against(packages, "vectorised", large, make_engine, minimum=6)
    if engine != StdlibEngine.name:
        taken = seconds(lambda: _whole(large, make_engine))
        name = f"full pass of {size} MiB, {engine}"
        yield Figure(name, size * MIB / taken / 1e9, "GB/s", minimum=0.5 if "native" in engine else None)
    if packages is not None:
        yield _against(packages, "standard library", small, StdlibEngine, minimum=0.5)
    peak, output = peak_memory(_WHOLE, str(large))
    yield Figure(f"full pass of {size} MiB ({engine})", peak / MIB, "MiB", maximum=256, detail=output[-1])
    yield Figure("written to the disk meanwhile", int(output[0]) / MIB, "MiB", maximum=0.01)
    shutil.rmtree(large)


def _against(
    packages: Path, name: str, source: Path, engine: Callable[[], PieceEngine], minimum: float
) -> Figure:
    file = source / "weights.bin"
    size = file.stat().st_size

    def theirs() -> None:
        subprocess.run(["node", SCRIPT, packages, file, "wasm", str(size)], check=True, capture_output=True)

    timing = in_turn(lambda: _whole(source, engine), theirs, rounds=3)
    detail = f"{size / timing.subject / 1e9:.3f} GB/s against {size / timing.baseline / 1e9:.3f}"
    return Figure(
        f"full pass of {size // MIB} MiB, {name}, against npm", timing.ratio, minimum=minimum, detail=detail
    )


def _whole(source: Path, engine: Callable[[], PieceEngine]) -> None:
    dag = identify(make_bundle(scan(source, include_hidden=False), model="m", version="1.0.0"), cache=None)
    shard_pieces(dag, Sharding(MAX_PIECE), engine=engine)


def _random(root: Path, mebibytes: int) -> None:
    """Write one file of random bytes."""
    root.mkdir()
    with (root / "weights.bin").open("wb") as file, Path("/dev/urandom").open("rb") as chance:
        for _ in range(mebibytes):
            file.write(chance.read(MIB))


_WHOLE = """
import sys
from pathlib import Path
from reconciler.content.bundle import make_bundle
from reconciler.content.car import Sharding
from reconciler.content.identify import identify
from reconciler.content.pieces import MAX_PIECE, shard_pieces
from reconciler.content.scan import scan

listing = scan(Path(sys.argv[1]), include_hidden=False)
dag = identify(make_bundle(listing, model="m", version="1.0.0"), cache=None)
pieces = shard_pieces(dag, Sharding(MAX_PIECE))
io = Path("/proc/self/io")
print(io.read_text().split("wchar: ")[1].split()[0] if io.exists() else 0)
print(f"{len(pieces.shards)} pieces")
"""

if __name__ == "__main__":
    main(run)
