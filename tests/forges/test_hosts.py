"""GitLab and Gitea: the suite of all forges, drafts and reviews, and faults at every call."""

from __future__ import annotations

import httpx
import pytest

from reconciler.errors import PeerError
from reconciler.forges.gitea import gitea
from reconciler.forges.gitlab import gitlab
from reconciler.forges.interface import PROPOSAL_BRANCH, Proposal, ProposalOutcome, SetFiles
from reconciler.forges.local_repository import CommitIdentity
from reconciler.forges.propose import propose
from reconciler.net.auth import Secret
from tests.conformance.forges import FILES, INDEX, MESSAGE, PROPOSAL, FixedEdit, ForgeSuite, Seen
from tests.forges.fake_github import Break, Refusal
from tests.forges.fake_hosts import TOKEN, FakeGitea, FakeGitLab, FakeHost
from tests.forges.git_server import BareRepository
from tests.forges.refusals import LINE

BOT = CommitIdentity("A Bot", "bot@example.org")


def connect(fake: FakeHost, clock):
    git_url = f"file://{fake.bare.path}"
    options = {"identity": BOT, "clock": clock, "transport": fake.transport, "git_url": git_url}
    if isinstance(fake, FakeGitLab):
        return gitlab("group/r", Secret(TOKEN), api_url="https://gitlab.test/api/v4", **options)
    return gitea("o/r", Secret(TOKEN), api_url="https://gitea.test/api/v1", **options)


class HostSubject:
    """The repository of a fake, changed by people."""

    def __init__(self, fake: FakeHost, clock) -> None:
        self.fake = fake
        self.clock = clock
        self.forge = self.another_job()

    def another_job(self):
        return connect(self.fake, self.clock)

    def push(self, branch, files, *, onto=None):
        return self.fake.bare.push(branch, files, onto=onto)

    def delete_branch(self, branch):
        self.fake.bare.delete(branch)

    def tip(self, branch):
        return self.fake.bare.tip(branch)

    def message(self, commit):
        return self.fake.bare.message(commit)

    def parents(self, commit):
        return self.fake.bare.parents(commit)

    def files(self, branch):
        return self.fake.bare.files(branch)

    def proposals(self):
        self.fake.close_the_merged()
        return [
            Seen(one.number, one.open, one.title, one.body, one.base, frozenset(one.labels))
            for one in self.fake.requests
        ]

    def merge(self, number, *, squash):
        one = self.fake.find(number)
        self.fake.bare.merge(one.head, one.base, squash=squash)
        one.open, one.merged = False, True

    def close(self, number):
        self.fake.find(number).open = False

    def comments(self, number):
        return [one["body"] for one in self.fake.notes if one["on"] == number]

    def stranger_comments(self, number, body):
        self.fake.comment(number, "stranger", body)

    def make_unreachable(self):
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("Connection refused")

        self.fake.answer = refuse
        self.fake.bare.path.rename(self.fake.bare.path.with_suffix(".away"))
        self.forge = self.another_job()


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> BareRepository:
    path = tmp_path_factory.mktemp("template") / "r.git"
    return BareRepository.make(path, {INDEX: b"schema: 1\n", "README.md": b"x\n"})


@pytest.fixture(scope="module")
def tip_to_propose(template) -> str:
    """Return a commit that is in every copy, to which a test can set a branch."""
    tip = template.push("elsewhere", FILES, onto=template.tip("main"))
    template.delete("elsewhere")
    return tip


@pytest.fixture
def bare(template, tmp_path) -> BareRepository:
    return template.copy(tmp_path / "r.git")


@pytest.fixture(params=[FakeGitLab, FakeGitea], ids=["gitlab", "gitea"])
def fake(request, bare) -> FakeHost:
    return request.param(bare)


@pytest.fixture
def subject(fake, ticking) -> HostSubject:
    return HostSubject(fake, ticking.clock)


class TestHosts(ForgeSuite):
    """The suite against both fakes and real git."""

    @pytest.fixture(
        params=[FakeGitLab, pytest.param(FakeGitea, marks=pytest.mark.slow)], ids=["gitlab", "gitea"]
    )
    def fake(self, request, bare) -> FakeHost:
        return request.param(bare)


def test_a_draft_is_opened_as_one_and_stays_what_people_make_it(subject, fake):
    draft = Proposal("T", "B", base="main", draft=True)
    subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base="main")
    subject.forge.ensure_proposal(draft)
    assert fake.requests[0].title in ("Draft: T", "WIP: T")
    assert subject.forge.ensure_proposal(draft).outcome is ProposalOutcome.UNCHANGED
    fake.requests[0].title = "T"  # a person says that it is ready
    assert subject.forge.ensure_proposal(draft).outcome is ProposalOutcome.UNCHANGED


def test_reviews_are_asked_for_once(subject, fake):
    wanted = Proposal("T", "B", base="main", reviewers=("person",))
    subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base="main")
    subject.forge.ensure_proposal(wanted)
    assert fake.requests[0].reviewers == {"person"}
    fake.requests[0].reviewers.clear()
    subject.forge.ensure_proposal(wanted)
    assert not fake.requests[0].reviewers


def test_gitlab_names_a_reviewer_it_does_not_know(bare, ticking):
    forge = connect(FakeGitLab(bare), ticking.clock)
    forge.ensure_branch(SetFiles(FILES, MESSAGE), base="main")
    with pytest.raises(PeerError, match="'nobody'"):
        forge.ensure_proposal(Proposal("T", "B", base="main", reviewers=("nobody",)))


ROWS = {
    "401": (Refusal(401, "401 Unauthorized"), False),
    "403": (Refusal(403, "insufficient_scope"), False),
    "404": (Refusal(404, "404 Not found"), False),
    "409": (
        Refusal(409, "", ["Another open merge request already exists for this source branch: !1"]),
        False,
    ),
    "422": (Refusal(422, "invalid"), False),
    "429": (Refusal(429, "slow down", None, {"retry-after": "3"}), False),
    "500": (Refusal(500, "internal"), False),
    "502 after it was done": (Refusal(502, "bad gateway"), True),
    **LINE,
}
LASTING = {"401", "403"}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("at", range(4))
def test_any_answer_at_any_call_leaves_one_proposal(row, at, tip_to_propose, subject, fake):
    what, carried_out = ROWS[row]
    wanted = Proposal("T", "B", base="main", labels=("models",), reviewers=("person",))
    fake.bare.run("update-ref", f"refs/heads/{PROPOSAL_BRANCH}", tip_to_propose)
    refusal, fault = (what, None) if isinstance(what, Refusal) else (None, what)
    fake.breaks = [Break(at, refusal, fault, carried_out)]
    try:
        subject.forge.ensure_proposal(wanted)
    except PeerError as error:
        assert subject.forge.name in str(error)
        if row in LASTING:
            assert error.hint
    fake.breaks = []
    subject.another_job().ensure_proposal(wanted)
    (seen,) = subject.proposals()
    assert (seen.open, seen.title, seen.body, seen.labels) == (True, "T", "B", {"models"})


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("at", range(3))
def test_any_answer_at_any_call_leaves_one_comment(row, at, tip_to_propose, subject, fake):
    what, carried_out = ROWS[row]
    fake.bare.run("update-ref", f"refs/heads/{PROPOSAL_BRANCH}", tip_to_propose)
    number = subject.forge.ensure_proposal(PROPOSAL).number
    refusal, fault = (what, None) if isinstance(what, Refusal) else (None, what)
    fake.breaks = [Break(fake.calls + at, refusal, fault, carried_out)]
    try:
        subject.forge.upsert_comment(number, "plan", "text")
    except PeerError as error:
        assert subject.forge.name in str(error)
    fake.breaks = []
    subject.another_job().upsert_comment(number, "plan", "text")
    assert [one.splitlines()[-1] for one in subject.comments(number)] == ["text"]


def test_a_whole_proposal_closes_itself_when_the_base_has_it(subject):
    def run():
        return propose(subject.forge, FixedEdit(FILES), base="main", close_comment="all is merged")

    _, first = run()
    subject.push("main", FILES)  # a person did the same by hand
    _, result = run()
    assert (result.outcome, result.number) == (ProposalOutcome.CLOSED, first.number)
    assert "all is merged" in subject.comments(first.number)[-1]
    assert subject.tip(PROPOSAL_BRANCH) is None
    assert run()[1].outcome is ProposalOutcome.NONE


def test_the_token_is_in_no_object_and_no_representation(subject, fake):
    propose(subject.forge, FixedEdit(FILES), base="main", close_comment="x")
    shown = repr(vars(subject.forge)) + fake.bare.run("log", "--all", "--format=%B%an%ae%cn%ce")
    assert TOKEN not in shown + (fake.bare.path / "config").read_text()
