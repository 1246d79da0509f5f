"""No release gives a published directory another CID: identities of the first release, as vectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.scripts import load_script

SCRIPT = load_script("make_roots")
DOCUMENT = json.loads(SCRIPT.ROOTS.read_text(encoding="utf-8"))
#: a gibibyte, or thousands of files, each
SLOW = (
    "1,024 equal chunks",
    "1,025 equal chunks",
    "3000 long names in a directory",
    "3000 long names at the top",
    "1000 long names at the top",
)


def vectors() -> list[object]:
    return [
        pytest.param(vector, id=vector["name"], marks=[pytest.mark.slow] if vector["name"] in SLOW else [])
        for vector in DOCUMENT["vectors"]
    ]


@pytest.mark.parametrize("vector", vectors())
def test_a_directory_keeps_its_identity(
    vector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    SCRIPT.plant(tmp_path / "directory", vector["files"])

    done = CommandLine(tmp_path, monkeypatch, capsys)("identify", "directory", *vector["arguments"], "--json")

    assert done.code == 0, done.err
    assert {name: done.document[name] for name in SCRIPT.FACTS} == {
        name: vector[name] for name in SCRIPT.FACTS
    }


def test_the_vectors_are_those_of_the_program() -> None:
    made = {case.name: (case.files, list(case.arguments)) for case in SCRIPT.cases()}
    found = {vector["name"]: (vector["files"], vector["arguments"]) for vector in DOCUMENT["vectors"]}

    assert found == made
    assert {vector["outcome"] for vector in DOCUMENT["vectors"]} == {"identity"}
    assert len(found) == len(DOCUMENT["vectors"]) >= 60
