"""A saved plan is carried out exactly, or refused with what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import SafetyError, UsageError
from reconciler.loop.plan_document import SavedPlan, plan_document, read_saved, require_same
from reconciler.loop.settings import Drift, ProposeMode, RunOptions
from reconciler.targets.interface import Check
from tests.support.memory_target import down
from tests.support.releases import Releases, assert_document, with_memory


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    releases = with_memory(tmp_path, "a", "b")
    releases.add("m@1.0.0")
    releases.add("n@1.0.0")
    return releases


def save(releases: Releases, **options: Any) -> SavedPlan:
    path = releases.root / "plan.json"
    path.write_text(json.dumps(plan_document(releases.plan(**options))))
    return read_saved(path)


def edited(releases: Releases, **fields: Any) -> Path:
    """Save a plan, and change fields of its file."""
    save(releases)
    path = releases.root / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return path


def test_the_same_plan_is_the_same(releases: Releases) -> None:
    require_same(save(releases), releases.plan())


def edit_index(releases: Releases) -> None:
    releases.add("m@2.0.0")


def lose_a_target(releases: Releases) -> None:
    releases.memory["b"].faults["observe"] = down("b")


def change_bytes(releases: Releases) -> None:
    (releases.source("m@1.0.0") / "weights.bin").write_bytes(b"other bytes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_index, "the index changed since the plan was saved"),
        (lose_a_target, "the changes differ from those of the saved plan: m@1.0.0 on b, n@1.0.0 on b"),
        (change_bytes, "the changes differ from those of the saved plan: m@1.0.0 on "),
    ],
)
def test_the_refusal_names_what_changed(
    releases: Releases, change: Callable[[Releases], None], message: str
) -> None:
    saved = save(releases)
    change(releases)
    with pytest.raises(SafetyError) as caught:
        require_same(saved, releases.plan())
    assert caught.value.message.startswith(message)
    assert "reconcile plan -o" in (caught.value.hint or "")


def test_the_refusal_names_a_changed_targets_file(releases: Releases) -> None:
    saved = save(releases)
    targets = releases.index_file.with_name("targets.yaml")
    targets.write_text(targets.read_text() + "\n# a comment\n")
    with releases.running() as run, pytest.raises(SafetyError, match=r"^the targets changed"):
        require_same(saved, run.plan())


def test_other_options_are_another_plan(releases: Releases) -> None:
    saved = save(releases)
    with pytest.raises(SafetyError, match="or the file was edited"):
        require_same(saved, releases.plan(check=Check.FULL))
    with pytest.raises(SafetyError, match=r"n@1\.0\.0"):
        require_same(saved, releases.plan(only=("m",)))


def test_a_plan_edited_by_hand_is_refused(releases: Releases) -> None:
    saved = save(releases)
    with pytest.raises(SafetyError, match=r"m@1\.0\.0 on a"):
        require_same(replace(saved, items=saved.items[1:]), releases.plan())
    options = plan_document(releases.plan())["options"]
    saved = read_saved(edited(releases, options=options | {"prune": True}))
    with pytest.raises(SafetyError, match="or the file was edited"):
        require_same(saved, releases.plan(prune=True))


def test_a_saved_plan_carries_its_options(releases: Releases) -> None:
    options = {
        "check": Check.FULL,
        "drift": Drift.REPORT,
        "propose": ProposeMode.NONE,
        "prune": True,
        "allow_removals": 3,
    }
    narrowing = {"only": ("m", "a"), "exclude": ("b",)}
    saved = save(releases, **options, **narrowing)
    assert saved.options == RunOptions(**options)
    scope = saved.scope(releases.layout(), use_cache=False)
    assert (scope.only, scope.exclude, scope.use_cache) == (("m", "a"), ("b",), False)
    require_same(saved, releases.plan(**options, **narrowing))
    assert save(releases).options == RunOptions()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"items": "nonsense"}, "'items' is not a list"),
        ({"items": ["nonsense"]}, "'items[0]' is not an object"),
        ({"digest": None}, "'digest' is not a string"),
        ({"options": []}, "'options.check' is not a string"),
        ({"options": {"check": "deep"}}, "'options.check' is not one of quick, sample, full"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(releases: Releases, fields: dict[str, Any], message: str) -> None:
    path = edited(releases, **fields)
    with pytest.raises(SafetyError) as caught:
        read_saved(path)
    assert caught.value.message == f"the saved plan was edited: {message}"


def test_a_plan_of_an_earlier_version_without_options_is_refused(releases: Releases) -> None:
    document = plan_document(releases.plan())
    del document["options"]
    assert_document("plan", document)  # the schema still accepts it
    path = releases.root / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="saved by an earlier version, without its options") as caught:
        read_saved(path)
    assert "reconcile plan -o" in (caught.value.hint or "")


def test_a_note_does_not_make_it_another_plan(releases: Releases) -> None:
    saved = save(releases)
    releases.memory["a"].notes = ("running low on space",)
    require_same(saved, releases.plan())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a saved plan"),
        (b"{", "not a saved plan"),
        (b"[]", "not a saved plan"),
        (b'{"kind": "report"}', "not a saved plan"),
        (b"\xff\xfe", "not a saved plan"),
        (b"[" * 100_000, "not a saved plan"),
        (b'{"kind": "plan", "schema": 99}', "the plan has schema 99; this version supports 1"),
        (b'{"kind": "plan"}', "the plan has schema None"),
    ],
)
def test_a_file_that_is_no_saved_plan_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_saved(path)
    assert str(caught.value.where) == str(path)


def test_a_missing_plan_and_a_directory_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_saved(tmp_path / "none.json")
    with pytest.raises(UsageError, match="not a regular file"):
        read_saved(tmp_path)
