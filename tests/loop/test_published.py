"""A published version stays whole while its index changes: its own files still give its CID."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.content.export import export
from reconciler.index.records import load_record, records_directory
from reconciler.loop.changes import Publish
from reconciler.progress import QUIET
from tests.support.releases import Releases, kinds, with_memory

REF = "old@1.0.0"
FILES = {"model.bin": b"weights", "train.log": b"step", ".hidden": b"h"}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return with_memory(tmp_path, "a", "b")


def publish(releases: Releases, **fields: object) -> None:
    releases.add(REF, FILES, **fields)
    assert not releases.apply().failed


def lose(releases: Releases, *names: str) -> None:
    for name in names or releases.memory:
        releases.memory[name].held.clear()


def heals(releases: Releases, ref: str = REF) -> bool:
    """Whether a run sends the version from its own directory, after which nothing is left to do."""
    plan = releases.plan()
    sent = [change for change in plan.changes if isinstance(change, Publish)]
    if not sent or any(change.sources != ("directory",) for change in sent):
        return False
    assert not releases.apply().failed
    assert kinds(releases.plan()) == []
    assert releases.cid(ref) in releases.memory["a"].held
    return True


def without_records(releases: Releases) -> None:
    shutil.rmtree(records_directory(releases.index_file))


def as_recorded_before(releases: Releases) -> None:
    """Turn every record into one of an earlier release."""
    for path in records_directory(releases.index_file).rglob("*.json"):
        record = json.loads(path.read_text())
        for key in ("bundle", "contents", "empty_directories"):
            record.pop(key, None)
        path.write_text(json.dumps({**record, "schema": 1}))


def commit(releases: Releases) -> None:
    (releases.root / ".gitignore").write_text(".reconcile/\n")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Release"]):
        subprocess.run(["git", "-C", releases.root, *command], check=True)


def rename(releases: Releases) -> str:
    releases.rename(REF, "new@1.0.0")
    return "new@1.0.0"


def another_time(releases: Releases) -> str:
    releases.change(REF, created_at="2030-01-01T00:00:00Z")
    return REF


def no_time(releases: Releases) -> str:
    releases.change(REF, created_at=None)
    return REF


def other_patterns(releases: Releases) -> str:
    releases.change(REF, exclude=["*.bin"], include=["*.log"])
    return REF


def hidden_files(releases: Releases) -> str:
    releases.change(REF, hidden="include")
    return REF


def about(releases: Releases) -> str:
    releases.about["old"] = {"format": "gguf", "license": "MIT", "kind": "dataset", "exclude": ["*.bin"]}
    return REF


def defaults(releases: Releases) -> str:
    releases.defaults = {"include": ["*.txt"]}
    return REF


def into_an_organization(releases: Releases) -> str:
    releases.rename(REF, "Acme/Old@1.0.0")
    releases.about["Acme/Old"] = {"format": "gguf"}
    return "Acme/Old@1.0.0"


CHANGES = [rename, another_time, no_time, other_patterns, hidden_files, about, defaults, into_an_organization]


@pytest.mark.parametrize("change", CHANGES)
def test_the_record_keeps_what_the_bundle_was_made_from(
    releases: Releases, change: Callable[[Releases], str]
) -> None:
    publish(releases, exclude=["*.log"])
    ref = change(releases)
    releases.apply()
    lose(releases)
    assert heals(releases, ref)


@pytest.mark.parametrize("forget", [without_records, as_recorded_before])
@pytest.mark.parametrize("change", CHANGES)
def test_the_git_history_stands_in_for_records_that_lack_it(
    releases: Releases, change: Callable[[Releases], str], forget: Callable[[Releases], None]
) -> None:
    publish(releases, exclude=["*.log"])
    forget(releases)
    commit(releases)
    ref = change(releases)
    releases.apply()
    lose(releases)
    assert heals(releases, ref)


@pytest.mark.parametrize("change", [rename, another_time, no_time])
def test_the_manifest_on_a_target_stands_in_for_everything_else(
    releases: Releases, change: Callable[[Releases], str]
) -> None:
    publish(releases)
    without_records(releases)
    ref = change(releases)
    releases.apply()
    lose(releases, "a")
    assert heals(releases, ref)


def test_an_old_record_with_the_cid_gives_the_name_of_a_renamed_model(releases: Releases) -> None:
    publish(releases)
    as_recorded_before(releases)
    ref = rename(releases)
    lose(releases)
    assert heals(releases, ref)
    record = load_record(records_directory(releases.index_file), "new", "1.0.0")
    assert record is not None
    assert record.inputs is not None
    assert (record.model, record.inputs.release.model) == ("new", "old")


def test_a_model_may_be_renamed_twice(releases: Releases) -> None:
    publish(releases)
    rename(releases)
    lose(releases)
    assert heals(releases, "new@1.0.0")
    releases.rename("new@1.0.0", "newest@1.0.0")
    shutil.rmtree(records_directory(releases.index_file) / "old")
    lose(releases)
    assert heals(releases, "newest@1.0.0")


def test_a_manifest_written_by_hand_keeps_its_name(releases: Releases) -> None:
    manifest = json.dumps({"model": "old", "files": ["model.bin"]}).encode()
    releases.add(REF, {"model.bin": b"weights", "manifest.json": manifest})
    assert not releases.apply().failed
    ref = rename(releases)
    lose(releases)
    assert heals(releases, ref)


def test_a_car_of_a_renamed_model_still_heals(releases: Releases, tmp_path: Path) -> None:
    publish(releases)
    with releases.running() as run:
        version = next(run.workspace.index.versions())
        export(run.workspace.sources.identify(version), tmp_path / "weights.car", QUIET)
    releases.change(REF, path="weights.car")
    ref = rename(releases)
    lose(releases)
    assert heals(releases, ref)


def test_a_new_version_of_a_renamed_model_has_the_new_name(releases: Releases) -> None:
    publish(releases)
    rename(releases)
    releases.add("new@1.1.0", FILES)
    assert not releases.apply().failed
    record = load_record(records_directory(releases.index_file), "new", "1.1.0")
    assert record is not None
    assert record.inputs is not None
    assert record.inputs.release.model == "new"


def test_changed_files_are_refused_after_a_rename_too(releases: Releases) -> None:
    publish(releases)
    (releases.source(REF) / "model.bin").write_bytes(b"other")
    rename(releases)
    lose(releases)
    assert not heals(releases)
    assert "'model.bin' changed" in releases.plan().changes[0].reason


def test_files_are_hashed_once_however_many_names_are_tried(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.content import hashing

    publish(releases)
    without_records(releases)
    commit(releases)
    releases.rename(REF, "new@1.0.0")
    lose(releases)
    hashed: list[int] = []
    real = hashing.hash_files
    monkeypatch.setattr(
        hashing,
        "hash_files",
        lambda listing, files, **rest: (hashed.append(len(files)), real(listing, files, **rest))[1],
    )
    assert kinds(releases.plan())[0][0] == "publish"
    assert hashed == [2]
