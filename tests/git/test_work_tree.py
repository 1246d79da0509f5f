"""What git says about paths of a work tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.git.work_tree import CommitName, WorkTree

NAMES = ["a.log", ":(top)x.log", "[b].log", "*.log", "é é.log", "-n.log"]


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> WorkTree:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "kept").write_text("x")
    (tmp_path / "[k]ept").write_text("x")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "Keep it\n\nand more")
    found = WorkTree.around(tmp_path)
    assert found is not None
    return found


def test_ignored_paths_may_have_any_name_and_need_not_exist(tree: WorkTree) -> None:
    assert tree.ignored([*NAMES, "kept", "new"]) == frozenset(NAMES)
    assert tree.ignored([]) == frozenset()


def test_tracked_paths_are_taken_literally(tree: WorkTree) -> None:
    assert tree.tracked(["[k]ept", "new", "k*", *NAMES]) == {"[k]ept"}
    assert tree.tracked([]) == frozenset()


def test_the_last_commit_of_a_path_is_found_after_its_removal_too(tree: WorkTree) -> None:
    first = CommitName(git(tree.top, "rev-parse", "HEAD"), "Keep it")
    assert tree.last_commit("kept") == first
    assert tree.last_commit("never") is None
    git(tree.top, "rm", "--quiet", "kept")
    git(tree.top, "commit", "--quiet", "--message", "Remove it")
    last = tree.last_commit("kept")
    assert last is not None
    assert last.subject == "Remove it"
    assert tree.is_ancestor(first.commit, last.commit)
    assert not tree.is_ancestor(last.commit, first.commit)


def test_there_is_no_work_tree_outside_of_a_repository(tmp_path: Path) -> None:
    assert WorkTree.around(tmp_path) is None
    assert WorkTree.around(tmp_path / "nowhere") is None
