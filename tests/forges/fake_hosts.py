"""Fakes of GitLab and Gitea: a bare repository on disk, and the part of each API that a proposal uses.

The two speak different dialects over the same facts; what is refused, and with which words, follows their
documentation and the reports of their users.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx

from tests.forges.fake_github import Break, Refusal, raw
from tests.forges.git_server import BareRepository

TOKEN = "canary-of-a-token"


@dataclass
class Facts:
    """One pull or merge request."""

    number: int
    title: str
    body: str
    head: str
    base: str
    open: bool = True
    labels: set[str] = field(default_factory=set)
    reviewers: set[str] = field(default_factory=set)
    merged: bool = False


class FakeHost:
    """The common part of both fakes, reached through `transport`."""

    login = "bot"

    def __init__(self, bare: BareRepository) -> None:
        self.bare = bare
        self.requests: list[Facts] = []
        self.notes: list[dict[str, Any]] = []
        self.breaks: list[Break] = []
        self.between = None
        self.calls = 0

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        number, self.calls = self.calls, self.calls + 1
        if self.between is not None:
            self.between(number)
        self.close_the_merged()
        broken = next((one for one in self.breaks if one.at == number), None)
        response = None
        if broken is None or broken.carried_out:
            response = self._respond(request)
        if broken is not None and broken.refusal is not None:
            response = self._refuse(broken.refusal)
        elif broken is not None and broken.fault is not None:
            response = broken.fault(request)
        assert response is not None
        return response

    def close_the_merged(self) -> None:
        """Close the requests whose branch was deleted or merged."""
        for one in self.requests:
            if one.open and (self.bare.tip(one.head) is None or self.bare.is_merged(one.head, one.base)):
                one.open = False

    def comment(self, number: int, login: str, body: str) -> dict[str, Any]:
        self.notes.append({"id": 70 + len(self.notes), "on": number, "login": login, "body": body})
        return self.notes[-1]

    def _respond(self, request: httpx.Request) -> httpx.Response:
        try:
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                raise Refusal(401, "401 Unauthorized")
            path = request.url.raw_path.decode().partition("?")[0]
            query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
            body = json.loads(request.content) if request.content else {}
            status, answer = self.route(request.method, path, query, body)
        except Refusal as refusal:
            return self._refuse(refusal)
        return raw(status, json.dumps(answer).encode())

    def _refuse(self, refusal: Refusal) -> httpx.Response:
        message = refusal.errors if refusal.errors is not None else refusal.message
        return raw(refusal.status, json.dumps({"message": message}).encode(), refusal.headers)

    def route(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        raise NotImplementedError

    def find(self, number: str) -> Facts:
        for one in self.requests:
            if one.number == int(number):
                return one
        raise Refusal(404, "404 Not found")

    def note(self, number: str) -> dict[str, Any]:
        return next(one for one in self.notes if one["id"] == int(number))

    def same_open(self, head: str, base: str) -> Facts | None:
        return next((one for one in self.requests if one.open and (one.head, one.base) == (head, base)), None)


class FakeGitLab(FakeHost):
    """The project group/r."""

    def route(self, method, path, query, body):
        prefix = "/api/v4/projects/group%2Fr"
        if path == "/api/v4/user":
            return 200, {"username": self.login}
        if path == "/api/v4/users":
            return 200, [{"id": 5, "username": "person"}] if query["username"] == "person" else []
        if not path.startswith(prefix):
            raise Refusal(404, "404 Project Not Found")
        match (method, *path.removeprefix(prefix).split("/")[1:]):
            case ("GET",):
                permissions = {"project_access": {"access_level": 30}, "group_access": None}
                return 200, {"id": 1, "archived": False, "permissions": permissions}
            case ("GET", "merge_requests"):
                assert query["per_page"] == "100"
                found = [one for one in self.requests if one.head == query["source_branch"]]
                found = [one for one in found if one.open or query["state"] == "all"]
                return 200, [self.shown(one) for one in reversed(found)]
            case ("POST", "merge_requests"):
                there = self.same_open(body["source_branch"], body["target_branch"])
                if there is not None:
                    text = (
                        f"Another open merge request already exists for this source branch: !{there.number}"
                    )
                    raise Refusal(409, "", [text])
                if self.bare.tip(body["source_branch"]) is None:
                    raise Refusal(400, "", [{"source_branch": ["does not exist"]}])
                labels = set(body.get("labels", "").split(",")) - {""}
                one = Facts(
                    *(len(self.requests) + 1, body["title"], body["description"]),
                    *(body["source_branch"], body["target_branch"], True, labels),
                )
                self.requests.append(one)
                return 201, self.shown(one)
            case ("PUT", "merge_requests", number):
                one = self.find(number)
                one.title = body.get("title", one.title)
                one.body = body.get("description", one.body)
                one.base = body.get("target_branch", one.base)
                one.labels |= set(body.get("add_labels", "").split(",")) - {""}
                one.reviewers |= {"person"} if 5 in body.get("reviewer_ids", []) else set()
                one.open = one.open and body.get("state_event") != "close"
                return 200, self.shown(one)
            case ("GET", "merge_requests", number, "notes"):
                size, page = int(query["per_page"]), int(query["page"])
                found = [self.shown_note(one) for one in self.notes if one["on"] == int(number)]
                return 200, found[size * (page - 1) : size * page]
            case ("POST", "merge_requests", number, "notes"):
                return 201, self.shown_note(self.comment(self.find(number).number, self.login, body["body"]))
            case ("PUT", "merge_requests", number, "notes", note):
                assert self.find(number)
                self.note(note)["body"] = body["body"]
                return 200, self.shown_note(self.note(note))
        raise Refusal(404, "404 Not found")

    def shown(self, one: Facts) -> dict[str, Any]:
        return {
            "iid": one.number,
            "web_url": f"https://gitlab.test/group/r/-/merge_requests/{one.number}",
            "state": "opened" if one.open else "merged" if one.merged else "closed",
            "title": one.title,
            "description": one.body,
            "source_branch": one.head,
            "target_branch": one.base,
            "source_project_id": 1,
            "target_project_id": 1,
            "sha": self.bare.tip(one.head),
            "labels": sorted(one.labels),
        }

    def shown_note(self, one: dict[str, Any]) -> dict[str, Any]:
        return {"id": one["id"], "body": one["body"], "author": {"username": one["login"]}}


class FakeGitea(FakeHost):
    """The repository o/r, at first without labels."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.labels: set[str] = set()

    def route(self, method, path, query, body):
        if path == "/api/v1/user":
            return 200, {"login": self.login}
        match = re.fullmatch(r"/api/v1/repos/o/r(/.*)?", path)
        if match is None:
            raise Refusal(404, "The target couldn't be found.")
        match (method, *(match[1] or "").split("/")[1:]):
            case ("GET",):
                return 200, {"archived": False, "permissions": {"push": True, "pull": True}}
            case ("GET", "pulls"):
                size, page = int(query["limit"]), int(query["page"])
                found = [self.shown(one) for one in self.requests if one.open == (query["state"] == "open")]
                found.reverse()
                return 200, found[size * (page - 1) : size * page]
            case ("POST", "pulls"):
                there = self.same_open(body["head"], body["base"])
                if there is not None:
                    text = f"pull request already exists for these targets [id: 9, issue_id: {there.number}]"
                    raise Refusal(409, text)
                if self.bare.tip(body["head"]) is None:
                    raise Refusal(404, "head branch does not exist")
                one = Facts(len(self.requests) + 1, body["title"], body["body"], body["head"], body["base"])
                self.requests.append(one)
                return 201, self.shown(one)
            case ("PATCH", "pulls", number):
                one = self.find(number)
                one.title, one.body = body.get("title", one.title), body.get("body", one.body)
                one.base = body.get("base", one.base)
                one.open = one.open and body.get("state") != "closed"
                return 201, self.shown(one)
            case ("POST", "pulls", number, "requested_reviewers"):
                self.find(number).reviewers |= set(body["reviewers"])
                return 201, []
            case ("POST", "issues", number, "labels"):
                self.find(number).labels |= set(body["labels"]) & self.labels
                return 200, [{"name": name} for name in sorted(self.find(number).labels)]
            case ("GET", "labels"):
                size, page = int(query["limit"]), int(query["page"])
                return 200, [{"name": name} for name in sorted(self.labels)][size * (page - 1) : size * page]
            case ("POST", "labels"):
                self.labels.add(body["name"])
                return 201, {"name": body["name"]}
            case ("GET", "issues", number, "comments"):
                return 200, [self.shown_note(one) for one in self.notes if one["on"] == int(number)]
            case ("POST", "issues", number, "comments"):
                return 201, self.shown_note(self.comment(self.find(number).number, self.login, body["body"]))
            case ("PATCH", "issues", "comments", note):
                self.note(note)["body"] = body["body"]
                return 200, self.shown_note(self.note(note))
        raise Refusal(404, "The target couldn't be found.")

    def shown(self, one: Facts) -> dict[str, Any]:
        return {
            "number": one.number,
            "html_url": f"https://gitea.test/o/r/pulls/{one.number}",
            "state": "open" if one.open else "closed",
            "merged_at": "2026-01-01T00:00:00Z" if one.merged else None,
            "title": one.title,
            "body": one.body,
            "base": {"ref": one.base},
            "head": {"ref": one.head, "sha": self.bare.tip(one.head), "repo": {"full_name": "o/r"}},
            "labels": [{"name": name} for name in sorted(one.labels)],
        }

    def shown_note(self, one: dict[str, Any]) -> dict[str, Any]:
        return {"id": one["id"], "body": one["body"], "user": {"login": one["login"]}}
