"""Observation of a store with damaged files: correct, and no more costly than the check level."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content.layout_file import layout_to_bytes
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Inventory, Observation, Pin, State
from reconciler.targets.store import StoreTarget
from reconciler.targets.store.directory import StoreDirectory
from tests.conformance.targets import FOREIGN_LABEL, LABEL, MARK, OTHER_LABEL
from tests.support.dags import MemoryDag
from tests.support.shapes import bundle, large_file, single_leaf
from tests.support.store_files import canonical, car_path, contents, harm, snapshot


class Kept:
    """A store that holds one bundle, and the paths of its files."""

    def __init__(self, directory: Path, dag: MemoryDag) -> None:
        self.directory, self.dag = directory, dag
        self.target = StoreTarget("store", directory)
        self.target.publish(dag, LABEL, QUIET)
        self.root = dag.layout.root
        self.car = car_path(directory, dag)
        self.index = self.car.with_suffix(".idx")
        self.entry = directory / "labels" / f"{self.root}.json"

    def observe(self, check: Check = Check.QUICK, *, known: bool = False) -> Observation:
        layout = self.dag.layout if known else None
        return self.inventory(Expected(self.root, (LABEL,), layout=layout), check=check).observations[
            self.root
        ]

    def inventory(self, *expected: Expected, check: Check = Check.QUICK) -> Inventory:
        return self.target.observe(expected, check, MARK, QUIET)

    def repair(self) -> None:
        assert self.target.repair(self.dag, (), LABEL, QUIET).state is State.HELD


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "store", bundle("kept"))


def cut(kept: Kept) -> None:
    os.truncate(kept.car, kept.dag.layout.section_start(4) + 1)


def lengthen(kept: Kept) -> None:
    harm(kept.car, kept.dag.layout.car_size, b"tail")


def edit_entry(kept: Kept, **changes: object) -> None:
    kept.entry.write_text(json.dumps(json.loads(kept.entry.read_text()) | changes))


def replace_car_by_link(kept: Kept) -> None:
    kept.car.rename(kept.directory / "aside")
    kept.car.symlink_to(kept.directory / "aside")


QUICK_CASES: dict[str, tuple[Callable[[Kept], object], str]] = {
    "cut": (cut, "the CAR is truncated: "),
    "empty": (lambda kept: os.truncate(kept.car, 0), "the CAR is truncated: 0 of "),
    "too long": (lengthen, "4 bytes too long"),
    "missing": (lambda kept: kept.car.unlink(), "the CAR is missing"),
    "no index": (lambda kept: kept.index.unlink(), "block index is missing"),
    "index cut": (lambda kept: os.truncate(kept.index, 20), "block index has 20 bytes"),
    "no label": (lambda kept: kept.entry.unlink(), "no label"),
    "label file empty": (lambda kept: kept.entry.write_text(""), "not JSON"),
    "label file deep": (lambda kept: kept.entry.write_text("[" * 100_000), "not JSON"),
    "label file huge": (lambda kept: kept.entry.write_bytes(b" " * (2 << 20)), "larger than 1048576 bytes"),
    "label file a list": (lambda kept: kept.entry.write_text("[]"), "the document is not an object"),
    "label file newer": (lambda kept: edit_entry(kept, schema=2), "other fields"),
    "label file with more": (lambda kept: edit_entry(kept, more=1), "other fields"),
    "label file of another root": (
        lambda kept: edit_entry(kept, root=str(single_leaf("x").layout.root)),
        "another root",
    ),
    "no labels": (lambda kept: edit_entry(kept, labels=[]), "no labels, or an empty one"),
    "labels are numbers": (lambda kept: edit_entry(kept, labels=[1]), "'labels[0]' is not a string"),
    "size is text": (lambda kept: edit_entry(kept, car_size="1"), "'car_size' is not a whole number"),
    "size is true": (lambda kept: edit_entry(kept, car_size=True), "'car_size' is not a whole number"),
    "size is negative": (lambda kept: edit_entry(kept, index_size=-1), "a size is negative"),
    "size is wrong": (lambda kept: edit_entry(kept, car_size=1), "bytes too long"),
    "a repair was killed": (lambda kept: edit_entry(kept, repairing=True), "a repair was interrupted"),
}


@pytest.mark.parametrize("check", Check)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("case", QUICK_CASES)
def test_damage_that_a_listing_shows(kept: Kept, case: str, known: bool, check: Check) -> None:
    """Each is PARTIAL at every check level, names the problem, and is repaired to the same bytes."""
    before = contents(kept.directory)
    damage, words = QUICK_CASES[case]
    damage(kept)
    seen = kept.observe(check, known=known)
    assert seen.state is State.PARTIAL
    assert seen.nothing_left is (case == "missing")
    assert known or words in seen.detail
    kept.repair()
    assert contents(kept.directory) == before
    assert kept.observe(Check.FULL).detail == ""


def test_a_cut_car_names_the_blocks_behind_the_cut(kept: Kept) -> None:
    cut(kept)
    lost = tuple(kept.dag.layout.cid(position) for position in range(4, len(kept.dag.layout)))
    assert kept.observe(Check.QUICK).damaged == lost
    assert kept.observe(Check.FULL).damaged == lost


@pytest.mark.parametrize(
    ("case", "offset"),
    [
        ("header", lambda layout: 3),
        ("length of a section", lambda layout: layout.section_start(3)),
        ("CID of a section", lambda layout: layout.data_start(3) - 1),
        ("bytes of a block", lambda layout: layout.data_start(3)),
    ],
)
def test_a_single_flipped_bit_is_found_by_a_full_check(kept: Kept, case: str, offset: Callable) -> None:
    place = offset(kept.dag.layout)
    harm(kept.car, place, bytes((canonical(kept.dag)[place] ^ 0x10,)))
    assert kept.observe(Check.QUICK).state is State.HELD
    seen = kept.observe(Check.FULL)
    assert seen.state is State.PARTIAL
    if case == "header":
        assert seen.detail == "the CAR header is damaged"
    else:
        assert seen.damaged == (kept.dag.layout.cid(3),)
    kept.repair()
    assert kept.car.read_bytes() == canonical(kept.dag)


@pytest.mark.parametrize("check", [Check.SAMPLE, Check.FULL])
def test_an_index_with_a_flipped_bit_is_found_when_it_is_read(kept: Kept, check: Check) -> None:
    harm(kept.index, 30, b"?")
    assert kept.observe(check).detail == "block index is damaged: its checksum differs"


@pytest.mark.parametrize("check", [Check.SAMPLE, Check.FULL])
def test_an_index_that_leaves_out_blocks_is_not_believed(tmp_path: Path, check: Check) -> None:
    """It is well-formed and has the right root, but the tree in the CAR names more."""
    kept = Kept(tmp_path / "store", large_file("index"))
    short = type(kept.dag.layout)(kept.root)
    for position in range(10):
        short.add(*(kept.dag.layout.cid(position), kept.dag.layout.block_size(position)))
    data = layout_to_bytes(short)
    kept.index.write_bytes(data)
    edit_entry(kept, index_size=len(data), car_size=short.car_size)
    os.truncate(kept.car, short.car_size)
    assert kept.observe(Check.QUICK).state is State.HELD  # sizes agree: this is why there are deeper checks
    seen = kept.observe(check)
    assert seen.state is State.PARTIAL
    assert "block index has no block" in seen.detail
    assert kept.observe(Check.QUICK, known=True).state is State.PARTIAL


@pytest.mark.parametrize("check", [Check.SAMPLE, Check.FULL])
def test_a_label_file_that_agrees_with_a_long_car_does_not_hide_it(kept: Kept, check: Check) -> None:
    lengthen(kept)
    edit_entry(kept, car_size=kept.dag.layout.car_size + 4)
    assert kept.observe(check).detail == "the CAR is 4 bytes too long"


def test_a_car_that_is_no_regular_file_is_not_followed(kept: Kept) -> None:
    replace_car_by_link(kept)
    assert kept.observe().detail == "the CAR is not a regular file"
    with pytest.raises(PeerError):
        kept.target.dag(kept.root)


def test_a_car_that_cannot_be_read_is_unknown(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", refuse)
    seen = kept.observe(Check.FULL, known=True)
    assert (seen.state, seen.damaged) == (State.UNKNOWN, ())
    assert "Input/output error" in seen.detail


def test_a_quick_check_of_many_versions_opens_no_car(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One listing of each directory, and one label file a version."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    target = StoreTarget("store", tmp_path / "store")
    dags = [single_leaf(str(number)) for number in range(200)]
    for number, dag in enumerate(dags):
        target.publish(dag, Label(f"{MARK}m@{number}.0.0"), QUIET)
    listings = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listings.append(path) or scan(path))
    monkeypatch.setattr(StoreDirectory, "open_car", None)
    expected = [Expected(dag.layout.root, (Label(f"{MARK}m@{n}.0.0"),)) for n, dag in enumerate(dags)]
    inventory = target.observe(expected, Check.QUICK, MARK, QUIET)
    assert {seen.state for seen in inventory.observations.values()} == {State.HELD}
    assert len(inventory.owned) == 200
    assert len(listings) == 3  # the store, labels/, cars/


def test_a_sample_reads_the_tree_and_a_bounded_number_of_leaves(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store", large_file("sample"))
    assert kept.observe(Check.SAMPLE).checked == "sizes, 3 inner nodes and 16 of 1025 leaves"


def test_samples_find_a_damaged_leaf_sooner_or_later_and_as_the_seed_says(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store", large_file("sample"))
    harm(kept.car, kept.dag.layout.car_size - 1, b"\0\0")
    found = []
    for seed in range(200):
        states = []
        for _ in range(2):
            kept.target = StoreTarget("store", kept.directory, random=Random(seed))
            states.append(kept.observe(Check.SAMPLE, known=True).state)
        assert states[0] is states[1]
        found.append(states[0])
        if states[0] is State.PARTIAL:
            break
    assert State.PARTIAL in found


def test_pins_are_sorted_into_ours_and_others(kept: Kept) -> None:
    """Two indexes and a stranger share one store; one root has labels of two of them."""
    other = single_leaf("other")
    kept.target.publish(kept.dag, FOREIGN_LABEL, QUIET)
    kept.target.publish(other, Label("reconciler/suite-2/model@1.0.0"), QUIET)
    inventory = kept.inventory()
    assert inventory.owned == (Pin(kept.root, LABEL),)
    assert inventory.foreign == (
        Pin(kept.root, FOREIGN_LABEL),
        Pin(other.layout.root, "reconciler/suite-2/model@1.0.0"),
    )
    assert inventory.notes == ()


def test_what_belongs_to_no_version_is_noted_and_left(kept: Kept) -> None:
    orphan, lost = single_leaf("orphan"), single_leaf("lost")
    (kept.directory / "cars" / f"{orphan.layout.root}.car").write_bytes(canonical(orphan))
    (kept.directory / "cars" / f"{lost.layout.root}.idx").write_bytes(b"x")
    (kept.directory / "cars" / "notes.txt").write_text("mine")
    (kept.directory / "labels" / "QmNope.json").write_text("{}")
    before = snapshot(kept.directory)
    inventory = kept.inventory()
    notes = "\n".join(inventory.notes)
    for name in (f"{orphan.layout.root}.car", f"{lost.layout.root}.idx", "cars/notes.txt", "QmNope.json"):
        assert name in notes
    assert Pin(orphan.layout.root, "") in inventory.foreign
    kept.target.publish(single_leaf("more"), OTHER_LABEL, QUIET)
    after = snapshot(kept.directory)
    assert {name: after[name] for name in before} == before


def test_an_expected_root_without_a_label_can_be_labelled(kept: Kept) -> None:
    kept.entry.unlink()
    kept.target.relabel(kept.root, LABEL)
    assert kept.observe(Check.FULL).state is State.HELD


mutations = st.tuples(
    st.sampled_from(["flip", "cut", "add", "zero"]), st.floats(0, 1, exclude_max=True), st.integers(1, 255)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_a_car_and_its_index_is_seen_and_repaired(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """FULL reports held only for the right bytes; a repair restores the right bytes."""
    kept = Kept(tmp_path_factory.mktemp("mutated") / "store", bundle("mutated"))
    right = contents(kept.directory)
    for path in data.draw(st.sampled_from([[kept.car], [kept.index], [kept.car, kept.index]])):
        kind, place, value = data.draw(mutations)
        content = bytearray(path.read_bytes())
        offset = int(place * len(content))
        if kind == "flip":
            content[offset] ^= value
        elif kind == "cut":
            del content[offset:]
        elif kind == "add":
            content += bytes((value,)) * value
        else:
            content[offset : offset + value] = bytes(len(content[offset : offset + value]))
        path.write_bytes(content)
    held = kept.observe(Check.FULL, known=data.draw(st.booleans())).state is State.HELD
    assert held == (contents(kept.directory) == right)
    kept.repair()
    assert contents(kept.directory) == right
