"""Runs over versions whose files are selected by patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.loop.changes import Blocked
from tests.support.releases import Releases, kinds, with_memory

FILES = {"model.safetensors": b"weights", "checkpoints/optimizer.pt": b"big", "train.log": b"step"}


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return with_memory(tmp_path, "a")


def published(releases: Releases, ref: str = "m@1.0.0") -> list[str]:
    """Publish; return the paths of the version's files, without the generated ones."""
    assert not releases.apply().failed
    dag = next(dag for root, dag in releases.memory["a"].held.items() if root == releases.cid(ref))
    assert dag is not None
    with releases.running() as run:
        version = run.workspace.index.models["m"].versions[ref.partition("@")[2]]
        files = run.workspace.sources.identify(version).identity.files
    return [file.path for file in files if file.path not in ("SHA256SUMS", "manifest.json")]


def test_a_version_has_the_files_that_its_patterns_select(releases: Releases) -> None:
    releases.add("m@1.0.0", FILES, exclude=["checkpoints/**", "*.log"])
    assert published(releases) == ["model.safetensors"]


def test_excluded_files_do_not_affect_the_cid(releases: Releases, tmp_path: Path) -> None:
    releases.add("m@1.0.0", FILES, include=["*.safetensors"])
    published(releases)
    other = with_memory(tmp_path / "other", "a")
    other.add("m@1.0.0", {"model.safetensors": b"weights"})
    published(other)
    assert releases.cid("m@1.0.0") == other.cid("m@1.0.0")


def test_an_excluded_list_of_sums_is_generated_instead(releases: Releases) -> None:
    zeros = b"0" * 64
    sums = {"SHA256SUMS": zeros + b"  model.safetensors\n" + zeros + b"  train.log\n"}
    releases.add("m@1.0.0", FILES | sums, exclude=["*.log", "checkpoints/"])
    (blocked,) = releases.plan().changes
    assert isinstance(blocked, Blocked)
    assert "'train.log' is missing" in blocked.reason
    assert "exclude this list as well" in blocked.hint
    releases.change("m@1.0.0", exclude=["*.log", "checkpoints/", "SHA256SUMS"])
    assert published(releases) == ["model.safetensors"]


def test_patterns_that_leave_nothing_are_an_error(releases: Releases) -> None:
    releases.add("m@1.0.0", FILES, include=["*.gguf"])
    (blocked,) = releases.plan().changes
    assert isinstance(blocked, Blocked)
    assert "no files to pack" in blocked.reason
    assert "entries by patterns are left out" in blocked.reason


def test_a_pattern_that_matches_nothing_is_noted_until_the_version_is_published(releases: Releases) -> None:
    releases.add("m@1.0.0", FILES, exclude=["*.log", "checkpoint/", "*.onnx"])
    (note,) = releases.plan().notes
    assert note == "m@1.0.0: patterns match nothing in weights/m/1.0.0: 'checkpoint/', '*.onnx'"
    releases.apply()
    plan = releases.plan()
    assert (kinds(plan), plan.notes) == ([], ())


# -- edits of published versions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ({}, {"exclude": ["*.log"]}, "exclude"),
        ({}, {"include": ["*.log"]}, "include"),
        ({}, {"hidden": "include"}, "hidden"),
        ({"hidden": "include"}, {"hidden": None}, "hidden"),
        ({"exclude": ["*.log"]}, {"exclude": ["*.pt"], "hidden": "include"}, "hidden and exclude"),
        ({"exclude": ["*.log"]}, {"exclude": ["*.log", "*.pt"]}, "exclude"),
        ({"exclude": ["*.log"]}, {"exclude": ["*.log"]}, ""),
        ({"exclude": ["*.log"]}, {"created_at": "2026-02-02T00:00:00Z"}, ""),
    ],
)
def test_an_edit_of_a_published_version_without_effect_is_noted(
    releases: Releases, before: dict[str, object], after: dict[str, object], keys: str
) -> None:
    releases.add("m@1.0.0", FILES, **before)
    published(releases)
    releases.change("m@1.0.0", **after)
    plan = releases.plan()
    note = f"m@1.0.0: {keys} changed in the index after it was published, which has no effect; "
    assert [each[: len(note)] for each in plan.notes] == ([note] if keys else [])
    assert kinds(plan) == []


def test_new_patterns_of_a_model_are_not_noted_for_its_published_versions(releases: Releases) -> None:
    releases.add("m@1.0.0", FILES)
    published(releases)
    releases.defaults["exclude"] = ["*.log"]
    releases.add("m@1.1.0", FILES)
    assert not any("no effect" in note for note in releases.plan().notes)
