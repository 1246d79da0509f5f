"""A run leaves suspended versions and models alone, and shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.index.load import load_index
from reconciler.index.resolve import parse_ref, resolve
from reconciler.loop.plan_document import plan_document
from reconciler.render.status import status_document, status_text
from reconciler.render.text import plan_text
from tests.support.releases import Releases, kinds, with_memory


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    releases = with_memory(tmp_path, "a", "b")
    releases.add("m@1.0.0")
    return releases


def suspend_model(releases: Releases, *, but: str = "") -> None:
    """Write the index with `suspend: true` on the model m, and `suspend: false` on version `but`."""
    releases.write()
    index = json.loads(releases.index_file.read_text())
    index["models"].setdefault("m", {"versions": {}})["suspend"] = True
    if but:
        index["models"]["m"]["versions"][but]["suspend"] = False
    releases.index_file.write_text(json.dumps(index))


def test_a_suspended_version_is_not_read_published_or_proposed(releases: Releases) -> None:
    releases.change("m@1.0.0", suspend=True)
    (releases.source("m@1.0.0") / "weights.bin").chmod(0)
    report = releases.apply()
    assert report.outcomes == ()
    assert releases.memory["a"].writes() == 0
    assert report.plan.suspended == ("m@1.0.0",)


def test_only_does_not_lift_a_suspension(releases: Releases) -> None:
    releases.change("m@1.0.0", suspend=True)
    assert kinds(releases.plan(only=("m@1.0.0",))) == []


def test_a_suspended_version_is_neither_repaired_nor_relabelled(releases: Releases) -> None:
    releases.apply()
    releases.change("m@1.0.0", suspend=True)
    releases.memory["a"].held.clear()
    assert kinds(releases.plan()) == []
    releases.change("m@1.0.0", suspend=False)
    assert kinds(releases.plan()) == [("publish", "m@1.0.0", "a")]


@pytest.mark.parametrize("change", [{"retired": True}, {"targets": ["a"]}])
def test_prune_leaves_pins_of_a_suspended_version(releases: Releases, change: dict[str, object]) -> None:
    releases.add("m@2.0.0")
    releases.apply()
    releases.change("m@1.0.0", **change)
    assert {kind for kind, *_ in kinds(releases.plan(prune=True))} == {"unpin"}
    releases.change("m@1.0.0", suspend=True)
    assert kinds(releases.plan(prune=True)) == []


def test_prune_leaves_pins_of_a_suspended_model_even_without_their_version(releases: Releases) -> None:
    releases.add("m@2.0.0")
    releases.apply()
    releases.remove("m@1.0.0")
    assert {ref for _, ref, _ in kinds(releases.plan(prune=True))} == {"m@1.0.0"}
    suspend_model(releases)
    with releases.running(prune=True) as run:
        assert kinds(run.plan()) == []


def test_a_version_of_a_suspended_model_may_be_an_exception(releases: Releases) -> None:
    releases.add("m@2.0.0")
    suspend_model(releases, but="2.0.0")
    with releases.running() as run:
        plan = run.plan()
    assert {change.ref for change in plan.changes} == {"m@2.0.0"}
    assert plan.suspended == ("m@1.0.0",)


def test_another_version_with_the_same_root_is_still_kept(releases: Releases) -> None:
    releases.apply()
    releases.add("n@1.0.0", cid=str(releases.cid("m@1.0.0")))
    releases.change("m@1.0.0", suspend=True)
    releases.memory["b"].held.clear()
    assert ("publish", "n@1.0.0", "b") in kinds(releases.plan())


def test_plan_status_and_json_show_what_is_suspended(releases: Releases) -> None:
    releases.apply()
    releases.change("m@1.0.0", suspend=True)
    releases.memory["a"].held.clear()
    plan = releases.plan()
    assert "note: suspended in the index and left alone: m@1.0.0" in plan_text(plan)
    assert plan_document(plan)["suspended"] == ["m@1.0.0"]
    status = releases.status()
    assert status.in_sync  # nothing is required of it
    assert [item["suspended"] for item in status_document(status)["items"]] == [True, True]
    assert status_text(status).count("(suspended") == 2


def test_a_suspended_version_resolves(releases: Releases) -> None:
    releases.apply()
    releases.change("m@1.0.0", suspend=True)
    releases.write()
    index = load_index(releases.index_file)
    assert resolve(index, parse_ref("m@^1")).cid == releases.cid("m@1.0.0")
