from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.errors import BundleError, SourceChangedError
from tests.support.plant import MIB, noise, plant

FILES = {"a": b"", "sub/w.bin": noise(3 * MIB + 9), "copy.bin": noise(2 * MIB), "small": b"x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", FILES)


@pytest.fixture
def dag(root: Path) -> DirectoryDag:
    return identify(make_bundle(scan(root, include_hidden=False), model="m", version="1.0.0"), cache=None)


def position_of(dag: DirectoryDag, data: bytes) -> int:
    digest = hashlib.sha256(data).digest()
    return next(p for p in range(len(dag.layout)) if dag.layout.cid(p).digest == digest)


def test_every_block_is_read_and_matches_its_cid(dag: DirectoryDag) -> None:
    for position, block in enumerate(dag.layout):
        data = dag.read(position)
        assert block.cid.matches(data)
        assert len(data) == block.size


def test_reading_from_many_threads_gives_the_same_blocks(dag: DirectoryDag) -> None:
    wanted = list(range(len(dag.layout))) * 20
    with ThreadPoolExecutor(8) as threads:
        for position, data in zip(wanted, threads.map(dag.read, wanted), strict=True):
            assert dag.layout.cid(position).matches(data)


def test_reading_keeps_no_file_open(dag: DirectoryDag) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for position in range(len(dag.layout)):
        dag.read(position)
    assert before is None or len(os.listdir("/proc/self/fd")) == before
    dag.close()
    dag.close()


def test_a_changed_leaf_names_the_file_and_the_offset(dag: DirectoryDag, root: Path) -> None:
    last = position_of(dag, FILES["sub/w.bin"][3 * MIB :])
    with (root / "sub/w.bin").open("r+b") as file:
        file.seek(3 * MIB + 8)
        file.write(b"?")
    with pytest.raises(
        SourceChangedError, match=r"'sub/w\.bin' changed after it was scanned \(at byte 3145728\)"
    ):
        dag.read(last)


def test_other_leaves_of_a_changed_file_are_still_read(dag: DirectoryDag, root: Path) -> None:
    third = position_of(dag, FILES["sub/w.bin"][2 * MIB : 3 * MIB])
    with (root / "sub/w.bin").open("ab") as file:
        file.write(b"more")
    assert dag.layout.cid(third).matches(dag.read(third))


@pytest.mark.parametrize("change", ["truncated", "removed", "link", "fifo", "directory"])
def test_a_replaced_or_removed_file_is_named(dag: DirectoryDag, root: Path, change: str) -> None:
    leaf = position_of(dag, FILES["sub/w.bin"][2 * MIB : 3 * MIB])
    path = root / "sub/w.bin"
    if change == "truncated":
        os.truncate(path, 2 * MIB + 1)
    else:
        path.unlink()
    if change == "link":
        path.symlink_to("/etc/passwd")
    elif change == "fifo":
        os.mkfifo(path)
    elif change == "directory":
        path.mkdir()
    with pytest.raises(SourceChangedError, match=r"'sub/w\.bin'"):
        dag.read(leaf)


def test_a_read_error_is_named(dag: DirectoryDag, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(BundleError, match="cannot read 'small': input/output error"):
        dag.read(position_of(dag, b"x"))


def test_generated_files_are_read_from_memory(dag: DirectoryDag, root: Path) -> None:
    sums = next(file for file in dag.identity.files if file.path == "SHA256SUMS")
    position = dag.layout.find(sums.cid)
    assert position is not None
    assert hashlib.sha256(dag.read(position)).hexdigest() == sums.sha256 == dag.identity.dirhash
    assert not (root / "SHA256SUMS").exists()


def test_a_single_small_file_is_one_raw_block(root: Path) -> None:
    dag = identify(bare_bundle(root / "small"), cache=None)
    assert (len(dag.layout), dag.read(0)) == (1, b"x")
    assert str(dag.identity.root).startswith("bafkrei")


def test_an_unverified_read_returns_the_present_bytes_in_full_length(root: Path, dag: DirectoryDag) -> None:
    for position in range(len(dag.layout)):
        assert dag.read_unverified(position) == dag.read(position)
    position = position_of(dag, FILES["sub/w.bin"][2 * MIB : 3 * MIB])
    with (root / "sub/w.bin").open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"other")
    assert dag.read_unverified(position).startswith(b"other")
    with pytest.raises(SourceChangedError, match=r"'sub/w.bin' changed .* \(at byte 2097152\)"):
        dag.read(position)
    os.truncate(root / "sub/w.bin", 2 * MIB + 7)
    with pytest.raises(SourceChangedError, match=r"'sub/w.bin' changed .* \(at byte 2097159\)"):
        dag.read_unverified(position)
