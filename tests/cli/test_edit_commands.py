"""`init` and `add`: they make the edits that a person would make, and change nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.command_line import INDEX, CommandLine


def test_from_nothing_to_a_published_version(empty: CommandLine) -> None:
    assert empty("init").code == 0
    assert sorted(empty.files()) == ["releases/index.yaml", "releases/targets.yaml"]
    assert "id: repository " in (empty.root / "releases/index.yaml").read_text()
    assert empty("plan").out == "Plan: nothing to do; 0 in sync.\n"
    empty.write("weights/llm/1.0.0/model.gguf", "weights")
    done = empty(
        "add", "llm", "1.0.0", "weights/llm/1.0.0", "--format", "gguf", "--created-at", "2026-05-07T00:00:00Z"
    )
    assert done.code == 0
    assert done.out == "added llm@1.0.0 to releases/index.yaml\n"
    index = (empty.root / "releases/index.yaml").read_text()
    assert index.endswith('        created_at: "2026-05-07T00:00:00Z"\n')
    assert empty().code == 0
    assert empty("plan", "--exit-code").code == 0


def test_init_overwrites_nothing(empty: CommandLine) -> None:
    empty.write("releases/index.yaml", INDEX)
    done = empty("init")
    assert (done.code, done.out) == (2, "")
    assert "already exists" in done.err
    assert (empty.root / "releases/index.yaml").read_text() == INDEX


@pytest.mark.parametrize("name", ["UPPER", "", "a b", "../x", "a" * 65])
def test_an_id_that_is_no_name_makes_nothing(empty: CommandLine, name: str) -> None:
    done = empty("init", "--id", name)
    if name:  # an empty one is none: the directory's name is taken
        assert done.code == 2
        assert empty.files() == {}


def test_init_says_what_it_made_as_json(empty: CommandLine) -> None:
    empty.write("releases/targets.yaml", "targets: {}\n")
    done = empty("init", "--id", "acme", "--json")
    assert done.code == 0
    assert (done.document["id"], done.document["made"]) == ("acme", ["releases/index.yaml"])
    assert empty("init", "--json").document["error"]["exit_code"] == 2


def test_init_in_another_directory(empty: CommandLine, tmp_path: Path) -> None:
    assert empty("init", "-C", tmp_path / "nowhere").code == 2
    (tmp_path / "My Models!").mkdir()
    assert empty("init", "-C", tmp_path / "My Models!").code == 0
    assert "id: my-models " in (tmp_path / "My Models!/releases/index.yaml").read_text()


def test_add_changes_no_other_line(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.2.0/model.safetensors", "new")
    done = reconcile("add", "llm", "1.2.0", "weights/llm/1.2.0", "--json")
    assert done.code == 0
    index = (reconcile.root / "releases/index.yaml").read_text()
    added = re.search(
        r'      "1\.2\.0":\n        path: weights/llm/1\.2\.0\n        created_at: ".*Z"\n', index
    )
    assert added
    assert index.replace(added[0], "") == INDEX
    assert done.document["path"] == "weights/llm/1.2.0"
    assert reconcile("plan").code == 0


def test_add_takes_a_path_as_seen_from_where_one_is(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.2.0/model.safetensors", "new")
    done = reconcile("add", "llm", "1.2.0", "1.2.0", cwd=reconcile.root / "weights/llm")
    assert done.code == 0
    assert "path: weights/llm/1.2.0\n" in (reconcile.root / "releases/index.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["llm", "1.0.0", "weights/llm/1.0.0"], 2, "llm@1.0.0 is already in the index"),
        (["llm", "1.2.0", "weights/llm/1.0.0"], 2, "weights/llm/1.0.0"),  # that path has a version
        (["llm", "1.2", "weights/new"], 2, "1.2"),
        (["LLM", "1.2.0", "weights/new"], 2, "LLM"),
        (["llm", "1.2.0", "nowhere"], 2, "no such directory: 'nowhere'"),
        (["llm", "1.2.0", "weights/none"], 2, "no files in 'weights/none'"),
        (["llm", "1.2.0", "."], 1, "symbolic link"),
        (["llm", "1.2.0", ".."], 2, "outside"),
        (["llm", "1.2.0", "weights/linked"], 1, "symbolic link"),
        (["llm", "1.2.0", "weights/new", "--format", "gguf"], 2, "format"),
        (["llm", "1.2.0", "weights/new", "--created-at", "yesterday"], 2, "yesterday"),
        (
            ["llm", "1.2.0", "weights/new", "--created-at", "2026\x1b[31m"],
            2,
            "has the control character '\\x1b'",
        ),
        (["llm", "1.2.0", "weights/new", "--created-at", "2026-05-07T00:00:00Z\n"], 2, "created_at"),
        (["new", "1.2.0", "weights/new", "--license", "a\u202eb"], 2, "has the control character '\\u202e'"),
    ],
)
def test_add_rejects_bad_input_and_leaves_the_index(
    reconcile: CommandLine, arguments: list[str], code: int, message: str
) -> None:
    reconcile.write("weights/new/model.safetensors", "new")
    (reconcile.root / "weights/none").mkdir()
    (reconcile.root / "weights/linked").mkdir()
    (reconcile.root / "weights/linked/out").symlink_to("/etc")
    before = reconcile.files()
    done = reconcile("add", *arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert message in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) <= 2
    assert done.err.replace("\n", "").isprintable()
    assert reconcile.files() == before
