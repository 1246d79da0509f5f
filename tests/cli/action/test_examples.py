"""Every example workflow, and our own, does what its page describes when `act` runs it unchanged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.act_runner import Act, Ran
from tests.support.project_on_github import TOKEN, Project
from tests.support.scratch import PROJECT, scratch_copy

EXAMPLES = PROJECT / "examples" / "workflows"
APP = """\
name: app
description: x
outputs: {token: {description: x, value: TOKEN}}
runs: {using: composite, steps: [{run: "true", shell: bash}]}
"""


def run(
    project: Project, name: str, event: str, payload: dict[str, object] | None = None, **rest: object
) -> Ran:
    """Run an example unchanged except for the place of the weights on its runner."""
    text = (EXAMPLES / name).read_text().replace("/srv/weights", str(project.folder / "srv"))
    given = {"token": TOKEN} | rest
    return project.run(text, event, payload, **given)  # type: ignore[arg-type]


def weights_elsewhere(project: Project) -> None:
    """The weights are on the disk of a runner, not in a repository."""
    shutil.move(project.root / "weights", project.folder / "srv" / "weights")
    project.push()


@pytest.mark.slow
def test_plan_apply_and_drift(project: Project) -> None:
    project.write("releases/index.yaml", (project.root / "releases/index.yaml").read_text() + "# later\n")
    project.push()
    plan = run(project, "plan.yml", "pull_request", project.pull_request())
    assert plan.code == 0, plan.text
    assert "**Plan:** 2 bundles to publish" in project.github.comments[0]["body"]

    applied = run(project, "apply.yml", "push")
    assert applied.code == 0, applied.text
    (pull,) = project.proposals()
    project.github.merge(pull["number"])
    project.pull()
    again = run(project, "apply.yml", "push")
    assert "nothing to do; 2 in sync" in again.summary

    clean = run(project, "drift.yml", "schedule")
    assert clean.code == 0, clean.text
    project.cars()[0].unlink()
    found = run(project, "drift.yml", "schedule")
    assert found.code != 0
    assert any("drift" in one for one in found.annotations)
    assert "## Model weights: drift\n\n**Plan:** 1 to repair" in found.summary


@pytest.mark.slow
def test_a_hosted_runner_plans_and_the_one_with_the_weights_publishes(project: Project) -> None:
    weights_elsewhere(project)
    plan = run(project, "split.yml", "pull_request", project.pull_request())
    assert plan.code == 0, plan.text
    assert "2 blocked" in project.github.comments[0]["body"]
    applied = run(project, "split.yml", "push")
    assert applied.code == 0, applied.text
    assert (len(project.cars()), len(project.proposals())) == (2, 1)


@pytest.mark.slow
def test_a_matrix_publishes_each_version_in_a_job_and_one_proposes_them_all(project: Project) -> None:
    weights_elsewhere(project)
    ran = run(project, "matrix.yml", "push")
    assert ran.code == 0, ran.text
    assert sum("1 applied" in page for page in ran.summaries) == 2
    assert len(project.cars()) == 2
    (pull,) = project.proposals()
    assert pull["title"] == "Resolve 2 CIDs"

    project.github.merge(pull["number"])
    project.pull()
    again = run(project, "matrix.yml", "push")
    assert again.code == 0, again.text
    assert not any("applied" in page for page in again.summaries)


@pytest.mark.slow
def test_apply_with_the_token_of_an_app(project: Project, tmp_path: Path) -> None:
    stub = tmp_path / "app"
    stub.mkdir()
    (stub / "action.yml").write_text(APP.replace("TOKEN", TOKEN))
    text = (EXAMPLES / "app-token.yml").read_text()
    name = text.partition("uses: actions/create-github-app-token@")[2].split()[0]
    stubs = {f"actions/create-github-app-token@{name}": stub}
    ran = run(project, "app-token.yml", "push", token="", stubs=stubs)
    assert ran.code == 0, ran.text
    assert len(project.proposals()) == 1


@pytest.mark.slow
def test_our_own_releases_are_kept_by_our_own_action(tmp_path: Path) -> None:
    act = Act(tmp_path)
    scratch_copy(act.root, commit=False)
    act.commit()
    ran = act.run((PROJECT / ".github/workflows/releases.yml").read_text(), "push")
    assert ran.code == 0, ran.text
    assert "2 applied" in ran.summaries[0]
    assert "nothing to do; 2 in sync" in ran.summaries[1]
