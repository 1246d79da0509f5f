"""action.yml and all workflows pass zizmor and GitHub's schemas, and are fully documented."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.scratch import PROJECT

BIN = Path(sysconfig.get_path("scripts"))
ACTION = PROJECT / "action.yml"
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
EXAMPLES = sorted((PROJECT / "examples" / "workflows").glob("*.yml"))
PAGE = (PROJECT / "docs" / "github-actions.md").read_text(encoding="utf-8")

IDS = [str(file.relative_to(PROJECT)) for file in (*WORKFLOWS, *EXAMPLES)]
each = pytest.mark.parametrize("file", [*WORKFLOWS, *EXAMPLES], ids=IDS)


def tool(name: str, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run([BIN / name, *arguments], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def read(file: Path) -> dict[str, Any]:
    """Parse the file; YAML 1.1 reads its key `on` as a boolean."""
    document: dict[Any, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in document.items()}


def test_zizmor_finds_nothing() -> None:
    code, said = tool("zizmor", "--offline", "--no-progress", ACTION, *WORKFLOWS, *EXAMPLES)
    assert code == 0, said
    assert "No findings to report" in said


def test_zizmor_would_find_a_template_in_a_script(tmp_path: Path) -> None:
    broken = tmp_path / "action.yml"
    text = ACTION.read_text()
    assert 'run: exec "$RUNNER_TEMP' in text
    broken.write_text(
        text.replace('run: exec "$RUNNER_TEMP', 'run: echo ${{ inputs.only }}; exec "$RUNNER_TEMP')
    )
    assert "template-injection" in tool("zizmor", "--offline", "--no-progress", broken)[1]


def test_workflows_match_the_schemas_of_github() -> None:
    for schema, files in (("github-actions", [ACTION]), ("github-workflows", [*WORKFLOWS, *EXAMPLES])):
        code, said = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
        assert code == 0, said


def test_inputs_reach_the_scripts_of_the_action_through_the_environment_only() -> None:
    action = read(ACTION)
    steps = action["runs"]["steps"]
    assert not [step for step in steps if "${{" in step["run"] or "uses" in step]
    passed = " ".join(
        str(value) for step in steps for value in [*step["env"].values(), step.get("working-directory")]
    )
    assert {name for name in action["inputs"] if f"inputs.{name} }}" not in passed} == set()


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells after each name in the first column of a section's first table."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n\n`")[0].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            first, *rest = line.strip("|").split("|")
            found |= {name: [cell.strip() for cell in rest] for name in re.findall(r"`([a-z-]+)`", first)}
    return found


def test_the_page_lists_every_input_with_its_default_and_every_output() -> None:
    action = read(ACTION)
    inputs = rows("Inputs")
    assert set(inputs) == set(action["inputs"])
    for name, given in action["inputs"].items():
        default = str(given["default"]).strip("${} ")
        assert not default or inputs[name][0] == f"`{default}`", name
    assert set(rows("Outputs")) == set(action["outputs"])


def test_every_output_comes_from_the_step_and_every_one_is_written() -> None:
    from reconciler.cli.action.step import EMPTY_OUTPUTS

    outputs = read(ACTION)["outputs"]
    assert set(outputs) == {*EMPTY_OUTPUTS, "plan-json"}
    assert [n for n, o in outputs.items() if o["value"] != f"${{{{ steps.reconcile.outputs.{n} }}}}"] == []


@each
def test_a_workflow_has_no_permission_but_those_a_job_names(file: Path) -> None:
    workflow = read(file)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert job["timeout-minutes"]


@each
def test_a_workflow_never_runs_for_pull_request_target(file: Path) -> None:
    assert "pull_request_target" not in read(file)["on"]


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.name for file in EXAMPLES])
def test_the_inputs_that_an_example_gives_exist_and_the_page_names_it(file: Path) -> None:
    inputs = read(ACTION)["inputs"]
    steps = [step for job in read(file)["jobs"].values() for step in job["steps"]]
    ours = [step for step in steps if step["uses"].startswith("acme/model-reconciler@")]
    assert ours
    assert {name for step in ours for name in step["with"]} <= set(inputs)
    assert f"examples/workflows/{file.name})" in PAGE
