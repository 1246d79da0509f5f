from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content.scan import FileStamp, scan, scan_file, stamp_of
from reconciler.errors import BundleError
from tests.support.plant import plant


def paths(root: Path, *, include_hidden: bool = False) -> list[str]:
    return [file.path for file in scan(root, include_hidden=include_hidden).files]


def test_files_are_sorted_by_the_bytes_of_their_whole_paths(tmp_path: Path) -> None:
    plant(tmp_path, {"a/b": b"", "a-b": b"", "Z": b"", "é": b"", "a/.b": b"", "\U0001f600": b"", "": None})
    assert paths(tmp_path) == ["Z", "a-b", "a/b", "é", "\U0001f600"]


def test_hidden_entries_are_left_out_and_named(tmp_path: Path) -> None:
    plant(tmp_path, {".git/config": b"", "a/.cache": b"", "a/b": b"", ".x": b""})
    listing = scan(tmp_path, include_hidden=False)
    assert [file.path for file in listing.files] == ["a/b"]
    assert listing.directories == ("a",)
    assert listing.hidden == (".git", ".x", "a/.cache")


def test_hidden_entries_are_included_on_request(tmp_path: Path) -> None:
    plant(tmp_path, {".git/config": b"", "a/.cache": b""})
    listing = scan(tmp_path, include_hidden=True)
    assert [file.path for file in listing.files] == [".git/config", "a/.cache"]
    assert (listing.directories, listing.hidden) == ((".git", "a"), ())


def test_a_hidden_entry_of_any_kind_is_left_out(tmp_path: Path) -> None:
    plant(tmp_path, {"a": b""})
    (tmp_path / ".link").symlink_to("/etc")
    assert paths(tmp_path) == ["a"]


def test_a_stamp_equals_stat(tmp_path: Path) -> None:
    plant(tmp_path, {"a": b"four"})
    status = (tmp_path / "a").stat()
    (file,) = scan(tmp_path, include_hidden=False).files
    assert file.stamp == stamp_of(status)
    assert file.stamp == FileStamp(status.st_dev, status.st_ino, 4, status.st_mtime_ns, status.st_ctime_ns)


def test_empty_directories_are_listed(tmp_path: Path) -> None:
    plant(tmp_path, {"a/b/c": b"", "d/e": None, "f": None})
    listing = scan(tmp_path, include_hidden=False)
    assert listing.directories == ("a", "a/b", "d", "d/e", "f")


def test_a_single_file_is_listed_by_its_name(tmp_path: Path) -> None:
    plant(tmp_path, {"a": b"four", "b": b""})
    listing = scan_file(tmp_path / "a")
    assert [(file.path, file.stamp.size) for file in listing.files] == [("a", 4)]
    assert listing.locate(listing.files[0]) == tmp_path / "a"


@pytest.mark.parametrize("include_hidden", [False, True])
def test_a_scan_modifies_nothing(tmp_path: Path, include_hidden: bool) -> None:
    plant(tmp_path, {"a/b": b"x", ".c": b"y"})
    before = {path: path.stat() for path in [tmp_path, *tmp_path.rglob("*")]}
    scan(tmp_path, include_hidden=include_hidden)
    after = {path: path.stat() for path in [tmp_path, *tmp_path.rglob("*")]}
    assert [s.st_mtime_ns for s in before.values()] == [s.st_mtime_ns for s in after.values()]
    assert before.keys() == after.keys()


def test_a_missing_root_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot open the directory .*no such file"):
        scan(tmp_path / "nowhere", include_hidden=False)
