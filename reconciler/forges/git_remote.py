"""Branches on any git server, moved by real pushes with a lease.

The two branches are fetched into a scratch repository, the commit is made there as for a local branch, and
the push names where the branch must still be (`--force-with-lease`), so that the server itself refuses to
overwrite a commit that we have not seen. The token goes to git in its environment, as a header for this one
server: it is in no address, no argument, no configuration file, and no credential helper learns it.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.forges.branch import commit_to_branch
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, BranchResult
from reconciler.forges.ownership import foreign
from reconciler.forges.plumbing import MOST_COMMITS, CommitIdentity, LocalRepository
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
    UnexpectedResponseError,
    sanitize,
)

_ATTEMPTS = 3
_SCHEMES = ("https://", "http://", "file://", "ssh://")
_MOVED = (BranchOutcome.CREATED, BranchOutcome.UPDATED)


@dataclass(frozen=True, slots=True)
class GitRemote:
    """One repository on a git server.

    `url` holds no secret (UsageError when it does). `token` is sent as the password of `user` and only over
    HTTP; without one, git's own means (an SSH key) must do. Without `identity`, git's configuration says who
    commits.
    """

    name: str
    url: str
    token: Secret | None = None
    user: str = "oauth2"
    identity: CommitIdentity | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(_SCHEMES):
            raise UsageError(
                f"{self.name} has no git address that could be pushed to", hint="use an https:// one"
            )
        authority = self.url.partition("://")[2].partition("/")[0]
        if "@" in authority and not self.url.startswith("ssh://"):
            raise UsageError(
                f"the git address of {self.name} holds a user name or password",
                hint="take it out, and give the token in the environment",
            )

    def ensure_branch(
        self,
        files: Mapping[str, bytes],
        message: str,
        *,
        base: str,
        planned: str | None = None,
        branch: str = PROPOSAL_BRANCH,
        options: Sequence[str] = (),
    ) -> tuple[BranchResult, str]:
        """As `Forge.ensure_branch`; `options` are push options. Also gives what the server said to the push.

        Raises RequestError, UsageError, and UserError when git knows nobody to commit as.
        """
        if base == branch:
            raise UsageError(f"the proposal's branch {branch!r} cannot be its own base")
        error: RequestError = ConflictError(self.name, f"the branch {branch!r} kept moving", hint="run again")
        for _ in range(_ATTEMPTS):
            try:
                return self._once(files, message, base, planned, branch, options)
            except _StaleError:
                continue
            except TransientError as failure:
                if failure.timed_out:
                    raise
                error = failure  # perhaps carried out: the next look at the branch tells
        raise error

    def delete_branch(self, branch: str, old: str) -> None:
        """Delete a branch if it still is at `old`; not there is fine. Raises RequestError."""
        with self._scratch() as scratch:
            if self._tips(scratch, branch).get(branch) is None:
                return
            try:
                self._push(scratch, "", branch, old, ())
            except _StaleError:
                raise ConflictError(
                    self.name, f"the branch {branch!r} was moved meanwhile, and stays"
                ) from None

    def foreign_commit(self, base: str, branch: str) -> str:
        """What `branch` carries that is not ours, worded for a user; "" when nothing. Raises RequestError."""
        with self._scratch() as scratch:
            tips = self._fetch(scratch, base, branch)
            if tips.get(branch) is None or tips.get(base) is None:
                return ""
            repository = LocalRepository(scratch.runner.directory)
            commits = list(repository.commits_beyond(tips[base], tips[branch]))
            return foreign(commits, MOST_COMMITS)

    def _once(
        self,
        files: Mapping[str, bytes],
        message: str,
        base: str,
        planned: str | None,
        branch: str,
        options: Sequence[str],
    ) -> tuple[BranchResult, str]:
        with self._scratch() as scratch:
            tips = self._fetch(scratch, base, branch)
            if base not in tips:
                hint = "name the branch that proposals are merged into"
                raise NotFoundError(self.name, f"has no branch {base!r}", hint=hint)
            directory = scratch.runner.directory
            if planned is not None and planned != tips[base]:
                moved = _moved_under(LocalRepository(directory), planned, tips[base], files, base)
                if moved:
                    old = tips.get(branch, tips[base])
                    return BranchResult(branch, old, BranchOutcome.BASE_MOVED, detail=moved), ""
            result = commit_to_branch(
                directory, files, branch, message, base=tips[base], identity=self.identity
            )
            said = ""
            if result.outcome in _MOVED:
                said = self._push(scratch, result.sha, branch, tips.get(branch, ""), options)
            return result, said

    @contextmanager
    def _scratch(self) -> Iterator[ScratchRepository]:
        """A temporary repository with this one as its origin."""
        with tempfile.TemporaryDirectory(prefix="reconciler-") as directory:
            with self._request_errors():
                scratch = ScratchRepository.create(
                    Path(directory, "git"), self.url, settings=tuple(self._credentials())
                )
            yield scratch

    def _tips(self, scratch: ScratchRepository, *branches: str) -> dict[str, str]:
        """Where these branches are; those that are missing are left out."""
        with self._request_errors():
            found = scratch.list_refs(*map(_ref, branches))
        return {branch: found[_ref(branch)] for branch in branches if _ref(branch) in found}

    def _fetch(self, scratch: ScratchRepository, *branches: str) -> dict[str, str]:
        tips = self._tips(scratch, *branches)
        if tips:
            with self._request_errors():
                scratch.fetch(*(f"+{_ref(branch)}:{_ref(branch)}" for branch in tips))
        repository = LocalRepository(scratch.runner.directory)
        return {branch: found for branch in tips if (found := repository.tip(branch))}

    def _push(
        self, scratch: ScratchRepository, new: str, branch: str, old: str, options: Sequence[str]
    ) -> str:
        """Move the branch from `old` ("": it must not exist) to `new` ("": delete it); what the server said.

        The server's word is not believed: one that ignores the lease, or fails to move the branch and says
        that it did, is found out by looking. Raises _StaleError when the branch is not where it should be.
        """
        with self._request_errors():
            said = scratch.push(new, _ref(branch), old, options)
        if self._tips(scratch, branch).get(branch, "") != new:
            raise _StaleError
        return said

    def _pair(self, token: Secret) -> Secret:
        return Secret(f"{self.user}:{token.reveal()}")

    def _credentials(self) -> Iterator[tuple[str, str]]:
        """The header for this one server; credential helpers neither give nor store anything."""
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
        # A server may send back the header it was shown, which holds the pair and not the token.
        secrets = () if self.token is None else (self._pair(self.token), self.token)
        lines = [
            line
            for line in error.output.splitlines()
            if line.strip() and not line.startswith(("To ", "Done"))
        ]
        said = f"while git {error.verb} ran: {sanitize(' '.join(lines), secrets)}"
        match error.failure:
            case GitFailure.NOT_INSTALLED:
                return error
            case GitFailure.STALE:
                return _StaleError()
            case GitFailure.DENIED:
                hint = "the token must write the repository (GitLab: write_repository; Gitea: repository)"
                return AccessDeniedError(self.name, f"denies access {said}", hint=hint)
            case GitFailure.UNTRUSTED:
                return AccessDeniedError(self.name, error.message, hint=error.hint)
            case GitFailure.NOT_FOUND | GitFailure.NO_REPOSITORY:
                hint = "is the address right, and may the token see it?"
                return NotFoundError(self.name, f"has no such repository {said}", hint=hint)
            case GitFailure.NO_PUSH_OPTIONS:
                hint = "the server has to allow them: receive.advertisePushOptions"
                return UnexpectedResponseError(self.name, f"takes no push options {said}", hint=hint)
            case GitFailure.REJECTED:
                hint = "let this user push to the branch: look at the protected branches and push rules"
                reason = sanitize(error.output, secrets)
                return RejectedError(self.name, f"did not accept the push {said}", reason=reason, hint=hint)
            case GitFailure.TIMED_OUT:
                return TransientError(self.name, error.message, timed_out=True)
        return TransientError(self.name, f"failed {said}", hint="is its address right, and is it running?")


class _StaleError(Exception):
    """The branch is not where it was read: look again."""


def _moved_under(
    repository: LocalRepository, planned: str, base_tip: str, files: Mapping[str, bytes], base: str
) -> str:
    """Why files made from `planned` do not fit the base of now, worded for a user; "" when they do."""
    if not repository.is_ancestor(planned, base_tip):
        return f"the commit {planned[:12]} that was planned from is not in {base!r}: push it, and run again"
    changed = sorted(repository.changed_paths(planned, base_tip) & files.keys())
    if changed:
        what = f"{base!r} moved on from {planned[:12]} and changed {changed[0]!r}"
        return f"{what}: run again on its newest commit"
    return ""


def _ref(branch: str) -> str:
    return f"refs/heads/{branch}"
