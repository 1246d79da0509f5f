"""The check of structure and vocabulary finds what CONTRIBUTING.md rules out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path("scripts/check_structure.py")


def check(project: Path, *arguments: str | Path) -> tuple[int, str]:
    """Run the script of `project`; its exit code and what it wrote to standard error."""
    command = [sys.executable, project / SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def write(project: Path, name: str, text: str) -> None:
    file = project / "reconciler" / name
    file.write_text(text)


def test_the_project_follows_its_own_rules(scratch_clone: Path) -> None:
    assert check(scratch_clone) == (0, "")


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
def test_a_violation_is_named(scratch_clone: Path, name: str, text: str, error: str) -> None:
    write(scratch_clone, name, '"""A."""\n' + text)
    code, said = check(scratch_clone)
    assert code == 1
    assert error in said


def test_a_module_without_a_docstring_is_named(scratch_clone: Path) -> None:
    write(scratch_clone, "a.py", "x = 1\n")
    code, said = check(scratch_clone)
    assert code == 1
    assert "reconciler/a.py has no docstring" in said


def test_a_circle_inside_functions_is_named(scratch_clone: Path) -> None:
    write(
        scratch_clone,
        "content/a.py",
        '"""A."""\n\n\ndef f() -> None:\n    from reconciler.content import b\n',
    )
    write(scratch_clone, "content/b.py", '"""B."""\n\nfrom reconciler.content import a\n')
    code, said = check(scratch_clone)
    assert code == 1
    assert "in a circle: reconciler.content.a, reconciler.content.b" in said


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        ("store: write the label last", ""),
        ("targets/kubo: retry", ""),
        ("store: " + "x" * 66, "the subject has 73 characters"),
        ("store: write; read", "the subject contains ';'"),
        ("Write the label last", "the subject is not 'room: verb object'"),
    ],
)
def test_the_subject_of_a_commit_is_checked(
    scratch_clone: Path, tmp_path: Path, subject: str, error: str
) -> None:
    (tmp_path / "message").write_text(f"{subject}\n\nBody; with anything.\n")
    code, said = check(scratch_clone, "--subject", tmp_path / "message")
    assert (code == 0) is (error == "")
    assert error in said
