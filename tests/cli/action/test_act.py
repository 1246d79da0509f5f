"""The action as a runner runs it: action.yml by `act`, from a pull request to a run with nothing to do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.forges.interface import PROPOSAL_BRANCH
from tests.forges.fake_github import FakeGitHub
from tests.support.act_runner import Act
from tests.support.command_line import INDEX
from tests.support.github_server import serving

TOKEN = "ghs_canary0123456789"


class Project(Act):
    """A repository of two versions on a fake GitHub; the store is outside of it."""

    def __init__(self, folder: Path, github: FakeGitHub, api: str) -> None:
        super().__init__(folder, api)
        self.github = github
        self.write("releases/index.yaml", INDEX)
        store = folder / "store"
        self.write(
            "releases/targets.yaml", json.dumps({"targets": {"store": {"kind": "store", "path": str(store)}}})
        )
        for version in ("1.0.0", "1.1.0"):
            self.write(f"weights/llm/{version}/model.safetensors", version * 100)
        self.push()

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def push(self) -> str:
        """Commit everything, in the clone and on the forge alike."""
        sha = self.commit()
        names = self.git("ls-files").splitlines()
        self.github.push("main", {name: (self.root / name).read_bytes() for name in names}, "Change", sha=sha)
        return sha

    def pull(self) -> None:
        """Bring what was merged on the forge into the clone, as a commit that both know."""
        for name, data in self.github.files("main").items():
            self.write(name, data.decode())
        self.push()

    def cars(self) -> list[Path]:
        return sorted((self.folder / "store").rglob("*.car"))


@pytest.fixture
def github() -> FakeGitHub:
    return FakeGitHub(token=TOKEN)


@pytest.fixture
def project(github: FakeGitHub, tmp_path: Path) -> Iterator[Project]:
    with serving(github) as api:
        yield Project(tmp_path, github, api)


def open_pull_request(project: Project) -> dict[str, object]:
    """A pull request of what is committed last; the event that a runner gets for it."""
    base = project.git("rev-parse", "HEAD^")
    project.github.push("feature", {"x": b"y"}, "Change")
    project.github._make_pull({"title": "t", "body": "b", "head": "feature", "base": "main", "draft": False})
    return {"pull_request": {"number": 1, "base": {"sha": base, "ref": "main"}, "head": {"ref": "feature"}}}


def test_from_the_pull_request_to_a_run_with_nothing_to_do(project: Project) -> None:
    project.write("releases/index.yaml", INDEX + "# one more look\n")
    project.commit()
    event = open_pull_request(project)

    plan = project.run("pull_request", event, inputs={"command": "plan"}, token=TOKEN)
    assert plan.code == 0, plan.text
    assert (plan.outputs["changed"], plan.outputs["applied"]) == ("true", "0")
    assert plan.summary.startswith("## Model weights: plan\n\n**Plan:** 2 bundles to publish")
    (comment,) = project.github.comments
    assert "**Plan:** 2 bundles to publish" in comment["body"]
    assert project.cars() == []

    refused = project.run("pull_request", event, inputs={"command": "apply"}, token=TOKEN)
    assert refused.code != 0
    assert [one for one in refused.annotations if "apply does not run on pull_request" in one]
    assert "apply does not run on pull" in refused.summary
    assert project.cars() == []

    project.push()
    applied = project.run("push", inputs={"command": "apply"}, token=TOKEN)
    assert applied.code == 0, applied.text
    assert (applied.outputs["applied"], applied.outputs["failed"]) == ("6", "0")
    (pull,) = (one for one in project.github.open_pulls() if one["head"] == PROPOSAL_BRANCH)
    assert applied.outputs["pull-request-number"] == str(pull["number"])
    assert applied.outputs["pull-request-url"].endswith(f"/pull/{pull['number']}")
    resolved = json.loads(applied.outputs["resolved"])
    assert set(resolved) == {"llm@1.0.0", "llm@1.1.0"}
    assert len(project.cars()) == 2
    assert "Pull request [#2](https://github.com/o/r/pull/2): created." in applied.summary

    project.github.merge(pull["number"])
    project.pull()
    merged = (project.root / "releases/index.yaml").read_text()
    assert all(cid in merged for cid in resolved.values())
    again = project.run("push", inputs={"command": "apply"}, token=TOKEN)
    assert again.code == 0, again.text
    assert (again.outputs["changed"], again.outputs["pending"], again.outputs["resolved"]) == (
        "false",
        "0",
        "{}",
    )
    assert again.outputs["pull-request-number"] == ""
    assert "nothing to do; 2 in sync" in again.summary
    for ran in (plan, refused, applied, again):
        assert TOKEN not in ran.text + ran.summary


def test_the_plan_of_a_fork_needs_no_token_and_annotates_what_is_wrong(project: Project) -> None:
    """Names that are workflow commands come out as text, and no annotation is theirs."""
    shutil.rmtree(project.root / "weights/llm/1.0.0")
    hostile = INDEX.replace("weights/llm/1.0.0", '"weights/::error title=x::y ##[error]z"')
    project.write("releases/index.yaml", hostile)
    project.commit()
    event = open_pull_request(project)
    ran = project.run("pull_request", event, inputs={"token": ""})
    assert ran.code != 0
    (blocked,) = (one for one in ran.annotations if one.startswith("::error"))
    assert re.match(r"::error file=releases/index.yaml,title=llm@1\.0\.0,line=\d+::", blocked)
    assert [one for one in ran.annotations if one.startswith("::notice")]
    assert ran.outputs["failed"] == "1"
    assert "the plan is in the step summary only" in ran.summary
    assert project.github.log == []
    kept = project.run("pull_request", event, inputs={"token": "", "fail-on": "refusal"})
    assert kept.code == 0, kept.text


@pytest.mark.slow
def test_the_action_installs_itself_from_its_locked_requirements(project: Project) -> None:
    """With pip as the machine has it configured; skipped where that reaches no package index."""
    ran = project.run("push", inputs={"command": "plan"}, download=True)
    if ran.code and re.search(r"No matching distribution|Could not find a version|Connection", ran.text):
        pytest.skip("pip reaches no package index")
    assert ran.code == 0, ran.text
    assert ran.outputs["changed"] == "true"
