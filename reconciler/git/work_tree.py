"""Questions about paths in a work tree, answered by plumbing commands that run nothing of the repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.git.repository import OBJECT_ID, git_directory, locate_repository
from reconciler.git.runner import GitError, GitRunner

_MAX_COMMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CommitName:
    """A commit, and the first line of its message."""

    commit: str
    subject: str


@dataclass(frozen=True, slots=True)
class WorkTree:
    """The work tree at `top`; paths are relative to it and use `/`. Methods raise GitError."""

    top: Path

    @classmethod
    def around(cls, directory: Path) -> WorkTree | None:
        """Return the work tree around `directory`; None without one, or when git cannot read it."""
        if git_directory(directory.resolve()) is None:
            return None
        try:
            found = locate_repository(directory)
        except GitError:
            return None
        return None if found is None or found.top is None else cls(found.top)

    def path(self, file: Path) -> str:
        """Return the path of `file` in the work tree. Raises ValueError when it is outside."""
        return file.relative_to(self.top).as_posix()

    def ignored(self, paths: Sequence[str]) -> frozenset[str]:
        """Return which of `paths`, existing or not, git ignores."""
        # The command supports no literal pathspecs; with `./` no name begins with the colon of a magic one.
        stdin = "".join(f"./{path}\0" for path in paths).encode()
        found = GitRunner(self.top).run(
            "check-ignore", "-z", "--stdin", stdin=stdin, statuses=(1,), env={"GIT_LITERAL_PATHSPECS": "0"}
        )
        return frozenset(path.removeprefix("./") for path in found.text.split("\0") if path)

    def tracked(self, paths: Sequence[str]) -> frozenset[str]:
        """Return which of the files `paths` are in the index of git."""
        if not paths:
            return frozenset()
        found = GitRunner(self.top).run("ls-files", "-z", "--", *paths)
        return frozenset(filter(None, found.text.split("\0")))

    def last_commit(self, path: str) -> CommitName | None:
        """Return the newest commit of HEAD that touched `path`, also by removing it; None without one."""
        commit = GitRunner(self.top).run("rev-list", "--max-count=1", "HEAD", "--", path).text
        if not OBJECT_ID.fullmatch(commit):
            return None
        text = GitRunner(self.top).run("cat-file", "commit", commit).stdout[:_MAX_COMMIT_BYTES]
        message = text.decode("utf-8", "replace").partition("\n\n")[2]
        return CommitName(commit, message.partition("\n")[0])

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Return whether the commit `older` is `newer` or part of its history."""
        command = ("merge-base", "--is-ancestor", older, newer)
        return GitRunner(self.top).run(*command, statuses=(1,)).status == 0
