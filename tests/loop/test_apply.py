"""Carrying out a plan: isolation, order, and interruption."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.content.cid import RAW, hash_block
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.loop.apply import apply_plan
from reconciler.loop.changes import Outcome, OutcomeState, Plan, Report, Unpin
from reconciler.loop.run import apply
from reconciler.loop.settings import RunOptions
from reconciler.loop.sources import VersionSources
from reconciler.loop.stopping import RunInterruptedError, Stoppable
from reconciler.progress import QUIET
from tests.support.memory_target import MemoryTarget, down
from tests.support.releases import Releases, kinds, with_memory
from tests.support.waiting import wait_until


@pytest.fixture
def many(tmp_path: Path) -> Releases:
    """Five versions on two targets."""
    releases = with_memory(tmp_path, "a", "b")
    for number in range(5):
        releases.add(f"m@{number}.0.0")
    return releases


@pytest.mark.parametrize(
    "fault",
    [PeerError("refused", hint="ask"), OSError(28, "No space left on device", "/full"), ValueError("a bug")],
)
def test_one_item_that_fails_never_stops_the_others(many: Releases, fault: Exception) -> None:
    many.apply()
    root = many.cid("m@2.0.0")
    for target in many.memory.values():
        target.held.clear()
    many.memory["a"].faults["publish", root] = fault
    report = many.apply()
    assert [o.change.ref for o in report.outcomes if o.state != "applied"] == ["m@2.0.0"]
    (failed,) = (o for o in report.outcomes if o.state == "failed")
    assert failed.detail
    assert failed.change.target == "a"
    assert report.failed
    many.memory["a"].faults.clear()
    assert [o.change.ref for o in many.apply().outcomes] == ["m@2.0.0"]
    assert kinds(many.plan()) == []


def test_the_report_is_in_the_order_of_the_plan_whatever_finished_first(many: Releases) -> None:
    gate = threading.Event()
    many.memory["a"].faults["publish"] = lambda: gate.wait(60)
    many.memory["b"].faults["publish"] = lambda: (
        gate.set() if many.memory["b"].calls["publish"] == 5 else None
    )
    report = many.apply()
    assert [o.change for o in report.outcomes] == list(report.plan.changes)


def test_removals_come_last_and_not_on_a_target_where_something_failed(many: Releases) -> None:
    many.apply()
    many.remove("m@0.0.0")
    many.add("m@9.0.0")
    order: list[str] = []
    for name, target in many.memory.items():
        target.faults["publish"] = lambda name=name: order.append(f"publish {name}")
        target.faults["unpin"] = lambda name=name: order.append(f"unpin {name}")
    many.memory["b"].faults["publish"] = down("b")
    report = many.apply(prune=True)
    assert order == ["publish a", "unpin a"]
    unpins = {o.change.target: (o.state, o.detail) for o in report.outcomes if o.change.kind == "unpin"}
    assert unpins == {"a": ("applied", ""), "b": ("skipped", "something failed on b in this run")}


def test_a_delivery_that_is_not_held_afterwards_has_failed(many: Releases) -> None:
    """The state observed after the delivery counts, not the answer of the target."""
    many.apply()
    root = many.cid("m@0.0.0")
    a, b = many.memory["a"], many.memory["b"]
    a.held.pop(root)
    a.faults["publish"] = lambda: b.lose(
        root, *[block.cid for block in b.held[root].layout if block.size == 70]
    )
    shutil.rmtree(many.source("m@0.0.0"))
    (outcome,) = many.apply().outcomes
    assert (outcome.state, outcome.detail) == ("failed", "a reports partial afterwards")


def interrupted(releases: Releases, at: str) -> Report:
    """Interrupt a run while it publishes `at` to a."""
    releases.write()
    with releases.running() as run:
        plan = run.plan()
        root = next(c.root for c in plan.changes if c.ref == at)
        releases.memory["a"].faults["publish", root] = run.workspace.progress.stop
        return run.apply(plan)


def test_an_interrupted_run_reports_what_was_done_and_the_next_one_finishes(many: Releases) -> None:
    report = interrupted(many, "m@2.0.0")
    assert report.interrupted
    assert len(report.outcomes) == len(report.plan.changes)
    on_a = [o.state for o in report.outcomes if o.change.kind == "publish" and o.change.target == "a"]
    assert on_a == ["applied", "applied", "skipped", "skipped", "skipped"]
    assert {o.state for o in report.outcomes if o.change.target is None} == {"skipped"}
    assert "cid" not in many.index_file.read_text()
    many.memory["a"].faults.clear()
    assert not many.apply().failed
    assert kinds(many.plan()) == []
    assert many.memory["a"].calls["publish"] == 3 + 3  # what was there already is not asked for again


@pytest.mark.parametrize("moment", ["start", "end"])
def test_an_interrupt_while_a_thread_is_started_stops_those_that_run(
    many: Releases, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """They would otherwise finish all their versions first."""
    many.write()
    submit = ThreadPoolExecutor.submit

    def interrupted(*args: object, **options: object) -> None:
        if moment == "start":
            submit(*args, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with many.running() as run:
        plan, progress = run.plan(), run.workspace.progress
        many.memory["a"].faults["publish"] = lambda: wait_until(
            "the run is stopped", lambda: progress.stopped
        )
        monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
        report = run.apply(plan)
    assert report.interrupted
    assert {outcome.state for outcome in report.outcomes[1:]} == {"skipped"}


def test_a_stopped_progress_ends_every_task_at_its_next_step() -> None:
    progress = Stoppable(QUIET)
    with progress.task("work", 10) as task:
        task.advance(1)
        progress.stop()
        with pytest.raises(RunInterruptedError):
            task.advance(1)
    with pytest.raises(RunInterruptedError):
        progress.task("more", None)


def test_a_repeated_unpin_of_what_is_gone_is_no_failure(tmp_path: Path) -> None:
    target = MemoryTarget("a")
    root = hash_block(RAW, b"")
    label = Label("reconciler/acme/m@1.0.0")
    change = Unpin(model="m", version="1.0.0", target="a", root=root, label=label)
    plan = Plan("acme", "", "", RunOptions(), (change,))

    def refuse(_: object) -> str:
        raise AssertionError("nothing to propose")

    report = apply_plan(
        plan,
        targets={"a": target},
        versions={},
        sources=VersionSources(tmp_path, None, QUIET),
        propose=refuse,
        progress=Stoppable(QUIET),
    )
    assert report.outcomes == (Outcome(change, OutcomeState.APPLIED),)


def test_a_directory_that_differs_from_a_saved_plan_is_not_published(many: Releases) -> None:
    many.write()
    with many.running() as run:
        plan = run.plan()
        (many.source("m@3.0.0") / "weights.bin").write_bytes(b"changed after it was hashed")
        report = apply(plan, run.workspace, only_this=True)
    failed = {(o.change.ref, o.state) for o in report.outcomes if o.state != "applied"}
    assert failed == {("m@3.0.0", "failed"), ("m@3.0.0", "skipped")}
    assert "changed" in next(o.detail for o in report.outcomes if o.state == "failed")
    held = many.memory["a"].held
    assert len(held) == 4
    many.take_over()
    assert not many.apply().failed
