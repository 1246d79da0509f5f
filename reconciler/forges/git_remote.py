"""Branches on any git server, moved by real pushes with a lease.

The two branches are fetched into a scratch repository, the commit is made there as for a local branch, and
the push names where the branch must still be (`--force-with-lease`), so that the server itself refuses to
overwrite a commit that we have not seen. The token goes to git in its environment, as a header for this one
server: it is in no address, no argument, no configuration file, and no credential helper learns it.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.forges.branch import commit_to_branch
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, BranchResult
from reconciler.forges.ownership import foreign
from reconciler.forges.plumbing import MOST_COMMITS, CommitIdentity, LocalRepository, gitpython
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
_DENIALS = (
    "authentication failed",
    "could not read username",
    "error: 401",
    "error: 403",
    "permission denied",
)
_MOVED = (BranchOutcome.CREATED, BranchOutcome.UPDATED)
_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GCM_INTERACTIVE": "never",
    "LC_ALL": "C",
}


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
            with tempfile.TemporaryDirectory(prefix="reconciler-") as scratch:
                try:
                    return self._once(Path(scratch, "git"), files, message, base, planned, branch, options)
                except _StaleError:
                    continue
                except TransientError as failure:
                    error = failure  # perhaps carried out: the next look at the branch tells
        raise error

    def delete_branch(self, branch: str, old: str) -> None:
        """Delete a branch if it still is at `old`; not there is fine. Raises RequestError."""
        with tempfile.TemporaryDirectory(prefix="reconciler-") as scratch:
            self._init(Path(scratch))
            if self._tips(Path(scratch), branch).get(branch) is None:
                return
            try:
                self._push(Path(scratch), "", branch, old, ())
            except _StaleError:
                raise ConflictError(
                    self.name, f"the branch {branch!r} was moved meanwhile, and stays"
                ) from None

    def foreign_commit(self, base: str, branch: str) -> str:
        """What `branch` carries that is not ours, worded for a user; "" when nothing. Raises RequestError."""
        with tempfile.TemporaryDirectory(prefix="reconciler-") as scratch:
            self._init(Path(scratch))
            tips = self._fetch(Path(scratch), base, branch)
            if tips.get(branch) is None or tips.get(base) is None:
                return ""
            commits = list(LocalRepository(Path(scratch)).commits_beyond(tips[base], tips[branch]))
            return foreign(commits, MOST_COMMITS)

    def _once(
        self,
        scratch: Path,
        files: Mapping[str, bytes],
        message: str,
        base: str,
        planned: str | None,
        branch: str,
        options: Sequence[str],
    ) -> tuple[BranchResult, str]:
        self._init(scratch)
        tips = self._fetch(scratch, base, branch)
        if base not in tips:
            hint = "name the branch that proposals are merged into"
            raise NotFoundError(self.name, f"has no branch {base!r}", hint=hint)
        repository = LocalRepository(scratch)
        if planned is not None and planned != tips[base]:
            moved = _moved_under(repository, planned, tips[base], files, base)
            if moved:
                result = BranchResult(
                    branch, tips.get(branch, tips[base]), BranchOutcome.BASE_MOVED, detail=moved
                )
                return result, ""
        result = commit_to_branch(scratch, files, branch, message, base=tips[base], identity=self.identity)
        said = ""
        if result.outcome in _MOVED:
            said = self._push(scratch, result.sha, branch, tips.get(branch, ""), options)
        return result, said

    def _init(self, scratch: Path) -> None:
        self._git(Path(scratch.parent), "init", "--quiet", "--bare", "--template=", str(scratch))

    def _tips(self, scratch: Path, *branches: str) -> dict[str, str]:
        """Where these branches are; those that are missing are left out."""
        refs = [f"refs/heads/{branch}" for branch in branches]
        listed = self._git(scratch, "ls-remote", "--", self.url, *refs)
        found = {}
        for line in listed.splitlines():
            sha, _, ref = line.partition("\t")
            found[ref] = sha
        return {branch: found[ref] for branch, ref in zip(branches, refs, strict=True) if ref in found}

    def _fetch(self, scratch: Path, *branches: str) -> dict[str, str]:
        tips = self._tips(scratch, *branches)
        specs = [f"+refs/heads/{branch}:refs/heads/{branch}" for branch in tips]
        if specs:
            flags = ("--quiet", "--no-tags", "--no-write-fetch-head")
            self._git(scratch, "fetch", *flags, "--", self.url, *specs)
        repository = LocalRepository(scratch)
        return {branch: found for branch in tips if (found := repository.tip(branch))}

    def _push(self, scratch: Path, new: str, branch: str, old: str, options: Sequence[str]) -> str:
        """Move the branch from `old` ("": it must not exist) to `new` ("": delete it); what the server said.

        The server's word is not believed: one that ignores the lease, or fails to move the branch and says
        that it did, is found out by looking. Raises _StaleError when the branch is not where it should be.
        """
        ref = f"refs/heads/{branch}"
        flags = ["--porcelain", "--no-verify", f"--force-with-lease={ref}:{old}"]
        flags += [f"--push-option={option}" for option in options]
        said = self._git(scratch, "push", *flags, "--", self.url, f"{new}:{ref}")
        if self._tips(scratch, branch).get(branch, "") != new:
            raise _StaleError
        return said

    def _git(self, directory: Path, *command: str) -> str:
        """Run git; standard output and error together.

        Raises RequestError, or _StaleError for a lease that fails.
        """
        git = gitpython()
        status, output, errors = git.Git(directory).execute(
            ["git", *command],
            env={**_QUIET, **self._credentials()},
            with_extended_output=True,
            with_exceptions=False,
        )
        words = f"{output}\n{errors}"
        if status == 0:
            return words
        raise self._failure(command[0], words)

    def _pair(self, token: Secret) -> Secret:
        return Secret(f"{self.user}:{token.reveal()}")

    def _credentials(self) -> dict[str, str]:
        """Settings that git reads from its environment: the header, and nobody else to ask or to tell."""
        settings = [
            *(("credential.helper", ""), ("core.askPass", ""), ("http.followRedirects", "false")),
            *(("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "60")),  # bytes a second, seconds
        ]
        if self.token is not None and self.url.startswith("http"):
            pair = base64.b64encode(self._pair(self.token).reveal().encode()).decode("ascii")
            settings.append((f"http.{self.url}.extraHeader", f"Authorization: Basic {pair}"))
        found = {"GIT_CONFIG_COUNT": str(len(settings))}
        for number, (key, value) in enumerate(settings):
            found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return found

    def _failure(self, verb: str, words: str) -> Exception:
        """What a failed command means, by git's own wording (LC_ALL=C), which is all it gives."""

        def says(*signs: str) -> bool:
            return any(sign in words.lower() for sign in signs)

        # A server may send back the header it was shown, which holds the pair and not the token.
        secrets = () if self.token is None else (self._pair(self.token), self.token)
        lines = [line for line in words.splitlines() if line.strip() and not line.startswith(("To ", "Done"))]
        said = f"while git {verb} ran: {sanitize(' '.join(lines), secrets)}"
        if says("stale info", "cannot lock ref", "fetch first"):
            return _StaleError()
        if says("authentication failed", "could not read username", "error: 401", "error: 403", "denied"):
            hint = "the token must write the repository (GitLab: write_repository; Gitea: repository)"
            return AccessDeniedError(self.name, f"denies access {said}", hint=hint)
        if says("not found", "does not exist", "does not appear to be"):
            hint = "is the address right, and may the token see it?"
            return NotFoundError(self.name, f"has no such repository {said}", hint=hint)
        if says("push options"):
            hint = "the server has to allow them: receive.advertisePushOptions"
            return UnexpectedResponseError(self.name, f"takes no push options {said}", hint=hint)
        if says("rejected"):
            hint = "let this user push to the branch: look at the protected branches and push rules"
            return RejectedError(
                self.name, f"did not accept the push {said}", reason=sanitize(words, secrets), hint=hint
            )
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
