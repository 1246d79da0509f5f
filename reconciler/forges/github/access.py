"""What a GitHub token may do, for `doctor --forge`.

A classic token lists its scopes. Every other sort is found out by requests that fail whatever happens:
without the permission GitHub refuses them (403), with it their contents (422). Nothing is changed.
"""

from __future__ import annotations

from reconciler.forges.fields import Fields
from reconciler.forges.github.address import GitHubAddress
from reconciler.forges.github.comments import Comments
from reconciler.forges.github.errors import ACTIONS_SETTING
from reconciler.forges.interface import Ability, Access
from reconciler.forges.rest import RestApi
from reconciler.net.auth import Secret
from reconciler.net.errors import AccessDeniedError, NotFoundError, RejectedError, RequestError
from reconciler.net.response import Response

_KINDS = {
    "ghp_": "classic personal access token",
    "github_pat_": "fine-grained personal access token",
    "ghs_": "App or Actions token",
    "ghu_": "App token that acts for a user",
    "gho_": "OAuth token",
}
_SCOPED = ("ghp_", "gho_")
_NOWHERE = "0" * 40
_NO_BRANCH = "reconciler/there-is-no-such-branch"


def find_access(api: RestApi, address: GitHubAddress, comments: Comments, token: Secret) -> Access:
    """Who the token speaks for and what it may do.

    Raises RequestError when it may not even see the repository.
    """
    answer = api.send("GET", address.path(), doing="reading the repository", repeatable=True)
    repository = Fields(api.name, answer.json())
    prefix = next((known for known in _KINDS if token.reveal().startswith(known)), "")
    login = comments.login()
    if prefix in _SCOPED:
        abilities = _by_scope(answer, repository)
    else:
        abilities = _by_trying(api, address, repository.text("default_branch"))
    notes = []
    if repository.flag("archived"):
        notes.append("the repository is archived: nothing can be written to it")
    if login.startswith("github-actions"):
        notes.append(
            "workflows of its pull requests wait for approval; an App's or a person's token avoids that"
        )
        abilities = (*abilities, _may_open(api, address))
    return Access(
        login, _KINDS.get(prefix, "token"), (Ability("see the repository", True), *abilities), tuple(notes)
    )


def _by_scope(answer: Response, repository: Fields) -> tuple[Ability, ...]:
    scopes = {scope.strip() for scope in answer.headers.get("x-oauth-scopes", "").split(",")}
    wanted = "repo" if repository.flag("private") else "public_repo"
    granted = bool(scopes & {"repo", wanted}) and repository.flag("permissions", "push")
    hint = f"give the token the scope {wanted}, and its owner write access to the repository"
    names = ("write contents", "write pull requests", "label and comment")
    return tuple(Ability(name, granted, "" if granted else hint) for name in names)


def _by_trying(api: RestApi, address: GitHubAddress, base: str) -> tuple[Ability, ...]:
    ref = {"ref": "refs/heads/reconciler/no..name", "sha": _NOWHERE}
    pull = {"title": "permission check", "head": _NO_BRANCH, "base": base}
    return (
        _try(api, "write contents", "contents: write", address.path("git", "refs"), ref),
        _try(api, "write pull requests", "pull-requests: write", address.path("pulls"), pull),
        # No request tells this without a pull request to try it on; pull-requests: write is mostly enough.
        Ability("label and comment", None, "where it is refused, grant issues: write"),
    )


def _try(api: RestApi, name: str, permission: str, path: str, body: object) -> Ability:
    try:
        api.write("POST", path, body, doing=f"trying to {name}", repeatable=False)
    except AccessDeniedError as error:
        setting = error.hint if error.hint == ACTIONS_SETTING else f"grant {permission}"
        return Ability(name, False, setting)
    except RejectedError:
        return Ability(name, True)
    except RequestError:
        return Ability(name, None, f"could not be found out; it needs {permission}")
    return Ability(name, True)


def _may_open(api: RestApi, address: GitHubAddress) -> Ability:
    """The repository's setting about pull requests of Actions, which few tokens may read."""
    name = "open pull requests from Actions"
    try:
        found = api.read(
            address.path("actions", "permissions", "workflow"), doing="reading a setting of Actions"
        )
    except (AccessDeniedError, NotFoundError):
        return Ability(name, None, ACTIONS_SETTING)
    granted = found.flag("can_approve_pull_request_reviews")
    return Ability(name, granted, "" if granted else ACTIONS_SETTING)
