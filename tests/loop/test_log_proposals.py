"""The audit log in pull requests: leaves with the CIDs, a yank alone, and a checkpoint of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError
from reconciler.forges.interface import PROPOSAL_BRANCH, ProposalOutcome
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout
from reconciler.index.log_settings import LogSettings
from reconciler.loop.audit_log import read_repository_log
from reconciler.loop.log_proposal import propose_checkpoint
from reconciler.loop.log_sequence import NextCheckpoint, next_checkpoint
from reconciler.loop.propose import PullRequests
from reconciler.loop.settings import ProposeMode
from reconciler.render.markdown import describe
from tests.cli.test_audit_commands import KEY, PRIVATE
from tests.loop.test_pull_request import INDEX, Job

SETTINGS = LogSettings(KEY, "LOG_KEY")
LEAF = "releases/log/leaves/m@1.0.0.1.json"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A repository with an audit log on a fake GitHub."""
    made = Job(tmp_path)
    made.releases.audit = {"log": {"key": KEY, "key_env": "LOG_KEY"}}
    made.releases.write()
    files = {path: (tmp_path / path).read_bytes() for path in (INDEX, "releases/targets.yaml")}
    made.fake.push("main", files, "Keep a log")
    return made


def merge(job: Job, branch: str) -> None:
    for pull in job.fake.open_pulls():
        if pull["head"] == branch:
            job.fake.merge(pull["number"])


def checkpoint(job: Job) -> tuple[NextCheckpoint, str, ProposalOutcome | None]:
    """Sign what the base branch has, and propose it."""
    job.check_out()
    root = job.releases.root
    layout = RepositoryLayout(root, job.index, job.index.with_name("targets.yaml"), root)
    log = read_repository_log(load_index(job.index), SETTINGS, "targets.yaml")
    made = next_checkpoint(log, SETTINGS, {"LOG_KEY": PRIVATE}, "targets.yaml")
    assert made is not None
    requests = PullRequests(job.open_forge, describe, labels=("audit",))
    detail, result = propose_checkpoint(layout, made, ProposeMode.PULL_REQUEST, requests)
    return made, detail, None if result is None else result.outcome


def test_the_pull_request_with_a_cid_has_its_leaf_and_says_so(job: Job) -> None:
    assert not job.run()[0].failed
    files = job.fake.files(PROPOSAL_BRANCH)
    assert json.loads(files[LEAF])["event"] == "release"
    assert files["releases/log/.gitattributes"] == b"* -text\n"
    (pull,) = job.fake.open_pulls()
    assert "**Audit log** (no checkpoint yet)" in pull["body"]
    assert "- release `m@1.0.0`" in pull["body"]
    assert pull["title"] == "Resolve m@1.0.0"
    proposal = job.run()[1]
    assert proposal is not None
    assert proposal.outcome is ProposalOutcome.UNCHANGED
    merge(job, PROPOSAL_BRANCH)
    assert job.run()[0].outcomes == ()


def test_a_yank_gets_a_pull_request_that_only_extends_the_log(job: Job) -> None:
    job.run()
    merge(job, PROPOSAL_BRANCH)
    checkpoint(job)
    (pull,) = job.fake.open_pulls()
    merge(job, pull["head"])
    text = job.fake.files("main")[INDEX].decode()
    yanked = text.replace('"path":', '"yanked": "broken",\n"path":')
    assert yanked != text
    job.fake.push("main", {INDEX: yanked.encode()}, "Yank")
    assert not job.run()[0].failed
    (pull,) = job.fake.open_pulls()
    assert pull["title"] == "Extend the audit log"
    assert "**Audit log** (checkpoint 1)" in pull["body"]
    assert "- yank `m@1.0.0`" in pull["body"]


def test_a_checkpoint_gets_a_pull_request_of_its_own_and_is_not_proposed_again(job: Job) -> None:
    job.run()
    merge(job, PROPOSAL_BRANCH)
    made, detail, outcome = checkpoint(job)
    assert (made.checkpoint.size, outcome) == (1, ProposalOutcome.CREATED)
    assert "pull request" in detail
    (pull,) = job.fake.open_pulls()
    branch = pull["head"]
    assert branch.startswith("reconciler/audit-log-")
    assert pull["title"] == "Sign checkpoint 1 of the audit log"
    assert pull["labels"] == {"audit"}
    assert "- release `m@1.0.0`" in pull["body"]
    assert job.fake.files(branch)["releases/log/checkpoint"] == made.checkpoint.note.encode()
    assert checkpoint(job)[2] is ProposalOutcome.UNCHANGED
    merge(job, branch)
    assert checkpoint(job)[1] == "nothing to write"
    job.check_out()
    log = read_repository_log(load_index(job.index), SETTINGS, "targets.yaml")
    assert (log.recomputed.size, log.pending, log.new) == (1, (), ())


def test_a_base_with_a_longer_log_needs_no_proposal(job: Job) -> None:
    job.run()
    merge(job, PROPOSAL_BRANCH)
    made, _, _ = checkpoint(job)
    (pull,) = job.fake.open_pulls()
    merge(job, pull["head"])  # meanwhile
    job.check_out()
    root = job.releases.root
    layout = RepositoryLayout(root, job.index, job.index.with_name("targets.yaml"), root)
    requests = PullRequests(job.open_forge, describe)
    _, result = propose_checkpoint(layout, made, ProposeMode.PULL_REQUEST, requests)
    assert result is not None
    assert result.outcome is ProposalOutcome.NONE
    assert job.fake.open_pulls() == []


def test_a_branch_that_a_person_edited_is_left_alone(job: Job) -> None:
    job.run()
    merge(job, PROPOSAL_BRANCH)
    checkpoint(job)
    (pull,) = job.fake.open_pulls()
    job.fake.push(pull["head"], {"releases/log/checkpoint": b"by hand"}, "By hand")
    with pytest.raises(ReconcilerError, match="has commit"):
        checkpoint(job)
