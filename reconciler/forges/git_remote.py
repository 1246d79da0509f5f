"""Branches on a git server, moved by pushes with a lease.

The base and the branch are fetched into a scratch repository, the commit is made there as for a local branch,
and the push contains the expected tip of the branch (`--force-with-lease`), so that the server refuses to
overwrite a commit that we have not seen. The token is passed in git's environment, as a header for this one
server: it appears in no URL, argument or configuration file, and no credential helper receives it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.errors import UsageError
from reconciler.forges.branch import choose_branch, commit_to_branch
from reconciler.forges.commits import describe_foreign
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchEdit, BranchOutcome, BranchResult, Names
from reconciler.forges.local_repository import MAX_COMMITS, CommitIdentity, LocalRepository
from reconciler.git.runner import GitError, GitFailure
from reconciler.git.scratch import ScratchRepository
from reconciler.net.auth import Secret
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    TransientError,
    sanitize,
)

_ATTEMPTS = 3
_SCHEMES = ("https://", "http://", "file://", "ssh://")
_MOVED = (BranchOutcome.CREATED, BranchOutcome.UPDATED)


@dataclass(frozen=True, slots=True)
class GitRemote:
    """The branches of one repository on a git server. Implements `Branches`.

    `token` is sent over HTTP only, as the password of `user`; without one, git uses its own credentials, such
    as an SSH key. Without `identity`, git's configuration provides author and committer. Raises
    UsageError when `url` has another scheme than https, http, file and ssh, or contains a secret.
    """

    name: str
    url: str
    token: Secret | None = None
    user: str = "oauth2"
    identity: CommitIdentity | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(_SCHEMES):
            raise UsageError(
                f"the git URL of {self.name} has an unsupported scheme", hint="use an https:// URL"
            )
        authority = self.url.partition("://")[2].partition("/")[0]
        if "@" in authority and not self.url.startswith("ssh://"):
            raise UsageError(
                f"the git URL of {self.name} contains a user name or password",
                hint="remove it, and pass the token in the environment",
            )

    def locate_branch(self, names: Names, *, base: str, owns: Callable[[frozenset[str]], bool]) -> str:
        """As `Branches.locate_branch`."""
        with self._scratch() as scratch:
            tips = self._fetch(scratch, base, names.shared, names.own)
            if base not in tips:
                raise self._no_base(base)
            repository = LocalRepository(scratch.runner.directory)
            return choose_branch(repository, names, tips[base], owns)

    def ensure_branch(
        self, edit: BranchEdit, *, base: str, branch: str = PROPOSAL_BRANCH, adds: bool = False
    ) -> BranchResult:
        """As `Branches.ensure_branch`. Also raises UserError when git has no identity for the commit."""
        error: RequestError = ConflictError(
            self.name, f"the branch {branch!r} changed during every attempt", hint="run again"
        )
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(edit, base, branch, adds=adds)
            except _StaleError:
                continue
            except TransientError as failure:
                if failure.timed_out:
                    raise
                error = failure  # perhaps the branch moved: the next attempt reads it
        raise error

    def delete_branch(self, branch: str, head: str) -> None:
        """As `Branches.delete_branch`."""
        with self._scratch() as scratch:
            if self._tips(scratch, branch).get(branch) is None:
                return
            try:
                self._push(scratch, "", branch, head)
            except _StaleError:
                raise ConflictError(
                    self.name, f"the branch {branch!r} was changed meanwhile and is not deleted"
                ) from None

    def describe_foreign(self, base: str, branch: str, head: str) -> str:  # noqa: ARG002 - the tip is fetched
        """As `Branches.describe_foreign`."""
        with self._scratch() as scratch:
            tips = self._fetch(scratch, base, branch)
            if tips.get(branch) is None or tips.get(base) is None:
                return ""
            repository = LocalRepository(scratch.runner.directory)
            commits = list(repository.commits_beyond(tips[base], tips[branch]))
            return describe_foreign(commits, complete=len(commits) < MAX_COMMITS)

    def _attempt(self, edit: BranchEdit, base: str, branch: str, *, adds: bool) -> BranchResult:
        """Make one attempt of `ensure_branch`. Raises _StaleError when the branch moved meanwhile."""
        with self._scratch() as scratch:
            tips = self._fetch(scratch, base, branch)
            if base not in tips:
                raise self._no_base(base)
            directory = scratch.runner.directory
            result = commit_to_branch(
                directory, edit, branch, base=tips[base], identity=self.identity, adds=adds
            )
            if result.outcome in _MOVED:
                self._push(scratch, result.sha, branch, tips.get(branch, ""))
            return result

    def _no_base(self, base: str) -> NotFoundError:
        hint = "name the branch that proposals are merged into"
        return NotFoundError(self.name, f"no branch {base!r}", hint=hint)

    @contextmanager
    def _scratch(self) -> Iterator[ScratchRepository]:
        """Create a temporary repository with this one as its origin."""
        with fs.scratch_directory("reconciler-") as directory:
            with self._request_errors():
                scratch = ScratchRepository.create(
                    Path(directory, "git"), self.url, settings=tuple(self._credentials())
                )
            yield scratch

    def _tips(self, scratch: ScratchRepository, *branches: str) -> dict[str, str]:
        """Return the commit ids at the tips of branches on the server; missing branches are left out."""
        with self._request_errors():
            found = scratch.list_refs(*map(_ref, branches))
        return {branch: found[_ref(branch)] for branch in branches if _ref(branch) in found}

    def _fetch(self, scratch: ScratchRepository, *branches: str) -> dict[str, str]:
        """Fetch branches and return their tips as fetched; missing branches are left out."""
        tips = self._tips(scratch, *branches)
        if tips:
            with self._request_errors():
                scratch.fetch(*(f"+{_ref(branch)}:{_ref(branch)}" for branch in tips))
        repository = LocalRepository(scratch.runner.directory)
        return {branch: found for branch in tips if (found := repository.tip(branch))}

    def _push(self, scratch: ScratchRepository, new: str, branch: str, old: str) -> None:
        """Move the branch from `old` ("": it must not exist) to `new` ("": delete it).

        The branch is read afterwards, since a server may ignore the lease, or report a success without moving
        the branch. Raises _StaleError when it is not at `new`.
        """
        with self._request_errors():
            scratch.push(new, _ref(branch), old)
        if self._tips(scratch, branch).get(branch, "") != new:
            raise _StaleError

    def _pair(self, token: Secret) -> Secret:
        return Secret(f"{self.user}:{token.reveal()}")

    def _credentials(self) -> Iterator[tuple[str, str]]:
        """Yield git settings: the header for this one server, and no credential helper."""
        yield "credential.helper", ""
        if self.token is not None and self.url.startswith("http"):
            pair = base64.b64encode(self._pair(self.token).reveal().encode()).decode("ascii")
            yield f"http.{self.url}.extraHeader", f"Authorization: Basic {pair}"

    @contextmanager
    def _request_errors(self) -> Iterator[None]:
        """Raise RequestError for a GitError, and _StaleError for a lease that fails."""
        try:
            yield
        except GitError as error:
            raise self._failure(error) from None

    def _failure(self, error: GitError) -> Exception:
        # A server may return the header it received, which contains the pair and not the token.
        secrets = () if self.token is None else (self._pair(self.token), self.token)
        lines = [
            line
            for line in error.output.splitlines()
            if line.strip() and not line.startswith(("To ", "Done"))
        ]
        context = f"while running git {error.verb}: {sanitize(' '.join(lines), secrets)}"
        match error.failure:
            case GitFailure.NOT_INSTALLED:
                return error
            case GitFailure.STALE:
                return _StaleError()
            case GitFailure.DENIED:
                hint = "the token must write the repository (GitLab: write_repository; Gitea: repository)"
                return AccessDeniedError(self.name, f"denied access {context}", hint=hint)
            case GitFailure.UNTRUSTED:
                return AccessDeniedError(self.name, error.message, hint=error.hint)
            case GitFailure.NOT_FOUND | GitFailure.NO_REPOSITORY:
                hint = "check the URL, and that the token may read the repository"
                return NotFoundError(self.name, f"repository not found {context}", hint=hint)
            case GitFailure.REJECTED:
                hint = "let this user push to the branch: check the protected branches and push rules"
                reason = sanitize(error.output, secrets)
                return RejectedError(self.name, f"rejected the push {context}", reason=reason, hint=hint)
            case GitFailure.TIMED_OUT:
                return TransientError(self.name, error.message, timed_out=True)
        hint = "check the URL, and that the server is running"
        return TransientError(self.name, f"failed {context}", hint=hint)


class _StaleError(Exception):
    """The branch has moved since it was read."""


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"
