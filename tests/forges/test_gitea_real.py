"""The suite of all forges against a real Gitea, which is also a git server that requires a password."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import PeerError
from reconciler.forges.gitea import gitea
from reconciler.forges.interface import PROPOSAL_BRANCH, SetFiles
from reconciler.forges.local_repository import CommitIdentity
from reconciler.net.auth import Secret
from tests.conformance.forges import FILES, INDEX, MESSAGE, ForgeSuite, Seen
from tests.forges.git_server import BareRepository
from tests.support.gitea_server import GiteaServer, gitea_server

pytestmark = pytest.mark.gitea

BOT = CommitIdentity("A Bot", "bot@example.org")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> GiteaServer:
    with gitea_server(tmp_path_factory.mktemp("gitea") / "home") as server:
        yield server


def wait(done: Callable[[], object]) -> None:
    """Wait for Gitea, which processes pushes and checks for conflicts in the background."""
    for _ in range(1200):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError("Gitea did not get to it in time")


class RealSubject:
    """A repository of the server, changed by other people through pushes over HTTP and the API."""

    def __init__(self, server: GiteaServer, folder: Path, clock) -> None:
        self.server = server
        self.clock = clock
        self.repository = server.make_repository()
        self.url = server.git_url(self.repository, user="person")
        self.local = BareRepository.make(folder / "person.git", {INDEX: b"schema: 1\n", "README.md": b"x\n"})
        self.local.run("push", "-q", self.url, "refs/heads/main")
        wait(lambda: not server.call("GET", f"repos/{self.repository}")["empty"])
        self.opened = []
        self.forge = self.another_job()

    def another_job(self):
        return self._open(
            gitea(
                self.repository,
                Secret(self.server.tokens["bot"]),
                git_url=self.server.git_url(self.repository),
                api_url=f"{self.server.url}/api/v1",
                identity=BOT,
                clock=self.clock,
            )
        )

    def _open(self, forge):
        self.opened.append(forge)
        return forge

    def _fetch(self) -> None:
        self.local.run("fetch", "-q", "--prune", "--force", self.url, "+refs/heads/*:refs/heads/*")

    def push(self, branch, files, *, onto=None):
        self._fetch()
        sha = self.local.push(branch, files, onto=onto)
        self.local.run("push", "-q", "--force", self.url, f"refs/heads/{branch}")
        return sha

    def delete_branch(self, branch):
        self.local.run("push", "-q", self.url, f":refs/heads/{branch}")

    def tip(self, branch):
        self._fetch()
        return self.local.run("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}") or None

    def message(self, commit):
        self._fetch()
        return self.local.message(commit)

    def parents(self, commit):
        self._fetch()
        return self.local.parents(commit)

    def files(self, branch):
        self._fetch()
        return self.local.files(branch)

    def proposals(self):
        pulls = self.server.call("GET", f"repos/{self.repository}/pulls?state=all&limit=50")
        return [
            Seen(
                one["number"],
                one["state"] == "open",
                one["title"],
                one["body"],
                one["base"]["ref"],
                frozenset(label["name"] for label in one["labels"] or ()),
            )
            for one in sorted(pulls, key=lambda one: one["number"])
        ]

    def merge(self, number, *, squash):
        way = {"Do": "squash" if squash else "merge", "delete_branch_after_merge": False}
        self._when_mergeable(number)
        self.server.call("POST", f"repos/{self.repository}/pulls/{number}/merge", way)

    def _when_mergeable(self, number) -> None:
        wait(lambda: self.server.call("GET", f"repos/{self.repository}/pulls/{number}")["mergeable"])

    def close(self, number):
        self.server.call("PATCH", f"repos/{self.repository}/pulls/{number}", {"state": "closed"})

    def comments(self, number):
        found = self.server.call("GET", f"repos/{self.repository}/issues/{number}/comments")
        return [one["body"] for one in found]

    def stranger_comments(self, number, body):
        path = f"repos/{self.repository}/issues/{number}/comments"
        self.server.call("POST", path, {"body": body}, user="stranger")

    def make_unreachable(self):
        self.forge = self._open(
            gitea(
                self.repository,
                Secret("x"),
                git_url="http://127.0.0.1:1/o/r.git",
                api_url="http://127.0.0.1:1/api/v1",
                identity=BOT,
                clock=self.clock,
            )
        )


@pytest.fixture
def subject(server, tmp_path, ticking) -> Iterator[RealSubject]:
    subject = RealSubject(server, tmp_path, ticking.clock)
    yield subject
    for forge in subject.opened:
        forge.close()


class TestRealGitea(ForgeSuite):
    """The suite against a real server."""


def test_what_was_pushed_is_read_back_by_a_clone(subject, tmp_path):
    subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base="main")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "-b", PROPOSAL_BRANCH, subject.url, clone], check=True)
    for name, data in FILES.items():
        assert (clone / name).read_bytes() == data


def test_a_wrong_token_is_told_and_nothing_changes(subject):
    forge = subject._open(
        gitea(
            subject.repository,
            Secret("0" * 40),
            git_url=subject.server.git_url(subject.repository),
            api_url=f"{subject.server.url}/api/v1",
            identity=BOT,
            clock=subject.clock,
        )
    )
    with pytest.raises(PeerError) as caught:
        forge.ensure_branch(SetFiles(FILES, MESSAGE), base="main")
    assert "0" * 40 not in str(caught.value)
    assert subject.tip(PROPOSAL_BRANCH) is None


def test_a_token_that_may_only_read_is_told_what_is_missing(subject):
    forge = subject._open(
        gitea(
            subject.repository,
            Secret(subject.server.make_token("stranger", "read:repository,read:issue,read:user")),
            git_url=subject.server.git_url(subject.repository),
            api_url=f"{subject.server.url}/api/v1",
            identity=BOT,
            clock=subject.clock,
        )
    )
    with pytest.raises(PeerError) as caught:
        forge.ensure_branch(SetFiles(FILES, MESSAGE), base="main")
    assert caught.value.hint
    assert subject.tip(PROPOSAL_BRANCH) is None
