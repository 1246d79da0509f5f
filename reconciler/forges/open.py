"""The forge of a run, from the environment of GitHub Actions or from the RECONCILE_FORGE variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.errors import UsageError
from reconciler.forges.interface import Forge
from reconciler.net.auth import Secret
from reconciler.progress import QUIET, Progress

TOKEN = "RECONCILE_FORGE_TOKEN"  # noqa: S105 - the name of a variable
KINDS = ("github", "gitlab", "gitea")


@dataclass(frozen=True, slots=True)
class OpenForge:
    """A forge, and the base branch of proposals."""

    forge: Forge
    base: str


def open_forge(environ: Mapping[str, str], progress: Progress = QUIET) -> OpenForge:
    """Return the forge that `environ` configures, without sending anything.

    In GitHub Actions: GITHUB_REPOSITORY, GITHUB_API_URL and GITHUB_REF_NAME. Elsewhere
    RECONCILE_FORGE (github, gitlab, gitea) with RECONCILE_FORGE_REPOSITORY, RECONCILE_FORGE_API,
    RECONCILE_FORGE_GIT (the URL for git pushes, not for github) and RECONCILE_FORGE_BASE. The token is
    RECONCILE_FORGE_TOKEN, in GitHub Actions also GITHUB_TOKEN. Raises UsageError that names the variable.
    """
    if _is_actions(environ):
        return _in_actions(environ, progress)
    kind = _required(environ, "RECONCILE_FORGE")
    repository, base = (
        _required(environ, "RECONCILE_FORGE_REPOSITORY"),
        _required(environ, "RECONCILE_FORGE_BASE"),
    )
    token = _token(environ, TOKEN)
    if kind == "github":
        from reconciler.forges.github.host import PUBLIC_API, github

        api = environ.get("RECONCILE_FORGE_API", PUBLIC_API)
        return OpenForge(github(repository, token, api_url=api, progress=progress), base)
    api, git = _required(environ, "RECONCILE_FORGE_API"), _required(environ, "RECONCILE_FORGE_GIT")
    if kind == "gitlab":
        from reconciler.forges.gitlab import gitlab

        return OpenForge(gitlab(repository, token, git_url=git, api_url=api, progress=progress), base)
    if kind == "gitea":
        from reconciler.forges.gitea import gitea

        return OpenForge(gitea(repository, token, git_url=git, api_url=api, progress=progress), base)
    raise UsageError(f"unknown RECONCILE_FORGE {kind!r}", hint=f"use one of {', '.join(KINDS)}")


def open_forge_for_comments(environ: Mapping[str, str], progress: Progress = QUIET) -> Forge:
    """Return the forge for comments, which needs no base branch: in GitHub Actions any event is accepted.

    Raises UsageError as `open_forge` does.
    """
    if _is_actions(environ):
        return _github_of_job(environ, progress)
    return open_forge(environ, progress).forge


def _is_actions(environ: Mapping[str, str]) -> bool:
    return environ.get("GITHUB_ACTIONS") == "true" and "RECONCILE_FORGE" not in environ


def _in_actions(environ: Mapping[str, str], progress: Progress) -> OpenForge:
    if environ.get("GITHUB_REF_TYPE") != "branch" or environ.get("GITHUB_REF", "").startswith("refs/pull/"):
        raise UsageError(
            f"a proposal requires a branch; the workflow runs for {environ.get('GITHUB_REF', 'no ref')!r}",
            hint="run it on push to a branch, or on a schedule",
        )
    forge = _github_of_job(environ, progress)
    return OpenForge(forge, _required(environ, "GITHUB_REF_NAME"))


def _github_of_job(environ: Mapping[str, str], progress: Progress) -> Forge:
    from reconciler.forges.github import github

    return github(
        _required(environ, "GITHUB_REPOSITORY"),
        _token(environ, TOKEN, "GITHUB_TOKEN"),
        api_url=_required(environ, "GITHUB_API_URL"),
        progress=progress,
    )


def _token(environ: Mapping[str, str], *names: str) -> Secret:
    for name in names:
        if environ.get(name):
            return Secret(environ[name])
    raise UsageError(
        f"no token: {' or '.join(names)} is not set", hint="give the run a token that may open pull requests"
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    if not environ.get(name):
        raise UsageError(
            f"{name} is not set, so no forge is configured",
            hint="run --propose pull-request in GitHub Actions, or set the RECONCILE_FORGE variables",
        )
    return environ[name]
