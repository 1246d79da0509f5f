"""The git commands on a local repository that a proposal needs.

Everything goes through a temporary index and a temporary work tree: the user's own are neither read nor
written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reconciler.errors import ReconcilerError, UsageError, UserError
from reconciler.forges.commits import Commit
from reconciler.forges.interface import parents
from reconciler.git.repository import locate_repository
from reconciler.git.runner import GitError, GitOutput, GitRunner

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
        found = locate_repository(directory)
        if found is None:
            raise UserError(
                f"{str(directory)!r} is not in a git repository",
                hint="make one with `git init`, or write the proposal to the files with --propose write",
            )
        if found.top is None and not found.is_bare:
            raise UserError(f"{str(directory)!r} is not in the work tree of its repository")
        return cls(found.git_dir, found.prefix)

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
        command = ("commit-tree", *signing, "-p", parent, "-F", "-", tree)
        return self._git(*command, env=env, stdin=message.encode(), is_interactive=bool(signing)).text

    def move_branch(self, branch: str, new: str, old: str | None, reason: str) -> None:
        """Point `branch` at `new` if it still is at `old` (None: if it does not exist).

        Raises RefMovedError.
        """
        expected = old or "0" * len(new)
        try:
            self._run("update-ref", "--no-deref", "-m", reason, _ref(branch), new, expected)
        except GitError:
            if self.tip(branch) != old:
                raise RefMovedError(f"the branch {branch!r} moved meanwhile") from None
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
