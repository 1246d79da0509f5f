"""The permissions of a GitHub token, for `doctor --forge`.

Responses to a classic token list its scopes. Tokens of other kinds are tested by requests that always fail:
without the permission GitHub answers 403, with it 422 for the contents. They change nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.forges.github.api import ACTIONS_SETTING, GitHubAddress
from reconciler.forges.interface import Ability, Access
from reconciler.forges.rest import RestApi
from reconciler.json_fields import JsonFields
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
_NO_COMMIT = "0" * 40
_NO_BRANCH = "reconciler/there-is-no-such-branch"


def find_access(api: RestApi, address: GitHubAddress, login_of: Callable[[], str], token: Secret) -> Access:
    """Return the token's account, read by `login_of`, and what the token may do.

    Raises RequestError when it may not read the repository.
    """
    response = api.send("GET", address.path(), doing="reading the repository", repeatable=True)
    repository = api.fields(response)
    prefix = next((known for known in _KINDS if token.reveal().startswith(known)), "")
    login = login_of()
    if prefix in _SCOPED:
        abilities = _by_scope(response, repository)
    else:
        abilities = _by_requests(api, address, repository.text("default_branch"))
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


def _by_scope(response: Response, repository: JsonFields) -> tuple[Ability, ...]:
    scopes = {scope.strip() for scope in response.headers.get("x-oauth-scopes", "").split(",")}
    wanted = "repo" if repository.flag("private") else "public_repo"
    granted = bool(scopes & {"repo", wanted}) and repository.flag("permissions", "push")
    hint = f"give the token the scope {wanted}, and its owner write access to the repository"
    names = ("write contents", "write pull requests", "label and comment")
    return tuple(Ability(name, granted, "" if granted else hint) for name in names)


def _by_requests(api: RestApi, address: GitHubAddress, base: str) -> tuple[Ability, ...]:
    ref = {"ref": "refs/heads/reconciler/no..name", "sha": _NO_COMMIT}
    pull = {"title": "permission check", "head": _NO_BRANCH, "base": base}
    return (
        _test_permission(api, "write contents", "contents: write", address.path("git", "refs"), ref),
        _test_permission(api, "write pull requests", "pull-requests: write", address.path("pulls"), pull),
        # A test would need a pull request; pull-requests: write is mostly enough.
        Ability("label and comment", None, "if it is denied, grant issues: write"),
    )


def _test_permission(api: RestApi, name: str, permission: str, path: str, body: object) -> Ability:
    try:
        api.write("POST", path, body, doing=f"testing whether the token may {name}", repeatable=False)
    except AccessDeniedError as error:
        setting = error.hint if error.hint == ACTIONS_SETTING else f"grant {permission}"
        return Ability(name, False, setting)
    except RejectedError:
        return Ability(name, True)
    except RequestError:
        return Ability(name, None, f"the test failed; it requires {permission}")
    return Ability(name, True)


def _may_open(api: RestApi, address: GitHubAddress) -> Ability:
    """Read the repository's setting for pull requests of Actions, which few tokens may read."""
    name = "open pull requests from Actions"
    try:
        found = api.read(
            address.path("actions", "permissions", "workflow"), doing="reading the settings of Actions"
        )
    except (AccessDeniedError, NotFoundError):
        return Ability(name, None, ACTIONS_SETTING)
    granted = found.flag("can_approve_pull_request_reviews")
    return Ability(name, granted, "" if granted else ACTIONS_SETTING)
