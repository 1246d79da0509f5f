"""The few git commands a proposal needs on a repository at hand, run by GitPython, without hooks.

Everything goes through a temporary index and a temporary work tree, so the user's own are never read or
written. Commands are lists, never a shell; whatever git's environment of an outer hook says about the
repository is overridden.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError, UsageError, UserError
from reconciler.forges.commits import Commit
from reconciler.forges.interface import parents

if TYPE_CHECKING:
    from types import ModuleType

# A hook could edit files or ask questions; a monitor or a split index would write beside the user's index.
_QUIET_CONFIG = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "core.splitIndex=false",
    "core.sparseCheckout=false",
    "i18n.commitEncoding=UTF-8",
)
_ENVIRONMENT = {
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_REGULAR = {"100644", "100755"}
MOST_COMMITS = 100  #: how many commits of a branch are looked at


class RefMovedError(ReconcilerError):
    """A branch moved between reading and writing it: someone else was quicker."""


@dataclass(frozen=True, slots=True)
class CommitIdentity:
    """Whom a commit names as its author and committer."""

    name: str
    email: str

    def environment(self) -> dict[str, str]:
        """The same, as git reads it from its environment."""
        return {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.name), ("EMAIL", self.email))
        }


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A repository on this machine. `prefix` is where the caller's directory lies in it ("" at its top)."""

    git_dir: Path
    prefix: PurePosixPath = field(default_factory=PurePosixPath)

    @classmethod
    def open(cls, directory: Path) -> LocalRepository:
        """The repository that `directory` lies in (a bare one: that it is).

        Raises UserError when there is none.
        """
        git = gitpython()
        try:
            with git.Repo(directory, search_parent_directories=True) as repo:
                git_dir = Path(repo.git_dir)
                top = None if repo.bare else repo.working_tree_dir
        except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
            raise UserError(
                f"{str(directory)!r} is not in a git repository",
                hint="make one with `git init`, or write the proposal to the files with --propose write",
            ) from error
        if top is None:
            return cls(git_dir)
        try:
            inside = Path(directory).resolve().relative_to(Path(top).resolve())
        except ValueError as error:
            raise UserError(f"{str(directory)!r} is not in the work tree of its repository") from error
        return cls(git_dir, PurePosixPath(inside.as_posix()))

    def commit(self, revision: str) -> Commit:
        """The commit that `revision` names.

        Raises UserError when it names none, or nothing is committed yet.
        """
        sha = self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if sha is None:
            if revision == "HEAD":
                raise UserError(
                    "the repository has no commit yet",
                    hint="commit once, or write the proposal to the files with --propose write",
                )
            raise UserError(f"git knows no commit {revision!r}")
        return next(self._log("-n", "1", sha))

    def tip(self, branch: str) -> str | None:
        """The commit id at the tip of a branch, or None when there is no such branch."""
        return self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{_ref(branch)}^{{commit}}")

    def commits_beyond(self, base: str, tip: str) -> Iterator[Commit]:
        """The newest commits that `tip` has and `base` has not, at most a hundred."""
        return self._log("-n", str(MOST_COMMITS), tip, f"^{base}")

    def check_branch_name(self, branch: str) -> None:
        """Raise UsageError for a name that git does not take."""
        if self._try("check-ref-format", _ref(branch)) is None or branch.startswith("-"):
            raise UsageError(f"{branch!r} is no branch name", hint="see `git help check-ref-format`")

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether commit `older` is in the history of `newer`; False too when it is not here at all."""
        return self._try("merge-base", "--is-ancestor", older, newer) is not None

    def fork_point(self, one: str, other: str) -> str | None:
        """The newest commit that both have in their history, or None when there is none here."""
        return self._try("merge-base", one, other)

    def changed_paths(self, older: str, newer: str) -> frozenset[str]:
        """Every path in which the trees of two commits differ."""
        listed = self._run("diff-tree", "-r", "-z", "--no-renames", "--name-only", older, newer)
        return frozenset(listed.split("\0")) - {""}

    def where_checked_out(self, branch: str) -> str | None:
        """The work tree that has `branch` checked out, or None."""
        tree = None
        for line in self._run("worktree", "list", "--porcelain").splitlines():
            key, _, value = line.partition(" ")
            if key == "worktree":
                tree = value
            elif key == "branch" and value == _ref(branch):
                return tree
        return None

    def tree_with(self, base: str, files: Mapping[str, bytes]) -> str:
        """Write the tree of commit `base` with `files` set, as `git add` would store them; give its id.

        Existing modes stay. Raises UserError where a symlink, a submodule or a directory is in the way.
        """
        files = {str(self.prefix / path): data for path, data in files.items()}
        modes = self._modes(base, files)
        with tempfile.TemporaryDirectory(prefix="reconciler-") as scratch:
            work = Path(scratch, "tree")
            for path, data in files.items():
                file = work / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                file.chmod(0o755 if modes.get(path) == "100755" else 0o644)
            env = {"GIT_INDEX_FILE": str(Path(scratch, "index")), "GIT_WORK_TREE": str(work)}
            self._run("read-tree", base, env=env)
            names = "".join(f"{path}\0" for path in files).encode()
            self._run("update-index", "--add", "-z", "--stdin", env=env, cwd=work, stdin=names)
            return self._run("write-tree", env=env)

    def commit_tree(
        self, tree: str, parent: str, message: str, identity: CommitIdentity | None = None
    ) -> str:
        """Make a commit in this identity or the configured one, signed when git is told to sign.

        Raises UserError when there is none.
        """
        env = {} if identity is None else identity.environment()
        for role in ("author", "committer"):
            known = self._try("-c", "user.useConfigOnly=true", "var", f"GIT_{role.upper()}_IDENT", env=env)
            if known is None:
                raise UserError(
                    f"git knows no {role} name and email",
                    hint="git config user.name 'Your Name' && git config user.email you@example.org",
                )
        signing = ["-S"] if self._try("config", "--type=bool", "commit.gpgSign") == "true" else []
        return self._run(
            "commit-tree", *signing, "-p", parent, "-F", "-", tree, env=env, stdin=message.encode()
        )

    def move_branch(self, branch: str, new: str, old: str | None, reason: str) -> None:
        """Point `branch` at `new` if it still is at `old` (None: if it does not exist).

        Raises RefMovedError.
        """
        expected = old or "0" * len(new)
        status, _, errors = self._execute(
            "update-ref", "--no-deref", "-m", reason, _ref(branch), new, expected
        )
        if status == 0:
            return
        if self.tip(branch) != old:
            raise RefMovedError(f"the branch {branch!r} moved meanwhile")
        raise _failure("update-ref", errors)

    def _modes(self, base: str, files: Mapping[str, bytes]) -> dict[str, str]:
        above = {parent: path for path in files for parent in parents(path)}
        modes = {}
        for entry in self._run("ls-tree", "-r", "-z", "--full-tree", base).split("\0"):
            fact, _, path = entry.partition("\t")
            mode = fact.partition(" ")[0]
            if path in above or (path in files and mode not in _REGULAR):
                kind = {"120000": "a symbolic link", "160000": "a submodule"}.get(mode, "a file")
                raise UserError(
                    f"cannot propose {above.get(path, path)!r}: {path!r} is {kind} in {base[:12]}"
                )
            if path in files:
                modes[path] = mode
            for parent in parents(path) if path else ():
                if parent in files:
                    raise UserError(f"cannot propose {parent!r}: it is a directory in {base[:12]}")
        return modes

    def _log(self, *arguments: str) -> Iterator[Commit]:
        fields = "%H%x00%T%x00%P%x00%an%x00%B%x00"
        plain = ("--no-show-signature", "--no-color", "--no-notes", "--no-mailmap", "--encoding=UTF-8")
        text = self._run("log", *plain, f"--format=tformat:{fields}", *arguments, "--")
        parts = text.split("\0")
        for at in range(0, len(parts) - 5, 5):
            sha, tree, above, author, message = parts[at : at + 5]
            yield Commit(sha.strip(), tree, tuple(above.split()), author, message)

    def _run(
        self, *command: str, env: Mapping[str, str] = {}, cwd: Path | None = None, stdin: bytes = b""
    ) -> str:
        status, output, errors = self._execute(*command, env=env, cwd=cwd, stdin=stdin)
        if status:
            raise _failure(command[0], errors)
        return output

    def _try(self, *command: str, env: Mapping[str, str] = {}) -> str | None:
        status, output, errors = self._execute(*command, env=env)
        if status and "dubious ownership" in errors:
            raise _failure(command[0], errors)
        return None if status else output

    def _execute(
        self, *command: str, env: Mapping[str, str] = {}, cwd: Path | None = None, stdin: bytes = b""
    ) -> tuple[int, str, str]:
        config = [word for setting in _QUIET_CONFIG for word in ("-c", setting)]
        with tempfile.TemporaryFile() as source:  # GitPython takes a real file for standard input
            source.write(stdin)
            source.seek(0)
            status, output, errors = (
                gitpython()
                .Git(cwd or self.git_dir)
                .execute(
                    ["git", *config, *command],
                    istream=source,
                    env={**_ENVIRONMENT, "GIT_DIR": str(self.git_dir), **env},
                    with_extended_output=True,
                    with_exceptions=False,
                )
            )
        return int(status), str(output), str(errors)


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"


def _failure(command: str, errors: str) -> ReconcilerError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["it said nothing"]
    hint = None
    if "dubious ownership" in errors:
        hint = "it belongs to another user; to trust it: git config --global --add safe.directory DIR"
    return ReconcilerError(
        f"git {command} failed: {lines[0].removeprefix('fatal: ').removeprefix('error: ')}", hint=hint
    )


def gitpython() -> ModuleType:
    """GitPython, imported when it is needed. Raises ReconcilerError where there is no git."""
    try:
        import git
    except ImportError as error:  # GitPython looks for the program when it is imported
        raise ReconcilerError("git is not installed", hint="install git, or use --propose write") from error
    return git
