"""Cached digests are confirmed before they decide."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.content import hashing, source_file
from reconciler.content.bundle import Bundle, make_bundle
from reconciler.content.car_bundle import identify_car
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.export import export
from reconciler.content.identify import identify
from reconciler.content.identity_cache import IdentityCache
from reconciler.content.manifest import ReleaseInfo
from reconciler.content.scan import scan
from reconciler.errors import BundleError, SourceChangedError
from reconciler.progress import QUIET
from tests.support.plant import MIB, noise, plant
from tests.support.unnoticed import SIZE, cache_everything, write_unnoticed

BIG = noise(3 * MIB + 5, 7)


@pytest.fixture(autouse=True)
def _cached(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_everything(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", {"weights.bin": BIG, "zeros.bin": bytes(3 * MIB), "config.json": b"{}"})


def bundle_of(root: Path) -> Bundle:
    return make_bundle(scan(root, include_hidden=False), model="m", version="1.0.0")


def identified(root: Path, *, fresh: bool = False) -> DirectoryDag:
    return identify(bundle_of(root), cache=IdentityCache(root.parent / "cache"), fresh=fresh)


def read_all(dag: DirectoryDag) -> None:
    for position in range(len(dag.layout)):
        dag.read(position)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the spans of source files that were read by offset."""
    sizes: list[int] = []
    real = source_file.read_at

    def spy(descriptor: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return real(descriptor, size, offset)

    monkeypatch.setattr("reconciler.content.directory_dag.read_at", spy)
    return sizes


def test_a_fresh_identity_is_confirmed_without_reading(root: Path, counted: list[int]) -> None:
    dag = identified(root)
    assert not dag.cached
    dag.confirm()
    assert counted == []


def test_a_cached_identity_is_confirmed_by_reading_each_cached_leaf_once(
    root: Path, counted: list[int]
) -> None:
    identified(root)
    dag = identified(root)
    assert dag.cached == {"weights.bin", "zeros.bin"}
    dag.confirm()
    assert sum(counted) == 6 * MIB + 5
    counted.clear()
    dag.confirm()
    assert counted == []
    assert not dag.changed


def test_what_was_sent_is_confirmed_already(root: Path, counted: list[int]) -> None:
    """Except for leaves that share a block with one that was sent."""
    identified(root)
    dag = identified(root)
    read_all(dag)
    counted.clear()
    dag.confirm()
    assert sum(counted) == 2 * MIB


def test_what_a_receiver_hashed_is_confirmed_already(root: Path, counted: list[int]) -> None:
    (root / "zeros.bin").unlink()
    identified(root)
    dag = identified(root)
    dag.mark_verified(range(len(dag.layout)))
    dag.confirm()
    assert counted == []


@pytest.mark.parametrize("at", [0, MIB, 3 * MIB + 4])
def test_a_write_that_no_stamp_shows_is_found(root: Path, at: int) -> None:
    identified(root)
    changed = bytearray(BIG)
    changed[at] ^= 1
    write_unnoticed(root.parent / "cache", root / "weights.bin", bytes(changed))
    dag = identified(root)
    leaf = at // MIB * MIB
    with pytest.raises(SourceChangedError, match=rf"'weights\.bin' changed .*at byte {leaf}\)"):
        dag.confirm()
    assert dag.changed
    assert identified(root, fresh=True).layout.root == identify(bundle_of(root), cache=None).layout.root
    assert identified(root).layout.root != dag.layout.root  # the fresh digests replaced the entry


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_a_change_of_a_repeated_leaf_is_found_although_its_block_was_sent(root: Path, leaf: int) -> None:
    identified(root)
    write_unnoticed(
        root.parent / "cache", root / "zeros.bin", bytes(leaf * MIB) + b"1" + bytes(3 * MIB)[leaf * MIB + 1 :]
    )
    dag = identified(root)
    with pytest.raises(SourceChangedError, match=r"'zeros\.bin'"):
        read_all(dag)
        dag.confirm()


def truncate(path: Path) -> None:
    os.truncate(path, MIB)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("config.json")


@pytest.mark.parametrize("change", [truncate, append, Path.unlink, replace_by_link])
def test_a_file_that_is_no_longer_what_was_scanned_is_not_confirmed(
    root: Path, change: Callable[[Path], None]
) -> None:
    identified(root)
    dag = identified(root)
    change(root / "weights.bin")
    with pytest.raises(BundleError, match=r"'weights\.bin'"):
        dag.confirm()
    assert dag.changed


def test_a_read_error_is_a_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = identified(root)

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("reconciler.content.directory_dag.read_at", fail)
    with pytest.raises(BundleError, match="input/output error"):
        read_all(dag)
    assert dag.changed


def test_a_sum_is_not_refused_because_of_the_cache(root: Path) -> None:
    """SHA256SUMS lists what the file has now; the cache has the sum of what it had before."""
    identified(root)
    new = bytes(reversed(BIG))
    write_unnoticed(root.parent / "cache", root / "weights.bin", new)
    names = {"weights.bin": new, "zeros.bin": bytes(3 * MIB), "config.json": b"{}"}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(names.items()))
    (root / "SHA256SUMS").write_text(sums)
    assert identified(root).layout.root == identify(bundle_of(root), cache=None).layout.root


def test_large_sums_are_not_refused_because_of_the_cache(tmp_path: Path) -> None:
    """A SHA256SUMS that is large enough to be cached, and was rewritten unnoticed."""
    files: dict[str, bytes | None] = {f"{'n' * 200}{number}": b"x" for number in range(SIZE // 250)}
    root = plant(tmp_path / "root", files)
    digest = hashlib.sha256(b"x").hexdigest()
    lines = [f"{digest}  {name}\n" for name in sorted(files)]
    (root / "SHA256SUMS").write_text("".join(lines))
    assert (root / "SHA256SUMS").stat().st_size >= SIZE
    identified(root)
    write_unnoticed(tmp_path / "cache", root / "SHA256SUMS", "".join(reversed(lines)).encode())
    assert identified(root).layout.root == identify(bundle_of(root), cache=None).layout.root


def test_a_car_that_changes_after_it_was_identified_has_changed(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle.car"
    export(identify(bundle_of(root), cache=None), path)
    dag = identify_car(path, ReleaseInfo("m", "1.0.0", None, None), QUIET)
    assert not dag.changed
    path.write_bytes(path.read_bytes().replace(BIG[:64], bytes(64)))
    with pytest.raises(SourceChangedError, match="changed since it was opened"):
        for position in range(len(dag.layout)):
            dag.read(position)
    assert dag.changed
    dag.close()


@pytest.mark.parametrize("moment", range(1, 15))
def test_a_sum_is_that_of_the_bytes_whose_leaves_were_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The file changes at one read of the pass: a leaf differs later, or sum and leaves agree."""
    root = plant(tmp_path / "root", {"weights.bin": BIG})
    lock, reads = threading.Lock(), 0
    real = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal reads
        with lock:
            reads += 1
            if reads == moment:  # as through a memory map: the stamp stays
                before = os.stat(descriptor)
                with (root / "weights.bin").open("r+b") as file:
                    file.write(bytes(len(BIG)))
                os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
            return real(descriptor, buffers, offset)

    monkeypatch.setattr(source_file, "stamp_of", lambda status: None)
    monkeypatch.setattr(source_file, "_compare", lambda descriptor, file: None)
    monkeypatch.setattr(hashing.os, "preadv", preadv)
    dag = identify(bundle_of(root), cache=None)
    monkeypatch.undo()
    try:
        read_all(dag)
    except SourceChangedError:
        return
    (weights,) = (file for file in dag.identity.files if file.path == "weights.bin")
    assert weights.sha256 == hashlib.sha256((root / "weights.bin").read_bytes()).hexdigest()
