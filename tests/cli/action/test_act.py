"""The action as a runner runs it: action.yml by `act`, from a pull request to a run with nothing to do."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.support.command_line import INDEX
from tests.support.project_on_github import TOKEN, Project


@pytest.mark.slow
def test_from_the_pull_request_to_a_run_with_nothing_to_do(project: Project) -> None:
    project.write("releases/index.yaml", INDEX + "# one more look\n")
    project.commit()
    event = project.pull_request()

    plan = project.step("pull_request", event, command="plan", token=TOKEN)
    assert plan.code == 0, plan.text
    assert (plan.outputs["changed"], plan.outputs["applied"]) == ("true", "0")
    assert plan.summary.startswith("## Model weights: plan\n\n**Plan:** 2 bundles to publish")
    (comment,) = project.github.comments
    assert "**Plan:** 2 bundles to publish" in comment["body"]
    assert project.cars() == []

    refused = project.step("pull_request", event, command="apply", token=TOKEN)
    assert refused.code != 0
    assert [one for one in refused.annotations if "apply does not run on pull_request" in one]
    assert "apply does not run on pull" in refused.summary
    assert project.cars() == []

    project.push()
    applied = project.step("push", command="apply", token=TOKEN)
    assert applied.code == 0, applied.text
    assert (applied.outputs["applied"], applied.outputs["failed"]) == ("6", "0")
    (pull,) = project.proposals()
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
    again = project.step("push", command="apply", token=TOKEN)
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


@pytest.mark.slow
def test_the_plan_of_a_fork_needs_no_token_and_annotates_what_is_wrong(project: Project) -> None:
    """Names that look like workflow commands are printed as text and cause no annotation."""
    shutil.rmtree(project.root / "weights/llm/1.0.0")
    hostile = INDEX.replace("weights/llm/1.0.0", '"weights/::error title=x::y ##[error]z"')
    project.write("releases/index.yaml", hostile)
    project.commit()
    event = project.pull_request()
    ran = project.step("pull_request", event)
    assert ran.code != 0
    (blocked,) = (one for one in ran.annotations if one.startswith("::error"))
    assert re.match(r"::error file=releases/index.yaml,title=llm@1\.0\.0,line=\d+::", blocked)
    assert [one for one in ran.annotations if one.startswith("::notice")]
    assert ran.outputs["failed"] == "1"
    assert "the plan is in the step summary only" in ran.summary
    assert project.github.log == []
    kept = project.step("pull_request", event, fail_on="refusal")
    assert kept.code == 0, kept.text


@pytest.mark.slow
def test_the_action_installs_itself_from_its_locked_requirements(project: Project) -> None:
    """Uses pip as configured on the machine; skipped when it reaches no package index."""
    ran = project.step("push", command="plan", download=True)
    if ran.code and re.search(r"No matching distribution|Could not find a version|Connection", ran.text):
        pytest.skip("pip reaches no package index")
    assert ran.code == 0, ran.text
    assert ran.outputs["changed"] == "true"
