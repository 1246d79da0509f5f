"""A directory that no longer gives its published CID: what differs, why, and the way out."""

from __future__ import annotations

import json
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.index.records import load_record, records_directory
from reconciler.loop.changes import Blocked, Plan
from reconciler.loop.mismatch import Mismatch, MismatchCause
from reconciler.loop.plan_document import plan_document
from reconciler.render.markdown import plan_markdown
from reconciler.render.text import plan_text
from tests.support.releases import Releases, assert_document, kinds, with_memory

REF = "m@1.0.0"
FILES = {
    "config.json": b'{\n "a": 1\n}\n',
    "model.bin": b"w\0w" * 50,
    "notes.txt": b"one\r\ntwo\r\n",
    "sub/a": b"a",
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 150\n"


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def released(tmp_path: Path) -> Releases:
    """A published version that every target has lost, and its record; no git repository."""
    releases = with_memory(tmp_path, "a")
    releases.add(REF, FILES)
    (releases.source(REF) / "adapters").mkdir()
    assert not releases.apply().failed
    lose(releases)
    return releases


@pytest.fixture
def committed(released: Releases) -> Releases:
    """The same with everything in git."""
    (released.root / ".gitignore").write_text(".reconcile/\n*.log\n")
    git(released.root, "init", "--quiet")
    commit(released, "Release")
    return released


def commit(releases: Releases, message: str) -> None:
    git(releases.root, "add", "--all")
    git(releases.root, "commit", "--quiet", "--message", message)


def lose(releases: Releases) -> None:
    for target in releases.memory.values():
        target.held.clear()


def blocked(releases: Releases) -> Blocked:
    """Return the blocked change of a plan; assert that every form of the plan can show it."""
    plan = releases.plan()
    assert all(forms(plan))
    change = plan.changes[0]
    assert isinstance(change, Blocked), kinds(plan)
    return change


def forms(plan: Plan) -> list[str]:
    document = plan_document(plan)
    assert_document("plan", document)
    return [plan_text(plan), plan_markdown(plan), json.dumps(document)]


def mismatch(releases: Releases) -> Mismatch:
    found = blocked(releases).mismatch
    assert found is not None
    return found


def causes(releases: Releases) -> dict[str, tuple[str, MismatchCause | None]]:
    return {each.path: (each.change.value, each.cause) for each in mismatch(releases).differences}


def test_the_unchanged_directory_still_heals(released: Releases) -> None:
    assert [change.kind for change in released.plan().changes] == ["publish"]


def replace_by_pointer(source: Path) -> None:
    (source / "model.bin").write_bytes(POINTER)


def to_crlf(source: Path) -> None:
    (source / "config.json").write_bytes(FILES["config.json"].replace(b"\n", b"\r\n"))


def to_lf(source: Path) -> None:
    (source / "notes.txt").write_bytes(FILES["notes.txt"].replace(b"\r\n", b"\n"))


def drop_directory(source: Path) -> None:
    (source / "adapters").rmdir()


def fill_directory(source: Path) -> None:
    (source / "adapters" / "x").write_bytes(b"x")


def add_directory(source: Path) -> None:
    (source / "cache").mkdir()


def move(source: Path) -> None:
    (source / "model.bin").rename(source / "sub" / "model.bin")


def other_case(source: Path) -> None:
    (source / "config.json").rename(source / "Config.json")


def change_text(source: Path) -> None:
    (source / "config.json").write_bytes(b"{}")


def remove_file(source: Path) -> None:
    (source / "model.bin").unlink()


CASES: list[tuple[Callable[[Path], None], dict[str, tuple[str, MismatchCause | None]], str]] = [
    (replace_by_pointer, {"model.bin": ("changed", MismatchCause.LFS_POINTER)}, "git lfs pull"),
    (to_crlf, {"config.json": ("changed", MismatchCause.LINE_ENDINGS)}, ".gitattributes"),
    (to_lf, {"notes.txt": ("changed", MismatchCause.LINE_ENDINGS)}, ".gitattributes"),
    (drop_directory, {"adapters/": ("gone", MismatchCause.EMPTY_DIRECTORY)}, "mkdir -p"),
    (fill_directory, {"adapters/x": ("new", None)}, "immutable"),
    (add_directory, {"cache/": ("new", MismatchCause.EMPTY_DIRECTORY)}, "rmdir"),
    (
        move,
        {"model.bin": ("gone", MismatchCause.MOVED), "sub/model.bin": ("new", MismatchCause.MOVED)},
        "move it back",
    ),
    (
        other_case,
        {"Config.json": ("new", MismatchCause.NAME_FORM), "config.json": ("gone", MismatchCause.NAME_FORM)},
        "rename 'Config.json' to 'config.json'",
    ),
    (change_text, {"config.json": ("changed", None)}, "immutable"),
    (remove_file, {"model.bin": ("gone", None)}, "immutable"),
]


@pytest.mark.parametrize(("change", "expected", "hint"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_record_names_what_differs_with_its_cause_and_the_way_out(
    released: Releases,
    change: Callable[[Path], None],
    expected: dict[str, tuple[str, MismatchCause | None]],
    hint: str,
) -> None:
    change(released.source(REF))
    assert causes(released) == expected
    found = blocked(released)
    assert mismatch(released).compared_with == "the record"
    assert "no longer has the published CID" in found.reason
    assert all(path.rstrip("/") in found.reason for path in expected)
    assert hint in found.hint


@pytest.mark.parametrize("change", [to_crlf, drop_directory, change_text])
def test_without_a_list_in_the_record_the_tree_on_a_target_names_what_differs(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    releases = with_memory(tmp_path, "a", "b")
    releases.add(REF, FILES)
    (releases.source(REF) / "adapters").mkdir()
    assert not releases.apply().failed
    (records_directory(releases.index_file) / "m/1.0.0.json").unlink()
    releases.memory["b"].held.clear()
    change(releases.source(REF))
    assert mismatch(releases).compared_with == "a target"
    assert len(causes(releases)) == 1


def test_without_record_and_target_the_message_names_both_cids(released: Releases) -> None:
    (records_directory(released.index_file) / "m/1.0.0.json").unlink()
    change_text(released.source(REF))
    found = mismatch(released)
    assert (found.compared_with, found.differences) == ("", ())
    reason = blocked(released).reason
    assert str(found.found) in reason
    assert str(released.cid(REF)) in reason


def test_many_differences_are_counted_in_the_message_and_listed_below(released: Releases) -> None:
    for number in range(30):
        (released.source(REF) / f"{number:02}").write_bytes(b"%d" % number)
    text, markdown, document = forms(released.plan())
    assert "; and 27 more" in text
    assert text.count("is new") == 3 + 20
    assert "and 10 more; --json has them" in text
    assert "<details><summary>30 differences of m\\@" in markdown
    assert json.loads(document)["items"][0]["mismatch"]["total"] == 30


def test_a_generated_manifest_alone_is_explained_by_the_index(released: Releases) -> None:
    path = records_directory(released.index_file) / "m/1.0.0.json"
    record = json.loads(path.read_text())
    record["bundle"]["created_at"] = "2020-01-01T00:00:00Z"  # recorded wrongly, say by hand
    path.write_text(json.dumps(record))
    released.change(REF, created_at="2021-01-01T00:00:00Z")
    assert set(causes(released).values()) == {("changed", MismatchCause.GENERATED)}
    assert "created_at" in blocked(released).hint


def test_an_own_list_of_sums_does_not_hide_the_cause(tmp_path: Path) -> None:
    import hashlib

    releases = with_memory(tmp_path, "a")
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in FILES.items())
    releases.add(REF, {**FILES, "SHA256SUMS": sums.encode()})
    assert not releases.apply().failed
    lose(releases)
    to_crlf(releases.source(REF))
    assert causes(releases) == {"config.json": ("changed", MismatchCause.LINE_ENDINGS)}
    reason = blocked(releases).reason
    assert "wrong sum for 'config.json'" in reason
    assert "CRLF now" in reason
    (releases.source(REF) / "sub/a").unlink()
    assert causes(releases)["sub/a"] == ("gone", None)


def test_a_name_in_another_unicode_form_is_told_apart_from_a_lost_file(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    composed = "modèle.bin"
    releases.add(REF, {composed: b"weights"})
    assert not releases.apply().failed
    lose(releases)
    source = releases.source(REF)
    (source / composed).rename(source / unicodedata.normalize("NFD", composed))
    assert {cause for _, cause in causes(releases).values()} == {MismatchCause.NAME_FORM}
    assert "\\xe8" in blocked(releases).hint  # both look the same, so they are written with escapes


# --- with git


def test_a_file_that_git_ignores_is_named_where_it_is_missing(committed: Releases) -> None:
    other = with_memory(committed.root / "other", "a")
    other.add(REF, {"model.bin": b"weights", "train.log": b"step"})
    assert not other.apply().failed
    lose(other)
    (other.source(REF) / "train.log").unlink()
    assert causes(other) == {"train.log": ("gone", MismatchCause.GIT_IGNORED)}
    assert "git add --force" in blocked(other).hint


@pytest.mark.parametrize(
    ("name", "cause"), [("run.log", MismatchCause.GIT_IGNORED), ("run.txt", MismatchCause.NOT_IN_GIT)]
)
def test_a_file_that_only_this_machine_has_is_told_from_git(
    committed: Releases, name: str, cause: MismatchCause
) -> None:
    (committed.source(REF) / name).write_bytes(b"x")
    assert causes(committed) == {name: ("new", cause)}
    assert "move the files that git" in blocked(committed).hint


@pytest.mark.parametrize("change", [change_text, remove_file])
def test_a_change_that_is_not_committed_is_told_apart(
    committed: Releases, change: Callable[[Path], None]
) -> None:
    change(committed.source(REF))
    assert [cause for _, cause in causes(committed).values()] == [MismatchCause.NOT_COMMITTED]
    assert "git checkout HEAD -- " in blocked(committed).hint
    git(committed.root, "checkout", "HEAD", "--", str(committed.source(REF)))
    assert [each.kind for each in committed.plan().changes] == ["publish"]


@pytest.mark.parametrize("change", ["added", "changed", "removed"])
def test_a_commit_of_another_branch_is_named(committed: Releases, change: str) -> None:
    branch = git(committed.root, "branch", "--show-current")
    git(committed.root, "checkout", "--quiet", "-b", "other")
    source = committed.source(REF)
    {
        "added": lambda: (source / "extra.bin").write_bytes(b"extra"),
        "changed": lambda: (source / "model.bin").write_bytes(b"better"),
        "removed": (source / "model.bin").unlink,
    }[change]()
    commit(committed, "Improve the model")
    git(committed.root, "checkout", "--quiet", branch)
    git(committed.root, "merge", "--quiet", "--no-ff", "--no-edit", "other")
    assert [cause for _, cause in causes(committed).values()] == [MismatchCause.COMMITTED]
    found = blocked(committed)
    assert f"{change} it: 'Improve the model'" in found.reason
    assert "git checkout" in found.hint


def test_an_unchanged_run_reads_neither_records_nor_git(
    released: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    released.apply()
    calls: list[Any] = []
    monkeypatch.setattr("reconciler.loop.published.load_record", lambda *given: calls.append(given))
    monkeypatch.setattr("reconciler.loop.published.former_entries", lambda *given: calls.append(given))
    assert kinds(released.plan()) == []
    assert calls == []


def test_a_record_lists_the_files_and_what_the_bundle_was_made_from(released: Releases) -> None:
    record = load_record(records_directory(released.index_file), "m", "1.0.0")
    assert record is not None
    assert record.contents is not None
    assert [file.path for file in record.contents.files] == sorted([*FILES, "SHA256SUMS", "manifest.json"])
    assert record.contents.empty_directories == ("adapters",)
    assert record.inputs is not None
    assert record.inputs.release.model == "m"
