"""A CAR that grew from leaves in any order, over any number of kills, is the one that a known root gives."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content import car, profile
from reconciler.content.bundle import make_bundle
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.partial_car import PartialCar
from reconciler.content.provisional import ProvisionalLayout, provisional_layout
from reconciler.content.scan import scan
from reconciler.progress import QUIET
from tests.support.plant import MIB, plant

#: the bytes of a file as letters: a leaf for each "a" and "b", one byte for each other letter
CONTENTS = st.sampled_from(["", "x", "yyyyyyyyyy", "a", "b", "ab", "aaa", "bx", "ax"])
FILES = st.dictionaries(
    st.sampled_from(["a.bin", "b/c.bin", "b-d.bin", "b/e/f.bin", "z.bin", "README.md"]), CONTENTS, min_size=1
)


def bytes_of(letters: str) -> bytes:
    return b"".join(each.encode() * (MIB if each in "ab" else 1) for each in letters)


def made_of(root: Path) -> tuple[DirectoryDag, ProvisionalLayout]:
    bundle = make_bundle(scan(root, include_hidden=False), model="m", version="1.0.0")
    return identify(bundle, cache=None), provisional_layout(bundle, {})


def leaves_of(root: Path, expected: ProvisionalLayout) -> list[tuple[int, Cid, bytes]]:
    found = []
    for file in expected.files:
        data = (root / file.path).read_bytes()
        for leaf in expected.leaves(file):
            block = data[leaf.start : leaf.start + leaf.size]
            found.append((leaf.position, hash_block(RAW, block), block))
    return found


def complete(descriptor: int, made: PartialCar, dag: DirectoryDag) -> bytes:
    with QUIET.task("", None) as task:
        made.complete(dag, task, lambda: os.fsync(descriptor))
    return os.pread(descriptor, 1 << 30, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, seed=st.integers(0, 2**32))
def test_leaves_in_any_order_give_the_canonical_car(tmp_path: Path, files: dict[str, str], seed: int) -> None:
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    root = plant(tmp_path / "root", {path: bytes_of(letters) for path, letters in files.items()})
    dag, expected = made_of(root)
    leaves = leaves_of(root, expected)
    random = Random(seed)
    ordered = random.sample(leaves, len(leaves)) if seed % 2 else leaves
    kept = random.randint(0, len(ordered))
    wanted = b"".join(car.stream(dag))
    (tmp_path / "car").unlink(missing_ok=True)
    descriptor = os.open(tmp_path / "car", os.O_RDWR | os.O_CREAT)
    try:
        first = PartialCar(descriptor, expected.layout)
        assert not first.resumed
        for start in range(0, kept, 3):
            first.put(ordered[start : min(start + 3, kept)])
        second = PartialCar(descriptor, expected.layout)  # after a kill
        assert second.resumed
        for number, (position, cid, block) in enumerate(ordered):
            held = second.held(position)
            assert held is None or held == block
            assert held is not None or number >= kept or [each[1] for each in leaves].count(cid) > 1
            if held is None and random.random() < 0.5:
                second.put([(position, cid, block)])
        assert complete(descriptor, second, dag) == wanted
    finally:
        os.close(descriptor)


def test_a_provisional_layout_has_the_offsets_of_the_bundle_when_no_leaf_repeats(tmp_path: Path) -> None:
    root = plant(
        tmp_path / "root",
        {f"d{n}/w.bin": os.urandom(n * 700_000) for n in range(1, 5)} | {"e": b"", "f": b""},
    )
    dag, expected = made_of(root)
    assert expected.layout.car_size == dag.layout.car_size
    assert [block.size for block in expected.layout] == [block.size for block in dag.layout]


def test_files_that_are_known_to_be_equal_share_their_places(tmp_path: Path) -> None:
    same = os.urandom(profile.CHUNK_SIZE + 5)
    root = plant(tmp_path / "root", {"a": same, "b": same, "c": b"other"})
    bundle = make_bundle(scan(root, include_hidden=False), model="m", version="1.0.0")
    expected = provisional_layout(bundle, {"a": b"digest", "b": b"digest"})
    assert expected.layout.car_size == identify(bundle, cache=None).layout.car_size


def test_a_flipped_byte_is_not_taken_for_a_leaf_that_is_held(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", {"a": os.urandom(MIB), "b": os.urandom(MIB)})
    dag, expected = made_of(root)
    descriptor = os.open(tmp_path / "car", os.O_RDWR | os.O_CREAT)
    try:
        first = PartialCar(descriptor, expected.layout)
        leaves = leaves_of(root, expected)
        for leaf in leaves:
            first.put([leaf])
        damaged = expected.layout.data_start(leaves[0][0]) + 100
        os.pwrite(descriptor, bytes([os.pread(descriptor, 1, damaged)[0] ^ 1]), damaged)
        second = PartialCar(descriptor, expected.layout)
        assert second.held(leaves[0][0]) is None
        assert second.held(leaves[1][0]) == leaves[1][2]
        assert complete(descriptor, second, dag) == b"".join(car.stream(dag))
    finally:
        os.close(descriptor)


def test_a_kill_while_leaves_move_leaves_nothing_that_counts_as_held(tmp_path: Path) -> None:
    """The sections between two places are valid, but of another leaf."""
    root = plant(tmp_path / "root", {"a": b"a" * MIB * 2, "b": os.urandom(MIB * 3)})
    dag, expected = made_of(root)
    descriptor = os.open(tmp_path / "car", os.O_RDWR | os.O_CREAT)

    class Killed(Exception):
        pass

    class Task:
        left = 4

        def advance(self, amount: int) -> None:
            self.left -= 1
            if not self.left:
                raise Killed

    try:
        first = PartialCar(descriptor, expected.layout)
        for leaf in leaves_of(root, expected):
            first.put([leaf])
        with suppress(Killed):
            first.complete(dag, Task(), lambda: None)  # type: ignore[arg-type]
        second = PartialCar(descriptor, expected.layout)
        assert not second.resumed
        assert complete(descriptor, second, dag) == b"".join(car.stream(dag))
    finally:
        os.close(descriptor)
