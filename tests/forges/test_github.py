"""GitHub: the suite of all forges, the sequence of calls, and their number."""

from __future__ import annotations

from itertools import pairwise

import httpx
import pytest

from reconciler.errors import PeerError, UsageError
from reconciler.forges.github import github
from reconciler.forges.github.api import GitHubAddress
from reconciler.forges.interface import (
    BODY_LIMIT,
    PROPOSAL_BRANCH,
    BranchOutcome,
    Proposal,
    ProposalOutcome,
    SetFiles,
)
from reconciler.forges.propose import propose
from reconciler.net.auth import Secret
from tests.conformance.forges import (
    FILES,
    INDEX,
    MESSAGE,
    OTHER_FILES,
    PROPOSAL,
    AddingEdit,
    ForgeSuite,
    Seen,
)
from tests.forges import github_description
from tests.forges.fake_github import TEMPLATES, FakeGitHub, template_of

BASE = "main"


class GitHubSubject:
    """The repository of the fake, changed by people."""

    def __init__(self, fake: FakeGitHub, clock) -> None:
        self.fake = fake
        self.clock = clock
        self.forge = self.another_job()

    def another_job(self):
        return github("o/r", Secret(self.fake.token), clock=self.clock, transport=self.fake.transport)

    def push(self, branch, files, *, onto=None):
        return self.fake.push(branch, dict(files), "by hand", onto=onto)

    def delete_branch(self, branch):
        self.fake._point(branch, None)

    def tip(self, branch):
        return self.fake.refs.get(branch)

    def message(self, commit):
        found = self.fake.commits[commit]
        author = found["author"]
        return found["message"].rstrip(), f"{author} <{author}@users.example>"

    def parents(self, commit):
        return tuple(self.fake.commits[commit]["parents"])

    def files(self, branch):
        return self.fake.files(branch)

    def proposals(self):
        return [
            Seen(
                pull["number"],
                pull["state"] == "open",
                pull["title"],
                pull["body"],
                pull["base"],
                frozenset(pull["labels"]),
            )
            for pull in self.fake.pulls
        ]

    def merge(self, number, *, squash):
        self.fake.merge(number, squash=squash)

    def close(self, number):
        self.fake.pulls[number - 1]["state"] = "closed"

    def comments(self, number):
        return [one["body"] for one in self.fake.comments if one["number"] == number]

    def stranger_comments(self, number, body):
        self.fake.comments.append({"number": number, "id": 9000, "body": body, "login": "stranger"})

    def make_unreachable(self):
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("Connection refused")

        self.fake.answer = refuse
        self.forge = self.another_job()


@pytest.fixture
def fake(description_if_there) -> FakeGitHub:
    return FakeGitHub(description_if_there)


@pytest.fixture
def subject(fake, ticking) -> GitHubSubject:
    return GitHubSubject(fake, ticking.clock)


class TestGitHub(ForgeSuite):
    """The suite against the fake."""

    verified = True


def run(subject, files=FILES, proposal=PROPOSAL):
    branch = subject.forge.ensure_branch(SetFiles(files, MESSAGE), base=BASE)
    return branch, subject.forge.ensure_proposal(proposal)


@pytest.mark.node
def test_every_exchange_of_a_whole_life_is_as_github_describes_it(description, ticking):
    """The fake checks each request and response against the description; skipped without npm."""
    subject = GitHubSubject(FakeGitHub(description, login="github-actions[bot]"), ticking.clock)
    dressed = Proposal("T", "B", base=BASE, labels=("l",), reviewers=("person", "team:crew"), draft=True)
    run(subject, {**FILES, "binary": b"\xff"}, dressed)
    subject.push(BASE, {"docs": b"x", "large": b"x" * 1_000_001})
    propose(subject.forge, AddingEdit({"large": b"y"}), base=BASE, close_comment="x")
    run(subject, OTHER_FILES, PROPOSAL)
    subject.forge.upsert_comment(1, "plan", "one")
    subject.forge.upsert_comment(1, "plan", "two")
    subject.forge.close_proposal("done", base=BASE)
    subject.forge.access()
    calls = {(one.method, template_of(one.path)) for one in subject.fake.log if one.path != "/graphql"}
    assert calls <= description.checked
    assert {template for _, template in calls} >= set(TEMPLATES)


@pytest.mark.node
def test_both_graphql_calls_are_as_github_describes_them(fake, subject):
    import graphql

    names = (
        github_description.GRAPHQL_PACKAGE,
        github_description.GRAPHQL_VERSION,
        github_description.SCHEMA,
    )
    schema = graphql.build_schema(github_description.bring(*names).read_text(), assume_valid=True)
    run(subject)
    run(subject, OTHER_FILES)
    subject.forge.upsert_comment(1, "plan", "x")
    subject.forge.close_proposal("x", base=BASE)
    calls = [one.body for one in fake.log if one.path == "/graphql"]
    assert len({call["query"] for call in calls}) == 2
    for call in calls:
        document = graphql.parse(call["query"])
        assert graphql.validate(schema, document) == []
        definitions = document.definitions[0].variable_definitions or ()
        values = graphql.get_variable_values(schema, definitions, call["variables"])
        assert not isinstance(values, list), values


# -- figures
# ---------------------------------------------------------------------------------------------------


def test_calls_stay_within_their_figures(subject, fake):
    dressed = Proposal("T", "B", base=BASE, labels=("l",), reviewers=("person", "team:crew"))

    def calls(files, proposal=dressed):
        before = fake.calls
        run(subject, files, proposal)
        return fake.calls - before

    assert calls(FILES) <= 12, "a first proposal"
    assert calls(FILES) <= 6, "nothing new"
    other_words = Proposal("T2", "B2", base=BASE, labels=("l", "m"))
    assert calls(OTHER_FILES, other_words) <= 12, "other files and other words"
    subject.push(BASE, {"docs": b"x"})
    assert calls(OTHER_FILES) <= 12, "a base that moved"


def test_writes_are_a_second_apart_and_reads_do_not_wait(subject, fake, ticking):
    at = []
    fake.between = lambda number, github: at.append(ticking.passed)
    run(subject)
    writes = [moment for moment, one in zip(at, fake.log, strict=True) if one.method != "GET"]
    assert len(writes) >= 4
    assert all(later - earlier >= 1 for earlier, later in pairwise(writes))
    assert ticking.passed <= len(writes)


# -- the sequence
# ----------------------------------------------------------------------------------------------


def test_a_commit_names_no_author_so_that_github_signs_it(subject, fake):
    result, _ = run(subject)
    (made,) = [one.body for one in fake.log if one.path.endswith("/git/commits") and one.method == "POST"]
    assert not {"author", "committer"} & made.keys()
    assert result.verified is True


def test_a_persons_token_leaves_the_commit_unverified_and_that_is_told(description_if_there, ticking):
    fake = FakeGitHub(description_if_there, token="ghp_canary", login="person")
    result, _ = run(GitHubSubject(fake, ticking.clock))
    assert result.verified is False


def test_the_branch_moves_once_and_the_proposal_stays_open(subject, fake):
    run(subject)
    subject.push(BASE, {"docs": b"x"})
    moves = sum("updateRefs" in str(one.body) for one in fake.log)
    run(subject)
    assert sum("updateRefs" in str(one.body) for one in fake.log) == moves + 1
    assert [pull["state"] for pull in fake.pulls] == ["open"]


def test_reviews_are_asked_for_once(subject, fake):
    dressed = Proposal("T", "B", base=BASE, reviewers=("person", "team:crew"))
    run(subject, proposal=dressed)
    assert (fake.pulls[0]["reviewers"], fake.pulls[0]["teams"]) == ({"person"}, {"crew"})
    fake.pulls[0]["reviewers"].clear()  # the person has reviewed
    _, result = run(subject, proposal=dressed)
    assert result.outcome is ProposalOutcome.UNCHANGED
    assert not fake.pulls[0]["reviewers"]


def test_a_draft_is_opened_as_one(subject, fake):
    run(subject, proposal=Proposal("T", "B", base=BASE, draft=True))
    assert fake.pulls[0]["draft"] is True


def test_a_proposal_that_a_person_aimed_elsewhere_is_not_opened_twice(subject, fake):
    subject.push("next", {"x": b"x"}, onto=subject.tip(BASE))
    run(subject)
    fake.pulls[0]["base"] = "next"
    run(subject)
    assert [(pull["base"], pull["state"]) for pull in fake.pulls] == [(BASE, "open")]


def test_a_pull_request_that_the_filter_misses_is_found_by_paging(subject, fake):
    run(subject)
    fake.pulls[0]["fork"] = True  # a fork's: GitHub's filter by head leaves it out
    for number in range(120):
        extra = {**fake.pulls[0], "number": number + 2, "head": f"other-{number}"}
        fake.refs[extra["head"]] = fake.refs[PROPOSAL_BRANCH]
        fake.pulls.insert(0, extra)
    fake.pulls.sort(key=lambda pull: pull["number"])
    result = subject.forge.ensure_proposal(Proposal("newer", "B", base=BASE))
    assert (result.number, result.outcome) == (1, ProposalOutcome.UPDATED)
    assert fake.pulls[0]["title"] == "newer"


def test_a_fork_with_a_branch_of_our_name_is_not_ours(subject, fake, monkeypatch):
    run(subject)
    whole = FakeGitHub._simple_pull

    def of_a_fork(self, pull):
        shown = whole(self, pull)
        return {**shown, "head": {**shown["head"], "repo": {"full_name": "stranger/r"}}}

    monkeypatch.setattr(FakeGitHub, "_simple_pull", of_a_fork)
    fake.between = None
    with pytest.raises(PeerError, match="already exists"):
        subject.forge.ensure_proposal(Proposal("newer", "B", base=BASE))
    assert fake.pulls[0]["title"] == PROPOSAL.title


def test_many_files_are_one_tree(subject, fake):
    files = {f"releases/records/m/{number}.json": b"{}" for number in range(400)}
    assert run(subject, files)[0].outcome is BranchOutcome.CREATED
    before = fake.calls
    assert run(subject, files)[0].outcome is BranchOutcome.UNCHANGED
    assert fake.calls - before <= 6


def test_more_commits_than_github_lists_are_not_all_ours(subject, fake):
    run(subject)
    for _ in range(260):
        tip = fake.refs[PROPOSAL_BRANCH]
        commit = fake.commits[tip]
        fake.refs[PROPOSAL_BRANCH] = fake._commit(
            commit["tree"], [tip], commit["message"], "bot[bot]", verified=True
        )
    assert run(subject)[0].outcome is BranchOutcome.HUMAN_EDITED


def test_a_branch_without_common_history_is_left_alone(subject, fake):
    alone = fake._commit(fake._store_tree({}), [], "alone", "A Person", verified=False)
    fake.refs[PROPOSAL_BRANCH] = alone
    result = subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base=BASE)
    assert result.outcome is BranchOutcome.HUMAN_EDITED
    assert fake.refs[PROPOSAL_BRANCH] == alone


def test_an_empty_repository_is_told_to_get_a_commit(subject, fake):
    fake.refs.clear()
    with pytest.raises(PeerError) as caught:
        run(subject)
    assert "first commit" in (caught.value.hint or "")


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(subject, fake):
    subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base=BASE)
    before = fake.calls
    with pytest.raises(UsageError, match="longer than"):
        subject.forge.ensure_proposal(Proposal("T", "x" * (BODY_LIMIT + 1), base=BASE))
    with pytest.raises(UsageError, match="longer than"):
        subject.forge.upsert_comment(1, "plan", "x" * BODY_LIMIT)
    assert fake.calls == before
    assert INDEX in fake.files(PROPOSAL_BRANCH)


def test_a_proposal_onto_its_own_branch_is_refused(subject):
    with pytest.raises(UsageError, match="own base"):
        subject.forge.ensure_branch(SetFiles(FILES, MESSAGE), base=PROPOSAL_BRANCH)


# -- addresses
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "rest", "graphql", "page"),
    [
        ("https://api.github.com", "https://api.github.com", "https://api.github.com", "https://github.com"),
        ("https://ghe.test/api/v3", "https://ghe.test/api/v3", "https://ghe.test/api", "https://ghe.test"),
        ("https://api.a.ghe.com/", "https://api.a.ghe.com", "https://api.a.ghe.com", "https://a.ghe.com"),
    ],
)
def test_both_apis_and_the_pages_of_every_github(api, rest, graphql, page):
    address = GitHubAddress.of(api, "o/r")
    assert f"{address.base}/{address.path()}" == f"{rest}/repos/o/r"
    assert f"{address.base}/{address.graphql}" == f"{graphql}/graphql"
    assert address.compare_page("main", "a/b") == f"{page}/o/r/compare/main...a/b?expand=1"


@pytest.mark.parametrize(
    "name", ["", "o", "o/", "/r", "o/r/x", "../r", "o/..", "o r/x", "o/r?x", "o/r\n", "o%2F/r"]
)
def test_what_names_no_repository_is_refused(name):
    with pytest.raises(UsageError, match="invalid repository"):
        GitHubAddress.of("https://api.github.com", name)
