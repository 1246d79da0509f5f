"""Kubo with the same profile: `ipfs add -r` gives our roots, and its CARs equal ours byte for byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.content.car_dag import open_car
from reconciler.content.profile import CHUNK_SIZE, MAX_LINKS
from reconciler.content.unixfs_tree import file_tree
from reconciler.progress import QUIET
from tests.support.dags import Blocks, Source, car_bytes, files_under, memory_dag
from tests.support.unpack import unpack

pytestmark = pytest.mark.ipfs

CASES: dict[str, Source] = {
    "empty directory": {},
    "one byte": b"x",
    "empty file": b"",
    "exactly one chunk": bytes(CHUNK_SIZE),
    "three MiB": bytes(range(256)) * (3 * CHUNK_SIZE // 256),
    "nested": {
        "config.json": b"{}",
        "none": {},
        "a": {"b": {"weights.bin": b"w" * (2 * CHUNK_SIZE + 1), "copy.bin": b"w" * (2 * CHUNK_SIZE + 1)}},
        "ąż 模型": b"unicode",
        "empty": b"",
    },
    "6,000 small files": {f"file-{i:05}.txt": b"%d\n" % i for i in range(6000)},
    "4,900 names of 14 characters": {f"{i:014}": b"x" for i in range(4900)},
    "long names": {f"{i:0200}": b"" for i in range(1500)},
}
LONG = ("6,000 small files", "4,900 names of 14 characters")


@pytest.fixture(scope="module")
def ipfs(tmp_path_factory):
    """Runs `ipfs` offline on a repository of its own, without a daemon."""
    environment = {**os.environ, "IPFS_PATH": str(tmp_path_factory.mktemp("ipfs") / "repo")}

    def run(*arguments: str | Path, **options) -> bytes:
        command = ["ipfs", *map(str, arguments)]
        return subprocess.run(command, env=environment, check=True, capture_output=True, **options).stdout

    run("init", "--profile", "test,unixfs-v1-2025")
    return run


def write(path: Path, source: Source) -> Path:
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        path.mkdir()
        for name, child in source.items():
            write(path / name, child)
    return path


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in LONG else case for case in CASES],
)
def test_kubo_gives_the_same_root(ipfs, tmp_path, case):
    written = write(tmp_path / "source", CASES[case])

    root = ipfs("add", "-r", "-Q", "--only-hash", written).decode().strip()

    assert str(Blocks().pack(CASES[case]).cid) == root


@pytest.mark.slow
def test_kubo_gives_the_same_root_for_a_file_of_two_levels(ipfs, tmp_path):
    size = MAX_LINKS * CHUNK_SIZE + 1
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
    leaves = hashlib.sha256(bytes(CHUNK_SIZE)).digest() * MAX_LINKS + hashlib.sha256(b"\0").digest()

    root = ipfs("add", "-Q", "--only-hash", tmp_path / "sparse").decode().strip()

    assert str(file_tree(size, leaves).cid) == root


@pytest.mark.parametrize(
    "case",
    ["nested", "three MiB", "empty file", pytest.param("6,000 small files", marks=pytest.mark.slow)],
)
def test_a_car_exported_by_kubo_is_our_layout_byte_for_byte_and_unpacks_to_the_source(ipfs, tmp_path, case):
    written = write(tmp_path / "source", CASES[case])
    root = ipfs("add", "-r", "-Q", written).decode().strip()
    exported = ipfs("dag", "export", "--progress=false", root)
    (tmp_path / "kubo.car").write_bytes(exported)

    with open_car(tmp_path / "kubo.car", QUIET) as dag:
        ours = car_bytes(dag.layout.root, ((block.cid, dag.read(p)) for p, block in enumerate(dag.layout)))
        unpack(dag, tmp_path / "out")

    assert ours == exported
    assert files_under(tmp_path / "out") == CASES[case]


def test_kubo_imports_our_blocks_and_gives_back_the_files(ipfs, tmp_path):
    dag = memory_dag(CASES["nested"])
    car = car_bytes(dag.layout.root, ((block.cid, dag.read(p)) for p, block in enumerate(dag.layout)))

    ipfs("dag", "import", "--pin-roots=false", input=car)
    ipfs("get", "-o", tmp_path / "out", str(dag.layout.root))

    assert files_under(tmp_path / "out") == CASES["nested"]
