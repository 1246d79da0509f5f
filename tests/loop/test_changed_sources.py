"""Directories that have other bytes than a cache says, or than the plan was made from."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content import source_file
from reconciler.content.bundle import make_bundle
from reconciler.content.cid import Cid
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.loop.changes import Plan, Report
from reconciler.loop.plan_document import report_document
from reconciler.loop.run import apply
from reconciler.loop.settings import ProposeMode
from reconciler.targets.interface import Check
from tests.support.memory_target import MemoryTarget, down
from tests.support.plant import MIB, noise
from tests.support.releases import CREATED, Releases, assert_document, kinds, states, with_memory
from tests.support.unnoticed import SIZE, cache_everything, write_unnoticed

OLD, NEW = noise(2 * MIB + 9, 1), noise(2 * MIB + 9, 2)
REF = "m@1.0.0"


@pytest.fixture(autouse=True)
def _cached(monkeypatch: pytest.MonkeyPatch) -> None:
    cache_everything(monkeypatch)


@pytest.fixture
def two(tmp_path: Path) -> Releases:
    """One version of a large file, wanted on two targets."""
    releases = with_memory(tmp_path, "a", "b")
    releases.add(REF, {"weights.bin": OLD})
    return releases


def unnoticed(releases: Releases, data: bytes, ref: str = REF) -> None:
    """Write a version's file so that its cached digests count as valid."""
    write_unnoticed(releases.layout().cache / "identities", releases.source(ref) / "weights.bin", data)


def cid_of_directory(releases: Releases, ref: str = REF) -> Cid:
    """Return the CID that the directory gives, computed without a cache."""
    model, _, version = ref.partition("@")
    listing = scan(releases.source(ref), include_hidden=False)
    return identify(
        make_bundle(listing, model=model, version=version, created_at=CREATED), cache=None
    ).layout.root


def holds(target: MemoryTarget, root: Cid) -> bool:
    held = target.held.get(root)
    return held is not None and all(
        block.cid.matches(held.blocks.get(block.cid, b"?")) for block in held.layout
    )


def assert_settled(releases: Releases) -> None:
    """The index has the CID of the directory, every target holds it, and nothing is left to do."""
    root = releases.cid(REF)
    assert root == cid_of_directory(releases)
    assert all(holds(target, root) for target in releases.memory.values())
    assert kinds(releases.plan()) == []


# -- versions without a CID ----------------------------------------------------------------------------------


def test_a_first_publish_sends_and_records_what_the_directory_has_now(two: Releases) -> None:
    two.plan()
    unnoticed(two, NEW)
    report = two.apply()
    assert not report.failed
    assert states(report) == [
        ("publish", REF, "a", "applied"),
        ("publish", REF, "b", "applied"),
        ("resolve-cid", REF, None, "applied"),
        ("write-record", REF, None, "applied"),
    ]
    assert_settled(two)
    record = json.loads((two.root / "releases/records/m/1.0.0.json").read_text())
    assert record["cid"] == str(two.cid(REF))


def test_a_cid_is_not_written_because_the_targets_hold_what_the_cache_says(two: Releases) -> None:
    two.apply(propose=ProposeMode.NONE)
    unnoticed(two, NEW)
    assert not two.apply().failed
    assert_settled(two)


def test_a_change_in_a_leaf_that_is_not_sent_is_found(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add(REF, {"weights.bin": bytes(3 * MIB)})
    releases.plan()
    unnoticed(releases, bytes(2 * MIB) + b"1" + bytes(MIB - 1))
    assert not releases.apply().failed
    assert_settled(releases)


def test_a_target_that_lacks_only_unchanged_blocks_does_not_vouch_for_the_others(two: Releases) -> None:
    two.apply(propose=ProposeMode.NONE)
    (root,) = two.memory["a"].held
    first = next(block.cid for block in two.memory["a"].held[root].layout if block.size == MIB)
    for target in two.memory.values():
        target.lose(root, first)
    unnoticed(two, OLD[:MIB] + NEW[MIB:])
    assert not two.apply().failed
    assert_settled(two)


def test_what_was_done_for_other_versions_is_reported_once(two: Releases) -> None:
    two.add("m@2.0.0", {"weights.bin": noise(SIZE, 3)})
    two.plan()
    unnoticed(two, NEW)
    report = two.apply()
    assert sorted(states(report)) == sorted(
        (kind, ref, target, "applied")
        for ref in (REF, "m@2.0.0")
        for kind, target in [
            ("publish", "a"),
            ("publish", "b"),
            ("resolve-cid", None),
            ("write-record", None),
        ]
    )
    assert report.plan.in_sync == 0
    assert two.memory["a"].calls["publish"] == 3  # the stale one, the other version, the fresh one
    assert_settled(two)


def test_a_removal_is_not_decided_by_the_cache(two: Releases) -> None:
    """The version moves to b, which is down; only the cache says that its copy on a has other bytes."""
    two.change(REF, targets=["a"])
    two.apply(propose=ProposeMode.NONE)
    (root,) = two.memory["a"].held
    (two.source(REF) / "weights.bin").write_bytes(NEW)
    two.plan()  # caches the digests of NEW
    unnoticed(two, OLD)
    two.change(REF, targets=["b"])
    two.memory["b"].faults["publish"] = down("b")
    assert two.apply(prune=True, allow_removals=9).failed
    assert holds(two.memory["a"], root)
    two.memory["b"].faults.clear()
    assert not two.apply(prune=True, allow_removals=9).failed
    assert two.cid(REF) == root
    assert holds(two.memory["b"], root)
    assert not two.memory["a"].held


def test_files_are_not_refused_beside_their_record_because_of_the_cache(two: Releases) -> None:
    """The index was restored, the record was not, and the cache has the digests of other bytes."""
    two.apply()
    root = two.cid(REF)
    two.change(REF, cid=None)
    (two.source(REF) / "weights.bin").write_bytes(NEW)
    two.plan()  # caches the digests of NEW
    unnoticed(two, OLD)
    assert not two.apply().failed
    assert two.cid(REF) == root
    assert_settled(two)


# -- frozen versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", Check)
def test_a_lost_copy_is_healed_from_the_other_target(two: Releases, check: Check) -> None:
    two.apply()
    root = two.cid(REF)
    unnoticed(two, NEW)
    two.memory["b"].held.clear()
    report = two.apply(check=check)
    assert ("publish", REF, "b", "applied") in states(report)
    assert holds(two.memory["b"], root)
    assert two.cid(REF) == root
    assert kinds(two.plan()) == []


def test_a_damaged_copy_is_healed_from_the_other_target(two: Releases) -> None:
    two.apply()
    root = two.cid(REF)
    unnoticed(two, NEW)
    two.memory["b"].lose(root, two.memory["b"].held[root].layout.cid(2))
    two.apply()
    assert holds(two.memory["b"], root)
    assert kinds(two.plan()) == []


@pytest.mark.parametrize("loss", ["truncated", "removed", "unreadable"])
def test_a_directory_that_fails_during_delivery_is_replaced_by_a_target(
    two: Releases, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.apply()
    root = two.cid(REF)
    two.memory["b"].held.clear()
    two.write()
    path = two.source(REF) / "weights.bin"
    with two.running() as run:
        plan = run.plan()
        if loss == "truncated":
            os.truncate(path, MIB)
        elif loss == "removed":
            shutil.rmtree(path.parent)
        else:

            def fail(*_: object) -> Never:
                raise source_file.unreadable(source_file.SourceFile("weights.bin", None), OSError(5, "I/O"))

            monkeypatch.setattr(source_file, "_open", fail)
        report = run.apply(plan)
    assert_document("report", report_document(report))
    assert holds(two.memory["b"], root)


def test_a_restored_directory_is_not_refused_because_of_the_cache(two: Releases) -> None:
    two.apply()
    root = two.cid(REF)
    (two.source(REF) / "weights.bin").write_bytes(NEW)
    for target in two.memory.values():
        target.held.clear()
    assert two.apply().failed  # and caches the digests of NEW
    unnoticed(two, OLD)
    assert not two.apply().failed
    assert two.cid(REF) == root
    assert_settled(two)


def test_another_plan_is_as_limited_as_the_first(two: Releases) -> None:
    """The action's check for drift carries out only changes of published versions."""
    two.apply()
    two.add("m@2.0.0")
    unnoticed(two, NEW)
    two.memory["b"].held.clear()
    two.write()

    def select(made: Plan) -> Plan:
        return replace(made, changes=tuple(change for change in made.changes if change.drift))

    with two.running() as run:
        report = apply(select(run.plan()), run.workspace, select=select)
    assert {ref for _, ref, _, _ in states(report)} == {REF}
    assert holds(two.memory["b"], two.cid(REF))
    assert "cid" not in two.index_file.read_text().partition("2.0.0")[2].partition("}")[0]


# -- the end of it -------------------------------------------------------------------------------------------


def test_a_directory_that_is_written_all_the_time_is_never_frozen(
    two: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 0
    path = two.source(REF) / "weights.bin"

    def write() -> None:
        nonlocal rounds
        rounds += 1
        path.write_bytes(noise(2 * MIB + 9, 10 + rounds))

    two.memory["a"].faults["publish"] = write
    two.memory["b"].faults["publish"] = write
    report = two.apply()
    assert report.failed
    assert 3 <= rounds <= 6  # one plan, and two more; the second target may not be tried
    assert "cid" not in two.fields["m"]["1.0.0"]
    assert ("resolve-cid", REF, None, "skipped") in states(report)
    for target in two.memory.values():
        target.faults.clear()
    assert not two.apply().failed
    assert_settled(two)


def test_nothing_is_removed_while_a_directory_changes_all_the_time(two: Releases) -> None:
    """Neither the version that left the index nor the former root of the one that changes."""
    two.add("m@0.9.0", {"weights.bin": noise(SIZE, 4)})
    two.apply(propose=ProposeMode.NONE)
    before = {name: set(target.held) for name, target in two.memory.items()}
    two.remove("m@0.9.0")
    path = two.source(REF) / "weights.bin"
    rounds = iter(range(10, 99))

    def write() -> None:
        path.write_bytes(noise(2 * MIB + 9, next(rounds)))

    write()
    for target in two.memory.values():
        target.faults["publish"] = write
    report = two.apply(prune=True, allow_removals=9)
    assert report.failed
    assert all(before[name] <= set(target.held) for name, target in two.memory.items())
    assert not [state for kind, *_, state in states(report) if kind == "unpin" and state == "applied"]
    for target in two.memory.values():
        target.faults.clear()
    assert not two.apply(prune=True, allow_removals=9).failed
    assert not two.apply(prune=True, allow_removals=9).failed
    assert_settled(two)
    assert {len(target.held) for target in two.memory.values()} == {1}


def test_what_waits_is_reported_once_when_a_run_plans_again(two: Releases) -> None:
    two.add("m@2.0.0", {"weights.bin": noise(SIZE, 3)})
    two.plan()
    waiting = cid_of_directory(two, "m@2.0.0")
    pending = two.memory["b"].pending
    two.memory["b"].faults["publish", waiting] = lambda: pending.add(waiting)
    unnoticed(two, NEW)
    report = two.apply()
    assert not report.failed
    assert_document("report", report_document(report))
    about = [(kind, target, state) for kind, ref, target, state in states(report) if ref == "m@2.0.0"]
    assert sorted(about, key=str) == sorted(
        [
            ("publish", "a", "applied"),
            ("publish", "b", "waiting"),
            ("resolve-cid", None, "applied"),
            ("write-record", None, "applied"),
        ],
        key=str,
    )
    two.memory["b"].pending.clear()
    assert_settled(two)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interruption_while_digests_are_confirmed_writes_nothing(
    two: Releases, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    two.add("m@2.0.0", {"weights.bin": noise(SIZE, 3)})
    two.apply(propose=ProposeMode.NONE)
    calls = iter(range(9))

    def interrupted(dag: DirectoryDag, progress: object) -> None:
        if next(calls) == times - 1:
            raise KeyboardInterrupt

    before = two.index_file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(DirectoryDag, "confirm", interrupted)
        report = two.apply()
    assert report.interrupted
    assert {state for *_, state in states(report)} == {"skipped"}
    assert two.index_file.read_bytes() == before
    assert not (two.root / "releases/records").exists()
    assert not two.apply().failed
    assert_settled(two)


def test_a_run_that_has_nothing_to_do_reads_no_weights(
    two: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.apply()

    def fail(*_: object) -> int:
        raise AssertionError("read a source file")

    monkeypatch.setattr(source_file, "_open", fail)
    assert states(two.apply()) == []


@pytest.mark.parametrize(("planned_before", "passes"), [(False, 2), (True, 1)])
def test_a_first_publish_reads_each_byte_once_to_identify_and_once_to_deliver(
    two: Releases, planned_before: bool, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery to the second target reads them again; confirming reads nothing."""
    if planned_before:
        two.plan()
    real = DirectoryDag._read_span
    read = 0

    def spy(dag: DirectoryDag, source: object, start: int, size: int) -> bytes:
        nonlocal read
        read += size
        return real(dag, source, start, size)

    opened = 0
    real_opened = source_file.opened

    def count(listing: object, file: source_file.SourceFile) -> object:
        nonlocal opened
        opened += file.path == "weights.bin"
        return real_opened(listing, file)

    monkeypatch.setattr(DirectoryDag, "_read_span", spy)
    monkeypatch.setattr(source_file, "opened", count)
    assert not two.apply().failed
    assert read == 2 * len(OLD)
    assert (opened > 1) == (passes == 2)  # once for its header


@pytest.fixture
def on_tmpfs() -> Iterator[Path]:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("no tmpfs")
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


def test_a_write_through_a_memory_map_is_found(on_tmpfs: Path) -> None:
    releases = with_memory(on_tmpfs, "a")
    releases.add(REF, {"weights.bin": OLD})
    releases.plan()
    path = releases.source(REF) / "weights.bin"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        before = os.stat(path)
        assert mapped[7] == OLD[7]
        mapped[7] ^= 1
    if os.stat(path).st_mtime_ns != before.st_mtime_ns:
        pytest.skip("this file system moves the time")
    assert not releases.apply().failed
    assert_settled(releases)


# -- in any order --------------------------------------------------------------------------------------------

_STEPS = st.one_of(
    st.tuples(st.sampled_from(["write", "unnoticed"]), st.integers(1, 3)),
    st.tuples(st.sampled_from(["lose", "damage"]), st.sampled_from(["a", "b"])),
    st.tuples(st.sampled_from(["plan", "uncache", "none", "run"]), st.none()),
)
_VARIANTS = {number: noise(SIZE, number) for number in (1, 2, 3)}


Steps = list[tuple[str, int | str | None]]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=8))
def test_writes_runs_and_lost_caches_in_any_order_converge(
    tmp_path_factory: pytest.TempPathFactory, steps: Steps
) -> None:
    """A CID is that of the bytes at its run, a frozen one never changes, and three runs are enough."""
    carry_out(tmp_path_factory.mktemp("r"), steps)


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=25))
def test_many_writes_runs_and_lost_caches_in_any_order_converge(
    tmp_path_factory: pytest.TempPathFactory, steps: Steps
) -> None:
    """The same with more steps."""
    carry_out(tmp_path_factory.mktemp("r"), steps)


def carry_out(root: Path, steps: Steps) -> None:
    """Carry out `steps` in a new repository and then run until nothing changes."""
    releases = with_memory(root, "a", "b")
    releases.add(REF, {"weights.bin": _VARIANTS[1]})
    frozen: Cid | None = None

    def run() -> Report:
        nonlocal frozen
        report = releases.apply()
        cid = releases.index.models["m"].versions["1.0.0"].cid
        if frozen is None:
            assert cid == cid_of_directory(releases)
            assert not report.failed
            frozen = cid
        assert cid == frozen
        return report

    for step, argument in [*steps, ("run", None)]:
        path = releases.source(REF) / "weights.bin"
        match step:
            case "write":
                path.write_bytes(_VARIANTS[int(argument or 0)])
            case "unnoticed":
                unnoticed(releases, _VARIANTS[int(argument or 0)])
            case "lose":
                releases.memory[str(argument)].held.clear()
            case "damage":
                for cid, held in releases.memory[str(argument)].held.items():
                    releases.memory[str(argument)].lose(cid, held.layout.cid(0))
            case "plan":
                releases.plan()
            case "uncache":
                shutil.rmtree(releases.layout().cache, ignore_errors=True)
            case "none":
                releases.apply(propose=ProposeMode.NONE)
            case "run":
                run()
    assert frozen is not None
    available = cid_of_directory(releases) == frozen or any(
        holds(target, frozen) for target in releases.memory.values()
    )
    for _ in range(2):
        run()
    if available:
        assert all(holds(target, frozen) for target in releases.memory.values())
        assert kinds(releases.plan()) == []
