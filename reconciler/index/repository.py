"""Read-only, hardened access to the git history of one file.

An index may come from a repository that nobody trusts. Only plumbing commands run (`rev-parse`, `rev-list`,
`diff-tree`, `cat-file`): they start no hook, no pager, no signature check, no external diff, no text
conversion and no file-system monitor, and fetching missing objects is switched off.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import UserError, Where

if TYPE_CHECKING:
    import git

_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
}
_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class History:
    """The history of the file `path` in its repository. Use it as a context manager."""

    def __init__(self, repo: git.Repo, top: Path, file: Path) -> None:
        self._repo = repo
        self._top = top
        self._file = file

    @property
    def path(self) -> str:
        """The path of the file in its repository."""
        return self._file.relative_to(self._top).as_posix()

    @classmethod
    def open(cls, file: Path) -> History | None:
        """The history of `file`, None when no repository is around it.

        Raises UserError when git is missing or refuses to read the repository.
        """
        directory = file.parent.resolve()
        if git_directory(directory) is None:
            return None
        try:
            import git
        except ImportError:
            raise UserError("git is not on PATH", hint="install git") from None
        where = Where(str(directory))
        try:
            repo = git.Repo(directory, search_parent_directories=True, expand_vars=False)
        except (git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError):
            raise UserError("the git repository around this directory cannot be read", where=where) from None
        repo.git.update_environment(**_ENVIRONMENT)
        top = Path(repo.working_tree_dir or repo.git_dir).resolve()
        history = cls(repo, top, directory / file.name)
        try:
            if not directory.is_relative_to(top):
                raise UserError("the git repository keeps its files elsewhere (core.worktree)", where=where)
            history._git("rev-parse", "--git-dir")
        except BaseException:
            history.close()
            raise
        return history

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End git's processes. May be called twice."""
        self._repo.close()

    def head(self) -> str | None:
        """The commit of HEAD, None on a branch without commits."""
        return self.commit("HEAD")

    def commit(self, ref: str) -> str | None:
        """The commit that `ref` names, None when there is none."""
        out = self._git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", status=(0, 1, 128)
        )
        found = out.decode("ascii", "replace").strip().splitlines()
        return found[-1] if found and _OID.fullmatch(found[-1]) else None

    def is_shallow(self) -> bool:
        """Whether older commits are missing from this clone."""
        return self._git("rev-parse", "--is-shallow-repository").strip() == b"true"

    def blob(self, commit: str) -> str | None:
        """The object id of the file in `commit`, None when it is not there."""
        return self._blobs([commit], self.path)[0]

    def tracks(self, file: Path) -> bool:
        """Whether HEAD has something at the place of `file`, symbolic links followed."""
        place = file.resolve()
        if not place.is_relative_to(self._top):
            return False
        return self._blobs(["HEAD"], place.relative_to(self._top).as_posix())[0] is not None

    def contents(self, limit: int) -> tuple[list[tuple[str, str]], bool]:
        """(commit, object id) of each content the file had in the history of HEAD, newest first, and whether
        that is all: only the `limit` newest commits that touched it are looked at, side branches and
        merges too.
        """
        touching = self._touching(limit + 1)
        seen: dict[str, str] = {}
        for commit, oid in touching[:limit]:
            if oid is not None:
                seen.setdefault(oid, commit)
        return [(commit, oid) for oid, commit in seen.items()], len(touching) <= limit

    def introductions(self, limit: int) -> list[tuple[str, str]]:
        """(commit, object id) of each content, oldest first, with the oldest commit of HEAD's history that
        has it; of the `limit` newest commits that touched the file.
        """
        seen: dict[str, str] = {}
        for commit, oid in reversed(self._touching(limit)):
            if oid is not None:
                seen.setdefault(oid, commit)
        return [(commit, oid) for oid, commit in seen.items()]

    def _touching(self, limit: int) -> list[tuple[str, str | None]]:
        """The newest commits that touched the file, newest first, with its content there (None: gone)."""
        listed = self._git(
            "rev-list", "--full-history", "--topo-order", f"--max-count={limit}", "HEAD", "--", self.path
        )
        commits = listed.decode("ascii").split()
        return list(zip(commits, self._blobs(commits, self.path), strict=True))

    def _blobs(self, commits: Sequence[str], path: str) -> list[str | None]:
        """For each commit the object id of the blob at `path`, in one call of git."""
        if "\n" in path:
            raise UserError("git cannot be asked for a path with a line break", where=Where(path))
        asked = "".join(f"{commit}:{path}\n" for commit in commits).encode()
        lines = self._git("cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=asked).splitlines()
        return [line[5:].decode("ascii") if line.startswith(b"blob ") else None for line in lines]

    def read(self, oid: str, limit: int, kind: str = "blob") -> bytes | None:
        """The content of a blob or commit, None when it is larger than `limit` bytes."""
        if int(self._git("cat-file", "-s", oid)) > limit:
            return None
        return self._git("cat-file", kind, oid)

    def _git(self, *command: str, status: tuple[int, ...] = (0,), stdin: bytes = b"") -> bytes:
        arguments = [
            "git",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "--no-pager",
            *command,
        ]
        execute: Any = self._repo.git.execute
        with tempfile.TemporaryFile() as source:
            source.write(stdin)
            source.seek(0)
            code, out, error = execute(
                arguments,
                istream=source,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
        if code in status:
            return bytes(out)
        reason = error.decode("utf-8", "replace") if isinstance(error, bytes) else str(error)
        where = Where(str(self._top))
        if "dubious ownership" in reason:
            raise UserError(
                "git does not trust this repository: it belongs to another user",
                hint="if you do: git config --global --add safe.directory DIRECTORY",
                where=where,
            )
        first = next(iter(reason.strip().splitlines()), f"exit status {code}")
        raise UserError(f"git {command[0]} failed: {first.removeprefix('fatal: ')}", where=where)


def git_directory(directory: Path) -> Path | None:
    """The git directory of the working tree around `directory`, found without git; None without one."""
    for parent in (directory, *directory.parents):
        place = parent / ".git"
        if place.is_dir():
            return place
        if place.is_file():
            with place.open(encoding="utf-8", errors="replace") as file:
                line = file.readline(4096).strip()
            # one that is no repository is told by git, not taken for none: the history decides what is frozen
            return parent / line.removeprefix("gitdir:").strip() if line.startswith("gitdir:") else place
    return None


def head_without_git(directory: Path) -> str | None:
    """The commit of HEAD around `directory`, read from plain files; None when it takes git to find out."""
    place = git_directory(directory)
    if place is None:
        return None
    try:
        head = (place / "HEAD").read_text("ascii").strip()
        if _OID.fullmatch(head):
            return head
        name = head.removeprefix("ref: ")
        if not head.startswith("ref: refs/") or ".." in name.split("/"):
            return None
        common = place / "commondir"
        shared = place / common.read_text("utf-8").strip() if common.exists() else place
        return _loose(shared / name) or _packed(shared / "packed-refs", name)
    except (OSError, ValueError):
        return None


def _loose(file: Path) -> str | None:
    if not file.is_file():
        return None
    oid = file.read_text("ascii").strip()
    return oid if _OID.fullmatch(oid) else None


def _packed(file: Path, name: str) -> str | None:
    if not file.is_file():
        return None
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            oid, _, ref = line.strip().partition(" ")
            if ref == name and _OID.fullmatch(oid):
                return oid
    return None
