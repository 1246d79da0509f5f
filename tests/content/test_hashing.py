"""Files that change while they are hashed; a progress callback in the hashing thread selects the moment."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from reconciler.content import hashing, workers
from reconciler.content.hashing import FileDigests, hash_files
from reconciler.content.scan import SourceFile, scan
from reconciler.errors import BundleError, ReconcilerError, SourceChangedError
from tests.support.plant import MIB, noise, plant


class Counter:
    """A task that counts bytes, and calls `at` once after `after` bytes."""

    def __init__(self, after: int = 0, at: Callable[[], object] = lambda: None) -> None:
        self.bytes = 0
        self._after = after
        self._at = at
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            before, self.bytes = self.bytes, self.bytes + amount
            if before < self._after <= self.bytes:
                self._at()

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def digests_of(root: Path, *, sums: bool = True, task: Counter | None = None) -> dict[str, FileDigests]:
    listing = scan(root, include_hidden=False)
    found: dict[str, FileDigests] = {}

    def done(file: SourceFile, digests: FileDigests) -> None:
        assert file.path not in found
        found[file.path] = digests

    hash_files(listing, listing.files, sums=sums, task=task or Counter(), done=done)
    return found


def leaves_of(data: bytes) -> bytes:
    starts = range(0, max(1, len(data)), MIB)
    return b"".join(hashlib.sha256(data[start : start + MIB]).digest() for start in starts)


SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 16 * MIB, 16 * MIB + 1, 33 * MIB + 7]


@pytest.mark.parametrize("sums", [True, False])
def test_digests_are_those_of_the_bytes(tmp_path: Path, sums: bool) -> None:
    contents = {f"{size}": noise(size, seed) for seed, size in enumerate(SIZES)}
    plant(tmp_path, contents)
    counter = Counter()
    found = digests_of(tmp_path, sums=sums, task=counter)
    assert {path: digests.leaves for path, digests in found.items()} == {
        path: leaves_of(data) for path, data in contents.items()
    }
    if sums:
        assert {path: digests.sha256 for path, digests in found.items()} == {
            path: hashlib.sha256(data).digest() for path, data in contents.items()
        }
    assert counter.bytes == sum(SIZES)


def test_many_files_of_every_size_are_each_done_once(tmp_path: Path) -> None:
    contents = {f"{number}": noise(number * 9973 % (3 * MIB), number) for number in range(120)}
    found = digests_of(plant(tmp_path, contents))
    assert {path: digests.sha256 for path, digests in found.items()} == {
        path: hashlib.sha256(data).digest() for path, data in contents.items()
    }


QUICK = ((1, 64, True), (2, 1, False), (7, 1, True))


@pytest.mark.parametrize(
    ("threads", "lead", "parallel"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in product((1, 2, 7), (1, 64), (True, False))
    ],
)
def test_any_number_of_threads_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, lead: int, parallel: bool
) -> None:
    """Also where no thread may be ahead of the owner of a file by more than a leaf."""
    monkeypatch.setattr(hashing, "_MAX_LEAD", lead)
    monkeypatch.setattr(workers, "threads_for", lambda _: threads)
    monkeypatch.setattr(workers, "reads_in_parallel", lambda _: parallel)
    contents = {f"{number}": noise((5 if number else 20) * MIB + number, number) for number in range(4)}
    contents |= {f"small {number}": noise(number * 9973, number) for number in range(20)}
    found = digests_of(plant(tmp_path, contents))
    assert {path: digests.sha256 for path, digests in found.items()} == {
        path: hashlib.sha256(data).digest() for path, data in contents.items()
    }
    assert {path: digests.leaves for path, digests in found.items()} == {
        path: leaves_of(data) for path, data in contents.items()
    }


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"other")


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)


def swap_for(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def swap(path: Path) -> None:
        path.unlink()
        make(path)

    return swap


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": append,
    "is truncated": lambda path: os.truncate(path, 3 * MIB),
    "is emptied": lambda path: os.truncate(path, 0),
    "is rewritten": rewrite,
}
SWAPS: dict[str, Callable[[Path], object]] = {
    "is replaced by a copy": replace,
    "is removed": Path.unlink,
    "becomes a link": swap_for(lambda path: path.symlink_to("/etc/passwd")),
    "becomes a FIFO": swap_for(os.mkfifo),
    "becomes a directory": swap_for(Path.mkdir),
}


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_while_it_is_hashed_is_named(
    tmp_path: Path, change: Callable[[Path], object], sums: bool
) -> None:
    plant(tmp_path, {"weights.bin": noise(40 * MIB)})
    with pytest.raises(SourceChangedError, match=r"'weights\.bin'"):
        digests_of(tmp_path, sums=sums, task=Counter(MIB, lambda: change(tmp_path / "weights.bin")))


@pytest.mark.parametrize("size", [100, 3 * MIB])
@pytest.mark.parametrize("change", (CHANGES | SWAPS).values(), ids=CHANGES | SWAPS)
def test_a_file_that_changed_between_scan_and_pass_is_named(
    tmp_path: Path, change: Callable[[Path], object], size: int
) -> None:
    plant(tmp_path, {"d/weights.bin": noise(size)})
    listing = scan(tmp_path, include_hidden=False)
    (tmp_path / "d/weights.bin").unlink()
    plant(tmp_path, {"d/weights.bin": noise(8 * MIB)})
    change(tmp_path / "d/weights.bin")
    done: list[SourceFile] = []
    with pytest.raises(SourceChangedError, match=r"'d/weights\.bin'"):
        hash_files(listing, listing.files, sums=True, task=Counter(), done=lambda file, _: done.append(file))
    assert done == []


def test_a_directory_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    """No byte of the file behind the link is read."""
    plant(tmp_path / "root", {"d/weights.bin": b"ours"})
    plant(tmp_path / "outside", {"weights.bin": b"else"})
    listing = scan(tmp_path / "root", include_hidden=False)
    (tmp_path / "root/d").rename(tmp_path / "moved")
    (tmp_path / "root/d").symlink_to(tmp_path / "outside")
    counter = Counter()
    with pytest.raises(SourceChangedError):
        hash_files(listing, listing.files, sums=True, task=counter, done=lambda file, digests: None)
    assert counter.bytes == 0


def test_one_failure_stops_the_other_thread_too(tmp_path: Path) -> None:
    plant(tmp_path, {f"{number}": noise(8 * MIB, number) for number in range(12)})
    listing = scan(tmp_path, include_hidden=False)
    (tmp_path / listing.files[0].path).unlink()
    counter = Counter()
    with pytest.raises(SourceChangedError):
        hash_files(listing, listing.files, sums=True, task=counter, done=lambda file, digests: None)
    assert counter.bytes < listing.size / 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_named(tmp_path: Path) -> None:
    plant(tmp_path, {"secret": b"x"})
    (tmp_path / "secret").chmod(0)
    with pytest.raises(BundleError, match="cannot read 'secret': permission denied"):
        digests_of(tmp_path)


def test_a_read_error_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    plant(tmp_path, {"weights.bin": noise(3 * MIB)})
    with pytest.raises(BundleError, match=r"cannot read 'weights\.bin': input/output error"):
        digests_of(tmp_path)


def test_exceptions_of_the_callback_pass_through(tmp_path: Path) -> None:
    def fail() -> None:
        raise ReconcilerError("stopped by the caller")

    plant(tmp_path, {"a": noise(40 * MIB)})
    with pytest.raises(ReconcilerError, match="stopped by the caller"):
        digests_of(tmp_path, task=Counter(20 * MIB, fail))
