"""Following docs/how-to-add-a-target.md literally, in a copy of the project, gives a working target."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scratch import PROJECT, scratch_copy

PAGE = (PROJECT / "docs/how-to-add-a-target.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"<!-- (?P<what>file:|add to|set in|append to) (?P<file>\S+?)(?: at (?P<pointer>\S+))? -->\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
INDEX = """\
schema: 1
id: example
defaults: {targets: [share]}
models:
  tiny:
    versions:
      "1.0.0": {path: weights}
"""
TARGETS = "targets:\n  share: {kind: folder, path: share}\n"


def follow(step: re.Match[str], project: Path) -> None:
    """Carry out one step of the page."""
    file = project / step["file"]
    if step["what"] == "file:":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(step["text"])
    elif step["what"] == "append to":
        file.write_text(file.read_text() + step["text"])
    else:
        document = json.loads(file.read_text())
        *parents, last = step["pointer"].strip("/").split("/")
        place = document
        for name in parents:
            place = place[name]
        if step["what"] == "add to":
            place[last].append(json.loads(step["text"]))
        else:
            place[last] = json.loads(step["text"])
        file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def run(project: Path, *arguments: str | Path, folder: Path | None = None) -> str:
    """Run Python on the copied project and return its output."""
    environ = os.environ | {"PYTHONPATH": str(project), "PYTEST_XDIST_WORKER": ""}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder or project,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project in which every step of the page was carried out."""
    copy = scratch_copy(tmp_path_factory.mktemp("how-to") / "project", commit=True)
    steps = list(STEP.finditer(PAGE))
    assert len(steps) == PAGE.count("<!-- file:") + PAGE.count("<!-- add to") + 2
    for step in steps:
        follow(step, copy)
    run(copy, "scripts/make_reference.py")
    return copy


def test_the_new_kind_is_in_the_index_reference(project: Path) -> None:
    page = (project / "docs/index-reference.md").read_text()
    assert "| `path` (required) | text | The directory, relative to the repository. It must exist. |" in page


def test_the_new_target_passes_style_and_types(project: Path) -> None:
    files = ["reconciler/targets/folder.py", "tests/targets/folder"]
    run(project, "-m", "ruff", "check", "--no-cache", *files)
    run(project, "-m", "ruff", "format", "--no-cache", "--check", *files)


#: selects everything but repetitions of a test with another kind of damage
MOST = "not corrupt_leaf and not truncated_leaf and not lost_inner and not lost_root"


@pytest.mark.parametrize(
    "selected", [pytest.param(MOST, id="most"), pytest.param("", id="all", marks=pytest.mark.slow)]
)
def test_the_new_target_passes_the_conformance_suite(project: Path, selected: str) -> None:
    printed = run(
        project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", selected, "tests/targets/folder"
    )
    assert "100%" in printed


def test_a_release_is_published_to_the_new_target_and_then_in_sync(project: Path, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/model.bin").write_bytes(bytes(range(256)) * 9000)
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases/index.yaml").write_text(INDEX)
    (tmp_path / "releases/targets.yaml").write_text(TARGETS)
    command = "from reconciler.cli import main; main()"
    run(project, "-c", command, folder=tmp_path)
    assert (tmp_path / "share/labels").is_dir()
    assert "nothing to do" in run(project, "-c", command, folder=tmp_path)
