"""The changes carried out: each target in a lane of its own, the report in the plan's order.

Bytes go first, then pins that fetch them from where they went, then the proposal, and removals last. One
item's failure never stops the others, but nothing is removed from a target on which something failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from reconciler.content.dag import Dag
from reconciler.errors import DataError, ReconcilerError
from reconciler.index.model import Version
from reconciler.loop.changes import (
    DIRECTORY,
    Blocked,
    Change,
    Deliver,
    OnTarget,
    Outcome,
    PinRoot,
    Plan,
    Publish,
    Relabel,
    Repair,
    Report,
    Unpin,
    Wait,
    WriteBack,
)
from reconciler.loop.sources import SourceDirectories
from reconciler.loop.stopping import RunInterruptedError, Stoppable
from reconciler.targets.healing import gather
from reconciler.targets.interface import Delivery, State, Target

C = TypeVar("C", bound=OnTarget)

Propose = Callable[[Sequence[WriteBack]], str]
"""Writes back CIDs and records in one go and says in words what it did. Raises ReconcilerError."""


def apply_plan(
    plan: Plan,
    *,
    targets: Mapping[str, Target],
    versions: Mapping[str, Version],
    sources: SourceDirectories,
    propose: Propose,
    progress: Stoppable,
    report_only: Callable[[Change], bool] = lambda _change: False,
) -> Report:
    """Carry out `plan`. `versions` are the index's, by `model@version`.

    `report_only` says which changes are shown but not made (--drift report). Never raises for an item's
    failure; on KeyboardInterrupt it stops all lanes and returns a report that says so.
    """
    outcomes: dict[int, Outcome] = {}
    for number, change in enumerate(plan.changes):
        settled = _settled(change, report_only)
        if settled is not None:
            outcomes[number] = settled
    lanes = _Lanes(plan, outcomes, progress)

    def deliver(change: Deliver) -> Outcome:
        dag = _open(change, targets, versions, sources)
        target = targets[change.target]
        try:
            if isinstance(change, Repair):
                delivery = target.repair(dag, change.damaged, change.label, progress)
            else:
                delivery = target.publish(dag, change.label, progress)
        finally:
            if change.sources != (DIRECTORY,):
                dag.close()
        if delivery.pieces is not None:
            sources.keep_pieces(change.root, delivery.pieces, computed=True)
        return _delivered(change, delivery)

    def relabel(change: Relabel) -> Outcome:
        targets[change.target].relabel(change.root, change.label)
        return Outcome(change, "applied")

    def pin(change: PinRoot) -> Outcome:
        origins = [address for name in change.sources for address in targets[name].origins()]
        return _delivered(change, targets[change.target].pin(change.root, change.label, origins))

    def unpin(change: Unpin) -> Outcome:
        kept = _why_kept(change, list(outcomes.values()))
        if kept is not None:
            return kept
        targets[change.target].unpin(change.root, change.label)
        return Outcome(change, "applied")

    lanes.run((Publish, Repair), deliver)
    lanes.run((Relabel,), relabel)
    lanes.run((PinRoot,), pin)
    _propose(plan, outcomes, propose, progress)
    lanes.run((Unpin,), unpin)
    for number, change in enumerate(plan.changes):
        outcomes.setdefault(number, Outcome(change, "skipped", "interrupted"))
    return Report(plan, tuple(outcomes[number] for number in range(len(plan.changes))), progress.stopped)


class _Lanes:
    """Runs changes of one kind, each target's in a thread of its own, and collects the outcomes by number."""

    def __init__(self, plan: Plan, outcomes: dict[int, Outcome], progress: Stoppable) -> None:
        self._plan = plan
        self._outcomes = outcomes
        self._progress = progress

    def run(self, kinds: tuple[type[C], ...], act: Callable[[C], Outcome]) -> None:
        lanes: dict[str, list[tuple[int, C]]] = {}
        for number, change in enumerate(self._plan.changes):
            if isinstance(change, kinds) and number not in self._outcomes:
                lanes.setdefault(change.target, []).append((number, change))
        if not lanes:
            return

        def run_lane(items: list[tuple[int, C]]) -> None:
            for number, change in items:
                self._outcomes[number] = _guarded(change, act, self._progress)

        with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
            futures = [pool.submit(run_lane, items) for items in lanes.values()]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                self._progress.stop()


def _settled(change: Change, report_only: Callable[[Change], bool]) -> Outcome | None:
    """The outcome of a change on which nothing is done."""
    if isinstance(change, Blocked):
        return Outcome(change, "unknown" if change.unknown else "blocked", change.reason, change.hint)
    if isinstance(change, Wait):
        return Outcome(change, "waiting", change.reason)
    if report_only(change):
        return Outcome(change, "reported", "drift is only reported in this run")
    return None


def _guarded(change: C, act: Callable[[C], Outcome], progress: Stoppable) -> Outcome:
    """Act on one change; whatever goes wrong stays its own."""
    try:
        progress.check()
        return act(change)
    except RunInterruptedError:
        return Outcome(change, "skipped", "interrupted")
    except ReconcilerError as error:
        return Outcome(change, "failed", str(error), error.hint or "")
    except OSError as error:
        return Outcome(change, "failed", f"{error.filename or change.target}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - a bug met on one item must not stop the others
        return Outcome(
            change,
            "failed",
            f"unexpected {type(error).__name__}: {error}",
            "this is a bug of the reconciler: report it",
        )


def _why_kept(change: Unpin, outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome of a removal that must not be made after what became of the other changes, or None.

    Where the same root was to be brought into order, here or on another target, that must have come about:
    this pin may keep the last copy.
    """
    if any(o.state == "failed" and o.change.target == change.target for o in outcomes):
        return Outcome(change, "skipped", f"something failed on {change.target} in this run")
    for other in outcomes:
        where = other.change.target
        if where is None or other.change.root != change.root or isinstance(other.change, Unpin):
            continue
        if other.state == "waiting":
            return Outcome(change, "waiting", f"kept until {where} holds {other.change.ref}")
        if other.state != "applied":
            state = "reported" if other.state == "reported" else "skipped"
            return Outcome(change, state, f"kept: {other.change.ref} is not in order on {where}")
    return None


def _open(
    change: Deliver,
    targets: Mapping[str, Target],
    versions: Mapping[str, Version],
    sources: SourceDirectories,
) -> Dag:
    """The DAG a change delivers: the version's own directory, or what other targets hold of it."""
    if change.sources == (DIRECTORY,):
        dag = sources.identify(versions[change.ref])
        if dag.layout.root != change.root:
            raise DataError(f"{change.ref} gives {dag.layout.root} instead of {change.root}")
        return dag
    return gather(change.root, [targets[name] for name in change.sources])


def _delivered(change: Change, delivery: Delivery) -> Outcome:
    """What a delivery means: held is applied, pending is waiting, everything else failed."""
    state = {State.HELD: "applied", State.PENDING: "waiting"}.get(delivery.state, "failed")
    detail = delivery.detail
    if state == "failed" and not detail:
        detail = f"{change.target} reports {delivery.state.value} afterwards"
    return Outcome(change, state, detail, bytes_sent=delivery.bytes_sent, blocks_sent=delivery.blocks_sent)


def _propose(plan: Plan, outcomes: dict[int, Outcome], propose: Propose, progress: Stoppable) -> None:
    """Write back what at least one target now holds, in one edit: all of it fails or succeeds together."""
    applied = {
        o.change.root for o in outcomes.values() if o.state == "applied" and o.change.target is not None
    }
    ready: list[tuple[int, WriteBack]] = []
    for number, change in enumerate(plan.changes):
        if not isinstance(change, WriteBack) or number in outcomes:
            continue
        if change.held or change.root in applied:
            ready.append((number, change))
        elif not progress.stopped:
            outcomes[number] = Outcome(change, "skipped", "no target holds it yet")
    if not ready or progress.stopped:
        return
    try:
        detail = propose([change for _, change in ready])
    except ReconcilerError as error:
        for number, change in ready:
            outcomes[number] = Outcome(change, "failed", str(error), error.hint or "")
    except OSError as error:
        for number, change in ready:
            outcomes[number] = Outcome(change, "failed", f"{error.filename}: {error.strerror or error}")
    else:
        for number, change in ready:
            outcomes[number] = Outcome(change, "applied", detail)
