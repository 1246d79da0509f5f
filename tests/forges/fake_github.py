"""A fake GitHub in this process: one repository with refs, trees, commits, pull requests and comments.

It behaves like GitHub in what a proposal depends on: it rejects duplicate and empty pull requests, moves a
branch by compare-and-swap when requested, closes a pull request whose branch is deleted or equals its base,
and verifies commits of bots unless they name an author. A test can make any call fail, before or after it is
carried out, and let people act between any two calls.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx

from tests.forges.github_description import GitHubDescription

ROOT = "/repos/{owner}/{repo}"
TEMPLATES = tuple(
    ROOT + rest
    for rest in (
        *("", "/git/ref/{ref}", "/git/commits/{commit_sha}", "/compare/{basehead}"),
        *("/git/blobs", "/git/trees", "/git/commits", "/git/refs"),
        *("/contents/{path}", "/git/blobs/{file_sha}"),
        *("/pulls", "/pulls/{pull_number}", "/pulls/{pull_number}/requested_reviewers"),
        *(
            "/issues/{issue_number}/labels",
            "/issues/{issue_number}/comments",
            "/issues/comments/{comment_id}",
        ),
        "/actions/permissions/workflow",
    )
)
DOCS = "https://docs.github.com/rest"


@dataclass
class Refusal(Exception):
    """A response that is not a success."""

    status: int
    message: str
    errors: list[Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Break:
    """The failure of call number `at`: a refusal, or a fault before or after the call is carried out."""

    at: int
    refusal: Refusal | None = None
    fault: Callable[[httpx.Request], httpx.Response] | None = None
    carried_out: bool = False


@dataclass
class Exchange:
    """One call and the status of its response."""

    method: str
    path: str
    body: Any
    status: int | None

    @property
    def writes(self) -> bool:
        return self.method != "GET" and not (
            isinstance(self.body, dict) and "viewer" in self.body.get("query", "")
        )


class FakeGitHub:
    """The repository o/r, reached through `transport`; only `token` is valid."""

    def __init__(
        self,
        description: GitHubDescription | None = None,
        *,
        token: str = "ghs_canary",
        login: str = "bot[bot]",
    ) -> None:
        self.description = description
        self.token = token
        self.login = login
        self.scopes = ""
        self.repository: dict[str, Any] = {
            "full_name": "o/r",
            "node_id": "R_node",
            "default_branch": "main",
            "private": False,
            "archived": False,
            "permissions": {"admin": False, "push": True, "pull": True},
        }
        self.settings = {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": True}
        self.blobs: dict[str, bytes] = {}
        self.trees: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, Any]] = {}
        self.refs: dict[str, str] = {}
        self.pulls: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.reachable: set[str] = set()
        self.log: list[Exchange] = []
        self.breaks: list[Break] = []
        self.between: Callable[[int, FakeGitHub], None] | None = None
        self.sent: list[httpx.Request] = []
        self.push("main", {"releases/index.yaml": b"schema: 1\n", "README.md": b"read me\n"}, "start")

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    @property
    def calls(self) -> int:
        return len(self.log)

    # What people do -------------------------------------------------------------------------------------

    def push(
        self,
        branch: str,
        files: dict[str, bytes],
        message: str,
        *,
        onto: str | None = None,
        sha: str | None = None,
    ) -> str:
        """Commit `files` as a person on top of `branch`, or by force on top of the commit `onto`.

        `sha` is the commit's id where a real clone has it too.
        """
        parent = onto or self.refs.get(branch)
        tree = dict(self.trees[self.commits[parent]["tree"]]) if parent else {}
        tree |= {path: self._store(data) for path, data in files.items()}
        made = self._commit(
            self._store_tree(tree), [parent] if parent else [], message, "A Person", verified=False
        )
        if sha is not None:
            self.commits[sha] = self.commits.pop(made)
        self._point(branch, sha or made)
        return sha or made

    def open_pull(self, branch: str) -> int:
        """Push `branch` with a change as a person, open a pull request, and return its number."""
        self.push(branch, {"x": b"y"}, "Change")
        request = {"title": "t", "body": "b", "head": branch, "base": "main", "draft": False}
        number: int = self._make_pull(request)["number"]
        return number

    def merge(self, number: int, *, squash: bool = False) -> None:
        """Merge a pull request as a person, by a three-way merge, and keep its branch."""
        pull = self._pull(number)
        head, base = self.refs[pull["head"]], self.refs[pull["base"]]
        fork = self._fork(base, head)
        old, ours = (self.trees[self.commits[sha]["tree"]] for sha in (fork, head))
        changed = {path: blob for path, blob in ours.items() if old.get(path) != blob}
        tree = {**self.trees[self.commits[base]["tree"]], **changed}
        parents = [base] if squash else [base, head]
        pull["merged"], pull["state"] = True, "closed"
        merged = self._commit(self._store_tree(tree), parents, "Merge", "A Person", verified=True)
        self._point(pull["base"], merged)

    def files(self, branch: str) -> dict[str, bytes]:
        tree = self.trees[self.commits[self.refs[branch]]["tree"]]
        return {path: self.blobs[blob] for path, blob in tree.items()}

    def open_pulls(self) -> list[dict[str, Any]]:
        return [pull for pull in self.pulls if pull["state"] == "open"]

    # Answering ------------------------------------------------------------------------------------------

    def answer(self, request: httpx.Request) -> httpx.Response:
        number = len(self.log)
        if self.between is not None:
            self.between(number, self)
        self.sent.append(request)
        path = request.url.raw_path.decode().partition("?")[0]
        body = json.loads(request.content) if request.content else None
        exchange = Exchange(request.method, path, body, None)
        self.log.append(exchange)
        broken = next((one for one in self.breaks if one.at == number), None)
        response = None
        if broken is None or broken.carried_out:
            response = self._respond(request.method, path, request.url.query.decode(), body, request)
        if broken is not None:
            if broken.refusal is not None:
                response = self._refuse(
                    request.method, path, request.url.query.decode(), request.content, broken.refusal
                )
            else:
                assert broken.fault is not None
                response = broken.fault(request)
        assert response is not None
        exchange.status = response.status_code
        return response

    def _respond(
        self, method: str, path: str, query: str, body: Any, request: httpx.Request
    ) -> httpx.Response:
        try:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                raise Refusal(401, "Bad credentials")
            assert request.headers["accept"] == "application/vnd.github+json"
            if path == "/graphql":
                return plain(200, self._graphql(body))
            status, answer = self._route(method, path, parse_qs(query), body)
        except Refusal as refusal:
            return self._refuse(method, path, query, request.content, refusal)
        content = json.dumps(answer).encode()
        exchange = (method, path, query, request.content, status)
        if self.description is not None and self.description.is_new(*exchange, content):
            whole = self.description.complete(method, template_of(path), status, answer)
            content = json.dumps(whole).encode()
            self._check(*exchange, content)
        return raw(status, content, {"x-oauth-scopes": self.scopes})

    def _refuse(self, method: str, path: str, query: str, sent: bytes, refusal: Refusal) -> httpx.Response:
        body: dict[str, Any] = {
            "message": refusal.message,
            "documentation_url": DOCS,
            "status": str(refusal.status),
        }
        if refusal.errors is not None:
            body["errors"] = refusal.errors
        content = json.dumps(body).encode()
        if (
            path != "/graphql"
            and self.description is not None
            and self.description.is_new(method, path, sent, body)
        ):
            self._check(method, path, query, sent, refusal.status, content)
        return raw(refusal.status, content, refusal.headers)

    def _check(self, method: str, path: str, query: str, sent: bytes, status: int, answer: bytes) -> None:
        if self.description is not None:
            self.description.check(method, path, template_of(path), query, sent, status, answer)

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        match = re.fullmatch(r"/repos/([^/]+)/([^/]+)(.*)", path)
        if match is None or f"{match[1]}/{match[2]}" != self.repository["full_name"]:
            raise Refusal(404, "Not Found")
        parts = [unquote(part) for part in match[3].split("/")[1:]]
        match (method, *parts):
            case ("GET",):
                return 200, dict(self.repository)
            case ("GET", "git", "ref", ref):
                return 200, self._ref(ref.removeprefix("heads/"))
            case ("GET", "git", "commits", sha):
                return 200, self._git_commit(self._known(sha))
            case ("GET", "compare", basehead):
                return 200, self._compare(*basehead.split("..."))
            case ("GET", "contents", name):
                return 200, self._contents(query["ref"][0], name)
            case ("GET", "git", "blobs", sha):
                return 200, self._blob(sha)
            case ("POST", "git", "blobs"):
                data = (
                    base64.b64decode(body["content"])
                    if body.get("encoding") == "base64"
                    else body["content"].encode()
                )
                return 201, {"sha": self._store(data), "url": "https://example.com/x"}
            case ("POST", "git", "trees"):
                return 201, {"sha": self._make_tree(body)}
            case ("POST", "git", "commits"):
                return 201, self._git_commit(self._make_commit(body))
            case ("POST", "git", "refs"):
                return 201, self._make_ref(body)
            case ("GET", "pulls"):
                return 200, self._list_pulls(query)
            case ("POST", "pulls"):
                return 201, self._make_pull(body)
            case ("PATCH", "pulls", number):
                return 200, self._edit_pull(int(number), body)
            case ("POST", "pulls", number, "requested_reviewers"):
                pull = self._pull(int(number))
                pull["reviewers"] |= set(body["reviewers"])
                pull["teams"] |= set(body["team_reviewers"])
                return 201, self._simple_pull(pull)
            case ("POST", "issues", number, "labels"):
                pull = self._pull(int(number))
                pull["labels"] |= set(body["labels"])
                return 200, [{"name": name} for name in sorted(pull["labels"])]
            case ("GET", "issues", number, "comments"):
                self._pull(int(number))
                found = [one for one in self.comments if one["number"] == int(number)]
                return 200, [self._comment(one) for one in _page(found, query)]
            case ("POST", "issues", number, "comments"):
                self._pull(int(number))
                self._long(body["body"])
                self.comments.append(
                    {
                        "number": int(number),
                        "id": 100 + len(self.comments),
                        "body": body["body"],
                        "login": self.login,
                    }
                )
                return 201, self._comment(self.comments[-1])
            case ("PATCH", "issues", "comments", number):
                comment = next((one for one in self.comments if one["id"] == int(number)), None)
                if comment is None:
                    raise Refusal(404, "Not Found")
                self._long(body["body"])
                comment["body"] = body["body"]
                return 200, self._comment(comment)
            case ("GET", "actions", "permissions", "workflow"):
                return 200, dict(self.settings)
        raise Refusal(404, "Not Found")

    # Git ------------------------------------------------------------------------------------------------

    def _store(self, data: bytes) -> str:
        sha = hashlib.sha1(b"blob" + data).hexdigest()
        self.blobs[sha] = data
        return sha

    def _store_tree(self, tree: dict[str, str]) -> str:
        sha = hashlib.sha1(b"tree" + json.dumps(tree, sort_keys=True).encode()).hexdigest()
        self.trees[sha] = tree
        return sha

    def _commit(self, tree: str, parents: list[str], message: str, author: str, *, verified: bool) -> str:
        fact = json.dumps([tree, parents, message, author, len(self.commits)])
        sha = hashlib.sha1(b"commit" + fact.encode()).hexdigest()
        self.commits[sha] = {
            "tree": tree,
            "parents": parents,
            "message": message,
            "author": author,
            "verified": verified,
        }
        return sha

    def _contents(self, commit: str, path: str) -> dict[str, Any]:
        tree = self.trees[self.commits[self._known(commit)]["tree"]]
        if path not in tree:
            raise Refusal(404, "Not Found")
        sha = tree[path]
        large = len(self.blobs[sha]) > 1_000_000
        content = "" if large else base64.encodebytes(self.blobs[sha]).decode()
        encoding = "none" if large else "base64"
        found = {"type": "file", "name": path, "path": path, "sha": sha, "size": len(self.blobs[sha])}
        url = "https://example.com/x"
        links = {"self": url, "git": url, "html": url}
        urls = {"url": url, "git_url": url, "html_url": url, "download_url": url, "_links": links}
        return {**found, **urls, "content": content, "encoding": encoding}

    def _blob(self, sha: str) -> dict[str, Any]:
        data = self.blobs[sha]
        content = base64.encodebytes(data).decode()
        return {"sha": sha, "content": content, "encoding": "base64", "size": len(data)}

    def _known(self, sha: str) -> str:
        if sha not in self.commits:
            raise Refusal(404, "Not Found")
        return sha

    def _point(self, branch: str, sha: str | None) -> None:
        """Move or delete a branch, and close pull requests without a difference to their base."""
        if sha is None:
            del self.refs[branch]
        else:
            self.refs[branch] = sha
        for pull in self.open_pulls():
            head = self.refs.get(pull["head"])
            if head is None or head in self._ancestors(self.refs[pull["base"]]):
                pull["state"] = "closed"

    def _ancestors(self, sha: str) -> list[str]:
        found, waiting = [], [sha]
        while waiting:
            one = waiting.pop(0)
            if one not in found:
                found.append(one)
                waiting += self.commits[one]["parents"]
        return found

    def _fork(self, one: str, other: str) -> str:
        there = self._ancestors(one)
        return next(sha for sha in self._ancestors(other) if sha in there)

    def _git_commit(self, sha: str) -> dict[str, Any]:
        commit = self.commits[sha]
        return {
            "sha": sha,
            "tree": {"sha": commit["tree"], "url": "https://example.com/x"},
            "parents": [{"sha": parent} for parent in commit["parents"]],
            "author": {"name": commit["author"], "email": f"{commit['author']}@users.example"},
            "message": commit["message"],
            "verification": {
                "verified": commit["verified"],
                "reason": "valid" if commit["verified"] else "unsigned",
            },
        }

    def _listed_commit(self, sha: str) -> dict[str, Any]:
        whole = self._git_commit(sha)
        inner = {name: whole[name] for name in ("tree", "author", "message", "verification")}
        return {
            "sha": sha,
            "commit": inner,
            "parents": [{**one, "url": "https://example.com/x"} for one in whole["parents"]],
        }

    def _compare(self, base: str, head: str) -> dict[str, Any]:
        base, head = (self.refs.get(name) or self._known(name) for name in (base, head))
        before, after = self._ancestors(base), self._ancestors(head)
        if not set(before) & set(after):
            raise Refusal(404, "Not Found")
        ahead = [sha for sha in reversed(after) if sha not in before]
        behind = [sha for sha in before if sha not in after]
        status = {(True, True): "diverged", (True, False): "ahead", (False, True): "behind"}.get(
            (bool(ahead), bool(behind)), "identical"
        )
        old, new = (self.trees[self.commits[sha]["tree"]] for sha in (self._fork(base, head), head))
        changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
        return {
            "status": status,
            "base_commit": self._listed_commit(base),
            "merge_base_commit": self._listed_commit(self._fork(base, head)),
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "commits": [self._listed_commit(sha) for sha in ahead[:250]],
            "files": [
                {
                    "filename": path,
                    "status": "removed" if path not in new else "modified" if path in old else "added",
                }
                for path in changed[:300]
            ],
        }

    def _ref(self, branch: str) -> dict[str, Any]:
        if not self.refs:
            raise Refusal(409, "Git Repository is empty.")
        if branch not in self.refs:
            raise Refusal(404, "Not Found")
        return {"ref": f"refs/heads/{branch}", "object": {"sha": self.refs[branch], "type": "commit"}}

    def _make_tree(self, body: dict[str, Any]) -> str:
        if body["base_tree"] not in self.trees:
            raise Refusal(422, "base_tree is not a valid tree oid")
        tree = dict(self.trees[body["base_tree"]])
        for entry in body["tree"]:
            tree[entry["path"]] = entry["sha"] if "sha" in entry else self._store(entry["content"].encode())
        return self._store_tree(tree)

    def _make_commit(self, body: dict[str, Any]) -> str:
        if body["tree"] not in self.trees:
            raise Refusal(422, "Tree SHA does not exist")
        named = "author" in body or "committer" in body
        verified = self.login.endswith("[bot]") and not named
        return self._commit(body["tree"], body["parents"], body["message"], self.login, verified=verified)

    def _make_ref(self, body: dict[str, Any]) -> dict[str, Any]:
        branch = body["ref"].removeprefix("refs/heads/")
        if ".." in branch:
            raise Refusal(422, f"{body['ref']} is not a valid ref name.")
        if branch in self.refs:
            raise Refusal(422, "Reference already exists")
        if body["sha"] not in self.commits:
            raise Refusal(422, "Object does not exist")
        self._point(branch, body["sha"])
        return self._ref(branch)

    def _graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        if "viewer" in body["query"]:
            return {"data": {"viewer": {"login": self.login}}}
        given = body["variables"]["input"]
        assert given["repositoryId"] == self.repository["node_id"]
        (update,) = given["refUpdates"]
        branch = update["name"].removeprefix("refs/heads/")
        if self.refs.get(branch, "0" * 40) != update["beforeOid"]:
            error = {
                "type": "UNPROCESSABLE",
                "path": ["updateRefs"],
                "message": "reference is not where it was expected",
            }
            return {"data": {"updateRefs": None}, "errors": [error]}
        self._point(branch, None if set(update["afterOid"]) == {"0"} else update["afterOid"])
        return {"data": {"updateRefs": {"clientMutationId": None}}}

    # Pull requests --------------------------------------------------------------------------------------

    def _pull(self, number: int) -> dict[str, Any]:
        if not 1 <= number <= len(self.pulls):
            raise Refusal(404, "Not Found")
        return self.pulls[number - 1]

    def _list_pulls(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        found = [pull for pull in self.pulls if pull["state"] == query["state"][0]]
        if query["state"][0] == "closed":
            found.reverse()
        if "head" in query:
            found = [pull for pull in found if f"o:{pull['head']}" == query["head"][0] and not pull["fork"]]
        return [self._simple_pull(pull) for pull in _page(found, query)]

    def _make_pull(self, body: dict[str, Any]) -> dict[str, Any]:
        head, base = body["head"], body["base"]
        for name, branch in (("head", head), ("base", base)):
            if branch not in self.refs:
                raise Refusal(
                    422, "Validation Failed", [{"resource": "PullRequest", "field": name, "code": "invalid"}]
                )
        if any(pull["head"] == head and pull["base"] == base for pull in self.open_pulls()):
            self._refuse_pull(f"A pull request already exists for o:{head}.")
        if self.refs[head] in self._ancestors(self.refs[base]):
            self._refuse_pull(f"No commits between {base} and {head}")
        self._long(body["body"])
        pull = {
            "number": len(self.pulls) + 1,
            **{name: body[name] for name in ("title", "body", "head", "base", "draft")},
            "state": "open",
            "merged": False,
            "labels": set(),
            "reviewers": set(),
            "teams": set(),
            "fork": False,
        }
        self.pulls.append(pull)
        return self._whole_pull(pull)

    def _refuse_pull(self, message: str) -> None:
        raise Refusal(
            422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": message}]
        )

    def _long(self, body: str) -> None:
        if len(body) > 65_536:
            raise Refusal(
                422, "Validation Failed", [{"resource": "X", "code": "custom", "message": "body is too long"}]
            )

    def _edit_pull(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        pull = self._pull(number)
        pull |= {name: body[name] for name in ("title", "body", "base", "state") if name in body}
        return self._whole_pull(pull)

    def _simple_pull(self, pull: dict[str, Any]) -> dict[str, Any]:
        repository = {"full_name": "o/r"}
        tip = self.refs.get(pull["head"], "0" * 40)
        return {
            "number": pull["number"],
            "html_url": f"https://github.com/o/r/pull/{pull['number']}",
            "state": pull["state"],
            "title": pull["title"],
            "body": pull["body"],
            "draft": pull["draft"],
            "merged_at": "2026-01-01T00:00:00Z" if pull["merged"] else None,
            "base": {"ref": pull["base"], "sha": self.refs[pull["base"]], "repo": repository},
            "head": {"ref": pull["head"], "sha": tip, "repo": repository},
            "labels": [{"name": name} for name in sorted(pull["labels"])],
            "requested_reviewers": [{"login": name} for name in sorted(pull["reviewers"])],
            "requested_teams": [{"slug": name} for name in sorted(pull["teams"])],
        }

    def _whole_pull(self, pull: dict[str, Any]) -> dict[str, Any]:
        return {**self._simple_pull(pull), "merged": pull["merged"]}

    def _comment(self, comment: dict[str, Any]) -> dict[str, Any]:
        return {"id": comment["id"], "body": comment["body"], "user": {"login": comment["login"]}}


def raw(status: int, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """Make a response whose body is a stream, like that of a connection."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


def plain(status: int, body: Any) -> httpx.Response:
    return raw(status, json.dumps(body).encode())


def _page(found: list[Any], query: dict[str, list[str]]) -> list[Any]:
    size, page = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
    return found[size * (page - 1) : size * page]


def template_of(path: str) -> str:
    for template in TEMPLATES:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return template
    raise AssertionError(f"GitHub has no {path}")
