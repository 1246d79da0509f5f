"""`init`, `add`, `check` and `log`: results, exit codes and JSON, without contacting a target."""

from __future__ import annotations

import re
import shutil
import subprocess
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
        (["llm", "1.2.0", "nowhere"], 2, "no such directory or CAR file: 'nowhere'"),
        (["llm", "1.2.0", "weights/none"], 2, "no files in 'weights/none'"),
        (["llm", "1.2.0", "."], 2, "path '.'"),
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


INDEX_FILE = "releases/index.yaml"
OTHER = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(at: CommandLine, message: str, author: str = "Ann") -> str:
    git(at.root, "add", "releases")
    git(at.root, "commit", "-q", "-m", message, "--author", f"{author} <{author.lower()}@example.com>")
    return git(at.root, "rev-parse", "HEAD")


@pytest.fixture
def released(reconcile: CommandLine) -> CommandLine:
    """Two versions: added in one commit, resolved in the next, and their weights deleted since."""
    git(reconcile.root, "init", "-q")
    commit(reconcile, "Add llm")
    assert reconcile().code == 0
    commit(reconcile, "Record resolved CIDs (#7)", "Bot")
    shutil.rmtree(reconcile.root / "weights")
    shutil.rmtree(reconcile.root / ".reconcile")
    return reconcile


def edit(at: CommandLine, old: str, new: str) -> None:
    text = (at.root / INDEX_FILE).read_text()
    assert old in text
    at.write(INDEX_FILE, text.replace(old, new))


def line_of(at: CommandLine, text: str) -> int:
    return next(
        n for n, line in enumerate((at.root / INDEX_FILE).read_text().splitlines(), 1) if text in line
    )


# -- check ---------------------------------------------------------------------------------------------------


def test_check_needs_neither_weights_nor_targets_and_writes_nothing(released: CommandLine) -> None:
    before = released.files()
    done = released("check")
    assert (done.code, done.out) == (0, "ok: 2 versions, 2 with a CID, 2 with a record\n")
    assert done.err == "compared with 2 revisions in the history of HEAD\n"
    document = released("check", "--json").document
    assert (document["versions"], document["resolved"], document["recorded"]) == (2, 2, 2)
    assert document["complete"] is True
    assert released.files() == before
    assert not (released.root / ".reconcile").exists()


def test_check_without_a_repository_says_that_nothing_was_compared(reconcile: CommandLine) -> None:
    done = reconcile("check", "--json")
    assert done.code == 0
    assert done.document["compared_with"] == "nothing: there is no git repository"
    assert (done.document["resolved"], done.document["recorded"]) == (0, 0)


def test_check_refuses_every_released_cid_that_changed(released: CommandLine) -> None:
    one, two = (released("resolve", f"llm@{version}").out.strip() for version in ("1.0.0", "1.1.0"))
    edit(released, one, OTHER)
    edit(released, f"        cid: {two}\n", "")
    shutil.rmtree(released.root / "releases/records")
    before = released.files()
    done = released("check")
    assert (done.code, done.out) == (4, "")
    assert f"llm@1.0.0 was {one} in commit " in done.err
    assert f"{INDEX_FILE}:{line_of(released, '1.1.0')}: llm@1.1.0 " in done.err
    assert done.err.count("hint: ") == 1
    error = released("check", "--json").document["error"]
    assert error["exit_code"] == 4
    assert error["message"].count("\n") == 1
    assert released.files() == before


def test_check_compares_with_the_commit_that_is_named(released: CommandLine) -> None:
    head = git(released.root, "rev-parse", "HEAD")
    done = released("check", "--base", "HEAD", "--json")
    assert (done.code, done.document["compared_with"]) == (0, f"HEAD ({head[:12]})")
    edit(released, released("resolve", "llm@1.0.0").out.strip(), OTHER)
    shutil.rmtree(released.root / "releases/records")
    assert released("check", "--base", "HEAD").code == 4
    assert released("check", "--base", "HEAD~1").code == 0
    unknown = released("check", "--base", "nowhere")
    assert (unknown.code, unknown.out) == (2, "")
    assert "'nowhere' is not a commit of this repository" in unknown.err


def test_check_says_that_a_shallow_clone_was_not_compared_whole(
    released: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{released.root}", str(shallow))
    done = released("check", "-C", shallow, "--json")
    assert done.code == 0
    assert done.document["complete"] is False
    assert "fetch-depth: 0" in done.document["compared_with"]


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "message"),
    [
        (INDEX_FILE, "format: safetensors", "fromat: safetensors", 2, "did you mean 'format'?"),
        (INDEX_FILE, "targets: [store]", "targets: [stroe]", 2, "'stroe'"),
        ("releases/records/llm/1.0.0.json", '"schema": 2', '"schema": 9', 2, "1.0.0.json"),
    ],
)
def test_check_tells_what_does_not_hold_with_its_file(
    released: CommandLine, file: str, old: str, new: str, code: int, message: str
) -> None:
    released.write(file, (released.root / file).read_text().replace(old, new, 1))
    done = released("check")
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert released("check", "--json").document["error"]["exit_code"] == code


# -- log -----------------------------------------------------------------------------------------------------


def test_log_says_who_released_what_newest_first(released: CommandLine) -> None:
    sha = git(released.root, "rev-parse", "HEAD")
    before = released.files()
    one, two = (released("resolve", f"llm@{version}").out.strip() for version in ("1.0.0", "1.1.0"))
    done = released("log", "llm")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) == 4
    assert {lines[1].strip(), lines[3].strip()} == {one, two}
    for line in lines[::2]:
        assert f"{sha[:12]}  Bot: Record resolved CIDs (#7)" in line
        assert line.count("#7") == 1
    items = released("log", "llm", "--json").document["items"]
    assert {item["version"]: item["cid"] for item in items} == {"1.0.0": one, "1.1.0": two}
    assert {(item["commit"], item["author"], item["proposal"]) for item in items} == {(sha, "Bot", "7")}
    assert released.files() == before


def test_log_keeps_a_model_that_left_the_index(released: CommandLine) -> None:
    released.write(INDEX_FILE, "schema: 1\nid: acme\nmodels: {}\n")
    commit(released, "Forget it")
    assert len(released("log", "llm", "--json").document["items"]) == 2


def test_log_of_a_model_without_a_release_is_empty(reconcile: CommandLine) -> None:
    git(reconcile.root, "init", "-q")
    for _ in range(2):
        done = reconcile("log", "llm")
        assert (done.code, done.out) == (0, "")
        assert "no release in the history of HEAD yet" in done.err
        assert reconcile("log", "llm", "--json").document["items"] == []
        git(reconcile.root, "add", "releases")
        git(reconcile.root, "commit", "-q", "-m", "start", "--allow-empty")


@pytest.mark.parametrize(
    ("model", "message"), [("lm", "did you mean 'llm'?"), ("", "unknown model ''"), ("\x1b[31m", "\\x1b[31m")]
)
def test_log_of_an_unknown_model_is_wrong_usage(released: CommandLine, model: str, message: str) -> None:
    done = released("log", model)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "\x1b" not in done.err
    assert released("log", model, "--json").document["error"]["exit_code"] == 2


def test_log_outside_of_a_repository_is_an_error(reconcile: CommandLine) -> None:
    done = reconcile("log", "llm")
    assert (done.code, done.out) == (2, "")
    assert "no git repository" in done.err


def test_log_shows_what_a_commit_says_without_its_control_characters(released: CommandLine) -> None:
    released.write("weights/llm/1.2.0/model.safetensors", "new")
    assert released("add", "llm", "1.2.0", "weights/llm/1.2.0").code == 0
    assert released("--only", "llm@1.2.0").code == 0
    commit(released, "Red \x1b[31mtext \u202e", "Eve\x1b[2J")
    done = released("log", "llm")
    assert done.code == 0
    assert "Red \\x1b[31mtext" in done.out
    assert done.out.replace("\n", "").isprintable()
