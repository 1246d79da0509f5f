from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.content.patterns import ALL_FILES, FilePatterns
from reconciler.content.scan import FileStamp, scan, scan_file, stamp_of
from reconciler.errors import BundleError
from tests.support.plant import plant


def paths(root: Path, *, include_hidden: bool = False, patterns: FilePatterns = ALL_FILES) -> list[str]:
    return [file.path for file in scan(root, include_hidden=include_hidden, patterns=patterns).files]


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


SHARD, ONNX, NOTE = "model-00001.safetensors", "onnx/model.onnx", "onnx/notes/x.txt"
REPOSITORY: dict[str, bytes | None] = {
    "README.md": b"",
    "model-00001.safetensors": b"",
    "pytorch_model.bin": b"",
    "onnx/model.onnx": b"",
    "onnx/notes/x.txt": b"",
    "empty/inner": None,
    ".gitattributes": b"",
}


@pytest.mark.parametrize(
    ("include", "exclude", "files", "directories", "excluded"),
    [
        (["*.safetensors"], [], [SHARD], [], None),
        ([], ["*.bin", "onnx/"], ["README.md", SHARD], [], ["onnx", "pytorch_model.bin"]),
        (["onnx"], ["*.txt"], [ONNX], ["onnx"], None),
        (["onnx/", f"!{ONNX}"], [], [ONNX, NOTE], ["onnx", "onnx/notes"], None),
        (["*", "!*.bin", "!onnx/"], ["notes"], ["README.md", SHARD, ONNX], ["onnx"], None),
        (["**/*.txt"], [], [NOTE], ["onnx", "onnx/notes"], None),
        ([], ["*", "!README.md"], ["README.md"], [], None),
        ([], ["/onnx/*", "!/onnx/notes", "*.bin"], ["README.md", SHARD, NOTE], ["onnx", "onnx/notes"], None),
        (["*.nothing"], [], [], [], None),
    ],
)
def test_patterns_select_files_and_the_directories_that_have_some(
    tmp_path: Path,
    include: list[str],
    exclude: list[str],
    files: list[str],
    directories: list[str],
    excluded: list[str] | None,
) -> None:
    plant(tmp_path, REPOSITORY)
    listing = scan(tmp_path, include_hidden=False, patterns=FilePatterns(tuple(include), tuple(exclude)))
    assert [file.path for file in listing.files] == files
    assert list(listing.directories) == directories
    assert excluded is None or list(listing.excluded) == excluded


def test_patterns_never_bring_in_a_hidden_file(tmp_path: Path) -> None:
    plant(tmp_path, REPOSITORY)
    patterns = FilePatterns((".gitattributes", "README.md"))
    listing = scan(tmp_path, include_hidden=False, patterns=patterns)
    assert [file.path for file in listing.files] == ["README.md"]
    assert listing.unused == (".gitattributes",)
    listing = scan(tmp_path, include_hidden=True, patterns=patterns)
    assert [file.path for file in listing.files] == [".gitattributes", "README.md"]


def test_what_patterns_leave_out_may_be_of_any_kind(tmp_path: Path) -> None:
    plant(tmp_path, {"a": b"", "Twin": b"", "twin": b"", "d/x": b""})
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    (tmp_path / "d" / "link").symlink_to("nowhere")
    assert paths(tmp_path, patterns=FilePatterns(("a",))) == ["a"]
    exclude = ("link", "fifo", "twin", "[!a-zA-Z]*", "d")
    assert paths(tmp_path, patterns=FilePatterns(exclude=exclude)) == ["Twin", "a"]


def test_without_patterns_empty_directories_stay(tmp_path: Path) -> None:
    plant(tmp_path, REPOSITORY)
    listing = scan(tmp_path, include_hidden=False, patterns=ALL_FILES)
    assert listing.directories == ("empty", "empty/inner", "onnx", "onnx/notes")
