"""The order of files follows the main line; what a side branch added counts with its merge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.git.additions import files_added, files_at, read_blobs
from reconciler.git.runner import GitRunner


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", root, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def add(root: Path, name: str, text: str = "x") -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    git(root, "add", "--all", ".")
    git(root, "commit", "--quiet", "--message", name)


@pytest.fixture(params=["sha1", "sha256"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", f"--object-format={request.param}")
    return tmp_path


def test_files_have_the_order_of_the_merges(root: Path) -> None:
    add(root, "d/b")
    git(root, "switch", "--quiet", "--create", "side")
    add(root, "d/x/earlier on its branch ü\n+1")
    git(root, "switch", "--quiet", "main")
    add(root, "d/a")
    add(root, "elsewhere")
    git(root, "merge", "--quiet", "--no-edit", "side")
    (root / "d/a").write_text("changed")
    add(root, "d/c")
    found = files_added(GitRunner(root), "d")
    assert sorted(found, key=lambda path: found[path]) == [
        "d/b",
        "d/a",
        "d/x/earlier on its branch ü\n+1",
        "d/c",
    ]
    ids = files_at(GitRunner(root), "HEAD", "d")
    assert ids.keys() == found.keys()
    assert read_blobs(GitRunner(root), [ids["d/a"], ids["d/b"]], 3) == [b"chan", b"x"]


def test_what_was_removed_and_came_back_keeps_its_first_number(root: Path) -> None:
    add(root, "d/a")
    add(root, "d/b")
    (root / "d/a").unlink()
    add(root, "d/c")
    add(root, "d/a", "again")
    found = files_added(GitRunner(root), "d")
    assert sorted(found, key=lambda path: found[path]) == ["d/a", "d/b", "d/c"]


def test_a_directory_that_git_does_not_have_is_empty(root: Path) -> None:
    add(root, "a")
    assert files_added(GitRunner(root), "d") == files_at(GitRunner(root), "HEAD", "d") == {}
    assert read_blobs(GitRunner(root), [], 1) == []


def test_links_are_no_files(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/link").symlink_to("/etc/passwd")
    add(root, "d/a")
    assert files_at(GitRunner(root), "HEAD", "d").keys() == {"d/a"}
