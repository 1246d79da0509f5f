"""The repository has no addresses of machines, documents every module, and has a valid changelog."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import reconciler
from tests.support.changelog import Changelog
from tests.support.scratch import PROJECT, project_files

FILES = [file for file in project_files() if file.parts[0] != "weights"]
MODULES = [file for file in FILES if file.parts[0] == "reconciler" and file.suffix == ".py"]

LONGEST = 450  #: lines of a module; a longer one covers more than one topic
LONGER: dict[str, str] = {}  #: module: why it may be longer

# Written in parts, so that this file does not match itself.
FORBIDDEN = {
    "the address of a package index": "|".join(
        [
            r"--(extra-)?index" + "-url[ =]",
            r"--find" + "-links[ =]",
            r"//pypi\." + "org/simple",
            r"files\.python" + "hosted",
            r"//registry\.npm" + "js",
            r"//registry\.yarn" + "pkg",
            r"proxy\.golang" + r"\.org",
            r"[aA]rtifac" + "tory",
        ]
    ),
    "a path of one machine": r"(?<![\w.$}])/(work|root|home|Users|tmp|mnt)" + r"/[\w.]",
}
PRIVATE_ADDRESS = re.compile(
    r"(?<![\d.])(?:10\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d{1,3}\.\d{1,3}(?![\d.])"
)
PRIVATE_NAME = re.compile(r"//[\w.-]+\.(?:internal|local|lan|corp|intranet)\b")


def lines(file: Path) -> list[tuple[int, str]]:
    """Yield the numbered lines of a text file; nothing for a binary file."""
    try:
        text = (PROJECT / file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []
    return list(enumerate(text.splitlines(), start=1))


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{file}:{number}: {text}" for file in FILES for number, text in lines(file) if pattern.search(text)
    ]
    assert found == []


def test_no_file_but_a_test_names_a_private_address() -> None:
    """Tests may, because they check that such addresses are refused."""
    found = [
        f"{file}:{number}: {text}"
        for file in FILES
        if file.parts[0] != "tests"
        for number, text in lines(file)
        if PRIVATE_ADDRESS.search(text) or PRIVATE_NAME.search(text)
    ]
    assert found == []


@pytest.mark.parametrize("line", ["see /" + "home/someone/x", "at '/" + "tmp/x'", "cd /" + "work/main"])
def test_the_search_for_machine_paths_finds_them(line: str) -> None:
    assert re.search(FORBIDDEN["a path of one machine"], line)


@pytest.mark.parametrize("line", ["https://example.com/home/x", "a/tmp/x", "$HOME/models/x", "/dev/null"])
def test_the_search_for_machine_paths_leaves_other_paths_alone(line: str) -> None:
    assert not re.search(FORBIDDEN["a path of one machine"], line)


def test_every_module_has_a_docstring() -> None:
    silent = [
        str(file)
        for file in MODULES
        if not ast.get_docstring(ast.parse((PROJECT / file).read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_module_is_too_long() -> None:
    long = {str(file) for file in MODULES if len(lines(file)) > LONGEST}
    assert long == set(LONGER), "split it, or name it in LONGER with the reason"


def test_every_action_is_pinned_to_a_commit_and_names_its_version() -> None:
    uses = [
        text.strip()
        for file in FILES
        if file.parts[:2] in ((".github", "workflows"), ("examples", "workflows"))
        or file.name == "action.yml"
        for _, text in lines(file)
        if re.match(r"\s*(- )?uses:", text)
        and not re.search(r"uses: (\./|acme/model-reconciler@0{40})", text)
    ]
    assert uses
    assert [text for text in uses if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text)] == []


@pytest.mark.parametrize("lock", ["run", "build", "dev"])
def test_every_locked_package_has_a_hash(lock: str) -> None:
    text = (PROJECT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert [
        entry
        for entry in entries
        if not re.match(r"[a-z0-9-]+==\S+( ;[^\n]*)? \\\n    --hash=sha256:", entry)
    ] == []


def test_the_locks_contain_all_requirements() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(lock: str) -> set[str]:
        return set(
            re.findall(
                r"^([a-z0-9-]+)==", (PROJECT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE
            )
        )

    def asked(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", text)[0].lower().replace("_", "-") for text in requirements}

    assert asked(project["dependencies"]) <= names("run")
    assert asked(extras["test"] + extras["lint"]) | names("run") <= names("dev")


def test_the_changelog_follows_its_grammar_and_has_the_version() -> None:
    changelog = Changelog((PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert changelog.problems == []
    first = changelog.versions[0][0]
    assert first in (None, reconciler.__version__)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# C\n\n## Unreleased\n\n### Added\n\n- no capital.\n", "line 7: neither"),
        ("# C\n\n## Unreleased\n\n### Added\n\n- No period\n", "line 7: neither"),
        ("# C\n\n## Unreleased\n\n### News\n", "line 5: neither"),
        ("# C\n\n## Unreleased\n\n### Added\n", "line 5: cannot follow a section"),
        ("# C\n\n## Unreleased\n\n### Added\n\n- A.\n\n### Added\n\n- B.\n", "line 9: a second 'Added'"),
        ("# C\n\n## 1.0.0 - 2026-01-01\n\n## 1.1.0 - 2026-02-01\n", "the newest version comes first"),
    ],
)
def test_a_changelog_that_violates_the_grammar_is_detected(text: str, problem: str) -> None:
    assert any(found.startswith(problem) for found in Changelog(text).problems)
