"""The git commands on a local repository that a proposal needs.

Everything goes through a temporary index and a temporary work tree: the user's own are neither read nor
written.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reconciler import fs
from reconciler.errors import ReconcilerError, UsageError, UserError
from reconciler.forges.commits import Commit
from reconciler.forges.interface import parents
from reconciler.git.repository import locate_repository
from reconciler.git.runner import GitError, GitOutput, GitRunner

_REGULAR = {"100644", "100755"}
MAX_COMMITS = 100  #: the most commits of a branch that are read


class RefMovedError(ReconcilerError):
    """A branch moved between reading and writing it."""


@dataclass(frozen=True, slots=True)
class CommitIdentity:
    """The author and committer of a commit."""

    name: str
    email: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables from which git reads the identity."""
        return {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.name), ("EMAIL", self.email))
        }


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A repository on this machine. `prefix` is the path of the caller's directory in it ("" at its root)."""

    git_dir: Path
    prefix: PurePosixPath = field(default_factory=PurePosixPath)

    @classmethod
    def open(cls, directory: Path) -> LocalRepository:
        """Open the repository that contains `directory`, or the bare repository that it is.

        Raises UserError when there is none.
        """
        found = locate_repository(directory)
        if found is None:
            raise UserError(
                f"{str(directory)!r} is not in a git repository",
                hint="create one with `git init`, or write the proposal to the files with --propose write",
            )
        if found.top is None and not found.is_bare:
            raise UserError(f"{str(directory)!r} is not in the work tree of its repository")
        return cls(found.git_dir, found.prefix)

    def commit(self, revision: str) -> Commit:
        """Return the commit of a revision such as `HEAD`.

        Raises UserError when there is none, also in a repository without commits.
        """
        sha = self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if sha is None:
            if revision == "HEAD":
                raise UserError(
                    "the repository has no commit yet",
                    hint="commit once, or write the proposal to the files with --propose write",
                )
            raise UserError(f"no commit {revision!r} in the repository")
        return next(self._log("-n", "1", sha))

    def tip(self, branch: str) -> str | None:
        """Return the commit id at the tip of a branch; None when the branch does not exist."""
        return self._try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{_ref(branch)}^{{commit}}")

    def commits_beyond(self, base: str, tip: str) -> Iterator[Commit]:
        """Iterate over the commits of `tip` that are not in `base`, newest first, at most MAX_COMMITS."""
        return self._log("-n", str(MAX_COMMITS), tip, f"^{base}")

    def check_branch_name(self, branch: str) -> None:
        """Raise UsageError for an invalid name of a branch."""
        if self._try("check-ref-format", _ref(branch)) is None or branch.startswith("-"):
            raise UsageError(f"invalid branch name {branch!r}", hint="see `git help check-ref-format`")

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether commit `older` is in the history of `newer`; False when the repository does not have it."""
        return self._try("merge-base", "--is-ancestor", older, newer) is not None

    def fork_point(self, one: str, other: str) -> str | None:
        """Return the newest common ancestor of two commits; None when the repository has none."""
        return self._try("merge-base", one, other)

    def changed_paths(self, older: str, newer: str) -> frozenset[str]:
        """Return the paths in which the trees of two commits differ."""
        listed = self._run("diff-tree", "-r", "-z", "--no-renames", "--name-only", older, newer)
        return frozenset(listed.split("\0")) - {""}

    def read(self, commit: str, path: str) -> bytes | None:
        """Return the content of a file in `commit`; None when it has no file at `path`."""
        output = self._git("cat-file", "blob", f"{commit}:{self.prefix / path}", statuses=range(1, 256))
        return output.stdout if output.status == 0 else None

    def author(self, identity: CommitIdentity | None = None) -> str:
        """Return the author of a new commit as `Name <email>`. Raises UserError when git has none."""
        env = {} if identity is None else identity.environment()
        return self._identity("author", env).rpartition(">")[0] + ">"

    def where_checked_out(self, branch: str) -> str | None:
        """Return the path of the work tree in which `branch` is checked out, or None."""
        tree = None
        for line in self._run("worktree", "list", "--porcelain").splitlines():
            key, _, value = line.partition(" ")
            if key == "worktree":
                tree = value
            elif key == "branch" and value == _ref(branch):
                return tree
        return None

    def tree_with(self, base: str, files: Mapping[str, bytes]) -> str:
        """Write the tree of commit `base` with `files` set, as `git add` would store them, and return its id.

        Modes of existing files are kept. Raises UserError when a symbolic link, a submodule or a directory is
        at a path of `files`, or a file at a directory of one.
        """
        files = {str(self.prefix / path): data for path, data in files.items()}
        modes = self._modes(base, files)
        with fs.scratch_directory("reconciler-") as scratch:
            work = Path(scratch, "tree")
            work.mkdir()
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
        """Create a commit and return its id; it is signed when git is configured to sign commits.

        Without `identity`, git's configuration provides it. Raises UserError when it does not.
        """
        env = {} if identity is None else identity.environment()
        for role in ("author", "committer"):
            self._identity(role, env)
        signing = ["-S"] if self._try("config", "--type=bool", "commit.gpgSign") == "true" else []
        command = ("commit-tree", *signing, "-p", parent, "-F", "-", tree)
        return self._git(*command, env=env, stdin=message.encode(), is_interactive=bool(signing)).text

    def _identity(self, role: str, env: Mapping[str, str]) -> str:
        known = self._try("-c", "user.useConfigOnly=true", "var", f"GIT_{role.upper()}_IDENT", env=env)
        if known is None:
            raise UserError(
                f"git has no {role} name and email",
                hint="git config user.name 'Your Name' && git config user.email you@example.org",
            )
        return known

    def move_branch(self, branch: str, new: str, old: str | None, reason: str) -> None:
        """Move `branch` from commit `old` (None: it must not exist) to commit `new`.

        Raises RefMovedError when it is not at `old`. `reason` is written to the reflog.
        """
        expected = old or "0" * len(new)
        try:
            self._run("update-ref", "--no-deref", "-m", reason, _ref(branch), new, expected)
        except GitError:
            if self.tip(branch) != old:
                raise RefMovedError(f"the branch {branch!r} has moved") from None
            raise

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
        fields = "%H%x00%T%x00%P%x00%an%x00%ae%x00%B%x00"
        plain = ("--no-show-signature", "--no-color", "--no-notes", "--no-mailmap", "--encoding=UTF-8")
        text = self._run("log", *plain, f"--format=tformat:{fields}", *arguments, "--")
        parts = text.split("\0")
        for at in range(0, len(parts) - 6, 6):
            sha, tree, above, author, email, message = parts[at : at + 6]
            yield Commit(sha.strip(), tree, tuple(above.split()), author, message, email=email)

    def _run(
        self, *command: str, env: Mapping[str, str] = {}, cwd: Path | None = None, stdin: bytes = b""
    ) -> str:
        return self._git(*command, env=env, cwd=cwd, stdin=stdin).text

    def _try(self, *command: str, env: Mapping[str, str] = {}) -> str | None:
        """Return the output of a command, None when it fails."""
        output = self._git(*command, env=env, statuses=range(1, 256))
        return output.text if output.status == 0 else None

    def _git(
        self,
        *command: str,
        env: Mapping[str, str] = {},
        cwd: Path | None = None,
        stdin: bytes = b"",
        statuses: Container[int] = (),
        is_interactive: bool = False,
    ) -> GitOutput:
        runner = GitRunner(cwd or self.git_dir, git_dir=self.git_dir)
        return runner.run(*command, env=env, stdin=stdin, statuses=statuses, is_interactive=is_interactive)


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"
