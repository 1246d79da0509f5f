"""Laws over random indexes, targets, damage and edits: after apply the plan is empty, and nothing is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.content.cid import Cid
from reconciler.loop.plan_document import plan_document
from reconciler.loop.settings import Drift, ProposeMode
from reconciler.targets.interface import Capabilities, Check, State
from tests.support.memory_target import MemoryTarget, down
from tests.support.releases import Releases, kinds
from tests.support.store_files import harm

LOOK = {"check": Check.FULL, "prune": True, "allow_removals": 100}
TARGETS = ("a", "b", "one-label")

law = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def fresh(folder: str, *, store: bool = False) -> Releases:
    """A repository with three memory targets, one of which keeps a single label, and maybe a real store."""
    releases = Releases(Path(folder), *TARGETS, *(["store"] if store else []))
    releases.memory = {name: MemoryTarget(name) for name in TARGETS}
    releases.memory["one-label"] = MemoryTarget("one-label", Capabilities(one_label=True))
    return releases


def some_targets(draw: st.DrawFn, releases: Releases) -> list[str]:
    return draw(st.lists(st.sampled_from(releases.targets), min_size=1, unique=True))


def populate(draw: st.DrawFn, releases: Releases) -> None:
    """One to four versions, each on some targets."""
    for ref in draw(st.lists(st.sampled_from(REFS), min_size=1, max_size=4, unique=True)):
        releases.add(ref, {"w.bin": draw(CONTENT) + ref.encode()}, targets=some_targets(draw, releases))


#: st.binary() would also draw the byte strings of the source code, such as the beginning of a pointer file
CONTENT = st.lists(st.integers(0, 255), max_size=50).map(bytes)
REFS = ("m@1.0.0", "m@1.1.0", "m@2.0.0-rc.1", "n@1.0.0", "n@1.0.0+build")


def disturb(draw: st.DrawFn, releases: Releases) -> None:
    """Draw one event: an edit of the index, a lost directory, or damage of a target."""
    refs = [f"{model}@{version}" for model, versions in releases.fields.items() for version in versions]
    if refs:
        ref = draw(st.sampled_from(refs))
        draw(st.sampled_from(EVENTS))(draw, releases, ref)


def move(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    releases.change(ref, targets=some_targets(draw, releases))


def retire(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    if "cid" in releases.fields[ref.partition("@")[0]][ref.partition("@")[2]]:
        releases.change(ref, retired=True)


def rename(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    new = draw(st.sampled_from(["r@1.0.0", "r@2.0.0"]))
    model, _, version = new.partition("@")
    if version not in releases.fields.get(model, {}):
        releases.rename(ref, new)


def share(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    model, _, version = ref.partition("@")
    if cid := releases.fields[model][version].get("cid"):
        releases.add(f"shared@{draw(st.integers(0, 3))}.0.0", cid=cid, targets=some_targets(draw, releases))


def remove(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    releases.remove(ref)


def lose_directory(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    model, _, version = ref.partition("@")
    path = releases.fields[model][version].get("path")
    if path:
        shutil.rmtree(releases.root / path, ignore_errors=True)


def damage(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    target = releases.memory[draw(st.sampled_from(TARGETS))]
    if not target.held:
        return
    root = draw(st.sampled_from(sorted(target.held, key=str)))
    cid = draw(st.sampled_from([block.cid for block in target.held[root].layout]))
    act: Callable[[], object] = draw(
        st.sampled_from(
            [
                lambda: target.lose(root, cid),
                lambda: target.corrupt(root, cid) if cid in target.held[root].blocks else None,
                lambda: target.held.pop(root),
            ]
        )
    )
    act()


def harm_store(draw: st.DrawFn, releases: Releases, ref: str) -> None:
    cars = sorted((releases.root / ".reconcile/store/cars").glob("*.car"))
    if cars:
        car = draw(st.sampled_from(cars))
        harm(car, draw(st.integers(0, car.stat().st_size - 1)), b"\xaa")


EVENTS = (move, move, retire, rename, share, remove, lose_directory, damage, damage, harm_store)


def whole(releases: Releases) -> set[Cid]:
    """Return the wanted roots that a memory target holds completely."""
    wanted = {v.cid for v in releases.index.versions() if v.cid is not None and not v.retired}
    return {
        root
        for target in releases.memory.values()
        for root in target.held
        if root in wanted and target._look(root, Check.FULL).state is State.HELD
    }


@law
@given(st.data())
def test_after_apply_the_plan_is_empty_or_only_says_what_cannot_be_done(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        releases = fresh(folder, store=data.draw(st.booleans(), "with a store"))
        populate(data.draw, releases)
        releases.apply(**LOOK)
        for _ in range(data.draw(st.integers(1, 4), "events")):
            disturb(data.draw, releases)
        report = releases.apply(**LOOK)
        plan = releases.plan(**LOOK)
        if not report.failed:
            assert kinds(plan) == []
        releases.apply(**LOOK)
        again = releases.plan(**LOOK)
        assert not again.pending, kinds(again)


@law
@given(st.data())
def test_no_run_loses_the_last_whole_copy_of_what_is_wanted(data: st.DataObject) -> None:
    """Targets may fail when they are observed, or only when they are written to."""
    with tempfile.TemporaryDirectory() as folder:
        releases = fresh(folder)
        populate(data.draw, releases)
        releases.apply(**LOOK)
        for _ in range(data.draw(st.integers(1, 3), "runs")):
            for _ in range(data.draw(st.integers(0, 3), "events")):
                disturb(data.draw, releases)
            for target in releases.memory.values():
                methods = st.sampled_from(["observe", "publish", "repair", "relabel", "unpin", "dag"])
                broken = data.draw(st.lists(methods, max_size=2), f"broken on {target.name}")
                target.faults = {method: down(target.name) for method in broken}
            releases.write()
            before = whole(releases)
            drift = data.draw(st.sampled_from(Drift))
            only = data.draw(st.sampled_from([(), ("a",), ("m",)]))
            known = {*TARGETS, *releases.fields}
            releases.apply(**LOOK, drift=drift, only=tuple(glob for glob in only if glob in known))
            assert before <= whole(releases)


@law
@given(st.data())
def test_a_plan_does_not_depend_on_the_order_of_the_index_within_models_nor_on_the_time(
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        releases = fresh(folder)
        populate(data.draw, releases)
        releases.apply(**LOOK)
        for _ in range(data.draw(st.integers(0, 4), "events")):
            disturb(data.draw, releases)
        first = releases.plan(**LOOK)
        assert plan_document(releases.plan(**LOOK)) == plan_document(first)
        for model in list(releases.fields):
            releases.fields[model] = dict(data.draw(st.permutations(list(releases.fields[model].items()))))
        releases.fields = dict(data.draw(st.permutations(list(releases.fields.items()))))
        second = releases.plan(**LOOK)
        roots = {(c.root, c.target, c.kind) for c in first.changes}
        assert {(c.root, c.target, c.kind) for c in second.changes} == roots
        assert second.in_sync == first.in_sync


@law
@given(st.data())
def test_without_a_proposal_apply_then_plan_is_empty_too(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        releases = fresh(folder)
        populate(data.draw, releases)
        for ref in ("same@1.0.0", "same@1.0.1"):  # one root, two versions, neither with a CID
            releases.add(ref, SAME, targets=some_targets(data.draw, releases))
        assert not releases.apply(propose=ProposeMode.NONE).failed
        assert kinds(releases.plan(propose=ProposeMode.NONE, check=Check.FULL)) == []


#: names no version, so that two versions give one root
SAME = {"w.bin": b"same", "manifest.json": b'{"model": "same", "files": ["w.bin"]}'}


def test_a_repair_under_another_label_of_ours_needs_no_second_run(tmp_path: Path) -> None:
    """A version is retired while its root is damaged, and another version of the same root takes over."""
    releases = fresh(str(tmp_path), store=False)
    releases.add("m@1.0.0", {"w.bin": b"weights"}, targets=["a", "one-label"])
    releases.apply(**LOOK)
    target = releases.memory["one-label"]
    (root,) = target.held
    target.lose(root, root)
    releases.change("m@1.0.0", retired=True)
    releases.add("shared@1.0.0", cid=releases.fields["m"]["1.0.0"]["cid"], targets=["a", "one-label"])
    assert not releases.apply(**LOOK).failed
    assert kinds(releases.plan(**LOOK)) == []
