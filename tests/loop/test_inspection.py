"""Foreign pins are listed, and adopted only when they are complete and wanted. Doctor diagnoses targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.index.label import Label
from reconciler.loop.inspection import ForeignPin, adopt_pins, diagnose_targets, foreign_pins
from reconciler.loop.observe import observe
from reconciler.targets.interface import Capabilities, Check
from tests.support.memory_target import MemoryTarget, down
from tests.support.releases import Releases, kinds, with_memory

LABEL = Label("reconciler/acme/m@1.0.0")


@pytest.fixture(params=[False, True], ids=["many labels", "one label"])
def releases(request: pytest.FixtureRequest, tmp_path: Path) -> Releases:
    """A version that is held under a foreign label."""
    releases = with_memory(tmp_path, "a")
    releases.memory["a"] = MemoryTarget("a", Capabilities(one_label=request.param))
    releases.add("m@1.0.0")
    releases.apply()
    releases.memory["a"].held[releases.cid("m@1.0.0")].labels = ["backups"]
    return releases


def found(releases: Releases) -> list[ForeignPin]:
    with releases.running() as run:
        return list(foreign_pins(run.workspace, observe(run.workspace, Check.QUICK)))


def taken(releases: Releases) -> list[str]:
    with releases.running() as run:
        pins = list(foreign_pins(run.workspace, observe(run.workspace, Check.QUICK)))
        return [problem for _, problem in adopt_pins(run.workspace, pins)]


def test_listing_foreign_pins_changes_nothing(releases: Releases) -> None:
    (candidate,) = found(releases)
    assert (candidate.ref, candidate.label, candidate.adoptable) == ("m@1.0.0", LABEL, True)
    assert releases.memory["a"].calls["adopt"] == 0


def test_a_complete_and_wanted_pin_is_adopted_and_the_plan_stays_empty(releases: Releases) -> None:
    assert taken(releases) == [""]
    assert LABEL in releases.memory["a"].held[releases.cid("m@1.0.0")].labels
    assert kinds(releases.plan(prune=True)) == []


def test_a_damaged_pin_is_not_adopted(releases: Releases) -> None:
    root = releases.cid("m@1.0.0")
    releases.memory["a"].lose(root)
    (problem,) = taken(releases)
    assert problem.startswith("not adopted")
    assert releases.memory["a"].held[root].labels == ["backups"]


def test_a_pin_that_is_no_version_is_listed_only(releases: Releases) -> None:
    releases.remove("m@1.0.0")
    releases.add("n@1.0.0")
    releases.write()
    assert [(c.ref, c.adoptable) for c in found(releases)] == [("", False)]


def test_a_failed_adoption_is_reported(releases: Releases) -> None:
    releases.memory["a"].faults["adopt"] = down("a")
    assert taken(releases) == ["cannot reach a"]


def test_doctor_says_what_can_be_reached(releases: Releases) -> None:
    with releases.running() as run:
        (finding,) = diagnose_targets(run.workspace)
    assert (finding.diagnosis.ok, finding.diagnosis.text) == (True, "0 of ours, 1 foreign")
    releases.memory["a"].faults["observe"] = down("a")
    with releases.running() as run:
        (finding,) = diagnose_targets(run.workspace)
    assert (finding.diagnosis.ok, finding.diagnosis.hint) == (False, "check that it is running")
