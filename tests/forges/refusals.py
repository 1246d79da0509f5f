"""GitHub's errors, and those of proxies and bad connections, as rows for tests."""

from __future__ import annotations

import httpx

from tests.forges.fake_github import Refusal, raw

VALIDATION = "Validation Failed"


def custom(message: str) -> Refusal:
    return Refusal(422, VALIDATION, [{"resource": "PullRequest", "code": "custom", "message": message}])


def silent(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("timed out", request=request)


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("server disconnected", request=request)


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


def cut_off(request: httpx.Request) -> httpx.Response:
    return raw(200, b'{"number": 1, "ht')


def web_page(request: httpx.Request) -> httpx.Response:
    return raw(200, b"<html>sign in</html>", {"content-type": "text/html"})


def nonsense(request: httpx.Request) -> httpx.Response:
    return raw(200, b"[1, null]")


INTEGRATION = Refusal(403, "Resource not accessible by integration")
ACTIONS = Refusal(403, "GitHub Actions is not permitted to create or approve pull requests.")

#: errors of a proxy or a bad connection, the same on every forge: the response or fault, and whether the call
#: is carried out
LINE = {
    "timeout after it was done": (silent, True),
    "reset after it was done": (broken, True),
    "unreachable": (unreachable, False),
    "cut off after it was done": (cut_off, True),
    "web page": (web_page, False),
    "nonsense after it was done": (nonsense, True),
}

#: all errors of GitHub, in the same form
ROWS = {
    "401": (Refusal(401, "Bad credentials"), False),
    "403 permission": (INTEGRATION, False),
    "403 permission of a personal token": (
        Refusal(403, "Resource not accessible by personal access token"),
        False,
    ),
    "403 setting": (ACTIONS, False),
    "403 pause": (
        Refusal(403, "You have exceeded a secondary rate limit", None, {"retry-after": "7"}),
        False,
    ),
    "403 pause without a time": (Refusal(403, "You have exceeded a secondary rate limit."), False),
    "403 limit": (
        Refusal(403, "API limit", None, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000030"}),
        False,
    ),
    "403 limit for an hour": (
        Refusal(403, "API limit", None, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800003600"}),
        False,
    ),
    "403 single sign-on": (
        Refusal(403, "Resource protected by organization SAML enforcement."),
        False,
    ),
    "404": (Refusal(404, "Not Found"), False),
    "409 empty": (Refusal(409, "Git Repository is empty."), False),
    "409 mismatch": (Refusal(409, "is at 1111 but expected 2222"), False),
    "422 exists": (custom("A pull request already exists for o:reconciler/resolve-cids."), False),
    "422 no commits": (custom("No commits between main and reconciler/resolve-cids"), False),
    "422 reference": (Refusal(422, "Reference already exists"), False),
    "422 fast forward": (Refusal(422, "Update is not a fast forward"), False),
    "422 node": (custom("Could not resolve to a node with the global id of 'PR_x'."), False),
    "429": (Refusal(429, "Too many requests", None, {"retry-after": "3"}), False),
    "500": (Refusal(500, "Server Error"), False),
    "502 after it was done": (Refusal(502, "Server Error"), True),
    "timeout before": (silent, False),
    **LINE,
}
LASTING = {"401", "403 permission", "403 permission of a personal token", "403 setting", "403 single sign-on"}
