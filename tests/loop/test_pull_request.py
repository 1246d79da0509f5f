"""`--propose pull-request` opens one pull request with the CIDs and never overwrites a person's work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.errors import UsageError
from reconciler.forges.github import github
from reconciler.forges.interface import PROPOSAL_BRANCH, Clock, ProposalOutcome
from reconciler.forges.open import OpenForge, open_forge, open_forge_for_comments
from reconciler.index.locations import RepositoryLayout
from reconciler.loop.propose import PullRequests
from reconciler.loop.run import apply, make_plan
from reconciler.loop.settings import ProposeMode, RunOptions, Scope
from reconciler.loop.workspace import load
from reconciler.net.auth import Secret
from reconciler.progress import QUIET
from reconciler.render.markdown import describe
from tests.forges.fake_github import FakeGitHub
from tests.support.releases import Releases

INDEX = "releases/index.yaml"
ACTIONS = {"GITHUB_ACTIONS": "true", "GITHUB_REF_TYPE": "branch"}


class Job:
    """Runs over one repository; pull requests go to a fake GitHub, each run starts from the base branch."""

    def __init__(self, root: Path) -> None:
        self.releases = Releases(root)
        self.releases.add("m@1.0.0")
        self.releases.write()
        self.fake = FakeGitHub()
        self.fake.push("main", {INDEX: self.index.read_bytes()}, "Add m 1.0.0")

    @property
    def index(self) -> Path:
        return self.releases.index_file

    def check_out(self) -> None:
        for path, data in self.fake.files("main").items():
            file = self.releases.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def open_forge(self) -> OpenForge:
        clock = Clock(sleep=lambda _: None)
        forge = github("o/r", Secret(self.fake.token), clock=clock, transport=self.fake.transport)
        return OpenForge(forge, "main")

    def run(self, only=(), **options):
        self.check_out()
        root = self.releases.root
        layout = RepositoryLayout(root, self.index, self.index.with_name("targets.yaml"), root)
        layout.make_state()
        requests = PullRequests(self.open_forge, describe)
        with load(Scope(layout, only), {}, QUIET) as workspace:
            plan = make_plan(workspace, RunOptions(propose=ProposeMode.PULL_REQUEST, **options))
            report = apply(plan, workspace, requests)
            return report, report.proposal


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_the_first_run_opens_one_pull_request_and_leaves_the_working_tree_alone(job: Job) -> None:
    before = job.index.read_bytes()
    report, proposal = job.run()
    assert not report.failed
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.CREATED
    assert job.index.read_bytes() == before
    (pull,) = job.fake.open_pulls()
    assert pull["title"] == "Resolve m@1.0.0"
    assert "reconcile verify" in pull["body"]
    assert set(job.fake.files(PROPOSAL_BRANCH)) >= {INDEX, "releases/records/m/1.0.0.json"}
    assert b'"cid": "bafy' in job.fake.files(PROPOSAL_BRANCH)[INDEX]


def test_a_second_run_changes_nothing_and_opens_no_second_pull_request(job: Job) -> None:
    job.run()
    tip = job.fake.refs[PROPOSAL_BRANCH]
    _, proposal = job.run()
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.UNCHANGED
    assert (len(job.fake.pulls), job.fake.refs[PROPOSAL_BRANCH]) == (1, tip)


def test_after_the_merge_nothing_is_planned_or_proposed(job: Job) -> None:
    job.run()
    job.fake.merge(1)
    report, proposal = job.run()
    assert report.plan.changes == ()
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.NONE
    assert job.fake.open_pulls() == []


def test_a_pull_request_that_became_pointless_is_closed(job: Job) -> None:
    job.run()
    job.fake.push("main", job.fake.files(PROPOSAL_BRANCH), "Write the CID by hand")
    _, proposal = job.run()
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.CLOSED
    assert job.fake.open_pulls() == []


def test_a_run_that_sees_less_does_not_close_what_another_proposed(job: Job) -> None:
    """Its globs exclude the version, or its machine lacks the weights."""
    job.releases.add("n@1.0.0")
    job.releases.write()
    job.fake.push("main", {INDEX: job.index.read_bytes()}, "Add n 1.0.0")
    job.run(only=("m",))
    job.fake.merge(1)
    job.run()
    (pull,) = job.fake.open_pulls()
    assert pull["title"] == "Resolve n@1.0.0"
    _, proposal = job.run(only=("m",))
    assert proposal is None
    shutil.rmtree(job.releases.root / "weights" / "n")
    shutil.rmtree(job.releases.root / ".reconcile")
    job.run()
    assert job.fake.open_pulls() == [pull]


def test_a_persons_commit_on_the_branch_is_kept_and_reported(job: Job) -> None:
    job.run()
    tip = job.fake.push(PROPOSAL_BRANCH, {"notes.md": b"mine\n"}, "A note")
    job.releases.add("m@1.1.0")
    job.releases.write()
    job.fake.push("main", {INDEX: job.index.read_bytes()}, "Add m 1.1.0")
    report, _ = job.run()
    assert report.failed
    assert job.fake.refs[PROPOSAL_BRANCH] == tip


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({}, "RECONCILE_FORGE is not set"),
        (ACTIONS | {"GITHUB_REF": "refs/pull/1/merge"}, "refs/pull/1"),
        (ACTIONS | {"GITHUB_REPOSITORY": "o/r"}, "no token"),
        ({"RECONCILE_FORGE": "svn"} | dict.fromkeys(
            ("RECONCILE_FORGE_REPOSITORY", "RECONCILE_FORGE_BASE", "RECONCILE_FORGE_TOKEN",
             "RECONCILE_FORGE_API", "RECONCILE_FORGE_GIT"), "x"), "svn"),
    ],
)  # fmt: skip
def test_an_environment_without_a_forge_is_reported_before_anything_is_done(environ, word) -> None:
    with pytest.raises(UsageError, match=word):
        open_forge(environ)


def test_the_environment_of_a_workflow_is_enough() -> None:
    opened = open_forge(
        {
            "GITHUB_ACTIONS": "true",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_REF": "refs/heads/main",
            "GITHUB_REF_NAME": "main",
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_API_URL": "https://github.example.com/api/v3",
            "GITHUB_TOKEN": "canary",
        }
    )
    assert (opened.base, opened.forge.name) == ("main", "GitHub")
    assert "canary" not in repr(opened)
    opened.forge.close()


def test_a_comment_needs_no_branch_but_a_proposal_does() -> None:
    environ = ACTIONS | {
        "GITHUB_REF": "refs/pull/1/merge",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_API_URL": "https://api.github.com",
        "GITHUB_TOKEN": "canary",
    }
    forge = open_forge_for_comments(environ)
    assert forge.name == "GitHub"
    forge.close()
    with pytest.raises(UsageError, match="a proposal requires a branch"):
        open_forge(environ)


def test_a_pull_request_has_the_record_of_an_organisation_below_it(job: Job) -> None:
    job.releases.add("Acme/LLM@1.0.0+cu118")
    job.releases.write()
    job.fake.push("main", {INDEX: job.index.read_bytes()}, "Add Acme/LLM 1.0.0+cu118")
    report, proposal = job.run()
    assert not report.failed
    assert proposal is not None
    (pull,) = job.fake.open_pulls()
    assert "Acme/LLM@1.0.0+cu118" in pull["body"]
    assert "releases/records/Acme/LLM/1.0.0+cu118.json" in job.fake.files(PROPOSAL_BRANCH)


def test_a_run_that_sees_less_adds_to_the_open_pull_request(job: Job) -> None:
    job.releases.add("n@1.0.0")
    job.releases.write()
    job.fake.push("main", {INDEX: job.index.read_bytes()}, "Add n 1.0.0")
    job.run(only=("m",))
    job.run(only=("n",))
    (pull,) = job.fake.open_pulls()
    assert pull["title"] == "Resolve 2 CIDs"
    assert "m@1.0.0" in pull["body"]
    assert "n@1.0.0" in pull["body"]
    proposed = job.fake.files(PROPOSAL_BRANCH)
    assert proposed[INDEX].count(b'"cid": "bafy') == 2
    assert {"releases/records/m/1.0.0.json", "releases/records/n/1.0.0.json"} <= proposed.keys()
    tip, body = job.fake.refs[PROPOSAL_BRANCH], pull["body"]
    for only in (("m",), ("n",), ()):
        _, proposal = job.run(only=only)
        assert proposal is not None
        assert proposal.outcome is ProposalOutcome.UNCHANGED
    assert (job.fake.refs[PROPOSAL_BRANCH], job.fake.open_pulls()[0]["body"]) == (tip, body)


def test_a_pull_request_that_a_person_closed_is_reported_and_the_run_succeeds(job: Job) -> None:
    job.run()
    job.fake.pulls[0]["state"] = "closed"
    report, proposal = job.run()
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.DECLINED
    assert not report.failed
    assert {outcome.state for outcome in report.outcomes} == {"waiting"}
    assert "stays closed until the content changes" in report.outcomes[0].detail
    assert job.fake.open_pulls() == []
    job.releases.add("m@1.1.0")
    job.releases.write()
    job.fake.push("main", {INDEX: job.index.read_bytes()}, "Add m 1.1.0")
    _, proposal = job.run()
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.CREATED


def test_the_base_is_edited_as_it_is_now(job: Job) -> None:
    text = job.index.read_bytes()
    job.check_out = lambda: None  # type: ignore[method-assign] - this clone is older than the base
    job.fake.push("main", {INDEX: text + b"\n# by a person\n"}, "A line")
    job.run()
    assert job.fake.files(PROPOSAL_BRANCH)[INDEX].endswith(b"\n# by a person\n")


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({INDEX: b'{"schema": 1, "id": "acme", "models": {}}'}, "m@1.0.0 is not in 'releases/index.yaml' on"),
        (None, "changed in 'releases/index.yaml' on the base branch"),
    ],
)
def test_a_base_that_does_not_have_the_version_as_read_is_reported(job: Job, files, problem) -> None:
    text = job.index.read_bytes()
    job.check_out = lambda: None  # type: ignore[method-assign]
    job.fake.push("main", files or {INDEX: text.replace(b"weights/m/1.0.0", b"weights/other")}, "Edit")
    report, _ = job.run()
    assert report.failed
    assert any(problem in outcome.detail for outcome in report.outcomes)
    assert job.fake.pulls == []


def test_a_base_without_the_index_is_reported(job: Job) -> None:
    job.fake.refs["main"] = job.fake._commit(
        job.fake._store_tree({}), [], "empty", "A Person", verified=False
    )
    report, _ = job.run()
    assert any("the base branch has no 'releases/index.yaml'" in o.detail for o in report.outcomes)
    assert job.fake.pulls == []
