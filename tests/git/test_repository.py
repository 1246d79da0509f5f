"""The repository around a directory is found with and without git."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from reconciler.git.repository import RepositoryLocation, git_directory, head_without_git, locate_repository


def git(directory: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "ro ot"
    (root / "a" / "b").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    git(root, "commit", "-q", "--allow-empty", "-m", "start")
    return root


def test_a_directory_of_a_work_tree_knows_its_top_and_prefix(root: Path) -> None:
    expected = RepositoryLocation(root / ".git", False, root, PurePosixPath("a/b"))
    assert locate_repository(root / "a" / "b") == expected
    assert locate_repository(root) == RepositoryLocation(root / ".git", False, root, PurePosixPath())
    assert git_directory(root / "a" / "b") == root / ".git"


def test_a_symbolic_link_into_a_work_tree_is_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root / "a")
    found = locate_repository(tmp_path / "link")
    assert found is not None
    assert (found.top, found.prefix) == (root, PurePosixPath("a"))


def test_a_bare_repository_has_no_top(root: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(root), str(bare))
    assert locate_repository(bare) == RepositoryLocation(bare, True, None, PurePosixPath())


def test_a_linked_work_tree_has_a_git_directory_of_its_own(root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(root, "worktree", "add", "-q", "-b", "other", str(tree))
    found = locate_repository(tree)
    assert found is not None
    assert (found.git_dir, found.top) == (root / ".git" / "worktrees" / "tree", tree)
    assert git_directory(tree) == found.git_dir
    assert head_without_git(tree) == git(root, "rev-parse", "HEAD")


def test_a_work_tree_that_is_elsewhere_has_no_top(root: Path, tmp_path: Path) -> None:
    git(root, "config", "core.worktree", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    found = locate_repository(root)
    assert found is not None
    assert (found.is_bare, found.top) == (False, None)


def test_a_directory_without_repository_and_a_missing_one_have_none(tmp_path: Path) -> None:
    assert locate_repository(tmp_path) is None
    assert locate_repository(tmp_path / "missing") is None
    assert git_directory(tmp_path) is None
    assert head_without_git(tmp_path) is None


def test_a_malformed_git_file_counts_for_a_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("nonsense\n")
    assert git_directory(tmp_path) == tmp_path / ".git"
    assert head_without_git(tmp_path) is None
