"""Read-only access to the git history of one file.

The repository may be hostile. Only plumbing commands run (`rev-parse`, `rev-list`, `cat-file`): they start no
hook, pager, signature check, external diff, text conversion or file-system monitor, and fetching missing
objects is off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import UserError, Where
from reconciler.git.repository import OBJECT_ID, git_directory, locate_repository
from reconciler.git.runner import GitError, GitFailure, GitOutput, GitRunner


@dataclass(frozen=True, slots=True)
class FileHistory:
    """The history of `file` in the repository whose work tree begins at `top`.

    Every method raises UserError when git fails.
    """

    top: Path
    file: Path

    @property
    def path(self) -> str:
        """The path of the file in its repository."""
        return self.file.relative_to(self.top).as_posix()

    @classmethod
    def open(cls, file: Path) -> FileHistory | None:
        """Return the history of `file`, None when no repository is around it.

        Raises UserError when git is missing, does not trust the repository, or has it elsewhere (GIT_DIR).
        """
        directory = file.parent.resolve()
        where, reason = Where(str(directory)), ""
        if git_directory(directory) is None:
            if os.environ.get("GIT_DIR"):
                raise UserError(
                    "GIT_DIR names a git repository, but none is around this directory",
                    hint="its history cannot be compared: work in a clone, or unset GIT_DIR",
                    where=where,
                )
            return None
        try:
            found = locate_repository(directory)
        except GitError as error:
            if error.failure is not GitFailure.OTHER:
                raise UserError(error.message, hint=error.hint, where=where) from error
            found, reason = None, f": {error.message}"
        if found is None:
            raise UserError(f"the git repository around this directory cannot be read{reason}", where=where)
        # A work tree above (core.worktree) would give paths that the commits do not have.
        around = next(place for place in (directory, *directory.parents) if (place / ".git").exists())
        if found.top != around:
            raise UserError(
                "a git repository whose files are elsewhere (core.worktree) is not supported",
                hint="work in a clone of it",
                where=where,
            )
        return cls(found.top, directory / file.name)

    def head(self) -> str | None:
        """Return the commit of HEAD, None on a branch without commits."""
        return self.commit("HEAD")

    def commit(self, ref: str) -> str | None:
        """Return the commit that `ref` names, None when there is none."""
        command = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        found = self._git(*command, statuses=(1, 128)).text.splitlines()
        return found[-1] if found and OBJECT_ID.fullmatch(found[-1]) else None

    def is_shallow(self) -> bool:
        """Return whether older commits are missing from this clone."""
        return self._git("rev-parse", "--is-shallow-repository").text == "true"

    def blob(self, commit: str) -> str | None:
        """Return the object id of the file in `commit`, None when the commit does not have the file."""
        return self._blobs([commit], self.path)[0]

    def tracks(self, file: Path) -> bool:
        """Return whether HEAD has a file at the path of `file`, symbolic links followed."""
        place = file.resolve()
        if not place.is_relative_to(self.top):
            return False
        return self._blobs(["HEAD"], place.relative_to(self.top).as_posix())[0] is not None

    def contents(self, limit: int) -> tuple[list[tuple[str, str]], bool]:
        """Return (commit, object id) of each content of the file in the history of HEAD, newest first, and
        whether these are all.

        Only the `limit` newest commits that touched the file are read, side branches and merges included.
        """
        touching = self._touching(limit + 1)
        seen: dict[str, str] = {}
        for commit, oid in touching[:limit]:
            if oid is not None:
                seen.setdefault(oid, commit)
        return [(commit, oid) for oid, commit in seen.items()], len(touching) <= limit

    def introductions(self, limit: int) -> list[tuple[str, str]]:
        """Return (commit, object id) of each content of the file, oldest first; the commit is its first.

        Only the `limit` newest commits that touched the file are read.
        """
        seen: dict[str, str] = {}
        for commit, oid in reversed(self._touching(limit)):
            if oid is not None:
                seen.setdefault(oid, commit)
        return [(commit, oid) for oid, commit in seen.items()]

    def read(self, oid: str, limit: int, kind: str = "blob") -> bytes | None:
        """Return the content of a blob or commit, None when it is larger than `limit` bytes."""
        if int(self._git("cat-file", "-s", oid).stdout) > limit:
            return None
        return self._git("cat-file", kind, oid).stdout

    def _touching(self, limit: int) -> list[tuple[str, str | None]]:
        """Return the commits that touched the file, the newest first, each with its blob (None: deleted)."""
        listed = self._git(
            "rev-list", "--full-history", "--topo-order", f"--max-count={limit}", "HEAD", "--", self.path
        )
        commits = listed.text.split()
        return list(zip(commits, self._blobs(commits, self.path), strict=True))

    def _blobs(self, commits: Sequence[str], path: str) -> list[str | None]:
        """Return for each commit the object id of the blob at `path`, by one git command."""
        if "\n" in path:
            raise UserError("a path with a line break is not supported", where=Where(path))
        names = "".join(f"{commit}:{path}\n" for commit in commits).encode()
        lines = self._git("cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=names).stdout
        return [
            line[5:].decode("ascii") if line.startswith(b"blob ") else None for line in lines.splitlines()
        ]

    def _git(self, *command: str, statuses: tuple[int, ...] = (), stdin: bytes = b"") -> GitOutput:
        try:
            return GitRunner(self.top).run(*command, stdin=stdin, statuses=statuses)
        except GitError as error:
            raise UserError(error.message, hint=error.hint, where=Where(str(self.top))) from error
