"""The check of structure and vocabulary finds what CONTRIBUTING.md rules out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scratch import PROJECT

SCRIPT = Path("scripts/check_structure.py")
MODULES = {
    "__init__.py": "",
    "content/__init__.py": "",
    "content/cid.py": "class Cid:\n    pass\n",
    "loop/__init__.py": "",
    "loop/plan.py": "from reconciler.content.cid import Cid\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of a few modules with the script and the layers of this one."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(PROJECT / SCRIPT, tmp_path / SCRIPT)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    for name, text in MODULES.items():
        write(tmp_path, name, f'"""A module."""\n{text}')
    return tmp_path


def check(project: Path, *arguments: str | Path) -> tuple[int, str]:
    """Run the script of `project`; its exit code and what it wrote to standard error."""
    command = [sys.executable, project / SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def write(project: Path, name: str, text: str) -> None:
    file = project / "reconciler" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.slow
def test_this_project_follows_its_own_rules() -> None:
    assert check(PROJECT) == (0, "")


def test_a_project_without_violations_passes(project: Path) -> None:
    assert check(project) == (0, "")


VIOLATIONS = {
    "a class name used twice": (
        "a.py",
        "class Cid:\n    pass\n",
        "several classes are called Cid: a.py, content/cid.py",
    ),
    "an exception without Error": (
        "a.py",
        "class Broken(ValueError):\n    pass\n",
        "the exception Broken does not end",
    ),
    "a long module": ("a.py", "x = 1\n" * 450, "reconciler/a.py has 451 lines; at most 450 are allowed"),
    "an upward import": (
        "content/a.py",
        "from reconciler.loop import plan\n",
        "reconciler.content.a imports reconciler.loop.plan",
    ),
    "a second home": (
        "a.py",
        "import httpx\n",
        "reconciler/a.py:2: import httpx (belongs in net/transport.py)",
    ),
    "a banned phrase": ("a.py", "# it does not" + " hold\n", "reconciler/a.py:2: 'does not hold'"),
}


@pytest.mark.parametrize(("name", "text", "error"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_is_named(project: Path, name: str, text: str, error: str) -> None:
    write(project, name, '"""A."""\n' + text)
    code, said = check(project)
    assert code == 1
    assert error in said


def test_a_module_without_a_docstring_is_named(project: Path) -> None:
    write(project, "a.py", "x = 1\n")
    code, said = check(project)
    assert code == 1
    assert "reconciler/a.py has no docstring" in said


def test_a_circle_inside_functions_is_named(project: Path) -> None:
    write(
        project,
        "content/a.py",
        '"""A."""\n\n\ndef f() -> None:\n    from reconciler.content import b\n',
    )
    write(project, "content/b.py", '"""B."""\n\nfrom reconciler.content import a\n')
    code, said = check(project)
    assert code == 1
    assert "in a circle: reconciler.content.a, reconciler.content.b" in said


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        ("store: write the label last", ""),
        ("targets/kubo: retry", ""),
        ("scripts, benchmarks: retry", ""),
        ("store: " + "x" * 66, "the subject has 73 characters"),
        ("store: write; read", "the subject contains ';'"),
        ("Write the label last", "the subject is not 'room: verb object'"),
    ],
)
def test_the_subject_of_a_commit_is_checked(project: Path, tmp_path: Path, subject: str, error: str) -> None:
    (tmp_path / "message").write_text(f"{subject}\n\nBody; with anything.\n")
    code, said = check(project, "--subject", tmp_path / "message")
    assert (code == 0) is (error == "")
    assert error in said
