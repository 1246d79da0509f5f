"""Repositories on this machine: which one a directory lies in, and its HEAD without starting git."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.git.runner import GitError, GitFailure, GitRunner

OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  #: of a repository with SHA-1 or SHA-256, in full


@dataclass(frozen=True, slots=True)
class RepositoryLocation:
    """The repository that a directory lies in.

    `top` is the root of its work tree, None when the directory is not in it (a bare repository, or
    `core.worktree`). `prefix` is the path of the directory below `top`.
    """

    git_dir: Path
    is_bare: bool
    top: Path | None
    prefix: PurePosixPath


def locate_repository(directory: Path) -> RepositoryLocation | None:
    """Return the repository that contains `directory`, or the bare one that it is; None without one.

    Raises GitError when git is missing, does not trust the repository, or cannot read it.
    """
    if not directory.is_dir():
        return None
    place = directory.resolve()
    queries = ("--is-bare-repository", "--is-inside-work-tree", "--show-prefix", "--absolute-git-dir")
    try:
        answers = GitRunner(place).run("rev-parse", *queries).text.split("\n")
    except GitError as error:
        if error.failure is GitFailure.NO_REPOSITORY:
            return None
        raise
    if len(answers) != len(queries):
        raise GitError(GitFailure.OTHER, f"a path with a line break is not supported: {str(place)!r}")
    prefix = PurePosixPath(answers[2])
    top = None
    if answers[1] == "true":
        top = Path(*place.parts[: len(place.parts) - len(prefix.parts)])
    return RepositoryLocation(Path(answers[3]), answers[0] == "true", top, prefix)


def git_directory(directory: Path) -> Path | None:
    """Return the git directory of the work tree around `directory`, found without git; None without one."""
    for parent in (directory, *directory.parents):
        place = parent / ".git"
        if place.is_dir():
            return place
        if place.is_file():
            with place.open(encoding="utf-8", errors="replace") as file:
                line = file.readline(4096).strip()
            # One that is malformed still counts: git reports it. Ignoring it would skip a check of history.
            return parent / line.removeprefix("gitdir:").strip() if line.startswith("gitdir:") else place
    return None


def head_without_git(directory: Path) -> str | None:
    """Return the commit of HEAD around `directory`, read from plain files; None when only git can tell."""
    place = git_directory(directory)
    if place is None:
        return None
    try:
        head = (place / "HEAD").read_text("ascii").strip()
        if OBJECT_ID.fullmatch(head):
            return head
        name = head.removeprefix("ref: ")
        if not head.startswith("ref: refs/") or ".." in name.split("/"):
            return None
        common = place / "commondir"
        shared = place / common.read_text("utf-8").strip() if common.exists() else place
        return _loose_ref(shared / name) or _packed_ref(shared / "packed-refs", name)
    except (OSError, ValueError):
        return None


def _loose_ref(file: Path) -> str | None:
    if not file.is_file():
        return None
    oid = file.read_text("ascii").strip()
    return oid if OBJECT_ID.fullmatch(oid) else None


def _packed_ref(file: Path, name: str) -> str | None:
    if not file.is_file():
        return None
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            oid, _, ref = line.strip().partition(" ")
            if ref == name and OBJECT_ID.fullmatch(oid):
                return oid
    return None
