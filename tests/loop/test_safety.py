"""The safety rules, at the edges of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.errors import Reason, Where
from reconciler.index.history import Violation
from reconciler.index.model import Index, Model, Version
from reconciler.loop.changes import Unpin
from reconciler.loop.safety import SafetyLimits, refusals
from reconciler.targets.interface import Inventory, Pin

WHERE = Where("releases/index.yaml", 7)
ROOT = hash_block(RAW, b"root")


def an_index(*versions: Version) -> Index:
    model = Model("m", WHERE, {version.version: version for version in versions}, {})
    return Index("acme", Path("releases/index.yaml"), "0" * 64, {"m": model})


def version(number: str, *, retired: bool = False, protect: bool = False) -> Version:
    return Version("m", number, WHERE, cid=ROOT, retired=retired, protect=protect, targets=("node",))


def root(number: int) -> Cid:
    return hash_block(RAW, str(number).encode())


def removing(count: int, target: str = "node") -> list[Unpin]:
    return [
        Unpin(model="m", version=f"0.0.{n}", target=target, root=root(n), label=f"reconciler/acme/m@0.0.{n}")
        for n in range(count)
    ]


def keeping(count: int) -> Inventory:
    return Inventory({}, owned=tuple(Pin(root(n), f"reconciler/acme/m@0.0.{n}") for n in range(count)))


@pytest.mark.parametrize(
    ("kept", "removed", "refused"),
    [
        (1, 1, False),  # below four, a share says nothing
        (3, 3, False),
        (4, 1, False),
        (4, 2, True),
        (10, 3, False),  # exactly 30 %
        (10, 4, True),
        (33, 9, False),
        (34, 10, False),  # exactly ten
        (100, 10, False),
        (100, 11, True),
        (1000, 11, True),
    ],
)
def test_more_than_ten_or_more_than_thirty_percent_need_an_override(
    kept: int, removed: int, refused: bool
) -> None:
    index = an_index(version("9.0.0"))
    found = refusals(index, removing(removed), {"node": keeping(kept)}, (), SafetyLimits())
    assert [refusal.rule for refusal in found] == (["removals"] if refused else [])
    if refused:
        assert f"removes {removed} of {kept} from node" in found[0].message
        assert found[0].override == f"to allow this, run again with --allow-removals {removed}"
        assert refusals(index, removing(removed), {"node": keeping(kept)}, (), SafetyLimits(removed)) == ()


@pytest.mark.parametrize(("allowed", "refused"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_number_given_by_the_user_is_the_limit(allowed: int, refused: bool) -> None:
    found = refusals(
        an_index(version("9.0.0")), removing(2), {"node": keeping(100)}, (), SafetyLimits(allowed)
    )
    assert bool(found) is refused
    if refused:
        assert f"--allow-removals is {allowed}" in found[0].message


def test_each_target_is_counted_on_its_own() -> None:
    changes = [*removing(10), *removing(11, "other")]
    inventories = {"node": keeping(100), "other": keeping(100)}
    (refusal,) = refusals(an_index(version("9.0.0")), changes, inventories, (), SafetyLimits())
    assert "from other" in refusal.message


@pytest.mark.parametrize("versions", [(), (version("1.0.0", retired=True),)])
def test_an_emptied_index_removes_nothing_without_an_override(versions: tuple[Version, ...]) -> None:
    index = an_index(*versions)
    (refusal,) = refusals(index, removing(1), {"node": keeping(1)}, (), SafetyLimits())
    assert (refusal.rule, refusal.override) == (
        "emptied-index",
        "to allow this, run again with --allow-removals 1",
    )
    assert refusals(index, removing(1), {"node": keeping(1)}, (), SafetyLimits(1)) == ()
    assert refusals(index, (), {"node": keeping(1)}, (), SafetyLimits()) == ()


def test_a_protected_version_is_removed_by_no_number() -> None:
    index = an_index(version("0.0.0", protect=True), version("9.0.0"))
    (refusal,) = refusals(index, removing(1), {"node": keeping(100)}, (), SafetyLimits(100))
    assert refusal.rule == "protect"
    assert "m@0.0.0 is protected" in refusal.message
    assert "allow-removals" not in refusal.override


def test_a_frozen_violation_is_refused_whatever_the_changes_are() -> None:
    violation = Violation("m@1.0.0", WHERE, "m@1.0.0 was A and is B now", "restore it")
    (refusal,) = refusals(an_index(), (), {"node": Reason("down")}, (violation,), SafetyLimits(100))
    assert (refusal.rule, refusal.message, refusal.override) == ("frozen", violation.message, "restore it")
